//! A text file here or on another machine, replaced as a whole and only while it is what was read.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use ha_core::follow::{EnvFile, EnvFileError};
use openssl::sha::sha256;

use super::place::{TaskError, far};
use crate::durable::{self, Attributes};
use crate::ssh::{FarCommand, OUTPUT_LIMIT, Ran, SshTarget, StillWanted, left};

const TOO_LONG: &str = "is longer than 1 MiB: this is not the file that is meant";

/// Where it is.
#[derive(Debug, Clone)]
pub(crate) enum TextFile {
    /// On this machine; symbolic links are resolved already.
    Here(PathBuf),
    /// Over SSH.
    There {
        /// The machine.
        target: SshTarget,
        /// Its path there; a symbolic link stands for the file that it points to.
        path: String,
    },
}

/// Puts standard input in place of the file `$1`, on another machine, when only addresses in the values of the variables
/// `$2` (`ONE|ANOTHER`) differ.
///
/// The first line of the input is two SHA256: of the file that is to be replaced, and of what follows the line. A link that
/// breaks in between leaves the file as it was. What is secret is no argument: those are seen by all users there.
///
/// Who has the near end's key must not be able to write what the Edge's containers are made of, which stands in the same
/// file, nor to fill its disk: so all but the addresses is compared there, and no more is read than 1 MiB. A value in quotes
/// may go on in the next lines. Whoever is missing there (`awk`) ends it before anything is changed.
const REPLACE: &str = "set -eu; umask 077; names=$2; \
    digest() { sha256sum | cut -d ' ' -f 1; }; \
    fixed() { LC_ALL=C awk -v names=\"$names\" '\
        within || $0 ~ \"^[^A-Za-z0-9_.#=:-]*(export[ \\t]+)?(\" names \")[ \\t]*[=:]\" { \
            if (gsub(/[\"\\047]/, \"&\") % 2) within = !within; \
            gsub(/[][0-9A-Fa-f.:]+/, \"@\") } \
        { print }'; }; \
    read -r before after; \
    file=$(readlink -f -- \"$1\"); \
    new=$(mktemp -- \"$file.XXXXXXXXXX\"); \
    trap 'rm -f -- \"$new\"' EXIT; trap 'exit 1' HUP INT PIPE TERM; \
    head -c 1048577 >\"$new\"; \
    test \"$(tr -d '\\000' <\"$new\" | digest)\" = \"$after\" || { echo 'not all of it arrived: it is as it was' >&2; exit 1; }; \
    chown --reference=\"$file\" -- \"$new\"; \
    chmod --reference=\"$file\" -- \"$new\"; \
    sync -- \"$new\" 2>/dev/null || sync; \
    test \"$(digest <\"$file\")\" = \"$before\" || { echo 'somebody changed it meanwhile: it is as they left it' >&2; exit 1; }; \
    is=$(fixed <\"$file\"); becomes=$(fixed <\"$new\"); \
    test \"$is\" = \"$becomes\" || \
        { echo \"only addresses in $names may change: it is as it was\" >&2; exit 1; }; \
    mv -T -- \"$new\" \"$file\"; \
    trap - EXIT; \
    sync -- \"${file%/*}\" 2>/dev/null || sync";

/// What prints the file of that path, on another machine.
fn reading(path: &str) -> Vec<String> {
    ["cat", "--", path].map(str::to_owned).to_vec()
}

/// What replaces it there.
fn replacing(path: &str, names: &EnvFile) -> Vec<String> {
    let variables: Vec<&str> = names.variables.iter().map(|variable| variable.name).collect();
    ["sh", "-c", REPLACE, "sh", path, &variables.join("|")].map(str::to_owned).to_vec()
}

/// Every command by which a file of that path on another machine is read and replaced.
pub(crate) fn commands(path: &str, names: &EnvFile) -> [Vec<String>; 2] {
    [reading(path), replacing(path, names)]
}

/// SHA256 in hexadecimal, as `sha256sum` prints it.
fn digest(text: &str) -> String {
    sha256(text.as_bytes()).map(|byte| format!("{byte:02x}")).concat()
}

impl TextFile {
    /// Its text, at most 1 MiB of UTF-8.
    pub(crate) fn read(&self, deadline: Instant) -> Result<String, TaskError> {
        let bytes = match self {
            TextFile::Here(path) => {
                let meta = fs::metadata(path).map_err(|error| self.fault(error))?;
                if !meta.is_file() {
                    return Err(self.fault("is not a file"));
                }
                if meta.len() > OUTPUT_LIMIT as u64 {
                    return Err(self.fault(TOO_LONG));
                }
                fs::read(path).map_err(|error| self.fault(error))?
            }
            TextFile::There { target, path } => {
                let ran = self.run(target, &reading(path), b"", deadline, &|| true)?;
                if !ran.is_whole {
                    return Err(self.fault(TOO_LONG));
                }
                ran.output
            }
        };
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to() + 1;
            self.fault(format!("is not UTF-8 text: look at byte {at}"))
        })
    }

    /// Puts `after` in its place, if that is still wanted right before; mode and owner stay. On another machine nothing but
    /// addresses in these variables' values may differ.
    ///
    /// Err: it is as it was, also when it is not `before` any more; when the way there broke, either.
    pub(crate) fn replace(
        &self,
        names: &EnvFile,
        before: &str,
        after: &str,
        deadline: Instant,
        still_wanted: StillWanted<'_>,
    ) -> Result<(), TaskError> {
        match self {
            TextFile::Here(path) => {
                let attributes = fs::metadata(path).map(|meta| Attributes::of(&meta));
                let attributes = attributes.map_err(|error| self.fault(error))?;
                let new = durable::temporary_beside(path).map_err(|error| self.fault(error))?;
                durable::write_new(&new, after.as_bytes(), attributes).map_err(|error| self.fault(error))?;
                let replaced = match self.read(deadline) {
                    Ok(_) if !still_wanted() => Err(TaskError::Stale),
                    Ok(now) if now == before => {
                        durable::rename(&new, path).map_err(|error| self.fault(error))
                    }
                    Ok(_) => Err(self.fault("somebody changed it meanwhile: it is as they left it")),
                    Err(error) => Err(error),
                };
                replaced.inspect_err(|_| {
                    let _ = fs::remove_file(&new);
                })
            }
            TextFile::There { target, path } => {
                let input = format!("{} {}\n{after}", digest(before), digest(after));
                let argv = replacing(path, names);
                self.run(target, &argv, input.as_bytes(), deadline, still_wanted).map(drop)
            }
        }
    }

    fn run(
        &self,
        target: &SshTarget,
        argv: &[String],
        input: &[u8],
        deadline: Instant,
        still_wanted: StillWanted<'_>,
    ) -> Result<Ran, TaskError> {
        let command = FarCommand { argv, directory: None, input };
        let ran = command
            .run_while(target, left(deadline), still_wanted)
            .map_err(|source| far(target.host, source))?;
        if ran.ending.is_success() { Ok(ran) } else { Err(self.fault(&ran.ending)) }
    }

    /// It names no side.
    pub(crate) fn unreadable(&self, source: EnvFileError) -> TaskError {
        TaskError::Names { file: self.to_string(), source }
    }

    /// What is wrong with it.
    pub(crate) fn fault(&self, why: impl fmt::Display) -> TaskError {
        TaskError::File { file: self.to_string(), why: why.to_string() }
    }
}

impl fmt::Display for TextFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextFile::Here(path) => write!(f, "{}", path.display()),
            TextFile::There { target, path } => write!(f, "{path} on {}", target.host),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_no_file_of_settings_is_not_read() {
        let fault = TextFile::Here("/dev/zero".into()).read(Instant::now()).unwrap_err();
        assert_eq!(fault.to_string(), "/dev/zero: is not a file");
    }

    const NAMES: &str = "XIVO_HOST|XIVOCC_HOST";

    /// Has the script replace `before` with as much of `after` as is sent; what it says, and the file then.
    fn replaced(before: &str, after: &str, sent: &str) -> (String, String) {
        replaced_with("sh", before, after, sent)
    }

    fn replaced_with(shell: &str, before: &str, after: &str, sent: &str) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        fs::write(&file, before).unwrap();
        let mut shell = Command::new(shell)
            .args(["-c", REPLACE, "sh"])
            .arg(&file)
            .arg(NAMES)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = format!("{} {}\n{sent}", digest(before), digest(after));
        // it may stop reading
        let _ = shell.stdin.take().unwrap().write_all(input.as_bytes());
        let output = shell.wait_with_output().unwrap();
        let (said, now) = (String::from_utf8(output.stderr).unwrap(), fs::read_to_string(&file).unwrap());
        assert_eq!(output.status.success(), said.is_empty(), "{said}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left");
        (said, now)
    }

    #[test]
    fn a_file_of_which_a_part_arrives_stays_as_it_was() {
        let (said, now) = replaced("XIVO_HOST=10.0.0.1", "XIVO_HOST=10.0.0.2", "XIVO_HOST=10.");
        assert_eq!(
            (said.as_str(), now.as_str()),
            ("not all of it arrived: it is as it was\n", "XIVO_HOST=10.0.0.1")
        );
    }

    #[test]
    fn addresses_in_the_variables_values_may_change() {
        for (before, after) in [
            ("A=1.2\r\nXIVO_HOST=10.0.0.1\r\n", "A=1.2\r\nXIVO_HOST=10.0.0.2\r\n"),
            ("\u{feff}XIVO_HOST='10.0.0.1:5060' # it", "\u{feff}XIVO_HOST='[2001:db8::1]:5060' # it"),
            (" export\tXIVO_HOST : http://10.0.0.1:80/x", " export\tXIVO_HOST : http://[::1]:80/x"),
            ("XIVO_HOST=\"10.0.0.9,\n 10.0.0.1\n\"\nB=1", "XIVO_HOST=\"10.0.0.9,\n 10.0.0.2\n\"\nB=1"),
            ("XIVO_HOST=1.1.1.1\nXIVOCC_HOST=1.1.1.1", "XIVO_HOST=1.1.1.1\nXIVOCC_HOST=2.2.2.2"),
        ] {
            assert_eq!(replaced(before, after, after), (String::new(), after.to_owned()));
        }
    }

    #[test]
    fn what_is_too_long_or_holds_a_nul_is_not_taken() {
        let before = "XIVO_HOST=10.0.0.1\n";
        for after in ["XIVO_HOST=10.0.0.2\0\n".to_owned(), before.to_owned() + &"\n".repeat(OUTPUT_LIMIT)] {
            let (said, now) = replaced(before, &after, &after);
            assert_eq!((said.as_str(), now.as_str()), ("not all of it arrived: it is as it was\n", before));
        }
    }

    #[test]
    fn a_machine_without_awk_refuses() {
        let directory = tempfile::tempdir().unwrap();
        let (shell, awk) = (directory.path().join("shell"), directory.path().join("awk"));
        fs::write(&shell, format!("#!/bin/sh\nPATH={}:$PATH exec sh \"$@\"\n", directory.path().display()))
            .unwrap();
        fs::write(&awk, "#!/bin/sh\necho 'awk: not found' >&2\nexit 127\n").unwrap();
        for program in [&shell, &awk] {
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let (before, after) = ("XIVO_HOST=10.0.0.1", "IMAGE=evil:1");
        let (said, now) = replaced_with(&shell.display().to_string(), before, after, after);
        assert_eq!((said.as_str(), now.as_str()), ("awk: not found\n", before));
    }

    #[test]
    fn who_has_the_key_changes_nothing_else_of_the_file() {
        let before = "IMAGE=edge:1\nXIVO_HOST=10.0.0.1\n# XIVO_HOST=10.0.0.1\nBACKUP_XIVO_HOST=10.0.0.2\n";
        for after in [
            before.replace("IMAGE=edge:1", "IMAGE=evil:1"),
            before.replace("IMAGE=edge:1", "IMAGE=edge:2"),
            before.replace("=10.0.0.1\n#", "=10.0.0.2\nDOCKER_HOST=10.0.0.3\n#"),
            before.replace("=10.0.0.1\n#", "=$(id)\n#"),
            before.replace("=10.0.0.1\n#", "='10.0.0.1\n#"),
            before.replace("=10.0.0.1\n#", "=\n#"),
            before.replace("# XIVO_HOST=10.0.0.1", "# XIVO_HOST=10.0.0.2"),
            before.replace("BACKUP_XIVO_HOST=10.0.0.2", "BACKUP_XIVO_HOST=10.0.0.1"),
            before.replace("IMAGE=edge:1\n", ""),
            format!("{before}\nIMAGE=evil:1\n"),
            format!("{before}COMPOSE_FILE=/tmp/evil.yml"),
            String::new(),
        ] {
            let refused = format!("only addresses in {NAMES} may change: it is as it was\n");
            assert_eq!(replaced(before, &after, &after), (refused, before.to_owned()), "{after}");
        }
    }
}

//! A text file here or on another machine, replaced as a whole and only while it is what was read.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use openssl::sha::sha256;

use super::place::TaskError;
use crate::durable::{self, Attributes};
use crate::ssh::{FarCommand, OUTPUT_LIMIT, Ran, SshTarget};

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

/// Puts standard input in place of the file `$1`, on another machine.
///
/// The first line of the input is two SHA256: of the file that is to be replaced, and of what follows the line. A link that
/// breaks in between leaves the file as it was. Nothing but the path is an argument: those are seen by all users there.
const REPLACE: &str = "set -eu; umask 077; \
    digest() { sha256sum | cut -d ' ' -f 1; }; \
    read -r before after; \
    file=$(readlink -f -- \"$1\"); \
    new=$(mktemp -- \"$file.XXXXXXXXXX\"); \
    trap 'rm -f -- \"$new\"' EXIT; trap 'exit 1' HUP INT PIPE TERM; \
    cat >\"$new\"; \
    test \"$(digest <\"$new\")\" = \"$after\" || { echo 'not all of it arrived: it is as it was' >&2; exit 1; }; \
    chown --reference=\"$file\" -- \"$new\"; \
    chmod --reference=\"$file\" -- \"$new\"; \
    sync -- \"$new\" 2>/dev/null || sync; \
    test \"$(digest <\"$file\")\" = \"$before\" || { echo 'somebody changed it meanwhile: it is as they left it' >&2; exit 1; }; \
    mv -T -- \"$new\" \"$file\"; \
    trap - EXIT; \
    sync -- \"${file%/*}\" 2>/dev/null || sync";

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
                let ran = self.run(target, &["cat", "--", path], b"", deadline)?;
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

    /// Puts `after` in its place; mode and owner stay.
    ///
    /// Err: it is as it was, also when it is not `before` any more; when the way there broke, either.
    pub(crate) fn replace(&self, before: &str, after: &str, deadline: Instant) -> Result<(), TaskError> {
        match self {
            TextFile::Here(path) => {
                let attributes = fs::metadata(path).map(|meta| Attributes::of(&meta));
                let attributes = attributes.map_err(|error| self.fault(error))?;
                let new = durable::temporary_beside(path).map_err(|error| self.fault(error))?;
                durable::write_new(&new, after.as_bytes(), attributes).map_err(|error| self.fault(error))?;
                let replaced = match self.read(deadline) {
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
                let digest = |text: &str| sha256(text.as_bytes()).map(|byte| format!("{byte:02x}")).concat();
                let input = format!("{} {}\n{after}", digest(before), digest(after));
                self.run(target, &["sh", "-c", REPLACE, "sh", path], input.as_bytes(), deadline).map(drop)
            }
        }
    }

    fn run(
        &self,
        target: &SshTarget,
        argv: &[&str],
        input: &[u8],
        deadline: Instant,
    ) -> Result<Ran, TaskError> {
        let argv: Vec<String> = argv.iter().map(ToString::to_string).collect();
        let command = FarCommand { argv: &argv, directory: None, input };
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let ran = command
            .run(target, left)
            .map_err(|source| TaskError::Far { host: target.host, source: Box::new(source) })?;
        if ran.ending.is_success() { Ok(ran) } else { Err(self.fault(&ran.ending)) }
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
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_is_no_file_of_settings_is_not_read() {
        let fault = TextFile::Here("/dev/zero".into()).read(Instant::now()).unwrap_err();
        assert_eq!(fault.to_string(), "/dev/zero: is not a file");
    }

    #[test]
    fn a_file_of_which_a_part_arrives_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".env");
        fs::write(&file, "before").unwrap();
        let digest = |text: &str| sha256(text.as_bytes()).map(|byte| format!("{byte:02x}")).concat();
        let mut shell = Command::new("sh")
            .args(["-c", REPLACE, "sh"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = format!("{} {}\nhal", digest("before"), digest("half"));
        shell.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(output.stderr, b"not all of it arrived: it is as it was\n");
        assert_eq!(fs::read_to_string(&file).unwrap(), "before");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

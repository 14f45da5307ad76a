//! The far end's line for our key, and the script that puts it into `authorized_keys`.

use std::net::IpAddr;

use super::keypair::PublicKey;
use super::quote::quoted;
use crate::far::FarError;

/// The line: this key may do nothing but start this command, and only from these addresses.
///
/// `restrict` (`sshd(8)`, since OpenSSH 7.2) forbids terminal, forwardings and whatever is invented later.
pub(super) fn authorized_line(key: &PublicKey, command: &str, from: &[IpAddr]) -> String {
    // In the quotes of an option only a quote itself is escaped (`sshd(8)`, AUTHORIZED_KEYS FILE FORMAT).
    let command = command.replace('"', "\\\"");
    let from = from.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    format!("restrict,command=\"{command}\",from=\"{from}\" {}", key.line())
}

/// What the script prints last, by which its success is told from a forced command's.
const INSTALLED: &str = "authorized_keys: installed";
const KEPT: &str = "authorized_keys: kept";

/// What the script did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The line was put in, in place of whatever there was for this key.
    Installed,
    /// The line was there, and no other for this key.
    Kept,
}

impl Change {
    /// Reads the script's output; `None`: that was not our script.
    pub(super) fn parse(output: &str) -> Option<Change> {
        match output.lines().last()?.trim_end() {
            INSTALLED => Some(Change::Installed),
            KEPT => Some(Change::Kept),
            _ => None,
        }
    }
}

/// A script for the far end's `sh`, fed on its standard input, that leaves exactly this line for this key.
///
/// Other lines, the file's mode and its owner stay; comments stay even when they quote the key. The file is replaced as a
/// whole, by a rename; a symbolic link is followed first. Nothing in it is secret.
///
/// Errors: the line holds a control character.
pub(super) fn script(key: &PublicKey, line: &str) -> Result<String, FarError> {
    Ok(format!(
        "set -eu\n\
         umask 077\n\
         LC_ALL=C KEY={key} LINE={line}\n\
         export LC_ALL KEY LINE\n\
         {SCRIPT}\n",
        key = quoted(&key.base64())?,
        line = quoted(line)?,
    ))
}

const SCRIPT: &str = r#"
directory=$HOME/.ssh
test -d "$directory" || mkdir -m 700 "$directory"
file=$directory/authorized_keys
if test -h "$file"; then file=$(readlink -f "$file"); fi
new=$(mktemp "$file.XXXXXXXXXX")
trap 'rm -f "$new"' EXIT
if test -e "$file"; then cp -p "$file" "$new"; old=$file; else old=/dev/null; fi
awk '
    $0 !~ /^[ \t]*#/ && index($0, ENVIRON["KEY"]) { if (!done) print ENVIRON["LINE"]; done = 1; next }
    { print }
    END { if (!done) print ENVIRON["LINE"] }
' "$old" > "$new"
if test -e "$file" && cmp -s "$new" "$file"; then
    echo 'authorized_keys: kept'
else
    sync "$new" 2>/dev/null || sync
    mv -f "$new" "$file"
    trap - EXIT
    echo 'authorized_keys: installed'
fi
"#;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::ssh::keypair;

    struct Home {
        directory: tempfile::TempDir,
        key: PublicKey,
    }

    impl Home {
        fn new() -> Home {
            let directory = tempfile::tempdir().unwrap();
            let (key, _) = keypair::ensure(&directory.path().join("key"), "XiVO HA").unwrap();
            Home { directory, key }
        }

        fn file(&self) -> std::path::PathBuf {
            self.directory.path().join(".ssh/authorized_keys")
        }

        fn line(&self) -> String {
            let command = r#"'/opt/it'\''s "here"/far' agent"#;
            authorized_line(&self.key, command, &["10.0.0.1".parse().unwrap()])
        }

        fn run(&self) -> Option<Change> {
            let mut shell = Command::new("sh")
                .env("HOME", self.directory.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let script = script(&self.key, &self.line()).unwrap();
            shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            Change::parse(&String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap())
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_options_quote_the_command() {
        let home = Home::new();
        let expected = r#"restrict,command="'/opt/it'\''s \"here\"/far' agent",from="10.0.0.1" ssh-rsa "#;
        assert!(home.line().starts_with(expected), "{}", home.line());
    }

    #[test]
    fn the_first_line_of_a_file_that_was_not_there() {
        let home = Home::new();
        assert_eq!(home.run(), Some(Change::Installed));
        assert_eq!(fs::read_to_string(home.file()).unwrap(), format!("{}\n", home.line()));
        assert_eq!((mode(&home.file()), mode(home.file().parent().unwrap())), (0o600, 0o700));
        assert_eq!(home.run(), Some(Change::Kept));
    }

    #[test]
    fn other_lines_and_the_mode_stay_and_lines_for_the_key_become_one() {
        let home = Home::new();
        fs::create_dir(home.file().parent().unwrap()).unwrap();
        let bare = home.key.line();
        let before = format!(
            "ssh-rsa BBBB other\n{bare}\n\n# was: {bare}\nfrom=\"10.0.0.9\" {bare}\nssh-rsa CCCC last"
        );
        fs::write(home.file(), before).unwrap();
        fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(home.run(), Some(Change::Installed));
        let expected = format!("ssh-rsa BBBB other\n{}\n\n# was: {bare}\nssh-rsa CCCC last\n", home.line());
        assert_eq!(fs::read_to_string(home.file()).unwrap(), expected);
        assert_eq!(mode(&home.file()), 0o640);
        assert_eq!(
            fs::read_dir(home.file().parent().unwrap()).unwrap().count(),
            1,
            "a temporary file was left"
        );
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let home = Home::new();
        fs::create_dir(home.file().parent().unwrap()).unwrap();
        let real = home.directory.path().join("real");
        fs::write(&real, "ssh-rsa BBBB other\n").unwrap();
        std::os::unix::fs::symlink(&real, home.file()).unwrap();
        assert_eq!(home.run(), Some(Change::Installed));
        assert!(home.file().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("ssh-rsa BBBB other\n{}\n", home.line()));
    }

    #[test]
    fn a_forced_commands_answer_is_not_taken_for_the_scripts() {
        assert_eq!(Change::parse(""), None);
        assert_eq!(Change::parse("This account is not available.\n"), None);
        assert_eq!(Change::parse("welcome\nauthorized_keys: kept\n"), Some(Change::Kept));
    }
}

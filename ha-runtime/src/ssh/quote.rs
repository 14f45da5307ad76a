//! A program and its arguments as one line for the far end's shell.

use crate::far::FarError;

/// The arguments as one line, those that need it in single quotes.
///
/// Errors: [`FarError::BadArgument`] for a control character; a line end would be a second command.
pub(super) fn command_line(argv: &[String]) -> Result<String, FarError> {
    let quoted = argv.iter().map(|argument| quoted(argument)).collect::<Result<Vec<_>, _>>()?;
    Ok(quoted.join(" "))
}

/// One argument as the shell reads it back.
pub(super) fn quoted(argument: &str) -> Result<String, FarError> {
    if argument.chars().any(char::is_control) {
        return Err(FarError::BadArgument(argument.to_owned()));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return Ok(argument.to_owned());
    }
    Ok(format!("'{}'", argument.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_every_argument_back() {
        let argv =
            ["printf", "%s\\n", "", "a b", "it's", "$HOME `id` \\ \"x\"", "*", "~", "é"].map(String::from);
        let line = command_line(&argv).unwrap();
        let output = Command::new("/bin/sh").args(["-c", &line]).output().unwrap();
        let read: Vec<&str> = str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(read, &argv[2..]);
    }

    #[test]
    fn a_second_line_cannot_be_smuggled_in() {
        assert!(matches!(command_line(&["a\nb".into()]), Err(FarError::BadArgument(_))));
    }

    #[test]
    fn fixed_words_stay_as_they_are() {
        assert_eq!(command_line(&["/opt/a b".into(), "relay".into()]).unwrap(), "'/opt/a b' relay");
    }
}

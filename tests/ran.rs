use std::process::Output;

/// A command that was run, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The command, for messages.
    pub command: String,
    /// Its exit code; 128 + signal when a signal ended it, as a shell counts.
    pub code: i32,
    /// What it wrote on stdout.
    pub stdout: String,
    /// What it wrote on stderr.
    pub stderr: String,
}

impl Ran {
    pub(crate) fn new(command: String, output: Output) -> Ran {
        use std::os::unix::process::ExitStatusExt;
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { command, code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Its stdout; panics with everything it said unless it exited with 0.
    #[track_caller]
    pub fn ok(self) -> String {
        self.exits(0).stdout
    }

    /// Itself; panics with everything it said unless it exited with that code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ran {
        assert!(
            self.code == code,
            "`{}` exited with {} instead of {code}\nstdout: {}\nstderr: {}",
            self.command,
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Whether it exited with 0.
    pub fn succeeded(&self) -> bool {
        self.code == 0
    }

    /// stdout and stderr, for looking for a word in a message.
    pub fn said(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Panics unless the message has every one of these words, in any case.
    #[track_caller]
    pub fn says(&self, words: &[&str]) -> &Ran {
        let said = self.said().to_lowercase();
        for word in words {
            assert!(said.contains(&word.to_lowercase()), "`{}` does not name {word:?}: {said}", self.command);
        }
        self
    }
}

//! The far end in its smallest form: an agent that sends back what it gets, and the relay.
//!
//! The tests of `ha_runtime::ssh` start it under a real sshd.

use std::io::{self, Write};
use std::process::ExitCode;

use ha_runtime::far::{Word, requested_word};
use ha_runtime::relay;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let original = std::env::var("SSH_ORIGINAL_COMMAND").ok();
    let word = argument.parse::<Word>().and_then(|argument| requested_word(argument, original.as_deref()));
    match word {
        Ok(Word::Agent) => {
            match io::copy(&mut io::stdin(), &mut io::stdout()).and_then(|_| io::stdout().flush()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => failed(&error, 1),
            }
        }
        Ok(Word::Source | Word::Lookout) => failed(&"there is nothing to be fetched here", 3),
        Ok(Word::Relay) => match relay::run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error, error.exit_status()),
        },
        Err(error) => failed(&error, 2),
    }
}

fn failed(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(status)
}

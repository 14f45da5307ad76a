//! The fixed words that the far end's program knows.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// What the far end's program is asked to be.
///
/// The key that reaches it is restricted to that program; which of these it is to be is all that the near end
/// can choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Word {
    /// The replication agent: framed messages on standard input and output.
    Agent,
    /// A byte relay to the far end's PostgreSQL.
    Relay,
    /// The sending end of a replication that the near end asked for: framed messages on standard input and output.
    Source,
    /// A line on standard output for each change of what a source would send.
    Lookout,
}

impl Word {
    /// Every word.
    pub const ALL: [Word; 4] = [Word::Agent, Word::Relay, Word::Source, Word::Lookout];

    /// The word as it is written on a command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Word::Agent => "agent",
            Word::Relay => "relay",
            Word::Source => "source",
            Word::Lookout => "lookout",
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A request for something that is not one of the fixed words. Nothing was started.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("this key starts `agent`, `relay`, `source` or `lookout` only, not {asked:?}")]
pub struct WordError {
    /// What was asked for, shortened to what a log line can bear.
    pub asked: String,
}

impl FromStr for Word {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Word, WordError> {
        Word::ALL
            .into_iter()
            .find(|word| word.as_str() == text)
            .ok_or_else(|| WordError { asked: text.chars().take(80).collect() })
    }
}

/// Which word the far end's program was started for.
///
/// `argument` is the verb on its own command line. `original` is the environment's `SSH_ORIGINAL_COMMAND`: sshd sets it
/// beside a forced `command="..."` (`sshd(8)`, "AUTHORIZED_KEYS FILE FORMAT"), and then it wins. Of it only the last
/// word counts: what stands before it is the near end's idea of a path over here and is not followed.
///
/// Errors: [`WordError`] names what was asked for.
pub fn requested_word(argument: Word, original: Option<&str>) -> Result<Word, WordError> {
    match original {
        None => Ok(argument),
        Some(command) => command.split_whitespace().next_back().unwrap_or_default().parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_forced_command_the_own_verb_counts() {
        assert_eq!(requested_word(Word::Relay, None), Ok(Word::Relay));
    }

    #[test]
    fn of_the_original_command_only_the_last_word_counts() {
        for (command, word) in [
            ("/usr/bin/wazo-ha agent", Word::Agent),
            ("'/opt/a b/wazo-ha' --root /x relay", Word::Relay),
            ("relay", Word::Relay),
            ("/usr/bin/sark-ha source", Word::Source),
            ("/usr/bin/sark-ha lookout", Word::Lookout),
        ] {
            assert_eq!(requested_word(Word::Agent, Some(command)), Ok(word));
        }
    }

    #[test]
    fn anything_but_the_fixed_words_is_refused() {
        for command in ["", "  ", "sh", "agent; sh", "relay /bin/sh", "Agent", "rsync --server", "agent\u{0}"]
        {
            assert!(requested_word(Word::Agent, Some(command)).is_err(), "{command:?}");
        }
    }

    #[test]
    fn a_refusal_quotes_a_bounded_part_of_the_request() {
        let refused = requested_word(Word::Agent, Some(&"x".repeat(100_000))).unwrap_err();
        assert_eq!(refused.asked.len(), 80);
    }
}

//! A task carried out, on this node or on another machine.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ha_core::effect::{Command, OnFailure};
use ha_core::follow::{EnvFile, EnvFileError, Place, Side, Task, Wanted};

use super::file::{self, TextFile};
use crate::command::{self, CommandError};
use crate::context::Context;
use crate::effect::{FileError, followed};
use crate::far::{Ending, Exit, FarError};
use crate::ssh::{FarCommand, RunError, StillWanted};
use crate::way;

/// What a task did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A command came to a good end; what it wrote.
    Ran(String),
    /// The file points at the side; whether it had to be changed.
    Pointed {
        /// False: nothing was written.
        changed: bool,
    },
    /// The address answered with this status.
    Answered(u16),
}

/// Why a task did not succeed. It does no harm to do it again.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// What was ordered is not wanted any more.
    #[error("telephony moved, or the settings changed, before it was begun: nothing was done")]
    Stale,
    /// A command on this node.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Another machine did not answer as it should, or not in time.
    #[error("{host}: {source}")]
    Far {
        /// Which machine.
        host: IpAddr,
        /// Why.
        source: Box<RunError>,
    },
    /// A command on another machine.
    #[error("{command} on {host}: {ending}{}", hint(ending))]
    Failed {
        /// Which machine.
        host: IpAddr,
        /// The whole command.
        command: String,
        /// How it ended.
        ending: Ending,
    },
    /// A command's output is not as wanted.
    #[error("{command}: no line of its output has the words {}", quoted(words))]
    Output {
        /// The whole command.
        command: String,
        /// What one line should have.
        words: Vec<String>,
    },
    /// A file cannot be read or written, or is not what it was.
    #[error("{file}: {why}")]
    File {
        /// Its path, and the machine.
        file: String,
        /// Why.
        why: String,
    },
    /// A path that leads out of this node's root.
    #[error(transparent)]
    Path(#[from] FileError),
    /// The file names no side. Nothing was changed.
    #[error("{file}: {source}")]
    Names {
        /// Its path, and the machine.
        file: String,
        /// What it says, and what would be right.
        source: EnvFileError,
    },
    /// Nobody answers.
    #[error("{url} does not answer: {why}")]
    Silent {
        /// Who was asked.
        url: String,
        /// Why.
        why: String,
    },
}

/// sshd's shell reads no file of aliases.
fn hint(ending: &Ending) -> &'static str {
    if ending.exit == Exit::Code(127) {
        "; an alias is no program: name it with its path in the settings"
    } else {
        ""
    }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" and ")
}

/// Carries it out. Blocks for `timeout`, and while connecting for a little more.
///
/// Errors: whether anything was done is told by each; doing it again does no harm.
pub fn carry_out(
    context: &Context,
    place: Place,
    task: &Task,
    timeout: Duration,
) -> Result<Outcome, TaskError> {
    carry_out_while(context, place, task, timeout, &|| true)
}

/// As [`carry_out`], if it is still wanted: asked right before each thing that is done, on another machine once it is
/// reached. What has begun goes on to its end.
pub fn carry_out_while(
    context: &Context,
    place: Place,
    task: &Task,
    timeout: Duration,
    still_wanted: StillWanted<'_>,
) -> Result<Outcome, TaskError> {
    if !still_wanted() {
        return Err(TaskError::Stale);
    }
    let deadline = Instant::now() + timeout;
    match (task, place) {
        (Task::Run { argv, output, .. }, Place::Here) => {
            let command = Command { argv: argv.clone(), timeout, on_failure: OnFailure::Fail };
            let said = command::run(&context.root, &command, &mut |_| {})?.tail;
            checked(output, said, argv)
        }
        (Task::Run { argv, directory, output }, Place::There(host)) => {
            let command = FarCommand { argv, directory: directory.as_deref(), input: b"" };
            let said = run_there(context, host, &command, timeout, still_wanted)?;
            checked(output, said, argv)
        }
        (Task::Point { path, names, to }, place) => {
            let file = text_file(context, place, path)?;
            point(&file, names, *to, deadline, still_wanted).map(|changed| Outcome::Pointed { changed })
        }
        (Task::Ask { url }, _) => ask(url, timeout),
    }
}

/// Every line that the task may have another machine's sshd run.
///
/// Errors: a word holds a control character.
pub(crate) fn lines(task: &Task) -> Result<Vec<String>, FarError> {
    let commands = match task {
        Task::Run { argv, directory, .. } => vec![(argv.clone(), directory.as_deref())],
        Task::Point { path, names, .. } => file::commands(path, names).map(|argv| (argv, None)).to_vec(),
        Task::Ask { .. } => Vec::new(),
    };
    let line = |(argv, directory): &(Vec<String>, Option<&str>)| {
        FarCommand { argv, directory: *directory, input: b"" }.line()
    };
    commands.iter().map(line).collect()
}

/// The file at that path, in that place.
pub(crate) fn text_file(context: &Context, place: Place, path: &str) -> Result<TextFile, TaskError> {
    Ok(match place {
        Place::Here => TextFile::Here(followed(&context.root, path)?),
        Place::There(host) => {
            TextFile::There { target: way::ssh_target(context, host), path: path.to_owned() }
        }
    })
}

/// Runs a command on another machine; its standard output.
fn run_there(
    context: &Context,
    host: IpAddr,
    command: &FarCommand<'_>,
    timeout: Duration,
    still_wanted: StillWanted<'_>,
) -> Result<String, TaskError> {
    let ran = command
        .run_while(&way::ssh_target(context, host), timeout, still_wanted)
        .map_err(|source| far(host, source))?;
    if ran.ending.is_success() {
        return Ok(String::from_utf8_lossy(&ran.output).into_owned());
    }
    Err(TaskError::Failed { host, command: command.argv.join(" "), ending: ran.ending })
}

/// What another machine's error means for the task.
pub(super) fn far(host: IpAddr, source: RunError) -> TaskError {
    match source {
        RunError::Stale => TaskError::Stale,
        source => TaskError::Far { host, source: Box::new(source) },
    }
}

fn checked(wanted: &Wanted, said: String, argv: &[String]) -> Result<Outcome, TaskError> {
    match wanted {
        Wanted::LineWith(words) if !wanted.holds(&said) => {
            Err(TaskError::Output { command: argv.join(" "), words: words.clone() })
        }
        Wanted::Anything | Wanted::LineWith(_) => Ok(Outcome::Ran(said)),
    }
}

/// Points the file at the side; whether it had to be changed.
fn point(
    file: &TextFile,
    names: &EnvFile,
    to: Side,
    deadline: Instant,
    still_wanted: StillWanted<'_>,
) -> Result<bool, TaskError> {
    let before = file.read(deadline)?;
    let after = names.pointed_at(&before, to).map_err(|source| file.unreadable(source))?;
    if after == before {
        return Ok(false);
    }
    file.replace(names, &before, &after, deadline, still_wanted).map(|()| true)
}

fn ask(url: &str, timeout: Duration) -> Result<Outcome, TaskError> {
    // no proxy from the environment: who is asked is this address itself
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(timeout))
        .build()
        .new_agent();
    match agent.get(url).call() {
        Ok(response) => Ok(Outcome::Answered(response.status().as_u16())),
        Err(error) => Err(TaskError::Silent { url: url.to_owned(), why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests;

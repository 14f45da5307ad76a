//! What is to be done, as data: the core says *what*, an adapter lowers it to effects, the runtime performs them.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::profile::SipTimers;

/// One command, complete: no template, no shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments. The program is a bare name, looked up below the PBX's root in the usual directories
    /// (`/usr/local/sbin` ... `/bin`), or an absolute path, taken below that root.
    pub argv: Vec<String>,
    /// When it is killed, with its whole process group.
    pub timeout: Duration,
    /// What a failure means for the effects that follow.
    pub on_failure: OnFailure,
}

/// What a failed command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The list fails: nothing after it runs, and what was done is undone where it can be.
    Fail,
    /// It is reported, and the list goes on: a helper that cannot download a file must not keep telephony down.
    GoOn,
}

/// One step of a list that is performed in order. Paths are absolute, taken below the PBX's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Run a command.
    Run(Command),
    /// Run commands in order, unless `check` exits with 0: nothing is done when all is as wanted already.
    RunUnless {
        /// Asks; changes nothing. A time-out counts as "not as wanted".
        check: Command,
        /// What brings it about.
        commands: Vec<Command>,
    },
    /// Write a whole file: temporary file, fsync, rename. Nothing is done when it already is so.
    WriteFile {
        /// Where.
        path: String,
        /// All of it.
        content: String,
        /// Permission bits of a new file; an existing file keeps its own.
        mode: u32,
    },
    /// Remove a file; nothing is done when there is none.
    RemoveFile {
        /// Which.
        path: String,
    },
    /// Bring marked blocks of lines into files, then run a command, if there is one, when anything changed.
    SetBlocks {
        /// The files and their lines.
        blocks: Vec<Block>,
        /// Run once, only when a file changed (and again when the change is undone).
        then: Option<Command>,
    },
    /// Set variables in a file that a shell reads; every other byte stays ([`crate::shell_vars`]). A file that does not
    /// exist is created with mode 0644.
    SetVariables {
        /// Where.
        path: String,
        /// Names and values, which a shell takes as written.
        variables: Vec<(String, String)>,
    },
    /// Set the SIP registration expiry over the PBX's API, former values stored; `None` restores them.
    SipExpiry(Option<SipTimers>),
    /// Point every registrar's backup fields at this address over the PBX's API, former values stored; `None` restores them.
    BackupRegistrars(Option<IpAddr>),
    /// Make every device fetch its configuration again, over the PBX's API. A device that cannot be reached is
    /// reported and does not fail the list: phones are switched off.
    SynchronizeDevices,
}

/// Lines between two markers in a file that belongs to the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The path; one component may be `*`, which stands for each existing directory there
    /// (`/etc/postgresql/*/main/pg_hba.conf`: every installed version, no compiled-in path).
    pub path: String,
    /// `None`: the block stands at the end of the file. A name: at the end of that section (`[name]`) of an ini file, the
    /// last one of that name, where it is in force over the administrator's own line; a file without the section gets it.
    pub section: Option<String>,
    /// The lines, without line ends. Empty: the block is removed, and the file is as if it had never been there.
    pub lines: Vec<String>,
    /// Prefix of lines *outside the block*, of an older tool's making, that are removed whenever the block is written or
    /// removed: what they allowed must not outlive the tool.
    pub replaces: Option<String>,
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for word in &self.argv {
            if !std::mem::take(&mut first) {
                f.write_str(" ")?;
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                f.write_str(word)?;
            } else {
                write!(f, "'{}'", word.replace('\'', r"'\''"))?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.lines.is_empty() { "remove our lines from " } else { "set our lines in " })?;
        if let Some(section) = &self.section {
            write!(f, "section [{section}] of ")?;
        }
        f.write_str(&self.path)?;
        if let Some(prefix) = &self.replaces {
            write!(f, ", and remove lines that begin with \"{prefix}\"")?;
        }
        self.lines.iter().try_for_each(|line| write!(f, "\n    | {line}"))
    }
}

/// A line for `--dry-run`, the journal and goldens.
impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Run(command) => write!(f, "run {command}"),
            Effect::RunUnless { check, commands } => {
                write!(f, "unless it succeeds: {check}")?;
                commands.iter().try_for_each(|command| write!(f, "\n    | run {command}"))
            }
            Effect::WriteFile { path, content, mode } if content.is_empty() => {
                write!(f, "write {path} (empty, mode {mode:04o})")
            }
            Effect::WriteFile { path, content, mode } => {
                write!(f, "write {path} (mode {mode:04o})")?;
                content.lines().try_for_each(|line| write!(f, "\n    | {line}"))
            }
            Effect::RemoveFile { path } => write!(f, "remove {path}"),
            Effect::SetBlocks { blocks, then } => {
                let then = then.iter().map(|then| format!("if that changed anything: run {then}"));
                let lines: Vec<String> = blocks.iter().map(Block::to_string).chain(then).collect();
                f.write_str(&lines.join("\n"))
            }
            Effect::SetVariables { path, variables } => {
                write!(f, "set in {path}, everything else as it is")?;
                variables.iter().try_for_each(|(name, value)| write!(f, "\n    | {name}={value}"))
            }
            Effect::SipExpiry(Some(t)) => write!(
                f,
                "set SIP registration expiry: minimum {} s, default {} s, maximum {} s (former values are kept)",
                t.min.as_secs(),
                t.default.as_secs(),
                t.max.as_secs()
            ),
            Effect::SipExpiry(None) => f.write_str("restore the former SIP registration expiry"),
            Effect::BackupRegistrars(Some(ip)) => {
                write!(
                    f,
                    "set the backup registrar and proxy of every registrar to {ip} (former values are kept)"
                )
            }
            Effect::BackupRegistrars(None) => f.write_str("restore the former backup registrars and proxies"),
            Effect::SynchronizeDevices => f.write_str("make every device fetch its configuration again"),
        }
    }
}

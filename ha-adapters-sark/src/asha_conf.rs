//! `/etc/asha.conf`: what is copied, how, and which address the pair shares.
//!
//! The format and the keys are SARK's page, "Advanced" (`domain.md` 5.2). A shell reads the file; here its values are
//! data, and what a shell would take otherwise than as written is refused.

use std::net::IpAddr;

use ha_core::PeerAddress;
use ha_core::distribution::{Shared, Synch};
use ha_core::shell_vars::{NotData, ShellVars};

/// Where it is.
pub const PATH: &str = "/etc/asha.conf";

/// The keys that SARK manages and that `configure` sets; the others are the administrator's.
pub(crate) const CLUSTER_IP: &str = "HACLUSTERIP";
pub(crate) const PRIMARY_NODE: &str = "HAPRINODE";
pub(crate) const STANDBY_NODE: &str = "HASECNODE";
pub(crate) const SYNCH: &str = "HASYNCH";

/// The file, checked. A key that is missing or empty has the default of SARK's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AshaConf {
    text: String,
    /// What `configure` sets.
    pub shared: Shared,
    /// `HASSHPORT`: where the other node's sshd listens. Not 0.
    pub ssh_port: u16,
    /// `ASTERISK`: Asterisk's configuration, a directory.
    pub asterisk: String,
    /// `DB`: SARK's SQLite database, a file.
    pub database: String,
    /// `GREETINGS`: a directory.
    pub greetings: String,
    /// `OTHER1` to `OTHER3`, as far as they are set: directories.
    pub others: Vec<String>,
    /// `POSTSYNC`: the program that is run after a copy.
    pub post_sync: String,
    /// `RESTART`: whether an Asterisk that ended may be started again where it was, when no failover runs.
    pub restart: bool,
    /// `RHINOSPF`: whether a Rhino failover card is installed.
    pub rhino: bool,
    /// `RSYNC`: a program.
    pub rsync: String,
    /// `TELEPHONY`: DAHDI's directory, copied only when it is set.
    pub telephony: Option<String>,
    /// `VOICEMAIL`: a directory.
    pub voicemail: String,
}

/// A file that cannot be used: where, which key, its value, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfError {
    /// A shell would take a line otherwise than as written.
    #[error("{PATH}: {0}")]
    NotData(#[from] NotData),
    /// A value that means nothing.
    #[error("{PATH}: {}{key}={value}: {right}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Value {
        /// Counted from 1; `None`: it is a default, beside which another value cannot be.
        line: Option<usize>,
        /// As in the file.
        key: &'static str,
        /// As in the file.
        value: String,
        /// What would be right.
        right: String,
    },
}

impl AshaConf {
    /// Reads the file's text. A file that does not exist is as an empty one.
    ///
    /// # Errors
    ///
    /// Name line, key, value and what would be right.
    pub fn parse(text: &str) -> Result<AshaConf, ConfError> {
        let vars = ShellVars::parse(text)?;
        let keys = Keys(&vars);
        let (primary_node, standby_node) =
            (keys.node(PRIMARY_NODE, "haprimary")?, keys.node(STANDBY_NODE, "hastandby")?);
        if primary_node == standby_node {
            return keys.refuse(
                STANDBY_NODE,
                &standby_node,
                "is the primary node's name as well: give what `uname -n` says on the standby",
            );
        }
        let cluster_ip = keys.cluster_ip()?;
        let synch = keys.word(SYNCH, &[("LAZY", Synch::Lazy), ("LOOSE", Synch::Loose)])?;
        let yes_or_no = |key| keys.word(key, &[("NO", false), ("YES", true)]);
        let others = ["OTHER1", "OTHER2", "OTHER3"].into_iter().map(|key| keys.directory(key));
        Ok(AshaConf {
            shared: Shared { cluster_ip, primary_node, standby_node, synch },
            ssh_port: keys.port("HASSHPORT", 22)?,
            asterisk: keys.directory_or("ASTERISK", "/etc/asterisk")?,
            database: keys.file("DB", "/opt/sark/db/sark.db")?,
            greetings: keys.directory_or("GREETINGS", "/var/lib/asterisk/sounds")?,
            others: others.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            post_sync: keys.file("POSTSYNC", "/opt/sark/scripts/srkgenAst")?,
            restart: yes_or_no("RESTART")?,
            rhino: yes_or_no("RHINOSPF")?,
            rsync: keys.file("RSYNC", "/usr/bin/rsync")?,
            telephony: keys.directory("TELEPHONY")?,
            voicemail: keys.directory_or("VOICEMAIL", "/var/spool/asterisk/voicemail")?,
            text: text.to_owned(),
        })
    }

    /// The file's text with the four managed keys set, and every other byte as it was. Done twice, it is as done once.
    ///
    /// # Errors
    ///
    /// A value that the file cannot hold; nothing is set.
    pub fn edit(&self, shared: &Shared) -> Result<String, ConfError> {
        for (key, name) in [(PRIMARY_NODE, &shared.primary_node), (STANDBY_NODE, &shared.standby_node)] {
            if !is_node_name(name) {
                let (value, right) = (name.clone(), NODE_NAME.to_owned());
                return Err(ConfError::Value { line: None, key, value, right });
            }
        }
        let wanted = variables(shared);
        let wanted: Vec<(&str, &str)> = wanted.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let edited = ShellVars::parse(&self.text)?.set(&wanted)?;
        AshaConf::parse(&edited)?;
        Ok(edited)
    }

    /// The directories that are copied, each with its key: the defaults first, in the order of SARK's page. One inside
    /// another is copied with it and not listed.
    pub fn directories(&self) -> Vec<(&'static str, &str)> {
        let mut all = vec![
            ("GREETINGS", self.greetings.as_str()),
            ("ASTERISK", self.asterisk.as_str()),
            ("VOICEMAIL", self.voicemail.as_str()),
        ];
        all.extend(self.telephony.iter().map(|path| ("TELEPHONY", path.as_str())));
        all.extend(self.others.iter().map(|path| ("OTHER1..3", path.as_str())));
        let mut kept: Vec<(&str, &str)> = Vec::new();
        for (index, (key, path)) in all.iter().enumerate() {
            let covered = all.iter().enumerate().any(|(other, (_, outer))| {
                other != index && is_in(path, outer) && (path != outer || other < index)
            });
            if !covered {
                kept.push((key, path));
            }
        }
        kept
    }
}

fn is_in(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The managed keys and their values as the file has them.
pub(crate) fn variables(shared: &Shared) -> Vec<(&'static str, String)> {
    let synch = match shared.synch {
        Synch::Lazy => "LAZY",
        Synch::Loose => "LOOSE",
    };
    vec![
        (CLUSTER_IP, shared.cluster_ip.map(|ip| ip.to_string()).unwrap_or_default()),
        (PRIMARY_NODE, shared.primary_node.clone()),
        (STANDBY_NODE, shared.standby_node.clone()),
        (SYNCH, synch.to_owned()),
    ]
}

/// Reads one key after the other.
struct Keys<'v, 't>(&'v ShellVars<'t>);

impl<'t> Keys<'_, 't> {
    /// `None`: the key is missing, or it is empty.
    fn set(&self, key: &'static str) -> Result<Option<&'t str>, ConfError> {
        Ok(self.0.value(key)?.filter(|value| !value.is_empty()))
    }

    fn refuse<T>(&self, key: &'static str, value: &str, right: impl Into<String>) -> Result<T, ConfError> {
        let (line, value) = (self.0.line(key), value.to_owned());
        Err(ConfError::Value { line, key, value, right: right.into() })
    }

    fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T); 2]) -> Result<T, ConfError> {
        let [(default, meant), (other, _)] = words;
        let Some(value) = self.set(key)? else { return Ok(*meant) };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meant)) => Ok(*meant),
            None => self.refuse(key, value, format!("write {default} or {other}, in capital letters")),
        }
    }

    fn cluster_ip(&self) -> Result<Option<IpAddr>, ConfError> {
        let Some(value) = self.set(CLUSTER_IP)? else { return Ok(None) };
        match value.parse::<PeerAddress>() {
            Ok(address) => Ok(Some(address.ip())),
            Err(_) => self.refuse(
                CLUSTER_IP,
                value,
                "write a free IPv4 or IPv6 address of the phones' network, without a prefix, or nothing",
            ),
        }
    }

    /// A name as `uname -n` gives it.
    fn node(&self, key: &'static str, default: &str) -> Result<String, ConfError> {
        let value = self.set(key)?.unwrap_or(default);
        if !is_node_name(value) {
            return self.refuse(key, value, NODE_NAME);
        }
        Ok(value.to_owned())
    }

    fn port(&self, key: &'static str, default: u16) -> Result<u16, ConfError> {
        let Some(value) = self.set(key)? else { return Ok(default) };
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        match value.parse() {
            Ok(port) if port > 0 && digits => Ok(port),
            _ => self.refuse(key, value, "write a TCP port, 1 to 65535, as 22"),
        }
    }

    /// A directory's path; a `/` at its end says nothing more and is left out.
    fn directory(&self, key: &'static str) -> Result<Option<String>, ConfError> {
        let Some(value) = self.set(key)? else { return Ok(None) };
        let path = value.strip_suffix('/').unwrap_or(value);
        if !is_plain(path) {
            return self.refuse(
                key,
                value,
                "write a directory's absolute path, without . and .., as /etc/dahdi",
            );
        }
        Ok(Some(path.to_owned()))
    }

    fn directory_or(&self, key: &'static str, default: &str) -> Result<String, ConfError> {
        Ok(self.directory(key)?.unwrap_or_else(|| default.to_owned()))
    }

    fn file(&self, key: &'static str, default: &str) -> Result<String, ConfError> {
        let value = self.set(key)?.unwrap_or(default);
        if !is_plain(value) {
            let right = format!("write a file's absolute path, without . and .., as {default}");
            return self.refuse(key, value, right);
        }
        Ok(value.to_owned())
    }
}

/// What would be right instead of something that is no node's name.
pub(crate) const NODE_NAME: &str =
    "write what `uname -n` says there: up to 64 letters, digits and - . _, a letter or digit first";

/// What Linux takes for a host name (64 bytes), of characters that mean nothing in Heartbeat's files.
pub(crate) fn is_node_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.bytes().all(plain)
}

fn is_plain(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

#[cfg(test)]
#[path = "asha_conf_tests.rs"]
mod tests;

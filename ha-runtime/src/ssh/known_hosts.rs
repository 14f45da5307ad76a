//! Known hosts, in OpenSSH's file format: plain and hashed names, `[host]:port`, revoked keys.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use openssl::base64;
use openssl::sha::sha256;
use ssh2::{CheckResult, KnownHostFileKind, Session};

use super::keypair::private_directory;
use crate::far::{FarError, HostKeyChanged};

/// Largest file of known hosts that is read.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// The lines of a file of known hosts that can be about one host.
#[derive(Debug)]
pub(super) struct KnownHosts {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    number: usize,
    mark: Mark,
    /// The line without its mark.
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Mark {
    None,
    Revoked,
}

/// What the file says of a host's key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The key is known.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The key is another than the known one, or revoked.
    Changed { line: usize, known: String },
}

impl KnownHosts {
    /// Reads the file; one that is missing knows nobody.
    pub(super) fn read(path: &Path) -> Result<KnownHosts, FarError> {
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(FarError::KnownHosts { path: path.to_owned(), source: Arc::new(error) });
            }
        };
        let lines =
            text.lines().enumerate().filter_map(|(index, line)| Line::parse(index + 1, line)).collect();
        Ok(KnownHosts { lines })
    }

    /// The host key algorithms to ask the host for, so that it shows a key that is known, the best first.
    ///
    /// `None`: nothing is known of it; let libssh2 choose.
    pub(super) fn algorithms(&self, session: &Session, address: SocketAddr) -> Option<String> {
        let mut algorithms: Vec<&str> = Vec::new();
        for line in self.lines.iter().filter(|line| line.mark == Mark::None) {
            // Any key at all: a line that names the host says "another one".
            if matches!(line.check(session, address, b"?"), CheckResult::Match | CheckResult::Mismatch) {
                algorithms.extend(line.algorithms());
            }
        }
        algorithms.dedup();
        (!algorithms.is_empty()).then(|| algorithms.join(","))
    }

    /// Judges the key that the host shows.
    pub(super) fn judge(&self, session: &Session, address: SocketAddr, key: &[u8]) -> Verdict {
        let revoked = |line: &&Line| {
            line.mark == Mark::Revoked && matches!(line.check(session, address, key), CheckResult::Match)
        };
        if let Some(line) = self.lines.iter().find(revoked) {
            return Verdict::Changed { line: line.number, known: "that this key is revoked".into() };
        }
        let mut verdict = Verdict::Unknown;
        for line in self.lines.iter().filter(|line| line.mark == Mark::None) {
            match line.check(session, address, key) {
                CheckResult::Match => return Verdict::Known,
                CheckResult::Mismatch if verdict == Verdict::Unknown => {
                    verdict = Verdict::Changed { line: line.number, known: line.fingerprint() };
                }
                CheckResult::Mismatch | CheckResult::NotFound | CheckResult::Failure => (),
            }
        }
        verdict
    }
}

impl Line {
    fn parse(number: usize, line: &str) -> Option<Line> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (mark, text) = match line.strip_prefix('@') {
            None => (Mark::None, line),
            Some(marked) => match marked.split_once(char::is_whitespace)? {
                ("revoked", rest) => (Mark::Revoked, rest.trim_start()),
                // libssh2 checks no certificates, so an authority vouches for nobody here.
                _ => return None,
            },
        };
        Some(Line { number, mark, text: text.to_owned() })
    }

    /// What this line alone says of the key.
    fn check(&self, session: &Session, address: SocketAddr, key: &[u8]) -> CheckResult {
        let Ok(mut known) = session.known_hosts() else { return CheckResult::Failure };
        if known.read_str(&format!("{}\n", self.text), KnownHostFileKind::OpenSSH).is_err() {
            return CheckResult::NotFound; // a line that libssh2 cannot read vouches for nobody
        }
        let plain = address.ip().to_string();
        let with_port = known.check(&format!("[{plain}]:{}", address.port()), key);
        match (with_port, known.check(&plain, key)) {
            (CheckResult::NotFound, CheckResult::Match) => CheckResult::Match,
            // On another port than ssh's own another machine may answer; as OpenSSH, only a match counts there.
            (CheckResult::NotFound, result) if address.port() == 22 => result,
            (result, _) => result,
        }
    }

    fn algorithms(&self) -> &'static [&'static str] {
        match self.text.split_whitespace().nth(1) {
            Some("ssh-ed25519") => &["ssh-ed25519"],
            Some("ecdsa-sha2-nistp256") => &["ecdsa-sha2-nistp256"],
            Some("ecdsa-sha2-nistp384") => &["ecdsa-sha2-nistp384"],
            Some("ecdsa-sha2-nistp521") => &["ecdsa-sha2-nistp521"],
            // the key type is still named for SHA-1, the signature must not use it
            Some("ssh-rsa") => &["rsa-sha2-512", "rsa-sha2-256"],
            _ => &[],
        }
    }

    fn fingerprint(&self) -> String {
        let key = self.text.split_whitespace().nth(2).and_then(|field| base64::decode_block(field).ok());
        key.as_deref().map_or_else(|| "a key that cannot be read".into(), fingerprint)
    }
}

/// A key as people compare it: its type and the SHA256 digest as `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &[u8]) -> String {
    let digest = base64::encode_block(&sha256(key));
    format!("{} SHA256:{}", key_type(key), digest.trim_end_matches('='))
}

/// The type's name, as it stands at the start of the key (RFC 4253, 6.6).
pub(super) fn key_type(key: &[u8]) -> String {
    let name = key
        .split_first_chunk::<4>()
        .and_then(|(length, rest)| rest.get(..u32::from_be_bytes(*length) as usize))
        .filter(|name| name.len() <= 64 && name.iter().all(u8::is_ascii_graphic));
    name.map_or_else(|| "unknown".into(), |name| String::from_utf8_lossy(name).into_owned())
}

/// The error for a host key that is not the known one.
pub(super) fn changed(
    address: SocketAddr,
    key: &[u8],
    known_hosts: &Path,
    line: usize,
    known: String,
) -> FarError {
    FarError::HostKeyChanged(Box::new(HostKeyChanged {
        address,
        offered: fingerprint(key),
        known,
        known_hosts: known_hosts.to_owned(),
        line,
    }))
}

/// Adds a host's key to the file, which is made if there is none.
pub(super) fn record(path: &Path, address: SocketAddr, key: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        private_directory(directory)?;
    }
    let name = match address.port() {
        22 => address.ip().to_string(),
        port => format!("[{}]:{port}", address.ip()),
    };
    let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if let Some(before) = length.checked_sub(1) {
        file.read_exact_at(&mut last, before)?;
    }
    // A last line without its end must not swallow ours.
    let gap = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{gap}{name} {} {}\n", key_type(key), base64::encode_block(key)).as_bytes())?;
    file.sync_all()
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_LIMIT} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

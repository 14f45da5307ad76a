//! The key of the pair: made once, reused ever after.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use openssl::base64;
use openssl::error::ErrorStack;
use openssl::rsa::Rsa;
use tempfile::NamedTempFile;
use thiserror::Error;

/// Bits of a new key: what OpenSSH makes by default (`ssh-keygen(1)`, `-b`).
const BITS: u32 = 3072;

/// Why there is no usable key. An existing file is never changed.
#[derive(Debug, Error)]
pub enum KeyError {
    /// A file could not be read or written.
    #[error("could not read or write {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// OpenSSL could not make a key.
    #[error("could not make an RSA key: {0}")]
    Make(#[from] ErrorStack),
    /// The file holds something else than a private key without passphrase.
    #[error("{path} is no RSA or OpenSSH private key without a passphrase; move it away to have one made", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
    },
    /// The comment would break the line that it stands in.
    #[error("the comment {0:?} holds a control character")]
    Comment(String),
}

/// The public part of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    /// As on the wire (RFC 4253, 6.6).
    blob: Vec<u8>,
    comment: String,
}

impl PublicKey {
    /// Type and blob: what identifies the key in a line of `authorized_keys`.
    pub(super) fn base64(&self) -> String {
        base64::encode_block(&self.blob)
    }

    /// Type, blob and comment, as in a `.pub` file.
    pub(super) fn line(&self) -> String {
        format!("{} {} {}", super::known_hosts::key_type(&self.blob), self.base64(), self.comment)
    }

    pub(super) fn fingerprint(&self) -> String {
        super::known_hosts::fingerprint(&self.blob)
    }
}

/// Whether a key was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there already.
    Found,
    /// It was made just now.
    Made,
}

/// Reads the key, or makes one: RSA, no passphrase, mode 0600, its public part beside it as `.pub`, mode 0644.
pub(super) fn ensure(path: &Path, comment: &str) -> Result<(PublicKey, Origin), KeyError> {
    if comment.chars().any(char::is_control) {
        return Err(KeyError::Comment(comment.to_owned()));
    }
    let comment = comment.to_owned();
    match fs::read_to_string(path) {
        Ok(text) => {
            let blob = public_blob(&text).ok_or_else(|| KeyError::Unusable { path: path.to_owned() })?;
            Ok((PublicKey { blob, comment }, Origin::Found))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let rsa = Rsa::generate(BITS)?;
            let public = PublicKey { blob: rsa_blob(&rsa), comment };
            let failed = |source| KeyError::File { path: path.to_owned(), source };
            write_new(path, &rsa.private_key_to_pem()?, 0o600).map_err(failed)?;
            // Beside it for people; nothing here reads it. An old one belongs to a key that is gone.
            let beside = beside(path);
            let _ = fs::remove_file(&beside);
            write_new(&beside, format!("{}\n", public.line()).as_bytes(), 0o644)
                .map_err(|source| KeyError::File { path: beside.clone(), source })?;
            Ok((public, Origin::Made))
        }
        Err(source) => Err(KeyError::File { path: path.to_owned(), source }),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    PathBuf::from(name)
}

/// Makes a directory as `ssh` would, for its owner alone.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file that is not there yet: whole or not at all.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    private_directory(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// The public blob of a private key, in either of the formats that OpenSSH writes.
fn public_blob(private: &str) -> Option<Vec<u8>> {
    if let Some(body) = private.trim().strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----") {
        let body: String =
            body.strip_suffix("-----END OPENSSH PRIVATE KEY-----")?.split_whitespace().collect();
        return openssh_blob(&base64::decode_block(&body).ok()?);
    }
    // An empty passphrase, so that OpenSSL does not ask for one on the terminal.
    let rsa = Rsa::private_key_from_pem_passphrase(private.as_bytes(), b"").ok()?;
    Some(rsa_blob(&rsa))
}

/// The public blob inside `openssh-key-v1` (OpenSSH's `PROTOCOL.key`); `None` when there is a passphrase.
fn openssh_blob(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut rest = bytes.strip_prefix(b"openssh-key-v1\0")?;
    let cipher = string(&mut rest)?;
    let _derivation = string(&mut rest)?;
    let _options = string(&mut rest)?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let public = string(&mut rest)?;
    (cipher == b"none" && *count == 1_u32.to_be_bytes()).then(|| public.to_vec())
}

/// A string as SSH writes it: its length in four bytes, then the bytes (RFC 4251, 5).
fn string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (string, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    *rest = after;
    Some(string)
}

fn rsa_blob<T: openssl::pkey::HasPublic>(rsa: &Rsa<T>) -> Vec<u8> {
    let mut blob = Vec::new();
    for part in [b"ssh-rsa".to_vec(), positive(rsa.e().to_vec()), positive(rsa.n().to_vec())] {
        let length = u32::try_from(part.len()).expect("a number of a few thousand bits");
        blob.extend(length.to_be_bytes());
        blob.extend(part);
    }
    blob
}

/// A number's bytes with a leading zero where the first bit would make it negative (RFC 4251, 5, `mpint`).
fn positive(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.first().is_some_and(|first| first & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    /// The public line as `ssh-keygen` derives it from the private file; `None`: not installed.
    fn derived(path: &Path) -> Option<String> {
        let output = Command::new("ssh-keygen").arg("-yf").arg(path).output().ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some(
            String::from_utf8(output.stdout)
                .unwrap()
                .split(' ')
                .take(2)
                .collect::<Vec<_>>()
                .join(" ")
                .trim()
                .into(),
        )
    }

    #[test]
    fn a_new_key_is_one_that_openssh_reads() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/xivo_id_rsa");
        let (public, origin) = ensure(&path, "XiVO HA").unwrap();
        assert_eq!(origin, Origin::Made);
        assert_eq!((mode(&path), mode(&beside(&path))), (0o600, 0o644));
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_to_string(beside(&path)).unwrap(), format!("{}\n", public.line()));
        assert!(public.line().starts_with("ssh-rsa AAAAB3") && public.line().ends_with(" XiVO HA"));
        match derived(&path) {
            Some(line) => assert_eq!(public.line(), format!("{line} XiVO HA")),
            None => eprintln!("skipped in part: no ssh-keygen on this machine"),
        }
        assert_eq!(ensure(&path, "XiVO HA").unwrap(), (public, Origin::Found));
    }

    #[test]
    fn a_key_made_by_ssh_keygen_is_reused() {
        let directory = tempfile::tempdir().unwrap();
        for (kind, format) in [("rsa", "RFC4716"), ("rsa", "PEM"), ("ed25519", "RFC4716")] {
            let path = directory.path().join(format!("{kind}{format}"));
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", kind, "-m", format, "-N", "", "-f"])
                .arg(&path)
                .status();
            if made.is_err() {
                return eprintln!("skipped: no ssh-keygen on this machine");
            }
            let (public, origin) = ensure(&path, "c").unwrap();
            assert_eq!(origin, Origin::Found);
            assert_eq!(public.line(), format!("{} c", derived(&path).unwrap()));
        }
    }

    #[test]
    fn a_key_with_a_passphrase_or_rubbish_is_refused_and_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let rsa = Rsa::generate(2048).unwrap();
        let cipher = openssl::symm::Cipher::aes_128_cbc();
        let encrypted = rsa.private_key_to_pem_passphrase(cipher, b"secret").unwrap();
        let mut openssh = b"openssh-key-v1\0\0\0\0\x0aaes256-ctr".to_vec();
        openssh.extend([0; 60]);
        let openssh = format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            base64::encode_block(&openssh)
        );
        for text in [encrypted, openssh.into_bytes(), b"rubbish".to_vec(), Vec::new()] {
            fs::write(&path, &text).unwrap();
            assert!(matches!(ensure(&path, "c"), Err(KeyError::Unusable { .. })));
            assert_eq!(fs::read(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_comment_cannot_add_a_line() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(ensure(&directory.path().join("key"), "a\nssh-rsa"), Err(KeyError::Comment(_))));
    }
}

//! The secret of both nodes, and what it makes of a beat.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ha_core::cluster::beat::BEAT_LENGTH;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// As many bytes as the digest has: a longer secret is no safer, a shorter one is.
const LEAST: usize = 32;
/// More is a file that somebody has mistaken for one.
const MOST: u64 = 4096;
const TAG: usize = 32;

/// A beat and its tag.
pub(in crate::cluster) const DATAGRAM: usize = BEAT_LENGTH + TAG;

/// HMAC-SHA-256 with the pair's secret. Using it takes nothing from the heap.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot read the cluster's key {}: {source}; both nodes need the same, made with `(umask 77; openssl rand -hex 32 > {})`", path.display(), path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Others could read or replace it.
    #[error("the cluster's key {} has mode {mode:04o} and user {user}: it must be root's, with mode 0600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Whose it is.
        user: u32,
    },
    /// It could be guessed, or is no key.
    #[error("the cluster's key {} has {length} bytes: {LEAST} to {MOST} are wanted, as `openssl rand -hex 32` makes them", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// How many bytes it has, without blanks at its end; of a file that is too long, not all are counted.
        length: usize,
    },
}

impl Key {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Key, KeyError> {
        Ok(Key::new(&secret(path)?))
    }

    /// Of a secret of any length.
    pub(in crate::cluster) fn new(secret: &[u8]) -> Key {
        Key(Hmac::new_from_slice(secret).expect("HMAC takes a secret of any length"))
    }

    /// The beat with its tag.
    pub(in crate::cluster) fn seal(&self, beat: &[u8; BEAT_LENGTH]) -> [u8; DATAGRAM] {
        let mut datagram = [0; DATAGRAM];
        let (head, tag) = datagram.split_at_mut(BEAT_LENGTH);
        head.copy_from_slice(beat);
        let mac = self.0.clone().chain_update(beat);
        tag.copy_from_slice(&mac.finalize().into_bytes());
        datagram
    }

    /// The beat that somebody with the same key has sealed. Takes as long whatever the tag is.
    pub(super) fn open<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        let (beat, tag) = datagram.split_at_checked(BEAT_LENGTH)?;
        self.0.clone().chain_update(beat).verify_slice(tag).ok()?;
        Some(beat)
    }
}

/// What the file holds. Blanks and line ends at its end do not count: editors add and remove them.
pub(in crate::cluster) fn secret(path: &Path) -> Result<Vec<u8>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    let (mode, user) = (meta.mode() & 0o7777, meta.uid());
    let own = user == 0 || user == rustix::process::geteuid().as_raw();
    if mode & 0o077 != 0 || !own {
        return Err(KeyError::Exposed { path: path.to_owned(), mode, user });
    }
    let mut secret = Vec::new();
    file.take(MOST + 1).read_to_end(&mut secret).map_err(unreadable)?;
    if secret.len() as u64 <= MOST {
        secret.truncate(secret.trim_ascii_end().len());
    }
    if secret.len() as u64 > MOST || secret.len() < LEAST {
        return Err(KeyError::Length { path: path.to_owned(), length: secret.len() });
    }
    Ok(secret)
}

/// The secret is not for logs.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    fn refused(content: &[u8], mode: u32) -> String {
        let (_directory, path) = file(content, mode);
        let refusal = Key::read(&path).unwrap_err().to_string();
        refusal.replace(path.to_str().unwrap(), "FILE")
    }

    #[test]
    fn what_one_key_seals_no_other_opens() {
        let (own, other) = (Key::new(&[1; 32]), Key::new(&[2; 32]));
        let beat = std::array::from_fn(|index| index as u8);
        let sealed = own.seal(&beat);
        assert_eq!(own.open(&sealed), Some(&beat[..]));
        assert_eq!(other.open(&sealed), None);
        for at in 0..DATAGRAM {
            let mut altered = sealed;
            altered[at] ^= 1;
            assert_eq!(own.open(&altered), None, "byte {at}");
            assert_eq!(own.open(&sealed[..at]), None, "cut after {at}");
        }
    }

    #[test]
    fn a_tag_is_that_of_hmac_sha_256() {
        // RFC 4231, test case 1
        let tag = Key::new(&[0x0b; 20]).0.chain_update(b"Hi There").finalize().into_bytes();
        assert_eq!(tag[..8], [0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53]);
    }

    #[test]
    fn a_line_end_is_no_part_of_a_key() {
        let [(_a, one), (_b, two)] =
            [&b"0123456789abcdef0123456789abcdef"[..], b"0123456789abcdef0123456789abcdef\n"]
                .map(|content| file(content, 0o600));
        let sealed = Key::read(&one).unwrap().seal(&[0; BEAT_LENGTH]);
        assert!(Key::read(&two).unwrap().open(&sealed).is_some());
    }

    #[test]
    fn a_key_that_is_short_long_shared_or_missing_is_named() {
        assert_eq!(
            refused(b"too short\n", 0o600),
            "the cluster's key FILE has 9 bytes: 32 to 4096 are wanted, as `openssl rand -hex 32` makes them"
        );
        assert!(refused(&[b'x'; 9000], 0o600).contains("has 4097 bytes"));
        assert_eq!(
            refused(&[b'x'; 64], 0o640)
                .replace(&format!("user {}", rustix::process::geteuid().as_raw()), "user N"),
            "the cluster's key FILE has mode 0640 and user N: it must be root's, with mode 0600"
        );
        let missing = Key::read(Path::new("/nonexistent/key")).unwrap_err().to_string();
        assert!(
            missing.contains("/nonexistent/key: No such file") && missing.contains("openssl rand"),
            "{missing}"
        );
    }
}

//! One message, from where it waits to its place in a folder.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use ha_core::carry::Why;
use ha_core::replication::path::RelPath;
use ha_core::voicemail::{Known, Message, NUMBERS, Name, Place, Spool};
use rustix::fs::{FileType, Statx, fsync};
use serde::{Deserialize, Serialize};

use super::folder_lock::{FolderLock, look};
use super::hands::Hands;
use super::kept::Learned;
use super::receiver::{Done, Receiver};
use super::scan::walk;
use super::{CarryError, point};
use crate::durable::sync_directory;
use crate::state::{StateError, read_sealed, write_sealed};
use crate::sync::{names, stat_fd};

/// A message whose parts wait, all of them, and where it belongs. While this is on disk it is finished by whoever finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Placing {
    /// The folder that it goes to.
    pub(super) known: Known,
    /// From where on this node; `None`: it was received.
    pub(super) from: Option<Place>,
    /// The number that it gets; `None`: that behind the last.
    pub(super) number: Option<u16>,
    pub(super) parts: Vec<Name>,
}

/// Its file, where the tree's base is kept.
pub(super) const PLACING: &str = "placing.json";

impl Receiver {
    fn placing_file(&self) -> PathBuf {
        self.kept().directory().join(PLACING)
    }

    /// Places the message whose parts wait, and forgets them.
    pub(super) fn place(&mut self, placing: &Placing) -> Result<Done, CarryError> {
        let done = self.finish(placing, Begun::Now)?;
        self.hands.clear().map_err(|error| self.hands.error("clear", &RelPath::root(), error))?;
        Ok(done)
    }

    /// Finishes what was begun and not finished, by this process or one that was killed.
    pub(super) fn settle(&mut self) -> Result<(), CarryError> {
        let path = self.placing_file();
        if let Some(placing) = read_sealed(&path)? {
            self.finish(&placing, Begun::Before)?;
        }
        self.hands.clear().map_err(|error| self.hands.error("clear", &RelPath::root(), error))
    }

    /// Each part that has its name already is known by its inode, so this may have been cut off anywhere.
    fn finish(&mut self, placing: &Placing, begun: Begun) -> Result<Done, CarryError> {
        let mailbox =
            placing.to().folder_path().and_then(|folder| folder.parent()).unwrap_or(RelPath::root());
        // contents are read before anybody has to wait for the lock
        walk(&self.hands.tree, &mailbox, &mut self.seen)?;
        let folders = self.folders(placing)?;
        let locks = self.lock(&folders)?;
        let path = self.placing_file();
        let fail = |source| StateError::Io { path: path.clone(), source };
        if begun == Begun::Now {
            // from here on a crash is no way back: whoever comes next goes on
            write_sealed(&path, placing).map_err(fail)?;
            point();
        }
        let theirs = Spool::new(walk(&self.hands.tree, &mailbox, &mut self.seen)?);
        let done = self.act(placing, &folders, &theirs)?;
        std::fs::remove_file(&path).and_then(|()| sync_directory(&path)).map_err(fail)?;
        point();
        // Asterisk may go on only when a crash cannot bring us back here
        drop(locks);
        Ok(done)
    }

    fn act(&mut self, placing: &Placing, folders: &Folders, theirs: &Spool) -> Result<Done, CarryError> {
        let Known { mailbox, folder, identity } = &placing.known;
        let (parts, to) = (&placing.parts, placing.to());
        let fail = |error: io::Error| self.hands.error("put a message into", &folders.to_path, error);
        // the number may be another one by now: Asterisk closes gaps
        let mut leaving = match &folders.from {
            Some((place, _, dir)) => self.hands.linked(parts, dir, place).map_err(fail)?,
            None => BTreeSet::new(),
        };
        let linked = self.hands.linked(parts, &folders.to, &to).map_err(fail)?;
        let number = match placing.number.or(linked.first().copied()) {
            Some(number) if linked.contains(&number) => number,
            Some(_) if linked.is_empty() => return Ok(Done::Gone),
            // a gap is to be closed, and is not there any more
            Some(number) if theirs.message_at(&Place { number, ..to.clone() }).is_some() => {
                return Ok(Done::Gone);
            }
            Some(number) => number,
            // somebody cleared up; the returning node still has it
            None if !self.hands.holds(parts).map_err(fail)? => return Ok(Done::Gone),
            None if placing.from.is_some() && leaving.is_empty() => return Ok(Done::Gone),
            None => match theirs.find(mailbox, identity).filter(|_| placing.from.is_none()) {
                Some(there) => return Ok(Done::There(there.place.clone())),
                None => theirs.next_number(mailbox, folder),
            },
        };
        if number >= NUMBERS {
            return Ok(Done::Refused(Why::FolderFull));
        }
        let to = Place { number, ..to };
        self.link(placing, &folders.to, &to).map_err(fail)?;
        if placing.number.is_some() {
            leaving.remove(&number);
        }
        if let Some((place, _, dir)) = &folders.from {
            for number in leaving {
                self.hands.unlink(parts, dir, &Place { number, ..place.clone() }).map_err(fail)?;
            }
        }
        if placing.number.is_none() {
            self.learn(Learned::Message(placing.known.clone()))?;
        }
        Ok(Done::Placed(to))
    }

    /// Gives the parts their names, the text's last: Asterisk counts a message by its text.
    fn link(&self, placing: &Placing, dir: &OwnedFd, to: &Place) -> io::Result<()> {
        if placing.from.is_none() {
            let like = self.like(dir)?;
            for part in &placing.parts {
                self.hands.dress(&Hands::part(part), &like)?;
            }
        }
        let (texts, others): (Vec<&Name>, Vec<_>) =
            placing.parts.iter().partition(|part| part.as_str() == Message::TEXT);
        for part in others.into_iter().chain(texts) {
            let linked = self.hands.put(&Hands::part(part), dir, to.file_name(part).as_bytes());
            match linked {
                Ok(true) => point(),
                other => {
                    // a message without its text would be in the way of the next one
                    self.hands.unlink(&placing.parts, dir, to)?;
                    return Err(other.err().unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()));
                }
            }
        }
        fsync(dir)?;
        point();
        Ok(())
    }

    /// A file that lies in a folder, or the folder itself.
    fn like(&self, dir: &OwnedFd) -> io::Result<Statx> {
        let messages = names(dir)?.into_iter().filter(|name| name.to_bytes().starts_with(b"msg"));
        for name in messages {
            let found = look(dir, name.to_str().unwrap_or_default())?;
            let is_file =
                |stat: &Statx| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile;
            if let Some(stat) = found.filter(is_file) {
                return Ok(stat);
            }
        }
        Ok(stat_fd(dir)?)
    }

    fn folders(&self, placing: &Placing) -> Result<Folders, CarryError> {
        let path = |place: &Place| {
            place.folder_path().ok_or_else(|| CarryError::Differs { path: place.to_string() })
        };
        let to_path = path(&placing.to())?;
        let mut from = None;
        if let Some(place) = &placing.from {
            let path = path(place)?;
            from = self.hands.existing(&path)?.map(|dir| (place.clone(), path, dir));
        }
        Ok(Folders { to: self.hands.directory(&to_path)?, to_path, from })
    }

    /// Both folders' locks, always in the same order.
    fn lock(&self, folders: &Folders) -> Result<Vec<FolderLock>, CarryError> {
        let mut all = vec![(&folders.to_path, &folders.to)];
        all.extend(folders.from.as_ref().map(|(_, path, dir)| (path, dir)));
        all.sort_by_key(|(path, _)| *path);
        all.dedup_by_key(|(path, _)| *path);
        let Hands { tree, stage, .. } = &self.hands;
        all.into_iter().map(|(path, dir)| FolderLock::take(tree, stage, dir, path, self.locking)).collect()
    }
}

/// Whether a placing is on disk already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begun {
    Now,
    Before,
}

/// The folders of a placing, open.
struct Folders {
    to: OwnedFd,
    to_path: RelPath,
    from: Option<(Place, RelPath, OwnedFd)>,
}

impl Placing {
    /// Where it goes; the number is found under the lock.
    fn to(&self) -> Place {
        Place { mailbox: self.known.mailbox.clone(), folder: self.known.folder.clone(), number: 0 }
    }
}

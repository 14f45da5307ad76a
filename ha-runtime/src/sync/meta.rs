//! Owner, mode, times and extended attributes: read from and given to exactly one inode.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ha_core::replication::manifest::{Meta, Mtime, Xattrs};
use ha_core::replication::wire::MAX_XATTRS;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Statx, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmodat,
    chownat, fchmod, fgetxattr, flistxattr, flistxattr_query, fremovexattr, fsetxattr, futimens, getxattr,
    lgetxattr, listxattr, listxattr_query, llistxattr, llistxattr_query, removexattr, setxattr, statx,
    utimensat,
};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::fchdir;
use rustix::thread::UnshareFlags;

/// What is read of an inode.
pub(crate) const MASK: StatxFlags = StatxFlags::BASIC_STATS;

/// Metadata out of a `statx` answer, without extended attributes.
pub(crate) fn of_statx(stat: &Statx) -> Meta {
    Meta {
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mode: stat.stx_mode & 0o7777,
        mtime: Mtime { seconds: stat.stx_mtime.tv_sec, nanoseconds: stat.stx_mtime.tv_nsec },
        xattrs: Xattrs::NONE,
    }
}

/// `statx` of an open descriptor.
pub(crate) fn stat_fd(fd: impl AsFd) -> rustix::io::Result<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, MASK)
}

/// Reads extended attributes of entries by their names in a directory, on a thread that does nothing else.
#[derive(Debug)]
pub(crate) struct Attributes {
    /// Of the directory that was entered last, when names are resolved from there.
    way: Way,
    path: Vec<u8>,
}

/// There is no "at" form of the calls for attributes before Linux 6.13.
#[derive(Debug)]
enum Way {
    /// The thread has a working directory of its own: names are relative to it, four times as fast.
    WorkingDirectory,
    /// Over the path that names the open directory itself.
    Proc,
}

impl Attributes {
    /// Gives the calling thread a working directory of its own, where that is allowed.
    pub(crate) fn new() -> Attributes {
        // deprecated for what it does to tables of descriptors, which stay shared here
        #[expect(deprecated)]
        let unshared = rustix::thread::unshare(UnshareFlags::FS);
        let way = if unshared.is_ok() { Way::WorkingDirectory } else { Way::Proc };
        Attributes { way, path: Vec::new() }
    }

    /// The names that follow are names in `dir`, which stays open meanwhile.
    pub(crate) fn enter(&mut self, dir: impl AsFd) -> rustix::io::Result<()> {
        match self.way {
            Way::WorkingDirectory => fchdir(dir),
            Way::Proc => {
                self.path = proc_path(dir).into_bytes();
                self.path.push(b'/');
                Ok(())
            }
        }
    }

    /// The attributes of the entry `name`; a symbolic link is not followed.
    pub(crate) fn of(&mut self, name: &CStr) -> rustix::io::Result<Xattrs> {
        match self.way {
            Way::WorkingDirectory => xattrs_at(name),
            Way::Proc => {
                let length = self.path.len();
                self.path.extend_from_slice(name.to_bytes());
                let found = xattrs_at(self.path.as_slice());
                self.path.truncate(length);
                found
            }
        }
    }
}

/// The extended attributes of a file or directory that is open for reading or writing.
pub(crate) fn xattrs_of(fd: impl AsFd) -> rustix::io::Result<Xattrs> {
    Inode::Open(fd.as_fd()).xattrs()
}

/// Those of what has a name; when that is a symbolic link, the link itself is meant.
fn xattrs_at(path: impl Arg + Copy) -> rustix::io::Result<Xattrs> {
    let length = llistxattr_query(path);
    xattrs(length, |names| llistxattr(path, names), |name, value| lgetxattr(path, name, value))
}

/// How a file or directory that was opened is reached.
#[derive(Clone, Copy)]
enum Inode<'a> {
    /// It is open for reading or writing.
    Open(BorrowedFd<'a>),
    /// It was opened as a path only, which most calls refuse: over the path of its descriptor, which takes far longer.
    Path(BorrowedFd<'a>, &'a str),
}

impl<'a> Inode<'a> {
    fn fd(self) -> BorrowedFd<'a> {
        match self {
            Inode::Open(fd) | Inode::Path(fd, _) => fd,
        }
    }

    fn xattrs(self) -> rustix::io::Result<Xattrs> {
        match self {
            Inode::Open(fd) => {
                let length = flistxattr_query(fd);
                xattrs(length, |names| flistxattr(fd, names), |name, value| fgetxattr(fd, name, value))
            }
            Inode::Path(_, path) => {
                let length = listxattr_query(path);
                xattrs(length, |names| listxattr(path, names), |name, value| getxattr(path, name, value))
            }
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Inode::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Inode::Path(_, path) => setxattr(path, name, value, XattrFlags::empty()),
        }
    }

    fn remove_xattr(self, name: &[u8]) -> rustix::io::Result<()> {
        match self {
            Inode::Open(fd) => fremovexattr(fd, name),
            Inode::Path(_, path) => removexattr(path, name),
        }
    }

    fn set_mode(self, mode: Mode) -> rustix::io::Result<()> {
        match self {
            Inode::Open(fd) => fchmod(fd, mode),
            Inode::Path(_, path) => chmodat(CWD, path, mode, AtFlags::empty()),
        }
    }

    fn set_mtime(self, mtime: Mtime) -> rustix::io::Result<()> {
        match self {
            Inode::Open(fd) => futimens(fd, &times(mtime)),
            Inode::Path(_, path) => utimensat(CWD, path, &times(mtime), AtFlags::empty()),
        }
    }
}

/// `length` is that of the list: most inodes have none, and asked only for that the kernel makes no list.
fn xattrs(
    length: rustix::io::Result<usize>,
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Xattrs> {
    let mut names = match length {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Xattrs::NONE),
        // it may have grown since
        Ok(length) => vec![0; length + 512],
        Err(error) => return Err(error),
    };
    let length = match list(&mut names) {
        Err(Errno::RANGE) => {
            // the kernel's own limit, XATTR_LIST_MAX
            names.resize(64 << 10, 0);
            list(&mut names)?
        }
        result => result?,
    };
    names.truncate(length);
    let mut found = Xattrs::NONE;
    let mut value = Vec::new();
    let mut total = 0;
    for name in names.split(|byte| *byte == 0).filter(|name| is_copied(name)) {
        // XATTR_SIZE_MAX
        value.resize(64 << 10, 0);
        match get(name, &mut value) {
            Ok(length) => {
                total += name.len() + length;
                if total > MAX_XATTRS {
                    return Err(Errno::TOOBIG);
                }
                found.insert(name.into(), value[..length].into());
            }
            // removed since it was listed, or not ours to read
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Attributes that belong to a file's content and access. Labels of a security module belong to the node's own policy,
/// `trusted.overlay.*` to the file system below.
fn is_copied(name: &[u8]) -> bool {
    const EXACT: [&[u8]; 3] =
        [b"security.capability", b"system.posix_acl_access", b"system.posix_acl_default"];
    name.starts_with(b"user.")
        || EXACT.contains(&name)
        || (name.starts_with(b"trusted.") && !name.starts_with(b"trusted.overlay."))
}

/// Gives `meta` to the file or directory, which is open for reading or writing; says its inode. What is so already is not
/// touched.
pub(crate) fn apply(fd: impl AsFd, meta: &Meta) -> io::Result<u64> {
    give(Inode::Open(fd.as_fd()), meta)
}

/// The same for one that was opened as a path only.
pub(crate) fn apply_to_path(fd: impl AsFd, meta: &Meta) -> io::Result<u64> {
    give(Inode::Path(fd.as_fd(), &proc_path(&fd)), meta)
}

fn give(inode: Inode<'_>, meta: &Meta) -> io::Result<u64> {
    let stat = stat_fd(inode.fd())?;
    if (stat.stx_uid, stat.stx_gid) != (meta.uid, meta.gid) {
        let (owner, group) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(inode.fd(), c"", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
    }
    // after the owner, because a change of owner drops file capabilities
    let present = inode.xattrs()?;
    for name in present.keys().filter(|name| !meta.xattrs.contains_key(*name)) {
        inode.remove_xattr(name)?;
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, value)| present.get(*name) != Some(value)) {
        if !is_copied(name) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an extended attribute of a kind that is not copied",
            ));
        }
        inode.set_xattr(name, value)?;
    }
    // after the owner, because a change of owner drops set-id bits; after the ACL, whose mask the group bits are
    inode.set_mode(Mode::from_raw_mode(meta.mode.into()))?;
    inode.set_mtime(meta.mtime)?;
    Ok(stat.stx_ino)
}

/// Gives the symbolic link `name` its owner and time; the link itself is meant, not what it points to.
pub(crate) fn apply_to_symlink(dir: impl AsFd, name: &str, meta: &Meta) -> io::Result<()> {
    let dir = dir.as_fd();
    let stat = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, MASK)?;
    if (stat.stx_uid, stat.stx_gid) != (meta.uid, meta.gid) {
        let (owner, group) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        chownat(dir, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    utimensat(dir, name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

/// Sets only the time of last write of what is open for reading or writing.
pub(crate) fn set_mtime(fd: impl AsFd, mtime: Mtime) -> io::Result<()> {
    Ok(Inode::Open(fd.as_fd()).set_mtime(mtime)?)
}

fn times(mtime: Mtime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
    }
}

/// A path that leads to exactly this open inode, whatever its name is by now.
fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

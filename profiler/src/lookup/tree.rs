//! Files as a process sees them, read without waiting for a daemon or a network, and without leaving its root.
//!
//! Paths come from processes that anybody may run, and whoever reads them drains the rings: a FUSE daemon that does not
//! answer, or a server that is gone, must not be asked, not even for the type of its file system (`statfs` is a request to
//! it). So a path is walked part by part from the process' root. No part crosses into another mount (`RESOLVE_NO_XDEV`)
//! before the mount table, which is text, has told that it is a local one, and links are followed here, as text, so that
//! an absolute one starts at the same root. The end is a descriptor without effect (`O_PATH`), and only a regular file is
//! opened by it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use crate::lookup::mounts::{Table, mounts_of, seen};

/// Most parts of a path that are walked, those of its links among them.
const MAX_STEPS: usize = 1024;
/// Most links that are followed, as the kernel has it (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// What becomes of a link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastLink {
    Follow,
    Refuse,
}

/// The tree of files that a process sees.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// What comes before its paths in the mount table; empty mostly.
    base: Vec<u8>,
    mounts: Table,
    /// The process' working directory; empty when it can't be told.
    pub cwd: PathBuf,
}

impl Tree {
    /// What the process of this mount namespace sees. Of our own namespace also of one that is gone, `None` of another.
    pub fn of(pid: u32, mnt_ns: u32) -> Option<Tree> {
        if mnt_ns != 0 && mnt_ns == namespace("self") {
            return Tree::of_own(pid);
        }
        let process = pid.to_string();
        let mounts = Table::of(mounts_of(&process), mounts_of("self"));
        // Before it is opened: a server that is gone would be asked for its root.
        if !mounts.at(b"/").is_some_and(|mount| mounts.is_local(mount)) {
            return None;
        }
        let root = open_folder(&Path::new("/proc").join(&process).join("root")).ok()?;
        let is_local = seen(&root).is_some_and(|seen| mounts.is_local_id(seen.stx_mnt_id));
        (is_local && namespace(&process) == mnt_ns).then(|| Tree {
            root,
            base: Vec::new(),
            mounts,
            cwd: cwd_of(&process),
        })
    }

    /// What a process of our own mount namespace sees: all, unless it has another root.
    fn of_own(pid: u32) -> Option<Tree> {
        let process = pid.to_string();
        let is_there = namespace("self") == namespace(&process);
        let root = fs::read_link(Path::new("/proc").join(&process).join("root"));
        match root {
            Ok(root) if is_there => Tree::below(&root, cwd_of(&process)),
            _ => Tree::below(Path::new("/"), PathBuf::new()),
        }
    }

    /// The tree below a folder of our own mount namespace.
    pub fn below(folder: &Path, cwd: PathBuf) -> Option<Tree> {
        let root = open_folder(Path::new("/")).ok()?;
        let mut tree = Tree {
            root,
            base: Vec::new(),
            mounts: Table::own(mounts_of("self")),
            cwd,
        };
        let base = folder.as_os_str().as_bytes();
        if base != b"/" {
            tree.root = tree.walk(base, LastLink::Refuse).ok()?;
            tree.base = base.to_vec();
        }
        Some(tree)
    }

    /// A regular file of at most `max` bytes, whole.
    ///
    /// # Errors
    ///
    /// It is not there, is something else, has more bytes, or lies where a read can wait for a daemon or a network.
    pub fn read(&self, path: &[u8], max: u64) -> io::Result<Vec<u8>> {
        whole(self.file(path, LastLink::Refuse)?, max)
    }

    /// What a file of at most `max` bytes says as JSON; `None` if it can't be read, or says something else.
    pub fn json<T: DeserializeOwned>(&self, path: &[u8], max: u64) -> Option<T> {
        serde_json::from_slice(&self.read(path, max).ok()?).ok()
    }

    /// A regular file, open for reading.
    ///
    /// # Errors
    ///
    /// As [`Tree::read`].
    pub fn file(&self, path: &[u8], last: LastLink) -> io::Result<File> {
        readable(self.walk(path, last)?.as_fd())
    }

    /// A folder.
    ///
    /// # Errors
    ///
    /// As [`Tree::read`].
    pub fn folder(&self, path: &[u8]) -> io::Result<Folder> {
        let found = self.walk(path, LastLink::Refuse)?;
        match FileType::from_raw_mode(fstat(&found)?.st_mode) {
            FileType::Directory => Ok(Folder(found)),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    /// Walks a path, which counts from the root, to a descriptor on a local file system that nothing can be read by yet.
    fn walk(&self, path: &[u8], last: LastLink) -> io::Result<OwnedFd> {
        let mut todo = Vec::new();
        push(&mut todo, path);
        // Where `at` is, without links.
        let mut done = Vec::new();
        let mut at = None;
        let mut links = 0;
        for _ in 0..MAX_STEPS {
            let Some(name) = todo.pop() else {
                return at.map_or_else(|| self.root.try_clone(), Ok);
            };
            if name == b".." {
                // From the root again: no directory's own `..` is asked, which may lie outside.
                done.truncate(done.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                push(&mut todo, &std::mem::take(&mut done));
                at = None;
                continue;
            }
            let next = self.step(at.as_ref().unwrap_or(&self.root).as_fd(), &done, &name)?;
            if FileType::from_raw_mode(fstat(&next)?.st_mode) != FileType::Symlink {
                done.extend_from_slice(b"/");
                done.extend_from_slice(&name);
                at = Some(next);
                continue;
            }
            links += 1;
            if links > MAX_LINKS || todo.is_empty() && last == LastLink::Refuse {
                break;
            }
            let target = readlinkat(&next, "", Vec::new())?.into_bytes();
            if target.starts_with(b"/") {
                done.clear();
                at = None;
            }
            push(&mut todo, &target);
        }
        Err(Errno::LOOP.into())
    }

    /// One part of a path in the directory `at`, whose own path is `done`. A link is not followed.
    fn step(&self, at: BorrowedFd<'_>, done: &[u8], name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        match openat2(at, name, flags, Mode::empty(), within | ResolveFlags::NO_XDEV) {
            Err(Errno::XDEV) => {}
            found => return Ok(found?),
        }
        let slow = || io::Error::new(io::ErrorKind::Unsupported, "not on a local file system");
        let point = [&self.base, done, b"/", name].concat();
        let mount = self.mounts.at(&point).filter(|mount| self.mounts.is_local(mount));
        mount.ok_or_else(slow)?;
        let there = openat2(at, name, flags, Mode::empty(), within)?;
        // Another may have been mounted since.
        let is_local = seen(&there).is_some_and(|seen| self.mounts.is_local_id(seen.stx_mnt_id));
        is_local.then_some(there).ok_or_else(slow)
    }
}

/// A folder on a local file system. What is read below lies in the same mount.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    /// A regular file of at most `max` bytes, whole.
    ///
    /// # Errors
    ///
    /// As [`Tree::read`].
    pub fn read(&self, path: &[u8], max: u64) -> io::Result<Vec<u8>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let found = openat2(&self.0, path, flags, Mode::empty(), within)?;
        whole(readable(found.as_fd())?, max)
    }

    /// Names of what is in it, `.` and `..` among them.
    ///
    /// # Errors
    ///
    /// It can't be opened for reading.
    pub fn names(&self) -> io::Result<impl Iterator<Item = Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let entries = Dir::new(openat(&self.0, ".", flags, Mode::empty())?)?;
        Ok(entries.map_while(|entry| Some(entry.ok()?.file_name().to_bytes().to_vec())))
    }
}

/// Opens for reading what a descriptor without effect stands for: a regular file of a file system that is known to be
/// local. A device or a FIFO is not even opened.
///
/// # Errors
///
/// It is something else, or can't be opened.
pub fn readable(path: BorrowedFd<'_>) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(path)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let own = format!("/proc/self/fd/{}", path.as_raw_fd());
    // A lease that somebody holds on it is not waited for either.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(File::from(openat(CWD, own, flags, Mode::empty())?))
}

/// A regular file of the host at a path that somebody else may have chosen, wherever it lies.
///
/// # Errors
///
/// As [`readable`].
pub fn open_regular(path: &Path) -> io::Result<File> {
    readable(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?.as_fd())
}

/// The whole of a file that has at most `max` bytes.
pub fn whole(file: File, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
    }
    Ok(bytes)
}

/// Puts the parts of a path before what is to be walked, which is last first.
fn push(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let parts = path.rsplit(|byte| *byte == b'/');
    let parts = parts.filter(|part| !part.is_empty() && *part != b".");
    todo.extend(parts.map(<[u8]>::to_vec));
}

fn open_folder(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
}

/// Inode of a process' mount namespace; 0 when it is gone.
pub fn namespace(process: &str) -> u32 {
    fs::metadata(Path::new("/proc").join(process).join("ns/mnt")).map_or(0, |namespace| namespace.ino() as u32)
}

/// A process' working directory, as it sees it.
fn cwd_of(process: &str) -> PathBuf {
    let process = Path::new("/proc").join(process);
    // Both count from the namespace's root.
    let cwd = fs::read_link(process.join("cwd")).unwrap_or_default();
    let root = fs::read_link(process.join("root")).unwrap_or_default();
    match cwd.strip_prefix(&root) {
        Ok(rest) if cwd.is_absolute() => Path::new("/").join(rest),
        _ => PathBuf::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(folder: &Path) -> Tree {
        Tree::below(folder, PathBuf::new()).unwrap()
    }

    fn read(folder: &Path, path: &str) -> Option<String> {
        let mut text = String::new();
        let file = tree(folder).file(path.as_bytes(), LastLink::Follow);
        file.ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    /// Make sure that links, also absolute ones and those with `..`, stay below the root.
    #[test]
    fn links_stay_below() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "host").unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(root.join("etc")).unwrap();
        fs::write(root.join("etc/hostname"), "inside").unwrap();
        symlink("/etc/hostname", root.join("absolute")).unwrap();
        symlink("../../../../../etc/hostname", root.join("a/b/relative")).unwrap();
        symlink("/etc", root.join("a/folder")).unwrap();
        symlink("../../secret", root.join("a/out")).unwrap();
        symlink(outside.path().join("secret"), root.join("a/host")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/proc/self/root", root.join("a/magic")).unwrap();
        for path in [
            "/etc/hostname",
            "etc//./hostname",
            "/../../etc/hostname",
            "/absolute",
            "/a/b/relative",
            "/a/folder/hostname",
            "/a/folder/../a/b/../folder/hostname",
        ] {
            assert_eq!(read(&root, path).as_deref(), Some("inside"), "{path}");
        }
        let host = format!("/a/magic{}/secret", outside.path().display());
        for path in [
            "/a/out",
            "/a/host",
            "/loop",
            "/a",
            "/",
            "/etc/hostname/x",
            "/a/../../secret",
            &host,
        ] {
            assert_eq!(read(&root, path), None, "{path}");
        }
        let tree = tree(&root);
        assert_eq!(tree.read(b"/a/folder/hostname", 6).unwrap(), b"inside");
        assert!(tree.read(b"/a/folder/hostname", 5).is_err());
        assert!(tree.read(b"/absolute", 99).is_err());
        assert!(tree.folder(b"/a/folder").is_err());
        let folder = tree.folder(b"/a/folder/.").unwrap_err();
        assert_eq!(folder.raw_os_error(), Some(libc::ELOOP));
    }

    /// Make sure that as many links are followed as the kernel follows.
    #[test]
    fn links_are_bounded() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/0"), "end").unwrap();
        for link in 1..=MAX_LINKS + 1 {
            symlink((link - 1).to_string(), root.path().join(format!("a/{link}"))).unwrap();
        }
        let path = |link: usize| format!("/a/{link}");
        assert_eq!(read(root.path(), &path(MAX_LINKS)).as_deref(), Some("end"));
        assert_eq!(read(root.path(), &path(MAX_LINKS + 1)), None);
    }

    /// Make sure that only regular files are opened: no FIFO, no device, no socket, no folder.
    #[test]
    fn regular_files_only() {
        let folder = tempfile::tempdir().unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        fs::create_dir(folder.path().join("folder")).unwrap();
        // Needs privileges: a `/dev/zero` and a terminal.
        for (name, major, minor) in [("zero", 1, 5), ("tty", 5, 0)] {
            let path = folder.path().join(name);
            _ = rustix::fs::mknodat(
                CWD,
                &path,
                FileType::CharacterDevice,
                mode,
                rustix::fs::makedev(major, minor),
            );
        }
        let tree = tree(folder.path());
        let below = tree.folder(b"/").unwrap();
        for name in ["fifo", "socket", "folder", "zero", "tty", "missing"] {
            assert!(tree.read(format!("/{name}").as_bytes(), 99).is_err(), "{name}");
            assert!(below.read(name.as_bytes(), 99).is_err(), "{name}");
            assert!(open_regular(&folder.path().join(name)).is_err(), "{name}");
        }
    }

    /// Make sure that what is no local file system is not crossed into, and what another process sees is not guessed.
    #[test]
    fn other_mounts() {
        let own = namespace("self");
        let root = Tree::of(std::process::id(), own).unwrap();
        let denied = root.file(b"/proc/self/status", LastLink::Follow).unwrap_err();
        assert_eq!(denied.kind(), io::ErrorKind::Unsupported);
        assert_eq!(root.cwd, std::env::current_dir().unwrap());
        // One that is gone has left our own namespace only.
        assert!(Tree::of(0, own).is_some());
        for (pid, mnt_ns) in [(0, 0), (0, own + 1), (std::process::id(), own + 1)] {
            assert!(Tree::of(pid, mnt_ns).is_none());
        }
    }

    /// Make sure that below a folder only what lies in the same mount is read, and no link is followed.
    #[test]
    fn folders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("in/side")).unwrap();
        fs::write(folder.path().join("in/side/file"), "x").unwrap();
        symlink("side", folder.path().join("in/link")).unwrap();
        symlink("file", folder.path().join("in/side/link")).unwrap();
        let inside = tree(folder.path()).folder(b"/in").unwrap();
        assert_eq!(inside.read(b"side/file", 1).unwrap(), b"x");
        for path in ["link/file", "side/link", "../in/../../x", "/etc/hostname", "side"] {
            assert!(inside.read(path.as_bytes(), 99).is_err(), "{path}");
        }
        let mut names: Vec<Vec<u8>> = inside.names().unwrap().collect();
        names.sort();
        assert_eq!(names, [&b"."[..], b"..", b"link", b"side"]);
    }
}

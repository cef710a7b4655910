//! A file that gets its final name only when it is complete.
//!
//! Until then it is `NAME.partial`, locked with `flock` as long as its writer lives: a locked one belongs to another
//! phasegraph, one that is not is what a killed phasegraph left, worth keeping. The lock goes with the process, so
//! nothing has to be cleaned up after a SIGKILL.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, flock, fstat, ftruncate, linkat,
    openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::WriteError;
use super::folder;

/// For this user only: a recording holds the arguments and paths of every profiled process.
const MODE: Mode = Mode::from_raw_mode(0o600);

/// How often another phasegraph may come between before it counts as busy.
const TRIES: usize = 8;

/// Numbers tried for a leftover that is moved aside.
const MOST_LEFTOVERS: usize = 1000;

/// The file in the making.
#[derive(Debug)]
pub(super) struct Output {
    folder: OwnedFd,
    file: File,
    /// As the user gave it.
    path: PathBuf,
    name: OsString,
    partial: OsString,
    overwrite: bool,
    /// Bytes that are whole in the file.
    len: u64,
    stopped: bool,
}

impl Output {
    /// Makes `PATH.partial`, and tells in words what it did to leftovers.
    pub(super) fn create(path: &Path, overwrite: bool) -> Result<(Output, Vec<String>), WriteError> {
        if path == Path::new("-") {
            return Err(WriteError::StandardOutput);
        }
        let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let Some(name) = path.file_name().filter(|_| !ends_in_slash) else {
            return Err(WriteError::NoName { path: path.to_owned() });
        };
        let folder = folder::open(path.parent().unwrap_or(Path::new("")))?;
        refuse_existing(&folder, name, path, overwrite)?;
        let partial = with_suffix(name, ".partial");
        let mut notes = Vec::new();
        let file = create_locked(&folder, &partial, path, &mut notes)?;
        let output = Output {
            folder,
            file,
            path: path.to_owned(),
            name: name.to_owned(),
            partial,
            overwrite,
            len: 0,
            stopped: false,
        };
        fchmod(&output.file, MODE).map_err(|error| WriteError::io("set the mode of", &output.partial_path(), error))?;
        Ok((output, notes))
    }

    /// Where it is until it is complete.
    pub(super) fn partial_path(&self) -> PathBuf {
        self.path.with_file_name(&self.partial)
    }

    /// Where it will be.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Appends all of `bytes`, or nothing: a part that made it to the file is cut off again, and every later call
    /// fails.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if self.stopped {
            return Err(WriteError::StoppedBefore {
                path: self.partial_path(),
            });
        }
        if let Err(error) = self.file.write_all(bytes) {
            self.stopped = true;
            // Where even this fails, a reader finds the torn block by its checksum.
            let _ = ftruncate(&self.file, self.len);
            return Err(WriteError::Stopped {
                path: self.partial_path(),
                whole: self.len,
                error,
            });
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its final name, once it is safe on the disk.
    pub(super) fn publish(&mut self) -> Result<(), WriteError> {
        if self.stopped {
            return Err(WriteError::StoppedBefore {
                path: self.partial_path(),
            });
        }
        self.file
            .sync_all()
            .map_err(|error| WriteError::io("bring to the disk all of", &self.partial_path(), error))?;
        if !self.is_ours() {
            return Err(WriteError::Moved {
                path: self.partial_path(),
            });
        }
        if self.overwrite {
            refuse_existing(&self.folder, &self.name, &self.path, true)?;
            renameat(&self.folder, &self.partial, &self.folder, &self.name)
        } else {
            rename_no_replace(&self.folder, &self.partial, &self.name)
        }
        .map_err(|error| match error {
            Errno::EXIST => WriteError::Taken {
                path: self.path.clone(),
                kept: self.partial_path(),
            },
            error => WriteError::io("rename to its final name", &self.partial_path(), error),
        })?;
        // The data is on the disk; whether the name already is only matters to a power cut in the next seconds.
        if let Ok(folder) = openat(&self.folder, c".", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            let _ = rustix::fs::fsync(folder);
        }
        Ok(())
    }

    /// Removes the unfinished file.
    pub(super) fn remove(&mut self) {
        if self.is_ours() {
            // Nothing hangs on it: an empty leftover is removed by the next run of that name.
            let _ = unlinkat(&self.folder, &self.partial, AtFlags::empty());
        }
    }

    fn is_ours(&self) -> bool {
        fstat(&self.file).is_ok_and(|file| is_named(&self.folder, &self.partial, &file))
    }

    /// An output onto any file, to try what errors do.
    #[cfg(test)]
    pub(super) fn onto(file: File, path: &Path) -> Output {
        Output {
            folder: folder::open(path.parent().unwrap()).unwrap(),
            file,
            path: path.to_owned(),
            name: path.file_name().unwrap().to_owned(),
            partial: with_suffix(path.file_name().unwrap(), ".partial"),
            overwrite: false,
            len: 0,
            stopped: false,
        }
    }
}

fn with_suffix(name: &OsStr, suffix: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(suffix);
    name
}

/// Whether `name` in `folder` is the file of `stat`.
fn is_named(folder: &OwnedFd, name: &OsStr, stat: &Stat) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|named| (named.st_dev, named.st_ino) == (stat.st_dev, stat.st_ino))
}

/// A final name that is taken is refused; one to be overwritten must be a plain file, lest a device, a link or a
/// folder is replaced.
fn refuse_existing(folder: &OwnedFd, name: &OsStr, path: &Path, overwrite: bool) -> Result<(), WriteError> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(WriteError::io("look at", path, error)),
        Ok(_) if !overwrite => Err(WriteError::Exists { path: path.to_owned() }),
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Ok(()),
        Ok(_) => Err(WriteError::NotPlain { path: path.to_owned() }),
    }
}

/// Makes `partial` anew and locks it. A leftover nobody writes to is moved aside, or removed when it is empty.
fn create_locked(folder: &OwnedFd, partial: &OsStr, path: &Path, notes: &mut Vec<String>) -> Result<File, WriteError> {
    let partial_path = path.with_file_name(partial);
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match openat(folder, partial, flags, MODE) {
            // Between its birth and its lock another phasegraph may have taken it for a leftover: then the lock
            // fails or the name is gone, and the next try sees what the other did.
            Ok(file) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {}
                // A file system without locks: two phasegraphs of one name meet at EXCL all the same.
                Err(_) => return Ok(file.into()),
                Ok(()) if fstat(&file).is_ok_and(|stat| is_named(folder, partial, &stat)) => return Ok(file.into()),
                Ok(()) => {}
            },
            Err(Errno::EXIST) => put_aside(folder, partial, &partial_path, notes)?,
            Err(error) => return Err(WriteError::io("create", &partial_path, error)),
        }
    }
    Err(WriteError::Busy { path: partial_path })
}

/// Makes the name `partial` free, if nobody writes to it.
fn put_aside(folder: &OwnedFd, partial: &OsStr, path: &Path, notes: &mut Vec<String>) -> Result<(), WriteError> {
    let failed = |error: Errno| WriteError::io("move aside", path, error);
    // NONBLOCK, lest a FIFO of that name holds us up.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let leftover = match openat(folder, partial, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::LOOP) => return Err(WriteError::NotPlain { path: path.to_owned() }),
        Err(error) => return Err(failed(error)),
    };
    let stat = fstat(&leftover).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(WriteError::NotPlain { path: path.to_owned() });
    }
    // Held until the name is free; whoever comes meanwhile is told that it is busy.
    match flock(&leftover, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Err(WriteError::Busy { path: path.to_owned() }),
        Err(error) => return Err(failed(error)),
    }
    if !is_named(folder, partial, &stat) {
        return Ok(());
    }
    if stat.st_size == 0 {
        return unlinkat(folder, partial, AtFlags::empty()).map_err(failed);
    }
    for number in 1..=MOST_LEFTOVERS {
        let aside = with_suffix(partial, &format!(".{number}"));
        match rename_no_replace(folder, partial, &aside) {
            Ok(()) => {
                let aside = path.with_file_name(aside);
                notes.push(format!(
                    "{} of a recording that was cut off is kept as {}",
                    path.display(),
                    aside.display()
                ));
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(Errno::EXIST))
}

/// Renames within `folder` unless `to` is taken (`EXIST`).
fn rename_no_replace(folder: &OwnedFd, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag (NFS, some FUSE ones): a hard link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            linkat(folder, from, folder, to, AtFlags::empty())?;
            unlinkat(folder, from, AtFlags::empty())
        }
        done => done,
    }
}

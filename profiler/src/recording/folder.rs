//! Opens the folder that a recording goes to, without being led astray by other users' symbolic links.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat};
use rustix::io::Errno;

use super::error::WriteError;

/// The kernel's own limit on the links in one path (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Opens `folder` (the current one when empty), part by part.
///
/// A symbolic link in a folder that anyone may write to is followed only when it belongs to this user or to the
/// folder's owner. That is the kernel's rule under `fs.protected_symlinks`
/// (<https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-symlinks>), applied here where that is off or the
/// folder has no sticky bit as well.
pub(super) fn open(folder: &Path) -> Result<OwnedFd, WriteError> {
    let failed = |error: Errno| WriteError::io("open the folder", folder, error);
    let mut parts: VecDeque<OsString> = parts_of(folder).collect();
    let mut walked = PathBuf::new();
    let mut here = open_part(CWD, OsStr::new(".")).map_err(failed)?;
    let mut links = 0;
    while let Some(part) = parts.pop_front() {
        let next = open_part(&here, &part).map_err(failed)?;
        let stat = fstat(&next).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            here = next;
            walked.push(part);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(failed(Errno::LOOP));
        }
        if !may_follow(&fstat(&here).map_err(failed)?, &stat) {
            return Err(WriteError::Symlink {
                path: folder.to_owned(),
                link: walked.join(part),
            });
        }
        let target = readlinkat(&next, c"", Vec::new()).map_err(failed)?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        for part in parts_of(&target).collect::<Vec<_>>().into_iter().rev() {
            parts.push_front(part);
        }
    }
    if FileType::from_raw_mode(fstat(&here).map_err(failed)?.st_mode) != FileType::Directory {
        return Err(failed(Errno::NOTDIR));
    }
    Ok(here)
}

/// An absolute path's first part is `/`, which `openat` takes from wherever it is.
fn parts_of(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::CurDir => None,
        part => Some(part.as_os_str().to_owned()),
    })
}

fn open_part(folder: impl std::os::fd::AsFd, part: &OsStr) -> Result<OwnedFd, Errno> {
    openat(
        folder,
        part,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

fn may_follow(folder: &Stat, link: &Stat) -> bool {
    let anyone_writes = folder.st_mode & 0o002 != 0;
    !anyone_writes || link.st_uid == rustix::process::geteuid().as_raw() || link.st_uid == folder.st_uid
}

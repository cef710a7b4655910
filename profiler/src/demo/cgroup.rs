//! The container's cgroup, where the host has a version 2 hierarchy that can be written to.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::{At as _, Error};

/// Folder of the container's cgroup; `None` on a host without a cgroup2 mount.
pub(super) fn folder(container: &str) -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    let mount = mounts.into_iter().find(|mount| mount.fs_type == "cgroup2")?;
    Some(mount.mount_point.join(container))
}

/// Makes the cgroup. `None` where there is no place for it: the container then runs in its parent's.
pub(super) fn make(container: &str) -> Result<Option<PathBuf>, Error> {
    let Some(folder) = folder(container) else {
        return Ok(None);
    };
    match fs::create_dir(&folder) {
        Ok(()) => Ok(Some(folder)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).at(|| folder.display().to_string()),
    }
}

/// Moves this process into the cgroup.
pub(super) fn join(folder: &Path) -> Result<(), Error> {
    let procs = folder.join("cgroup.procs");
    fs::write(&procs, "0").at(|| procs.display().to_string())
}

/// Removes the container's cgroup, if there is one. Its processes have ended, but may not all be buried.
pub(super) fn remove(container: &str) -> Result<(), Error> {
    let Some(folder) = folder(container) else {
        return Ok(());
    };
    for _ in 0..200 {
        match fs::remove_dir(&folder) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(Duration::from_millis(5)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => return result.at(|| folder.display().to_string()),
        }
    }
    Err(Error::stage(
        "delete",
        format!("{} still has processes", folder.display()),
    ))
}

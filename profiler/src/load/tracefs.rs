//! Ids of classic tracepoints, from tracefs, mounted or not.

use std::{
    ffi::CStr,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

/// Where distributions mount it.
const MOUNTED: [&CStr; 2] = [c"/sys/kernel/tracing", c"/sys/kernel/debug/tracing"];

/// A folder with `events/` in it.
#[derive(Debug)]
pub struct Tracefs {
    root: OwnedFd,
}

impl Tracefs {
    /// Opens the one at `path`, or without a path as [`Tracefs::open`].
    pub fn open_at(path: Option<&Path>) -> io::Result<Tracefs> {
        let Some(path) = path else {
            return Tracefs::open();
        };
        let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
        let root = open(libc::AT_FDCWD, &path, libc::O_DIRECTORY | libc::O_PATH)?;
        Ok(Tracefs { root })
    }

    /// Opens the mounted one, or makes an instance of its own that is mounted nowhere (Linux 5.2 and later), so that
    /// nothing of the host changes.
    pub fn open() -> io::Result<Tracefs> {
        for path in MOUNTED {
            if let Ok(root) = open(libc::AT_FDCWD, path, libc::O_DIRECTORY | libc::O_PATH) {
                let tracefs = Tracefs { root };
                if open(tracefs.root.as_raw_fd(), c"events/sched", libc::O_PATH).is_ok() {
                    return Ok(tracefs);
                }
            }
        }
        Ok(Tracefs { root: detached()? })
    }

    /// Id of `category:name`, as perf_event_open wants it.
    pub fn id(&self, category: &str, name: &str) -> io::Result<u64> {
        let path = std::ffi::CString::new(format!("events/{category}/{name}/id"))?;
        let mut file = std::fs::File::from(open(self.root.as_raw_fd(), &path, libc::O_RDONLY)?);
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        text.trim()
            .parse()
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
    }
}

fn open(folder: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: a NUL-terminated path; the result is checked.
    owned(unsafe { libc::openat(folder, path.as_ptr(), flags | libc::O_CLOEXEC) }.into())
}

fn owned(result: i64) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just made and that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

fn detached() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: plain system calls on descriptors owned here, with NUL-terminated or null strings.
    unsafe {
        let context = owned(libc::syscall(libc::SYS_fsopen, c"tracefs".as_ptr(), FSOPEN_CLOEXEC))?;
        let null = std::ptr::null::<u8>();
        if libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            FSCONFIG_CMD_CREATE,
            null,
            null,
            0,
        ) < 0
        {
            return Err(io::Error::last_os_error());
        }
        owned(libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            0,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that an instance mounted nowhere gives the ids that a mounted one would.
    #[test]
    fn detached_instance() {
        let root = match detached() {
            Ok(root) => root,
            Err(why) => {
                eprintln!("skipped: not root, or no tracefs: {why}");
                return;
            }
        };
        let id = Tracefs { root }.id("syscalls", "sys_enter_mount").unwrap();
        assert!(id > 0);
        if let Ok(mounted) = std::fs::read_to_string("/sys/kernel/tracing/events/syscalls/sys_enter_mount/id") {
            assert_eq!(mounted.trim().parse::<u64>().unwrap(), id);
        }
    }
}

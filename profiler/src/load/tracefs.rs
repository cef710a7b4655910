//! Ids of classic tracepoints, from tracefs, mounted or not.

use std::{
    ffi::CStr,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use crate::kernel::pseudo::{self, open};

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
        Ok(Tracefs {
            root: pseudo::detached(c"tracefs")?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that an instance mounted nowhere gives the ids that a mounted one would.
    #[test]
    fn detached_instance() {
        let root = match pseudo::detached(c"tracefs") {
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

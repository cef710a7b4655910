//! Reading below a root, bounded and without surprises.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// Largest state file that is read: podman's list of 10,000 containers.
pub const MAX_BYTES: u64 = 8 << 20;

/// The root directory that paths are looked up in.
pub struct Root(OwnedFd);

impl Root {
    /// `/`, or `/proc/PID/root`.
    ///
    /// # Errors
    ///
    /// It can't be opened: the process is gone.
    pub fn open(path: &Path) -> io::Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(openat(CWD, path, flags, Mode::empty())?))
    }

    /// A regular file, whole. Links on the way stay below the root, the last part is none.
    ///
    /// # Errors
    ///
    /// It is not there, is something else than a regular file, or has more than [`MAX_BYTES`].
    pub fn read(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(&self.0, path, flags, Mode::empty(), resolve)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too large"));
        }
        Ok(bytes)
    }
}

//! Pseudo file systems of the kernel (tracefs, securityfs), mounted or not.

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

/// Opens `path` below an open folder, closed by an exec.
pub fn open(folder: i32, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
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

/// An instance of a file system without a device that is mounted nowhere (Linux 5.2 and later): nothing of the host
/// changes, and it is gone with the descriptor. Needs `CAP_SYS_ADMIN`.
pub fn detached(kind: &CStr) -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: plain system calls on descriptors owned here, with NUL-terminated or null strings.
    unsafe {
        let context = owned(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC))?;
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

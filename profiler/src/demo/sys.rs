//! The system calls that a container is made of, with errors that say what failed.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Result of a system call by its return value.
fn check(value: libc::c_int) -> io::Result<libc::c_int> {
    if value < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(value)
    }
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a NUL in a path"))
}

fn c_path(path: &Path) -> io::Result<CString> {
    c_string(path.as_os_str().as_bytes())
}

/// `mount(2)`; empty `fstype` and `data` are passed as null pointers.
pub(super) fn mount(source: &Path, target: &Path, fstype: &str, flags: libc::c_ulong, data: &[u8]) -> io::Result<()> {
    let (source, target) = (c_path(source)?, c_path(target)?);
    let (fstype, data) = (c_string(fstype.as_bytes())?, c_string(data)?);
    let or_null = |text: &CString| {
        if text.is_empty() {
            std::ptr::null()
        } else {
            text.as_ptr()
        }
    };
    // SAFETY: all pointers are NUL-terminated strings that outlive the call, or null where the kernel allows it.
    check(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            or_null(&fstype),
            flags,
            or_null(&data).cast(),
        )
    })?;
    Ok(())
}

/// Takes this process's mounts out of the propagation to and from the host's.
pub(super) fn private_mounts() -> io::Result<()> {
    mount(
        Path::new("none"),
        Path::new("/"),
        "",
        libc::MS_REC | libc::MS_PRIVATE,
        b"",
    )
}

/// `umount2(2)`
pub(super) fn umount(target: &Path, flags: libc::c_int) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: a NUL-terminated string that outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), flags) })?;
    Ok(())
}

/// `unshare(2)`
pub(super) fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no pointers; callers are single-threaded.
    check(unsafe { libc::unshare(flags) })?;
    Ok(())
}

/// Makes the working directory the root and drops the old one: `pivot_root(".", ".")`, as in pivot_root(2)'s notes.
pub(super) fn pivot_root_here() -> io::Result<()> {
    let here = c".".as_ptr();
    // SAFETY: NUL-terminated strings.
    let done = unsafe { libc::syscall(libc::SYS_pivot_root, here, here) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    umount(Path::new("."), libc::MNT_DETACH)
}

/// `sethostname(2)`
pub(super) fn sethostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length of one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Makes this process the parent of orphans below it, as conmon and containerd's shim do.
pub(super) fn adopt_orphans() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    Ok(())
}

/// Has the kernel kill this process when its parent ends; survives exec.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) })?;
    Ok(())
}

/// `kill(2)` with SIGKILL.
pub(super) fn kill(pid: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::kill(pid, libc::SIGKILL) })?;
    Ok(())
}

/// A child of this process that has ended, or `None` when none has yet.
///
/// # Errors
///
/// `ECHILD` when there are no children.
pub(super) fn reap() -> io::Result<Option<(i32, i32)>> {
    let mut status = 0;
    // SAFETY: a valid place for the status.
    let pid = check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) })?;
    Ok((pid > 0).then_some((pid, status)))
}

/// Signals that this process waits for instead of being interrupted by.
pub(super) struct Signals(libc::sigset_t);

impl Signals {
    /// Blocks SIGINT, SIGTERM, SIGHUP and SIGCHLD. The standard library unblocks them in commands that it starts.
    pub(super) fn block() -> io::Result<Signals> {
        // SAFETY: sigemptyset initializes the set before it is used; the pointers are to it.
        unsafe {
            let mut set = std::mem::zeroed();
            check(libc::sigemptyset(&raw mut set))?;
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGCHLD] {
                check(libc::sigaddset(&raw mut set, signal))?;
            }
            check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
            Ok(Signals(set))
        }
    }

    /// The next of them; `None` when `timeout_ms` has passed.
    pub(super) fn wait(&self, timeout_ms: u32) -> io::Result<Option<i32>> {
        let timeout = libc::timespec {
            tv_sec: i64::from(timeout_ms / 1000),
            tv_nsec: i64::from(timeout_ms % 1000) * 1_000_000,
        };
        // SAFETY: pointers to values that outlive the call; no information is asked for.
        match check(unsafe { libc::sigtimedwait(&raw const self.0, std::ptr::null_mut(), &raw const timeout) }) {
            Ok(signal) => Ok(Some(signal)),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Drops the file's clean pages from the page cache.
pub(super) fn drop_cache(file: &impl AsRawFd) -> io::Result<()> {
    // SAFETY: no pointers.
    let error = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

/// How many bytes of the file are in the page cache.
pub(super) fn cached_bytes(file: &std::fs::File) -> io::Result<u64> {
    let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    if length == 0 {
        return Ok(0);
    }
    // SAFETY: a constant of the system.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
    let mut pages = vec![0u8; length.div_ceil(page)];
    // SAFETY: a new read-only mapping of the whole file, which is not read and is unmapped below; `pages` has a byte
    // for each of its pages.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        if map == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let result = check(libc::mincore(map, length, pages.as_mut_ptr()));
        check(libc::munmap(map, length))?;
        result?;
    }
    let resident = pages.iter().filter(|page| **page & 1 != 0).count();
    Ok((resident * page) as u64)
}

/// ns of one of the system's clocks.
fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid place for the time; the two clocks below exist on every Linux, so the call can't fail.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// `CLOCK_MONOTONIC`, ns: the clock of the kernel's events.
pub(super) fn monotonic() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// Time that this thread has been on a CPU, ns.
pub(super) fn thread_cpu() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Path names of this program's shared libraries and loader, as the loader opened them.
pub(super) fn loaded_libraries() -> Vec<std::path::PathBuf> {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _size: usize, data: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the loader passes valid information, and `data` is the vector given below, which nothing else uses
        // meanwhile.
        unsafe {
            let names = &mut *data.cast::<Vec<std::path::PathBuf>>();
            if !(*info).dlpi_name.is_null() {
                let name = std::ffi::CStr::from_ptr((*info).dlpi_name).to_bytes();
                // The program itself has an empty name, the kernel's vDSO one without a folder.
                if name.starts_with(b"/") {
                    names.push(std::ffi::OsStr::from_bytes(name).into());
                }
            }
        }
        0
    }
    let mut names: Vec<std::path::PathBuf> = Vec::new();
    // SAFETY: the callback's type is the one asked for, and the vector outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(each), (&raw mut names).cast()) };
    names
}

//! Root's privileges: what is needed to begin, and what is given up once everything is attached.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::Error;

/// Inode number of the host's pid namespace: `PROC_PID_INIT_INO` of include/linux/proc_ns.h, the same since 3.8.
const HOST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether this process sees the host's process numbers, which are those that the kernel's programs tell.
pub fn in_host_pid_namespace() -> io::Result<bool> {
    Ok(std::fs::metadata("/proc/self/ns/pid")?.ino() == HOST_PID_NAMESPACE)
}

/// Says what is missing before the kernel refuses with a bare EPERM.
pub(super) fn check() -> Result<(), Error> {
    let at_home = in_host_pid_namespace().map_err(|error| Error::System {
        what: "/proc can't be read (is it mounted?)",
        error,
    })?;
    if !at_home {
        return Err(Error::PidNamespace);
    }
    let sets = rustix::thread::capabilities(None).map_err(|error| Error::System {
        what: "this process's capabilities can't be read",
        error: error.into(),
    })?;
    if sets.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(());
    }
    let uid = rustix::process::geteuid();
    Err(Error::Privilege(if uid.is_root() {
        "this root lacks CAP_SYS_ADMIN (a container or a user namespace?); run it on the host, or in a container with \
         --privileged --pid=host"
            .to_owned()
    } else {
        format!(
            "it loads eBPF programs, and user {} may not (CAP_SYS_ADMIN is missing)",
            uid.as_raw()
        )
    }))
}

/// What recording goes on to need: reading the program's own maps and running its iterators (`BPF`, `PERFMON`), reading
/// mapped files whoever owns them and by their handles (`DAC_READ_SEARCH`), `/proc` of other users' processes
/// (`SYS_PTRACE`), passing signals on to a command that runs as another user (`KILL`), and giving the recording its
/// name in a folder of another owner (`DAC_OVERRIDE`).
const NEEDED_ON: CapabilitySet = CapabilitySet::BPF
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::KILL);

/// Gives up every other privilege, for good: an error in reading what a traced process made shall not reach further.
/// Only of the calling thread, which is the only one by then.
pub(super) fn drop_unneeded() -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    let kept = now.permitted & NEEDED_ON;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

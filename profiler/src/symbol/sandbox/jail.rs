//! What the parser gives up before it reads its first file.

use std::collections::BTreeMap;
use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Largest answer file, bytes.
const MAX_WRITTEN: u64 = 128 << 20;
/// Most open files: the socket, three for nothing, those of one request and of its answer.
const MAX_OPEN: u64 = 16;
/// User and group without rights, as the kernel's overflow ids.
const NOBODY: u32 = 65_534;

/// Gives up everything; the answer names what could not be (an old or a restricted kernel): the rest holds.
pub(super) fn enter(memory_bytes: u64) -> Vec<String> {
    let mut kept = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            kept.push(format!("{what}: {error}"));
        }
    };
    note("open files", close_others());
    note("working directory", std::env::set_current_dir("/"));
    // SAFETY: no memory is passed. What comes late costs copies of stacks, not time: the workload goes first.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
    note("core dumps", undumpable());
    for (name, resource, limit) in [
        ("memory limit", Resource::As, memory_bytes),
        ("limit of written files", Resource::Fsize, MAX_WRITTEN),
        ("limit of open files", Resource::Nofile, MAX_OPEN),
        ("limit of core dumps", Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(limit),
            maximum: Some(limit),
        };
        note(name, setrlimit(resource, limit).map_err(Into::into));
    }
    // A parser that takes a dead one's place is started when the profiler has given up this right itself: it is a root
    // without capabilities, which the refused system calls keep from root's files.
    let may = rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETUID));
    if may {
        note("user", become_nobody());
    }
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    note("capabilities", set_capabilities(None, none).map_err(Into::into));
    note(
        "new privileges",
        rustix::thread::set_no_new_privs(true).map_err(Into::into),
    );
    note("system calls", refuse_system_calls());
    kept
}

fn close_others() -> io::Result<()> {
    // SAFETY: nothing in this process owns a descriptor above the three standard ones yet.
    match unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) } {
        0 => Ok(()),
        // Kernels before 5.9; what the profiler opens is closed by exec anyway.
        _ => Err(io::Error::last_os_error()),
    }
}

fn undumpable() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(Into::into)
}

fn become_nobody() -> io::Result<()> {
    use rustix::fs::{Gid, Uid};
    rustix::thread::set_thread_groups(&[])?;
    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// Everything but reading what is open, answering, and memory kills the process.
fn refuse_system_calls() -> io::Result<()> {
    let filter = rules().map_err(io::Error::other)?;
    seccompiler::apply_filter(&filter).map_err(io::Error::other)
}

fn rules() -> Result<BpfProgram, seccompiler::BackendError> {
    let condition =
        |argument, operator, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = [
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_lseek,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_fstat,
        libc::SYS_recvmsg,
        libc::SYS_sendmsg,
        libc::SYS_memfd_create,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_setitimer,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]
    .into_iter()
    .map(|call| (call, Vec::new()))
    .collect();
    // Memory never becomes code.
    let data_only = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![SeccompRule::new(vec![condition(2, data_only.clone(), 0)?])?]);
    }
    // Before it closes a file, Rust's library asserts in debug builds that it is open.
    let whether_open = condition(1, SeccompCmpOp::Eq, libc::F_GETFD as u64)?;
    rules.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![whether_open])?]);
    // abort(), which is what running out of memory comes to.
    let own = u64::from(std::process::id());
    let to_itself = SeccompRule::new(vec![condition(0, SeccompCmpOp::Eq, own)?])?;
    rules.insert(libc::SYS_tgkill, vec![to_itself]);
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}

//! Birth, exec and end of tasks.

use crate::{Header, layout};

/// Length of `task_struct.comm`.
pub const COMM_LEN: usize = 16;
/// Longest file name kept of an exec, with its NUL.
pub const FILENAME_LEN: usize = 256;
/// Longest argument vector kept, bytes with the NULs between.
pub const ARGV_LEN: usize = 4096;

/// A new task; the header is the child's. From `task_newtask`, which carries the clone flags and comes after the
/// child has its cgroup (`CLONE_INTO_CGROUP` raises no `cgroup_attach_task`).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Fork {
    pub header: Header,
    pub parent_start: u64,
    pub clone_flags: u64,
    pub parent_tgid: u32,
    pub parent_tid: u32,
    /// Inode number of the child's pid namespace.
    pub pid_ns: u32,
    /// Its tid in that namespace: 1 is a namespace's init.
    pub ns_tid: u32,
    pub comm: [u8; COMM_LEN],
}
layout!(
    Fork,
    size = 88,
    header = 0,
    parent_start = 40,
    clone_flags = 48,
    parent_tgid = 56,
    pid_ns = 64,
    comm = 72
);

/// A successful exec. Followed by `filename_len` bytes and then `argv_len` bytes (arguments parted by NUL).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exec {
    pub header: Header,
    /// Inode number of the new program's file.
    pub exe_ino: u64,
    /// `s_dev` of its superblock (`major << 20 | minor`).
    pub exe_dev: u32,
    /// The tid that the thread had before: a thread that is no leader takes the leader's id in exec.
    pub old_tid: u32,
    pub pid_ns: u32,
    pub ns_tid: u32,
    pub comm: [u8; COMM_LEN],
    pub filename_len: u16,
    pub argv_len: u16,
    /// Full length of the arguments in the process, bytes.
    pub argv_full: u32,
}
layout!(
    Exec,
    size = 88,
    header = 0,
    exe_ino = 40,
    exe_dev = 48,
    old_tid = 52,
    pid_ns = 56,
    ns_tid = 60,
    comm = 64,
    filename_len = 80,
    argv_len = 82,
    argv_full = 84,
);

/// The kernel's own account of a thread, at its last switch-out, when it is whole: an independent witness of the sum
/// of its cycles. (At `sched_process_exit` the time since its last switch-in is not in it yet.) The kernel leaves out
/// time stolen by the hypervisor and, where it accounts them apart, interrupts.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    pub header: Header,
    /// `se.sum_exec_runtime`: time on CPUs, ns.
    pub sum_exec_runtime: u64,
}
layout!(Account, size = 48, header = 0, sum_exec_runtime = 40);

/// A thread's end, at `sched_process_exit`; its last time on the CPU goes on to its [`crate::sched::flag::END`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Exit {
    pub header: Header,
    /// User and system time as the kernel accounts them (by ticks on most kernels), ns.
    pub utime: u64,
    pub stime: u64,
    /// As `wait()` gives it: `exit status << 8 | signal`.
    pub exit_code: i32,
    /// 1 when this was the last thread of its process; 2 when the kernel did not tell.
    pub group_dead: u32,
}
layout!(
    Exit,
    size = 64,
    header = 0,
    utime = 40,
    stime = 48,
    exit_code = 56,
    group_dead = 60
);

/// A task that was there before the recording began and is profiled from now on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Adopt {
    pub header: Header,
    pub parent_tgid: u32,
    pub parent_tid: u32,
    pub pid_ns: u32,
    pub ns_tid: u32,
    /// Kernel's state word then; 0 is on a CPU or in a run queue.
    pub state: u32,
    /// 1 when it was on a CPU.
    pub on_cpu: u32,
    pub comm: [u8; COMM_LEN],
}
layout!(
    Adopt,
    size = 80,
    header = 0,
    parent_tgid = 40,
    pid_ns = 48,
    state = 56,
    comm = 64
);

/// What user space writes into the `TRACK_TGID` map before it runs the adopting iterator, and into `TRACK_COMM` for
/// programs that are profiled.
pub const TRACK: u32 = 1;

/// In the `TRACK_COMM` map: the program's exec is told, and it is not profiled.
pub const TELL: u32 = 2;

/// Key in the `TRACK_TGID` map that stands for every process that is not the profiler's own or a thread of the kernel.
/// No process has the id 0.
pub const EVERYONE: u32 = 0;

//! Cgroups, mounts and namespaces: the signals that a container's life is read from.

use crate::{Header, layout};

/// Longest cgroup path kept.
pub const CGROUP_PATH_LEN: usize = 1024;
/// Longest source, target or host name kept of a system call.
pub const PATH_LEN: usize = 512;
/// Longest file system type kept.
pub const FSTYPE_LEN: usize = 32;
/// Longest mount data kept: the kernel takes one page.
pub const DATA_LEN: usize = 4096;

/// [`Cgroup::op`].
pub mod cgroup_op {
    pub const MKDIR: u32 = 1;
    pub const RMDIR: u32 = 2;
    pub const RELEASE: u32 = 3;
    /// `task_*` name the task that was moved, the header the one that moved it.
    pub const ATTACH: u32 = 4;
    /// `populated` tells which way.
    pub const POPULATED: u32 = 5;
}

/// Something happened to a cgroup. Followed by `path_len` bytes of its path within its hierarchy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cgroup {
    pub header: Header,
    /// Id of the cgroup that this is about.
    pub id: u64,
    pub task_start: u64,
    pub task_tgid: u32,
    pub task_tid: u32,
    /// [`cgroup_op`].
    pub op: u32,
    /// Hierarchy id: 0 is the default (version 2) one.
    pub hierarchy: u32,
    pub populated: u32,
    pub level: u32,
    pub path_len: u32,
    pub pad: u32,
}
layout!(
    Cgroup,
    size = 88,
    header = 0,
    id = 40,
    task_start = 48,
    task_tgid = 56,
    op = 64,
    hierarchy = 68,
    path_len = 80
);

/// [`Syscall::call`]. Own numbers, so that they are the same on every architecture.
pub mod call {
    /// a: source, b: target, c: file system type, d: options; `args[0]`: flags
    pub const MOUNT: u32 = 1;
    /// b: target; `args[0]`: flags
    pub const UMOUNT: u32 = 2;
    /// a: new root, b: put-old
    pub const PIVOT_ROOT: u32 = 3;
    /// `args[0]`: flags
    pub const UNSHARE: u32 = 4;
    /// `args[0]`: fd, `args[1]`: type
    pub const SETNS: u32 = 5;
    /// a: name
    pub const SETHOSTNAME: u32 = 6;
    /// a: from path, b: to path; `args[0]`: from fd, `args[1]`: to fd
    pub const MOVE_MOUNT: u32 = 7;
    /// c: file system type; the result is the context's fd
    pub const FSOPEN: u32 = 8;
    /// a: value, c: key; `args[0]`: fd, `args[1]`: command
    pub const FSCONFIG: u32 = 9;
    /// `args[0]`: context's fd; the result is the mount's fd
    pub const FSMOUNT: u32 = 10;
    /// a: from path, b: to path; of engines only
    pub const RENAME: u32 = 11;
    /// a: the file's name in its folder; `args[0]`: fd; of engines only
    pub const SYNC: u32 = 12;

    /// Whether it is told of engines' own processes only: what workloads do often.
    #[inline(always)]
    pub const fn of_engines(call: u32) -> bool {
        matches!(call, RENAME | SYNC)
    }
    /// Told as [`crate::listen::Listen`] instead of [`super::Syscall`]. `args[0]`: fd
    pub const LISTEN: u32 = 16;
}

/// A system call that changes mounts or namespaces, at its end.
///
/// Followed by the strings `a`, `b`, `c`, `d` of the lengths given, without NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Syscall {
    pub header: Header,
    /// When it began; 0 when that was not seen.
    pub enter: u64,
    pub result: i64,
    pub args: [u64; 2],
    /// [`call`].
    pub call: u32,
    pub a_len: u16,
    pub b_len: u16,
    pub c_len: u16,
    pub d_len: u16,
    pub pad: u32,
}
layout!(
    Syscall,
    size = 88,
    header = 0,
    enter = 40,
    result = 48,
    args = 56,
    call = 72,
    a_len = 76,
    d_len = 82
);

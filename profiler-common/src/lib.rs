//! The contract between phasegraph's kernel half and its user half.
//!
//! Every type here crosses the boundary as bytes: `repr(C)`, integers and arrays only, explicit padding, and a
//! layout that is asserted at compile time on both sides. Ids are permanent: retired, never reused.
//!
//! All times are nanoseconds of `CLOCK_MONOTONIC`, as `bpf_ktime_get_ns()` gives them.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod awaited;
pub mod container;
pub mod control;
pub mod counter;
pub mod cpu;
pub mod disk;
pub mod kernel;
pub mod listen;
pub mod memory;
pub mod net;
pub mod preempt;
pub mod sched;
pub mod task;
pub mod unwind;

pub use counter::Counter;

/// Version of this contract. Raised with every change of a layout or a meaning; the checked-in eBPF object carries
/// it in its manifest and in the `CONTRACT` global, and a mismatch refuses to load.
pub const CONTRACT_VERSION: u32 = 5;

/// Asserts size and field offsets of a shared type at compile time.
#[macro_export]
macro_rules! layout {
    ($ty:ty, size = $size:expr, $($field:ident = $offset:expr),+ $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$ty>() == $size);
            assert!(core::mem::align_of::<$ty>() <= 8);
            $(assert!(core::mem::offset_of!($ty, $field) == $offset);)+
        };
    };
}

/// What an event is about. The numbers are permanent.
pub mod kind {
    /// [`crate::task::Fork`]
    pub const FORK: u16 = 1;
    /// [`crate::task::Exec`]
    pub const EXEC: u16 = 2;
    /// [`crate::task::Exit`]
    pub const EXIT: u16 = 3;
    /// [`crate::task::Adopt`]
    pub const ADOPT: u16 = 4;
    /// [`crate::sched::Cycle`]
    pub const CYCLE: u16 = 5;
    /// [`crate::cpu::Sample`]
    pub const SAMPLE: u16 = 6;
    /// [`crate::container::Cgroup`]
    pub const CGROUP: u16 = 7;
    /// [`crate::container::Syscall`]
    pub const SYSCALL: u16 = 8;
    /// [`crate::task::Account`]
    pub const ACCOUNT: u16 = 9;
    /// [`crate::unwind::Sample`]
    pub const UNWOUND_SAMPLE: u16 = 10;
    /// [`crate::unwind::Wait`]
    pub const UNWOUND_WAIT: u16 = 11;
    /// [`crate::unwind::Copied`]
    pub const COPIED_STACK: u16 = 12;
    /// [`crate::net::Exchange`]
    pub const EXCHANGE: u16 = 17;
    /// [`crate::net::Request`]
    pub const REQUEST: u16 = 18;
    // 19 was what an ended thread had read and written.
    /// [`crate::listen::Listen`]
    pub const LISTEN: u16 = 13;
    /// [`crate::memory::Memory`]
    pub const MEMORY: u16 = 14;
    /// [`crate::memory::Oom`]
    pub const OOM: u16 = 15;
    /// [`crate::disk::Inode`]
    pub const INODE: u16 = 20;
    /// [`crate::disk::PageRun`]
    pub const PAGE_RUN: u16 = 21;
    /// [`crate::disk::IoTotals`]
    pub const IO_TOTALS: u16 = 22;
    /// [`crate::disk::BlockIo`]
    pub const BLOCK_IO: u16 = 23;
    /// [`crate::disk::WriteBack`]
    pub const WRITE_BACK: u16 = 24;
    /// [`crate::disk::CopyUp`]
    pub const COPY_UP: u16 = 25;
    /// [`crate::disk::Overlaid`]
    pub const OVERLAID: u16 = 26;
    /// [`crate::disk::Whiteout`]
    pub const WHITEOUT: u16 = 27;
    /// [`crate::disk::FileCalls`]
    pub const FILE_CALLS: u16 = 28;
    /// [`crate::awaited::Awaited`]
    pub const AWAITED: u16 = 40;
}

/// First part of every event: when it happened, and to whom.
///
/// `tgid`, `tid` and `start` name the task for good: pids wrap within one build, the pair with the start time does
/// not repeat.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `CLOCK_MONOTONIC`, ns.
    pub ts: u64,
    /// `task_struct.start_time`, `CLOCK_MONOTONIC` ns.
    pub start: u64,
    /// Id of the task's cgroup in the default (version 2) hierarchy.
    pub cgroup: u64,
    pub tgid: u32,
    pub tid: u32,
    /// Inode number of the task's mount namespace; 0 when the task has already left its namespaces (exit).
    pub mnt_ns: u32,
    /// One of [`kind`].
    pub kind: u16,
    pub cpu: u16,
}
layout!(
    Header,
    size = 40,
    ts = 0,
    start = 8,
    cgroup = 16,
    tgid = 24,
    tid = 28,
    mnt_ns = 32,
    kind = 36,
    cpu = 38
);

/// Longest stack, kernel or user, that is taken; `perf_event_max_stack`'s default.
pub const MAX_FRAMES: usize = 127;

/// Marks a plain-data type of this contract.
///
/// # Safety
///
/// The type is `repr(C)`, holds integers and arrays of them only, and has no implicit padding, so every byte
/// pattern of its size is a value of it.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($ty:ty),+ $(,)?) => { $(
        // SAFETY: repr(C), integers only, layout asserted beside its definition.
        unsafe impl Plain for $ty {}
    )+ };
}
plain!(
    Header,
    task::Fork,
    task::Exec,
    task::Exit,
    task::Adopt,
    task::Account,
    sched::Cycle,
    cpu::Sample,
    container::Cgroup,
    container::Syscall,
    unwind::FileKey,
    unwind::FileTable,
    unwind::Rule,
    unwind::Sample,
    unwind::Copied,
    net::Exchange,
    net::Request,
    listen::Listen,
    awaited::Awaited,
    memory::Memory,
    memory::Oom,
    disk::InodeId,
    disk::Inode,
    disk::PageRun,
    disk::IoTotals,
    disk::BlockIo,
    disk::WriteBack,
    disk::CopyUp,
    disk::Overlaid,
    disk::Whiteout,
    disk::CallSum,
    disk::FileCalls,
);

/// Reads a `T` from the front of `bytes`, and what follows it. `None` when `bytes` is too short.
pub fn split<T: Plain>(bytes: &[u8]) -> Option<(T, &[u8])> {
    let size = core::mem::size_of::<T>();
    let rest = bytes.get(size..)?;
    // SAFETY: `bytes` holds at least `size` bytes (checked above), `T: Plain` takes any byte pattern, and the read
    // is unaligned.
    let value = unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast::<T>()) };
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a short item is refused and a whole one is split at the type's size.
    #[test]
    fn split_checks_length() {
        let bytes = [7u8; 48];
        assert!(split::<Header>(&bytes[..39]).is_none());
        let (header, rest) = split::<Header>(&bytes).unwrap();
        assert_eq!(header.cpu, 0x0707);
        assert_eq!(rest.len(), 8);
    }
}

//! Memory: what processes and their cgroups hold, and whom the kernel kills for it.

use crate::{Header, layout, task::COMM_LEN};

/// [`Memory::moment`].
pub mod moment {
    /// A tick of the sampling clock that hit the process.
    pub const SAMPLE: u32 = 1;
    /// An exec: `max` is what the programs before it reached.
    pub const EXEC: u32 = 2;
    /// The end of the process's last thread.
    pub const EXIT: u32 = 3;
    /// The recording's end.
    pub const END: u32 = 4;
}

/// A process's memory at one moment, by the kernel's own counters. In pages; 0 is not known.
///
/// The resident set is file, anonymous and shared memory pages (`get_mm_rss`). Since Linux 6.2 the kernel counts per CPU
/// and adds up in batches: what it tells can be off by up to 32 pages a CPU and kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub header: Header,
    /// Resident set.
    pub rss: u64,
    /// Largest resident set of the program that runs (`hiwater_rss`); before Linux 6.16 not known at the exit.
    pub peak: u64,
    /// Largest of all programs that the process ran, the one it was forked from included (`signal->maxrss`, which is
    /// `ru_maxrss`). Only at execs and at the end.
    pub max: u64,
    /// Id of the cgroup that the process's memory is charged to, of whichever hierarchy has the memory controller.
    pub memcg: u64,
    /// The most that this cgroup ever held (`memory.peak`, version 1: `memory.max_usage_in_bytes`).
    pub memcg_peak: u64,
    /// [`moment`].
    pub moment: u32,
    /// Hierarchy of `memcg`: 0 is the default (version 2) one.
    pub memcg_hierarchy: u32,
}
layout!(
    Memory,
    size = 88,
    header = 0,
    rss = 40,
    peak = 48,
    max = 56,
    memcg = 64,
    memcg_peak = 72,
    moment = 80
);

/// The kernel chose a victim for want of memory; the header is of the task whose allocation failed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Oom {
    pub header: Header,
    /// All of the victim but its tid is 0 where the kernel tells no more (before Linux 6.9).
    pub victim_start: u64,
    /// The victim's cgroup in the default hierarchy.
    pub victim_cgroup: u64,
    /// Its resident set, pages.
    pub victim_rss: u64,
    /// As in [`Memory`], of the victim.
    pub memcg: u64,
    pub memcg_peak: u64,
    pub memcg_hierarchy: u32,
    pub victim_tgid: u32,
    pub victim_tid: u32,
    pub pad: u32,
    pub comm: [u8; COMM_LEN],
}
layout!(
    Oom,
    size = 112,
    header = 0,
    victim_start = 40,
    victim_cgroup = 48,
    victim_rss = 56,
    memcg = 64,
    memcg_hierarchy = 80,
    victim_tgid = 84,
    comm = 96
);

//! Names and permanent numbers of everything that can be lost or refused in the kernel.

macro_rules! counters {
    ($( $(#[$doc:meta])* $name:ident = $id:literal, $label:literal, $text:literal; )+) => {
        /// A cause of loss counted in the kernel. The number is the index in the `COUNTERS` map and permanent.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Counter { $( $(#[$doc])* $name = $id, )+ }

        impl Counter {
            /// Every counter, in the order of its number.
            pub const ALL: &'static [Counter] = &[ $( Counter::$name, )+ ];

            /// Stable name, for machines.
            pub const fn name(self) -> &'static str {
                match self { $( Counter::$name => $label, )+ }
            }

            /// One line for people: what was lost, and what that means.
            pub const fn text(self) -> &'static str {
                match self { $( Counter::$name => $text, )+ }
            }

            /// Whether something is missing for it.
            pub const fn is_loss(self) -> bool {
                !matches!(
                    self,
                    Counter::SampleUntracked
                        | Counter::NewtaskAgain
                        | Counter::ExecAgain
                        | Counter::ExitAgain
                        | Counter::MemoryAgain
                        | Counter::PagesAgain
                )
            }

            /// The counter of that number, if there is one.
            pub fn from_id(id: u32) -> Option<Counter> {
                match id { $( $id => Some(Counter::$name), )+ _ => None }
            }
        }
    };
}

counters! {
    RingFork = 0, "ring_full.fork", "process births lost: ring full";
    RingExec = 1, "ring_full.exec", "execs lost: ring full";
    RingExit = 2, "ring_full.exit", "process ends lost: ring full";
    RingAdopt = 3, "ring_full.adopt", "threads found at start lost: ring full";
    RingCycle = 4, "ring_full.cycle", "scheduling intervals lost: ring full (their time shows as lost)";
    RingSample = 5, "ring_full.sample", "CPU samples lost: ring full";
    RingCgroup = 6, "ring_full.cgroup", "cgroup events lost: ring full";
    RingSyscall = 7, "ring_full.syscall", "mount and namespace events lost: ring full";
    TaskMapFull = 8, "task_map_full", "threads not tracked: per-task map full or busy";
    CgroupMapFull = 9, "cgroup_map_full", "cgroups not tracked: map full";
    SyscallMapFull = 10, "syscall_map_full", "system calls without their start: map full";
    KernelStack = 11, "kernel_stack_failed", "CPU samples without a kernel stack";
    UserStack = 12, "user_stack_failed", "CPU samples without a user stack";
    WaitKernelStack = 13, "wait_kernel_stack_failed", "waits whose kernel stack could not be taken";
    WaitUserStack = 14, "wait_user_stack_failed", "waits whose user stack could not be kept (table full or collision)";
    Argv = 15, "argv_unreadable", "execs whose arguments could not be read";
    Path = 16, "path_unreadable", "file names or mount options that could not be read";
    Scratch = 17, "scratch_missing", "events dropped: no scratch memory (a defect, please report)";
    /// Ordering of the clocks of two CPUs: an interval's end was before its start.
    TimeBackwards = 18, "time_backwards", "scheduling intervals with an end before their start, counted as 0";
    SampleUntracked = 19, "sample_untracked", "CPU samples of tasks that are not profiled (not a loss)";
    MissedSwitchIn = 20, "missed_switch_in", "switch-ins that were not seen: the time from their wake on shows as lost";
    MissedSwitchOut = 21, "missed_switch_out", "switch-outs that were not seen: that time shows as on-CPU";
    RingAccount = 22, "ring_full.account", "accounts of ended threads lost: ring full (a cross-check, no time)";
    RingWaitStack = 23, "ring_full.wait_stack", "user stacks of waits lost: ring full";
    RingCopy = 24, "ring_full.copied_stack", "copies of user stacks lost: ring full";
    CopyShort = 25, "copied_stack_cut", "copies of user stacks with a part that was not in memory";
    RingListen = 31, "ring_full.listen", "sockets that began to listen lost: ring full";
    ListenSocket = 32, "listen_socket_unreadable", "sockets that began to listen whose address could not be read";
    RingMemory = 33, "ring_full.memory", "memory readings lost: ring full";
    RingOom = 34, "ring_full.oom", "out-of-memory kills lost: ring full";
    RingExchange = 36, "ring_full.exchange", "network exchanges of engines lost: ring full (a download may show without its bytes)";
    RingRequest = 37, "ring_full.request", "requests to engines and registries lost: ring full (what they caused may show as unmatched)";
    ExchangeMapFull = 39, "exchange_map_full", "network exchanges of engines not tracked: map full";
    BirthShed = 41, "birth_shed", "threads not tracked to keep the overhead cap: they and what they started are not in the recording";
    SyscallEnd = 46, "syscall_end_missed", "mount and namespace calls whose end was not told: they are not in the recording";
    RingInode = 47, "ring_full.inode", "names of files lost: ring full (their pages show without a path or layer)";
    RingPageRun = 48, "ring_full.page_run", "pages read or written lost: ring full";
    RingIoTotals = 49, "ring_full.io_totals", "readings of what threads read and wrote lost: ring full (later ones make up for them)";
    RingBlockIo = 50, "ring_full.block_io", "requests to block devices lost: ring full";
    RingWriteBack = 51, "ring_full.write_back", "write-back lost: ring full";
    RingCopyUp = 52, "ring_full.copy_up", "copy-ups lost: ring full";
    RingOverlaid = 53, "ring_full.overlaid", "files of overlays that were opened lost: ring full";
    DiskMapFull = 54, "disk_map_full", "pages read or written by threads for which there was no memory: not in the recording";
    BlockMapFull = 55, "block_map_full", "requests to block devices not timed: map full";
    InodePath = 56, "inode_path_cut", "files so deep in folders that the upper ones were left out";
    RunStack = 57, "page_run_stack_failed", "pages read or written whose kernel stack could not be taken";
    CopyUpOpen = 58, "copy_up_unended", "copy-ups whose end was not told";
    RingAwaited = 59, "ring_full.awaited", "files and sockets of waits lost: ring full (the wait is told, not what it was for)";
    RunUntold = 60, "page_run_untold", "files whose pages a thread read or wrote while it ended: they are not in the recording";
    RingWhiteout = 61, "ring_full.whiteout", "deletes of what lies in lower layers lost: ring full";
    RingFileCalls = 62, "ring_full.file_calls", "calls that read and wrote files lost: ring full";
    NewtaskAgain = 63, "again.task_newtask", "process births that the second of two programs told (not a loss)";
    ExecAgain = 64, "again.sched_process_exec", "execs that the second of two programs told (not a loss)";
    ExitAgain = 65, "again.sched_process_exit", "process ends that the second of two programs told (not a loss)";
    MemoryAgain = 66, "again.memory_exit", "memory of ended processes that the second of two programs told (not a loss)";
    PagesAgain = 67, "again.pages_exit", "last pages of ended threads that the second of two programs told (not a loss)";
}

/// Length of the `COUNTERS` map; larger than the counters there are, so that a new one needs no new map.
pub const COUNTERS_LEN: u32 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that ids are unique, in order, and indexes of the map.
    #[test]
    fn ids_are_indexes() {
        for pair in Counter::ALL.windows(2) {
            assert!((pair[0] as u32) < pair[1] as u32);
        }
        for counter in Counter::ALL {
            assert_eq!(Counter::from_id(*counter as u32), Some(*counter));
            assert!((*counter as u32) < COUNTERS_LEN);
        }
    }
}

//! What processes and their cgroups hold, by the kernel's own counters.

use aya_ebpf::{
    macros::{btf_tracepoint, map},
    maps::PerCpuArray,
    programs::BtfTracePointContext,
};
use profiler_common::{
    Counter, kind,
    memory::{Memory, moment},
    sched::done,
};

use super::cgroup;
use crate::{
    emit,
    globals::{enabled, has, offset},
    preempt,
    task::{self, Task},
};

/// Change of the resident set, pages, from which on a sample is told.
const CHANGE: u64 = 64;

/// What this CPU's last sample told.
#[repr(C)]
#[derive(Clone, Copy)]
struct Told {
    mm: u64,
    rss: u64,
}

#[map]
static MEMORY_TOLD: PerCpuArray<Told> = PerCpuArray::with_max_entries(1, 0);

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`: behind `setmax_mm_hiwater_rss` in `do_exit`; since
/// 6.16 (where it has its second argument) before `exit_mm`, with the memory still there.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn memory_exit(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exit::<false>(&ctx))
}

/// As [`memory_exit`], where the kernel left that out.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn memory_exit_again(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exit::<true>(&ctx))
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`: behind `exec_mmap`, which has
/// added the old program's peak to the process's.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn memory_exec(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exec(&ctx))
}

#[inline(always)]
fn try_exit<const AGAIN: bool>(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task: Task = ctx.arg(0);
    let Some(state) = task::get(task) else { return Ok(()) };
    // SAFETY: points into the map; the running thread's own state.
    if task::is_done::<AGAIN>(unsafe { &mut *state }, done::MEMORY, Counter::MemoryAgain) {
        return Ok(());
    }
    let signal = task::read_ptr(task.cast(), offset!(task_signal));
    if task::read::<u32>(signal, offset!(signal_live)) != 0 {
        return Ok(());
    }
    send(task, task::now(), moment::EXIT)
}

#[inline(always)]
fn try_exec(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    // Where the memory is still there at the exit, it alone tells the last program's peak.
    if enabled!(exit_has_group_dead) != 0 {
        return Ok(());
    }
    let task: Task = ctx.arg(0);
    if task::get(task).is_none() {
        return Ok(());
    }
    send(task, task::now(), moment::EXEC)
}

/// A sample hit the task, which is profiled.
#[inline(always)]
pub fn sampled(task: Task, now: u64) {
    let mm = task::read_ptr(task.cast(), offset!(task_mm));
    if mm.is_null() {
        return;
    }
    let rss = resident(mm);
    let Some(told) = MEMORY_TOLD.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own slot; the sampling interrupt does not nest.
    unsafe {
        if (*told).mm == mm as u64 && rss.wrapping_add(CHANGE).wrapping_sub((*told).rss) <= 2 * CHANGE {
            return;
        }
        *told = Told { mm: mm as u64, rss };
    }
    if let Err(counter) = send(task, now, moment::SAMPLE) {
        emit::count(counter);
    }
}

/// The recording ends while the task lives; its process's first thread tells for all. By itself: beside the rest of what is
/// told then its event has no room on the stack.
#[inline(never)]
pub fn at_end(task: Task, now: u64) {
    let base: *const u8 = task.cast();
    if task::read::<u32>(base, offset!(task_pid)) != task::read::<u32>(base, offset!(task_tgid)) {
        return;
    }
    if let Err(counter) = send(task, now, moment::END) {
        emit::count(counter);
    }
}

#[inline(always)]
fn send(task: Task, now: u64, moment: u32) -> Result<(), Counter> {
    let base: *const u8 = task.cast();
    let mm = task::read_ptr(base, offset!(task_mm));
    let rss = resident(mm);
    let hiwater = task::read::<u64>(mm, offset!(mm_hiwater_rss));
    let memcg = MemoryCgroup::of(task);
    let event = Memory {
        header: task::header(task, kind::MEMORY, now),
        rss,
        // The kernel notes the high-water mark only before the resident set shrinks.
        peak: if hiwater > rss { hiwater } else { rss },
        max: if moment == moment::EXIT || moment == moment::EXEC {
            task::read::<u64>(task::read_ptr(base, offset!(task_signal)), offset!(signal_maxrss))
        } else {
            0
        },
        memcg: memcg.id,
        memcg_peak: memcg.peak,
        moment,
        memcg_hierarchy: memcg.hierarchy,
    };
    emit::send(&event, Counter::RingMemory)
}

/// Resident set of an address space, pages.
#[inline(always)]
pub fn resident(mm: *const u8) -> u64 {
    // A counter that threads of several CPUs share can be below 0 for a moment.
    let count = |offset: u32| {
        let pages = task::read::<i64>(mm, offset);
        if pages < 0 { 0 } else { pages as u64 }
    };
    count(offset!(mm_rss_file)) + count(offset!(mm_rss_anon)) + count(offset!(mm_rss_shmem))
}

/// The cgroup that a task's memory is charged to.
#[derive(Default)]
pub struct MemoryCgroup {
    pub id: u64,
    /// The most that it held, pages.
    pub peak: u64,
    pub hierarchy: u32,
}

impl MemoryCgroup {
    #[inline(always)]
    pub fn of(task: Task) -> MemoryCgroup {
        if !has(offset!(mem_cgroup_watermark)) {
            return MemoryCgroup::default();
        }
        let css_set = task::read_ptr(task.cast(), offset!(task_cgroups));
        let css = task::read_ptr(css_set, offset!(css_set_memory));
        let cgroup = task::read_ptr(css, offset!(css_cgroup));
        MemoryCgroup {
            id: task::cgroup_id(cgroup),
            peak: task::read::<u64>(css, offset!(mem_cgroup_watermark)),
            hierarchy: cgroup::hierarchy(cgroup),
        }
    }
}

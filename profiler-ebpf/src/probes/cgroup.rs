//! Cgroups: made, entered, emptied, removed.

use aya_ebpf::{
    helpers::generated::bpf_probe_read_kernel_str,
    macros::{btf_tracepoint, map, raw_tracepoint},
    maps::HashMap,
    programs::{BtfTracePointContext, RawTracePointContext},
};
use profiler_common::{
    Counter,
    container::{CGROUP_PATH_LEN, Cgroup, cgroup_op},
    kind,
    sched::ATTENTION_EMIT,
};

use super::{adopt, raw::typed, sched};
use crate::{
    emit::{self, Scratch},
    globals::offset,
    preempt,
    task::{self, Task},
};

#[map]
static CGROUP_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// Cgroups of profiled containers: made by a profiled task, or told by user space. What enters one is profiled.
#[map]
static TRACK_CGROUP: HashMap<u64, u32> = HashMap::with_max_entries(16_384, 0);

/// `cgroup_mkdir(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&ctx, cgroup_op::MKDIR))
}

/// `cgroup_rmdir(struct cgroup *cgrp, const char *path)`
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&ctx, cgroup_op::RMDIR))
}

/// `cgroup_release(struct cgroup *cgrp, const char *path)`: 25 to 50 ms after rmdir, in a kworker.
#[btf_tracepoint(function = "cgroup_release")]
pub fn cgroup_release(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&ctx, cgroup_op::RELEASE))
}

/// `cgroup_attach_task(struct cgroup *dst_cgrp, const char *path, struct task_struct *task, bool threadgroup)`
#[btf_tracepoint(function = "cgroup_attach_task")]
pub fn cgroup_attach_task(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_attach(&ctx))
}

/// `cgroup_notify_populated(struct cgroup *cgrp, const char *path, int val)`
#[btf_tracepoint(function = "cgroup_notify_populated")]
pub fn cgroup_notify_populated(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_populated(&ctx))
}

#[raw_tracepoint(tracepoint = "cgroup_mkdir")]
pub fn cgroup_mkdir_raw(ctx: RawTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&typed(&ctx), cgroup_op::MKDIR))
}

#[raw_tracepoint(tracepoint = "cgroup_rmdir")]
pub fn cgroup_rmdir_raw(ctx: RawTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&typed(&ctx), cgroup_op::RMDIR))
}

#[raw_tracepoint(tracepoint = "cgroup_release")]
pub fn cgroup_release_raw(ctx: RawTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_directory(&typed(&ctx), cgroup_op::RELEASE))
}

#[raw_tracepoint(tracepoint = "cgroup_notify_populated")]
pub fn cgroup_notify_populated_raw(ctx: RawTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_populated(&typed(&ctx)))
}

#[inline(always)]
pub fn hierarchy(cgroup: *const u8) -> u32 {
    task::read::<u32>(
        task::read_ptr(cgroup, offset!(cgroup_root)),
        offset!(cgroup_root_hierarchy_id),
    )
}

#[inline(always)]
fn event(cgroup: *const u8, id: u64, op: u32) -> Cgroup {
    let current = task::current();
    Cgroup {
        header: task::header_current(current, kind::CGROUP, task::now()),
        id,
        op,
        hierarchy: hierarchy(cgroup),
        level: task::read::<u32>(cgroup, offset!(cgroup_level)),
        ..Cgroup::default()
    }
}

#[inline(always)]
fn send(mut event: Cgroup, path: *const u8) -> Result<(), Counter> {
    let scratch = emit::scratch(&CGROUP_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Cgroup>();
    // SAFETY: HEAD + CGROUP_PATH_LEN is less than SCRATCH_LEN; the helper copes with any source.
    let len = unsafe { bpf_probe_read_kernel_str(scratch.add(HEAD).cast(), CGROUP_PATH_LEN as u32, path.cast()) };
    let len = if len <= 0 {
        emit::count(Counter::Path);
        0
    } else {
        (len as usize - 1) & (CGROUP_PATH_LEN - 1)
    };
    event.path_len = len as u32;
    // SAFETY: as above; scratch memory is 8-aligned.
    unsafe {
        scratch.cast::<Cgroup>().write(event);
        emit::send_raw(scratch, HEAD + len, Counter::RingCgroup)
    }
}

#[inline(always)]
fn try_directory(ctx: &BtfTracePointContext, op: u32) -> Result<(), Counter> {
    let cgroup: *const u8 = ctx.arg(0);
    let id = task::cgroup_id(cgroup);
    if op == cgroup_op::MKDIR {
        if task::get(task::current()).is_none() {
            return Ok(());
        }
        // Ids of the other hierarchies are numbers of their own, but only those of the default one are looked up.
        if hierarchy(cgroup) == 0 && TRACK_CGROUP.insert(id, 1, 0).is_err() {
            emit::count(Counter::CgroupMapFull);
        }
    } else if TRACK_CGROUP.get_ptr(id).is_none() {
        return Ok(());
    } else if op == cgroup_op::RELEASE {
        let _ = TRACK_CGROUP.remove(id);
    }
    send(event(cgroup, id, op), ctx.arg(1))
}

#[inline(always)]
pub(super) fn try_attach(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let cgroup: *const u8 = ctx.arg(0);
    let task: Task = ctx.arg(2);
    let id = task::cgroup_id(cgroup);
    match task::get(task) {
        Some(state) => {
            // SAFETY: points into the map.
            let state = unsafe { &mut *state };
            if core::ptr::eq(task, task::current()) {
                sched::boundary(task, state, task::now());
            } else {
                // Its sums can't be closed from here: they are at its next switch-in.
                state.attention |= ATTENTION_EMIT;
            }
        }
        None if hierarchy(cgroup) == 0 && TRACK_CGROUP.get_ptr(id).is_some() => {
            adopt::existing(task)?;
        }
        None => return Ok(()),
    }
    let base: *const u8 = task.cast();
    let mut event = event(cgroup, id, cgroup_op::ATTACH);
    event.task_tgid = task::read::<u32>(base, offset!(task_tgid));
    event.task_tid = task::read::<u32>(base, offset!(task_pid));
    event.task_start = task::read::<u64>(base, offset!(task_start_time));
    send(event, ctx.arg(1))
}

#[inline(always)]
fn try_populated(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let cgroup: *const u8 = ctx.arg(0);
    let id = task::cgroup_id(cgroup);
    if TRACK_CGROUP.get_ptr(id).is_none() {
        return Ok(());
    }
    let mut event = event(cgroup, id, cgroup_op::POPULATED);
    event.populated = ctx.arg::<u32>(2);
    send(event, ctx.arg(1))
}

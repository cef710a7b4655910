//! Tasks that were there before, and the closing of all at the end: both by a task iterator.

use aya_ebpf::{macros::map, maps::HashMap};
use profiler_common::{
    Counter,
    control::{self, shed},
    kind,
    sched::{GAP, NO_USER_STACK, STATE_PREEMPTED, TaskState},
    task::{Adopt, COMM_LEN, EVERYONE},
};

use super::{disk, io, memory, sched};
use crate::{
    emit, globals,
    globals::offset,
    task::{self, Task},
};

/// Thread groups that user space wants profiled; read by the adopting iterator only.
#[map]
static TRACK_TGID: HashMap<u32, u32> = HashMap::with_max_entries(16_384, 0);

/// `struct bpf_iter__task { struct bpf_iter_meta *meta; struct task_struct *task; }`
#[repr(C)]
pub struct IterTask {
    meta: *mut u8,
    task: Task,
}

/// Adopts every thread of the thread groups in [`TRACK_TGID`].
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn adopt_tasks(ctx: *mut IterTask) -> u32 {
    // SAFETY: the iterator's context; the task is null in its last call.
    let task = unsafe { (*ctx).task };
    if task.is_null() || globals::contract() == 0 {
        return 0;
    }
    let tgid = task::read::<u32>(task.cast(), offset!(task_tgid));
    if TRACK_TGID.get_ptr(tgid).is_none() && !among_all(task, tgid) {
        return 0;
    }
    if task::get(task).is_some() {
        return 0;
    }
    emit::done(existing(task).map(|_| ()))
}

/// Whether everyone is wanted, and the task is one of them: a process that is not the profiler's. The kernel's threads
/// have no memory of their own.
#[inline(always)]
fn among_all(task: Task, tgid: u32) -> bool {
    let own = globals::self_tgid();
    // Its child reads files for it: its own cost, which the recording tells apart.
    let parent = task::read_ptr(task.cast(), offset!(task_real_parent));
    TRACK_TGID.get_ptr(EVERYONE).is_some()
        && tgid != own
        && task::read::<u32>(parent, offset!(task_tgid)) != own
        && !task::read_ptr(task.cast(), offset!(task_mm)).is_null()
}

/// Closes every profiled thread at the moment that user space wrote into the control map.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn flush_tasks(ctx: *mut IterTask) -> u32 {
    // SAFETY: as above.
    let task = unsafe { (*ctx).task };
    if task.is_null() {
        return 0;
    }
    let Some(state) = task::get(task) else {
        return 0;
    };
    // SAFETY: points into the map; the switch programs are detached by now.
    let state = unsafe { &mut *state };
    let end = emit::control(control::END);
    memory::at_end(task, end);
    // While scheduling is left out the programs of pages go on, and a thread's own CPU may be adding to its runs.
    if !emit::shed(shed::SCHEDULING) {
        disk::boundary(task, end);
    }
    emit::done(sched::flush(task, state, end))
}

/// Takes up every profiled thread again that has not been seen since scheduling is recorded again.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task")]
pub extern "C" fn resync_tasks(ctx: *mut IterTask) -> u32 {
    // SAFETY: as above.
    let task = unsafe { (*ctx).task };
    if task.is_null() {
        return 0;
    }
    let Some(state) = task::get(task) else {
        return 0;
    };
    // SAFETY: points into the map.
    let state = unsafe { &mut *state };
    if state.off != GAP {
        return 0;
    }
    let base: *const u8 = task.cast();
    let word = task::read::<u32>(base, offset!(task_state));
    let on_cpu = task::read::<u8>(base, offset!(task_on_cpu)) != 0;
    let now = task::now();
    sched::restart(state, now);
    state.user_stack = NO_USER_STACK;
    if !on_cpu {
        state.state = switched_out(word);
        state.off = now;
    } else {
        left_meanwhile(task, state);
    }
    0
}

/// Adopts the running task; returns now.
#[inline(always)]
pub fn running(task: Task) -> Result<u64, Counter> {
    let now = task::now();
    adopt(task, now, 0, true)?;
    Ok(now)
}

/// Adopts a task in whatever state it is.
#[inline(always)]
pub fn existing(task: Task) -> Result<u64, Counter> {
    let now = task::now();
    let base: *const u8 = task.cast();
    let state = task::read::<u32>(base, offset!(task_state));
    let on_cpu = task::read::<u8>(base, offset!(task_on_cpu)) != 0;
    adopt(task, now, state, on_cpu)?;
    Ok(now)
}

/// [`TaskState::state`] of a task off its CPU whose state word is `state`.
#[inline(always)]
fn switched_out(state: u32) -> u32 {
    if state == 0 {
        STATE_PREEMPTED
    } else {
        state & !STATE_PREEMPTED
    }
}

/// Puts right the state of a task that was on its CPU when it was looked at and left it before it had a state to write
/// that into.
#[inline(always)]
fn left_meanwhile(task: Task, state: &mut TaskState) {
    let base: *const u8 = task.cast();
    if task::read::<u8>(base, offset!(task_on_cpu)) == 0 && state.off == 0 {
        state.off = task::now();
        state.state = switched_out(task::read::<u32>(base, offset!(task_state)));
    }
}

#[inline(always)]
fn adopt(task: Task, now: u64, state: u32, on_cpu: bool) -> Result<(), Counter> {
    let base: *const u8 = task.cast();
    let header = task::header(task, kind::ADOPT, now);
    let initial = TaskState {
        from: now,
        on: now,
        off: if emit::shed(shed::SCHEDULING) {
            GAP
        } else if on_cpu {
            0
        } else {
            now
        },
        start: header.start,
        state: switched_out(state),
        user_stack: NO_USER_STACK,
        // None was told yet, not even that all are 0.
        io_sum: u64::MAX,
        ..TaskState::default()
    };
    let created = task::create(task, &initial)?;
    // SAFETY: points into the map.
    let created = unsafe { &mut *created };
    if on_cpu {
        left_meanwhile(task, created);
    }
    io::tell(task, created, &header, true);
    let parent = task::read_ptr(base, offset!(task_real_parent));
    let (pid_ns, ns_tid) = task::in_pid_ns(task);
    let event = Adopt {
        header,
        parent_tgid: task::read::<u32>(parent, offset!(task_tgid)),
        parent_tid: task::read::<u32>(parent, offset!(task_pid)),
        pid_ns,
        ns_tid,
        state,
        on_cpu: u32::from(on_cpu),
        comm: task::read::<[u8; COMM_LEN]>(base, offset!(task_comm)),
    };
    emit::send(&event, Counter::RingAdopt)
}

//! Birth, exec and end of tasks.

use aya_ebpf::{
    helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user},
    macros::{btf_tracepoint, map},
    maps::{HashMap, PerCpuArray},
    programs::BtfTracePointContext,
};
use profiler_common::{
    Counter,
    control::{BIRTHS_OF_CPU, BIRTHS_OF_PARENT, BIRTHS_SHIFT, shed},
    kind,
    sched::{GAP, NO_USER_STACK, STATE_PREEMPTED, TaskState, done},
    task::{ARGV_LEN, COMM_LEN, Exec, Exit, FILENAME_LEN, Fork, TELL},
};

use super::{adopt, io, sched};
use crate::{
    emit::{self, Scratch},
    globals::{enabled, offset},
    preempt,
    task::{self, Task},
};

#[map]
static EXEC_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// Programs, by comm, that are profiled from their exec on although their parent is not (`TRACK`: the engines'
/// daemons, and for a recording of the whole host the engines' clients and runtimes), or whose execs are told and no
/// more ([`TELL`]: marks).
#[map]
static TRACK_COMM: HashMap<[u8; COMM_LEN], u32> = HashMap::with_max_entries(256, 0);

/// `task_newtask(struct task_struct *task, u64 clone_flags)` (`unsigned long` before 6.12): raised at the end of
/// `copy_process`, when the child has its ids, its cgroup and its namespaces.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_newtask(&ctx))
}

/// `sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exec::<false>(&ctx))
}

/// `sched_process_exit(struct task_struct *p[, bool group_dead])`; the second since 6.16.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exit::<false>(&ctx))
}

/// As [`task_newtask`], where the kernel left that out.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask_again(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_newtask_again(&ctx))
}

/// As [`sched_process_exec`], where the kernel left that out.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec_again(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exec::<true>(&ctx))
}

/// As [`sched_process_exit`], where the kernel left that out.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit_again(ctx: BtfTracePointContext) -> u32 {
    let _held = preempt::hold();
    emit::done(try_exit::<true>(&ctx))
}

/// Births on this CPU and the window they were in.
#[map]
static BIRTHS: PerCpuArray<[u32; 2]> = PerCpuArray::with_max_entries(1, 0);

/// Whether another birth of this parent is tracked while births are limited.
#[inline(always)]
fn may_bear(parent: &mut TaskState, now: u64) -> bool {
    let window = (now >> BIRTHS_SHIFT) as u32;
    if parent.births_window != window {
        parent.births_window = window;
        parent.births = 0;
    }
    if parent.births >= BIRTHS_OF_PARENT {
        return false;
    }
    let Some(here) = BIRTHS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot; a task that takes its place in between can at most add a birth.
    let here = unsafe { &mut *here };
    if here[1] != window {
        *here = [0, window];
    }
    if here[0] >= BIRTHS_OF_CPU {
        return false;
    }
    here[0] += 1;
    parent.births += 1;
    true
}

/// A child that is not profiled although its parent is was left out.
#[inline(always)]
fn try_newtask_again(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let child: Task = ctx.arg(0);
    if task::get(task::current()).is_none() || task::get(child).is_some() || emit::shed(shed::BIRTHS) {
        return Ok(());
    }
    emit::count(Counter::NewtaskAgain);
    try_newtask(ctx)
}

#[inline(always)]
pub(super) fn try_newtask(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let parent = task::current();
    let Some(parent_state) = task::get(parent) else {
        return Ok(());
    };
    let child: Task = ctx.arg(0);
    let now = task::now();
    // SAFETY: points into the map; the running thread's own state.
    if emit::shed(shed::BIRTHS) && !may_bear(unsafe { &mut *parent_state }, now) {
        return Err(Counter::BirthShed);
    }
    let header = task::header(child, kind::FORK, now);
    let state = TaskState {
        from: now,
        on: now,
        off: if emit::shed(shed::SCHEDULING) { GAP } else { now },
        start: header.start,
        state: STATE_PREEMPTED,
        user_stack: NO_USER_STACK,
        ..TaskState::default()
    };
    task::create(child, &state)?;
    let (pid_ns, ns_tid) = task::in_pid_ns(child);
    let base: *const u8 = parent.cast();
    let event = Fork {
        header,
        parent_start: task::read::<u64>(base, offset!(task_start_time)),
        clone_flags: ctx.arg(1),
        parent_tgid: task::read::<u32>(base, offset!(task_tgid)),
        parent_tid: task::read::<u32>(base, offset!(task_pid)),
        pid_ns,
        ns_tid,
        comm: task::read::<[u8; COMM_LEN]>(child.cast(), offset!(task_comm)),
    };
    emit::send(&event, Counter::RingFork)
}

#[inline(always)]
pub(super) fn try_exec<const AGAIN: bool>(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task: Task = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    let binprm: *const u8 = ctx.arg(2);
    let comm = task::comm();
    task::renamed(task, old_tid);
    let now = match task::get(task) {
        Some(state) => {
            // SAFETY: points into the map; the running thread's own state.
            let state = unsafe { &mut *state };
            if task::is_done::<AGAIN>(state, done::EXEC, Counter::ExecAgain) {
                return Ok(());
            }
            let now = task::now();
            sched::boundary(task, state, now);
            now
        }
        None => {
            let Some(how) = TRACK_COMM.get_ptr(comm) else {
                return Ok(());
            };
            // SAFETY: points into a map that only user space writes.
            if unsafe { *how } == TELL {
                // Nothing is kept of it that could tell whether the first did.
                if AGAIN {
                    return Ok(());
                }
                task::now()
            } else {
                let now = adopt::running(task)?;
                if let Some(state) = task::get(task) {
                    // SAFETY: as above.
                    task::is_done::<AGAIN>(unsafe { &mut *state }, done::EXEC, Counter::ExecAgain);
                }
                now
            }
        }
    };
    let header = task::header_current(task, kind::EXEC, now);
    let scratch = emit::scratch(&EXEC_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Exec>();

    let filename = task::read_ptr(binprm, offset!(binprm_filename));
    // SAFETY: HEAD + FILENAME_LEN + ARGV_LEN is less than SCRATCH_LEN; the helper copes with any source.
    let filename_len =
        unsafe { bpf_probe_read_kernel_str(scratch.add(HEAD).cast(), FILENAME_LEN as u32, filename.cast()) };
    // The length counts the NUL.
    let filename_len = if filename_len <= 0 {
        emit::count(Counter::Path);
        0
    } else {
        (filename_len as usize - 1) & (FILENAME_LEN - 1)
    };

    let mm = task::read_ptr(task.cast(), offset!(task_mm));
    let arg_start = task::read::<u64>(mm, offset!(mm_arg_start));
    let arg_full = task::read::<u64>(mm, offset!(mm_arg_end)).saturating_sub(arg_start);
    let mut argv_len = if arg_full >= ARGV_LEN as u64 {
        ARGV_LEN - 1
    } else {
        arg_full as usize & (ARGV_LEN - 1)
    };
    // SAFETY: as above: the length is bounded by ARGV_LEN.
    let failed = unsafe {
        bpf_probe_read_user(
            scratch.add(HEAD + filename_len).cast(),
            argv_len as u32,
            arg_start as *const _,
        )
    };
    if failed != 0 {
        emit::count(Counter::Argv);
        argv_len = 0;
    }

    let inode = task::read_ptr(task::read_ptr(binprm, offset!(binprm_file)), offset!(file_inode));
    let (pid_ns, ns_tid) = task::in_pid_ns(task);
    let event = Exec {
        header,
        exe_ino: task::read::<u64>(inode, offset!(inode_ino)),
        exe_dev: task::read::<u32>(task::read_ptr(inode, offset!(inode_sb)), offset!(super_block_dev)),
        old_tid,
        pid_ns,
        ns_tid,
        comm,
        filename_len: filename_len as u16,
        argv_len: argv_len as u16,
        argv_full: if arg_full > u64::from(u32::MAX) {
            u32::MAX
        } else {
            arg_full as u32
        },
    };
    // SAFETY: as above; scratch memory is 8-aligned.
    unsafe {
        scratch.cast::<Exec>().write(event);
        emit::send_raw(scratch, HEAD + filename_len + argv_len, Counter::RingExec)
    }
}

#[inline(always)]
pub(super) fn try_exit<const AGAIN: bool>(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task: Task = ctx.arg(0);
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    // SAFETY: points into the map; the running thread's own state.
    let state = unsafe { &mut *state };
    if task::is_done::<AGAIN>(state, done::EXIT, Counter::ExitAgain) {
        return Ok(());
    }
    let now = task::now();
    sched::boundary(task, state, now);
    let base: *const u8 = task.cast();
    let event = Exit {
        header: task::header_current(task, kind::EXIT, now),
        utime: task::read::<u64>(base, offset!(task_utime)),
        stime: task::read::<u64>(base, offset!(task_stime)),
        exit_code: task::read::<i32>(base, offset!(task_exit_code)),
        group_dead: if enabled!(exit_has_group_dead) != 0 {
            (ctx.arg::<u64>(1) & 1) as u32
        } else {
            2
        },
    };
    // What a boundary that was left out did not tell.
    io::tell(task, state, &event.header, true);
    if emit::shed(shed::SCHEDULING) {
        // Its last switch, where that is done otherwise, is not seen.
        task::remove(task);
    }
    emit::send(&event, Counter::RingExit)
}

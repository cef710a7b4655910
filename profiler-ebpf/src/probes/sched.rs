//! Where a thread's time goes between two switch-ins.

use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_current_pid_tgid,
    macros::{btf_tracepoint, map},
    maps::{PerCpuArray, ProgramArray},
    programs::BtfTracePointContext,
};
use profiler_common::{
    Counter, Header,
    control::{self, shed},
    kind,
    sched::{
        ATTENTION_COPY_UP, ATTENTION_STACKS, Cycle, GAP, NO_USER_STACK, STACK_ALWAYS_NS, STACK_EVERY_NS,
        STATE_PREEMPTED, SYSCALL_NOT_ASKED, TASK_DEAD, TaskState, USER_STACK_STREAMED, WHOLE_NS, done, flag,
        new_window,
    },
    task::Account,
    unwind::{Wait, end},
};

use super::{awaited, disk, io};
use crate::{
    emit::{self, Scratch},
    globals::{enabled, offset},
    stack,
    task::{self, Known, Task},
    unwind::{self, Walk, Walks},
};

/// A wake is raised before the task is queued, so on another CPU it can be seen before the switch-out that it ends;
/// one that came this shortly before still counts, ns.
const WAKE_RACE_NS: u64 = 100_000;

/// The first wait of a thread is worth a user stack: nothing foretells it.
const YOUNG_WAITS: u32 = 1;

#[map]
static SCHED_SCRATCH: Scratch = Scratch::with_max_entries(1, 0);

/// Waiting time, ns, since the last stack of a short wait on this CPU.
#[map]
static STACK_DEBT: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// `sched_switch(bool preempt, struct task_struct *prev, struct task_struct *next[, unsigned int prev_state])`;
/// the fourth argument since 5.18 (fa2c3254d7cf).
#[btf_tracepoint(function = "sched_switch")]
pub fn sched_switch(ctx: BtfTracePointContext) -> u32 {
    emit::done(try_switch::<true>(&ctx))
}

/// [`wait_unwind`] and [`wait_unwind_more`], where they were loaded. Raw tracepoints have none: an array holds programs
/// of one type.
#[map]
static WAIT_MORE: ProgramArray = ProgramArray::with_max_entries(2, 0);

#[map]
static WAIT_WALK: Walks = Walks::with_max_entries(1, 0);

/// Begins to unwind the user stack of the task that leaves its CPU, at the end of [`sched_switch`].
#[btf_tracepoint(function = "sched_switch")]
pub fn wait_unwind(ctx: BtfTracePointContext) -> u32 {
    emit::done(try_wait(&ctx))
}

/// Goes on where [`wait_unwind`], or a run of its own, has stopped.
#[btf_tracepoint(function = "sched_switch")]
pub fn wait_unwind_more(ctx: BtfTracePointContext) -> u32 {
    emit::done(try_wait_more(&ctx))
}

#[inline(always)]
fn try_wait(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let task: Task = ctx.arg(1);
    let scratch = emit::scratch(&SCHED_SCRATCH)?;
    let walk = wait_walk()?;
    let Some(state) = task::get(task) else {
        return Ok(());
    };
    // SAFETY: points into the map; only this CPU writes a running thread's state.
    let off = unsafe { (*state).off };
    let event = Wait {
        header: task::header(task, kind::UNWOUND_WAIT, off),
        ..Default::default()
    };
    // SAFETY: scratch memory is large enough and 8-aligned.
    unsafe { scratch.cast::<Wait>().write(event) };
    walk.head = core::mem::size_of::<Wait>() as u32;
    let registers = unwind::saved_registers(task, walk);
    unwind::begin(walk, registers, false);
    if walk.stop == u32::from(end::NONE) {
        wait_more(ctx, walk);
    }
    send_wait(walk, scratch)
}

#[inline(always)]
fn try_wait_more(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let scratch = emit::scratch(&SCHED_SCRATCH)?;
    let walk = wait_walk()?;
    // SAFETY: scratch memory is as large as it must be.
    if unsafe { unwind::walk(walk, scratch) } {
        wait_more(ctx, walk);
    }
    send_wait(walk, scratch)
}

#[inline(always)]
fn wait_walk() -> Result<&'static mut Walk, Counter> {
    match WAIT_WALK.get_ptr_mut(0) {
        // SAFETY: this CPU's own, and switches do not nest.
        Some(walk) => Ok(unsafe { &mut *walk }),
        None => Err(Counter::Scratch),
    }
}

/// Lets [`wait_unwind_more`] go on. Comes back only when that can't be called, and the stack ends here.
#[inline(always)]
fn wait_more(ctx: &BtfTracePointContext, walk: &mut Walk) {
    // SAFETY: the program there is of this type.
    unsafe { WAIT_MORE.tail_call(ctx, 1) };
    walk.stop = u32::from(end::DEPTH);
}

#[inline(always)]
fn send_wait(walk: &mut Walk, scratch: *mut u8) -> Result<(), Counter> {
    // SAFETY: `try_wait` wrote it.
    unwind::finish(walk, unsafe { &mut *scratch.cast::<Wait>() });
    // SAFETY: what was written is less than scratch memory.
    unsafe { emit::send_raw_bulk(scratch, unwind::length(walk), Counter::RingWaitStack) }
}

/// `sched_waking(struct task_struct *p)`: not `sched_wakeup`, whose current differs in 9 % of wakes.
#[btf_tracepoint(function = "sched_waking")]
pub fn sched_waking(ctx: BtfTracePointContext) -> u32 {
    waking(&ctx);
    0
}

#[inline(always)]
pub(super) fn try_switch<const UNWIND: bool>(ctx: &BtfTracePointContext) -> Result<(), Counter> {
    let prev: Task = ctx.arg(1);
    let next: Task = ctx.arg(2);
    let mut now = 0;
    let mut result = Ok(());
    // One look-up after the other: with both first, LLVM tests the two results by or-ing the pointers, which the
    // verifier forbids.
    if let Some(state) = task::get(prev) {
        now = task::now();
        // SAFETY: points into the map, and only this CPU writes a running thread's state.
        result = switch_out::<UNWIND>(ctx, prev, unsafe { &mut *state }, now);
    }
    if let Some(state) = task::get(next) {
        if now == 0 {
            now = task::now();
        }
        // SAFETY: as above: from here on `next` runs on this CPU.
        let switched = switch_in(next, unsafe { &mut *state }, now);
        result = result.and(switched);
    }
    if UNWIND
        && let Some(state) = task::get(prev)
        // SAFETY: as above.
        && unsafe { (*state).user_stack } == USER_STACK_STREAMED
    {
        // SAFETY: the program there is of this type; what comes after it is for when it can't be called.
        unsafe { WAIT_MORE.tail_call(ctx, 0) };
        // SAFETY: as above.
        frame_pointers(ctx, unsafe { &mut *state });
    }
    result
}

/// Takes the running task's user stack by frame pointers.
#[inline(always)]
fn frame_pointers(ctx: &BtfTracePointContext, state: &mut TaskState) {
    state.user_stack = stack::user_id(ctx.as_ptr());
    if state.user_stack < 0 {
        emit::count(Counter::WaitUserStack);
    }
}

#[inline(always)]
fn switch_out<const UNWIND: bool>(
    ctx: &BtfTracePointContext,
    task: Task,
    state: &mut TaskState,
    now: u64,
) -> Result<(), Counter> {
    let preempt = ctx.arg::<u64>(0) & 0xff != 0;
    let task_state = if enabled!(switch_has_prev_state) != 0 {
        ctx.arg::<u32>(3)
    } else {
        task::read::<u32>(task.cast(), offset!(task_state))
    };
    let resynced = if state.off == 0 {
        Ok(())
    } else if state.off == GAP {
        // The first that is seen of it after the gap.
        restart(state, now);
        Ok(())
    } else {
        missed_switch_in(task, state, now)
    };
    state.off = now;
    state.user_stack = NO_USER_STACK;
    if preempt || task_state == 0 {
        state.state = task_state | STATE_PREEMPTED;
        return resynced;
    }
    state.state = task_state & !STATE_PREEMPTED;
    if task_state & TASK_DEAD != 0 {
        let cycle = cycle(task, state, now, now, flag::END);
        let account = Account {
            header: Header {
                kind: kind::ACCOUNT,
                ..cycle.header
            },
            sum_exec_runtime: task::read::<u64>(task.cast(), offset!(task_sum_exec_runtime)),
        };
        disk::forget(task);
        task::remove(task);
        emit::done(emit::send_bulk(&cycle, Counter::RingCycle));
        return emit::send_bulk(&account, Counter::RingAccount);
    }
    // The length of this wait is not known yet, and afterwards the stack can't be had: foretell it by the last one.
    if (u64::from(state.last_wait) >= STACK_ALWAYS_NS
        || state.waits < YOUNG_WAITS
        || state.attention & ATTENTION_STACKS != 0)
        && !emit::shed(shed::WAIT_STACKS)
    {
        if UNWIND {
            // Unwound last, by a program that does not come back.
            state.user_stack = USER_STACK_STREAMED;
        } else {
            frame_pointers(ctx, state);
        }
    }
    state.waits = state.waits.wrapping_add(1);
    resynced
}

/// The thread is on its CPU although it was not seen to come: its wait is known up to its wake, the rest is not.
///
/// Seen on a sandbox's kernel that hides every tracepoint hit by a thread of its own supervisor: a switch from that
/// to a profiled thread is never told.
#[inline(always)]
fn missed_switch_in(task: Task, state: &mut TaskState, now: u64) -> Result<(), Counter> {
    emit::count(Counter::MissedSwitchIn);
    let mut flags = flag::MISSED_IN;
    let mut wake = now;
    if state.state & STATE_PREEMPTED != 0 {
        flags |= flag::PREEMPTED;
        wake = state.off;
    } else if state.wake >= state.off && state.wake <= now {
        wake = state.wake;
    } else {
        flags |= flag::NO_WAKE;
    }
    let cycle = cycle(task, state, now, wake, flags);
    restart(state, now);
    emit::send_bulk(&cycle, Counter::RingCycle)
}

/// Begins the next cycle now, on a CPU.
#[inline(always)]
pub fn restart(state: &mut TaskState, now: u64) {
    state.from = now;
    state.on = now;
    state.off = 0;
    state.sum_cpu = 0;
    state.sum_runqueue = 0;
    state.sum_blocked = 0;
    state.sum_count = 0;
}

#[inline(always)]
fn switch_in(task: Task, state: &mut TaskState, now: u64) -> Result<(), Counter> {
    // One comparison for the two rare cases, 0 and GAP.
    if state.off.wrapping_sub(1) >= GAP - 1 {
        if state.off == GAP {
            restart(state, now);
            return Ok(());
        }
        emit::count(Counter::MissedSwitchOut);
        state.off = now;
    }
    let mut flags = 0;
    let wake = if state.state & STATE_PREEMPTED != 0 {
        flags |= flag::PREEMPTED;
        state.off
    } else if state.wake >= state.off {
        if state.wake > now { now } else { state.wake }
    } else if state.wake > state.on && state.wake + WAKE_RACE_NS >= state.off {
        state.off
    } else {
        flags |= flag::NO_WAKE;
        now
    };
    if state.off < state.on || now < state.off {
        emit::count(Counter::TimeBackwards);
    }
    let cpu = state.off.saturating_sub(state.on);
    let blocked = wake.saturating_sub(state.off);
    let runqueue = now.saturating_sub(wake);
    if flags & flag::PREEMPTED == 0 {
        state.last_wait = if blocked > u64::from(u32::MAX) {
            u32::MAX
        } else {
            blocked as u32
        };
    }
    let whole = whole_ns();
    if cpu < whole && blocked < whole && runqueue < whole && !new_window(state.from, now) && state.attention == 0 {
        state.sum_cpu += cpu as u32;
        state.sum_blocked += blocked as u32;
        state.sum_runqueue += runqueue as u32;
        state.sum_count += 1;
        state.on = now;
        state.off = 0;
        return Ok(());
    }
    emit_cycle(task, state, now, wake, flags, blocked)
}

/// From what length on intervals are never summed now.
#[inline(always)]
fn whole_ns() -> u64 {
    let asked = emit::control(control::WHOLE_NS);
    if asked > WHOLE_NS { asked } else { WHOLE_NS }
}

/// Emits a cycle that ends now with a switch-in, with the stack of its wait if that is long enough or drawn, and
/// begins the next.
#[inline(always)]
fn emit_cycle(task: Task, state: &mut TaskState, now: u64, wake: u64, flags: u16, blocked: u64) -> Result<(), Counter> {
    let copying = blocked > 0 && state.attention & ATTENTION_COPY_UP != 0;
    let want_stack = (blocked >= STACK_ALWAYS_NS
        // Of a thread that is on its way out: taking down its namespaces and memory is no system call that would name it.
        || (blocked >= WHOLE_NS && (state.done & done::EXIT != 0 || drawn(blocked)))
        || (blocked > 0 && state.attention & (ATTENTION_STACKS | ATTENTION_COPY_UP) != 0))
        && !emit::shed(shed::WAIT_STACKS);
    let mut cycle = cycle(task, state, now, wake, flags);
    restart(state, now);
    state.attention &= ATTENTION_STACKS | ATTENTION_COPY_UP;
    io::tell(task, state, &cycle.header, false);
    // Of short waits too, which have no stack that would tell what for; and always: a branch here is another way through all
    // that follows for the verifier.
    let regs = task::registers_of(task);
    cycle.syscall = task::system_call(regs);
    cycle.flags |= iowait(task);
    if !want_stack {
        return emit::send_bulk(&cycle, Counter::RingCycle);
    }
    let told = awaited::tell(task, &cycle, regs);
    let result = with_stack(task, cycle).and(told);
    if copying && !copying_on(task, now) {
        state.attention &= !ATTENTION_COPY_UP;
    }
    result
}

/// Whether the wait whose stack was taken last is one of a copy-up.
#[inline(always)]
fn copying_on(task: Task, now: u64) -> bool {
    let Ok(scratch) = emit::scratch(&SCHED_SCRATCH) else {
        return false;
    };
    const HEAD: usize = core::mem::size_of::<Cycle>();
    // SAFETY: `with_stack` wrote the cycle and its stack there; HEAD + STACK_BYTES is less than SCRATCH_LEN.
    unsafe {
        let frames = (*scratch.cast::<Cycle>()).kernel_frames;
        disk::copy_up::waited(task, scratch.add(HEAD), frames as usize, now)
    }
}

/// Emits a cycle with the kernel stack of the wait that the thread is still in.
#[inline(always)]
fn with_stack(task: Task, mut cycle: Cycle) -> Result<(), Counter> {
    if enabled!(task_stack) == 0 {
        return emit::send_bulk(&cycle, Counter::RingCycle);
    }
    cycle.flags |= flag::WANT_STACK;
    let scratch = emit::scratch(&SCHED_SCRATCH)?;
    const HEAD: usize = core::mem::size_of::<Cycle>();
    // SAFETY: HEAD + STACK_BYTES is less than SCRATCH_LEN.
    let bytes = unsafe { stack::of_task(task, scratch.add(HEAD)) };
    let bytes = if bytes < 0 {
        emit::count(Counter::WaitKernelStack);
        0
    } else {
        bytes as usize & 0x3ff
    };
    cycle.kernel_frames = (bytes / 8) as u16;
    // SAFETY: scratch memory is large enough and 8-aligned; `bytes` is at most 0x3ff.
    unsafe {
        scratch.cast::<Cycle>().write(cycle);
        emit::send_raw_bulk(scratch, HEAD + bytes, Counter::RingCycle)
    }
}

/// Whether a wait of this length is the one in [`STACK_EVERY_NS`] of waiting that gets a stack: sampling in
/// proportion to time.
#[inline(always)]
fn drawn(blocked: u64) -> bool {
    let Some(debt) = STACK_DEBT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own slot, and the switch runs with interrupts off.
    unsafe {
        *debt += blocked;
        if *debt < STACK_EVERY_NS {
            return false;
        }
        *debt -= STACK_EVERY_NS;
    }
    true
}

#[inline(always)]
fn cycle(task: Task, state: &TaskState, now: u64, wake: u64, flags: u16) -> Cycle {
    let woken = flags & (flag::PREEMPTED | flag::NO_WAKE | flag::END | flag::BOUNDARY) == 0;
    Cycle {
        header: task::header(task, kind::CYCLE, now),
        from: state.from,
        on_start: state.on,
        off: state.off,
        wake,
        sum_cpu: state.sum_cpu,
        sum_runqueue: state.sum_runqueue,
        sum_blocked: state.sum_blocked,
        sum_count: state.sum_count,
        waker_tgid: if woken { state.waker_tgid } else { 0 },
        waker_tid: if woken { state.waker_tid } else { 0 },
        state: state.state & !STATE_PREEMPTED,
        syscall: SYSCALL_NOT_ASKED,
        user_stack: state.user_stack,
        flags: if woken && state.waker_irq != 0 {
            flags | flag::WAKER_IRQ
        } else {
            flags
        },
        kernel_frames: 0,
    }
}

/// [`flag::IOWAIT`] or 0.
#[inline(always)]
fn iowait(task: Task) -> u16 {
    let word = Known::task(task).load::<u8>(offset!(task_in_iowait));
    u16::from(word >> (offset!(task_in_iowait_bit) & 7) & 1) * flag::IOWAIT
}

/// Closes the running thread's sums at an event of its own, so that a phase can be cut there exactly. Where that can't be
/// told it is counted here: the event itself is told none the less.
#[inline(always)]
pub fn boundary(task: Task, state: &mut TaskState, now: u64) {
    emit::done(try_boundary(task, state, now));
}

#[inline(always)]
fn try_boundary(task: Task, state: &mut TaskState, now: u64) -> Result<(), Counter> {
    if emit::shed(shed::SCHEDULING) {
        return Ok(());
    }
    if state.off != 0 {
        if state.off == GAP {
            restart(state, now);
            return Ok(());
        }
        return missed_switch_in(task, state, now);
    }
    if now <= state.from {
        return Ok(());
    }
    let mut cycle = cycle(task, state, now, now, flag::BOUNDARY);
    cycle.off = now;
    cycle.user_stack = NO_USER_STACK;
    restart(state, now);
    state.attention &= ATTENTION_COPY_UP;
    io::tell(task, state, &cycle.header, true);
    emit::send_bulk(&cycle, Counter::RingCycle)
}

/// Closes whatever a thread is in when scheduling ends to be recorded: at `end`, or at its last switch if that was
/// later. Nothing is known of it from then on.
#[inline(never)]
pub fn flush(task: Task, state: &mut TaskState, end: u64) -> Result<(), Counter> {
    let mut off = state.off;
    if off == GAP {
        return Ok(());
    }
    let last = if off == 0 { state.on } else { off };
    let end = if last > end { last } else { end };
    state.off = GAP;
    if end <= state.from {
        return Ok(());
    }
    let mut flags = flag::OPEN;
    let mut wake = end;
    if off == 0 {
        off = end;
    } else if state.state & STATE_PREEMPTED != 0 {
        flags |= flag::PREEMPTED;
        wake = off;
    } else if state.wake >= off && state.wake <= end {
        wake = state.wake;
    } else {
        flags |= flag::NO_WAKE;
    }
    let mut cycle = cycle(task, state, end, wake, flags);
    cycle.off = off;
    cycle.syscall = task::system_call(task::registers_of(task));
    io::tell(task, state, &cycle.header, true);
    if wake > off && !emit::shed(shed::WAIT_STACKS) {
        return with_stack(task, cycle);
    }
    emit::send_bulk(&cycle, Counter::RingCycle)
}

#[inline(always)]
pub(super) fn waking(ctx: &BtfTracePointContext) {
    let task: Task = ctx.arg(0);
    let Some(state) = task::get(task) else {
        return;
    };
    // SAFETY: points into the map. The thread's own CPU reads these fields at switch-in, after the run queue's lock
    // has ordered the two.
    let state = unsafe { &mut *state };
    let pid_tgid = bpf_get_current_pid_tgid();
    state.waker_tgid = (pid_tgid >> 32) as u32;
    state.waker_tid = pid_tgid as u32;
    state.waker_irq = u32::from(pid_tgid == 0 || on_interrupt_stack());
    state.wake = task::now();
}

/// Memory through which an address becomes a number: the verifier forbids arithmetic on stack pointers.
#[map]
static STACK_PROBE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Whether this program runs on an interrupt's stack instead of the current task's: then the current task is whoever
/// was interrupted. x86-64 takes hard and soft interrupts on stacks of their own (`arch/x86/kernel/irq_64.c`).
#[inline(always)]
fn on_interrupt_stack() -> bool {
    let size = enabled!(kernel_stack_size);
    if size == 0 {
        return false;
    }
    let Some(slot) = STACK_PROBE.get_ptr_mut(0) else {
        return false;
    };
    let mut here = 0u64;
    let address = (&raw mut here) as u64;
    // SAFETY: this CPU's own slot; volatile so that the store and the load are not folded away.
    let address = unsafe {
        core::ptr::write_volatile(slot, address);
        core::ptr::read_volatile(slot)
    };
    let base = task::read::<u64>(task::current().cast::<u8>(), offset!(task_stack));
    base != 0 && address.wrapping_sub(base) >= u64::from(size)
}

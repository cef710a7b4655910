//! Scheduling: where a thread's time went between two switch-ins.

use crate::{Header, layout};

/// Intervals at least this long are never summed: they stream whole, ns.
pub const WHOLE_NS: u64 = 50_000;

/// Sums of shorter intervals are closed at each multiple of this, ns (2^23, about 8.4 ms: a shift instead of a
/// division in the switch path; the contract asks for at most 10 ms).
pub const WINDOW_SHIFT: u32 = 23;

/// A wait at least this long always gets a kernel stack (on a build, waits of 10 ms and more are 9 % of the waits of
/// [`WHOLE_NS`] and more, and 98 % of their time: `docs/design/0004`); below it, one stack for each [`STACK_EVERY_NS`] of
/// waiting, ns.
pub const STACK_ALWAYS_NS: u64 = 5_000_000;

/// Waiting time, ns, that shares one kernel stack among waits shorter than [`STACK_ALWAYS_NS`].
pub const STACK_EVERY_NS: u64 = 5_000_000;

/// Whether `now` lies in a later summing window than `then`.
#[inline(always)]
pub const fn new_window(then: u64, now: u64) -> bool {
    (then >> WINDOW_SHIFT) != (now >> WINDOW_SHIFT)
}

/// Bits of [`Cycle::flags`].
pub mod flag {
    /// The thread's last event: it has left its CPU for good.
    pub const END: u16 = 1 << 0;
    /// Closed by an event of the thread itself while it is on its CPU: `off`, `wake` and `header.ts` are equal.
    pub const BOUNDARY: u16 = 1 << 1;
    /// Left the CPU although it could have gone on (preempted or yielded): `wake == off`.
    pub const PREEMPTED: u16 = 1 << 2;
    /// Waiting for disk, as the kernel's own `in_iowait` says.
    pub const IOWAIT: u16 = 1 << 3;
    /// Woken from an interrupt: `waker_tid` is whoever was interrupted, not a cause.
    pub const WAKER_IRQ: u16 = 1 << 4;
    /// No wake was seen: `wake` is the switch-in.
    pub const NO_WAKE: u16 = 1 << 5;
    /// Still open when the recording was closed: the interval goes on after `header.ts`.
    pub const OPEN: u16 = 1 << 6;
    /// The wait was long enough, or drawn, for a kernel stack (which may still have failed: then 0 frames).
    pub const WANT_STACK: u16 = 1 << 7;
    /// The switch-in that ended the wait was not seen: after `wake` (after `off` with [`PREEMPTED`] or [`NO_WAKE`])
    /// nothing is known up to `header.ts`.
    pub const MISSED_IN: u16 = 1 << 8;
}

/// One thread's time from `from` to `header.ts`, without a gap:
///
/// ```text
/// from ........ on_start ────────── off ───────────── wake ────────── header.ts
///  short intervals,     on CPU, whole   blocked, whole    run queue, whole
///  as three sums
/// ```
///
/// `from` is `header.ts` of the thread's previous event, so a thread's events tile its life, and a gap between two
/// of them is a lost event. `sum_cpu + sum_runqueue + sum_blocked == on_start - from`.
///
/// Followed by `kernel_frames` addresses (`u64`), leaf first, of the wait.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Cycle {
    pub header: Header,
    pub from: u64,
    pub on_start: u64,
    pub off: u64,
    pub wake: u64,
    /// Sums over `[from, on_start)`, ns.
    pub sum_cpu: u32,
    pub sum_runqueue: u32,
    pub sum_blocked: u32,
    /// How many short cycles the sums hold.
    pub sum_count: u32,
    /// Who woke it; 0 when unknown.
    pub waker_tgid: u32,
    pub waker_tid: u32,
    /// `prev_state` at switch-out, as the kernel numbers it (1 interruptible, 2 uninterruptible, 4 stopped, …).
    pub state: u32,
    /// System call the thread was in, or -1 (page fault, interrupt, kernel thread), or -2 when not asked.
    pub syscall: i32,
    /// Index in the `USER_STACKS` map, or negative: [`NO_USER_STACK`] when none was asked for, else an errno.
    pub user_stack: i32,
    /// [`flag`].
    pub flags: u16,
    pub kernel_frames: u16,
}
layout!(
    Cycle,
    size = 112,
    header = 0,
    from = 40,
    on_start = 48,
    off = 56,
    wake = 64,
    sum_cpu = 72,
    sum_runqueue = 76,
    sum_blocked = 80,
    sum_count = 84,
    waker_tgid = 88,
    waker_tid = 92,
    state = 96,
    syscall = 100,
    user_stack = 104,
    flags = 108,
    kernel_frames = 110,
);

/// [`Cycle::user_stack`] when no user stack was asked for.
pub const NO_USER_STACK: i32 = i32::MIN;

/// [`Cycle::user_stack`] when it came as an [`crate::unwind::Wait`] of the time `off`.
pub const USER_STACK_STREAMED: i32 = i32::MIN + 1;

/// [`Cycle::syscall`] when the system call was not looked up.
pub const SYSCALL_NOT_ASKED: i32 = -2;

/// The kernel's memory of one profiled thread.
///
/// Written by the CPU that switches the thread, except `wake_ts`, `waker_*` and `attention`, which other CPUs set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskState {
    /// `header.ts` of the last event, i.e. `from` of the next.
    pub from: u64,
    /// Last switch-in; the start of the on-CPU time that is open or was closed last.
    pub on: u64,
    /// Last switch-out; 0 while on a CPU.
    pub off: u64,
    /// Last wake seen.
    pub wake: u64,
    pub start: u64,
    pub sum_cpu: u32,
    pub sum_runqueue: u32,
    pub sum_blocked: u32,
    pub sum_count: u32,
    pub waker_tgid: u32,
    pub waker_tid: u32,
    /// 1 when the last wake came from an interrupt.
    pub waker_irq: u32,
    /// `prev_state` at the last switch-out, with [`STATE_PREEMPTED`].
    pub state: u32,
    /// Length of the last wait, ns, saturated: foretells whether the next is worth a user stack.
    pub last_wait: u32,
    pub user_stack: i32,
    /// Set by others: emit at the next switch-in ([`ATTENTION_EMIT`]) or take every stack ([`ATTENTION_STACKS`]).
    pub attention: u32,
    pub waits: u32,
    /// Children and threads it bore in the [`crate::control::BIRTHS_SHIFT`] window `births_window`; only counted while
    /// [`crate::control::shed::BIRTHS`] is on.
    pub births: u32,
    pub births_window: u32,
    /// Sum of what the kernel accounts of its reads and writes, when that was told last.
    pub io_sum: u64,
    /// Summing window in which it was told.
    pub io_window: u32,
    /// Bits of [`done`].
    pub done: u32,
}
layout!(
    TaskState,
    size = 112,
    from = 0,
    on = 8,
    off = 16,
    wake = 24,
    start = 32,
    sum_cpu = 40,
    state = 68
);

/// What the first of two programs on a tracepoint has told, so that the second leaves it: where preemption is on, the
/// kernel leaves out the first while another thread is in the middle of it on this CPU. That of an exec is taken away again.
pub mod done {
    pub const EXEC: u32 = 1 << 0;
    pub const EXIT: u32 = 1 << 1;
    pub const MEMORY: u32 = 1 << 2;
    pub const PAGES: u32 = 1 << 3;
}

/// [`TaskState::off`] of a thread of whose scheduling nothing is known since its `from`: the overhead cap had it
/// switched off. It is known again from the thread's next switch.
pub const GAP: u64 = u64::MAX;

/// Own bit in [`TaskState::state`]: the thread was switched out while it could have run on.
pub const STATE_PREEMPTED: u32 = 1 << 31;

/// `TASK_DEAD` of `include/linux/sched.h`, unchanged since 4.14.
pub const TASK_DEAD: u32 = 0x80;

/// [`TaskState::attention`]: the thread's cgroup or namespaces were changed by another: emit at its next switch.
pub const ATTENTION_EMIT: u32 = 1 << 0;
/// [`TaskState::attention`]: every wait gets a stack until the thread's next own event (after an umount, whose cost
/// comes after the system call: `cleanup_mnt` runs as task work).
pub const ATTENTION_STACKS: u32 = 1 << 1;
/// [`TaskState::attention`]: the thread was seen within a copy-up: the stack of its next wait tells whether that goes on.
pub const ATTENTION_COPY_UP: u32 = 1 << 2;

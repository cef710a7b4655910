//! From a thread's cycles to intervals that tile its life: here its time is conserved.

use profiler_common::sched::{STATE_PREEMPTED, flag};

use super::task::RawCycle;
use crate::model::share::share;
use crate::model::{AwaitedIx, Interval, Span, State, Waker};

/// Difference between a cycle's sums and the time they stand for that is put right without further ado, ns.
const SUMS_TOLERANCE_NS: u64 = 1_000;

/// What had to be put right, in cycles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Corrections {
    /// Sums off by [`SUMS_TOLERANCE_NS`] at most.
    pub(super) sums: u64,
    /// Sums off by more.
    pub(super) inconsistent_sums: u64,
    /// The times within a cycle were not in order.
    pub(super) disordered: u64,
    /// Began before the previous one's end; clipped.
    pub(super) overlaps: u64,
}

/// Tiles `life` with the intervals of `cycles`, which are in order of `from`; `awaited` tells, in order of time, at what
/// the waits that began then were. What they leave open is
/// [`State::Lost`]; what they have twice is clipped.
pub(super) fn tile(
    cycles: &[RawCycle],
    awaited: &[(u64, Option<AwaitedIx>)],
    life: Span,
    corrections: &mut Corrections,
) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut cursor = life.from;
    for cycle in cycles {
        if cycle.from >= cycle.ts {
            corrections.disordered += u64::from(cycle.from > cycle.ts);
            continue;
        }
        if cycle.from < cursor && cursor > life.from {
            corrections.overlaps += 1;
        }
        if cycle.ts <= cursor {
            continue;
        }
        if cycle.from > cursor {
            let to = cycle.from.min(life.to);
            append(&mut intervals, cursor, to, State::Lost);
            cursor = to;
        }
        let rest = Span {
            from: cursor,
            to: life.to,
        };
        let at = awaited
            .binary_search_by_key(&cycle.off, |(off, _)| *off)
            .ok()
            .and_then(|place| awaited[place].1);
        pieces(cycle, at, corrections, |piece| {
            let Interval { span, state } = piece.clip(rest);
            append(&mut intervals, span.from, span.to, state);
        });
        cursor = cycle.ts.min(life.to);
    }
    append(&mut intervals, cursor, life.to, State::Lost);
    intervals.shrink_to_fit();
    intervals
}

/// Appends `[from, to)`, joined with the last interval where that loses nothing.
fn append(intervals: &mut Vec<Interval>, from: u64, to: u64, state: State) {
    if from >= to {
        return;
    }
    if let Some(last) = intervals.last_mut()
        && last.state == state
        && matches!(state, State::Cpu | State::Runqueue | State::Lost)
    {
        last.span.to = to;
        return;
    }
    intervals.push(Interval {
        span: Span { from, to },
        state,
    });
}

/// The parts of one cycle, in order; they tile `[from, ts)`. Some may have no length.
fn pieces(cycle: &RawCycle, awaited: Option<AwaitedIx>, corrections: &mut Corrections, mut emit: impl FnMut(Interval)) {
    let (from, to) = (cycle.from, cycle.ts);
    let on_start = cycle.on_start.clamp(from, to);
    let off = cycle.off.clamp(on_start, to);
    let mut wake = cycle.wake.clamp(off, to);
    if (on_start, off, wake) != (cycle.on_start, cycle.off, cycle.wake) {
        corrections.disordered += 1;
    }
    let missed_in = cycle.is(flag::MISSED_IN);
    if cycle.is(flag::PREEMPTED) || (missed_in && cycle.is(flag::NO_WAKE)) {
        wake = off;
    } else if cycle.is(flag::NO_WAKE) {
        wake = to;
    }

    let mut piece = |from, to, state| {
        emit(Interval {
            span: Span { from, to },
            state,
        });
    };
    if on_start > from {
        let (mixed, known) = sums(cycle, on_start - from, corrections);
        piece(from, from + known, mixed);
        piece(from + known, on_start, State::Lost);
    }
    piece(on_start, off, State::Cpu);
    if wake > off {
        let blocked = State::Blocked {
            stack: cycle.stack,
            syscall: cycle.syscall,
            iowait: cycle.is(flag::IOWAIT),
            task_state: cycle.state & !STATE_PREEMPTED,
            waker: (cycle.waker_tid != 0).then_some(Waker {
                tgid: cycle.waker_tgid,
                tid: cycle.waker_tid,
                interrupt: cycle.is(flag::WAKER_IRQ),
            }),
            open: cycle.is(flag::OPEN) && wake == to,
            awaited,
        };
        piece(off, wake, blocked);
    }
    piece(wake, to, if missed_in { State::Lost } else { State::Runqueue });
}

/// A cycle's sums, made to add up exactly, and how much of `length` they stand for: all of it, unless much more time
/// went by than they hold; the difference is then lost, not guessed.
fn sums(cycle: &RawCycle, length: u64, corrections: &mut Corrections) -> (State, u64) {
    let mut parts = [cycle.sum_cpu, cycle.sum_runqueue, cycle.sum_blocked].map(u64::from);
    let total: u64 = parts.iter().sum();
    let mut known = length;
    if total != length {
        let small = total.abs_diff(length) <= SUMS_TOLERANCE_NS;
        if small {
            corrections.sums += 1;
        } else {
            corrections.inconsistent_sums += 1;
        }
        let largest = parts.iter().copied().max().unwrap_or(0);
        if total == 0 || (!small && total < length) {
            known = total;
        } else if small && largest + length >= total {
            if let Some(part) = parts.iter_mut().find(|part| **part == largest) {
                *part = *part + length - total;
            }
        } else {
            parts = share(length, parts);
        }
    }
    let [cpu, runqueue, blocked] = parts;
    let count = cycle.sum_count;
    let mixed = State::Mixed {
        cpu,
        runqueue,
        blocked,
        count,
    };
    (mixed, known)
}

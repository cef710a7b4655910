//! From cycles to intervals.

use profiler_common::Counter;
use profiler_common::sched::{STATE_PREEMPTED, flag};

use crate::model::build::Builder;
use crate::model::fixture::*;
use crate::model::verify::verify;
use crate::model::{Interval, State, Waker};
use crate::recording::record::{Adopt, Begin, Cycle, End, Losses, Record, TaskId};

const SELF: TaskId = TaskId {
    tgid: 10,
    tid: 10,
    start: 90,
};

fn parent() -> TaskId {
    leader(1, 1)
}

/// Intervals of one thread, born at 100, in a session of [0, 10000).
fn timeline(cycles: Vec<Cycle>) -> Vec<(u64, u64, char)> {
    let mut records: Vec<Record> = vec![fork(parent(), SELF, 100).into()];
    records.extend(cycles.into_iter().map(Record::from));
    let session = session(span(0, 10_000), records);
    letters(&session.threads[0])
}

/// Make sure that a cycle becomes its four parts, and a thread's parts tile its life from fork to END.
#[test]
fn parts_of_a_cycle() {
    let first = Cycle {
        sum_cpu: 30,
        sum_runqueue: 15,
        sum_blocked: 5,
        sum_count: 3,
        ..cycle(SELF, [100, 150, 300, 700, 720])
    };
    let expected = [
        (100, 150, 'm'),
        (150, 300, 'c'),
        (300, 700, 'b'),
        (700, 720, 'r'),
        (720, 800, 'c'),
    ];
    assert_eq!(timeline(vec![first, last(SELF, 720, 800)]), expected);
}

/// Make sure that what a wait is known by arrives: stack, call, iowait, state, waker.
#[test]
fn facts_of_a_wait() {
    let wait = Cycle {
        stack: 5,
        syscall: 202,
        state: 2 | STATE_PREEMPTED,
        flags: flag::IOWAIT | flag::WAKER_IRQ,
        waker_tgid: 3,
        waker_tid: 4,
        ..cycle(SELF, [100, 100, 200, 300, 300])
    };
    let session = session(span(0, 1000), vec![fork(parent(), SELF, 100).into(), wait.into()]);
    let expected = State::Blocked {
        stack: 5,
        syscall: 202,
        iowait: true,
        task_state: 2,
        waker: Some(Waker {
            tgid: 3,
            tid: 4,
            interrupt: true,
        }),
        open: false,
        awaited: None,
    };
    let blocked = Interval {
        span: span(200, 300),
        state: expected,
    };
    assert_eq!(session.threads[0].intervals[1], blocked);
}

/// Make sure that flags rule over times that contradict them.
#[test]
fn flags() {
    let flagged = |flags, times| Cycle {
        flags,
        ..cycle(SELF, times)
    };
    let preempted = flagged(flag::PREEMPTED, [100, 100, 200, 250, 300]);
    assert_eq!(
        timeline(vec![preempted, last(SELF, 300, 400)]),
        [(100, 200, 'c'), (200, 300, 'r'), (300, 400, 'c')]
    );
    let no_wake = flagged(flag::NO_WAKE, [100, 100, 200, 250, 300]);
    assert_eq!(
        timeline(vec![no_wake, last(SELF, 300, 400)]),
        [(100, 200, 'c'), (200, 300, 'b'), (300, 400, 'c')]
    );
    let boundary = flagged(flag::BOUNDARY, [100, 100, 200, 200, 200]);
    assert_eq!(timeline(vec![boundary, last(SELF, 200, 400)]), [(100, 400, 'c')]);
}

/// Make sure that a lost cycle leaves [`State::Lost`], in the middle and at the beginning.
#[test]
fn gaps_are_lost() {
    let cycles = vec![cycle(SELF, [300, 300, 400, 400, 400]), last(SELF, 600, 700)];
    assert_eq!(
        timeline(cycles),
        [(100, 300, 'l'), (300, 400, 'c'), (400, 600, 'l'), (600, 700, 'c')]
    );
}

/// Make sure that a duplicate and an overlap count once, and that they are told.
#[test]
fn overlaps_are_clipped() {
    let one = cycle(SELF, [100, 100, 200, 300, 300]);
    let skewed = cycle(SELF, [250, 250, 400, 400, 400]);
    let cycles = [one.clone(), one, skewed, last(SELF, 400, 500)];
    let mut records: Vec<Record> = vec![fork(parent(), SELF, 100).into()];
    records.extend(cycles.into_iter().map(Record::from));
    let session = session(span(0, 1000), records);
    assert_eq!(
        letters(&session.threads[0]),
        [(100, 200, 'c'), (200, 300, 'b'), (300, 500, 'c')]
    );
    assert_eq!(loss(&session, "scheduling intervals that overlapped"), 2);
}

/// Make sure that a sum that is cut by an overlap still adds up, in proportion.
#[test]
fn overlap_cuts_sums() {
    let mixed = Cycle {
        sum_cpu: 100,
        sum_runqueue: 60,
        sum_blocked: 40,
        sum_count: 10,
        ..cycle(SELF, [200, 400, 400, 400, 400])
    };
    let records = vec![
        fork(parent(), SELF, 100).into(),
        cycle(SELF, [100, 100, 300, 300, 300]).into(),
        mixed.into(),
        last(SELF, 400, 500).into(),
    ];
    let session = session(span(0, 1000), records);
    let expected = State::Mixed {
        cpu: 50,
        runqueue: 30,
        blocked: 20,
        count: 5,
    };
    assert_eq!(session.threads[0].intervals[1].state, expected);
}

/// Make sure that sums that miss by a little are corrected in the largest, and by much are told and not guessed.
#[test]
fn inconsistent_sums() {
    let of = |cpu, runqueue, blocked, length: u64| {
        let mixed = Cycle {
            sum_cpu: cpu,
            sum_runqueue: runqueue,
            sum_blocked: blocked,
            sum_count: 1,
            ..cycle(SELF, [100, 100 + length, 100 + length, 100 + length, 100 + length])
        };
        let records = vec![
            fork(parent(), SELF, 100).into(),
            mixed.into(),
            last(SELF, 100 + length, 90_000).into(),
        ];
        let session = session(span(0, 100_000), records);
        let parts = session.threads[0]
            .intervals
            .iter()
            .find_map(|interval| match interval.state {
                State::Mixed {
                    cpu, runqueue, blocked, ..
                } => Some((cpu, runqueue, blocked)),
                _ => None,
            });
        let lost: u64 = session.threads[0]
            .intervals
            .iter()
            .filter(|interval| interval.state == State::Lost)
            .map(|interval| interval.span.len())
            .sum();
        (
            parts,
            lost,
            loss(&session, "sums off"),
            loss(&session, "inconsistent sums"),
        )
    };
    assert_eq!(of(10, 80, 10, 100), (Some((10, 80, 10)), 0, 0, 0));
    assert_eq!(of(10, 80, 10, 103), (Some((10, 83, 10)), 0, 1, 0));
    assert_eq!(of(10, 80, 10, 95), (Some((10, 75, 10)), 0, 1, 0));
    assert_eq!(of(10, 80, 10, 5_000), (Some((10, 80, 10)), 4_900, 0, 1));
    assert_eq!(of(10_000, 80_000, 10_000, 1_000), (Some((100, 800, 100)), 0, 0, 1));
    assert_eq!(of(40, 40, 40, 1), (Some((1, 0, 0)), 0, 1, 0));
    assert_eq!(of(0, 0, 0, 50), (None, 50, 1, 0));
}

/// Make sure that records in any order give the same session.
#[test]
fn order_does_not_matter() {
    let cycles = || {
        vec![
            cycle(SELF, [100, 100, 200, 300, 310]),
            cycle(SELF, [310, 310, 400, 450, 460]),
            cycle(SELF, [460, 460, 500, 500, 520]),
            last(SELF, 520, 600),
        ]
    };
    let ordered = timeline(cycles());
    let mut shuffled = cycles();
    shuffled.reverse();
    assert_eq!(timeline(shuffled), ordered);
    assert_eq!(ordered.last(), Some(&(520, 600, 'c')));
}

/// Make sure that times within a cycle that make no sense neither crash nor break the tiling.
#[test]
fn nonsense_is_survived() {
    let max = u64::MAX;
    let cycles = vec![
        cycle(SELF, [500, 400, 300, 200, 100]),
        cycle(SELF, [100, 90, max, 0, 200]),
        cycle(SELF, [max, max, max, max, max]),
        cycle(SELF, [0, max, max, max, max]),
    ];
    let mut records: Vec<Record> = vec![fork(parent(), SELF, 100).into()];
    records.extend(cycles.into_iter().map(Record::from));
    records.push(sample(SELF, max, 1).into());
    let told = session(span(0, 10_000), records.clone());
    assert!(loss(&told, "scheduling intervals with times out of order") >= 1);
    let mut builder = Builder::new();
    builder.extend(records);
    assert_eq!(verify(&builder.finish(Vec::new())), Vec::<String>::new());
}

/// Make sure that a thread that is still there is covered by its OPEN cycle, its wait marked open, and the rest lost.
#[test]
fn open_threads() {
    let open = Cycle {
        flags: flag::OPEN | flag::NO_WAKE,
        ..cycle(SELF, [100, 100, 200, 900, 900])
    };
    let records = || vec![fork(parent(), SELF, 100).into(), open.clone().into()];
    let closed_there = session(span(0, 900), records());
    let thread = &closed_there.threads[0];
    assert_eq!(letters(thread), [(100, 200, 'c'), (200, 900, 'b')]);
    assert!(matches!(thread.intervals[1].state, State::Blocked { open: true, .. }));
    assert!(thread.open && closed_there.processes[0].open);
    let closed_later = session(span(0, 1000), records());
    assert_eq!(letters(&closed_later.threads[0]).last(), Some(&(900, 1000, 'l')));
    // Woken and waiting for a CPU: the wait has ended.
    let woken = Cycle {
        flags: flag::OPEN,
        ..cycle(SELF, [100, 100, 200, 800, 900])
    };
    let session = session(span(0, 900), vec![fork(parent(), SELF, 100).into(), woken.into()]);
    assert!(matches!(
        session.threads[0].intervals[1].state,
        State::Blocked { open: false, .. }
    ));
}

/// Make sure that a thread of which nothing more is heard is lost after its last cycle, and not blocked or ended.
#[test]
fn unknown_after_the_last_cycle() {
    assert_eq!(
        timeline(vec![cycle(SELF, [100, 100, 200, 300, 310])]).last(),
        Some(&(310, 10_000, 'l'))
    );
    assert_eq!(timeline(Vec::new()), [(100, 10_000, 'l')]);
}

/// Make sure that a sleeper that was adopted and never ran counts as blocked, unless it may have been missed.
#[test]
fn adopted_sleeper() {
    let found = |on_cpu, state, lost| {
        let adopt = Adopt {
            on_cpu,
            state,
            ..adopt(SELF, 50)
        };
        let losses = Losses {
            counters: vec![(Counter::RingCycle as u32, lost)],
            ..Losses::default()
        };
        let session = session(span(100, 1000), vec![adopt.into(), losses.into()]);
        assert!(session.processes[0].adopted);
        letters(&session.threads[0])
    };
    assert_eq!(found(false, 1, 0), [(100, 1000, 'b')]);
    assert_eq!(found(false, 1, 3), [(100, 1000, 'l')]);
    assert_eq!(found(false, 0, 0), [(100, 1000, 'l')]);
    assert_eq!(found(true, 1, 0), [(100, 1000, 'l')]);
}

/// Make sure that everything is clipped to the session, sums in proportion.
#[test]
fn clipped_to_the_session() {
    let before = Cycle {
        sum_cpu: 100,
        sum_count: 2,
        ..cycle(SELF, [100, 200, 300, 300, 300])
    };
    let records = vec![
        adopt(SELF, 100).into(),
        before.into(),
        sample(SELF, 120, 1).into(),
        sample(SELF, 180, 1).into(),
        cycle(SELF, [300, 300, 500, 600, 600]).into(),
        sample(SELF, 599, 1).into(),
        last(SELF, 600, 700).into(),
    ];
    let session = session(span(150, 550), records);
    let thread = &session.threads[0];
    assert_eq!(letters(thread), [(150, 200, 'm'), (200, 500, 'c'), (500, 550, 'b')]);
    assert_eq!(thread.samples, [(180, 1)]);
    assert!(thread.open, "it ended after the recording");
    assert_eq!(session.losses.named, []);
}

/// Make sure that a thread that lived outside the session only takes no time.
#[test]
fn outside_the_session() {
    let records = vec![fork(parent(), SELF, 10).into(), last(SELF, 10, 20).into()];
    let session = session(span(100, 200), records);
    assert_eq!(session.threads[0].span, span(100, 100));
    assert!(session.threads[0].intervals.is_empty() && !session.threads[0].open);
}

/// Make sure that a lost END is made good by the Exit, and that time after it is not made up.
#[test]
fn lost_end() {
    let records = vec![
        fork(parent(), SELF, 100).into(),
        cycle(SELF, [100, 100, 200, 300, 300]).into(),
        exit(SELF, 400, 3 << 8).into(),
    ];
    let session = session(span(0, 1000), records);
    let thread = &session.threads[0];
    assert_eq!(thread.span, span(100, 400));
    assert_eq!(letters(thread).last(), Some(&(300, 400, 'l')));
    assert!(!thread.open);
    assert_eq!(session.processes[0].exit_code, Some(3 << 8));
    assert_eq!(loss(&session, "threads whose end was not seen"), 1);
}

/// Make sure that what comes after END is left out and told.
#[test]
fn after_the_end() {
    let records = vec![
        fork(parent(), SELF, 100).into(),
        last(SELF, 100, 200).into(),
        cycle(SELF, [200, 200, 300, 300, 300]).into(),
        sample(SELF, 250, 1).into(),
    ];
    let session = session(span(0, 1000), records);
    assert_eq!(letters(&session.threads[0]), [(100, 200, 'c')]);
    assert_eq!(loss(&session, "scheduling intervals after"), 1);
    assert_eq!(loss(&session, "CPU samples outside"), 1);
}

/// Make sure that a recording without its end covers time up to its last event, and says so.
#[test]
fn cut_off() {
    let mut builder = Builder::new();
    let begin = Begin {
        mono: 1_000_000_000,
        command: None,
    };
    builder.push(begin.into());
    builder.push(fork(parent(), SELF, 1_500_000_000).into());
    builder.push(
        cycle(
            SELF,
            [
                1_500_000_000,
                1_500_000_000,
                2_000_000_000,
                3_250_000_000,
                3_250_000_000,
            ],
        )
        .into(),
    );
    let session = builder.finish(vec!["block 7 is broken".to_owned()]);
    assert_eq!(session.span, span(1_000_000_000, 3_250_000_000));
    assert_eq!(session.closed, None);
    assert_eq!(session.damage.len(), 2);
    assert!(session.damage[1].contains("cut off at 2.250 s"), "{:?}", session.damage);
    assert_eq!(verify(&session), Vec::<String>::new());
}

/// Make sure that an empty recording gives an empty session.
#[test]
fn empty() {
    let session = Builder::new().finish(Vec::new());
    assert!(session.processes.is_empty() && session.span.is_empty());
    let mut builder = Builder::new();
    let end = End {
        mono: 5,
        exit_code: Some(2),
    };
    builder.push(end.into());
    assert_eq!(builder.finish(Vec::new()).closed, Some(Some(2)));
}

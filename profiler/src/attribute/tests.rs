//! What phases and flamegraphs are charged with.

use profiler_common::sched::flag;

use super::resources::{Resources, Wait, phase, thread_within};
use super::stacks::{LOST, NO_STACK, NOT_SAMPLED, RUN_QUEUE, SHORT_WAITS, StackRow, off_cpu, on_cpu, wall};
use super::waits::Classifier;
use crate::model::fixture::*;
use crate::model::{Phase, PhaseKind, ProcessIx, Session, Span, ThreadIx};
use crate::recording::record::{Cycle, Frame, Meta, Place, Record, Stack, Symbol, TaskId};

const MAIN: TaskId = TaskId {
    tgid: 10,
    tid: 10,
    start: 1_000,
};
const WORKER: TaskId = TaskId {
    tgid: 10,
    tid: 11,
    start: 1_000,
};
const CHILD: TaskId = TaskId {
    tgid: 20,
    tid: 20,
    start: 2_000,
};
/// Stacks: a pipe read with a user frame, one of user frames only, one without frames.
const PIPE: u32 = 1;
const USER: u32 = 2;
const EMPTY: u32 = 3;

/// ```text
///          1000    2000      3000      4000      5000      6000      7000
/// main       mixed   cpu      pipe      queue     cpu ─────────────── end
/// worker     cpu ── (lost) ── cpu ──────────────── end at 5000
/// child              cpu (no sample) ─── sleep ─────────── end at 6000
/// ```
fn sample_session() -> Session {
    let mixed = Cycle {
        sum_cpu: 500,
        sum_runqueue: 300,
        sum_blocked: 200,
        sum_count: 10,
        stack: PIPE,
        ..cycle(MAIN, [1_000, 2_000, 3_000, 4_000, 5_000])
    };
    let sleep = Cycle {
        syscall: 230,
        ..cycle(CHILD, [2_000, 2_000, 4_000, 6_000, 6_000])
    };
    let boundary = Cycle {
        flags: flag::BOUNDARY,
        ..cycle(WORKER, [1_000, 1_000, 2_000, 2_000, 2_000])
    };
    let meta = Meta {
        machine: "x86_64".to_owned(),
        ..Meta::default()
    };
    let mut records: Vec<Record> = vec![
        meta.into(),
        fork(leader(1, 1), MAIN, 1_000).into(),
        mixed.into(),
        last(MAIN, 5_000, 7_000).into(),
        fork(MAIN, WORKER, 1_000).into(),
        boundary.into(),
        last(WORKER, 3_000, 5_000).into(),
        fork(MAIN, CHILD, 2_000).into(),
        sleep.into(),
        last(CHILD, 6_000, 6_000).into(),
        sample(MAIN, 2_500, USER).into(),
        sample(MAIN, 5_500, USER).into(),
        sample(MAIN, 6_500, EMPTY).into(),
        sample(WORKER, 4_000, 99).into(),
    ];
    for (frame, name) in [(1, "schedule"), (2, "pipe_read"), (3, "main")] {
        let place = if frame < 3 {
            Place::Kernel(frame.into())
        } else {
            Place::Unmapped(frame.into())
        };
        records.push(Frame { id: frame, place }.into());
        let symbol = Symbol {
            frame,
            name: name.as_bytes().to_vec(),
            offset: 0,
        };
        records.push(symbol.into());
    }
    for (id, kernel, frames) in [(PIPE, 2, vec![1, 2, 3]), (USER, 0, vec![3]), (EMPTY, 0, vec![])] {
        let stack = Stack {
            id,
            kernel,
            frames,
            user_error: 0,
        };
        records.push(stack.into());
    }
    session(span(0, 10_000), records)
}

fn both(session: &Session) -> Vec<ProcessIx> {
    vec![process_ix(session, 10, 1_000), process_ix(session, 20, 2_000)]
}

fn main_within(part: Span) -> Resources {
    let session = sample_session();
    thread_within(&session, thread_ix(&session, MAIN), part, &mut Classifier::new())
}

/// Make sure that a thread's states are counted by class, and evidence with them.
#[test]
fn states_of_a_thread() {
    let expected = Resources {
        cpu: 500 + 1_000 + 2_000,
        runqueue: 300 + 1_000,
        ipc: 1_000,
        short_blocked: 200,
        with_kernel_stack: 1_000,
        with_user_stack: 1_000,
        ..Resources::default()
    };
    assert_eq!(main_within(span(0, 10_000)), expected);
    assert_eq!(expected.total(), 6_000);
    assert_eq!(expected.blocked(), 1_200);
    assert_eq!(expected.waited(Wait::Ipc), 1_000);
}

/// Make sure that edges cut exactly, and that what a cut through sums can be wrong by is told.
#[test]
fn edges() {
    let cut = Resources {
        cpu: 250,
        runqueue: 150,
        short_blocked: 100,
        cut: 500,
        ..Resources::default()
    };
    assert_eq!(main_within(span(1_200, 1_700)), cut);
    let inside = Resources {
        ipc: 100,
        with_kernel_stack: 100,
        with_user_stack: 100,
        ..Resources::default()
    };
    assert_eq!(main_within(span(3_100, 3_200)), inside);
    assert_eq!(main_within(span(8_000, 9_000)), Resources::default());
    assert_eq!(main_within(span(3_000, 3_000)), Resources::default());
    let whole_sums = main_within(span(1_000, 2_000));
    assert_eq!((whole_sums.total(), whole_sums.cut), (1_000, 0));
}

/// Make sure that a phase's wall time is its main thread's and adds up to its length with what is unattributed, and
/// that its processes' times stand beside it.
#[test]
fn time_of_a_phase() {
    let session = sample_session();
    let mut run = Phase {
        kind: PhaseKind::Run,
        label: Vec::new(),
        span: span(500, 8_500),
        open: false,
        parent: None,
        operation: None,
        container: None,
        main: Some(thread_ix(&session, MAIN)),
        processes: both(&session),
        bytes: None,
        evidence: (String::new(), String::new()),
    };
    let mut classifier = Classifier::new();
    let told = phase(&session, &run, &mut classifier);
    assert_eq!((told.wall.total(), told.unattributed), (6_000, 2_000));
    assert_eq!(told.all.total(), 6_000 + 4_000 + 4_000);
    assert_eq!((told.all.sleep, told.all.lost), (2_000, 1_000));
    let rows: Vec<u64> = told.processes.iter().map(|(_, resources)| resources.total()).collect();
    assert_eq!(rows, [10_000, 4_000]);
    run.main = None;
    run.span = span(1_000, 1_500);
    let told = phase(&session, &run, &mut classifier);
    assert_eq!((told.wall, told.unattributed), (Resources::default(), 500));
    assert_eq!(told.processes.len(), 1, "the child was not born");
}

fn told(session: &Session, rows: Vec<StackRow>) -> Vec<(u32, u32, &'static str, u64, u64)> {
    let tid = |ix: ThreadIx| session.threads[ix.ix()].id.tid;
    let row = |row: StackRow| (tid(row.thread), row.stack, row.label.unwrap_or(""), row.ns, row.count);
    let mut rows: Vec<_> = rows.into_iter().map(row).collect();
    rows.sort_unstable();
    rows
}

/// Make sure that samples share out the exact on-CPU time of their own thread, and that threads without a sample and
/// samples without a stack keep their time.
#[test]
fn on_cpu_stacks() {
    let session = sample_session();
    let rows = told(&session, on_cpu(&session, &both(&session), span(0, 10_000)));
    let expected = [
        (10, 0, NO_STACK, 1_167, 1),
        (10, USER, "", 2_333, 2),
        (11, 0, NO_STACK, 3_000, 1),
        (20, 0, NOT_SAMPLED, 2_000, 0),
    ];
    assert_eq!(rows.iter().map(|row| row.3).sum::<u64>(), 3_500 + 3_000 + 2_000);
    assert_eq!(rows.len(), expected.len());
    for (row, wanted) in rows.iter().zip(expected) {
        assert_eq!((row.0, row.1, row.2, row.4), (wanted.0, wanted.1, wanted.2, wanted.4));
        assert!(row.3.abs_diff(wanted.3) <= 1, "{row:?} {wanted:?}");
    }
    let part = told(&session, on_cpu(&session, &both(&session), span(5_000, 6_000)));
    assert_eq!(part, [(10, USER, "", 1_000, 1)]);
}

/// Make sure that waits keep their exact clipped time by stack, or by class where there is none.
#[test]
fn off_cpu_stacks() {
    let session = sample_session();
    let rows = off_cpu(&session, &both(&session), span(1_500, 5_000), &mut Classifier::new());
    let expected = [
        (10, 0, SHORT_WAITS, 100, 5),
        (10, PIPE, "", 1_000, 1),
        (20, 0, "[no stack: sleep]", 1_000, 1),
    ];
    assert_eq!(told(&session, rows), expected);
}

/// Make sure that wall-clock rows hold run queues and lost time, too, and so all the time there is.
#[test]
fn wall_stacks() {
    let session = sample_session();
    let rows = told(
        &session,
        wall(&session, &both(&session), span(0, 10_000), &mut Classifier::new()),
    );
    assert!(rows.contains(&(10, 0, RUN_QUEUE, 1_300, 11)));
    assert!(rows.contains(&(11, 0, LOST, 1_000, 1)));
    assert_eq!(rows.iter().map(|row| row.3).sum::<u64>(), 14_000);
}

/// Make sure that adding stops at the largest number instead of running over.
#[test]
fn adding_saturates() {
    let mut sum = Resources {
        cpu: u64::MAX,
        disk: 1,
        ..Resources::default()
    };
    sum.add(&sum.clone());
    assert_eq!((sum.cpu, sum.disk, sum.total()), (u64::MAX, 2, u64::MAX));
}

//! Stacks with the time that each stands for: what flamegraphs draw.

use std::collections::BTreeMap;

use super::resources::{Wait, clipped, distinct};
use super::waits::Classifier;
use crate::model::{Interval, ProcessIx, Session, Span, State, ThreadIx, share::sum};

/// Label of on-CPU time of threads that no sample hit.
pub const NOT_SAMPLED: &str = "[not sampled]";
/// Label of on-CPU time of samples whose stack could not be taken.
pub const NO_STACK: &str = "[no stack]";
/// Label of time in run queues.
pub const RUN_QUEUE: &str = "[run queue]";
/// Label of waits too short to have a stack each.
pub const SHORT_WAITS: &str = "[short waits]";
/// Label of time that no event covers.
pub const LOST: &str = "[lost]";

/// A thread's time in one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRow {
    pub process: ProcessIx,
    pub thread: ThreadIx,
    /// Id of the stack, 0 for none: then `label` says what it is instead.
    pub stack: u32,
    /// Stands for the whole stack where there is none.
    pub label: Option<&'static str>,
    /// Why the thread waited, for waits with a stack of their own.
    pub wait: Option<Wait>,
    /// Time, ns. A sample's is a share of the thread's exact time on CPUs within the span.
    pub ns: u64,
    /// Samples or waits.
    pub count: u64,
}

/// Label of waits without a stack.
pub fn no_stack(wait: Wait) -> &'static str {
    match wait {
        Wait::Disk => "[no stack: disk]",
        Wait::Network => "[no stack: network]",
        Wait::Lock => "[no stack: lock]",
        Wait::Ipc => "[no stack: ipc]",
        Wait::Child => "[no stack: child]",
        Wait::Sleep => "[no stack: sleep]",
        Wait::Other => "[no stack: other]",
    }
}

/// On-CPU stacks of some processes within `span`. Each of a thread's samples stands for the same share of its time on
/// CPUs there, so the rows add up to [`super::resources::Resources::cpu`] of the same processes exactly.
pub fn on_cpu(session: &Session, processes: &[ProcessIx], span: Span) -> Vec<StackRow> {
    let mut rows = Vec::new();
    for (process, ix) in threads(session, processes) {
        let Some(thread) = session.threads.get(ix.ix()) else {
            continue;
        };
        let cpu = sum(clipped(thread, span).map(|(piece, _)| match piece.state {
            State::Cpu => piece.span.len(),
            State::Mixed { cpu, .. } => cpu,
            State::Runqueue | State::Blocked { .. } | State::Lost => 0,
        }));
        rows.extend(sampled(session, process, ix, span, cpu));
    }
    rows
}

/// The samples of a thread within `span` as shares of the `cpu` ns that it was on CPUs there.
fn sampled(session: &Session, process: ProcessIx, ix: ThreadIx, span: Span, cpu: u64) -> Vec<StackRow> {
    let Some(thread) = session.threads.get(ix.ix()) else {
        return Vec::new();
    };
    let first = thread.samples.partition_point(|(ts, _)| *ts < span.from);
    let end = thread.samples.partition_point(|(ts, _)| *ts < span.to).max(first);
    let samples = &thread.samples[first..end];
    let row = |stack, label, ns, count| StackRow {
        process,
        thread: ix,
        stack,
        label,
        wait: None,
        ns,
        count,
    };
    if samples.is_empty() {
        let unseen = (cpu > 0).then(|| row(0, Some(NOT_SAMPLED), cpu, 0));
        return unseen.into_iter().collect();
    }
    let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
    for (_, stack) in samples {
        *counts.entry(usable(session, *stack)).or_default() += 1;
    }
    // Differences of rounded running sums: exact in total, and no stack is off by more than 1 ns.
    let share = |count: u64| u128::from(cpu) * u128::from(count) / samples.len() as u128;
    let mut before = 0;
    let mut rows = Vec::new();
    for (stack, count) in counts {
        let ns = share(before + count) - share(before);
        before += count;
        let label = (stack == 0).then_some(NO_STACK);
        rows.push(row(stack, label, u64::try_from(ns).unwrap_or(cpu), count));
    }
    rows
}

/// One interval of a thread, or a part of one, by stack; `wait` is what was waited for if it was blocked. The rows add up to
/// its length.
pub fn of_piece(session: &Session, process: ProcessIx, thread: ThreadIx, piece: Interval, wait: Wait) -> Vec<StackRow> {
    let ns = piece.span.len();
    let row = |stack, label, wait, ns, count| StackRow {
        process,
        thread,
        stack,
        label,
        wait,
        ns,
        count,
    };
    let mut rows = match piece.state {
        State::Cpu => sampled(session, process, thread, piece.span, ns),
        State::Runqueue => vec![row(0, Some(RUN_QUEUE), None, ns, 1)],
        State::Lost => vec![row(0, Some(LOST), None, ns, 1)],
        State::Blocked { stack, .. } => {
            let stack = usable(session, stack);
            let label = (stack == 0).then_some(no_stack(wait));
            vec![row(stack, label, (stack != 0).then_some(wait), ns, 1)]
        }
        State::Mixed {
            cpu,
            runqueue,
            blocked,
            count,
        } => {
            let mut rows = sampled(session, process, thread, piece.span, cpu);
            rows.push(row(0, Some(RUN_QUEUE), None, runqueue, u64::from(count)));
            rows.push(row(0, Some(SHORT_WAITS), None, blocked, u64::from(count)));
            rows
        }
    };
    rows.retain(|row| row.ns > 0);
    rows
}

/// Stacks that threads waited in within `span`, each with its exact time; waits without a stack by their class. The
/// rows add up to [`super::resources::Resources::blocked`] of the same processes.
pub fn off_cpu(session: &Session, processes: &[ProcessIx], span: Span, classifier: &mut Classifier) -> Vec<StackRow> {
    waits(session, processes, span, classifier, false)
}

/// All time of the threads within `span`: on CPUs, in run queues, waiting, lost. The rows add up to
/// [`super::resources::Resources::total`] of the same processes.
pub fn wall(session: &Session, processes: &[ProcessIx], span: Span, classifier: &mut Classifier) -> Vec<StackRow> {
    let mut rows = on_cpu(session, processes, span);
    rows.extend(waits(session, processes, span, classifier, true));
    rows
}

/// Stack, label and class of rows that are added up.
type Waited = (u32, Option<&'static str>, Option<Wait>);

fn waits(
    session: &Session,
    processes: &[ProcessIx],
    span: Span,
    classifier: &mut Classifier,
    all: bool,
) -> Vec<StackRow> {
    let mut rows = Vec::new();
    for (process, ix) in threads(session, processes) {
        let Some(thread) = session.threads.get(ix.ix()) else {
            continue;
        };
        let mut sums: BTreeMap<Waited, (u64, u64)> = BTreeMap::new();
        let mut add = |stack, label, wait, ns, count| {
            if ns > 0 {
                let sum = sums.entry((stack, label, wait)).or_default();
                *sum = (sum.0 + ns, sum.1 + count);
            }
        };
        for (piece, _) in clipped(thread, span) {
            let ns = piece.span.len();
            match piece.state {
                State::Blocked { stack, .. } => {
                    let stack = usable(session, stack);
                    let wait = classifier.classify(session, piece.state).wait;
                    add(
                        stack,
                        (stack == 0).then_some(no_stack(wait)),
                        (stack != 0).then_some(wait),
                        ns,
                        1,
                    );
                }
                State::Mixed {
                    runqueue,
                    blocked,
                    count,
                    ..
                } => {
                    add(0, Some(SHORT_WAITS), None, blocked, u64::from(count));
                    if all {
                        add(0, Some(RUN_QUEUE), None, runqueue, u64::from(count));
                    }
                }
                State::Runqueue if all => add(0, Some(RUN_QUEUE), None, ns, 1),
                State::Lost if all => add(0, Some(LOST), None, ns, 1),
                State::Runqueue | State::Lost | State::Cpu => {}
            }
        }
        rows.extend(sums.into_iter().map(|((stack, label, wait), (ns, count))| StackRow {
            process,
            thread: ix,
            stack,
            label,
            wait,
            ns,
            count,
        }));
    }
    rows
}

/// The stack's id, or 0 when the recording holds no frame of it.
fn usable(session: &Session, stack: u32) -> u32 {
    let frames = session.stacks.get(stack).map_or(0, |stack| stack.frames.len());
    if frames > 0 { stack } else { 0 }
}

fn threads(session: &Session, processes: &[ProcessIx]) -> impl Iterator<Item = (ProcessIx, ThreadIx)> {
    distinct(processes).into_iter().flat_map(|ix| {
        let process = session.processes.get(ix.ix());
        let threads = process.map(|process| process.threads.as_slice()).unwrap_or_default();
        threads.iter().map(move |thread| (ix, *thread))
    })
}

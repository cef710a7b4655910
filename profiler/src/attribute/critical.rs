//! The critical path of a span of time: the chain of threads that its end waited for, back to its start.
//!
//! ```text
//! client   ──cpu──┐ blocked: unix socket .......................┌──cpu── end
//!                 │ wakes                                 wakes │
//! daemon          └──cpu──┐ blocked: child ......┌──cpu─────────┘
//!                         │ makes         wakes  │
//! child                   └──cpu── disk ──cpu────┘ exit
//! ```
//!
//! From the end backwards: time on a CPU, in a run queue and in short waits is the thread's own. A wait that another
//! thread ended is not: the path goes on with the thread that did, at the moment of the wake, and from the birth of a
//! thread with its maker. A wait that an interrupt ended (a disk, a network card, a timer), or a thread that is not
//! recorded, is the thread's own, for the reason that the wait itself names; but for an answer over loopback, which its
//! sender delivers itself. So the segments follow each other without a
//! gap or an overlap, and sum to the span exactly; what no thread covers is unattributed.
//! See `docs/design/0020-critical-path.md`.

mod links;

pub use links::ExchangeIx;

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;

use links::Links;

use super::resources::Wait;
use super::resources::{Resources, distinct};
use super::waits::{Class, Classifier, POLL};
use crate::model::{Operation, OperationIx, PhaseIx, ProcessIx, Session, Span, State, Thread, ThreadIx, Waker};

/// Most threads that the path goes through at one moment: more go round (times of two CPUs that disagree, a broken
/// recording).
const MOST_JUMPS: usize = 64;

/// A piece of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    pub span: Span,
    /// Whose time it is, and what it did; `None` for time that no thread covers.
    pub doing: Option<(ThreadIx, State)>,
    /// Of a wait: the answer that its process was to get meanwhile.
    pub answer: Option<ExchangeIx>,
}

/// A wait at many files, in a process that was to get an answer over the network.
const ANSWER: Class = Class {
    wait: Wait::Network,
    detail: "answer over the network",
};

/// What a part of a path was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    Cpu,
    Runqueue,
    Wait(Class),
    /// Waits shorter than [`profiler_common::sched::WHOLE_NS`], known by their sum only.
    ShortWaits,
    /// No event of the thread covers it.
    Lost,
    /// No thread is known that it could be charged to.
    Unattributed,
}

impl Reason {
    /// Stable lower-case name: a resource state.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Cpu => "cpu",
            Reason::Runqueue => "runqueue",
            Reason::Wait(class) => class.wait.name(),
            Reason::ShortWaits => "short_waits",
            Reason::Lost => "lost",
            Reason::Unattributed => "unattributed",
        }
    }

    /// A few words for people.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Cpu => "on-CPU",
            Reason::Runqueue => "run queue",
            Reason::Wait(class) => class.detail,
            Reason::ShortWaits => "short waits",
            Reason::Lost => "lost",
            Reason::Unattributed => "unattributed",
        }
    }
}

impl Segment {
    /// Time that no thread covers.
    fn of_nobody(span: Span) -> Segment {
        Segment {
            span,
            doing: None,
            answer: None,
        }
    }

    /// What it was spent on, ns; adds up to its length.
    pub fn parts(&self, session: &Session, classifier: &mut Classifier) -> Vec<(Reason, u64)> {
        let ns = self.span.len();
        let Some((_, state)) = self.doing else {
            return vec![(Reason::Unattributed, ns)];
        };
        match state {
            State::Cpu => vec![(Reason::Cpu, ns)],
            State::Runqueue => vec![(Reason::Runqueue, ns)],
            State::Blocked { .. } => vec![(Reason::Wait(self.class(session, state, classifier)), ns)],
            State::Mixed {
                cpu, runqueue, blocked, ..
            } => vec![
                (Reason::Cpu, cpu),
                (Reason::Runqueue, runqueue),
                (Reason::ShortWaits, blocked),
            ],
            State::Lost => vec![(Reason::Lost, ns)],
        }
    }

    /// Why its thread waited, as [`Classifier::classify`], but for an answer that its process was to get.
    pub fn class(&self, session: &Session, state: State, classifier: &mut Classifier) -> Class {
        match classifier.classify(session, state) {
            Class { detail: POLL, .. } if self.answer.is_some() => ANSWER,
            class => class,
        }
    }

    /// Whose answer its thread waited for, where it was that.
    pub fn answer(&self, session: &Session, classifier: &mut Classifier) -> Option<ExchangeIx> {
        let (_, state) = self.doing.filter(|(_, state)| matches!(state, State::Blocked { .. }))?;
        self.answer.filter(|_| self.class(session, state, classifier) == ANSWER)
    }

    /// The process whose time it is.
    pub fn process(&self, session: &Session) -> Option<ProcessIx> {
        let (thread, _) = self.doing?;
        session.threads.get(thread.ix()).map(|thread| thread.process)
    }
}

/// A critical path: segments in order of time, which tile its span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    pub span: Span,
    pub segments: Vec<Segment>,
}

impl Path {
    /// Time by resource state; with the second figure, the unattributed ns, it adds up to the span's length.
    pub fn resources(&self, session: &Session, classifier: &mut Classifier) -> (Resources, u64) {
        let (mut resources, mut unattributed) = (Resources::default(), 0);
        for segment in &self.segments {
            match segment.doing {
                Some((thread, state)) => {
                    let piece = crate::model::Interval {
                        span: segment.span,
                        state,
                    };
                    let whole = session
                        .threads
                        .get(thread.ix())
                        .and_then(|thread| before(thread, segment.span.to))
                        .is_some_and(|interval| interval.span == segment.span);
                    resources.count(session, piece, whole, segment.class(session, state, classifier).wait);
                }
                None => unattributed += segment.span.len(),
            }
        }
        (resources, unattributed)
    }
}

/// Finds paths of one session.
pub struct Paths<'a> {
    session: &'a Session,
    /// Threads by tgid and tid, in order of birth: numbers are given anew.
    threads: HashMap<(u32, u32), Vec<ThreadIx>>,
    links: Links<'a>,
    /// Of each operation, once it was asked for.
    operations: Vec<OnceCell<Path>>,
    classifier: RefCell<Classifier>,
}

impl<'a> Paths<'a> {
    pub fn new(session: &'a Session) -> Paths<'a> {
        let mut threads: HashMap<(u32, u32), Vec<ThreadIx>> = HashMap::new();
        for (index, thread) in session.threads.iter().enumerate() {
            let numbered = threads.entry((thread.id.tgid, thread.id.tid)).or_default();
            numbered.push(ThreadIx(index as u32));
        }
        for numbered in threads.values_mut() {
            numbered.sort_by_key(|ix| session.threads[ix.ix()].span.from);
        }
        Paths {
            session,
            threads,
            links: Links::new(session),
            operations: vec![OnceCell::new(); session.operations.len()],
            classifier: RefCell::default(),
        }
    }

    /// The path of a phase: back from the event that ended it.
    pub fn of_phase(&self, phase: PhaseIx) -> Path {
        let Some(phase) = self.session.phases.get(phase.ix()) else {
            return Path::default();
        };
        let last = self.last(phase.main, &phase.processes, phase.span.to);
        let waits = |ix: ThreadIx| {
            let thread = self.session.threads.get(ix.ix());
            let last = thread.and_then(|thread| before(thread, phase.span.to));
            last.is_some_and(|last| last.span.to > phase.span.to && matches!(last.state, State::Blocked { .. }))
        };
        // An event that cut nobody's time, while the main thread waits on: whom its operation waited for then.
        let instead = last.filter(|last| waits(*last)).and_then(|_| {
            let path = self.whole(phase.operation?)?;
            let next = path.segments.partition_point(|segment| segment.span.to < phase.span.to);
            let (thread, _) = path.segments.get(next)?.doing?;
            let process = self.session.threads.get(thread.ix())?.process;
            phase.processes.contains(&process).then_some(thread)
        });
        self.find(instead.or(last), phase.span)
    }

    /// The path of an operation: back from its client's end.
    pub fn of_operation(&self, operation: OperationIx) -> Path {
        self.whole(operation).cloned().unwrap_or_default()
    }

    fn whole(&self, operation: OperationIx) -> Option<&Path> {
        let path = self.operations.get(operation.ix())?;
        Some(path.get_or_init(|| self.find_operation(&self.session.operations[operation.ix()])))
    }

    fn find_operation(&self, operation: &Operation) -> Path {
        let client = self.session.processes.get(operation.process.ix());
        let leader = client.and_then(|client| {
            let mut threads = client.threads.iter().copied();
            threads.find(|ix| {
                let id = self.session.threads.get(ix.ix()).map(|thread| thread.id);
                id.is_some_and(|id| id.tid == id.tgid)
            })
        });
        let last = self.last(leader, &operation.processes, operation.span.to);
        self.find(last, operation.span)
    }

    fn find(&self, last: Option<ThreadIx>, span: Span) -> Path {
        let segments = match last {
            _ if span.is_empty() => Vec::new(),
            Some(thread) => self.walk(thread, span),
            None => vec![Segment::of_nobody(span)],
        };
        Path { span, segments }
    }

    /// The thread that was at work when a phase ended. The event that ended it is a thread's own, and cut that thread's
    /// time at this very moment; where none was (the recording's end), the main thread, else who lived last.
    fn last(&self, main: Option<ThreadIx>, processes: &[ProcessIx], end: u64) -> Option<ThreadIx> {
        let running = |ix: &ThreadIx| {
            let thread = self.session.threads.get(ix.ix());
            let last = thread.and_then(|thread| before(thread, end));
            last.is_some_and(|last| {
                last.span.to == end && matches!(last.state, State::Cpu | State::Mixed { .. } | State::Lost)
            })
        };
        let lives = |ix: &ThreadIx| self.session.threads.get(ix.ix()).is_some_and(|it| lives(it, end));
        let threads = || {
            let processes = distinct(processes).into_iter();
            let processes = processes.filter_map(|ix| self.session.processes.get(ix.ix()));
            processes.flat_map(|process| process.threads.iter().copied())
        };
        main.filter(running)
            .or_else(|| threads().find(running))
            .or(main.filter(lives))
            .or_else(|| {
                let born = threads().filter(|ix| self.session.threads[ix.ix()].span.from < end);
                born.max_by_key(|ix| self.session.threads[ix.ix()].span.to.min(end))
            })
    }

    fn walk(&self, last: ThreadIx, span: Span) -> Vec<Segment> {
        let mut segments = Vec::new();
        let (mut thread, mut at, mut jumps) = (last, span.to, 0);
        // Processes whose waits for an answer over loopback led here, who asked last at the end.
        let mut askers = Vec::new();
        while at > span.from {
            let Some(own) = self.session.threads.get(thread.ix()) else {
                break;
            };
            if at > own.span.to {
                // Only at the path's end: nobody is known to have worked since this one's.
                let from = own.span.to.max(span.from);
                segments.push(Segment::of_nobody(Span { from, to: at }));
                at = from;
                continue;
            }
            let Some(interval) = before(own, at) else {
                match own.maker.filter(|maker| jumps < MOST_JUMPS && self.lives(*maker, at)) {
                    Some(maker) => {
                        jumps += 1;
                        thread = maker;
                        continue;
                    }
                    None => break,
                }
            };
            if let State::Blocked { waker: Some(waker), .. } = interval.state
                && interval.span.to == at
                && jumps < MOST_JUMPS
                && let Some(by) = self.waker(waker, interval.state, thread, at, askers.last())
            {
                jumps += 1;
                if waker.interrupt && askers.pop_if(|asker| *asker == waker.tgid).is_none() {
                    askers.push(own.id.tgid);
                }
                thread = by;
                continue;
            }
            jumps = 0;
            let piece = interval.clip(Span {
                from: span.from,
                to: at,
            });
            let waits = matches!(piece.state, State::Blocked { .. });
            segments.push(Segment {
                span: piece.span,
                doing: Some((thread, piece.state)),
                answer: waits.then(|| self.links.answer(own.id.tgid, piece.span)).flatten(),
            });
            at = piece.span.from;
        }
        if at > span.from {
            segments.push(Segment::of_nobody(Span {
                from: span.from,
                to: at,
            }));
        }
        segments.reverse();
        segments
    }

    fn lives(&self, thread: ThreadIx, at: u64) -> bool {
        self.session.threads.get(thread.ix()).is_some_and(|it| lives(it, at))
    }

    /// The thread that ended a wait at `at`, if it was a thread, is recorded, and can have been at work then. `asker`: the
    /// process that is known to wait for an answer of this one.
    fn waker(&self, waker: Waker, state: State, woken: ThreadIx, at: u64, asker: Option<&u32>) -> Option<ThreadIx> {
        let sent = || self.sent(waker.tgid, state) || (asker == Some(&waker.tgid) && self.for_requests(state));
        if waker.interrupt && !sent() {
            return None;
        }
        let numbered = self.threads.get(&(waker.tgid, waker.tid))?;
        let by = *numbered.iter().rev().find(|ix| self.lives(**ix, at))?;
        let state = before(self.session.threads.get(by.ix())?, at)?.state;
        let worked = matches!(state, State::Cpu | State::Mixed { .. } | State::Lost);
        (worked && by != woken).then_some(by)
    }

    /// Whether the process that an interrupt hit sent what a wait at a connection was for.
    fn sent(&self, tgid: u32, state: State) -> bool {
        let State::Blocked { awaited, .. } = state else {
            return false;
        };
        awaited.is_some_and(|awaited| self.links.is_peer(awaited, tgid))
    }

    /// Whether it is how a server waits to be asked: at many files, or for a connection, which tells of no other end.
    fn for_requests(&self, state: State) -> bool {
        let class = self.classifier.borrow_mut().classify(self.session, state);
        class.detail == POLL || class.wait == Wait::Network || class.wait == Wait::Ipc
    }
}

/// Whether a thread lived just before `at`.
fn lives(thread: &Thread, at: u64) -> bool {
    thread.span.from < at && at <= thread.span.to
}

/// The interval that a thread was in just before `at`.
fn before(thread: &Thread, at: u64) -> Option<&crate::model::Interval> {
    let next = thread.intervals.partition_point(|interval| interval.span.from < at);
    let interval = thread.intervals.get(next.checked_sub(1)?)?;
    (at <= interval.span.to).then_some(interval)
}

#[cfg(test)]
mod tests;

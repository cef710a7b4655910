//! Resource states of a set of threads within a span: what `show`, the JSON and the flamegraphs count.

use super::waits::Classifier;
use crate::model::{Interval, Phase, ProcessIx, Session, Span, State, Thread, ThreadIx, share::sum};

/// Why a thread was blocked: product vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wait {
    Disk,
    Network,
    /// Futexes and file locks, and the kernel's own locks and grace periods.
    Lock,
    /// Pipes and sockets to a neighbour, FUSE servers.
    Ipc,
    Child,
    /// Timers, polls without input, signals.
    Sleep,
    Other,
}

impl Wait {
    /// Every class, in the order in which reports show them.
    pub const ALL: [Wait; 7] = [
        Wait::Disk,
        Wait::Network,
        Wait::Lock,
        Wait::Ipc,
        Wait::Child,
        Wait::Sleep,
        Wait::Other,
    ];

    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            Wait::Disk => "disk",
            Wait::Network => "network",
            Wait::Lock => "lock",
            Wait::Ipc => "ipc",
            Wait::Child => "child",
            Wait::Sleep => "sleep",
            Wait::Other => "other",
        }
    }
}

/// Time by resource state, ns. [`Resources::total`] is exactly the time that the threads lived within the span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: u64,
    pub runqueue: u64,
    pub disk: u64,
    pub network: u64,
    pub lock: u64,
    pub ipc: u64,
    pub child: u64,
    pub sleep: u64,
    pub other: u64,
    /// Waits shorter than [`profiler_common::sched::WHOLE_NS`]: known by their sum only, so without a class.
    pub short_blocked: u64,
    /// No event covers it.
    pub lost: u64,
    /// Part of the above that comes from sums which the span's edges cut, so it is shared out in proportion: the
    /// most by which any of the figures can be off.
    pub cut: u64,
    /// Part of the blocked time whose wait has a kernel stack.
    pub with_kernel_stack: u64,
    /// Part of the blocked time whose wait has a user stack.
    pub with_user_stack: u64,
}

impl Resources {
    /// Adds another's times. Stops at the largest number there is instead of running over.
    pub fn add(&mut self, other: &Resources) {
        let Resources {
            cpu,
            runqueue,
            disk,
            network,
            lock,
            ipc,
            child,
            sleep,
            other: others,
            short_blocked,
            lost,
            cut,
            with_kernel_stack,
            with_user_stack,
        } = *other;
        for (sum, part) in [
            (&mut self.cpu, cpu),
            (&mut self.runqueue, runqueue),
            (&mut self.disk, disk),
            (&mut self.network, network),
            (&mut self.lock, lock),
            (&mut self.ipc, ipc),
            (&mut self.child, child),
            (&mut self.sleep, sleep),
            (&mut self.other, others),
            (&mut self.short_blocked, short_blocked),
            (&mut self.lost, lost),
            (&mut self.cut, cut),
            (&mut self.with_kernel_stack, with_kernel_stack),
            (&mut self.with_user_stack, with_user_stack),
        ] {
            *sum = sum.saturating_add(part);
        }
    }

    /// Time blocked, whatever for, ns.
    pub fn blocked(&self) -> u64 {
        let classes = Wait::ALL.iter().map(|wait| self.waited(*wait));
        sum(classes.chain([self.short_blocked]))
    }

    /// All time, ns: on CPUs, in run queues, blocked and lost.
    pub fn total(&self) -> u64 {
        sum([self.cpu, self.runqueue, self.blocked(), self.lost])
    }

    /// Time blocked for one class of reasons, in waits long enough to have one, ns.
    pub fn waited(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Disk => self.disk,
            Wait::Network => self.network,
            Wait::Lock => self.lock,
            Wait::Ipc => self.ipc,
            Wait::Child => self.child,
            Wait::Sleep => self.sleep,
            Wait::Other => self.other,
        }
    }

    fn wait(&mut self, wait: Wait) -> &mut u64 {
        match wait {
            Wait::Disk => &mut self.disk,
            Wait::Network => &mut self.network,
            Wait::Lock => &mut self.lock,
            Wait::Ipc => &mut self.ipc,
            Wait::Child => &mut self.child,
            Wait::Sleep => &mut self.sleep,
            Wait::Other => &mut self.other,
        }
    }

    /// Counts a piece of a thread's time; `whole` tells that it was not cut, `wait` what was waited for if it was blocked.
    pub(super) fn count(&mut self, session: &Session, piece: Interval, whole: bool, wait: Wait) {
        let ns = piece.span.len();
        match piece.state {
            State::Cpu => self.cpu += ns,
            State::Runqueue => self.runqueue += ns,
            State::Lost => self.lost += ns,
            State::Mixed {
                cpu,
                runqueue,
                blocked,
                count: _,
            } => {
                self.cpu += cpu;
                self.runqueue += runqueue;
                self.short_blocked += blocked;
                if !whole {
                    self.cut += ns;
                }
            }
            State::Blocked { stack, .. } => {
                *self.wait(wait) += ns;
                if let Some(stack) = session.stacks.get(stack) {
                    let kernel = usize::from(stack.kernel);
                    self.with_kernel_stack += if kernel > 0 { ns } else { 0 };
                    self.with_user_stack += if stack.frames.len() > kernel { ns } else { 0 };
                }
            }
        }
    }
}

/// A phase's time, two ways.
#[derive(Clone, Debug, Default)]
pub struct PhaseResources {
    /// What its main thread did while the phase lasted. With `unattributed` it adds up to the phase's length.
    pub wall: Resources,
    /// Part of the phase's length in which its main thread did not live, ns.
    pub unattributed: u64,
    /// What all its processes' threads did while it lasted: may be many times its length.
    pub all: Resources,
    /// The same by process; those that did not live within the phase are left out.
    pub processes: Vec<(ProcessIx, Resources)>,
}

/// The pieces of a thread's life that lie in `span`, and whether each is a whole interval.
pub fn clipped(thread: &Thread, span: Span) -> impl Iterator<Item = (Interval, bool)> {
    let span = span.clip(thread.span);
    let intervals = &thread.intervals;
    let first = intervals.partition_point(|interval| interval.span.to <= span.from);
    let inside = intervals[first..]
        .iter()
        .take_while(move |interval| interval.span.from < span.to);
    inside.map(move |interval| {
        let piece = interval.clip(span);
        (piece, piece.span == interval.span)
    })
}

/// What a thread did within `span`. The total is exactly the part of its life that lies in there.
pub fn thread_within(session: &Session, thread: ThreadIx, span: Span, classifier: &mut Classifier) -> Resources {
    let mut resources = Resources::default();
    if let Some(thread) = session.threads.get(thread.ix()) {
        for (piece, whole) in clipped(thread, span) {
            let wait = classifier.classify(session, piece.state).wait;
            resources.count(session, piece, whole, wait);
        }
    }
    resources
}

/// What all threads of a process did within `span`.
pub fn process_within(session: &Session, process: ProcessIx, span: Span, classifier: &mut Classifier) -> Resources {
    let mut resources = Resources::default();
    if let Some(process) = session.processes.get(process.ix()) {
        for thread in &process.threads {
            resources.add(&thread_within(session, *thread, span, classifier));
        }
    }
    resources
}

/// What all threads of some processes did within `span`. A process named twice counts once.
pub fn within(session: &Session, processes: &[ProcessIx], span: Span, classifier: &mut Classifier) -> Resources {
    let mut resources = Resources::default();
    for process in distinct(processes) {
        resources.add(&process_within(session, process, span, classifier));
    }
    resources
}

/// A phase's time.
pub fn phase(session: &Session, phase: &Phase, classifier: &mut Classifier) -> PhaseResources {
    let mut result = PhaseResources::default();
    if let Some(main) = phase.main {
        result.wall = thread_within(session, main, phase.span, classifier);
    }
    result.unattributed = phase.span.len().saturating_sub(result.wall.total());
    for process in distinct(&phase.processes) {
        let resources = process_within(session, process, phase.span, classifier);
        result.all.add(&resources);
        if resources.total() > 0 {
            result.processes.push((process, resources));
        }
    }
    result
}

/// Every phase's time, in the session's order.
pub fn phases(session: &Session, classifier: &mut Classifier) -> Vec<PhaseResources> {
    let phases = session.phases.iter();
    phases.map(|phase| self::phase(session, phase, classifier)).collect()
}

/// Each process once, in order.
pub(super) fn distinct(processes: &[ProcessIx]) -> Vec<ProcessIx> {
    let mut distinct = processes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

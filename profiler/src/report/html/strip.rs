//! What the rows of the timeline are coloured by: pieces of time, each with what the row's threads did in it.
//!
//! A row of one thread has its intervals as they are, as far as they are not shorter than a piece may be; those are
//! joined to pieces that hold the sums. A row of several threads is cut into pieces of equal length. No time is lost by
//! that: a strip's sums are those of [`resources`].

use std::collections::BTreeMap;

use crate::attribute::critical::{Path, Reason};
use crate::attribute::resources::{self, Resources, Wait};
use crate::attribute::waits::Classifier;
use crate::model::{ProcessIx, Session, Span, State, ThreadIx};

/// Names of the states, in the order of all arrays of times. The last is no state of a thread: none of them lived.
pub(super) const STATES: [&str; 12] = [
    "cpu",
    "runqueue",
    "disk",
    "network",
    "lock",
    "ipc",
    "child",
    "sleep",
    "other",
    "short",
    "lost",
    "unattributed",
];

/// Times in the order of [`STATES`], ns.
pub(super) type Times = [u64; STATES.len()];

/// Place of time in which none of a row's threads lived.
pub(super) const UNATTRIBUTED: usize = STATES.len() - 1;

/// Place of a class of waits.
pub(super) fn place(wait: Wait) -> usize {
    match wait {
        Wait::Disk => 2,
        Wait::Network => 3,
        Wait::Lock => 4,
        Wait::Ipc => 5,
        Wait::Child => 6,
        Wait::Sleep => 7,
        Wait::Other => 8,
    }
}

/// Place of what a path was spent on.
fn of_reason(reason: Reason) -> usize {
    match reason {
        Reason::Cpu => 0,
        Reason::Runqueue => 1,
        Reason::Wait(class) => place(class.wait),
        Reason::ShortWaits => 9,
        Reason::Lost => 10,
        Reason::Unattributed => UNATTRIBUTED,
    }
}

/// A sum's times.
pub(super) fn times(resources: &Resources, unattributed: u64) -> Times {
    let Resources {
        cpu,
        runqueue,
        disk,
        network,
        lock,
        ipc,
        child,
        sleep,
        other,
        short_blocked,
        lost,
        ..
    } = *resources;
    [
        cpu,
        runqueue,
        disk,
        network,
        lock,
        ipc,
        child,
        sleep,
        other,
        short_blocked,
        lost,
        unattributed,
    ]
}

/// A row: whose threads, when.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) span: Span,
    /// Disjoint spans of each process, in order.
    pub(super) parts: BTreeMap<ProcessIx, Vec<Span>>,
}

impl Row {
    /// Pieces of threads' lives in it.
    fn lives<'a>(&'a self, session: &'a Session) -> impl Iterator<Item = (ThreadIx, Span)> + 'a {
        self.parts.iter().flat_map(move |(process, spans)| {
            let process = session.processes.get(process.ix());
            let threads = process.map(|process| process.threads.as_slice()).unwrap_or_default();
            threads.iter().flat_map(move |ix| {
                let life = session
                    .threads
                    .get(ix.ix())
                    .map(|thread| thread.span)
                    .unwrap_or_default();
                spans
                    .iter()
                    .map(move |span| (*ix, span.clip(self.span).clip(life)))
                    .filter(|(_, span)| !span.is_empty())
            })
        })
    }

    /// How many intervals it covers, counted up to `most`.
    pub(super) fn intervals(&self, session: &Session, most: usize) -> usize {
        let mut sum = 0;
        for (thread, span) in self.lives(session) {
            let intervals = &session.threads[thread.ix()].intervals;
            let first = intervals.partition_point(|interval| interval.span.to <= span.from);
            let end = intervals.partition_point(|interval| interval.span.from < span.to);
            sum += end.saturating_sub(first);
            if sum >= most {
                return most;
            }
        }
        sum
    }

    /// Its strip, of about `pieces` pieces at most; see [`Strip::add`] for its form.
    pub(super) fn strip(&self, session: &Session, pieces: usize, classifier: &mut Classifier) -> Strip {
        let mut strip = Strip::default();
        let mut lives = self.lives(session);
        let (first, second) = (lives.next(), lives.next());
        match (first, second) {
            (None, _) => strip.add(self.span.len(), &absent(self.span.len())),
            (Some((thread, span)), None) => {
                let before = span.from.saturating_sub(self.span.from);
                strip.add(before, &absent(before));
                one(
                    session,
                    thread,
                    span,
                    self.span.len() / pieces.max(1) as u64,
                    classifier,
                    &mut strip,
                );
                let after = self.span.to.saturating_sub(span.to);
                strip.add(after, &absent(after));
            }
            _ => {
                for (len, times) in self.bins(session, pieces, classifier) {
                    strip.add(len, &times);
                }
            }
        }
        strip.finish();
        strip
    }

    /// Its time in `count` pieces of equal length: lengths and sums over all threads.
    pub(super) fn bins(&self, session: &Session, count: usize, classifier: &mut Classifier) -> Vec<(u64, Times)> {
        let count = u64::try_from(count).unwrap_or(1).clamp(1, self.span.len().max(1));
        let edge = |index: u64| {
            let ns = u128::from(self.span.len()) * u128::from(index) / u128::from(count);
            self.span.from + u64::try_from(ns).unwrap_or(0)
        };
        let mut sums = vec![[0u64; STATES.len()]; usize::try_from(count).unwrap_or(1)];
        for (thread, span) in self.lives(session) {
            let index = |ts: u64| {
                let offset = u128::from(ts.saturating_sub(self.span.from)) * u128::from(count);
                u64::try_from(offset / u128::from(self.span.len().max(1))).unwrap_or(0)
            };
            // One bin earlier and later: edges are rounded.
            for bin in index(span.from).saturating_sub(1)..=(index(span.to) + 1).min(count - 1) {
                let own = Span {
                    from: edge(bin),
                    to: edge(bin + 1),
                }
                .clip(span);
                if own.is_empty() {
                    continue;
                }
                let resources = resources::thread_within(session, thread, own, classifier);
                if let Some(sum) = usize::try_from(bin).ok().and_then(|bin| sums.get_mut(bin)) {
                    for (sum, part) in sum.iter_mut().zip(times(&resources, 0)) {
                        *sum = sum.saturating_add(part);
                    }
                }
            }
        }
        sums.into_iter()
            .zip(0..)
            .map(|(mut sums, index)| {
                let len = edge(index + 1).saturating_sub(edge(index));
                if sums.iter().all(|sum| *sum == 0) {
                    sums[UNATTRIBUTED] = len;
                }
                (len, sums)
            })
            .collect()
    }
}

fn absent(len: u64) -> Times {
    let mut times = [0; STATES.len()];
    times[UNATTRIBUTED] = len;
    times
}

/// One thread's intervals within `span`; those shorter than `shortest` are joined.
fn one(session: &Session, ix: ThreadIx, span: Span, shortest: u64, classifier: &mut Classifier, strip: &mut Strip) {
    let thread = &session.threads[ix.ix()];
    let first = thread
        .intervals
        .partition_point(|interval| interval.span.to <= span.from);
    let mut joined = Span {
        from: span.from,
        to: span.from,
    };
    let mut flush = |joined: &mut Span, to: u64, classifier: &mut Classifier| {
        let own = Span {
            from: joined.from,
            to: joined.to,
        };
        if !own.is_empty() {
            let resources = resources::thread_within(session, ix, own, classifier);
            strip.add(own.len(), &times(&resources, 0));
        }
        *joined = Span { from: to, to };
    };
    for interval in thread.intervals[first..]
        .iter()
        .take_while(|interval| interval.span.from < span.to)
    {
        let own = interval.span.clip(span);
        let alone = own.len() >= shortest && !matches!(interval.state, State::Mixed { .. });
        if alone {
            flush(&mut joined, own.from, classifier);
        }
        joined.to = own.to;
        if alone || joined.len() >= shortest {
            flush(&mut joined, own.to, classifier);
        }
    }
    flush(&mut joined, span.to, classifier);
}

/// Pieces of time in numbers: of one state `state, length`; of several `12 + how many, length`, then `state, ns` of
/// each. The times of a piece add up to its length times the threads that lived in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Strip {
    pub(super) numbers: Vec<u64>,
    /// A piece of one state that may go on.
    pending: Option<(usize, u64)>,
}

impl Strip {
    fn add(&mut self, len: u64, times: &Times) {
        if len == 0 {
            return;
        }
        let mut present = times.iter().enumerate().filter(|(_, ns)| **ns > 0);
        if let (Some((state, ns)), None) = (present.next(), present.next())
            && *ns == len
        {
            match &mut self.pending {
                Some((pending, sum)) if *pending == state => *sum += len,
                _ => {
                    self.finish();
                    self.pending = Some((state, len));
                }
            }
            return;
        }
        self.finish();
        let present: Vec<(usize, u64)> = times.iter().copied().enumerate().filter(|(_, ns)| *ns > 0).collect();
        self.numbers.extend([(STATES.len() + present.len()) as u64, len]);
        for (state, ns) in present {
            self.numbers.extend([state as u64, ns]);
        }
    }

    /// A critical path's; segments shorter than `shortest` are joined.
    pub(super) fn of_path(session: &Session, path: &Path, shortest: u64, classifier: &mut Classifier) -> Strip {
        let mut strip = Strip::default();
        let (mut len, mut sums) = (0, Times::default());
        for segment in &path.segments {
            let own = segment.span.len();
            if own >= shortest {
                strip.add(len, &sums);
                (len, sums) = (0, Times::default());
            }
            for (reason, ns) in segment.parts(session, classifier) {
                sums[of_reason(reason)] += ns;
            }
            len += own;
            if len >= shortest {
                strip.add(len, &sums);
                (len, sums) = (0, Times::default());
            }
        }
        strip.add(len, &sums);
        strip.finish();
        strip
    }

    fn finish(&mut self) {
        if let Some((state, len)) = self.pending.take() {
            self.numbers.extend([state as u64, len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Length and sums of a strip's numbers.
    fn sums(strip: &Strip) -> (u64, Times) {
        let (mut len, mut sums) = (0, [0; STATES.len()]);
        let mut numbers = strip.numbers.iter().copied();
        while let Some(code) = numbers.next() {
            let piece = numbers.next().unwrap();
            len += piece;
            match usize::try_from(code).unwrap().checked_sub(STATES.len()) {
                None => sums[code as usize] += piece,
                Some(states) => {
                    for _ in 0..states {
                        let state = numbers.next().unwrap() as usize;
                        sums[state] += numbers.next().unwrap();
                    }
                }
            }
        }
        (len, sums)
    }

    /// Make sure that a strip is as long as its row and that its sums are what the attribution says, whatever its
    /// number of pieces: of one thread to the ns, of several up to the rounding where a sum of short intervals is cut.
    #[test]
    fn strips_lose_no_time() {
        let session = fixture::session();
        for process in 0..session.processes.len() as u32 {
            for (from, to) in [(0, 10_000), (1_300, 7_777), (8_999, 9_001)] {
                let span = fixture::span(from, to);
                let ix = ProcessIx(process);
                let row = Row {
                    span,
                    parts: [(ix, vec![span])].into(),
                };
                let mut classifier = Classifier::default();
                let all = resources::process_within(&session, ix, span, &mut classifier);
                for pieces in [1, 7, 100, 1_000] {
                    let (len, sums) = sums(&row.strip(&session, pieces, &mut classifier));
                    assert_eq!(len, span.len());
                    assert_eq!(sums[..UNATTRIBUTED].iter().sum::<u64>(), all.total());
                    assert_eq!(sums[UNATTRIBUTED], span.len() - all.total());
                    let exact = times(&all, 0);
                    let off = exact
                        .iter()
                        .zip(&sums)
                        .take(UNATTRIBUTED)
                        .map(|(a, b)| a.abs_diff(*b))
                        .max();
                    assert!(off.unwrap() <= pieces as u64, "{process} {pieces} {exact:?} {sums:?}");
                    if all.cut == 0 && pieces == 1 {
                        assert_eq!(sums[..UNATTRIBUTED], exact[..UNATTRIBUTED]);
                    }
                }
            }
        }
    }

    /// Make sure that several threads are summed up, piece by piece, and that time without any is unattributed.
    #[test]
    fn several_threads() {
        let session = fixture::session();
        let span = fixture::span(0, 10_000);
        let parts: BTreeMap<_, _> = [(ProcessIx(1), vec![span]), (ProcessIx(4), vec![span])].into();
        let row = Row { span, parts };
        let mut classifier = Classifier::default();
        let bins = row.bins(&session, 10, &mut classifier);
        assert_eq!(bins.len(), 10);
        assert!(bins.iter().all(|(len, _)| *len == 1_000 * fixture::MS));
        assert_eq!(bins[0].1, absent(1_000 * fixture::MS));
        assert_eq!(bins[2].1[0], 1_000 * fixture::MS);
        assert_eq!(bins[9].1, absent(1_000 * fixture::MS));
        let (len, all) = sums(&row.strip(&session, 10, &mut classifier));
        assert_eq!((len, all[UNATTRIBUTED]), (span.len(), 3_000 * fixture::MS));
    }
}

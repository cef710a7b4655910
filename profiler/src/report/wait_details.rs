//! What was waited for, in a few words each: the details of [`crate::attribute::waits`] with their times.

use std::collections::BTreeMap;

use crate::attribute::resources::Wait;
use crate::attribute::waits::Classifier;
use crate::model::{AwaitedIx, Interval, Session, Span, State, ThreadIx};
use crate::report::{awaited, units};

/// Waits for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub wait: Wait,
    /// `flush at unmount`, `pipe read`.
    pub detail: &'static str,
    pub ns: u64,
    pub count: u64,
    /// Length of the longest, ns, with its thread and its start.
    pub longest: u64,
    pub thread: ThreadIx,
    pub from: u64,
    /// At which files and sockets, ns; less in sum than `ns` where that was not recorded.
    pub at: BTreeMap<AwaitedIx, u64>,
}

/// Places told of one detail.
const TOLD: usize = 2;

impl Detail {
    /// Where it was waited, with the time there, longest first. Harmless text.
    pub fn places(&self, session: &Session) -> Vec<(String, u64)> {
        let mut by_name: BTreeMap<String, u64> = BTreeMap::new();
        for (ix, ns) in &self.at {
            if let Some(name) = awaited::called(session, *ix) {
                let sum = by_name.entry(name).or_default();
                *sum = sum.saturating_add(*ns);
            }
        }
        let mut places: Vec<(String, u64)> = by_name.into_iter().collect();
        places.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        places
    }

    /// `file lock (/run/lock 1.20 s)`: with the places where most of it was waited.
    pub fn words(&self, session: &Session) -> String {
        let places: Vec<String> = self
            .places(session)
            .iter()
            .take(TOLD)
            .map(|(name, ns)| format!("{name} {}", units::time(*ns)))
            .collect();
        match places.is_empty() {
            true => self.detail.to_owned(),
            false => format!("{} ({})", self.detail, places.join(", ")),
        }
    }
}

/// The waits of some threads within a span, longest in sum first. Waits too short to have a class of their own are in
/// none.
pub fn within(
    session: &Session,
    threads: impl IntoIterator<Item = ThreadIx>,
    span: Span,
    classifier: &mut Classifier,
) -> Vec<Detail> {
    let mut details = Details::default();
    for thread in threads {
        details.add(session, thread, span, classifier);
    }
    details.sorted()
}

/// Sums of waits as they grow.
#[derive(Debug, Default)]
pub struct Details(BTreeMap<(Wait, &'static str), Detail>);

impl Details {
    /// Adds one thread's waits within `span`.
    pub fn add(&mut self, session: &Session, ix: ThreadIx, span: Span, classifier: &mut Classifier) {
        let Some(thread) = session.threads.get(ix.ix()) else {
            return;
        };
        let first = thread
            .intervals
            .partition_point(|interval| interval.span.to <= span.from);
        let inside = thread.intervals[first..].iter();
        for interval in inside.take_while(|interval| interval.span.from < span.to) {
            let Interval { span: own, state } = interval.clip(span);
            if !matches!(state, State::Blocked { .. }) || own.is_empty() {
                continue;
            }
            let class = classifier.classify(session, state);
            let sum = self.0.entry((class.wait, class.detail)).or_insert(Detail {
                wait: class.wait,
                detail: class.detail,
                ns: 0,
                count: 0,
                longest: 0,
                thread: ix,
                from: own.from,
                at: BTreeMap::new(),
            });
            sum.ns = sum.ns.saturating_add(own.len());
            if let State::Blocked { awaited: Some(at), .. } = state {
                let there = sum.at.entry(at).or_default();
                *there = there.saturating_add(own.len());
            }
            sum.count += 1;
            if own.len() > sum.longest {
                (sum.longest, sum.thread, sum.from) = (own.len(), ix, own.from);
            }
        }
    }

    /// Longest in sum first.
    pub fn sorted(self) -> Vec<Detail> {
        let mut details: Vec<Detail> = self.0.into_values().collect();
        details.sort_by_key(|detail| (std::cmp::Reverse(detail.ns), detail.wait, detail.detail));
        details
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::resources;
    use crate::report::fixture;

    /// Make sure that details add up to the time waited by class, and that the longest is found.
    #[test]
    fn details_add_up() {
        let session = fixture::session();
        let span = fixture::span(0, 10_000);
        let mut classifier = Classifier::default();
        let threads = (0..session.threads.len() as u32).map(ThreadIx);
        let details = within(&session, threads.clone(), span, &mut classifier);
        for wait in Wait::ALL {
            let sum: u64 = details.iter().filter(|one| one.wait == wait).map(|one| one.ns).sum();
            let all: u64 = threads
                .clone()
                .map(|ix| resources::thread_within(&session, ix, span, &mut classifier).waited(wait))
                .sum();
            assert_eq!(sum, all, "{wait:?}");
        }
        assert_eq!(details[0].wait, Wait::Child);
        assert_eq!((details[0].longest, details[0].count), (9_600 * fixture::MS, 3));
        assert_eq!(details[0].thread, ThreadIx(0));
    }
}

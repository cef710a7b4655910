//! Critical paths in reports: what their time was spent on, and by whom.

use std::collections::BTreeMap;

use super::{awaited, names, text};
use crate::attribute::critical::{Path, Reason, Segment};
use crate::attribute::waits::Classifier;
use crate::model::{ProcessIx, Session, Span, net};

/// Time of a path spent on one reason by one program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub reason: Reason,
    /// Harmless text; empty when no thread is known.
    pub program: String,
    /// At what file, pipe or socket it was waited; empty where that is not known. Harmless text.
    pub at: String,
    pub ns: u64,
    /// Stretches that it is made of.
    pub pieces: u64,
}

impl Share {
    /// The reason with its place: `socket read: 10.0.0.2:5000`.
    pub fn words(&self) -> String {
        match &self.at[..] {
            "" => self.reason.words().to_owned(),
            at => format!("{}: {at}", self.reason.words()),
        }
    }
}

/// A path's time by reason and program, longest first: what to mend first. Adds up to the path's length.
pub fn shares(session: &Session, path: &Path, classifier: &mut Classifier) -> Vec<Share> {
    let mut sums: BTreeMap<(Reason, String, String), (u64, u64)> = BTreeMap::new();
    for segment in &path.segments {
        let program = program(session, segment);
        let at = at(session, segment, classifier);
        for (reason, ns) in segment.parts(session, classifier) {
            if ns > 0 {
                let sum = sums.entry((reason, program.clone(), at.clone())).or_default();
                *sum = (sum.0 + ns, sum.1 + 1);
            }
        }
    }
    let mut shares: Vec<Share> = sums
        .into_iter()
        .map(|((reason, program, at), (ns, pieces))| Share {
            reason,
            program,
            at,
            ns,
            pieces,
        })
        .collect();
    shares.sort_by(|a, b| {
        b.ns.cmp(&a.ns)
            .then_with(|| (&a.program, &a.at).cmp(&(&b.program, &b.at)))
    });
    shares
}

/// At what its thread waited, or whose answer it waited for; empty where that is not known.
pub fn at(session: &Session, segment: &Segment, classifier: &mut Classifier) -> String {
    if let Some(exchange) = segment.answer(session, classifier) {
        let exchange = session.exchanges.get(exchange.0 as usize);
        return exchange
            .and_then(|exchange| net::address(&exchange.address, exchange.port))
            .unwrap_or_default();
    }
    let at = segment.doing.and_then(|(_, state)| awaited::at(session, state));
    at.unwrap_or_default()
}

/// The program that a segment's thread ran at its end.
fn program(session: &Session, segment: &Segment) -> String {
    let process = segment.process(session).and_then(|ix| session.processes.get(ix.ix()));
    let image = process.and_then(|process| process.image_at(segment.span.to.saturating_sub(1)));
    image.map_or_else(String::new, |image| text::visible(names::program(image)))
}

/// Neighbouring segments of one process.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub span: Span,
    /// `None` for time that no thread covers, and for many short stretches in one.
    pub process: Option<ProcessIx>,
    /// Harmless text.
    pub program: String,
    /// Time by reason, longest first, ns.
    pub reasons: Vec<(Reason, u64)>,
    /// Stretches that are told in one.
    pub count: u64,
}

/// The chain of a path, process after process. Neighbours shorter than `shortest` ns are told in one.
pub fn chain(session: &Session, path: &Path, shortest: u64, classifier: &mut Classifier) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for segment in &path.segments {
        let process = segment.process(session);
        let program = program(session, segment);
        let own = Stretch {
            span: segment.span,
            process,
            program,
            reasons: segment.parts(session, classifier),
            count: 1,
        };
        match stretches.last_mut() {
            Some(last) if last.process == process && last.program == own.program => last.absorb(own),
            _ => stretches.push(own),
        }
    }
    let mut told: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        let short = |stretch: &Stretch| stretch.count > 1 || stretch.span.len() < shortest;
        match told.last_mut() {
            Some(last) if short(last) && short(&stretch) => {
                let count = last.count + stretch.count;
                (last.process, last.program) = (None, String::new());
                last.absorb(stretch);
                last.count = count;
            }
            _ => told.push(stretch),
        }
    }
    for stretch in &mut told {
        stretch.reasons.retain(|(_, ns)| *ns > 0);
        stretch.reasons.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    }
    told
}

impl Stretch {
    fn absorb(&mut self, next: Stretch) {
        self.span.to = next.span.to;
        for (reason, ns) in next.reasons {
            match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += ns,
                None => self.reasons.push((reason, ns)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::critical::Paths;
    use crate::model::OperationIx;
    use crate::report::fixture;

    /// Make sure that shares and chains add up to the path, however much of it is told in one.
    #[test]
    fn sums() {
        let session = fixture::session();
        let path = Paths::new(&session).of_operation(OperationIx(0));
        let mut classifier = Classifier::default();
        let shares = shares(&session, &path, &mut classifier);
        assert_eq!(shares.iter().map(|share| share.ns).sum::<u64>(), path.span.len());
        assert!(shares.is_sorted_by(|a, b| a.ns >= b.ns));
        for shortest in [0, 10_000_000, u64::MAX] {
            let chain = chain(&session, &path, shortest, &mut classifier);
            let mut at = path.span.from;
            for stretch in &chain {
                assert_eq!(stretch.span.from, at);
                at = stretch.span.to;
                let sum: u64 = stretch.reasons.iter().map(|(_, ns)| ns).sum();
                assert_eq!(sum, stretch.span.len());
            }
            assert_eq!(at, path.span.to);
        }
        assert!(chain(&session, &path, u64::MAX, &mut classifier).len() == 1);
    }
}

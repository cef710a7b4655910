//! Stops and cleanups.

use super::{Answered, Facts, Finding};
use crate::attribute::disk::Origin;
use crate::attribute::resources::{Wait, clipped};
use crate::attribute::waits::{FLUSH, FUTEX};
use crate::model::{PhaseIx, PhaseKind, Span, share::sum};
use crate::report::{names, text, units, wait_details};

/// Those who made it dirty that are told one by one.
const DIRTIERS: usize = 3;

impl Facts<'_> {
    pub(super) fn stops(&mut self) -> Finding {
        let mut finding = Finding::new(
            "Why is stop or rm slow: grace period, umount's sync (whose dirty data?), delete, cleanup process?",
            Answered::NotSeen,
        );
        for ix in self.phases(&[PhaseKind::Stop, PhaseKind::Cleanup]) {
            let span = self.phase(ix).span;
            let details = wait_details::within(self.session, self.threads(ix), span, self.classifier);
            let waits: Vec<String> = details
                .iter()
                // What threads of one program wait for each other says nothing of the host.
                .filter(|one| matches!(one.wait, Wait::Disk | Wait::Lock) && one.detail != FUTEX)
                .take(2)
                .map(|one| format!("{} {}", one.words(self.session), units::time(one.ns)))
                .collect();
            let waits = if waits.is_empty() {
                String::new()
            } else {
                format!("; waits of all threads: {}", waits.join(", "))
            };
            let flushed = self.flushed(ix);
            // Its label says the same, without whose data it was.
            let name = match flushed {
                Some(_) => self.of_container(self.phase(ix).kind.name().to_owned(), ix),
                None => self.named(ix),
            };
            let flushed = flushed.unwrap_or_default();
            let line = format!("{name}: {}{flushed}; {}{waits}", units::time(span.len()), self.used(ix));
            finding.phase(ix, line);
        }
        finding.done()
    }

    /// `, waited 94.0 ms flushing 300 MB dirtied by build-7 (step 4)`: whose dirty data the phase's unmounting waited for.
    fn flushed(&mut self, ix: PhaseIx) -> Option<String> {
        let span = self.phase(ix).span;
        let mut waits: Vec<Span> = Vec::new();
        let session = self.session;
        let threads = self.threads(ix).into_iter();
        for thread in threads.filter_map(|ix| session.threads.get(ix.ix())) {
            for (interval, _) in clipped(thread, span) {
                if self.classifier.classify(self.session, interval.state).detail == FLUSH {
                    waits.push(interval.span);
                }
            }
        }
        let ns = sum(waits.iter().map(|wait| wait.len()));
        if ns == 0 {
            return None;
        }
        let by = self.disk.flushed_during(self.session, &mut waits);
        if by.is_empty() {
            return Some(format!(", waited {} for dirty data to be flushed", units::time(ns)));
        }
        let bytes = sum(by.iter().map(|(_, bytes)| *bytes));
        let flushed = format!(", waited {} flushing {} dirtied", units::time(ns), units::bytes(bytes));
        if let [(by, _)] = by.as_slice() {
            return Some(format!("{flushed} by {}", self.dirtier(*by)));
        }
        let told = by.iter().take(DIRTIERS);
        let mut told: Vec<String> = told
            .map(|(by, bytes)| format!("{} by {}", units::bytes(*bytes), self.dirtier(*by)))
            .collect();
        if by.len() > DIRTIERS {
            told.push(format!("and by {} more", units::count((by.len() - DIRTIERS) as u64)));
        }
        Some(format!("{flushed}: {}", told.join(", ")))
    }

    /// `build-7 (step 4)`
    fn dirtier(&self, by: Option<Origin>) -> String {
        // A cleanup's label tells of its own waits, which are not meant here.
        let phase = |ix: PhaseIx| match self.phase(ix).kind {
            PhaseKind::Cleanup => PhaseKind::Cleanup.name().to_owned(),
            _ => text::fit(&names::phase(self.session, ix), 60),
        };
        match by {
            Some((Some(container), Some(ix))) => {
                format!("{} ({})", names::container(self.session, container), phase(ix))
            }
            Some((Some(container), None)) => names::container(self.session, container),
            Some((None, Some(ix))) => phase(ix),
            Some((None, None)) => "processes of no phase".to_owned(),
            None => "nobody who was recorded, or before that".to_owned(),
        }
    }
}

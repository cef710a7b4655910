//! A build's steps.

use std::collections::BTreeMap;

use super::{Answered, Facts, Finding};
use crate::model::{PhaseKind, Span};
use crate::report::select::all_phases;
use crate::report::units;

impl Facts<'_> {
    pub(super) fn steps(&self) -> Finding {
        let mut finding = Finding::new(
            "Which build step is slow, and is it the command, copy and diff, hash and compress, or commit?",
            Answered::NotSeen,
        );
        for ix in self.phases(&[PhaseKind::Step]) {
            let span = self.phase(ix).span;
            let mut parts: BTreeMap<&str, u64> = BTreeMap::new();
            let mut inside = Vec::new();
            for child in all_phases(self.session).filter(|child| self.phase(*child).parent == Some(ix)) {
                *parts.entry(self.phase(child).kind.name()).or_default() += self.phase(child).span.len();
                inside.push(self.phase(child).span.clip(span));
            }
            let rest = span.len().saturating_sub(covered(&mut inside));
            let mut parts: Vec<(&str, u64)> = parts.into_iter().collect();
            parts.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
            let mut told: Vec<String> = parts
                .iter()
                .map(|(name, ns)| format!("{name} {}", units::time(*ns)))
                .collect();
            told.push(format!("the engine's own work {}", units::time(rest)));
            let line = format!("{}: {}: {}", self.named(ix), units::time(span.len()), told.join(", "));
            finding.phase(ix, line);
        }
        finding.done()
    }
}

/// Length of the union of spans, ns.
fn covered(spans: &mut [Span]) -> u64 {
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for span in spans {
        let from = span.from.max(reached);
        sum += span.to.saturating_sub(from);
        reached = reached.max(span.to);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a union counts overlaps once.
    #[test]
    fn unions() {
        let span = |from, to| Span { from, to };
        assert_eq!(covered(&mut [span(5, 9), span(0, 3), span(2, 6)]), 9);
        assert_eq!(covered(&mut []), 0);
    }
}

//! Starts: one, and many at once.

use super::{Answered, Facts, Finding};
use crate::attribute::resources::{Resources, Wait};
use crate::attribute::waits::FUTEX;
use crate::model::{ContainerIx, PhaseIx, PhaseKind, Span};
use crate::report::select::all_phases;
use crate::report::{names, units, wait_details};

impl Facts<'_> {
    pub(super) fn starts(&self) -> Finding {
        let mut finding = Finding::new(
            "Where did start to entrypoint go: mount, runtime, hooks and network, cgroup?",
            Answered::NotSeen,
        );
        let mut starts: Vec<(u64, ContainerIx)> = Vec::new();
        let kinds = [
            PhaseKind::Mount,
            PhaseKind::Create,
            PhaseKind::Network,
            PhaseKind::Start,
        ];
        for container in (0..self.session.containers.len() as u32).map(ContainerIx) {
            let spans = self.of(container, &kinds).map(|ix| self.phase(ix).span);
            let (from, to) = spans.fold((u64::MAX, 0), |(from, to), span| (span.from.min(from), span.to.max(to)));
            if from < to {
                starts.push((to - from, container));
            }
        }
        starts.sort_by_key(|(ns, container)| (std::cmp::Reverse(*ns), *container));
        for (ns, container) in &starts {
            let parts: Vec<PhaseIx> = self.of(*container, &kinds).collect();
            let named: Vec<String> = parts
                .iter()
                .map(|ix| {
                    format!(
                        "{} {}",
                        self.phase(*ix).kind.name(),
                        units::time(self.phase(*ix).span.len())
                    )
                })
                .collect();
            let line = format!(
                "{}: {} from its first phase to its entrypoint: {}",
                names::container(self.session, *container),
                units::time(*ns),
                named.join(", ")
            );
            let longest = parts.iter().max_by_key(|ix| self.phase(**ix).span.len());
            if let Some(ix) = longest {
                finding.phase(*ix, line);
            }
        }
        finding.done()
    }

    pub(super) fn of<'b>(
        &'b self,
        container: ContainerIx,
        kinds: &'b [PhaseKind],
    ) -> impl Iterator<Item = PhaseIx> + 'b {
        all_phases(self.session).filter(move |ix| {
            let phase = self.phase(*ix);
            phase.container == Some(container) && kinds.contains(&phase.kind)
        })
    }

    pub(super) fn parallel(&mut self) -> Finding {
        let mut finding = Finding::new("Why are N parallel starts slower than one?", Answered::NotSeen);
        let kinds = [PhaseKind::Create, PhaseKind::Start, PhaseKind::Network];
        let starts = self.phases(&kinds);
        let creates: Vec<PhaseIx> = self.phases(&[PhaseKind::Create]);
        // How many creations overlap each: by counting edges, so that thousands take no quadratic time.
        let mut begins: Vec<u64> = creates.iter().map(|ix| self.phase(*ix).span.from).collect();
        let mut ends: Vec<u64> = creates.iter().map(|ix| self.phase(*ix).span.to).collect();
        begins.sort_unstable();
        ends.sort_unstable();
        let overlapping = |span: Span| {
            let begun = begins.partition_point(|from| *from < span.to);
            let ended = ends.partition_point(|to| *to <= span.from);
            begun.saturating_sub(ended).saturating_sub(1)
        };
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for ix in &creates {
            let span = self.phase(*ix).span;
            if overlapping(span) == 0 {
                &mut alone
            } else {
                &mut together
            }
            .push(span.len());
        }
        if together.is_empty() {
            return finding;
        }
        finding.answered = Answered::Yes;
        let mut line = format!(
            "{} of {} creations overlapped another; their median is {}",
            units::count(together.len() as u64),
            units::count(creates.len() as u64),
            units::time(median(&mut together))
        );
        if !alone.is_empty() {
            line.push_str(&format!(", that of the others {}", units::time(median(&mut alone))));
        }
        finding.lines.push(line);
        let mut sum = Resources::default();
        let mut details = wait_details::Details::default();
        let overlapped: Vec<&PhaseIx> = starts
            .iter()
            .filter(|ix| overlapping(self.phase(**ix).span) > 0)
            .collect();
        for ix in overlapped {
            sum.add(&self.all(*ix));
            for thread in self.threads(*ix) {
                details.add(self.session, thread, self.phase(*ix).span, self.classifier);
            }
        }
        finding.lines.push(format!(
            "meanwhile their threads were on CPUs for {}, in the run queue for {}",
            units::time(sum.cpu),
            units::time(sum.runqueue)
        ));
        let locks: Vec<String> = details
            .sorted()
            .iter()
            .filter(|one| one.wait == Wait::Lock && one.detail != FUTEX)
            .take(3)
            .map(|one| format!("{} {}", one.words(self.session), units::time(one.ns)))
            .collect();
        if !locks.is_empty() {
            finding
                .lines
                .push(format!("and waited for the kernel's locks: {}", locks.join(", ")));
        }
        finding
    }
}

/// The middle one, or the lower of two; 0 of none.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a median is one of its values.
    #[test]
    fn medians() {
        assert_eq!(median(&mut [3, 1, 2]), 2);
        assert_eq!(median(&mut [4, 1]), 1);
        assert_eq!(median(&mut []), 0);
    }
}

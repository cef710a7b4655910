//! Disk traffic, and who caused it.

use std::collections::BTreeMap;

use super::{Answered, Facts, Finding, LISTED};
use crate::model::ContainerIx;
use crate::report::select::all_phases;
use crate::report::{names, text, units};

impl Facts<'_> {
    /// What the kernel charges to the processes that asked for it; write-back by the kernel's own threads has no owner
    /// yet.
    pub(super) fn disk(&self) -> Finding {
        let mut finding = Finding::new(
            "Which container and image caused this disk traffic, kworker write-back included?",
            Answered::NotMeasured,
        );
        let mut sums: BTreeMap<ContainerIx, (u64, u64)> = BTreeMap::new();
        // A process that works for several containers, as an engine's does, is nobody's.
        let mut owner: BTreeMap<u32, Option<ContainerIx>> = BTreeMap::new();
        for ix in all_phases(self.session) {
            let phase = self.phase(ix);
            for process in &phase.processes {
                let known = owner.entry(process.0).or_insert(phase.container);
                *known = known.filter(|known| Some(*known) == phase.container);
            }
        }
        let mut others = (0, 0);
        for (index, process) in self.session.processes.iter().enumerate() {
            let Some(io) = process.io else { continue };
            let sum = match owner.get(&(index as u32)) {
                Some(Some(container)) => sums.entry(*container).or_default(),
                _ => &mut others,
            };
            *sum = (
                sum.0.saturating_add(io.disk_read),
                sum.1.saturating_add(io.disk_written),
            );
        }
        let mut sums: Vec<(ContainerIx, (u64, u64))> =
            sums.into_iter().filter(|(_, (r, w))| *r > 0 || *w > 0).collect();
        sums.sort_by_key(|(container, (read, written))| (std::cmp::Reverse(read.saturating_add(*written)), *container));
        for (container, (read, written)) in sums.iter().take(LISTED) {
            let image = text::fit(&text::visible(&self.session.containers[container.ix()].image), 60);
            let image = if image.is_empty() {
                String::new()
            } else {
                format!(" ({image})")
            };
            finding.lines.push(format!(
                "asked for by processes of {}{image} that ended: {} read, {} written",
                names::container(self.session, *container),
                units::bytes(*read),
                units::bytes(*written)
            ));
        }
        if others != (0, 0) {
            finding.lines.push(format!(
                "asked for by processes of no one container that ended: {} read, {} written",
                units::bytes(others.0),
                units::bytes(others.1)
            ));
        }
        finding
    }
}

//! Disk traffic, and who caused it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{Answered, Facts, Finding, LISTED};
use crate::attribute::disk::Traffic;
use crate::model::ContainerIx;
use crate::report::select::all_phases;
use crate::report::{names, text, units};

impl Facts<'_> {
    /// What processes read and made dirty, and what write-back, the kernel's own threads' included, wrote of it; in
    /// recordings that do not tell, what the kernel charges to the processes that asked for it.
    pub(super) fn disk(&self) -> Finding {
        let mut finding = Finding::new(
            "Which container and image caused this disk traffic, kworker write-back included?",
            Answered::NotMeasured,
        );
        if !self.measured {
            self.asked_for(&mut finding);
            return finding;
        }
        finding.answered = Answered::NotSeen;
        let containers = (0u32..).zip(&self.disk.containers);
        let mut busy: Vec<(ContainerIx, &Traffic)> = containers
            .filter(|(_, traffic)| !traffic.is_empty())
            .map(|(ix, traffic)| (ContainerIx(ix), traffic))
            .collect();
        busy.sort_by_key(|(ix, traffic)| (Reverse(traffic.cold.saturating_add(traffic.dirtied)), *ix));
        for (ix, traffic) in busy.iter().take(LISTED) {
            let line = format!(
                "{}{}: {}",
                names::container(self.session, *ix),
                self.image(*ix),
                told(traffic)
            );
            finding.lines.push(line);
        }
        if busy.len() > LISTED {
            let more = units::count((busy.len() - LISTED) as u64);
            finding.lines.push(format!("and {more} more containers"));
        }
        if !self.disk.nobody.is_empty() {
            finding
                .lines
                .push(format!("of no container: {}", told(&self.disk.nobody)));
        }
        let (mut by_kernel, mut by_processes, mut unknown) = (0u64, 0u64, 0u64);
        for one in &self.disk.flushed {
            let sum = match self.session.write_backs[one.ix].kernel {
                true => &mut by_kernel,
                false => &mut by_processes,
            };
            *sum = sum.saturating_add(one.bytes);
            unknown = unknown.saturating_add(if one.by.is_none() { one.bytes } else { 0 });
        }
        if by_kernel > 0 || by_processes > 0 {
            finding.lines.push(format!(
                "write-back: {} by the kernel's threads, {} by processes that waited for it; {} of it was made dirty by \
                 nobody who was recorded, or before that",
                units::bytes(by_kernel),
                units::bytes(by_processes),
                units::bytes(unknown)
            ));
        }
        if !finding.lines.is_empty() {
            finding.answered = Answered::Yes;
        }
        finding
    }

    fn image(&self, ix: ContainerIx) -> String {
        let image = text::fit(&text::visible(&self.session.containers[ix.ix()].image), 60);
        if image.is_empty() {
            String::new()
        } else {
            format!(" ({image})")
        }
    }

    /// By the kernel's account of threads that ended.
    fn asked_for(&self, finding: &mut Finding) {
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
        sums.sort_by_key(|(container, (read, written))| (Reverse(read.saturating_add(*written)), *container));
        for (container, (read, written)) in sums.iter().take(LISTED) {
            let image = self.image(*container);
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
    }
}

/// `12.0 MB read cold, 64.0 MB made dirty, 32.0 MB of that written back`
fn told(traffic: &Traffic) -> String {
    let copied = match traffic.copy_ups {
        0 => String::new(),
        copy_ups => format!(
            ", {} copied up ({})",
            units::of(copy_ups, "file", "files"),
            units::bytes(traffic.copied)
        ),
    };
    let deleted = match traffic.whiteouts {
        0 => String::new(),
        whiteouts => format!(", {} of lower layers deleted", units::of(whiteouts, "name", "names")),
    };
    format!(
        "{} read cold, {} made dirty, {} of that written back so far{copied}{deleted}",
        units::bytes(traffic.cold),
        units::bytes(traffic.dirtied),
        units::bytes(traffic.written_back)
    )
}

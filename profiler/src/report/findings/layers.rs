//! Layers: what was read of them at a container's start, and copied up.

use std::collections::BTreeSet;

use super::{Answered, Facts, Finding, LISTED};
use crate::attribute::layers::{CopyUp, Stack, Use};
use crate::attribute::waits::COPY_UP;
use crate::model::{ThreadIx, share::sum};
use crate::report::terminal::layers::copy_up;
use crate::report::{names, units, wait_details};

/// Layers told of one container.
const OF_CONTAINER: usize = 4;

impl Facts<'_> {
    pub(super) fn copy_ups(&mut self) -> Finding {
        let mut finding = Finding::new(
            "Which files were copied up, how many bytes, what stall, from which layer?",
            match self.measured {
                true => Answered::NotSeen,
                false => Answered::NotMeasured,
            },
        );
        let stall = |copy: &CopyUp| self.session.copy_ups[copy.ix].span.len();
        let longest = self.table.longest(self.session);
        if !longest.is_empty() {
            finding.answered = Answered::Yes;
            finding.lines.push(format!(
                "{}, {}, {} of stall",
                units::of(longest.len() as u64, "file", "files"),
                units::bytes(sum(longest.iter().map(|copy| copy.bytes))),
                units::time(sum(longest.iter().map(|copy| stall(copy))))
            ));
        }
        for copy in longest.iter().take(LISTED) {
            let told = copy_up(self.session, self.table, copy);
            finding.lines.push(format!(
                "{} in {}: {told}",
                units::bytes(copy.bytes),
                units::time(stall(copy))
            ));
        }
        if longest.len() > LISTED {
            let more = units::count((longest.len() - LISTED) as u64);
            finding.lines.push(format!("and {more} more: phasegraph layers"));
        }
        let failed = self.table.copy_ups.len() - longest.len();
        if failed > 0 {
            finding.answered = Answered::Yes;
            finding
                .lines
                .push(format!("{} failed", units::of(failed as u64, "copy-up", "copy-ups")));
        }
        let stacks = self.table.stacks.iter();
        let limits: BTreeSet<&str> = stacks
            .flat_map(|stack| self.table.limits(&self.session.overlays[stack.overlay.ix()]))
            .collect();
        finding.lines.extend(limits.into_iter().map(str::to_owned));
        let threads = (0..self.session.threads.len() as u32).map(ThreadIx);
        let details = wait_details::within(self.session, threads, self.session.span, self.classifier);
        for one in details.iter().filter(|one| one.detail == COPY_UP) {
            finding.lines.push(format!(
                "{} of waiting in copy-ups, {}",
                units::time(one.ns),
                units::of(one.count, "wait", "waits")
            ));
        }
        finding
    }

    pub(super) fn cold_layers(&self) -> Finding {
        let mut finding = Finding::new(
            "Which layers were read cold at start, what share of their bytes?",
            match self.measured {
                true => Answered::NotSeen,
                false => Answered::NotMeasured,
            },
        );
        if !self.measured {
            return finding;
        }
        let of_containers = self.table.stacks.iter().filter(|stack| stack.container.is_some());
        let mut stacks: Vec<(u64, &Stack)> = of_containers.map(|stack| (cold(stack), stack)).collect();
        stacks.sort_by_key(|(bytes, stack)| (std::cmp::Reverse(*bytes), stack.container));
        if !stacks.is_empty() {
            finding.answered = Answered::Yes;
        }
        let none = stacks.iter().filter(|(bytes, _)| *bytes == 0).count();
        let some = stacks.len() - none;
        for (bytes, stack) in stacks.iter().take(some.min(LISTED)) {
            finding.lines.push(self.cold(*bytes, stack));
        }
        if some > LISTED {
            let more = units::count((some - LISTED) as u64);
            finding
                .lines
                .push(format!("and {more} more containers: phasegraph layers"));
        }
        if none > 0 {
            finding.lines.push(format!(
                "{} found all that {} read of {} layers in the page cache",
                units::of(none as u64, "container", "containers"),
                if none == 1 { "it" } else { "they" },
                if none == 1 { "its" } else { "their" },
            ));
        }
        finding
    }

    fn cold(&self, bytes: u64, stack: &Stack) -> String {
        let container = stack
            .container
            .map(|ix| names::container(self.session, ix))
            .unwrap_or_default();
        let mut rows: Vec<_> = stack.rows.iter().filter(|row| row.used.cold > 0).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.used.cold), row.depth));
        let told: Vec<String> = rows
            .iter()
            .take(OF_CONTAINER)
            .map(|row| {
                let layer = self.table.layers.get(row.layer);
                let of = match layer.size {
                    Some(size) => format!(
                        " of {} ({})",
                        units::bytes(size),
                        units::share(row.used.distinct.min(size), size)
                    ),
                    None => String::new(),
                };
                let Use { cold, .. } = row.used;
                format!("{} {}{of}", names::layer(layer), units::bytes(cold))
            })
            .collect();
        let at_start = sum(stack.rows.iter().map(|row| row.used.cold_at_start));
        let more = match rows.len().saturating_sub(OF_CONTAINER) {
            0 => String::new(),
            1 => ", and 1 more layer".to_owned(),
            more => format!(", and {} more layers", units::count(more as u64)),
        };
        format!(
            "{container}: {} of {} of its layers, {} of it before it was ready or its entrypoint began: {}{more}",
            units::bytes(bytes),
            units::count(rows.len() as u64),
            units::bytes(at_start),
            told.join(", ")
        )
    }
}

/// Bytes read cold of a stack's layers.
fn cold(stack: &Stack) -> u64 {
    sum(stack.rows.iter().map(|row| row.used.cold))
}

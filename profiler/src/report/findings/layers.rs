//! Layers: what was read of them, and copied up.

use super::{Answered, Facts, Finding};
use crate::model::ThreadIx;
use crate::report::{units, wait_details};

impl Facts<'_> {
    /// Copy-ups themselves are not measured, but a wait in one is told by its stack.
    pub(super) fn copy_ups(&mut self) -> Finding {
        let mut finding = Finding::new(
            "Which files were copied up, how many bytes, what stall, from which layer?",
            Answered::NotMeasured,
        );
        let threads = (0..self.session.threads.len() as u32).map(ThreadIx);
        let details = wait_details::within(self.session, threads, self.session.span, self.classifier);
        for one in details.iter().filter(|one| one.detail == "overlay copy-up") {
            finding.lines.push(format!(
                "the stall alone: {} of waiting in copy-ups, {}",
                units::time(one.ns),
                units::of(one.count, "wait", "waits")
            ));
        }
        finding
    }
}

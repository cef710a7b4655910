//! Stops and cleanups.

use super::{Answered, Facts, Finding};
use crate::attribute::resources::Wait;
use crate::model::PhaseKind;
use crate::report::{units, wait_details};

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
                .filter(|one| matches!(one.wait, Wait::Disk | Wait::Lock))
                .take(2)
                .map(|one| format!("{} {}", one.detail, units::time(one.ns)))
                .collect();
            let waits = if waits.is_empty() {
                String::new()
            } else {
                format!("; waits: {}", waits.join(", "))
            };
            let line = format!(
                "{}: {}; {}{waits}",
                self.named(ix),
                units::time(span.len()),
                self.used(ix)
            );
            finding.phase(ix, line);
        }
        finding.done()
    }
}

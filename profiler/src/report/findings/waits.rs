//! What was waited for.

use super::{Answered, Facts, Finding};
use crate::attribute::resources::{self, Wait};
use crate::model::{ThreadIx, share};
use crate::report::{units, wait_details};

impl Facts<'_> {
    pub(super) fn waits(&mut self) -> Finding {
        let mut finding = Finding::new(
            "What was waited for: a lock (which), disk, CPU queue, network, a child, a timer?",
            Answered::NotSeen,
        );
        let threads = (0..self.session.threads.len() as u32).map(ThreadIx);
        let details = wait_details::within(self.session, threads.clone(), self.session.span, self.classifier);
        let mut runqueue = 0u64;
        for thread in threads {
            let times = resources::thread_within(self.session, thread, self.session.span, self.classifier);
            runqueue = runqueue.saturating_add(times.runqueue);
        }
        if runqueue > 0 {
            finding
                .lines
                .push(format!("CPU queue: {} of all threads", units::time(runqueue)));
        }
        for wait in Wait::ALL {
            let of: Vec<_> = details.iter().filter(|one| one.wait == wait).collect();
            let sum = share::sum(of.iter().map(|one| one.ns));
            if sum > 0 {
                let top: Vec<String> = of
                    .iter()
                    .take(3)
                    .map(|one| format!("{} {}", one.words(self.session), units::time(one.ns)))
                    .collect();
                finding
                    .lines
                    .push(format!("{}: {}: {}", wait.name(), units::time(sum), top.join(", ")));
            }
        }
        if !finding.lines.is_empty() {
            finding.answered = Answered::Yes;
        }
        finding
    }
}

//! Looking at files that a program's arguments name, while they are there: for so long at a time.

use std::time::{Duration, Instant};

use crate::lookup::tree::Tree;
use crate::recording::record::At;

/// For how long files are read between two drains. Whoever begins many programs that look like runtimes or builds, with
/// large files, must not keep the rings from being drained.
const MAX_LOOKING: Duration = Duration::from_millis(250);

/// The files that a process sees.
pub(super) fn seen_by(at: At) -> Option<Tree> {
    Tree::of(at.task.tgid, at.mnt_ns)
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Looking {
    spent: Duration,
    skipped: u64,
}

impl Looking {
    /// A drain begins.
    pub(super) fn renew(&mut self) {
        self.spent = Duration::ZERO;
    }

    /// Has `look` read what the process sees, if it asks for that and there is time.
    pub(super) fn look<T>(&mut self, at: At, look: impl FnOnce(&mut dyn FnMut() -> Option<Tree>) -> T) -> T {
        let begin = Instant::now();
        let Looking { spent, skipped } = self;
        let found = look(&mut || {
            if *spent >= MAX_LOOKING {
                *skipped += 1;
                return None;
            }
            seen_by(at)
        });
        *spent += begin.elapsed();
        found
    }

    /// What was not looked at, with its count.
    pub(super) fn losses(&self) -> impl Iterator<Item = (String, u64)> {
        let name = "files of containers and builds that were not read: too many at once (they have no name and no steps' text)";
        (self.skipped > 0).then(|| (name.to_owned(), self.skipped)).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture;

    /// Make sure that who has had its time is counted and not looked at, until the next drain.
    #[test]
    fn for_so_long() {
        let mut at = fixture::at(fixture::leader(std::process::id(), 1), 1);
        at.mnt_ns = crate::lookup::tree::namespace("self");
        let mut looking = Looking::default();
        assert!(looking.look(at, |tree| tree()).is_some());
        looking.spent = MAX_LOOKING;
        assert!(looking.look(at, |tree| tree()).is_none());
        // Whoever asks for nothing has lost nothing.
        looking.look(at, |_| ());
        assert_eq!(looking.losses().map(|(_, count)| count).sum::<u64>(), 1);
        looking.renew();
        assert!(looking.look(at, |tree| tree()).is_some());
        assert_eq!(looking.skipped, 1);
    }
}

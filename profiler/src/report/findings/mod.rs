//! The questions that people bring, each answered by what the recording shows, or told to be not seen or not measured:
//! a file for each, or for those that belong together.

mod disk;
mod layers;
mod pulls;
mod starts;
mod steps;
mod stops;
mod waits;

use super::{names, text, units};
use crate::attribute::critical::Paths;
use crate::attribute::disk::Disk;
use crate::attribute::layers::{Table, measured};
use crate::attribute::resources::{PhaseResources, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{Phase, PhaseIx, PhaseKind, Session, ThreadIx};
use crate::report::select::all_phases;

/// Phases told one by one.
const LISTED: usize = 8;

/// How far a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Yes,
    /// Nothing in the recording is asked about.
    NotSeen,
    /// This version does not measure what it takes.
    NotMeasured,
}

impl Answered {
    /// Stable name.
    pub fn name(self) -> &'static str {
        match self {
            Answered::Yes => "answered",
            Answered::NotSeen => "not seen",
            Answered::NotMeasured => "not measured in this version",
        }
    }
}

/// A question with its answer.
#[derive(Clone, Debug)]
pub struct Finding {
    pub question: &'static str,
    pub answered: Answered,
    /// Harmless text.
    pub lines: Vec<String>,
    /// Phases that the first lines speak of, one each.
    pub phases: Vec<PhaseIx>,
}

impl Finding {
    fn new(question: &'static str, answered: Answered) -> Finding {
        Finding {
            question,
            answered,
            lines: Vec::new(),
            phases: Vec::new(),
        }
    }

    /// Tells a phase's line, with the phase; the ones beyond [`LISTED`] are counted.
    fn phase(&mut self, ix: PhaseIx, line: String) {
        self.answered = Answered::Yes;
        if self.phases.len() < LISTED {
            self.lines.push(line);
        }
        self.phases.push(ix);
    }

    fn done(mut self) -> Finding {
        if self.phases.len() > LISTED {
            let more = self.phases.len() - LISTED;
            self.lines.push(format!("and {} more", units::count(more as u64)));
            self.phases.truncate(LISTED);
        }
        self
    }
}

/// All of them, in the order in which they are asked. `figures` are of all phases, in their order.
pub fn all(session: &Session, figures: &[PhaseResources], classifier: &mut Classifier) -> Vec<Finding> {
    let table = Table::new(session);
    let disk = Disk::new(session);
    let mut facts = Facts {
        session,
        figures,
        measured: measured(session),
        table: &table,
        disk: &disk,
        paths: Paths::new(session),
        classifier,
    };
    vec![
        facts.pulls(),
        facts.unpacking(),
        facts.starts(),
        facts.stops(),
        facts.copy_ups(),
        facts.cold_layers(),
        facts.steps(),
        facts.waits(),
        facts.disk(),
        facts.parallel(),
    ]
}

struct Facts<'a> {
    session: &'a Session,
    figures: &'a [PhaseResources],
    /// What was read and written is in the recording.
    measured: bool,
    table: &'a Table,
    disk: &'a Disk,
    paths: Paths<'a>,
    classifier: &'a mut Classifier,
}

impl Facts<'_> {
    /// Phases of some kinds, longest first.
    fn phases(&self, kinds: &[PhaseKind]) -> Vec<PhaseIx> {
        let mut found: Vec<PhaseIx> = all_phases(self.session)
            .filter(|ix| kinds.contains(&self.phase(*ix).kind))
            .collect();
        found.sort_by_key(|ix| (std::cmp::Reverse(self.phase(*ix).span.len()), *ix));
        found
    }

    fn phase(&self, ix: PhaseIx) -> &Phase {
        &self.session.phases[ix.ix()]
    }

    fn all(&self, ix: PhaseIx) -> Resources {
        self.figures.get(ix.ix()).map(|figures| figures.all).unwrap_or_default()
    }

    fn named(&self, ix: PhaseIx) -> String {
        self.of_container(text::fit(&names::phase(self.session, ix), 90), ix)
    }

    /// A phase's name, with its container's where there are several.
    fn of_container(&self, name: String, ix: PhaseIx) -> String {
        match self.phase(ix).container {
            Some(container) if self.session.containers.len() > 1 => {
                format!("{name} ({})", text::fit(&names::container(self.session, container), 24))
            }
            _ => name,
        }
    }

    /// `on CPUs 1.20 s, network 300 ms`: what the phase's length went to along its critical path, most first. Where the path
    /// has no thread to follow, what all threads of the phase used, which is more than its length.
    fn used(&mut self, ix: PhaseIx) -> String {
        let (path, unattributed) = self.paths.of_phase(ix).resources(self.session, self.classifier);
        let followed = unattributed <= self.phase(ix).span.len() / 2;
        let (used, whose) = if followed {
            (path, "")
        } else {
            (self.all(ix), "all threads: ")
        };
        // Of all threads, most sleep or wait for each other.
        let own = |ns: u64| if followed { ns } else { 0 };
        let mut parts = [
            ("on CPUs", used.cpu),
            ("in the run queue", used.runqueue),
            ("disk", used.disk),
            ("network", used.network),
            ("locks", used.lock),
            ("pipes and sockets", own(used.ipc)),
            ("children", own(used.child)),
            ("sleep", own(used.sleep)),
            ("other", own(used.other)),
        ];
        parts.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, ns)| *ns > 0)
            .map(|(name, ns)| format!("{name} {}", units::time(*ns)))
            .collect();
        if parts.is_empty() {
            "no CPU, disk or network".to_owned()
        } else {
            format!("{whose}{}", parts.join(", "))
        }
    }

    fn threads(&self, ix: PhaseIx) -> Vec<ThreadIx> {
        let processes = self.phase(ix).processes.iter();
        processes
            .filter_map(|ix| self.session.processes.get(ix.ix()))
            .flat_map(|process| process.threads.iter().copied())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::resources;
    use crate::report::fixture;

    fn of(session: &Session) -> Vec<Finding> {
        let mut classifier = Classifier::default();
        let figures: Vec<PhaseResources> = session
            .phases
            .iter()
            .map(|phase| resources::phase(session, phase, &mut classifier))
            .collect();
        all(session, &figures, &mut classifier)
    }

    /// Make sure that there are ten, that a build answers some, and that what is not there is not seen.
    #[test]
    fn ten_questions() {
        let session = fixture::session();
        let findings = of(&session);
        assert_eq!(findings.len(), 10);
        assert_eq!(findings[0].answered, Answered::NotSeen);
        assert_eq!(findings[5].answered, Answered::NotMeasured);
        let steps = &findings[6];
        assert_eq!(steps.answered, Answered::Yes);
        assert_eq!(
            steps.lines[0],
            "step 2/2 RUN make -j2: 8.50 s: run 7.30 s, cleanup 400 ms, create 400 ms, mount 100 ms, the engine's own \
             work 300 ms"
        );
        assert!(
            findings[7].lines.iter().any(|line| line.starts_with("child: ")),
            "{:?}",
            findings[7]
        );
        assert_eq!(findings[2].phases, [PhaseIx(3)]);
        assert_eq!(findings[9].answered, Answered::NotSeen);
        for finding in of(&Session::default()) {
            assert_ne!(finding.answered, Answered::Yes, "{finding:?}");
        }
    }

    /// Make sure that creations that overlap are compared with those that do not.
    #[test]
    fn parallel_starts() {
        let mut session = fixture::session();
        for (from, to) in [(1_200, 2_200), (1_500, 2_500), (5_000, 5_100)] {
            let mut phase = session.phases[3].clone();
            phase.span = fixture::span(from, to);
            session.phases.push(phase);
        }
        let finding = of(&session).pop().unwrap();
        assert_eq!(finding.answered, Answered::Yes);
        assert!(
            finding.lines[0]
                .starts_with("3 of 4 creations overlapped another; their median is 1.00 s, that of the others 100 ms"),
            "{:?}",
            finding.lines
        );
    }

    /// Make sure that copy-ups, cold layers and disk traffic are answered with figures where they were measured, and that a
    /// recording without them says so.
    #[test]
    fn layers_and_disk() {
        let findings = of(&fixture::disk::with_disk());
        let line = |finding: usize, line: usize| &findings[finding].lines[line][..];
        assert_eq!(line(4, 0), "1 file, 40.0 kB, 20.0 ms of stall");
        assert_eq!(
            line(4, 1),
            "40.0 kB in 20.0 ms: /lib.so from layer abababababab, by cc1 (pid 104): openat; run of \
             buildah-buildah1234567890"
        );
        assert_eq!(
            line(5, 0),
            "buildah-buildah1234567890: 41.0 kB of 1 of its layers, 0 B of it before it was ready or its entrypoint began: \
             abababababab 41.0 kB of 80.0 kB (50.0 %)"
        );
        assert_eq!(
            line(8, 0),
            "buildah-buildah1234567890 (docker.io/library/debian:13): 41.0 kB read cold, 36.9 kB made dirty, 24.6 kB of that \
             written back so far, 1 file copied up (40.0 kB)"
        );
        assert_eq!(
            line(8, 1),
            "write-back: 41.0 kB by the kernel's threads, 0 B by processes that waited for it; 16.4 kB of it was made dirty by \
             nobody who was recorded, or before that"
        );
        let without = of(&fixture::session());
        for finding in [4, 5, 8] {
            assert_eq!(without[finding].answered, Answered::NotMeasured);
        }
    }
}

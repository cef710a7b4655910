//! The questions that people bring, each answered by what the recording shows, or told to be not seen or not measured.

use std::collections::BTreeMap;

use super::{names, text, units, wait_details};
use crate::attribute::resources::{self, PhaseResources, Resources, Wait};
use crate::attribute::waits::Classifier;
use crate::model::{ContainerIx, Phase, PhaseIx, PhaseKind, Session, Span, ThreadIx};
use crate::report::select::all_phases;

/// Phases told one by one.
const LISTED: usize = 8;
/// Programs that inflate layers in the engines' stead.
const INFLATERS: [&[u8]; 5] = [b"unpigz", b"pigz", b"igzip", b"gunzip", b"zstd"];
/// Share of an unpacking's length that one CPU was used for it, beyond which it is bound by one, percent.
const BOUND_PERCENT: u64 = 80;

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
    let mut facts = Facts {
        session,
        figures,
        classifier,
    };
    vec![
        facts.pulls(),
        facts.unpacking(),
        facts.starts(),
        facts.stops(),
        facts.copy_ups(),
        Finding::new(
            "Which layers were read cold at start, what share of their bytes?",
            Answered::NotMeasured,
        ),
        facts.steps(),
        facts.waits(),
        facts.disk(),
        facts.parallel(),
    ]
}

struct Facts<'a> {
    session: &'a Session,
    figures: &'a [PhaseResources],
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
        let name = text::fit(&names::phase(self.session, ix), 90);
        match self.phase(ix).container {
            Some(container) if self.session.containers.len() > 1 => {
                format!("{name} ({})", text::fit(&names::container(self.session, container), 24))
            }
            _ => name,
        }
    }

    /// `on CPUs 1.20 s, network 300 ms`: what the phase's threads used or waited for, biggest first, without what they
    /// slept or waited for each other.
    fn used(&self, ix: PhaseIx) -> String {
        let all = self.all(ix);
        let mut parts = [
            ("on CPUs", all.cpu),
            ("in the run queue", all.runqueue),
            ("disk", all.disk),
            ("network", all.network),
            ("locks", all.lock),
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
            parts.join(", ")
        }
    }

    fn threads(&self, ix: PhaseIx) -> Vec<ThreadIx> {
        let processes = self.phase(ix).processes.iter();
        processes
            .filter_map(|ix| self.session.processes.get(ix.ix()))
            .flat_map(|process| process.threads.iter().copied())
            .collect()
    }

    fn pulls(&self) -> Finding {
        let mut finding = Finding::new(
            "Where did this pull go: network, gunzip, tar write, fsync, locks; per layer?",
            Answered::NotSeen,
        );
        let kinds = [
            PhaseKind::Pull,
            PhaseKind::Download,
            PhaseKind::Unpack,
            PhaseKind::Commit,
        ];
        let mut phases = self.phases(&kinds);
        // A pull before its layers, those in order of time.
        phases.sort_by_key(|ix| (self.phase(*ix).span.from, *ix));
        for ix in phases {
            let phase = self.phase(ix);
            let bytes = phase
                .bytes
                .map(|bytes| format!(", {}", units::bytes(bytes)))
                .unwrap_or_default();
            let line = format!(
                "{}: {}{bytes}; {}",
                self.named(ix),
                units::time(phase.span.len()),
                self.used(ix)
            );
            finding.phase(ix, line);
        }
        finding.done()
    }

    fn unpacking(&self) -> Finding {
        let mut finding = Finding::new(
            "Is unpacking CPU-bound on one core, and is pigz or igzip used?",
            Answered::NotSeen,
        );
        for ix in self.phases(&[PhaseKind::Unpack]) {
            let phase = self.phase(ix);
            let (cpu, length) = (self.all(ix).cpu, phase.span.len());
            let verdict = match (cpu * 100).checked_div(length.max(1)).unwrap_or(0) {
                ..BOUND_PERCENT => "not bound by a CPU",
                BOUND_PERCENT..=120 => "bound by one CPU",
                _ => "uses more than one CPU",
            };
            let line = format!(
                "{}: {} on CPUs in {} ({}): {verdict}",
                self.named(ix),
                units::time(cpu),
                units::time(length),
                units::share(cpu, length)
            );
            finding.phase(ix, line);
        }
        if finding.answered == Answered::Yes {
            let mut inflaters: Vec<String> = Vec::new();
            let images = self.session.processes.iter().flat_map(|process| &process.images);
            for image in images.filter(|image| image.exec) {
                let name = names::program(image);
                let known = INFLATERS.contains(&name).then(|| text::visible(name));
                if let Some(name) = known.filter(|name| !inflaters.contains(name)) {
                    inflaters.push(name);
                }
            }
            finding = finding.done();
            finding.lines.push(match inflaters.is_empty() {
                true => "neither pigz nor igzip ran: the engine inflates by itself".to_owned(),
                false => format!("programs that inflate: {}", inflaters.join(", ")),
            });
        }
        finding
    }

    fn starts(&self) -> Finding {
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

    fn of<'b>(&'b self, container: ContainerIx, kinds: &'b [PhaseKind]) -> impl Iterator<Item = PhaseIx> + 'b {
        all_phases(self.session).filter(move |ix| {
            let phase = self.phase(*ix);
            phase.container == Some(container) && kinds.contains(&phase.kind)
        })
    }

    fn stops(&mut self) -> Finding {
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
                .map(|one| format!("{} {}", one.words(self.session), units::time(one.ns)))
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

    /// Copy-ups themselves are not measured, but a wait in one is told by its stack.
    fn copy_ups(&mut self) -> Finding {
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

    fn steps(&self) -> Finding {
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

    fn waits(&mut self) -> Finding {
        let mut finding = Finding::new(
            "What was waited for: a lock (which), disk, CPU queue, network, a child, a timer?",
            Answered::NotSeen,
        );
        let threads = (0..self.session.threads.len() as u32).map(ThreadIx);
        let details = wait_details::within(self.session, threads.clone(), self.session.span, self.classifier);
        let mut runqueue = 0;
        for thread in threads {
            runqueue += resources::thread_within(self.session, thread, self.session.span, self.classifier).runqueue;
        }
        if runqueue > 0 {
            finding
                .lines
                .push(format!("CPU queue: {} of all threads", units::time(runqueue)));
        }
        for wait in Wait::ALL {
            let of: Vec<_> = details.iter().filter(|one| one.wait == wait).collect();
            let sum: u64 = of.iter().map(|one| one.ns).sum();
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

    /// What the kernel charges to the processes that asked for it; write-back by the kernel's own threads has no owner
    /// yet.
    fn disk(&self) -> Finding {
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

    fn parallel(&mut self) -> Finding {
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
            .filter(|one| one.wait == Wait::Lock && one.detail != "futex")
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

/// The middle one, or the lower of two; 0 of none.
fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
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

    /// Make sure that a union counts overlaps once and a median is one of its values.
    #[test]
    fn arithmetic() {
        let span = |from, to| Span { from, to };
        assert_eq!(covered(&mut [span(5, 9), span(0, 3), span(2, 6)]), 9);
        assert_eq!(covered(&mut []), 0);
        assert_eq!(median(&mut [3, 1, 2]), 2);
        assert_eq!(median(&mut [4, 1]), 1);
        assert_eq!(median(&mut []), 0);
    }
}

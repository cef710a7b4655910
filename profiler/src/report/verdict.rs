//! Three sentences: which phase is slowest (and which is next), what it spends its time on, what to look at first. Only what the recording
//! shows: the states of threads and the classes of their waits.
//!
//! "Slowest" is the phase with the most time of its own, that is outside of the phases in it, without what its main
//! thread slept: a server that waits for requests is not slow.

use std::collections::BTreeMap;

use super::{names, text, units, wait_details};
use crate::attribute::resources::{self, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{Phase, PhaseIx, PhaseKind, ProcessIx, Session, Span, ThreadIx};

/// Share of a phase's own time of which nothing is known, beyond which nothing is concluded, percent.
const UNKNOWN_PERCENT: u64 = 50;

/// What to tell first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The slowest phase; `None` when there are no phases.
    pub phase: Option<PhaseIx>,
    pub slowest: String,
    /// The phase after it; empty when there is none.
    pub next: String,
    pub reason: String,
    pub first: String,
}

/// The verdict on a session. Its sentences are harmless text.
pub fn of(session: &Session) -> Verdict {
    let mut classifier = Classifier::default();
    let mut ranked: Vec<(u64, PhaseIx)> = own_spans(session)
        .into_iter()
        .enumerate()
        .map(|(index, spans)| {
            let phase = &session.phases[index];
            (awake(session, phase, &spans, &mut classifier), PhaseIx(index as u32))
        })
        .filter(|(ns, _)| *ns > 0)
        .collect();
    ranked.sort_by_key(|(ns, ix)| (std::cmp::Reverse(*ns), *ix));
    let Some((own, ix)) = ranked.first().copied() else {
        return without_phases(session, &mut classifier);
    };
    let phase = &session.phases[ix.ix()];
    let spans = &own_spans(session)[ix.ix()];
    let whole = phase
        .operation
        .and_then(|ix| session.operations.get(ix.ix()))
        .map(|operation| (operation.span.len(), text::visible(operation.name.as_bytes())))
        .filter(|(ns, _)| *ns > 0)
        .unwrap_or_else(|| (session.span.len(), "the recording".to_owned()));
    let slowest = format!(
        "Slowest is {}{}: {} of its own, {} of the {} of {}.",
        text::fit(&names::phase(session, ix), 80),
        place(session, phase),
        units::time(own),
        units::share(own, whole.0),
        units::time(whole.0),
        whole.1,
    );
    let next = ranked.get(1).map_or_else(String::new, |(next, second)| {
        format!(
            "Next is {}{} with {}.",
            text::fit(&names::phase(session, *second), 60),
            place(session, &session.phases[second.ix()]),
            units::time(*next)
        )
    });
    let (reason, first) = why(session, phase, spans, own, &mut classifier);
    Verdict {
        phase: Some(ix),
        slowest,
        next,
        reason,
        first,
    }
}

/// ` in step 3/5 RUN make`, ` of container web`.
fn place(session: &Session, phase: &Phase) -> String {
    let step = phase.parent.filter(|ix| {
        let parent = session.phases.get(ix.ix());
        parent.is_some_and(|parent| parent.kind == PhaseKind::Step)
    });
    match (step, phase.container) {
        (Some(step), _) => format!(" in {}", text::fit(&names::phase(session, step), 60)),
        (None, Some(container)) if session.containers.len() > 1 => {
            format!(" of container {}", text::fit(&names::container(session, container), 40))
        }
        _ => String::new(),
    }
}

/// Of each phase the time that none of the phases in it has.
pub fn own_spans(session: &Session) -> Vec<Vec<Span>> {
    let mut children: Vec<Vec<Span>> = vec![Vec::new(); session.phases.len()];
    for phase in &session.phases {
        if let Some(spans) = phase.parent.and_then(|ix| children.get_mut(ix.ix())) {
            spans.push(phase.span);
        }
    }
    let own = |(phase, mut children): (&Phase, Vec<Span>)| {
        children.sort_unstable();
        let mut spans = Vec::new();
        let mut reached = phase.span.from;
        for child in children {
            let child = child.clip(phase.span);
            if child.from > reached && !child.is_empty() {
                spans.push(Span {
                    from: reached,
                    to: child.from,
                });
            }
            reached = reached.max(child.to);
        }
        spans.push(Span {
            from: reached,
            to: phase.span.to,
        });
        spans.retain(|span| !span.is_empty());
        spans
    };
    session.phases.iter().zip(children).map(own).collect()
}

fn main_thread(session: &Session, phase: &Phase, spans: &[Span], classifier: &mut Classifier) -> Resources {
    let mut sum = Resources::default();
    for span in spans {
        if let Some(main) = phase.main {
            sum.add(&resources::thread_within(session, main, *span, classifier));
        }
    }
    sum
}

fn awake(session: &Session, phase: &Phase, spans: &[Span], classifier: &mut Classifier) -> u64 {
    let length: u64 = spans.iter().map(|span| span.len()).sum();
    length.saturating_sub(main_thread(session, phase, spans, classifier).sleep)
}

/// The biggest of some times, with its name; `None` when all are 0.
fn biggest<'a>(times: &[(&'a str, u64)]) -> Option<(&'a str, u64)> {
    times
        .iter()
        .copied()
        .filter(|(_, ns)| *ns > 0)
        .max_by_key(|(_, ns)| *ns)
}

/// States that use something or queue for it.
fn busy(all: &Resources) -> [(&'static str, u64); 4] {
    [
        ("on CPUs", all.cpu),
        ("in the run queue", all.runqueue),
        ("waiting for disks", all.disk),
        ("waiting for the network", all.network),
    ]
}

fn why(session: &Session, phase: &Phase, spans: &[Span], own: u64, classifier: &mut Classifier) -> (String, String) {
    let main = main_thread(session, phase, spans, classifier);
    let length: u64 = spans.iter().map(|span| span.len()).sum();
    let unknown = length.saturating_sub(main.total()) + main.lost;
    let mut all = Resources::default();
    let mut programs: BTreeMap<&[u8], Resources> = BTreeMap::new();
    for process in resources_by_process(session, phase, spans, classifier) {
        all.add(&process.1);
        let name = session.processes[process.0.ix()]
            .image()
            .map_or(&b"?"[..], names::program);
        programs.entry(name).or_default().add(&process.1);
    }
    let states = [
        ("on a CPU", main.cpu),
        ("in the run queue, ready but without a CPU", main.runqueue),
        ("waiting for disks", main.disk),
        ("waiting for the network", main.network),
        ("waiting for locks", main.lock),
        ("waiting for pipes and sockets of neighbours", main.ipc),
        ("waiting for its child processes", main.child),
        ("asleep", main.sleep),
        ("waiting for something else", main.other + main.short_blocked),
    ];
    let who = phase.main.map_or_else(String::new, |ix| thread_name(session, ix));
    let Some((state, ns)) = biggest(&states).filter(|_| unknown * 100 < length * UNKNOWN_PERCENT) else {
        let reason = if phase.main.is_none() {
            "Why is not known: no thread stands for this phase.".to_owned()
        } else {
            format!(
                "Why is not known for {} of it: {who} did not live then, or its events were lost.",
                units::share(unknown, length)
            )
        };
        return (reason, busiest(session, &all, &programs, spans, phase, classifier, own));
    };
    let mut reason = format!("{who} was {state} for {} of it", units::share(ns, length));
    let main_details = phase.main.into_iter().collect::<Vec<_>>();
    if let Some(detail) = details(session, &main_details, spans, classifier, state) {
        reason.push_str(&format!(" ({detail})"));
    }
    let sum = |resources: &Resources| busy(resources).iter().map(|(_, ns)| ns).sum::<u64>();
    let others = sum(&all).saturating_sub(sum(&main));
    let waits = !matches!(state, "on a CPU" | "in the run queue, ready but without a CPU");
    if waits && others > 0 {
        let parts: Vec<String> = busy(&all)
            .iter()
            .filter(|(_, ns)| *ns * 100 >= length)
            .map(|(name, ns)| format!("{} {name}", units::time(*ns)))
            .collect();
        if !parts.is_empty() {
            reason.push_str(&format!(
                "; meanwhile the phase's threads together were {}",
                parts.join(", ")
            ));
        }
    }
    reason.push('.');
    (reason, busiest(session, &all, &programs, spans, phase, classifier, own))
}

/// What to look at first: the resource that the phase's threads used or queued for most.
fn busiest(
    session: &Session,
    all: &Resources,
    programs: &BTreeMap<&[u8], Resources>,
    spans: &[Span],
    phase: &Phase,
    classifier: &mut Classifier,
    own: u64,
) -> String {
    let threads: Vec<ThreadIx> = threads(session, phase);
    let top = |of: fn(&Resources) -> u64| {
        let sum: u64 = programs.values().map(of).sum();
        programs
            .iter()
            .max_by_key(|(_, resources)| of(resources))
            .map(|(name, resources)| {
                let name = text::escape_terminal(name, 40);
                format!("{name} ({} of that)", units::share(of(resources), sum))
            })
            .unwrap_or_default()
    };
    let length: u64 = spans.iter().map(|span| span.len()).sum();
    match biggest(&busy(all)).filter(|(_, ns)| ns * 10 >= length) {
        Some(("on CPUs", ns)) => format!(
            "Look first at the on-CPU flamegraph: {} of CPU time, most of it of {}.",
            units::time(ns),
            top(|one| one.cpu)
        ),
        Some(("in the run queue", ns)) => format!(
            "Look first at how much runs at once: threads were ready without a CPU for {}, against {} on one; most of \
             it {}. The host has {}.",
            units::time(ns),
            units::time(all.cpu),
            top(|one| one.runqueue),
            units::of(u64::from(session.meta.cpus), "CPU", "CPUs")
        ),
        Some(("waiting for disks", ns)) => format!(
            "Look first at the disk: {} of waiting, most of it of {}{}.",
            units::time(ns),
            top(|one| one.disk),
            details(session, &threads, spans, classifier, "waiting for disks")
                .map(|detail| format!(", for {detail}"))
                .unwrap_or_default()
        ),
        Some((_, ns)) => format!(
            "Look first at the network: {} of waiting, most of it of {}{}.",
            units::time(ns),
            top(|one| one.network),
            details(session, &threads, spans, classifier, "waiting for the network")
                .map(|detail| format!(", for {detail}"))
                .unwrap_or_default()
        ),
        None => {
            let main: Vec<ThreadIx> = phase.main.into_iter().collect();
            let waits = spans
                .iter()
                .flat_map(|span| wait_details::within(session, main.iter().copied(), *span, classifier))
                .max_by_key(|detail| detail.ns);
            match waits {
                Some(detail) if detail.ns * 10 >= own => format!(
                    "No CPU, disk or network was used for a tenth of it: look first at who ends its longest wait, {} \
                     ({}).",
                    detail.detail,
                    units::time(detail.longest)
                ),
                _ => "Nothing stands out: no CPU, disk, network or wait has a tenth of it.".to_owned(),
            }
        }
    }
}

/// The biggest detail of the waits that a state's words stand for: `flush at unmount, 194 ms`.
fn details(
    session: &Session,
    threads: &[ThreadIx],
    spans: &[Span],
    classifier: &mut Classifier,
    state: &str,
) -> Option<String> {
    let class = match state {
        "waiting for disks" => "disk",
        "waiting for the network" => "network",
        "waiting for locks" => "lock",
        "waiting for pipes and sockets of neighbours" => "ipc",
        "asleep" => "sleep",
        "waiting for something else" => "other",
        _ => return None,
    };
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for span in spans {
        for detail in wait_details::within(session, threads.iter().copied(), *span, classifier) {
            if detail.wait.name() == class {
                *sums.entry(detail.detail).or_default() += detail.ns;
            }
        }
    }
    let (detail, ns) = sums.into_iter().max_by_key(|(_, ns)| *ns)?;
    Some(format!("{detail}, {}", units::time(ns)))
}

fn threads(session: &Session, phase: &Phase) -> Vec<ThreadIx> {
    let processes = phase.processes.iter().filter_map(|ix| session.processes.get(ix.ix()));
    processes.flat_map(|process| process.threads.iter().copied()).collect()
}

fn resources_by_process(
    session: &Session,
    phase: &Phase,
    spans: &[Span],
    classifier: &mut Classifier,
) -> Vec<(ProcessIx, Resources)> {
    let mut found: BTreeMap<ProcessIx, Resources> = BTreeMap::new();
    let distinct: std::collections::BTreeSet<ProcessIx> = phase.processes.iter().copied().collect();
    for process in distinct {
        for span in spans {
            let own = resources::process_within(session, process, *span, classifier);
            if own.total() > 0 {
                found.entry(process).or_default().add(&own);
            }
        }
    }
    found.into_iter().collect()
}

fn thread_name(session: &Session, ix: ThreadIx) -> String {
    let process = session
        .threads
        .get(ix.ix())
        .and_then(|thread| session.processes.get(thread.process.ix()));
    match process {
        Some(process) => {
            let name = process.image().map_or(&b"?"[..], names::program);
            format!(
                "Its main thread ({}, pid {})",
                text::escape_terminal(name, 40),
                process.tgid
            )
        }
        None => "Its main thread".to_owned(),
    }
}

fn without_phases(session: &Session, classifier: &mut Classifier) -> Verdict {
    let mut all = Resources::default();
    for index in 0..session.threads.len() as u32 {
        all.add(&resources::thread_within(
            session,
            ThreadIx(index),
            session.span,
            classifier,
        ));
    }
    let slowest = format!(
        "No container's phases are in this recording of {} with {}.",
        units::time(session.span.len()),
        units::of(session.processes.len() as u64, "process", "processes")
    );
    let reason = match biggest(&busy(&all)) {
        Some(_) => {
            let parts: Vec<String> = busy(&all)
                .iter()
                .filter(|(_, ns)| *ns > 0)
                .map(|(name, ns)| format!("{} {name}", units::time(*ns)))
                .collect();
            format!("All threads together were {}.", parts.join(", "))
        }
        None => "No thread used a CPU, a disk or the network.".to_owned(),
    };
    Verdict {
        phase: None,
        slowest,
        next: String::new(),
        reason,
        first: "Look first at the processes below, and at the flamegraphs of all of them.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that the slowest phase is the one with the most time of its own, with its reason and figures.
    #[test]
    fn slowest_of_a_build() {
        let session = fixture::session();
        let verdict = of(&session);
        assert_eq!(verdict.phase, Some(PhaseIx(4)));
        assert!(
            verdict
                .slowest
                .contains("run in step 2/2 RUN make -j2: 7.30 s of its own, 73.0 % of the 10.0 s")
        );
        assert_eq!(verdict.next, "Next is step 1/2 FROM debian:13 with 1.00 s.");
        assert!(
            verdict.reason.contains("waiting for its child processes for"),
            "{}",
            verdict.reason
        );
        assert!(verdict.reason.contains("5.57 s on CPUs"), "{}", verdict.reason);
        assert!(
            verdict.first.contains("on-CPU flamegraph") && verdict.first.contains("cc1"),
            "{}",
            verdict.first
        );
    }

    /// Make sure that sleep does not make a phase slow, and that one without a main thread is not explained.
    #[test]
    fn sleep_and_unknown() {
        let mut session = fixture::session();
        session.threads[2].intervals[1].state = crate::model::State::Blocked {
            stack: 0,
            syscall: 35,
            iowait: false,
            task_state: 1,
            waker: None,
            open: false,
        };
        assert_ne!(of(&session).phase, Some(PhaseIx(4)));
        let mut session = fixture::session();
        session.phases[4].main = None;
        let verdict = of(&session);
        assert_eq!(verdict.phase, Some(PhaseIx(4)));
        assert!(verdict.reason.contains("not known"), "{}", verdict.reason);
    }

    /// Make sure that a recording without phases, or with nothing at all, gets sentences too.
    #[test]
    fn nothing_to_judge() {
        let mut session = fixture::session();
        session.phases.clear();
        let verdict = of(&session);
        assert_eq!(verdict.phase, None);
        assert!(verdict.slowest.contains("6 processes") && verdict.reason.contains("on CPUs"));
        let verdict = of(&Session::default());
        assert!(verdict.reason.contains("No thread"), "{verdict:?}");
    }

    /// Make sure that a phase's own time is what its children leave, and that nothing hostile comes through raw.
    #[test]
    fn own_time() {
        let session = fixture::session();
        let own = own_spans(&session);
        assert_eq!(
            own[1].iter().map(|span| span.len()).sum::<u64>(),
            (8_500 - 100 - 400 - 7_300 - 400) * fixture::MS
        );
        assert_eq!(own[4], [fixture::span(1_700, 9_000)]);
        let mut session = session;
        session.phases[4].label = fixture::HOSTILE.into();
        session.phases[4].kind = PhaseKind::User;
        assert!(!of(&session).slowest.contains('\x1b'));
    }
}

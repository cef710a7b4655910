//! Three sentences: which phase is slowest (and which is next), what it spends its time on, what to look at first. Only
//! what the recording shows: the phases and their critical paths.
//!
//! "Slowest" is the phase with the most time of its own, that is outside of the phases in it, without what its critical
//! path slept: a server that waits for requests is not slow.

use super::critical::{self, Share};
use super::{names, text, units};
use crate::attribute::critical::{Path, Paths, Reason};
use crate::attribute::resources::Wait;
use crate::attribute::waits::Classifier;
use crate::model::{Phase, PhaseIx, PhaseKind, Session, Span};

/// Share of a path of which nothing is known, beyond which nothing is concluded, percent.
const UNKNOWN_PERCENT: u64 = 50;
/// Shares of the path that are told.
const TOLD: usize = 3;

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
    let paths = Paths::new(session);
    let mut ranked: Vec<(u64, PhaseIx)> = own_spans(session)
        .into_iter()
        .zip(0..)
        .map(|(spans, number)| {
            let ix = PhaseIx(number);
            let length: u64 = spans.iter().map(|span| span.len()).sum();
            let asleep = asleep(session, &paths.of_phase(ix), &spans, &mut classifier);
            (length.saturating_sub(asleep), ix)
        })
        .filter(|(ns, _)| *ns > 0)
        .collect();
    ranked.sort_by_key(|(ns, ix)| (std::cmp::Reverse(*ns), *ix));
    let Some((own, ix)) = ranked.first().copied() else {
        return without_phases(session);
    };
    let phase = &session.phases[ix.ix()];
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
    let path = paths.of_phase(ix);
    let shares = critical::shares(session, &path, &mut classifier);
    let (reason, first) = why(session, &path, &shares);
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

/// How long a path slept within some spans, ns.
fn asleep(session: &Session, path: &Path, spans: &[Span], classifier: &mut Classifier) -> u64 {
    let mut sum = 0;
    for segment in &path.segments {
        let parts = segment.parts(session, classifier);
        let sleeps = |(reason, _): &(Reason, u64)| matches!(reason, Reason::Wait(class) if class.wait == Wait::Sleep);
        if parts.iter().any(sleeps) {
            sum += spans.iter().map(|span| span.clip(segment.span).len()).sum::<u64>();
        }
    }
    sum
}

/// `run queue of cc1`
fn named(share: &Share) -> String {
    let words = match share.reason {
        Reason::Cpu => "on CPUs",
        reason => reason.words(),
    };
    match &share.program[..] {
        "" => words.to_owned(),
        program => format!("{} {words}", text::fit(program, 40)),
    }
}

fn why(session: &Session, path: &Path, shares: &[Share]) -> (String, String) {
    let length = path.span.len();
    let unknown: u64 = shares
        .iter()
        .filter(|share| matches!(share.reason, Reason::Unattributed | Reason::Lost))
        .map(|share| share.ns)
        .sum();
    let known: Vec<&Share> = shares
        .iter()
        .filter(|share| !matches!(share.reason, Reason::Unattributed | Reason::Lost))
        .collect();
    let Some(top) = known
        .first()
        .filter(|_| u128::from(unknown) * 100 < u128::from(length) * u128::from(UNKNOWN_PERCENT))
    else {
        return (
            format!(
                "Why is not known: {} of its critical path is covered by no thread.",
                units::share(unknown, length)
            ),
            "Look first at losses and limits below; nothing can be concluded from this phase.".to_owned(),
        );
    };
    let told: Vec<String> = known
        .iter()
        .take(TOLD)
        .map(|share| {
            format!(
                "{} {} ({})",
                named(share),
                units::time(share.ns),
                units::share(share.ns, length)
            )
        })
        .collect();
    let reason = format!("On its critical path: {}.", told.join(", "));
    let program = match &top.program[..] {
        "" => String::new(),
        program => format!(" of {}", text::fit(program, 40)),
    };
    let first = match top.reason {
        Reason::Cpu => format!("Look first at the on-CPU flamegraph{program}: what the CPU time goes to."),
        Reason::Runqueue => format!(
            "Look first at how much runs at once: threads{program} were ready and had no CPU; the host has {}.",
            units::of(u64::from(session.meta.cpus), "CPU", "CPUs")
        ),
        Reason::Wait(class) => match class.wait {
            Wait::Disk => format!("Look first at the disk: {}{program}.", class.detail),
            Wait::Network => format!("Look first at the network: {}{program}.", class.detail),
            Wait::Lock => format!("Look first at who holds it: {}{program}.", class.detail),
            Wait::Sleep => format!("Look first at why it sleeps: {}{program}.", class.detail),
            Wait::Ipc | Wait::Child | Wait::Other => {
                format!("Look first at what ends this wait: {}{program}.", class.detail)
            }
        },
        _ => format!("Look first at the many short waits{program}, in the off-CPU flamegraph."),
    };
    (reason, first)
}

fn without_phases(session: &Session) -> Verdict {
    let all = units::of(session.processes.len() as u64, "process", "processes");
    Verdict {
        phase: None,
        slowest: format!(
            "No container's phases are in this recording of {} with {all}.",
            units::time(session.span.len())
        ),
        next: String::new(),
        reason: "Without phases nothing is compared.".to_owned(),
        first: "Look first at the processes below, and at the flamegraphs of all of them.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that the slowest phase is the one with the most time of its own, and that its path's shares are told.
    #[test]
    fn slowest_of_a_build() {
        let session = fixture::session();
        let verdict = of(&session);
        assert_eq!(verdict.phase, Some(PhaseIx(4)));
        assert!(
            verdict
                .slowest
                .contains("run in step 2/2 RUN make -j2: 7.30 s of its own, 73.0 % of the 10.0 s"),
            "{}",
            verdict.slowest
        );
        assert_eq!(verdict.next, "Next is step 1/2 FROM debian:13 with 1.00 s.");
        let path = Paths::new(&session).of_phase(PhaseIx(4));
        let shares = critical::shares(&session, &path, &mut Classifier::default());
        let top = units::time(shares[0].ns);
        assert!(
            verdict.reason.starts_with("On its critical path: "),
            "{}",
            verdict.reason
        );
        assert!(verdict.reason.contains(&top), "{} in {}", top, verdict.reason);
        assert!(verdict.first.starts_with("Look first at "), "{}", verdict.first);
    }

    /// Make sure that sleep does not make a phase slow, and that a path of which nothing is known is not explained.
    #[test]
    fn sleep_and_unknown() {
        let mut session = fixture::session();
        for thread in &mut session.threads[2..] {
            for interval in &mut thread.intervals {
                interval.state = crate::model::State::Blocked {
                    stack: 0,
                    syscall: 35,
                    iowait: false,
                    task_state: 1,
                    waker: None,
                    open: false,
                    awaited: None,
                };
            }
        }
        assert_ne!(of(&session).phase, Some(PhaseIx(4)));
        let mut session = fixture::session();
        for thread in &mut session.threads {
            for interval in &mut thread.intervals {
                interval.state = crate::model::State::Lost;
            }
        }
        let verdict = of(&session);
        assert!(verdict.reason.contains("not known"), "{}", verdict.reason);
    }

    /// Make sure that a recording without phases, or with nothing at all, gets sentences too.
    #[test]
    fn nothing_to_judge() {
        let mut session = fixture::session();
        session.phases.clear();
        let verdict = of(&session);
        assert_eq!(verdict.phase, None);
        assert!(verdict.slowest.contains("6 processes"));
        assert_eq!(of(&Session::default()).phase, None);
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

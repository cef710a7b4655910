//! What is kept of a run for comparisons: a [`Run`] of a session.

use std::collections::BTreeMap;

use super::key;
use super::results::{CopyUps, Host, Outcome, PathShare, PhaseRun, ProgramRun, Run, TOTAL, WaitRun};
use crate::attribute::critical::{Paths, Reason, Segment};
use crate::attribute::layers::{self, Table};
use crate::attribute::memory::Peaks;
use crate::attribute::owners::{self, Owners};
use crate::attribute::resources;
use crate::attribute::waits::Classifier;
use crate::kernel::host;
use crate::model::{Interval, OperationIx, PhaseIx, ProcessIx, Session, Span, State};
use crate::report::figures::{self, Cost};
use crate::report::json::schema::Times;
use crate::report::{names, text};
use crate::session;

/// Programs and waits that are kept of a run, the costliest.
const MOST: usize = 100;

/// Shares of the critical paths that are kept; the rest is one.
const MOST_SHARES: usize = 400;

/// The run in a recording; `copies`: several of the command ran at once.
pub fn run(session: &Session, copies: bool) -> Run {
    let mut classifier = Classifier::default();
    let keys = key::phases(session, copies);
    let cost = Cost::of(session);
    let exit_status = session.closed.flatten();
    let losses = figures::losses(session);
    let lost = losses.iter().filter(|loss| loss.is_loss);
    Run {
        number: 0,
        began_real_ns: figures::real_time(&session.clocks, session.span.from).unwrap_or(0),
        outcome: match exit_status {
            _ if session.closed.is_none() => Outcome::Broken,
            Some(0) | None => Outcome::Ok,
            Some(_) => Outcome::Failed,
        },
        exit_status,
        wall_ns: wall(session).len(),
        recording: None,
        version: text::visible(session.meta.version.as_bytes()),
        lost: lost.fold(0, |sum, loss| sum.saturating_add(loss.count)),
        self_cpu_ns: cost.bpf_ns.map(|bpf| bpf.saturating_add(cost.process_ns)),
        host_cpu_ns: cost.host_ns,
        copy_ups: layers::measured(session).then(|| copy_ups(session)),
        phases: phases(session, &keys, &mut classifier),
        programs: programs(session, &mut classifier),
        waits: waits(session, &mut classifier),
        path: path(session, &keys, &mut classifier),
    }
}

/// Those that came about.
fn copy_ups(session: &Session) -> CopyUps {
    let mut sum = CopyUps::default();
    for copy in Table::new(session).copy_ups {
        let Some(told) = session.copy_ups.get(copy.ix).filter(|told| !told.failed) else {
            continue;
        };
        sum.files += 1;
        sum.bytes = sum.bytes.saturating_add(copy.bytes);
        sum.stall_ns = sum.stall_ns.saturating_add(told.span.len());
    }
    sum
}

/// The host of a recording.
pub fn host(session: &Session) -> Host {
    let meta = &session.meta;
    let visible = |name: &str| text::visible(name.as_bytes());
    Host {
        hostname: visible(&meta.hostname),
        kernel: visible(&meta.kernel),
        machine: visible(&meta.machine),
        cpu_model: visible(&meta.cpu_model),
        cpus: meta.cpus,
        cores: fact(session, host::CORES).and_then(|cores| cores.parse().ok()),
        memory_bytes: meta.memory_bytes,
    }
}

/// Commit of the git checkout around the command's working folder.
pub fn commit(session: &Session) -> Option<String> {
    fact(session, session::COMMIT).map(|commit| text::visible(commit.as_bytes()))
}

/// What whoever recorded noted.
pub fn notes(session: &Session) -> BTreeMap<String, String> {
    let visible = |text: &str| text::visible(text.as_bytes());
    figures::notes(session)
        .map(|(name, value)| (visible(name), visible(value)))
        .collect()
}

fn fact<'a>(session: &'a Session, name: &str) -> Option<&'a str> {
    let found = session.meta.facts.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| &value[..])
}

/// From the moment in which the command was let go to its exit; of a host's recording all of it.
fn wall(session: &Session) -> Span {
    let command = session.begin.and_then(|begin| begin.command);
    let process = command.and_then(|id| {
        let same = |process: &&crate::model::Process| process.tgid == id.tgid && process.start == id.start;
        session.processes.iter().find(same)
    });
    match (session.begin, process) {
        (Some(begin), Some(process)) => Span {
            from: begin.mono,
            to: process.end(),
        },
        _ => session.span,
    }
}

fn phases(session: &Session, keys: &[String], classifier: &mut Classifier) -> Vec<PhaseRun> {
    let peaks = Peaks::new(session);
    let all: Vec<ProcessIx> = (0..session.processes.len())
        .filter_map(|index| u32::try_from(index).ok().map(ProcessIx))
        .collect();
    let largest = |processes: &[ProcessIx], span| peaks.largest(processes, span).map(|(_, bytes)| bytes);
    let whole: Vec<Vec<Span>> = session.processes.iter().map(|process| vec![process.span]).collect();
    let total = PhaseRun {
        key: TOTAL.to_owned(),
        kind: TOTAL.to_owned(),
        wall_ns: wall(session).len(),
        all: Times::new(&figures::selected(session, &whole, classifier), 0),
        memory_bytes: largest(&all, session.span),
        ..PhaseRun::default()
    };
    let paths = Paths::new(session);
    let phases = session
        .phases
        .iter()
        .zip(keys)
        .enumerate()
        .map(|(index, (phase, key))| {
            let ix = PhaseIx(u32::try_from(index).unwrap_or(u32::MAX));
            let (critical, unattributed) = paths.of_phase(ix).resources(session, classifier);
            let figures = resources::phase(session, phase, classifier);
            PhaseRun {
                key: key.clone(),
                kind: phase.kind.name().to_owned(),
                wall_ns: phase.span.len(),
                open: phase.open,
                bytes: phase.bytes,
                memory_bytes: largest(&phase.processes, phase.span),
                critical: Times::new(&critical, unattributed),
                all: Times::new(&figures.all, 0),
            }
        });
    std::iter::once(total).chain(phases.collect::<Vec<_>>()).collect()
}

fn programs(session: &Session, classifier: &mut Classifier) -> Vec<ProgramRun> {
    let mut sums: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    for (index, process) in session.processes.iter().enumerate() {
        let Some(image) = process.image() else { continue };
        let ix = ProcessIx(u32::try_from(index).unwrap_or(u32::MAX));
        let cpu = resources::process_within(session, ix, process.span, classifier).cpu;
        let sum = sums
            .entry(text::fit(&text::visible(names::program(image)), 40))
            .or_default();
        *sum = (sum.0.saturating_add(1), sum.1.saturating_add(cpu));
    }
    let mut programs: Vec<ProgramRun> = sums
        .into_iter()
        .map(|(name, (processes, cpu_ns))| ProgramRun {
            name,
            processes,
            cpu_ns,
        })
        .collect();
    programs.sort_by_key(|program| std::cmp::Reverse(program.cpu_ns));
    programs.truncate(MOST);
    programs
}

fn waits(session: &Session, classifier: &mut Classifier) -> Vec<WaitRun> {
    let mut sums: BTreeMap<(&'static str, &'static str), (u64, u64)> = BTreeMap::new();
    for interval in session.threads.iter().flat_map(|thread| &thread.intervals) {
        if !matches!(interval.state, State::Blocked { .. }) {
            continue;
        }
        let class = classifier.classify(session, interval.state);
        let sum = sums.entry((class.wait.name(), class.detail)).or_default();
        *sum = (sum.0.saturating_add(interval.span.len()), sum.1 + 1);
    }
    let mut waits: Vec<WaitRun> = sums
        .into_iter()
        .map(|((class, detail), (wait_ns, count))| WaitRun {
            class: class.to_owned(),
            detail: detail.to_owned(),
            wait_ns,
            count,
        })
        .collect();
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.wait_ns));
    waits.truncate(MOST);
    waits
}

/// The operations' critical paths by innermost phase, reason and program. An operation that another one asked for (a
/// script's `podman run`) is part of that one's path: it would count twice.
fn path(session: &Session, keys: &[String], classifier: &mut Classifier) -> Vec<PathShare> {
    let paths = Paths::new(session);
    let owners = Owners::new(session);
    let mut sums: BTreeMap<(Option<usize>, Reason, String), u64> = BTreeMap::new();
    for ix in outermost(session) {
        for segment in paths.of_operation(ix).segments {
            let ix = segment.process(session);
            let process = ix.and_then(|ix| session.processes.get(ix.ix()));
            let image = process.and_then(|process| process.image_at(segment.span.to.saturating_sub(1)));
            let program = image.map_or_else(String::new, |image| {
                text::fit(&text::visible(names::program(image)), 40)
            });
            // Phases' edges cut a segment: each piece belongs to the innermost phase of its own.
            let edges = ix.into_iter().flat_map(|ix| owners.edges(ix));
            for piece in owners::cut(segment.span, edges) {
                let phase = ix.and_then(|ix| owners.phase(ix, piece.from)).map(PhaseIx::ix);
                let cut = |state| {
                    Interval {
                        span: segment.span,
                        state,
                    }
                    .clip(piece)
                    .state
                };
                let part = Segment {
                    span: piece,
                    doing: segment.doing.map(|(thread, state)| (thread, cut(state))),
                    answer: segment.answer,
                };
                for (reason, ns) in part.parts(session, classifier) {
                    if ns > 0 {
                        let sum = sums.entry((phase, reason, program.clone())).or_default();
                        *sum = sum.saturating_add(ns);
                    }
                }
            }
        }
    }
    let mut shares: Vec<PathShare> = sums
        .into_iter()
        .map(|((phase, reason, program), ns)| PathShare {
            phase: phase.and_then(|index| keys.get(index)).cloned().unwrap_or_default(),
            class: reason.name().to_owned(),
            reason: reason.words().to_owned(),
            program,
            ns,
        })
        .collect();
    shares.sort_by_key(|share| std::cmp::Reverse(share.ns));
    let rest = shares.split_off(shares.len().min(MOST_SHARES));
    if !rest.is_empty() {
        shares.push(PathShare {
            class: "other".to_owned(),
            reason: "the rest".to_owned(),
            ns: rest.iter().fold(0, |sum, share| sum.saturating_add(share.ns)),
            ..PathShare::default()
        });
    }
    shares
}

/// Operations that no other one asked for.
fn outermost(session: &Session) -> impl Iterator<Item = OperationIx> {
    let asked = |ix: &OperationIx| {
        let client = session.operations[ix.ix()].process;
        let others = session
            .operations
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != ix.ix());
        others
            .into_iter()
            .any(|(_, other)| other.process != client && other.processes.contains(&client))
    };
    let all = (0..session.operations.len()).map(|index| OperationIx(u32::try_from(index).unwrap_or(u32::MAX)));
    all.filter(move |ix| !asked(ix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that a recording's version is text like any other: harmless.
    #[test]
    fn hostile_version() {
        let mut session = fixture::session();
        session.meta.version = "9.9\x1b[2J\u{202e}".to_owned();
        assert_eq!(run(&session, false).version, "9.9\\x1b[2J\\u{202e}");
    }

    /// Make sure that a run's figures are the recording's: the total is the command's life, critical states add up to
    /// their phase, shares of paths to the operations.
    #[test]
    fn sums() {
        let session = fixture::session();
        let run = run(&session, false);
        assert_eq!(run.phases[0].key, TOTAL);
        assert_eq!(run.phases.len(), session.phases.len() + 1);
        for (phase, of) in run.phases[1..].iter().zip(&session.phases) {
            assert_eq!(phase.wall_ns, of.span.len());
            let times = &phase.critical;
            let parts = [
                times.cpu_ns,
                times.runqueue_ns,
                times.disk_ns,
                times.network_ns,
                times.lock_ns,
                times.ipc_ns,
                times.child_ns,
                times.sleep_ns,
                times.short_blocked_ns,
                times.other_ns,
                times.lost_ns,
                times.unattributed_ns,
            ];
            assert_eq!(parts.iter().sum::<u64>(), phase.wall_ns, "{}", phase.key);
        }
        let operations: u64 = session.operations.iter().map(|operation| operation.span.len()).sum();
        assert_eq!(run.path.iter().map(|share| share.ns).sum::<u64>(), operations);
        assert!(run.path.iter().any(|share| !share.phase.is_empty()), "{:?}", run.path);
        // The same within another operation counts once.
        let mut nested = fixture::session();
        let mut outer = nested.operations[0].clone();
        outer.process = ProcessIx(99);
        outer.processes = (0..2).map(ProcessIx).collect();
        nested.operations.push(outer);
        assert_eq!(outermost(&nested).collect::<Vec<_>>(), [OperationIx(1)]);
        let processes: u32 = run.programs.iter().map(|program| program.processes).sum();
        assert_eq!(processes as usize, session.processes.len());
        assert_eq!(run.outcome, Outcome::Ok);
        let mut cut = fixture::session();
        cut.closed = None;
        assert_eq!(super::run(&cut, false).outcome, Outcome::Broken);
        cut.closed = Some(Some(1));
        assert_eq!(super::run(&cut, false).outcome, Outcome::Failed);
    }
}

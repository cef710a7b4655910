//! The numbers that the terminal and the JSON both show, worked out once.

use profiler_common::Counter;

use crate::attribute::resources::{self, Resources, Wait};
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, Phase, ProcessIx, Session, Span};
use crate::recording::record::Clock;
use crate::session;

/// How the command of a `run`, `exec` or `healthcheck` phase ended, in the shell's form: its status, or 128 and the
/// signal that killed it ([`Phase::exit_code`]).
pub fn exit_status(session: &Session, phase: &Phase) -> Option<i32> {
    let code = phase.exit_code(session)?;
    Some(match code & 0x7f {
        0 => code >> 8 & 0xff,
        signal => 128 + signal,
    })
}

/// All threads of a process within disjoint spans.
pub fn process(session: &Session, ix: ProcessIx, spans: &[Span], classifier: &mut Classifier) -> Resources {
    let mut all = Resources::default();
    for span in spans {
        all.add(&resources::process_within(session, ix, *span, classifier));
    }
    all
}

/// All processes, each within its spans ([`super::select::Selection::spans`]).
pub fn selected(session: &Session, spans: &[Vec<Span>], classifier: &mut Classifier) -> Resources {
    let mut all = Resources::default();
    for (index, spans) in spans.iter().enumerate() {
        all.add(&process(session, ProcessIx(index as u32), spans, classifier));
    }
    all
}

/// Waits by class with their time, ns: the classes in the product's order, then the waits too short to have one.
/// Together with `cpu`, `runqueue` and `lost` they are all of the time.
pub fn waits(resources: &Resources) -> Vec<(&'static str, u64)> {
    let classes = Wait::ALL.iter().map(|wait| (wait.name(), resources.waited(*wait)));
    classes.chain([("short waits", resources.short_blocked)]).collect()
}

/// The parts of an operation in which none of its phases was: time that no report can put a name to.
pub fn outside_phases(session: &Session, ix: OperationIx) -> Vec<Span> {
    let Some(operation) = session.operations.get(ix.ix()) else {
        return Vec::new();
    };
    let mut phases: Vec<Span> = session
        .phases
        .iter()
        .filter(|phase| phase.operation == Some(ix))
        .map(|phase| phase.span.clip(operation.span))
        // A container that was left running has phases behind its client's end.
        .filter(|span| !span.is_empty())
        .collect();
    phases.sort_unstable();
    let mut gaps = Vec::new();
    let mut reached = operation.span.from;
    for phase in phases {
        if phase.from > reached {
            gaps.push(Span {
                from: reached,
                to: phase.from,
            });
        }
        reached = reached.max(phase.to);
    }
    if reached < operation.span.to {
        gaps.push(Span {
            from: reached,
            to: operation.span.to,
        });
    }
    gaps
}

/// What the recording says about the share of blocked time and samples that have a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub samples: u64,
    pub samples_with_kernel: u64,
    pub samples_with_user: u64,
    pub samples_with_any: u64,
}

impl Coverage {
    /// Counts the CPU samples of all threads.
    pub fn of(session: &Session) -> Coverage {
        let mut coverage = Coverage::default();
        for (_, id) in session.threads.iter().flat_map(|thread| &thread.samples) {
            coverage.samples += 1;
            if let Some(stack) = session.stacks.get(*id) {
                let kernel = usize::from(stack.kernel);
                coverage.samples_with_kernel += u64::from(kernel > 0);
                coverage.samples_with_user += u64::from(stack.frames.len() > kernel);
                coverage.samples_with_any += u64::from(!stack.frames.is_empty());
            }
        }
        coverage
    }
}

/// The profiler's own share of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Run time of all BPF programs, ns; `None` when the kernel's statistics were off.
    pub bpf_ns: Option<u64>,
    pub bpf_runs: u64,
    /// Runs that the kernel dropped because a program was in the middle of another on the same CPU.
    pub bpf_missed: u64,
    /// User and system time of the process, ns.
    pub process_ns: u64,
    /// CPUs × the recording's length, ns: what there was to use.
    pub host_ns: u64,
}

impl Cost {
    /// Sums over the programs.
    pub fn of(session: &Session) -> Cost {
        let own = &session.self_cost;
        // A broken recording can hold any number.
        let sum = |sum: u64, part: &u64| sum.saturating_add(*part);
        let bpf_ns = own.programs.iter().map(|(_, ns, _, _)| ns).fold(0, sum);
        Cost {
            bpf_ns: (bpf_ns > 0).then_some(bpf_ns),
            bpf_runs: own.programs.iter().map(|(_, _, runs, _)| runs).fold(0, sum),
            bpf_missed: own.programs.iter().map(|(_, _, _, missed)| missed).fold(0, sum),
            process_ns: own.user_ns.saturating_add(own.system_ns),
            host_ns: session.span.len().saturating_mul(u64::from(session.meta.cpus)),
        }
    }
}

/// Beginning of the names of the sampling clock's programs.
const CPU_SAMPLER: &str = "cpu_";
/// Second programs on a tracepoint are called as the first, with this behind.
const AGAIN: &str = "_again";

/// A cause of loss that is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Stable name, for machines.
    pub name: String,
    pub count: u64,
    /// What was lost, and what that means; may hold hostile text.
    pub text: String,
    /// False for what is counted but takes nothing away from the figures.
    pub is_loss: bool,
}

/// What whoever recorded noted: names and values.
pub fn notes(session: &Session) -> impl Iterator<Item = (&str, &str)> {
    let facts = session.meta.facts.iter();
    facts.filter_map(|(name, value)| Some((name.strip_prefix(session::NOTE)?, &value[..])))
}

/// Every counter of loss that is not zero, the kernel's first.
pub fn losses(session: &Session) -> Vec<Loss> {
    let losses = &session.losses;
    let mut lines: Vec<Loss> = losses
        .counters
        .iter()
        .map(|(id, count)| {
            let counter = Counter::from_id(*id);
            Loss {
                name: counter.map_or_else(|| format!("counter_{id}"), |counter| counter.name().to_owned()),
                count: *count,
                text: counter.map_or_else(
                    || format!("unknown counter {id}: the recording is from a newer phasegraph"),
                    |counter| counter.text().to_owned(),
                ),
                is_loss: counter.is_none_or(Counter::is_loss),
            }
        })
        .collect();
    let mut add = |name: &str, count, text: &str| {
        lines.push(Loss {
            name: name.to_owned(),
            count,
            text: text.to_owned(),
            is_loss: true,
        });
    };
    add(
        "mappings_lost",
        losses.mappings_lost,
        "mappings lost: perf's ring was full (frames in those files have no names)",
    );
    add(
        "undecodable",
        losses.undecodable,
        "events that could not be decoded (a defect, please report)",
    );
    let again = |program: &str| {
        let name = format!("again.{program}");
        let counter = Counter::ALL.iter().find(|counter| counter.name() == name)?;
        let counted = losses.counters.iter().find(|(id, _)| *id == *counter as u32)?;
        Some(counted.1)
    };
    for (program, _, _, missed) in &session.self_cost.programs {
        // The second of two programs has nothing to tell but for what the first one missed.
        if program.ends_with(AGAIN) {
            continue;
        }
        let missed = missed.saturating_sub(again(program).unwrap_or(0));
        let text = if program.starts_with(CPU_SAMPLER) {
            "CPU samples dropped by the kernel: they hit a running BPF program".to_owned()
        } else {
            format!("runs of {program} dropped by the kernel: it was in the middle of another on the same CPU")
        };
        add(&format!("recursion_misses.{program}"), missed, &text);
    }
    for (name, count) in &losses.named {
        add(name, *count, name);
    }
    lines.retain(|line| line.count > 0);
    lines
}

/// Real time, ns since 1970, at a monotonic time, by the nearest pair of clocks; `None` without any.
pub fn real_time(clocks: &[Clock], mono: u64) -> Option<u64> {
    let nearest = clocks.iter().min_by_key(|clock| clock.mono.abs_diff(mono))?;
    let real = i128::from(nearest.real) + i128::from(mono) - i128::from(nearest.mono);
    u64::try_from(real).ok()
}

/// How much of the spans' length is in `whole`.
pub fn length(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::span;

    /// Make sure that the nearest pair of clocks is used, on both sides of it, and that none is no date.
    #[test]
    fn real_time_by_nearest_clock() {
        let clocks = [Clock { mono: 100, real: 1_000 }, Clock { mono: 200, real: 1_110 }];
        assert_eq!(real_time(&clocks, 90), Some(990));
        assert_eq!(real_time(&clocks, 140), Some(1_040));
        assert_eq!(real_time(&clocks, 160), Some(1_070));
        assert_eq!(real_time(&[], 160), None);
        assert_eq!(real_time(&[Clock { mono: 100, real: 10 }], 50), None);
    }

    /// Make sure that an operation's phases and what is outside of them add up to it, whatever overlaps.
    #[test]
    fn outside_of_phases() {
        let mut session = crate::report::fixture::session();
        let gaps = |session: &Session| outside_phases(session, OperationIx(0));
        assert_eq!(gaps(&session), [span(9_500, 10_000)]);
        session.phases.remove(0);
        assert_eq!(gaps(&session), [span(0, 1_000), span(9_500, 10_000)]);
        let mut behind = session.phases[0].clone();
        behind.span = span(12_000, 20_000);
        session.phases = vec![behind];
        assert_eq!(gaps(&session), [span(0, 10_000)]);
        session.phases.clear();
        assert_eq!(gaps(&session), [span(0, 10_000)]);
        assert!(outside_phases(&session, OperationIx(7)).is_empty());
    }

    /// Make sure that samples are counted by the stacks they have.
    #[test]
    fn coverage_of_samples() {
        let session = crate::report::fixture::session();
        let coverage = Coverage::of(&session);
        assert!(coverage.samples > 50);
        assert_eq!(coverage.samples_with_any, coverage.samples);
        assert_eq!(coverage.samples_with_user, coverage.samples);
        assert!(coverage.samples_with_kernel > 0 && coverage.samples_with_kernel < coverage.samples / 5);
    }
}

//! The numbers that the terminal and the JSON both show, worked out once.

use profiler_common::Counter;

use super::measure;
use crate::attribute::resources::Resources;
use crate::model::{PhaseIx, ProcessIx, Session, Span};
use crate::recording::record::Clock;

/// Where a phase's time went.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhaseFigures {
    pub wall_ns: u64,
    /// The states of the phase's main thread, as far as it lived.
    pub wall: Resources,
    /// `wall_ns` that no state of the main thread covers.
    pub unattributed_ns: u64,
    /// All threads of all the phase's processes.
    pub all: Resources,
}

/// Works out a phase's figures.
pub fn phase(session: &Session, ix: PhaseIx) -> PhaseFigures {
    let phase = &session.phases[ix.ix()];
    let wall = phase.main.map_or_else(Resources::default, |main| measure::thread(session, main, phase.span));
    let mut all = Resources::default();
    for ix in &phase.processes {
        add(&mut all, &process(session, *ix, &[phase.span]));
    }
    PhaseFigures {
        wall_ns: phase.span.len(),
        unattributed_ns: phase.span.len().saturating_sub(total(&wall)),
        wall,
        all,
    }
}

/// All threads of a process within disjoint spans.
pub fn process(session: &Session, ix: ProcessIx, spans: &[Span]) -> Resources {
    let mut all = Resources::default();
    let threads = session.processes.get(ix.ix()).map(|process| &process.threads[..]);
    for thread in threads.unwrap_or_default() {
        for span in spans {
            add(&mut all, &measure::thread(session, *thread, *span));
        }
    }
    all
}

/// All processes, each within its spans ([`super::select::Selection::spans`]).
pub fn selected(session: &Session, spans: &[Vec<Span>]) -> Resources {
    let mut all = Resources::default();
    for (index, spans) in spans.iter().enumerate() {
        add(&mut all, &process(session, ProcessIx(index as u32), spans));
    }
    all
}

/// Adds `more` to `sum`.
pub fn add(sum: &mut Resources, more: &Resources) {
    // Taken apart, so that a new field can't be forgotten.
    let Resources {
        cpu,
        runqueue,
        disk,
        network,
        lock,
        ipc,
        child,
        sleep,
        other,
        lost,
        cut,
        with_kernel_stack,
        with_user_stack,
    } = more;
    sum.cpu += cpu;
    sum.runqueue += runqueue;
    sum.disk += disk;
    sum.network += network;
    sum.lock += lock;
    sum.ipc += ipc;
    sum.child += child;
    sum.sleep += sleep;
    sum.other += other;
    sum.lost += lost;
    sum.cut += cut;
    sum.with_kernel_stack += with_kernel_stack;
    sum.with_user_stack += with_user_stack;
}

/// All blocked time, ns.
pub fn blocked(resources: &Resources) -> u64 {
    waits(resources).iter().map(|(_, ns)| ns).sum()
}

/// All time, ns: the length that the resources divide.
pub fn total(resources: &Resources) -> u64 {
    resources.cpu + resources.runqueue + blocked(resources) + resources.lost
}

/// Waits by class with their time, ns, in the order of the product's vocabulary. Together with `cpu`, `runqueue` and
/// `lost` they are all of the time.
pub fn waits(resources: &Resources) -> [(&'static str, u64); 7] {
    [
        ("disk", resources.disk),
        ("network", resources.network),
        ("lock", resources.lock),
        ("ipc", resources.ipc),
        ("child", resources.child),
        ("sleep", resources.sleep),
        ("other", resources.other),
    ]
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
    /// Runs that the kernel dropped because a program interrupted itself.
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
        let bpf_ns: u64 = own.programs.iter().map(|(_, ns, _, _)| ns).sum();
        Cost {
            bpf_ns: (bpf_ns > 0).then_some(bpf_ns),
            bpf_runs: own.programs.iter().map(|(_, _, runs, _)| runs).sum(),
            bpf_missed: own.programs.iter().map(|(_, _, _, missed)| missed).sum(),
            process_ns: own.user_ns + own.system_ns,
            host_ns: session.span.len() * u64::from(session.meta.cpus),
        }
    }
}

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
                is_loss: counter != Some(Counter::SampleUntracked),
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
    add("undecodable", losses.undecodable, "events that could not be decoded (a defect, please report)");
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

    /// Make sure that the nearest pair of clocks is used, on both sides of it, and that none is no date.
    #[test]
    fn real_time_by_nearest_clock() {
        let clocks = [
            Clock { mono: 100, real: 1_000 },
            Clock { mono: 200, real: 1_110 },
        ];
        assert_eq!(real_time(&clocks, 90), Some(990));
        assert_eq!(real_time(&clocks, 140), Some(1_040));
        assert_eq!(real_time(&clocks, 160), Some(1_070));
        assert_eq!(real_time(&[], 160), None);
        assert_eq!(real_time(&[Clock { mono: 100, real: 10 }], 50), None);
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

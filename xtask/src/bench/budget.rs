//! The figures that have a budget, beside it.

use serde::Serialize;

use super::Results;
use super::account::Whole;
use super::configuration::Configuration;
use super::figures::{Spread, ratio};
use super::probes;
use super::profiler::Measured;
use super::rounds::Rounds;
use super::table::figure;
use super::workload::Kind;

/// Share of the host's CPU that BPF and the profiler take from ready to the command's end, %.
const HOST_PERCENT: f64 = 1.0;
/// From the profiler's start to the command's, ms.
const START_MS: f64 = 500.0;
/// From the command's end to the summary, for a recording of up to a minute, ms. Held against the process's end, which
/// is what is seen from outside: detaching the last probes comes after the summary and takes a second of it.
const END_MS: f64 = 1_000.0;
/// Peak memory, MB.
const PEAK_MB: f64 = 100.0;
/// Recording, MB a minute of the build.
const RECORDING_MB: f64 = 5.0;
/// Share of blocked time that has a kernel stack, %.
const STACKS_PERCENT: f64 = 95.0;
/// Share of the user stacks of cc1, as, ld, make and sh, pooled, that reach the outermost frame, %.
const COMPILERS_PERCENT: f64 = 98.0;
/// As above, of all processes that lived less than 10 ms, %.
const SHORT_PERCENT: f64 = 95.0;
/// Unwinding a CPU sample in the kernel, all of the program that does it, us.
const SAMPLE_US: f64 = 10.0;
/// Names from the command's end on, ms.
const NAMES_MS: f64 = 1_000.0;
/// Recording against one with user stacks by frame pointers.
const RECORDING_RATIO: f64 = 2.0;
/// Against the bpftrace script on the storms.
const CHEAPER: f64 = 3.0;
/// A loop of cached 4 kB preads, and unpacking many small files, against the same unprofiled.
const CACHED_READ: f64 = 1.15;
const UNTAR: f64 = 1.05;
/// The same with each call counted and timed.
const CACHED_READ_FULL: f64 = 2.5;
const UNTAR_FULL: f64 = 1.15;
/// What a switch between untracked tasks takes more than an empty program, ns.
const UNTRACKED_NS: f64 = 80.0;
/// What a switch between tracked tasks takes more, without a stack, ns.
const TRACKED_NS: f64 = 250.0;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    pub(super) part: &'static str,
    pub(super) what: String,
    pub(super) figure: String,
    pub(super) budget: String,
    /// `None` when it can't be told.
    pub(super) within: Option<bool>,
}

impl Line {
    pub(crate) fn verdict(&self) -> &'static str {
        match self.within {
            Some(true) => "within",
            Some(false) => "over",
            None => "can't tell",
        }
    }
}

fn most(part: &'static str, what: &str, value: Option<f64>, most: f64, unit: &str) -> Line {
    Line {
        part,
        what: what.to_owned(),
        figure: value.map_or_else(|| "-".to_owned(), |value| format!("{} {unit}", figure(value))),
        budget: format!("{} {unit}", figure(most)),
        within: value.map(|value| value <= most),
    }
}

fn least(part: &'static str, what: &str, value: Option<f64>, least: f64, unit: &str) -> Line {
    Line {
        budget: format!(">= {} {unit}", figure(least)),
        within: value.map(|value| value >= least),
        ..most(part, what, value, least, unit)
    }
}

/// The lines of everything that was measured.
pub(super) fn of(results: &Results) -> Vec<Line> {
    let mut lines: Vec<_> = results.workloads.iter().flat_map(of_workload).collect();
    if !results.probes.is_empty() {
        lines.extend(of_probes(&results.probes));
    }
    lines
}

/// The lines of one workload.
pub(super) fn of_workload(rounds: &Rounds) -> Vec<Line> {
    let part = rounds.kind.name();
    let ours = |value: &dyn Fn(&Measured) -> Option<f64>| rounds.median(Configuration::Phasegraph, value);
    match rounds.kind {
        Kind::Build => {
            let cpus = rounds.cpus;
            vec![
                most(
                    part,
                    "BPF and profiler, ready to end, of the host's CPU",
                    ours(&|run| Some(host_percent(run, cpus))),
                    HOST_PERCENT,
                    "%",
                ),
                wall(part, rounds),
                most(
                    part,
                    "start to recording",
                    ours(&|run| Some(run.ready_ns as f64 / 1e6)),
                    START_MS,
                    "ms",
                ),
                most(
                    part,
                    "command's end to the process's",
                    ours(&|run| Some(run.done_ns as f64 / 1e6)),
                    END_MS,
                    "ms",
                ),
                most(
                    part,
                    "peak memory",
                    ours(&|run| Some(run.peak_bytes as f64 / 1e6)),
                    PEAK_MB,
                    "MB",
                ),
                most(
                    part,
                    "recording, a minute",
                    ours(&|run| ratio(run.written_bytes as f64 / 1e6, run.stamp.wall_ns() as f64 / 60e9)),
                    RECORDING_MB,
                    "MB",
                ),
                least(
                    part,
                    "blocked time with a kernel stack",
                    ours(&|run| {
                        let coverage = run.account.coverage.as_ref()?;
                        let with = coverage.blocked_with_kernel_stack_ns as f64;
                        Some(100.0 * ratio(with, coverage.blocked_ns as f64)?)
                    }),
                    STACKS_PERCENT,
                    "%",
                ),
                least(
                    part,
                    "whole user stacks of cc1, as, ld, make, sh",
                    ours(&|run| percent(run.account.user_stacks.as_ref()?.compilers())),
                    COMPILERS_PERCENT,
                    "%",
                ),
                least(
                    part,
                    "whole user stacks of processes under 10 ms",
                    ours(&|run| percent(run.account.user_stacks.as_ref()?.short)),
                    SHORT_PERCENT,
                    "%",
                ),
                most(
                    part,
                    "recording, against frame pointers",
                    rounds.median_of(|round| {
                        let bytes = |configuration| Some(round.get(&configuration)?.written_bytes as f64);
                        ratio(bytes(Configuration::Phasegraph)?, bytes(Configuration::FramePointers)?)
                    }),
                    RECORDING_RATIO,
                    "x",
                ),
                most(
                    part,
                    &sample_line(rounds),
                    ours(&|run| ratio(sampler_ns(run)? / 1e3, run.account.samples? as f64)),
                    SAMPLE_US,
                    "us",
                ),
                most(
                    part,
                    "names after the end",
                    ours(&|run| Some(run.account.own.as_ref()?.symbolize_ns as f64 / 1e6)),
                    NAMES_MS,
                    "ms",
                ),
            ]
        }
        Kind::Read => slower(part, rounds, CACHED_READ, CACHED_READ_FULL),
        Kind::Untar => slower(part, rounds, UNTAR, UNTAR_FULL),
        Kind::Switch | Kind::Fork => vec![
            least(
                part,
                "cheaper than bpftrace, by added wall time",
                rounds.median_of(|round| {
                    let added = |configuration| {
                        let wall = |configuration| Some(round.get(&configuration)?.stamp.wall_ns() as f64);
                        Some(wall(configuration)? - wall(Configuration::Unprofiled)?)
                    };
                    // An added time that drowns in the noise is no divisor.
                    let ours = added(Configuration::Phasegraph).filter(|added| *added > 0.0)?;
                    ratio(added(Configuration::Bpftrace)?, ours)
                }),
                CHEAPER,
                "x",
            ),
            least(
                part,
                "cheaper than bpftrace, by BPF run time",
                rounds.median_of(|round| {
                    let spent = |configuration| Some(bpf_ns(round.get(&configuration)?) as f64);
                    ratio(spent(Configuration::Bpftrace)?, spent(Configuration::Phasegraph)?)
                }),
                CHEAPER,
                "x",
            ),
        ],
    }
}

/// Run time of the program that takes CPU samples, ns: with the ticks that hit nobody of ours. What it goes on in counts as it
/// to the kernel, and is listed with no run of its own.
fn sampler_ns(run: &Measured) -> Option<f64> {
    let programs = run.stamp.programs();
    let sampler = programs.iter().filter(|program| program.name.starts_with("cpu_unwind"));
    Some(sampler.map(|program| program.run_ns).sum::<u64>() as f64).filter(|ns| *ns > 0.0)
}

/// Says how deep the stacks are.
fn sample_line(rounds: &Rounds) -> String {
    let depth = rounds.median(Configuration::Phasegraph, &|run| {
        let stacks = run.account.user_stacks.as_ref()?;
        ratio(stacks.frames as f64, stacks.samples as f64)
    });
    depth.map_or_else(
        || "sampler, a sample".to_owned(),
        |depth| format!("sampler, a sample (of {} user frames)", figure(depth)),
    )
}

fn percent(stacks: Whole) -> Option<f64> {
    Some(100.0 * ratio(stacks.whole as f64, stacks.samples as f64)?)
}

/// The workload's wall time against the unprofiled one of the same round, as it is and with each call counted.
fn slower(part: &'static str, rounds: &Rounds, budget: f64, full: f64) -> Vec<Line> {
    let line = |what, configuration, budget| {
        let slower = rounds.median_of(|round| {
            let wall = |configuration| Some(round.get(&configuration)?.stamp.wall_ns() as f64);
            ratio(wall(configuration)?, wall(Configuration::Unprofiled)?)
        });
        most(part, what, slower, budget, "x")
    };
    vec![
        line("wall time, ratio to unprofiled", Configuration::Phasegraph, budget),
        line("the same with --disk full", Configuration::FileCalls, full),
    ]
}

/// The workload's wall time against the unprofiled one of the same round: its excess has to drown in what the
/// unprofiled runs differ among each other.
fn wall(part: &'static str, rounds: &Rounds) -> Line {
    let ratio = rounds.median_of(|round| {
        let wall = |configuration| Some(round.get(&configuration)?.stamp.wall_ns() as f64);
        ratio(wall(Configuration::Phasegraph)?, wall(Configuration::Unprofiled)?)
    });
    let unprofiled = rounds.values(Configuration::Unprofiled, &|run| Some(run.stamp.wall_ns() as f64));
    let noise = Spread::of(&unprofiled)
        .filter(|_| unprofiled.len() > 1)
        .map(|spread| spread.noise());
    Line {
        part,
        what: "wall time, ratio to unprofiled".to_owned(),
        figure: ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}")),
        budget: noise.map_or_else(|| "noise".to_owned(), |noise| format!("1 + noise {noise:.3}")),
        within: ratio.zip(noise).map(|(ratio, noise)| ratio <= 1.0 + noise),
    }
}

/// The lines of the probe's cost.
fn of_probes(rounds: &[probes::Round]) -> Vec<Line> {
    let part = "probes";
    let rounds = if probes::counted(rounds) { rounds } else { &[] };
    let median = |value: &dyn Fn(&probes::Round) -> Option<f64>| {
        let values: Vec<f64> = rounds.iter().filter_map(value).collect();
        Spread::of(&values).map(|spread| spread.median)
    };
    let untracked = median(&|round| round.untracked.difference_ns());
    let tracked = median(&|round| round.tracked.difference_ns());
    vec![
        most(
            part,
            "sched_switch, untracked, over an empty program",
            untracked,
            UNTRACKED_NS,
            "ns",
        ),
        most(
            part,
            "sched_switch, tracked, over an empty program",
            tracked,
            TRACKED_NS,
            "ns",
        ),
    ]
}

/// BPF's run time while the workload ran, ns.
pub(crate) fn bpf_ns(run: &Measured) -> u64 {
    run.stamp.programs().iter().map(|program| program.run_ns).sum()
}

/// BPF's run time and the profiler's CPU time while the workload ran, as a share of the host's CPU time, %.
pub(crate) fn host_percent(run: &Measured, cpus: u32) -> f64 {
    let host = run.stamp.wall_ns() as f64 * f64::from(cpus);
    100.0 * (bpf_ns(run) + run.stamp.profiler_ns()) as f64 / host.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rounds::fixture::{rounds, run};

    /// Make sure that the share counts BPF and process against all CPUs.
    #[test]
    fn share() {
        // 10 s on 2 CPUs; 0.1 s in BPF and 0.06 s in the process are 0.8 %.
        let mut run = run(Configuration::Phasegraph, 10_000_000_000);
        run.stamp.after.profiler_ns = 60_000_000;
        run.stamp.after.programs = vec![super::super::bpf::Program {
            id: 1,
            run_ns: 100_000_000,
            ..Default::default()
        }];
        assert!((host_percent(&run, 2) - 0.8).abs() < 1e-9);
    }

    /// Make sure that an excess within the unprofiled runs' own range passes, a larger one does not, and that one round
    /// tells nothing.
    #[test]
    fn wall_noise() {
        // 10 ± 0.5 s unprofiled: 5 % noise.
        let calm = rounds(&[
            (9_500_000_000, 9_900_000_000),
            (10_000_000_000, 10_400_000_000),
            (10_500_000_000, 10_600_000_000),
        ]);
        assert_eq!(wall("build", &calm).within, Some(true));
        let slow = rounds(&[
            (9_500_000_000, 10_500_000_000),
            (10_000_000_000, 11_000_000_000),
            (10_500_000_000, 12_000_000_000),
        ]);
        assert_eq!(wall("build", &slow).within, Some(false));
        assert_eq!(wall("build", &rounds(&[(1, 1)])).within, None);
    }

    /// Make sure that a figure that is missing gives no verdict, and that limits are inclusive.
    #[test]
    fn verdicts() {
        assert_eq!(most("x", "y", None, 1.0, "ms").verdict(), "can't tell");
        assert_eq!(most("x", "y", Some(1.0), 1.0, "ms").verdict(), "within");
        assert_eq!(most("x", "y", Some(1.1), 1.0, "ms").verdict(), "over");
        assert_eq!(least("x", "y", Some(2.9), 3.0, "x").verdict(), "over");
        assert_eq!(least("x", "y", Some(3.0), 3.0, "x").verdict(), "within");
    }
}

//! The table of the configurations side by side.

use super::budget::{bpf_ns, host_percent};
use super::configuration::Configuration;
use super::figures::{Spread, ratio};
use super::profiler::Measured;
use super::rounds::{Round, Rounds};
use super::table::{figure, row};

/// One line of the table of configurations.
struct Line {
    name: &'static str,
    /// Also from lowest to highest, in a line below.
    range: bool,
    /// From a run, the unprofiled one of its round, and the number of CPUs.
    value: fn(&Measured, &Measured, u32) -> Option<f64>,
}

const fn line(name: &'static str, value: fn(&Measured, &Measured, u32) -> Option<f64>) -> Line {
    Line {
        name,
        range: false,
        value,
    }
}

const fn ranged(name: &'static str, value: fn(&Measured, &Measured, u32) -> Option<f64>) -> Line {
    Line {
        name,
        range: true,
        value,
    }
}

fn wall(run: &Measured) -> f64 {
    run.stamp.wall_ns() as f64
}

fn workload_cpu(run: &Measured) -> f64 {
    run.stamp.workload_ns as f64
}

fn bpf_runs(run: &Measured) -> f64 {
    run.stamp.programs().iter().map(|program| program.runs).sum::<u64>() as f64
}

/// `value`, unless nothing profiled this run.
fn profiled(run: &Measured, value: f64) -> Option<f64> {
    (run.configuration != Configuration::Unprofiled).then_some(value)
}

/// `value`, unless no BPF program ran for the profiler.
fn counted(run: &Measured, value: f64) -> Option<f64> {
    (bpf_ns(run) > 0).then_some(value)
}

const LINES: [Line; 18] = [
    ranged("wall, s", |run, _, _| Some(wall(run) / 1e9)),
    ranged("wall, ratio to unprofiled", |run, base, _| ratio(wall(run), wall(base))),
    ranged("workload's CPU, s", |run, _, _| Some(workload_cpu(run) / 1e9)),
    ranged("workload's CPU, ratio", |run, base, _| {
        ratio(workload_cpu(run), workload_cpu(base))
    }),
    ranged("host's CPU added, s", |run, base, _| {
        profiled(run, (run.stamp.busy_ns() as f64 - base.stamp.busy_ns() as f64) / 1e9)
    }),
    line("BPF run time, ms", |run, _, _| counted(run, bpf_ns(run) as f64 / 1e6)),
    line("BPF runs, thousands", |run, _, _| counted(run, bpf_runs(run) / 1e3)),
    line("BPF, ns a run", |run, _, _| {
        counted(run, ratio(bpf_ns(run) as f64, bpf_runs(run))?)
    }),
    line("profiler's CPU meanwhile, ms", |run, _, _| {
        profiled(run, run.stamp.profiler_ns() as f64 / 1e6)
    }),
    line("BPF and profiler, % of the host", |run, _, cpus| {
        profiled(run, host_percent(run, cpus))
    }),
    line("start to workload, ms", |run, _, _| {
        profiled(run, run.ready_ns as f64 / 1e6)
    }),
    line("workload's end to done, ms", |run, _, _| {
        profiled(run, run.done_ns as f64 / 1e6)
    }),
    line("profiler's CPU in all, ms", |run, _, _| {
        profiled(run, run.process_ns as f64 / 1e6)
    }),
    line("peak memory, MB", |run, _, _| {
        profiled(run, run.peak_bytes as f64 / 1e6)
    }),
    line("written, MB", |run, _, _| profiled(run, run.written_bytes as f64 / 1e6)),
    line("samples, thousands", |run, _, _| {
        Some(run.account.samples? as f64 / 1e3)
    }),
    line("whole stacks of cc1, as, ld…, %", |run, _, _| {
        let stacks = run.account.user_stacks.as_ref()?.compilers();
        Some(100.0 * ratio(stacks.whole as f64, stacks.samples as f64)?)
    }),
    line("lost", |run, _, _| profiled(run, run.account.lost as f64)),
];

/// The configurations side by side.
pub(crate) fn side_by_side(rounds: &Rounds) -> String {
    let configurations = rounds.configurations();
    let mut text = String::new();
    let heads = configurations
        .iter()
        .map(|configuration| Some(configuration.name().to_owned()));
    row(&mut text, &format!("median of {} rounds", rounds.rounds.len()), heads);
    for line in &LINES {
        let spread = |configuration: &Configuration| {
            let value = |round: &Round| {
                let unprofiled = round.get(&Configuration::Unprofiled)?;
                (line.value)(round.get(configuration)?, unprofiled, rounds.cpus)
            };
            let values: Vec<f64> = rounds.rounds.iter().filter_map(value).collect();
            Spread::of(&values)
        };
        let spreads: Vec<Option<Spread>> = configurations.iter().map(spread).collect();
        row(
            &mut text,
            line.name,
            spreads.iter().map(|spread| spread.map(|spread| figure(spread.median))),
        );
        if line.range {
            let range = |spread: Spread| format!("{}–{}", figure(spread.min), figure(spread.max));
            row(&mut text, "  range", spreads.iter().map(|spread| spread.map(range)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rounds::fixture::rounds;

    /// Make sure that a ratio is taken within each round, not between medians: rounds 1/1, 2/4 and 9/9 s have the
    /// ratios 1, 2 and 1, of which the median is 1, while the medians' ratio is 2.
    #[test]
    fn within_rounds() {
        let second = 1_000_000_000;
        let text = side_by_side(&rounds(&[
            (second, second),
            (2 * second, 4 * second),
            (9 * second, 9 * second),
        ]));
        let line = text.lines().find(|line| line.starts_with("wall, ratio")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>()[4..], ["1", "1"]);
        let line = text.lines().find(|line| line.starts_with("wall, s")).unwrap();
        assert_eq!(line.split_whitespace().collect::<Vec<_>>()[2..], ["2", "4"]);
    }
}

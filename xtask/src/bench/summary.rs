//! The other tables: programs, the profiler's own account, the probe at sched_switch, the budgets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bpf::Program;
use super::budget::{self, bpf_ns};
use super::configuration::Configuration;
use super::figures::{Spread, ratio};
use super::probes;
use super::profiler::Measured;
use super::rounds::Rounds;
use super::table::{figure, row};

/// What each of phasegraph's programs cost while the workload ran.
pub(crate) fn programs(rounds: &Rounds) -> String {
    let mut costs: BTreeMap<String, Vec<Program>> = BTreeMap::new();
    let mut host = Vec::new();
    for run in rounds
        .rounds
        .iter()
        .filter_map(|round| round.get(&Configuration::Phasegraph))
    {
        host.push(run.stamp.wall_ns() as f64 * f64::from(rounds.cpus));
        // A program at several hooks is loaded once for each.
        let mut sums: BTreeMap<String, Program> = BTreeMap::new();
        for program in run.stamp.programs() {
            let sum = sums.entry(program.name.clone()).or_default();
            sum.run_ns += program.run_ns;
            sum.runs += program.runs;
            sum.missed += program.missed;
        }
        for (name, program) in sums {
            costs.entry(name).or_default().push(program);
        }
    }
    let host = Spread::of(&host).map_or(1.0, |spread| spread.median);
    let median = |programs: &[Program], value: &dyn Fn(&Program) -> f64| {
        let values: Vec<f64> = programs.iter().map(value).collect();
        Spread::of(&values).map_or(0.0, |spread| spread.median)
    };
    let mut lines: Vec<_> = costs
        .iter()
        .map(|(name, programs)| (median(programs, &|program| program.run_ns as f64), name, programs))
        .filter(|(run_ns, ..)| *run_ns > 0.0)
        .collect();
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = String::new();
    row(
        &mut text,
        "phasegraph's programs",
        ["runs", "ns a run", "run time, ms", "% of host", "missed"]
            .map(|head| Some(head.to_owned()))
            .into_iter(),
    );
    for (run_ns, name, programs) in lines {
        let runs = median(programs, &|program| program.runs as f64);
        let missed = median(programs, &|program| program.missed as f64);
        let cells = [
            runs,
            run_ns / runs.max(1.0),
            run_ns / 1e6,
            100.0 * run_ns / host,
            missed,
        ];
        row(&mut text, name, cells.iter().map(|cell| Some(figure(*cell))));
    }
    text
}

/// What phasegraph tells of itself, beside what was measured from outside.
pub(crate) fn own(rounds: &Rounds) -> String {
    let median = |value: &dyn Fn(&Measured) -> Option<f64>| {
        let value = rounds.median(Configuration::Phasegraph, value);
        value.map_or_else(|| "-".to_owned(), figure)
    };
    let mut text = String::new();
    row(
        &mut text,
        "phasegraph's own account",
        ["by itself", "from outside"]
            .map(|head| Some(head.to_owned()))
            .into_iter(),
    );
    let mut line =
        |name: &str, own: String, outside: String| row(&mut text, name, [own, outside].into_iter().map(Some));
    line(
        "BPF run time, ms",
        median(&|run| Some(run.account.own.as_ref()?.bpf_ns? as f64 / 1e6)),
        median(&|run| Some(bpf_ns(run) as f64 / 1e6)),
    );
    line(
        "process CPU, ms",
        median(&|run| {
            run.account
                .own
                .as_ref()
                .map(|own| (own.user_ns + own.system_ns) as f64 / 1e6)
        }),
        median(&|run| Some(run.process_ns as f64 / 1e6)),
    );
    line(
        "peak memory, MB",
        median(&|run| Some(run.account.own.as_ref()?.peak_memory_bytes as f64 / 1e6)),
        median(&|run| Some(run.peak_bytes as f64 / 1e6)),
    );
    line(
        "start to recording, ms",
        median(&|run| Some(run.account.own.as_ref()?.startup_ns as f64 / 1e6)),
        median(&|run| Some(run.ready_ns as f64 / 1e6)),
    );
    line(
        "naming frames, ms",
        median(&|run| Some(run.account.own.as_ref()?.symbolize_ns as f64 / 1e6)),
        "-".to_owned(),
    );
    let share = |part: u64, whole: u64| Some(100.0 * ratio(part as f64, whole as f64)?);
    for (name, value) in [
        (
            "samples with a stack, %",
            median(&|run| {
                let coverage = run.account.coverage.as_ref()?;
                share(coverage.samples_with_stack, coverage.samples)
            }),
        ),
        (
            "blocked time with kernel stack, %",
            median(&|run| {
                let coverage = run.account.coverage.as_ref()?;
                share(coverage.blocked_with_kernel_stack_ns, coverage.blocked_ns)
            }),
        ),
        (
            "blocked time with user stack, %",
            median(&|run| {
                let coverage = run.account.coverage.as_ref()?;
                share(coverage.blocked_with_user_stack_ns, coverage.blocked_ns)
            }),
        ),
    ] {
        line(name, value, "-".to_owned());
    }
    let mut losses: BTreeMap<&str, u64> = BTreeMap::new();
    let runs = rounds
        .rounds
        .iter()
        .filter_map(|round| round.get(&Configuration::Phasegraph));
    for (name, count) in runs.flat_map(|run| &run.account.losses) {
        let most = losses.entry(name).or_default();
        *most = (*most).max(*count);
    }
    for (name, count) in losses {
        _ = writeln!(text, "lost, at most in a round: {count} {name}");
    }
    text
}

/// sched_switch beside an empty program.
pub(crate) fn probes(rounds: &[probes::Round]) -> String {
    let mut text = String::new();
    let heads = ["empty, ns", "ours, ns", "difference", "range", "storm, s"];
    let first = format!("sched_switch, {} rounds", rounds.len());
    row(&mut text, &first, heads.map(|head| Some(head.to_owned())).into_iter());
    type Pick = fn(&probes::Round) -> &probes::Storm;
    let picks: [(&str, Pick); 3] = [
        ("no phasegraph", |round| &round.alone),
        ("recording something else", |round| &round.untracked),
        ("recording the storm", |round| &round.tracked),
    ];
    for (name, pick) in picks {
        let spread = |value: &dyn Fn(&probes::Storm) -> Option<f64>| {
            let values: Vec<f64> = rounds.iter().filter_map(|round| value(pick(round))).collect();
            Spread::of(&values)
        };
        let median = |spread: Option<Spread>| spread.map(|spread| figure(spread.median));
        let difference = spread(&probes::Storm::difference_ns);
        let cells = [
            median(spread(&|storm| Some(storm.empty_ns()))),
            median(spread(&probes::Storm::ours_ns)),
            median(difference),
            difference.map(|spread| format!("{}–{}", figure(spread.min), figure(spread.max))),
            median(spread(&|storm| Some(storm.wall_ns as f64 / 1e9))),
        ];
        row(&mut text, name, cells.into_iter());
    }
    text
}

/// Figures beside their budgets.
pub(super) fn budgets(lines: &[budget::Line]) -> String {
    let mut text = format!(
        "{:8}{:52}{:>12}{:>16}  verdict\n",
        "part", "figure", "measured", "budget"
    );
    for line in lines {
        let verdict = line.verdict();
        let (figure, budget) = (line.figure.trim_end(), line.budget.trim_end());
        _ = writeln!(
            text,
            "{:8}{:52}{figure:>12}{budget:>16}  {verdict}",
            line.part, line.what
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rounds::fixture::{rounds, run};
    use crate::bench::side_by_side::side_by_side;

    /// Make sure that no table is wider than 100 columns, with all configurations of a workload and long figures.
    #[test]
    fn width() {
        let mut rounds = rounds(&[(123_456_789_012, 223_456_789_012)]);
        let all = Configuration::ALL.into_iter();
        for configuration in all.filter(|configuration| configuration.is_for(rounds.kind)) {
            let mut run = run(configuration, 123_456_789_012);
            run.stamp.after.programs = vec![Program {
                id: 1,
                name: "cgroup_notify_p".to_owned(),
                run_ns: 1 << 40,
                runs: 1 << 30,
                missed: 1 << 20,
            }];
            rounds.rounds[0].insert(configuration, run);
        }
        let lines = budget::of_workload(&rounds);
        for text in [side_by_side(&rounds), programs(&rounds), own(&rounds), budgets(&lines)] {
            for line in text.lines() {
                assert!(line.chars().count() <= 140, "{line}");
            }
        }
    }
}

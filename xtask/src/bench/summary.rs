//! Tables of at most 100 columns.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::bpf::Program;
use super::budget::{self, bpf_ns, host_percent};
use super::figures::{Spread, ratio};
use super::probes;
use super::profiler::{Configuration, Measured};

/// What each configuration gave in one round.
pub(crate) type Round = BTreeMap<Configuration, Measured>;

/// The rounds of one workload.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Rounds {
    pub(crate) workload: &'static str,
    pub(crate) what: String,
    pub(crate) cpus: u32,
    pub(crate) rounds: Vec<Round>,
}

impl Rounds {
    pub(crate) fn values(&self, configuration: Configuration, value: &dyn Fn(&Measured) -> Option<f64>) -> Vec<f64> {
        self.rounds
            .iter()
            .filter_map(|round| value(round.get(&configuration)?))
            .collect()
    }

    pub(crate) fn median(&self, configuration: Configuration, value: &dyn Fn(&Measured) -> Option<f64>) -> Option<f64> {
        Spread::of(&self.values(configuration, value)).map(|spread| spread.median)
    }

    /// Median of what is computed within each round.
    pub(crate) fn median_of(&self, value: impl Fn(&Round) -> Option<f64>) -> Option<f64> {
        let values: Vec<f64> = self.rounds.iter().filter_map(value).collect();
        Spread::of(&values).map(|spread| spread.median)
    }

    fn configurations(&self) -> Vec<Configuration> {
        Configuration::ALL
            .into_iter()
            .filter(|configuration| self.rounds.iter().any(|round| round.contains_key(configuration)))
            .collect()
    }
}

/// Three significant digits, or the whole number.
pub(crate) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if value == value.trunc() && magnitude < 1e6 || magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

/// Width of the first column, and of the others.
const FIRST: usize = 34;
const OTHER: usize = 13;

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

const LINES: [Line; 17] = [
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
    line("samples, thousands", |run, _, _| Some(run.samples? as f64 / 1e3)),
    line("lost", |run, _, _| profiled(run, run.lost as f64)),
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

fn row(text: &mut String, name: &str, cells: impl Iterator<Item = Option<String>>) {
    _ = write!(text, "{name:FIRST$}");
    for cell in cells {
        _ = write!(text, "{:>OTHER$}", cell.as_deref().unwrap_or("-"));
    }
    text.push('\n');
}

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
        median(&|run| Some(run.own.as_ref()?.bpf_ns? as f64 / 1e6)),
        median(&|run| Some(bpf_ns(run) as f64 / 1e6)),
    );
    line(
        "process CPU, ms",
        median(&|run| run.own.as_ref().map(|own| (own.user_ns + own.system_ns) as f64 / 1e6)),
        median(&|run| Some(run.process_ns as f64 / 1e6)),
    );
    line(
        "peak memory, MB",
        median(&|run| Some(run.own.as_ref()?.peak_memory_bytes as f64 / 1e6)),
        median(&|run| Some(run.peak_bytes as f64 / 1e6)),
    );
    line(
        "start to recording, ms",
        median(&|run| Some(run.own.as_ref()?.startup_ns as f64 / 1e6)),
        median(&|run| Some(run.ready_ns as f64 / 1e6)),
    );
    line(
        "naming frames, ms",
        median(&|run| Some(run.own.as_ref()?.symbolize_ns as f64 / 1e6)),
        "-".to_owned(),
    );
    let share = |part: u64, whole: u64| Some(100.0 * ratio(part as f64, whole as f64)?);
    for (name, value) in [
        (
            "samples with a stack, %",
            median(&|run| {
                let coverage = &run.own.as_ref()?.coverage;
                share(coverage.samples_with_stack, coverage.samples)
            }),
        ),
        (
            "blocked time with kernel stack, %",
            median(&|run| {
                let coverage = &run.own.as_ref()?.coverage;
                share(coverage.blocked_with_kernel_stack_ns, coverage.blocked_ns)
            }),
        ),
        (
            "blocked time with user stack, %",
            median(&|run| {
                let coverage = &run.own.as_ref()?.coverage;
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
    for (name, count) in runs.filter_map(|run| run.own.as_ref()).flat_map(|own| &own.losses) {
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
pub(crate) fn budgets(lines: &[budget::Line]) -> String {
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
pub(super) mod tests {
    use super::*;
    use crate::bench::child::{Look, Stamp};

    pub(crate) fn run(configuration: Configuration, wall_ns: u64) -> Measured {
        Measured {
            configuration,
            stamp: Stamp {
                before: Look::default(),
                after: Look {
                    at_ns: wall_ns,
                    ..Look::default()
                },
                workload_ns: wall_ns / 2,
            },
            ready_ns: 0,
            done_ns: 0,
            process_ns: 0,
            peak_bytes: 0,
            written_bytes: 0,
            lost: 0,
            samples: None,
            own: None,
            foreign_programs: 0,
            load: String::new(),
        }
    }

    /// Rounds with these wall times, ns: unprofiled, phasegraph.
    pub(crate) fn rounds(walls: &[(u64, u64)]) -> Rounds {
        let round = |&(unprofiled, phasegraph): &(u64, u64)| {
            BTreeMap::from([
                (Configuration::Unprofiled, run(Configuration::Unprofiled, unprofiled)),
                (Configuration::Phasegraph, run(Configuration::Phasegraph, phasegraph)),
            ])
        };
        Rounds {
            workload: "build",
            what: "a test".to_owned(),
            cpus: 2,
            rounds: walls.iter().map(round).collect(),
        }
    }

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

    /// Make sure that no table is wider than 100 columns, with all configurations and long figures.
    #[test]
    fn width() {
        let mut rounds = rounds(&[(123_456_789_012, 223_456_789_012)]);
        for configuration in Configuration::ALL {
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
        let lines = budget::of_workload(crate::bench::workload::Kind::Build, &rounds);
        for text in [side_by_side(&rounds), programs(&rounds), own(&rounds), budgets(&lines)] {
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    /// Make sure that figures have three significant digits where they need them.
    #[test]
    fn digits() {
        let texts = [0.0, 0.01234, 1.0, 1.2345, 12.345, 123.45, 12_345.6].map(figure);
        assert_eq!(texts, ["0", "0.012", "1", "1.23", "12.3", "123", "12346"]);
    }
}

//! The tables of all parts, alone and as a page.

use std::fmt::Write as _;

use super::figures::Spread;
use super::side_by_side::side_by_side;
use super::table::figure;
use super::{Results, budget, summary};

/// All tables, with a line of explanation each.
pub(super) fn tables(results: &Results) -> String {
    let mut text = String::new();
    for (title, table) in sections(results) {
        _ = write!(text, "\n{title}\n\n{table}");
    }
    text
}

fn sections(results: &Results) -> Vec<(String, String)> {
    let mut sections = vec![("Budgets".to_owned(), summary::budgets(&budget::of(results)))];
    for rounds in &results.workloads {
        let name = rounds.kind.name();
        sections.push((format!("{name}: {}", rounds.what), side_by_side(rounds)));
        sections.push((
            format!("{name}: where phasegraph's BPF time goes"),
            summary::programs(rounds),
        ));
        sections.push((format!("{name}: phasegraph about itself"), summary::own(rounds)));
    }
    if !results.probes.is_empty() {
        let trips = results.size.round_trips;
        let title = format!("probes: sched_switch in a storm of {trips} round trips, beside an empty program");
        sections.push((title, summary::probes(&results.probes)));
    }
    sections
}

/// A Markdown page.
pub(super) fn render(results: &Results) -> String {
    let mut text = String::from(HEAD);
    _ = writeln!(
        text,
        "Measured on {} CPUs ({}), Linux {}. Load of the host before: {}, after: {}\n(means over 1, 5 and 15 minutes). \
         What else runs on the host slows and spreads the wall times.\n",
        results.cpus, results.cpu, results.kernel, results.load_before, results.load_after
    );
    let loads: Vec<f64> = (results.workloads.iter().flat_map(|rounds| &rounds.rounds))
        .flat_map(|round| round.values())
        .map(|run| run.load.as_str())
        .chain(results.probes.iter().map(|round| round.load.as_str()))
        .filter_map(|load| load.split(' ').next()?.parse().ok())
        .collect();
    if let Some(load) = Spread::of(&loads) {
        _ = writeln!(
            text,
            "The 1-minute load when a run began was {} in the median, {} to {}.\n",
            figure(load.median),
            figure(load.min),
            figure(load.max)
        );
    }
    let others: Vec<f64> = (results.workloads.iter().flat_map(|rounds| &rounds.rounds))
        .flat_map(|round| round.values())
        .map(|run| run.foreign_programs as f64)
        .collect();
    if let Some(others) = Spread::of(&others).filter(|others| others.max > 0.0) {
        _ = writeln!(
            text,
            "BPF programs of others that were loaded when a run began: {} in the median, {} to {}.\n",
            figure(others.median),
            figure(others.min),
            figure(others.max)
        );
    }
    _ = writeln!(text, "Versions: {}.", results.versions.join(", "));
    for (title, table) in sections(results) {
        _ = write!(text, "\n## {title}\n\n```text\n{table}```\n");
    }
    text
}

const HEAD: &str = "\
# What phasegraph costs

This page is the output of `cargo xtask bench --page docs/perf/bench.md`; it is made anew by that command, as root, and
holds for the host it was made on. Nothing in it is a test: no time makes a build fail.

How it is measured:

- Every workload runs once a round under each configuration, each round beginning with another one. Figures are medians
  over the rounds; a ratio or a difference is taken within a round first. A range is lowest to highest.
- The workload is run below a stopwatch of the bench's own, the same in every configuration. It notes the time, the CPU
  time of the host (/proc/stat) and of the profiler's process, and the kernel's statistics of the profiler's BPF
  programs, immediately before and after: *meanwhile* is between these two. The workload's CPU time is that of all
  its processes (getrusage).
- BPF statistics are on in every configuration, as phasegraph switches them on for itself. They cost each run of a BPF
  program tens of ns, which are part of the figures.
- The kernel cuts programs' names to 15 bytes; programs whose names are then the same are added up (`sched_process_e`
  is exec and exit).
- *Start to workload* and *workload's end to done* are seen from outside: for phasegraph the latter ends when the summary
  is printed and the process has ended.
- *phasegraph, fp* is phasegraph with user stacks by frame pointers (`--rung cpu_sample=cpu-clock`), *perf, dwarf* is
  `perf record -a --call-graph dwarf,16384 -F 99`: both for the build alone, whose stacks are what they are about.
- *disk full* is phasegraph with `--disk full`, for the two workloads that work with files. *untar* unpacks onto an
  ext4 whose device is a file in memory: a disk that others use varies more than what is measured.
- A user stack is *whole* when it reaches the outermost frame; samples of tasks without user memory and in the middle of
  an exec are no part of the shares.
- *perf record* is `perf record -a -g -F 99`, *perf sched* is `perf sched record`; *bpftrace* runs
  `xtask/src/bench/offcpu.bt`: CPU stacks at 99 Hz and off-CPU stacks, summed by stack. perf's cost in the kernel is
  in no profiler's account: it shows in wall time, the workload's and the host's CPU time only.
- *Lost* is what the profiler itself tells: events lost in buffers, for bpftrace also stacks that could not be kept.
- *Noise* is half of the range of the unprofiled wall times, relative to their median.

";

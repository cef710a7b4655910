//! `cargo xtask bench`: what phasegraph costs, beside what others cost, on this host.
//!
//! It prints figures and never fails for one: a time depends on the host. See `docs/perf/bench.md`.

mod account;
mod bpf;
mod budget;
pub(crate) mod child;
mod configuration;
mod figures;
mod host;
mod page;
mod probes;
mod profiler;
mod project;
mod rounds;
mod side_by_side;
mod summary;
mod table;
mod workload;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{exec, workspace};
use configuration::Configuration;
use profiler::Bench;
use rounds::Rounds;
use workload::{Kind, Size, Workload};

/// Measure what phasegraph costs, beside perf and bpftrace
///
/// Every workload runs under every configuration once a round, in turn; figures are medians over the rounds, ratios
/// are taken within a round. As root, on a host that is otherwise quiet. perf and bpftrace are left out where they are
/// missing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure [default: all]
    #[arg(value_name = "PART")]
    parts: Vec<Part>,
    /// Rounds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Rounds of the build [default: as --rounds]
    #[arg(long, value_name = "ROUNDS", value_parser = clap::value_parser!(u32).range(1..))]
    build_rounds: Option<u32>,
    /// C files of the build, about a third of a second of CPU time each [default: 200, with --quick 24]
    #[arg(long)]
    files: Option<u32>,
    /// Small workloads, to see that everything works
    #[arg(long)]
    quick: bool,
    /// Everything that was measured, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The tables as a Markdown page
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Measure nothing: show what an earlier run has written by --json
    #[arg(long, value_name = "FILE", conflicts_with_all = ["parts", "json", "phasegraph"])]
    from: Option<PathBuf>,
    /// Measure this binary instead of a fresh release build
    #[arg(long, value_name = "FILE")]
    phasegraph: Option<PathBuf>,
}

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// `podman build` of a C project with gcc
    Build,
    /// A context-switch storm
    Switch,
    /// A fork and exec storm
    Fork,
    /// Reads of a file that is in the page cache
    Read,
    /// Unpacking many small files
    Untar,
    /// The probe at sched_switch beside an empty program
    Probes,
}

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
struct Results {
    kernel: String,
    cpu: String,
    cpus: u32,
    load_before: String,
    load_after: String,
    versions: Vec<String>,
    size: Size,
    workloads: Vec<Rounds>,
    probes: Vec<probes::Round>,
}

/// What `--json` writes; `--from` reads the results alone.
#[derive(Serialize)]
struct Document<'a> {
    budgets: Vec<budget::Line>,
    #[serde(flatten)]
    results: &'a Results,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let results = match &arguments.from {
        Some(path) => load(path)?,
        None => run_all(arguments)?,
    };
    print!("{}", page::tables(&results));
    if let Some(path) = &arguments.json {
        let document = Document {
            budgets: budget::of(&results),
            results: &results,
        };
        write(path, &serde_json::to_string_pretty(&document)?)?;
    }
    if let Some(path) = &arguments.page {
        write(path, &page::render(&results))?;
    }
    Ok(())
}

/// Set in the mount namespace that the bench works in.
const INSIDE: &str = "PHASEGRAPH_BENCH_INSIDE";

/// Runs this program again in a mount namespace of its own: what it mounts goes with it, however it ends.
fn inside() -> anyhow::Result<Infallible> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(std::env::current_exe().context("the path of this program")?);
    command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Err(command.exec()).context("can't run unshare")
}

fn run_all(arguments: &Arguments) -> anyhow::Result<Results> {
    ensure!(
        exec::is_root(),
        "the bench loads eBPF programs and builds containers: run it as root"
    );
    if std::env::var_os(INSIDE).is_none() {
        match inside()? {}
    }
    let folder = workspace()?.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let bench = Bench {
        phasegraph: phasegraph(arguments.phasegraph.as_deref())?,
        xtask: std::env::current_exe().context("the path of this program")?,
        folder,
    };
    let size = if arguments.quick {
        Size {
            files: arguments.files.unwrap_or(24),
            round_trips: 50_000,
            processes: 500,
            reads: 500_000,
            small_files: 2_000,
        }
    } else {
        Size {
            files: arguments.files.unwrap_or(200),
            round_trips: 500_000,
            processes: 4_000,
            reads: 5_000_000,
            small_files: 50_000,
        }
    };
    // On for every configuration, since phasegraph switches them on for itself.
    let _statistics = bpf::Statistics::on()?;
    measure(arguments, &bench, size)
}

fn measure(arguments: &Arguments, bench: &Bench, size: Size) -> anyhow::Result<Results> {
    let asked = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let (kernel, cpu) = host::describe();
    let mut results = Results {
        kernel,
        cpu,
        cpus: host::cpus(),
        load_before: host::load(),
        load_after: String::new(),
        versions: versions(bench),
        size,
        workloads: Vec::new(),
        probes: Vec::new(),
    };
    for (part, kind) in [
        (Part::Build, Kind::Build),
        (Part::Switch, Kind::Switch),
        (Part::Fork, Kind::Fork),
        (Part::Read, Kind::Read),
        (Part::Untar, Kind::Untar),
    ] {
        if !asked(part) {
            continue;
        }
        let rounds = match (kind, arguments.build_rounds) {
            (Kind::Build, Some(rounds)) => rounds,
            _ => arguments.rounds,
        };
        let workload = Workload::prepare(kind, &size, &bench.folder, &bench.xtask)?;
        results.workloads.push(alternate(bench, &workload, rounds)?);
    }
    if asked(Part::Probes) {
        let storm = Workload::prepare(Kind::Switch, &size, &bench.folder, &bench.xtask)?.command();
        for round in 1..=arguments.rounds {
            exec::announce(format!(
                "probes, round {round} of {}, load {}",
                arguments.rounds,
                host::load()
            ));
            results.probes.push(probes::round(bench, &storm)?);
        }
    }
    results.load_after = host::load();
    Ok(results)
}

/// Runs the workload under each configuration in turn, each round beginning with another one.
fn alternate(bench: &Bench, workload: &Workload, rounds: u32) -> anyhow::Result<Rounds> {
    let (configurations, missing): (Vec<_>, Vec<_>) = Configuration::ALL
        .into_iter()
        .filter(|configuration| configuration.is_for(workload.kind))
        .partition(|configuration| configuration.available());
    for configuration in missing {
        exec::announce(format!("without {}: it is not installed", configuration.name()));
    }
    let name = workload.kind.name();
    exec::announce(format!("{name}: once to warm up"));
    bench.measure(Configuration::Unprofiled, &workload.command())?;
    workload.clean()?;
    let mut result = Rounds {
        kind: workload.kind,
        what: workload.what.clone(),
        cpus: host::cpus(),
        rounds: Vec::new(),
    };
    for round in 0..rounds {
        let mut measured = BTreeMap::new();
        for index in 0..configurations.len() {
            let Some(&configuration) = configurations.get((index + round as usize) % configurations.len()) else {
                bail!("no configuration {index}");
            };
            let run = bench.measure(configuration, &workload.command())?;
            exec::announce(format!(
                "{name}, round {} of {rounds}: {} {} s, load {}",
                round + 1,
                configuration.name(),
                table::figure(run.stamp.wall_ns() as f64 / 1e9),
                run.load
            ));
            measured.insert(configuration, run);
            workload.clean()?;
        }
        result.rounds.push(measured);
    }
    Ok(result)
}

/// The binary to measure: built now, unless there is one.
fn phasegraph(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = given {
        return path.canonicalize().with_context(|| path.display().to_string());
    }
    let workspace = workspace()?;
    let mut cargo = exec::cargo();
    cargo
        .current_dir(&workspace)
        .args(["build", "--release", "--locked", "--package", "phasegraph"]);
    exec::run(&mut cargo)?;
    Ok(workspace.join("target/release/phasegraph"))
}

fn versions(bench: &Bench) -> Vec<String> {
    let ours = bench.phasegraph.as_os_str();
    [
        ours,
        "perf".as_ref(),
        "bpftrace".as_ref(),
        "podman".as_ref(),
        "runc".as_ref(),
    ]
    .into_iter()
    .filter_map(|program| exec::first_line(Command::new(program).arg("--version")))
    .collect()
}

/// The results in a file that `--json` has written.
fn load(path: &Path) -> anyhow::Result<Results> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| format!("{}: not of this bench", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that `--from` shows what `--json` has written, and that a foreign file is refused.
    #[test]
    fn again() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let results = Results {
            kernel: "6.18.0".to_owned(),
            cpu: "a CPU".to_owned(),
            cpus: 2,
            load_before: "0.10 0.20 0.30".to_owned(),
            load_after: "1.10 1.20 1.30".to_owned(),
            versions: vec!["perf version 6".to_owned()],
            size: Size {
                files: 1,
                round_trips: 2,
                processes: 3,
                reads: 4,
                small_files: 5,
            },
            workloads: vec![rounds::fixture::rounds(&[(1_000, 1_100), (1_000, 1_200)])],
            probes: Vec::new(),
        };
        let json = serde_json::to_string(&Document {
            budgets: budget::of(&results),
            results: &results,
        });
        write(&file("results.json"), &json.unwrap()).unwrap();
        let again = load(&file("results.json")).unwrap();
        assert_eq!(page::render(&again), page::render(&results));
        write(&file("other.json"), "{}").unwrap();
        assert!(load(&file("other.json")).is_err());
    }
}

//! `cargo xtask vm test`: the plan's rows on the kernels, and their results.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::build::{self, Programs};
use super::cache::Cache;
use super::exchange::{Item, Outcome, quoted};
use super::plan::{self, Row, Setup, Tier, Work};
use super::results::{self, judge};
use super::session::Session;
use super::{host, kernel, root, table};
use crate::{exec, workspace};

/// How much slower a machine may be than one that has the host to itself before it counts as hanging.
const PATIENCE: u32 = 4;
/// From power-on to the first item, and from the last to power-off.
const BOOT: Duration = Duration::from_secs(60);

/// Run the tests in machines: every kernel, every set-up
///
/// What each kernel gave goes to target/vm/results, where a run of a part takes the place of that part; `--write-docs` makes
/// the tables in docs from it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// 5.10, 6.1, 6.12, 7.2, a Debian suite, or all
    #[arg(long, default_value = "all")]
    kernel: String,
    /// Only what CI runs at every change
    #[arg(long)]
    smoke: bool,
    /// Only this set-up
    #[arg(long)]
    setup: Option<String>,
    /// Only rows of the plan whose name contains this
    #[arg(long)]
    row: Option<String>,
    /// Only tests whose name contains this, of rows that run tests; may be repeated. Their recordings come back into
    /// target/vm/logs, and target/vm/results stays as it was
    #[arg(long, conflicts_with = "write_docs")]
    test: Vec<String>,
    /// Write what was found into docs
    #[arg(long)]
    write_docs: bool,
    /// Machines at a time; each takes one of the host's CPUs [default: the host's CPUs]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    jobs: Option<u32>,
}

/// Runs the subcommand.
pub(crate) fn run(cache: &Cache, arguments: &Arguments) -> anyhow::Result<()> {
    let tier = if arguments.smoke { Tier::Smoke } else { Tier::Full };
    let names = kernel::names(&arguments.kernel)?;
    let selection = Selection {
        tier,
        setup: arguments.setup.as_deref(),
        row: arguments.row.as_deref(),
        tests: &arguments.test,
        jobs: arguments.jobs,
    };
    matrix(cache, &names, selection, None)?;
    if arguments.write_docs {
        table::write(&results_folder()?)?;
    }
    Ok(())
}

/// The smoke tier or everything, on all kernels: part of `cargo xtask test`. `objects` is the folder of the freshly
/// built eBPF objects, if they were.
///
/// # Errors
///
/// When a machine can't be made, or anything failed in one.
pub(crate) fn all(full: bool, objects: Option<&Path>) -> anyhow::Result<()> {
    host::ready()?;
    let selection = Selection {
        tier: if full { Tier::Full } else { Tier::Smoke },
        setup: None,
        row: None,
        tests: &[],
        jobs: None,
    };
    matrix(&Cache::new()?, &kernel::names("all")?, selection, objects)
}

/// What of the plan is run.
#[derive(Clone, Copy, Debug)]
struct Selection<'a> {
    tier: Tier,
    setup: Option<&'a str>,
    row: Option<&'a str>,
    /// All of them if there are none.
    tests: &'a [String],
    jobs: Option<u32>,
}

impl Selection<'_> {
    /// The machines a kernel needs, and their rows.
    fn machines(self) -> Vec<(&'static Setup, Vec<&'static Row>)> {
        plan::SETUPS
            .iter()
            .filter(|setup| self.setup.is_none_or(|wanted| wanted == setup.name))
            .map(|setup| {
                let mut rows = plan::rows(setup.name, self.tier);
                rows.retain(|row| self.row.is_none_or(|part| row.name.contains(part)));
                rows.retain(|row| self.tests.is_empty() || matches!(row.work, Work::Tests(..)));
                (setup, rows)
            })
            .filter(|(_, rows)| !rows.is_empty())
            .collect()
    }
}

/// Where runs leave what each kernel gave.
pub(crate) fn results_folder() -> anyhow::Result<PathBuf> {
    let folder = workspace()?.join("target/vm/results");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

/// Where a machine's console, its logs and what it left go.
pub(super) fn logs(kernel: &str, setup: &str) -> anyhow::Result<PathBuf> {
    Ok(workspace()?.join("target/vm/logs").join(kernel).join(setup))
}

fn matrix(
    cache: &Cache,
    names: &[&'static str],
    selection: Selection<'_>,
    objects: Option<&Path>,
) -> anyhow::Result<()> {
    let machines = selection.machines();
    if machines.is_empty() {
        bail!("no row of the plan is meant; its set-ups are {}", setups());
    }
    let programs = build::programs(&needed(&machines), objects)?;
    // Before the workers, which would each make one.
    root::ready(cache)?;
    let start = Instant::now();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = selection.jobs.map_or(cpus, |jobs| jobs as usize).min(names.len());
    let waiting = Mutex::new(names.iter());
    let next = || waiting.lock().ok()?.next();
    let worker = || -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        while let Some(name) = next() {
            let found = all_of(cache, name, &machines, &programs, selection.tests)?;
            summary(&found, start.elapsed());
            failures.extend(found.failures());
            if selection.tests.is_empty() {
                keep(found)?;
            }
        }
        Ok(failures)
    };
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let result = worker.join();
            failures.extend(result.ok().context("a thread that runs machines failed")??);
        }
        anyhow::Ok(())
    })?;
    if failures.is_empty() {
        return Ok(());
    }
    bail!(
        "{} failed; consoles and logs are in target/vm/logs\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// All machines of one kernel, one after the other.
fn all_of(
    cache: &Cache,
    name: &'static str,
    machines: &[(&'static Setup, Vec<&'static Row>)],
    programs: &Programs,
    tests: &[String],
) -> anyhow::Result<results::Kernel> {
    let kernel = kernel::ready(cache, name)?;
    let mut found = results::Kernel {
        name: name.to_owned(),
        release: kernel.release.clone(),
        distribution: format!("Debian {}", kernel.suite),
        ..results::Kernel::default()
    };
    for (setup, rows) in machines {
        let session = Session {
            cache,
            kernel: &kernel,
            shape: setup.shape(),
            cgroups: setup.cgroups,
            programs,
        };
        let folder = logs(name, setup.name)?;
        let items = machine(&session, rows, tests, &folder, &mut found)
            .with_context(|| format!("{name}, set-up {}", setup.name))?;
        found.setups.push(results::Setup {
            name: setup.name.to_owned(),
            items,
        });
    }
    Ok(found)
}

/// Keeps what the rows gave on a kernel, beside what others gave before.
fn keep(found: results::Kernel) -> anyhow::Result<()> {
    let kept = results_folder()?;
    let verified = logs(&found.name, "normal")?.join("out/verified");
    if verified.exists() {
        fs::copy(&verified, results::verified(&kept, &found.name)).context("can't keep the verifier's counts")?;
    }
    let before = results::read(&kept, &[found.name.as_str()])?.pop();
    results::write(&kept, &found.over(before))
}

/// The test programs that the rows run.
fn needed(machines: &[(&Setup, Vec<&Row>)]) -> Vec<&'static str> {
    let rows = machines.iter().flat_map(|(_, rows)| rows);
    let names: BTreeSet<_> = rows
        .filter_map(|row| match row.work {
            Work::Tests(name, _) => Some(name),
            Work::Shell(_) => None,
        })
        .collect();
    names.into_iter().collect()
}

/// Runs the rows on one machine and judges them.
fn machine(
    session: &Session<'_>,
    rows: &[&Row],
    tests: &[String],
    folder: &Path,
    found: &mut results::Kernel,
) -> anyhow::Result<Vec<results::Item>> {
    let items: Vec<Item> = rows
        .iter()
        .map(|row| item(row, tests, session.programs))
        .collect::<Result<_, _>>()?;
    let seconds: u64 = rows.iter().map(|row| row.seconds).sum();
    let deadline = (BOOT + Duration::from_secs(seconds)) * PATIENCE;
    let left = session.run(&items, deadline, folder)?;
    let judged = rows.iter().zip(&left.outcomes).map(|(row, outcome)| {
        let log = fs::read_to_string(&outcome.log).ok();
        let log = log.as_deref().filter(|_| matches!(row.work, Work::Tests(..)));
        if row.name == plan::FACTS {
            take_facts(found, outcome);
        }
        let never_skipped = if tests.is_empty() { row.never_skipped } else { &[] };
        let mut judged = judge(row.name, outcome.status, log, never_skipped);
        judged.failures.extend(take_rungs(found, outcome));
        judged
    });
    let mut judged: Vec<_> = judged.collect();
    if let Err(error) = left.ended {
        let whole = judged.iter_mut().find(|item| !item.failures.is_empty());
        match whole {
            Some(item) => item.failures.push(format!("{error:#}")),
            None => return Err(error),
        }
    }
    Ok(judged)
}

fn take_facts(found: &mut results::Kernel, outcome: &Outcome) {
    let taken = fs::read_to_string(outcome.files.join("demo.json"))
        .context("the demo left no report")
        .and_then(|json| found.take_recording(&json));
    if let Err(error) = taken {
        exec::announce(format!("{}: {error:#}", found.name));
    }
}

/// Takes over which rungs could be forced, where the item has done so; gives those that the kernel should have had.
fn take_rungs(found: &mut results::Kernel, outcome: &Outcome) -> Vec<String> {
    let Ok(text) = fs::read_to_string(outcome.files.join("rungs")) else {
        return Vec::new();
    };
    found.take_rungs(&text);
    let refused = found
        .rungs
        .iter()
        .filter_map(|rung| Some((&rung.rung, rung.refused.as_ref()?)));
    refused
        .filter(|(rung, _)| !plan::LACKING.contains(&(found.name.as_str(), rung.as_str())))
        .map(|(rung, why)| format!("{rung}: {why}"))
        .collect()
}

/// A row as an item of work.
fn item(row: &Row, tests: &[String], programs: &Programs) -> anyhow::Result<Item> {
    let line = match row.work {
        Work::Shell(line) => line.to_owned(),
        Work::Tests(name, filters) => {
            let program = programs.tests.iter().find(|(test, _)| test == name);
            let (_, program) = program.with_context(|| format!("{}: there is no test program {name}", row.name))?;
            let program = program.to_str().context("a test program's path is not UTF-8")?;
            let folder = workspace()?.join("profiler");
            let folder = folder.to_str().context("the checkout's path is not UTF-8")?;
            let mut words = vec![quoted(program), "--test-threads=1 --nocapture".to_owned()];
            let keep = match tests {
                [] => {
                    words.extend(filters.iter().map(|filter| quoted(filter)));
                    ""
                }
                tests => {
                    words.extend(tests.iter().map(|test| quoted(test)));
                    "export PHASEGRAPH_KEEP_RECORDINGS=$OUT\n"
                }
            };
            // cargo runs them in their package.
            format!(
                "cd {}\nexport PHASEGRAPH_VERIFIED_OUT=/exchange/out/verified\n{keep}{}",
                quoted(folder),
                words.join(" ")
            )
        }
    };
    let seconds = row.seconds * u64::from(PATIENCE);
    Ok(Item {
        name: row.name.to_owned(),
        script: format!("exec timeout --kill-after=10 {seconds} sh -c {}\n", quoted(&line)),
    })
}

fn setups() -> String {
    let names: Vec<_> = plan::SETUPS.iter().map(|setup| setup.name).collect();
    names.join(", ")
}

fn summary(kernel: &results::Kernel, elapsed: Duration) {
    exec::announce(format!(
        "{}: {}, {} s so far",
        kernel.name,
        kernel.release,
        elapsed.as_secs()
    ));
    for setup in &kernel.setups {
        for item in &setup.items {
            let result = if item.failures.is_empty() { "ok" } else { "FAILED" };
            exec::announce(format!(
                "  {:<12} {:<16} {result:<6} {} passed, {} skipped",
                setup.name,
                item.name,
                item.passed,
                item.skipped.len()
            ));
            for skipped in &item.skipped {
                exec::announce(format!("      {} skipped: {}", skipped.test, skipped.why));
            }
        }
    }
}

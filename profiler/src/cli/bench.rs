//! `bench`: runs of a command, each profiled, cold and warm, over parameters, with their figures in a folder.

mod folder;
mod plan;
mod process;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};

use super::capture::{self, Cap, Note};
use super::problem::tell;
use super::{Problem, load, output, terminal};
use crate::compare::digest;
use crate::compare::history::{History, HistoryError};
use crate::compare::results::{KIND, Outcome, Results, Run, SCHEMA, Series, Settings, Unprofiled};
use crate::ingest::redact;
use crate::report::compare as shown;
use crate::report::{text, units};
use crate::session;
use folder::Folder;
use plan::{Plan, Variant};
use process::{Ended, Runner};

/// Measure a command: several profiled runs, phase by phase, with their spread
///
/// Each run is a recording of its own, made by a process of its own, so that nothing of one run (memory, dropped
/// privileges, symbols already read) is in the next; attaching lies outside of what is measured. With --cold or
/// --drop-caches there are two series, a cold one and a warm one, unless --series picks one. With several values of a
/// parameter the runs take turns, so that a host that gets slower meanwhile does so for all of them. A command's output goes
/// to a file that is kept when the run fails.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph bench --name base -- podman run --rm alpine true\n  \
                        sudo phasegraph bench --runs 10 --cold 'podman rmi -f IMG' --drop-caches -- podman pull IMG\n  \
                        sudo phasegraph bench --param j=1,4,8 -- make -j {j}\n  \
                        sudo phasegraph bench --concurrency 5 -o five -- podman run --rm alpine true\n  \
                        phasegraph diff base new\n\n\
                        Exit status: 0 when every run succeeded, 1 when some failed (the results are written all the \
                        same), 2 when the arguments make no sense, 130 when interrupted; what was measured before a failure or an \
                        interruption is kept.")]
pub(crate) struct Args {
    /// Runs of each series
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,

    /// Unprofiled runs before each warm series
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    warmup: u32,

    /// Run this before each cold run; words are split as a shell would, but no shell is used; can be given several times
    #[arg(long, value_name = "CMD")]
    cold: Vec<String>,

    /// Empty the kernel's caches of files before each cold run; this slows all of the host for a while
    #[arg(long)]
    drop_caches: bool,

    /// Only this one of the two series
    #[arg(long, value_enum)]
    series: Option<Which>,

    /// A name for the results, shown in reports
    #[arg(long, value_name = "N", default_value = "", hide_default_value = true)]
    name: String,

    /// Keep this in the results, the recordings and the receipt, such as toolchain="rustc 1.95.0"; can be given several
    /// times
    #[arg(long, value_name = "NAME=VALUE", value_parser = capture::note)]
    note: Vec<Note>,

    /// Run it with each of these values in place of {K} in the command and in --cold; several parameters give every
    /// combination
    #[arg(long, value_name = "K=V,V…")]
    param: Vec<String>,

    /// Start the command this many times at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    concurrency: u32,

    /// Run it without the profiler too, beside each run: what the profiler itself costs this command
    #[arg(long)]
    unprofiled: bool,

    /// End a run after this time: 90s, 5m
    #[arg(long, value_name = "D", value_parser = super::record::duration)]
    timeout: Option<Duration>,

    /// Write into this folder; it must be new or empty [default: phasegraph-bench-<UTC time>]
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Which recordings to keep
    #[arg(long, value_enum, default_value_t = Keep::All)]
    keep: Keep,

    /// CPU samples a second on each CPU
    #[arg(short = 'F', long, value_name = "HZ", default_value_t = capture::DEFAULT_HZ, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    frequency: u32,

    /// The most that it may cost, percent of the host's CPU time, or `off`
    #[arg(long, value_name = "PERCENT", default_value = "2", value_parser = capture::overhead, env = "PHASEGRAPH_MAX_OVERHEAD")]
    max_overhead: Cap,

    /// What is told of files: as `run --disk`
    #[arg(long, value_name = "HOW", value_enum, default_value_t = capture::Disk::Totals, env = "PHASEGRAPH_DISK")]
    disk: capture::Disk,

    /// Keep arguments that look like secrets (passwords, tokens)
    #[arg(long)]
    no_redact: bool,

    /// Take the rules for phases of your own from here [default: phasegraph.toml in the current folder, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Add the results to this history too, an SQLite file; `phasegraph trend` shows it
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,

    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,

    /// The command, after --
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Which {
    Cold,
    Warm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keep {
    /// Every run's
    All,
    /// The slowest run's and the middle one's
    Ends,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let plan = Plan::new(args)?;
    for variant in &plan.variants {
        if let Some(program) = variant.command.first() {
            super::run::check_program(program)?;
        }
    }
    let failed = |error| capture::failed("can't profile the command", error);
    session::check_privilege().map_err(failed)?;
    // What can't be added to is known before hours of runs.
    let broken = |path: &Path, error: HistoryError| {
        Problem::new(format!("can't add to the history {}", path.display())).because(error)
    };
    let history = match &args.history {
        Some(path) => Some((path, History::create(path).map_err(|error| broken(path, error))?)),
        None => None,
    };
    let folder = Folder::create(args.output.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::new("can't make an event loop").because(error))?;
    let mut bench = Bench {
        args,
        plan: &plan,
        runner: runtime.block_on(async { Runner::new(args, &folder) })?,
        results: empty(args),
        bar: bar(args, &plan),
    };
    let ended = runtime.block_on(bench.all());
    let Bench {
        mut results,
        bar,
        runner,
        ..
    } = bench;
    // With the last command's output.
    drop(runner);
    bar.finish_and_clear();
    // The exit status of what ended it before all runs were done.
    let early = match ended {
        Ok(interrupted) => interrupted.then_some(130),
        // What was measured before it is kept.
        Err(problem) if results.series.iter().all(|series| series.runs.is_empty()) => {
            folder.remove_if_empty();
            return Err(problem);
        }
        Err(problem) => {
            problem.print();
            Some(problem.status())
        }
    };
    results.interrupted = early.is_some();
    results.series.retain(|series| !series.runs.is_empty());
    for series in &mut results.series {
        if args.keep == Keep::Ends {
            folder.keep_ends(series);
        }
        series.summarize();
    }
    let checksum = folder.write(&results)?;
    if let Some((path, mut history)) = history.filter(|_| early.is_none()) {
        history.add(&results, &checksum).map_err(|error| broken(path, error))?;
    }
    if !args.quiet {
        let style = terminal::style(&io::stdout(), None);
        output::unless_gone(output::stdout(shown::summary::render(&results, &style).as_bytes()))?;
        output::Target::File(folder.path().to_owned()).tell();
    }
    let good = results
        .series
        .iter()
        .all(|series| series.good().count() == series.runs.len());
    Ok(early.unwrap_or(u8::from(!good)))
}

/// Results without a run.
fn empty(args: &Args) -> Results {
    let words = |words: Vec<Vec<u8>>| {
        let mut words = words;
        if !args.no_redact {
            redact::redact(&mut words);
        }
        words.iter().map(|word| text::visible(word)).collect::<Vec<String>>()
    };
    let bytes = |word: &OsString| word.as_encoded_bytes().to_vec();
    let cold = args.cold.iter().filter_map(|line| shlex::split(line));
    Results {
        kind: KIND.to_owned(),
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name: text::visible(args.name.as_bytes()),
        command: words(args.command.iter().map(bytes).collect()),
        settings: Settings {
            runs: args.runs,
            warmup: args.warmup,
            cold: cold
                .map(|line| words(line.into_iter().map(String::into_bytes).collect()))
                .collect(),
            drop_caches: args.drop_caches,
            concurrency: args.concurrency,
            timeout_ns: args
                .timeout
                .map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            sample_hz: args.frequency,
        },
        ..Results::default()
    }
}

/// A bar on a terminal only.
fn bar(args: &Args, plan: &Plan) -> ProgressBar {
    use std::io::IsTerminal as _;
    if args.quiet || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(plan.steps(args));
    if let Ok(style) = ProgressStyle::with_template("{bar:20} {pos}/{len} {wide_msg} {eta}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

struct Bench<'a> {
    args: &'a Args,
    plan: &'a Plan,
    runner: Runner,
    results: Results,
    bar: ProgressBar,
}

impl Bench<'_> {
    /// All runs; tells whether they were interrupted.
    async fn all(&mut self) -> Result<bool, Problem> {
        for cold in self.plan.temperatures.clone() {
            let first = self.results.series.len();
            for variant in &self.plan.variants {
                self.results.series.push(Series {
                    name: variant.series(cold),
                    cold,
                    params: variant.params.clone(),
                    ..Series::default()
                });
            }
            let warmup = if cold { 0 } else { self.args.warmup };
            for (variant, _) in self
                .plan
                .variants
                .iter()
                .flat_map(|variant| (0..warmup).map(move |at| (variant, at)))
            {
                self.say(&format!("warming up {}", variant.title()));
                let (ended, _) = self.runner.unprofiled(variant).await?;
                if ended == Ended::Interrupted {
                    return Ok(true);
                }
                self.bar.inc(1);
            }
            for number in 1..=self.args.runs {
                for (index, variant) in self.plan.variants.iter().enumerate() {
                    if self.one(variant, first + index, number).await? {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    /// One run, with its unprofiled partner before or behind it by turns; tells whether it was interrupted.
    async fn one(&mut self, variant: &Variant, series: usize, number: u32) -> Result<bool, Problem> {
        let cold = self.results.series[series].cold;
        let partner_first = number.is_multiple_of(2);
        for profiled in [!partner_first, partner_first] {
            if !profiled && !self.args.unprofiled {
                continue;
            }
            let name = self.results.series[series].name.clone();
            let how = if profiled { "" } else { ", without the profiler" };
            self.say(&format!("{name}, run {number}{how}"));
            if cold && self.runner.cool(self.args, variant).await? == Ended::Interrupted {
                return Ok(true);
            }
            let interrupted = if profiled {
                self.profiled(variant, series, number).await?
            } else {
                let (ended, told) = self.runner.unprofiled(variant).await?;
                if ended != Ended::Interrupted {
                    let own = match told.exit_status {
                        0 => Outcome::Ok,
                        _ => Outcome::Failed,
                    };
                    self.results.series[series].unprofiled.push(Unprofiled {
                        number,
                        first: partner_first,
                        outcome: outcome(own, ended, told.wall_ns, self.args.timeout),
                        exit_status: told.exit_status,
                        wall_ns: told.wall_ns,
                    });
                }
                ended == Ended::Interrupted
            };
            if interrupted {
                return Ok(true);
            }
            self.bar.inc(1);
        }
        Ok(false)
    }

    async fn profiled(&mut self, variant: &Variant, series: usize, number: u32) -> Result<bool, Problem> {
        let name = folder::recording(series + 1, &self.results.series[series].name, number);
        let (ended, path) = self.runner.profiled(variant, &name).await?;
        if ended == Ended::Interrupted {
            _ = std::fs::remove_file(&path);
            return Ok(true);
        }
        let session = load(&path)?;
        let mut run: Run = digest::run(&session, self.args.concurrency > 1);
        run.number = number;
        run.recording = Some(name);
        run.outcome = outcome(run.outcome, ended, run.wall_ns, self.args.timeout);
        if self.results.began_real_ns == 0 {
            self.results.began_real_ns = run.began_real_ns;
            self.results.host = digest::host(&session);
            self.results.commit = digest::commit(&session);
            self.results.notes = digest::notes(&session);
        }
        if run.outcome == Outcome::Ok {
            self.runner.forget_output();
        } else if !self.args.quiet {
            let status = run
                .exit_status
                .map_or("unknown".to_owned(), |status| status.to_string());
            let log = self.runner.keep_output(&path);
            let outcome = shown::outcome(run.outcome);
            self.bar.suspend(|| {
                tell(&format!(
                    "phasegraph: run {number} {outcome} (exit status {status}); its output: {log}"
                ));
            });
        } else {
            self.runner.keep_output(&path);
        }
        self.bar
            .set_message(format!("run {number}: {}", units::time(run.wall_ns)));
        self.results.series[series].runs.push(run);
        Ok(false)
    }

    fn say(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }
}

/// How a run ended of which `own` is what it says itself. Its status does not tell that its time was up: a command that is told
/// to end may do so with any.
fn outcome(own: Outcome, ended: Ended, wall_ns: u64, timeout: Option<Duration>) -> Outcome {
    let late = timeout.is_some_and(|timeout| u128::from(wall_ns) >= timeout.as_nanos());
    if ended == Ended::Timeout || late {
        Outcome::Timeout
    } else {
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a run whose time was up is one, whatever status it ended with, and no other is.
    #[test]
    fn timed_out() {
        let second = Some(Duration::from_secs(1));
        for own in [Outcome::Ok, Outcome::Failed, Outcome::Broken] {
            assert_eq!(outcome(own, Ended::Timeout, 0, second), Outcome::Timeout);
            assert_eq!(outcome(own, Ended::Status, 1_000_000_000, second), Outcome::Timeout);
            assert_eq!(outcome(own, Ended::Status, 999_999_999, second), own);
            assert_eq!(outcome(own, Ended::Status, u64::MAX, None), own);
        }
    }
}

//! `demo`: profile a tiny container that the program makes itself.

use std::io;
use std::path::{Path, PathBuf};

use super::output::Target;
use super::{Problem, load, terminal};
use crate::attribute::resources::Wait;
use crate::demo::compare::{Compared, compare};
use crate::demo::{self, Demo};
use crate::load::forced::Forced;
use crate::model::Session;
use crate::report::flame::{self, Empty};
use crate::report::select::Selection;
use crate::report::terminal as summary;
use crate::report::units;
use crate::session;

/// File names in the demo's folder.
const RECORDING: &str = "demo.phg";
const ON_CPU: &str = "oncpu.svg";
const OFF_CPU: &str = "offcpu.svg";

/// Profile a tiny container that phasegraph makes itself
///
/// Needs no container runtime: it makes layers, an overlay mount, namespaces and, where there is one, a cgroup, runs a
/// busy part, a sleeping part, a disk part, a copy-up and a child process in it, and shows the phases it finds, beside
/// what the container itself stamped. The recording and two flamegraphs are left in a folder that it names.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph demo\n  \
                        sudo phasegraph demo -o /var/tmp/first-look")]
pub(crate) struct Args {
    /// Write into this folder; it must be new or empty [default: phasegraph-demo-<UTC time>]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let failed = || Problem::new("can't run the demo");
    let folder = args.output.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        PathBuf::from(format!("phasegraph-demo-{now}"))
    });
    let program = std::env::current_exe().map_err(|error| failed().because(error))?;
    let demo = demo::prepare(&folder, &program, demo::Sizes::default()).map_err(|error| failed().because(error))?;
    let recording = record(&demo, &folder)?;
    let stamps = demo.stamps().map_err(|error| failed().because(error))?;
    drop(demo);

    let session = load(&recording)?;
    let drawn = draw(&session, &folder)?;
    let style = terminal::style(&io::stdout(), None);
    let page =
        summary::render(&session, &summary::Options::default(), &style).map_err(|error| failed().because(error))?;
    let compared = compare(&session, &stamps).map_err(|error| failed().because(error))?;
    let mut text = format!("{page}\n{}\n", table(&compared));
    for path in [recording].iter().chain(&drawn).chain([&folder.join(demo::STAMPS)]) {
        text.push_str(&format!("written: {}\n", path.display()));
    }
    text.push_str(&format!(
        "next:    phasegraph show {}\n",
        folder.join(RECORDING).display()
    ));
    super::output::stdout(text.as_bytes())?;
    Ok(0)
}

/// Profiles the container; the recording's path.
fn record(demo: &Demo, folder: &Path) -> Result<PathBuf, Problem> {
    let outcome = session::run(&session::Options {
        output: folder.join(RECORDING),
        force: false,
        name: "demo".to_owned(),
        sample_hz: super::capture::DEFAULT_HZ,
        user: None,
        timeout: None,
        redact: true,
        debug_folders: Vec::new(),
        quiet: true,
        rules: None,
        // A few seconds, whose figures are held against the container's own.
        max_overhead_ppm: None,
        notes: Vec::new(),
        forced: Forced::default(),
        file_calls: false,
        command: demo.command(),
        host: None,
    })
    .map_err(|error| {
        let next = error.next_step();
        let problem = Problem::new("can't profile the demo").because(error);
        match next {
            Some(next) => problem.next(next),
            None => problem,
        }
    })?;
    // The container has said on standard error what it lacked.
    match outcome.status {
        0 => Ok(outcome.recording),
        status => {
            Err(Problem::new(format!("the demo's container ended with exit status {status}")).with_status(status))
        }
    }
}

/// Writes the flamegraphs; their paths. One that has nothing to show is left out.
fn draw(session: &Session, folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let mut drawn = Vec::new();
    for (name, kind) in [(ON_CPU, flame::Kind::Cpu), (OFF_CPU, flame::Kind::OffCpu)] {
        let path = folder.join(name);
        match flame::collect(session, &Selection::all(), kind, flame::Roots::default()) {
            Ok(flame) => {
                let svg = flame
                    .svg(false)
                    .map_err(|error| Problem::new(format!("can't draw {}", path.display())).because(error))?;
                Target::File(path.clone()).write(&svg, false)?;
                drawn.push(path);
            }
            Err(error @ (Empty::NoProcess { .. } | Empty::NoTime { .. } | Empty::NoSamples { .. })) => {
                eprintln!("no {name}: {error}");
            }
        }
    }
    Ok(drawn)
}

/// The container's own account beside the profile's, a line for each part.
fn table(compared: &[Compared]) -> String {
    let mut text = format!(
        "{:<10}{:>11}  {:>11}{:>11}  {:>11}{:>11}  {}\n{:<10}{:>11}  {:>11}{:>11}  {:>11}{:>11}\n",
        "part", "wall", "on CPU", "", "off CPU", "", "mostly", "", "", "stamped", "profiled", "stamped", "profiled"
    );
    for line in compared {
        let resources = &line.profiled;
        let waits = Wait::ALL.iter().map(|wait| (wait.name(), resources.waited(*wait)));
        let mostly = waits
            .chain([("cpu", resources.cpu), ("run queue", resources.runqueue)])
            .max_by_key(|(_, time)| *time)
            .map_or("", |(name, _)| name);
        text.push_str(&format!(
            "{:<10}{:>11}  {:>11}{:>11}  {:>11}{:>11}  {mostly}\n",
            line.part.name,
            units::time(line.part.wall_ns()),
            units::time(line.part.cpu_ns),
            units::time(resources.cpu),
            units::time(line.stamped_off_cpu()),
            units::time(line.profiled_off_cpu()),
        ));
    }
    text
}

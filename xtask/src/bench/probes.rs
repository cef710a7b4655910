//! The cost of the probe at sched_switch, beside an empty program at the same switches.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::bpf::{Empty, Program};
use super::child::{self, Stamp};
use super::host;
use super::profiler::Bench;

/// One storm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// The empty program, meanwhile.
    pub(crate) empty: Program,
    /// Ours at sched_switch; `None` where the empty one was alone.
    pub(crate) ours: Option<Program>,
    pub(crate) wall_ns: u64,
}

impl Storm {
    pub(crate) fn empty_ns(&self) -> f64 {
        a_run(&self.empty)
    }

    pub(crate) fn ours_ns(&self) -> Option<f64> {
        self.ours.as_ref().map(a_run)
    }

    /// What a run of ours takes more than one of the empty program, ns.
    pub(crate) fn difference_ns(&self) -> Option<f64> {
        Some(self.ours_ns()? - self.empty_ns())
    }
}

fn a_run(program: &Program) -> f64 {
    program.run_ns as f64 / program.runs.max(1) as f64
}

/// One round.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Round {
    /// The empty program alone.
    pub(crate) alone: Storm,
    /// A recording runs, of something else.
    pub(crate) untracked: Storm,
    /// The storm is recorded.
    pub(crate) tracked: Storm,
    pub(crate) load: String,
}

/// Runs the storm three times: without phasegraph, beside a recording of something else, and recorded.
pub(crate) fn round(bench: &Bench, storm: &Command) -> anyhow::Result<Round> {
    let load = host::load();
    let empty = Empty::attach()?;
    let id = empty.id()?;
    Ok(Round {
        alone: alone(bench, storm, id)?,
        untracked: untracked(bench, storm, id)?,
        tracked: tracked(bench, storm, id)?,
        load,
    })
}

fn alone(bench: &Bench, storm: &Command, empty: u32) -> anyhow::Result<Storm> {
    stamped(bench, storm, empty, None)
}

fn stamped(bench: &Bench, storm: &Command, empty: u32, profiler: Option<u32>) -> anyhow::Result<Storm> {
    let note = bench.folder.join("stamp.json");
    let profiler = profiler.map(|pid| pid.to_string());
    let mut command = bench.stamped(storm, &note, profiler.as_deref(), Some(empty));
    let status = child::ends_with_parent(&mut command).status()?;
    ensure!(status.success(), "the storm ended with {status}");
    result(&Stamp::read(&note)?, empty, profiler.is_some())
}

fn result(stamp: &Stamp, empty: u32, profiled: bool) -> anyhow::Result<Storm> {
    let programs = stamp.programs();
    let find = |wanted: &dyn Fn(&&Program) -> bool| programs.iter().find(wanted).cloned();
    let ours = find(&|program| program.name == "sched_switch");
    ensure!(
        ours.is_some() == profiled,
        "phasegraph's program sched_switch is not where it should be: {programs:?}"
    );
    Ok(Storm {
        empty: find(&|program| program.id == empty).context("the empty program is gone")?,
        ours,
        wall_ns: stamp.wall_ns(),
    })
}

/// A recording of a process that waits for its standard input to end.
struct Recording {
    phasegraph: Child,
}

impl Recording {
    fn start(bench: &Bench) -> anyhow::Result<Recording> {
        let file = bench.folder.join("probes.phg");
        let log = bench.folder.join("log.txt");
        let mut command = Command::new(&bench.phasegraph);
        command.args(["run", "--force", "--no-summary", "--output"]).arg(&file);
        command.args(["--", "sh", "-c", "echo ready; exec cat"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?);
        let mut phasegraph = child::ends_with_parent(&mut command)
            .spawn()
            .context("phasegraph can't be run")?;
        let mut line = String::new();
        if let Some(output) = phasegraph.stdout.as_mut() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let recording = Recording { phasegraph };
        ensure!(line == "ready\n", "phasegraph does not record; see {}", log.display());
        Ok(recording)
    }

    fn stop(mut self) -> io::Result<()> {
        self.end()
    }

    fn end(&mut self) -> io::Result<()> {
        drop(self.phasegraph.stdin.take());
        self.phasegraph.wait().map(drop)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        _ = self.end();
    }
}

fn untracked(bench: &Bench, storm: &Command, empty: u32) -> anyhow::Result<Storm> {
    let recording = Recording::start(bench)?;
    let storm = stamped(bench, storm, empty, Some(recording.phasegraph.id()))?;
    recording.stop()?;
    Ok(storm)
}

fn tracked(bench: &Bench, storm: &Command, empty: u32) -> anyhow::Result<Storm> {
    let note = bench.folder.join("stamp.json");
    let file = bench.folder.join("probes.phg");
    let mut command = Command::new(&bench.phasegraph);
    command
        .args(["run", "--force", "--quiet", "--output"])
        .arg(&file)
        .arg("--");
    bench.complete(&mut command, storm, &note, Some(empty));
    let status = child::ends_with_parent(&mut command)
        .status()
        .context("phasegraph can't be run")?;
    ensure!(status.success(), "phasegraph ended with {status}");
    result(&Stamp::read(&note)?, empty, true)
}

/// Whether the kernel's statistics are on, as every figure here needs.
pub(crate) fn counted(rounds: &[Round]) -> bool {
    rounds
        .iter()
        .all(|round| round.alone.empty.run_ns > 0 && round.alone.empty.runs > 0)
}

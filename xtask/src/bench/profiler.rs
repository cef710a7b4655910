//! The configurations side by side, and one measurement under each.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::child::{self, Stamp};
use super::{bpf, host};
use crate::exec;

/// What a person would write with bpftrace.
const SCRIPT: &str = include_str!("offcpu.bt");
/// Keys of each of its maps: the default, 4,096, is too few for a build's stacks.
const SCRIPT_KEYS: &str = "131072";
/// How long bpftrace may take to compile and attach it.
const SCRIPT_READY: Duration = Duration::from_secs(60);

/// A way to run a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Configuration {
    Unprofiled,
    Phasegraph,
    PerfRecord,
    PerfSched,
    Bpftrace,
}

impl Configuration {
    pub(crate) const ALL: [Configuration; 5] = [
        Configuration::Unprofiled,
        Configuration::Phasegraph,
        Configuration::PerfRecord,
        Configuration::PerfSched,
        Configuration::Bpftrace,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Configuration::Unprofiled => "unprofiled",
            Configuration::Phasegraph => "phasegraph",
            Configuration::PerfRecord => "perf record",
            Configuration::PerfSched => "perf sched",
            Configuration::Bpftrace => "bpftrace",
        }
    }

    /// Whether its program is here.
    pub(crate) fn available(self) -> bool {
        let version = match self {
            Configuration::Unprofiled | Configuration::Phasegraph => return true,
            Configuration::PerfRecord | Configuration::PerfSched => "perf",
            Configuration::Bpftrace => "bpftrace",
        };
        exec::first_line(Command::new(version).arg("--version")).is_some()
    }
}

/// One run of a workload under one configuration.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) configuration: Configuration,
    /// The workload's own account.
    pub(crate) stamp: Stamp,
    /// From the profiler's start to the workload's, ns.
    pub(crate) ready_ns: u64,
    /// From the workload's end to the profiler's, ns, as seen every 5 ms.
    pub(crate) done_ns: u64,
    /// CPU time of the profiler's process, all in all, ns.
    pub(crate) process_ns: u64,
    pub(crate) peak_bytes: u64,
    /// What it has written: recording, data file or printed stacks.
    pub(crate) written_bytes: u64,
    /// Events or stacks that it says it has lost.
    pub(crate) lost: u64,
    /// Records in its file, where it tells.
    pub(crate) samples: Option<u64>,
    /// phasegraph's own account.
    pub(crate) own: Option<Own>,
    /// BPF programs on the host that are not this configuration's.
    pub(crate) foreign_programs: usize,
    /// Load of the host when it began.
    pub(crate) load: String,
}

/// The parts of `phasegraph show --json` that are used here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shown {
    #[serde(rename = "self")]
    own: Own,
    coverage: Coverage,
    losses: Vec<Loss>,
}

/// The profiler's own account of its cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) bpf_ns: Option<u64>,
    pub(crate) bpf_runs: u64,
    pub(crate) bpf_missed: u64,
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) startup_ns: u64,
    pub(crate) symbolize_ns: u64,
    #[serde(default)]
    pub(crate) coverage: Coverage,
    #[serde(default)]
    pub(crate) losses: Vec<(String, u64)>,
}

/// How much of the recording has stacks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Coverage {
    pub(crate) samples: u64,
    pub(crate) samples_with_stack: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) blocked_with_kernel_stack_ns: u64,
    pub(crate) blocked_with_user_stack_ns: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Loss {
    name: String,
    count: u64,
    is_loss: bool,
}

/// Where things are.
pub(crate) struct Bench {
    pub(crate) folder: PathBuf,
    pub(crate) phasegraph: PathBuf,
    pub(crate) xtask: PathBuf,
}

impl Bench {
    /// Runs `workload` under `configuration`.
    pub(crate) fn measure(&self, configuration: Configuration, workload: &Command) -> anyhow::Result<Measured> {
        let load = host::load();
        let foreign_programs = bpf::loaded();
        let note = self.folder.join("stamp.json");
        let file = self.folder.join(match configuration {
            Configuration::Unprofiled => "unprofiled.txt",
            Configuration::Phasegraph => "phasegraph.phg",
            Configuration::PerfRecord => "perf-record.data",
            Configuration::PerfSched => "perf-sched.data",
            Configuration::Bpftrace => "bpftrace.txt",
        });
        for path in [&note, &file] {
            remove(path)?;
        }
        let log = self.folder.join("log.txt");
        let started = host::now_ns();
        let watched = match configuration {
            Configuration::Unprofiled => {
                let mut command = self.stamped(workload, &note, None, None);
                self.watch(self.spawn(&mut command, &log, &log)?, &note)?
            }
            Configuration::Phasegraph => {
                let mut command = Command::new(&self.phasegraph);
                command.arg("run").arg("--output").arg(&file).arg("--");
                self.around(&mut command, workload, &note, &log)?
            }
            Configuration::PerfRecord => {
                let mut command = Command::new("perf");
                command
                    .args(["record", "-a", "-g", "-F", "99", "-o"])
                    .arg(&file)
                    .arg("--");
                self.around(&mut command, workload, &note, &log)?
            }
            Configuration::PerfSched => {
                let mut command = Command::new("perf");
                command.args(["sched", "record", "-o"]).arg(&file).arg("--");
                self.around(&mut command, workload, &note, &log)?
            }
            Configuration::Bpftrace => self.bpftrace(workload, &note, &file, &log)?,
        };
        ensure!(
            watched.status.success(),
            "{} ended with {}; see {}",
            configuration.name(),
            watched.status,
            log.display()
        );
        let stamp = Stamp::read(&note)?;
        let profiled = configuration != Configuration::Unprofiled;
        let mut measured = Measured {
            configuration,
            ready_ns: if profiled {
                stamp.before.at_ns.saturating_sub(started)
            } else {
                0
            },
            done_ns: if profiled {
                watched.ended_ns.saturating_sub(stamp.after.at_ns)
            } else {
                0
            },
            process_ns: if profiled { watched.cpu_ns } else { 0 },
            peak_bytes: if profiled {
                watched.peak_bytes.max(stamp.after.profiler_peak_bytes)
            } else {
                0
            },
            written_bytes: if profiled {
                file.metadata().map_or(0, |file| file.len())
            } else {
                0
            },
            lost: 0,
            samples: None,
            own: None,
            foreign_programs,
            load,
            stamp,
        };
        self.account(&mut measured, &file, &log)?;
        Ok(measured)
    }

    /// Adds what the profiler itself tells.
    fn account(&self, measured: &mut Measured, file: &Path, log: &Path) -> anyhow::Result<()> {
        match measured.configuration {
            Configuration::Unprofiled => {}
            Configuration::Phasegraph => {
                let json = exec::output(Command::new(&self.phasegraph).args(["show", "--json"]).arg(file))?;
                let shown: Shown = serde_json::from_str(&json).context("`phasegraph show --json`")?;
                let losses: Vec<_> = shown
                    .losses
                    .into_iter()
                    .filter(|loss| loss.is_loss && loss.count > 0)
                    .map(|loss| (loss.name, loss.count))
                    .collect();
                measured.lost = losses.iter().map(|(_, count)| count).sum();
                measured.samples = Some(shown.coverage.samples);
                measured.own = Some(Own {
                    coverage: shown.coverage,
                    losses,
                    ..shown.own
                });
            }
            Configuration::PerfRecord | Configuration::PerfSched => {
                let text = exec::output(Command::new("perf").args(["report", "--stats", "-i"]).arg(file))?;
                let (samples, lost) = perf_statistics(&text);
                measured.samples = samples;
                measured.lost = lost;
            }
            Configuration::Bpftrace => {
                let text = fs::read(log).with_context(|| log.display().to_string())?;
                measured.lost = bpftrace_losses(&String::from_utf8_lossy(&text));
            }
        }
        Ok(())
    }

    /// `workload` below the stopwatch.
    pub(crate) fn stamped(
        &self,
        workload: &Command,
        note: &Path,
        profiler: Option<&str>,
        program: Option<u32>,
    ) -> Command {
        let mut command = Command::new(&self.xtask);
        command.args(self.stamp_words(workload, note, profiler, program));
        environment(&mut command, workload);
        command
    }

    fn stamp_words(
        &self,
        workload: &Command,
        note: &Path,
        profiler: Option<&str>,
        program: Option<u32>,
    ) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["bench-child", "stamp", "--out"].map(OsString::from).into();
        words.push(note.into());
        if let Some(profiler) = profiler {
            words.extend(["--profiler".into(), profiler.into()]);
        }
        if let Some(program) = program {
            words.extend(["--program".into(), program.to_string().into()]);
        }
        words.extend(["--".into(), workload.get_program().into()]);
        words.extend(workload.get_args().map(OsString::from));
        words
    }

    /// A profiler that starts the workload itself: `profiler … -- stopwatch workload`.
    fn around(&self, profiler: &mut Command, workload: &Command, note: &Path, log: &Path) -> anyhow::Result<Watched> {
        self.complete(profiler, workload, note, None);
        self.watch(self.spawn(profiler, log, log)?, note)
    }

    /// Adds the stopwatch and the workload to a profiler's command line.
    pub(crate) fn complete(&self, profiler: &mut Command, workload: &Command, note: &Path, program: Option<u32>) {
        profiler
            .arg(&self.xtask)
            .args(self.stamp_words(workload, note, Some("parent"), program));
        environment(profiler, workload);
    }

    fn bpftrace(&self, workload: &Command, note: &Path, file: &Path, log: &Path) -> anyhow::Result<Watched> {
        let script = self.folder.join("offcpu.bt");
        fs::write(&script, SCRIPT).with_context(|| script.display().to_string())?;
        let mut command = Command::new("bpftrace");
        command.arg(&script).env("BPFTRACE_MAP_KEYS_MAX", SCRIPT_KEYS);
        let mut bpftrace = self.spawn(&mut command, file, log)?;
        let result = ready(&mut bpftrace, file, log).and_then(|()| {
            let workload_log = self.folder.join("workload.txt");
            let mut command = self.stamped(workload, note, Some(&bpftrace.id().to_string()), None);
            let mut workload = self.spawn(&mut command, &workload_log, &workload_log)?;
            let status = workload.wait()?;
            ensure!(
                status.success(),
                "the workload ended with {status}; see {}",
                workload_log.display()
            );
            Ok(())
        });
        // SAFETY: no memory is involved; the child has not been waited for, so the id is its own.
        unsafe { libc::kill(bpftrace.id() as libc::pid_t, libc::SIGINT) };
        let watched = self.watch(bpftrace, note);
        result?;
        watched
    }

    fn spawn(&self, command: &mut Command, output: &Path, error: &Path) -> anyhow::Result<Child> {
        let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        let output_file = create(output)?;
        let error_file = if output == error {
            output_file.try_clone()?
        } else {
            create(error)?
        };
        command.stdin(Stdio::null()).stdout(output_file).stderr(error_file);
        child::ends_with_parent(command)
            .spawn()
            .with_context(|| format!("can't run {}", command.get_program().display()))
    }

    /// Waits for a profiler's end, and looks at it until then: seldom while the workload runs.
    fn watch(&self, mut child: Child, note: &Path) -> anyhow::Result<Watched> {
        let pid = child.id();
        let mut peak_bytes = 0;
        loop {
            let over = note.exists();
            if over && let Some(bytes) = host::peak_bytes(pid) {
                peak_bytes = bytes;
            }
            if has_ended(pid)? {
                break;
            }
            std::thread::sleep(Duration::from_millis(if over { 5 } else { 20 }));
        }
        let ended_ns = host::now_ns();
        let cpu_ns = host::cpu_ns(pid)?;
        let status = child.wait()?;
        Ok(Watched {
            ended_ns,
            cpu_ns,
            peak_bytes,
            status,
        })
    }
}

struct Watched {
    ended_ns: u64,
    cpu_ns: u64,
    peak_bytes: u64,
    status: std::process::ExitStatus,
}

/// Whether a child has ended; it stays a zombie, whose CPU time can be read.
fn has_ended(pid: u32) -> anyhow::Result<bool> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
    // SAFETY: `info` has room for what is written.
    let result = unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) };
    ensure!(result == 0, "waitid: {}", io::Error::last_os_error());
    // SAFETY: zeroed, or written by the call; the field is there for a child's state.
    Ok(unsafe { info.assume_init().si_pid() } != 0)
}

/// Waits until the script says that it is attached.
fn ready(bpftrace: &mut Child, file: &Path, log: &Path) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if text.lines().any(|line| line == "ready") {
            return Ok(());
        }
        if has_ended(bpftrace.id())? || begun.elapsed() > SCRIPT_READY {
            bail!("bpftrace does not get ready; see {}", log.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn environment(command: &mut Command, workload: &Command) {
    for (name, value) in workload.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// Samples and lost events of `perf report --stats`.
fn perf_statistics(text: &str) -> (Option<u64>, u64) {
    // Below the totals the same names come again for each event.
    let totals = text
        .lines()
        .take_while(|line| !line.ends_with(" stats:") || line.starts_with("Aggregated"));
    let mut samples = None;
    let mut lost = 0;
    for line in totals {
        let Some((name, rest)) = line.trim().split_once(" events:") else {
            continue;
        };
        let count = rest
            .split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        match name {
            "SAMPLE" => samples = count,
            "LOST" | "LOST_SAMPLES" => lost += count.unwrap_or(0),
            _ => {}
        }
    }
    (samples, lost)
}

/// Events and stacks that bpftrace says it has lost.
fn bpftrace_losses(text: &str) -> u64 {
    text.lines()
        .map(|line| {
            if line.contains("failed to look up stack id") {
                return 1;
            }
            let lost = line.strip_prefix("Lost ").and_then(|rest| rest.split(' ').next());
            lost.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that perf's samples and losses are read from the totals, once.
    #[test]
    fn perf() {
        let text = "\nAggregated stats:\n           TOTAL events:        552\n            MMAP events:          1  \
                    ( 0.2%)\n            LOST events:          2  ( 0.4%)\n          SAMPLE events:        198  \
                    (35.9%)\n    LOST_SAMPLES events:          3  ( 0.5%)\n  FINISHED_ROUND events:          2  ( \
                    0.4%)\ncpu-clock:ppp stats:\n          SAMPLE events:        198\n    LOST_SAMPLES events:         \
                    3\n";
        assert_eq!(perf_statistics(text), (Some(198), 5));
        assert_eq!(perf_statistics("Error:\nThe x.data data has no samples!\n"), (None, 0));
    }

    /// Make sure that bpftrace's lost events and failed stacks are added up, and nothing else.
    #[test]
    fn bpftrace() {
        let text = "ERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace.\nERROR: failed to look up stack \
                    id -17 (pid -1): -2\nLost 12 events\nERROR: failed to look up stack id -17 (pid -1): -2\nLost \
                    interest\n";
        assert_eq!(bpftrace_losses(text), 14);
    }

    /// Make sure that what is needed of `show --json` is found in it, whatever else it holds.
    #[test]
    fn shown() {
        let json = r#"{"schema":1,"name":"","coverage":{"samples":10,"samples_with_stack":9,"samples_with_user_stack":8,
            "samples_with_kernel_stack":2,"blocked_ns":1000,"blocked_with_kernel_stack_ns":960,
            "blocked_with_user_stack_ns":900},"losses":[{"name":"ring_cycle","count":3,"text":"…","is_loss":true}],
            "self":{"bpf_ns":123,"bpf_runs":4,"bpf_missed":0,"user_ns":5,"system_ns":6,"host_cpu_ns":7,
            "peak_memory_bytes":8,"recording_bytes":9,"startup_ns":10,"symbolize_ns":11}}"#;
        let shown: Shown = serde_json::from_str(json).unwrap();
        assert_eq!(shown.own.bpf_ns, Some(123));
        assert_eq!(shown.coverage.blocked_with_kernel_stack_ns, 960);
        assert_eq!(shown.losses[0].count, 3);
    }
}

//! One run of a workload under a configuration.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::account::{self, Account};
use super::child::{self, Stamp};
use super::configuration::Configuration;
use super::{bpf, host};

/// What a person would write with bpftrace.
const SCRIPT: &str = include_str!("offcpu.bt");
/// Keys of each of its maps: the default, 4,096, is too few for a build's stacks.
const SCRIPT_KEYS: &str = "131072";
/// How long bpftrace may take to compile and attach it.
const SCRIPT_READY: Duration = Duration::from_secs(60);

/// One run of a workload under one configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// What it says itself.
    pub(crate) account: Account,
    /// BPF programs on the host that are not this configuration's.
    pub(crate) foreign_programs: usize,
    /// Load of the host when it began.
    pub(crate) load: String,
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
            Configuration::FramePointers => "frame-pointers.phg",
            Configuration::FileCalls => "file-calls.phg",
            Configuration::PerfRecord => "perf-record.data",
            Configuration::PerfDwarf => "perf-dwarf.data",
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
            Configuration::FramePointers => {
                let mut command = Command::new(&self.phasegraph);
                command.args(["run", "--rung", "cpu_sample=cpu-clock", "--rung", "wait_unwind=none"]);
                command.arg("--output").arg(&file).arg("--");
                self.around(&mut command, workload, &note, &log)?
            }
            Configuration::FileCalls => {
                let mut command = Command::new(&self.phasegraph);
                command.args(["run", "--disk", "full", "--output"]).arg(&file).arg("--");
                self.around(&mut command, workload, &note, &log)?
            }
            Configuration::PerfDwarf => {
                let mut command = Command::new("perf");
                command
                    .args(["record", "-a", "--call-graph", "dwarf,16384", "-F", "99", "-o"])
                    .arg(&file)
                    .arg("--");
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
        Ok(Measured {
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
            account: account::of(configuration, &self.phasegraph, &file, &log)?,
            foreign_programs,
            load,
            stamp,
        })
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

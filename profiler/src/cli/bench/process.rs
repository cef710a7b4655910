//! One run: a process of this program that profiles the command, or only takes its time; ended when its time is up.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::plan::Variant;
use super::{Args, Folder};
use crate::cli::Problem;
use crate::cli::timed::Told;
use crate::report::text;

/// How long a command that was told to end may take to do so, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How much longer than its command a profiler may take, to attach, to name frames and to detach, before it counts as hung.
const BESIDES: Duration = Duration::from_secs(120);

/// What is shown of a failed command's output, bytes from its end.
const SHOWN: usize = 1_000;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Status,
    /// Its time was up.
    Timeout,
    /// Somebody does not want to wait any longer.
    Interrupted,
}

/// Starts runs.
pub(super) struct Runner {
    program: PathBuf,
    folder: PathBuf,
    /// Options of each `run`.
    options: Vec<OsString>,
    copies: u32,
    timeout: Option<Duration>,
    interrupt: Signal,
    terminate: Signal,
}

impl Runner {
    /// To be called in an event loop.
    pub(super) fn new(args: &Args, folder: &Folder) -> Result<Runner, Problem> {
        let failed = |error: io::Error| Problem::new("can't start runs").because(error);
        let mut options: Vec<OsString> = vec!["--quiet".into(), "-F".into(), args.frequency.to_string().into()];
        let cap = match args.max_overhead.0 {
            Some(ppm) => format!("{}", f64::from(ppm) / 1e4),
            None => "off".to_owned(),
        };
        options.extend(["--max-overhead".into(), cap.into()]);
        if args.no_redact {
            options.push("--no-redact".into());
        }
        if let Some(config) = &args.config {
            options.extend(["--config".into(), config.clone().into_os_string()]);
        }
        Ok(Runner {
            program: std::env::current_exe().map_err(failed)?,
            folder: folder.path().to_owned(),
            options,
            copies: args.concurrency,
            timeout: args.timeout,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
        })
    }

    /// Profiles the command into a file of the folder.
    pub(super) async fn profiled(&mut self, variant: &Variant, name: &str) -> Result<(Ended, PathBuf), Problem> {
        let path = self.folder.join(name);
        let mut words = vec![
            self.program.clone().into_os_string(),
            "run".into(),
            "-o".into(),
            path.clone().into(),
        ];
        words.extend(self.options.iter().cloned());
        // The profiler counts from the moment in which it lets the command go; attaching comes before.
        if let Some(timeout) = self.timeout {
            words.extend(["--timeout".into(), format!("{}ms", timeout.as_millis().max(1)).into()]);
        }
        words.push("--".into());
        if self.copies > 1 {
            words.extend(self.timed(None));
        }
        words.extend(variant.command.iter().cloned());
        let (ended, _) = self.run(&words, self.timeout.map(|timeout| timeout + BESIDES)).await?;
        if ended != Ended::Interrupted && !path.exists() {
            return Err(self.failed("a run left no recording"));
        }
        Ok((ended, path))
    }

    /// Runs the command without the profiler; what that took.
    pub(super) async fn unprofiled(&mut self, variant: &Variant) -> Result<(Ended, Told), Problem> {
        let report = self.folder.join(".timed");
        let mut words = self.timed(Some(&report));
        words.extend(variant.command.iter().cloned());
        let start = std::time::Instant::now();
        let (ended, _) = self.run(&words, self.timeout).await?;
        let took = start.elapsed();
        let told = std::fs::read(&report)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        _ = std::fs::remove_file(&report);
        let told = match (told, ended) {
            (Some(told), _) => told,
            (None, Ended::Status) => return Err(self.failed("the command could not be run without the profiler")),
            // It was killed before it could tell.
            (None, Ended::Timeout | Ended::Interrupted) => Told {
                wall_ns: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
                exit_status: 128 + libc::SIGKILL,
            },
        };
        self.forget_output();
        Ok((ended, told))
    }

    /// Does what makes the next run a cold one.
    pub(super) async fn cool(&mut self, args: &Args, variant: &Variant) -> Result<Ended, Problem> {
        for words in &variant.cold {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            match self.run(&words, None).await? {
                (Ended::Status, true) => {}
                (Ended::Status, false) => {
                    let line = text::argv(&words.iter().map(|word| word.as_encoded_bytes()).collect::<Vec<_>>());
                    return Err(self
                        .failed(&format!("--cold {line} failed: the next run would not be cold"))
                        .next("if it may fail: sh -c '… || true'"));
                }
                (ended, _) => return Ok(ended),
            }
        }
        if args.drop_caches {
            rustix::fs::sync();
            const FILE: &str = "/proc/sys/vm/drop_caches";
            std::fs::write(FILE, "3").map_err(|error| Problem::new(format!("can't write {FILE}")).because(error))?;
        }
        self.forget_output();
        Ok(Ended::Status)
    }

    /// `phasegraph timed … --`.
    fn timed(&self, report: Option<&Path>) -> Vec<OsString> {
        let mut words = vec![self.program.clone().into_os_string(), "timed".into()];
        words.extend(["--copies".into(), self.copies.to_string().into()]);
        if let Some(report) = report {
            words.extend(["--report".into(), report.as_os_str().to_owned()]);
        }
        words.push("--".into());
        words
    }

    fn output(&self) -> PathBuf {
        self.folder.join(".output")
    }

    /// The last command's output is not wanted.
    pub(super) fn forget_output(&self) {
        _ = std::fs::remove_file(self.output());
    }

    /// Keeps the last command's output beside its recording; its path.
    pub(super) fn keep_output(&self, recording: &Path) -> String {
        let path = recording.with_extension("log");
        _ = std::fs::rename(self.output(), &path);
        text::visible(path.as_os_str().as_encoded_bytes())
    }

    /// With the end of the last command's output.
    fn failed(&self, what: &str) -> Problem {
        let output = std::fs::read(self.output()).unwrap_or_default();
        self.forget_output();
        let end = &output[output.len().saturating_sub(SHOWN)..];
        let said = text::visible(end.trim_ascii()).replace("\\x0a", "; ");
        let problem = Problem::new(what);
        if said.is_empty() {
            problem
        } else {
            problem.because(said)
        }
    }

    /// Runs a command in a process group of its own, until it ends or `limit` is over; whether it ended with status 0.
    async fn run(&mut self, words: &[impl AsRef<OsStr>], limit: Option<Duration>) -> Result<(Ended, bool), Problem> {
        let program = words.first().map(AsRef::as_ref).unwrap_or_default();
        let failed = |error: io::Error| Problem::new(format!("can't run {}", program.display())).because(error);
        let output = self.output();
        let mut options = File::options();
        let log = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&output)
            .map_err(failed)?;
        let mut child = tokio::process::Command::new(program)
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let group = child.id().map(|id| id.cast_signed());
        let time_is_up = async {
            match limit {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let start = std::time::Instant::now();
        let (ended, success) = tokio::select! {
            status = child.wait() => (Ended::Status, status.map_err(failed)?.success()),
            () = time_is_up => (Ended::Timeout, false),
            _ = self.interrupt.recv() => (Ended::Interrupted, false),
            _ = self.terminate.recv() => (Ended::Interrupted, false),
        };
        let Some(group) = group else {
            return Ok((ended, success));
        };
        if ended != Ended::Status {
            // The profiler hands the signal on to the command and closes the recording.
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(group, libc::SIGTERM) };
            _ = tokio::time::timeout(GRACE, child.wait()).await;
        }
        if ended != Ended::Status || self.timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
            // What is left of it: a command that ignores the signal, children and copies that were not told.
            // SAFETY: the group of our own child.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            _ = child.wait().await;
        }
        Ok((ended, success))
    }
}

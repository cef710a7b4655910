//! One run: a process of this program that profiles the command, or only takes its time; ended when its time is up.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::plan::Variant;
use super::{Args, Folder};
use crate::cli::Problem;
use crate::cli::capture::{Disk, Note};
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
        if args.disk == Disk::Full {
            options.extend(["--disk".into(), "full".into()]);
        }
        if args.no_redact {
            options.push("--no-redact".into());
        }
        for Note(name, value) in &args.note {
            options.extend(["--note".into(), format!("{name}={value}").into()]);
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
        let start = Instant::now();
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

    /// A new file for a command's output: whatever has its name is no file of ours.
    fn new_output(&self) -> io::Result<File> {
        self.forget_output();
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.output())
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
        let end = tail(&self.output(), SHOWN as u64).unwrap_or_default();
        self.forget_output();
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
        let log = self.new_output().map_err(failed)?;
        let mut child = Command::new(program)
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let end = match end_of(&child) {
            Ok(end) => end,
            Err(error) => {
                _ = child.kill();
                _ = child.wait();
                return Err(failed(error));
            }
        };
        let time_is_up = async {
            match limit {
                Some(time) => tokio::time::sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let start = Instant::now();
        let ended = tokio::select! {
            _ = end.readable() => Ended::Status,
            () = time_is_up => Ended::Timeout,
            _ = self.interrupt.recv() => Ended::Interrupted,
            _ = self.terminate.recv() => Ended::Interrupted,
        };
        // Until it is waited for, its number is nobody else's, nor its group's.
        let leader = child.id().cast_signed();
        if ended != Ended::Status {
            // The profiler hands the signal on to the command and closes the recording.
            // SAFETY: our own child, not yet waited for.
            unsafe { libc::kill(leader, libc::SIGTERM) };
            _ = tokio::time::timeout(GRACE, end.readable()).await;
        }
        if ended != Ended::Status || self.timeout.is_some_and(|timeout| start.elapsed() >= timeout) {
            // What is left of it: a command that ignores the signal, children and copies that were not told.
            // SAFETY: the group of our own child, which is not yet waited for.
            unsafe { libc::kill(-leader, libc::SIGKILL) };
            _ = end.readable().await;
        }
        let success = child.wait().map_err(failed)?.success();
        Ok((ended, ended == Ended::Status && success))
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.forget_output();
    }
}

/// Readable from a process's end on; the process stays to be waited for.
fn end_of(child: &Child) -> io::Result<AsyncFd<OwnedFd>> {
    let end = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    // SAFETY: it owns the descriptor, which stays open and the same as long as it does.
    Ok(unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }?)
}

/// The last bytes of a file, at most so many.
fn tail(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut end = Vec::new();
    file.take(most).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runner into a folder, and what it gives in an event loop.
    fn within<T>(folder: &Path, timeout: Option<Duration>, work: impl AsyncFnOnce(&mut Runner) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(async {
            let mut runner = Runner {
                program: PathBuf::new(),
                folder: folder.to_owned(),
                options: Vec::new(),
                copies: 1,
                timeout,
                interrupt: signal(SignalKind::interrupt()).unwrap(),
                terminate: signal(SignalKind::terminate()).unwrap(),
            };
            work(&mut runner).await
        })
    }

    /// Make sure that output goes to a new file, not along a link, that only its end is told, and that nothing of it stays.
    #[test]
    fn output() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        std::fs::write(&elsewhere, "keep").unwrap();
        let log = folder.path().join(".output");
        std::os::unix::fs::symlink(&elsewhere, &log).unwrap();
        let script = "head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 3";
        let said = within(folder.path(), None, async |runner| {
            let ended = runner.run(&["sh", "-c", script], None).await.unwrap();
            assert_eq!(ended, (Ended::Status, false));
            assert!(log.symlink_metadata().unwrap().is_file());
            assert!(log.metadata().unwrap().len() > 3_000_000);
            let said = runner.failed("it failed").chain();
            assert_eq!(runner.run(&["true"], None).await.unwrap(), (Ended::Status, true));
            assert!(log.exists());
            said
        });
        assert!(
            said.starts_with("it failed: xxx") && said.ends_with("x; the end"),
            "{said}"
        );
        assert!(said.len() < SHOWN + 100, "{}", said.len());
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "keep");
        assert!(log.symlink_metadata().is_err(), "it is gone with the runner");
    }

    /// Make sure that what a command leaves behind is ended with it when its time is up, and left alone when it is not.
    #[test]
    fn left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let alive = || -> (u32, bool) {
            let pid: u32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // It may not have become `sleep` yet.
            (pid, !stat.is_empty() && !stat.contains(") Z "))
        };
        let script = |end: &str| format!("sleep 3613 & echo $! > '{}'; {end}", file.display());
        let limit = Duration::from_millis(500);
        within(folder.path(), Some(limit), async |runner| {
            let ended = runner.run(&["sh", "-c", &script("wait")], Some(limit)).await.unwrap();
            assert_eq!(ended, (Ended::Timeout, false));
            for _ in 0..200 {
                if !alive().1 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert!(!alive().1);
            let hour = Duration::from_secs(3_600);
            runner.timeout = Some(hour);
            let ended = runner.run(&["sh", "-c", &script("true")], Some(hour)).await.unwrap();
            assert_eq!(ended, (Ended::Status, true));
            let (pid, lives) = alive();
            // SAFETY: a process that this test had started.
            unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
            assert!(lives);
        });
    }
}

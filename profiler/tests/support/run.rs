//! The program around a command: run it, wait for it, read what it recorded.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "machine.rs"]
pub(crate) mod machine;

use machine::slowness;

pub(crate) const PHASEGRAPH: &str = env!("CARGO_BIN_EXE_phasegraph");

/// After this, times [`slowness`], a program counts as hanging. A test's result never depends on it.
const HANGS: Duration = Duration::from_secs(100);

/// `CAP_SYS_ADMIN` of `include/uapi/linux/capability.h`.
const CAP_SYS_ADMIN: i32 = 21;

/// Ends the test, saying why in words, where nothing can be profiled.
macro_rules! needs_root {
    () => {
        // SAFETY: no arguments, no failure.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: profiling needs root, and this is not root");
            return;
        }
    };
}
pub(crate) use needs_root;

/// Scratch folder with the program at hand.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is in it, by name, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The program, in this folder.
    pub(crate) fn phasegraph<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Command {
        let mut command = Command::new(PHASEGRAPH);
        command
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .env_remove("NO_COLOR")
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// `phasegraph run -o FILE --no-summary -- WORDS…`
    pub(crate) fn profile<I: IntoIterator<Item: AsRef<OsStr>>>(&self, file: &str, words: I) -> Command {
        let mut command = self.phasegraph(["run", "--no-summary", "-o", file, "--"]);
        command.args(words);
        command
    }

    /// Profiles a command that ends well and gives its report.
    pub(crate) fn report_of<I: IntoIterator<Item: AsRef<OsStr>>>(&self, file: &str, words: I) -> Report {
        let output = self.profile(file, words).output().unwrap();
        assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
        self.report(file)
    }

    /// What `show --json` says.
    pub(crate) fn report(&self, file: &str) -> Report {
        let output = self.phasegraph(["show", "--json", file]).output().unwrap();
        assert!(output.status.success(), "{}: {}", output.status, stderr(&output));
        Report(serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// A shell script in a private mount namespace; `"$@"` is `words`. `None`, with the reason printed, where there are
/// no such namespaces.
pub(crate) fn in_own_mounts(folder: &Folder, script: &str, words: &[&str]) -> Option<Output> {
    let command = || {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-e", "-u", "-c"])
            .current_dir(folder.path(""))
            .stdin(Stdio::null());
        command
    };
    match command().arg("true").output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            eprintln!("skipped: no private mount namespace to be had: {}", stderr(&output));
            return None;
        }
        Err(error) => {
            eprintln!("skipped: unshare(1) can't be run: {error}");
            return None;
        }
    }
    Some(command().arg(script).arg("sh").args(words).output().unwrap())
}

/// The command will run as root without `CAP_SYS_ADMIN`.
pub(crate) fn without_sys_admin(command: &mut Command) -> &mut Command {
    let drop_capability = || {
        // SAFETY: a plain system call.
        match unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: async-signal-safe: one system call.
    unsafe { command.pre_exec(drop_capability) }
}

/// A program that is ended, whatever the test does.
pub(crate) struct Started(Option<Child>);

impl Started {
    pub(crate) fn new(command: &mut Command) -> Started {
        Started(Some(command.spawn().unwrap()))
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Waits for its end.
    pub(crate) fn status(&mut self) -> ExitStatus {
        let child = self.child();
        let mut status = None;
        until("the program's end", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Waits for its end, and takes what it wrote into its pipes.
    pub(crate) fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

/// Sends a signal to a process that this test started.
pub(crate) fn kill(pid: u32, signal: i32) {
    // SAFETY: a plain system call.
    let done = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(done, 0, "kill {pid}: {}", io::Error::last_os_error());
}

/// Waits until `done` holds; the limit is for a broken program only.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < HANGS * slowness(), "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Exit status in the shell's form.
pub(crate) fn shell_status(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `CLOCK_MONOTONIC`, ns.
pub(crate) fn monotonic_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

pub(crate) fn clock(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec.
    assert_eq!(unsafe { libc::clock_gettime(clock, &mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// What `show --json` says.
pub(crate) struct Report(pub(crate) Value);

impl Report {
    pub(crate) fn processes(&self) -> impl Iterator<Item = Process<'_>> {
        self.0["processes"].as_array().unwrap().iter().map(Process)
    }

    pub(crate) fn threads(&self) -> impl Iterator<Item = Thread<'_>> {
        self.processes()
            .flat_map(|process| process.threads().collect::<Vec<_>>())
    }

    /// The processes of that name.
    pub(crate) fn named<'a>(&'a self, comm: &'a str) -> impl Iterator<Item = Process<'a>> {
        self.processes()
            .filter(move |process| process.0["comm"]["text"] == comm)
    }

    /// The command, if it did not become another program: it was held back when the recording began, so adopted.
    pub(crate) fn command(&self) -> Process<'_> {
        let argv = &self.0["command"]["argv"];
        let found: Vec<Process> = self
            .processes()
            .filter(|process| process.0["adopted"] == true && process.0["argv"] == *argv)
            .collect();
        assert_eq!(found.len(), 1, "processes that are {argv}");
        found[0]
    }

    /// Losses: name and count.
    pub(crate) fn losses(&self) -> Vec<(&str, u64)> {
        let losses = self.0["losses"].as_array().unwrap().iter();
        losses
            .filter(|loss| loss["is_loss"] == true)
            .map(|loss| (loss["name"].as_str().unwrap(), loss["count"].as_u64().unwrap()))
            .collect()
    }

    /// Whether it was closed in order.
    pub(crate) fn closed(&self) -> bool {
        self.0["span"]["closed"] == true
    }

    pub(crate) fn damage(&self) -> Vec<&str> {
        self.0["damage"]
            .as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap())
            .collect()
    }
}

/// One of `processes[]`.
#[derive(Clone, Copy)]
pub(crate) struct Process<'a>(pub(crate) &'a Value);

impl<'a> Process<'a> {
    pub(crate) fn threads(self) -> impl Iterator<Item = Thread<'a>> {
        self.0["threads"].as_array().unwrap().iter().map(move |value| Thread {
            value,
            // Those that were there are all known from the beginning of the recording on.
            adopted: self.0["adopted"] == true && value["from_ns"] == self.0["from_ns"],
        })
    }

    pub(crate) fn pid(self) -> u64 {
        self.0["pid"].as_u64().unwrap()
    }
}

/// One of `threads[]`.
#[derive(Clone, Copy)]
pub(crate) struct Thread<'a> {
    pub(crate) value: &'a Value,
    /// It was there before the recording.
    pub(crate) adopted: bool,
}

impl Thread<'_> {
    pub(crate) fn ns(self, field: &str) -> u64 {
        let value = &self.value[field];
        value.as_u64().unwrap_or_else(|| panic!("{field} is {value}"))
    }

    /// Time in one state, `cpu_ns` for example.
    pub(crate) fn state(self, field: &str) -> u64 {
        sum_of(&self.value["resources"], |name| name == field)
    }

    /// Time in all states.
    pub(crate) fn states(self) -> u64 {
        sum_of(&self.value["resources"], |_| true)
    }

    pub(crate) fn lived(self) -> u64 {
        self.ns("to_ns") - self.ns("from_ns")
    }

    /// The kernel's own account of its time on CPUs, if it tells all of what is recorded.
    pub(crate) fn kernel_cpu(self) -> Option<u64> {
        self.value["sum_exec_runtime_ns"].as_u64().filter(|_| !self.adopted)
    }
}

/// Sum of the members of an object of integers that `wanted` names.
pub(crate) fn sum_of(times: &Value, wanted: impl Fn(&str) -> bool) -> u64 {
    let times = times.as_object().unwrap();
    let times = times.iter().filter(|(name, _)| wanted(name));
    times.map(|(_, ns)| ns.as_u64().unwrap()).sum()
}

//! What the bench runs below a profiler: a stopwatch around the workload, and the two storms.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{bpf, host};

/// Part of `bench`
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    part: Part,
}

#[derive(Subcommand)]
enum Part {
    /// Run a command and note what it took
    Stamp(StampArguments),
    /// Two processes on one CPU that pass a byte to and fro
    Pipe { count: u64 },
    /// Fork, exec and wait, again and again
    Fork { count: u64, program: PathBuf },
    /// Read the first 4 kB of a file, again and again
    Read { count: u64, file: PathBuf },
}

#[derive(clap::Args)]
struct StampArguments {
    /// Where the note goes
    #[arg(long)]
    out: PathBuf,
    /// The profiler to look at: a process id, or `parent`
    #[arg(long)]
    profiler: Option<String>,
    /// A BPF program to look at besides the profiler's
    #[arg(long)]
    program: Option<u32>,
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// One look, before the command or after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Look {
    /// `CLOCK_MONOTONIC`, ns.
    pub(crate) at_ns: u64,
    /// CPU time of the host so far, ns.
    pub(crate) busy_ns: u64,
    /// CPU time of the profiler so far, ns.
    pub(crate) profiler_ns: u64,
    /// Peak memory of the profiler so far, bytes.
    pub(crate) profiler_peak_bytes: u64,
    /// The profiler's programs, and the one asked for.
    pub(crate) programs: Vec<bpf::Program>,
}

/// The note.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) before: Look,
    pub(crate) after: Look,
    /// CPU time of the command and of all that it left behind and that has ended, ns.
    pub(crate) workload_ns: u64,
}

impl Stamp {
    /// Reads a note.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Stamp> {
        let text =
            fs::read_to_string(path).with_context(|| format!("{}: the workload left no note", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(crate) fn wall_ns(&self) -> u64 {
        self.after.at_ns.saturating_sub(self.before.at_ns)
    }

    pub(crate) fn busy_ns(&self) -> u64 {
        self.after.busy_ns.saturating_sub(self.before.busy_ns)
    }

    pub(crate) fn profiler_ns(&self) -> u64 {
        self.after.profiler_ns.saturating_sub(self.before.profiler_ns)
    }

    pub(crate) fn programs(&self) -> Vec<bpf::Program> {
        bpf::between(&self.before.programs, &self.after.programs)
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.part {
        Part::Stamp(arguments) => stamp(arguments),
        Part::Pipe { count } => pipe(*count),
        Part::Fork { count, program } => fork(*count, program),
        Part::Read { count, file } => read(*count, file),
    }
}

fn stamp(arguments: &StampArguments) -> anyhow::Result<()> {
    let profiler = match arguments.profiler.as_deref() {
        None => None,
        Some("parent") => Some(std::os::unix::process::parent_id()),
        Some(pid) => Some(pid.parse().context("--profiler is no process id")?),
    };
    // What the command leaves behind (a container's cleanup) is then waited for here, so that its CPU time counts.
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let (program, words) = arguments.command.split_first().context("no command")?;
    let before = look(profiler, arguments.program)?;
    let mut command = Command::new(program);
    let status = ends_with_parent(command.args(words))
        .status()
        .with_context(|| format!("can't run {}", program.display()))?;
    let after = look(profiler, arguments.program)?;
    ensure!(status.success(), "{}: {status}", program.display());
    reap();
    let note = Stamp {
        before,
        after,
        workload_ns: children_ns()?,
    };
    // Whoever waits for the note must not read half of it.
    let unfinished = arguments.out.with_extension("unfinished");
    fs::write(&unfinished, serde_json::to_vec(&note)?).with_context(|| unfinished.display().to_string())?;
    fs::rename(&unfinished, &arguments.out).with_context(|| arguments.out.display().to_string())
}

fn look(profiler: Option<u32>, program: Option<u32>) -> anyhow::Result<Look> {
    let mut look = Look {
        busy_ns: host::busy_ns()?,
        ..Look::default()
    };
    if let Some(pid) = profiler {
        look.programs = bpf::of_process(pid)?;
        look.profiler_ns = host::cpu_ns(pid)?;
        look.profiler_peak_bytes = host::peak_bytes(pid).unwrap_or_default();
    }
    if let Some(id) = program {
        look.programs.push(bpf::by_id(id)?);
    }
    look.at_ns = host::now_ns();
    Ok(look)
}

/// Waits for those children that have ended.
fn reap() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn children_ns() -> anyhow::Result<u64> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` has room for what is written.
    let result = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    ensure!(result == 0, "getrusage: {}", io::Error::last_os_error());
    // SAFETY: written by the call.
    let usage = unsafe { usage.assume_init() };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    Ok(ns(usage.ru_utime) + ns(usage.ru_stime))
}

/// `count` round trips of one byte: two switches each.
fn pipe(count: u64) -> anyhow::Result<()> {
    // The last CPU: device interrupts prefer the first.
    pin(host::cpus() - 1)?;
    let (mut ping_out, mut ping_in) = io::pipe()?;
    let (mut pong_out, mut pong_in) = io::pipe()?;
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    ensure!(child >= 0, "fork: {}", io::Error::last_os_error());
    let mut byte = [0];
    if child == 0 {
        // If the other end is killed, so is this one.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        drop((ping_in, pong_out));
        let echoed = (0..count).try_for_each(|_| {
            ping_out.read_exact(&mut byte)?;
            pong_in.write_all(&byte)
        });
        std::process::exit(i32::from(echoed.is_err()));
    }
    drop((ping_out, pong_in));
    for _ in 0..count {
        ping_in.write_all(&byte)?;
        pong_out.read_exact(&mut byte)?;
    }
    let mut status = 0;
    // SAFETY: `status` has room for what is written.
    let waited = unsafe { libc::waitpid(child, &mut status, 0) };
    ensure!(
        waited == child && status == 0,
        "the other end of the pipes ended with {status}"
    );
    Ok(())
}

fn pin(cpu: u32) -> anyhow::Result<()> {
    // SAFETY: a set of bits, all zeros are the empty one.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the CPU is online, so it is in the set's range.
    unsafe { libc::CPU_SET(cpu as usize, &mut set) };
    // SAFETY: `set` is as long as is said.
    let result = unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    ensure!(
        result == 0,
        "sched_setaffinity to CPU {cpu}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

/// `count` times fork, exec of `program`, wait, one after the other.
fn fork(count: u64, program: &Path) -> anyhow::Result<()> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let arguments = [path.as_ptr(), std::ptr::null()];
    for _ in 0..count {
        // SAFETY: this process has one thread.
        let child = unsafe { libc::fork() };
        ensure!(child >= 0, "fork: {}", io::Error::last_os_error());
        if child == 0 {
            // SAFETY: both arrays end with a null pointer and outlive the call.
            unsafe {
                libc::execv(path.as_ptr(), arguments.as_ptr());
                libc::_exit(127)
            }
        }
        let mut status = 0;
        // SAFETY: `status` has room for what is written.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        ensure!(
            waited == child && status == 0,
            "{} ended with {status}",
            program.display()
        );
    }
    Ok(())
}

/// `count` preads of one page.
fn read(count: u64, file: &Path) -> anyhow::Result<()> {
    pin(host::cpus() - 1)?;
    let file = fs::File::open(file).with_context(|| file.display().to_string())?;
    let mut page = [0; 4096];
    for _ in 0..count {
        file.read_exact_at(&mut page, 0)?;
    }
    Ok(())
}

/// Lets `command` end with its parent, so that a killed bench leaves no storm behind.
pub(crate) fn ends_with_parent(command: &mut Command) -> &mut Command {
    // SAFETY: prctl is a bare system call.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            Ok(())
        })
    }
}

//! The types that are the schema's definition: `docs/results.schema.json` is made of them and of their comments, which
//! are what its readers get.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attribute::resources::Resources;
use crate::recording::record::Text;

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// Version of this schema. Fields are added without a new one; it is raised when a field's meaning changes or a field
    /// goes.
    pub schema: u32,
    /// phasegraph's version that recorded.
    pub version: String,
    /// As `--name` gave it; empty without.
    pub name: String,
    /// What a benchmark's result must say of how it came about, in one place.
    pub receipt: Receipt,
    pub host: Host,
    pub command: Command,
    pub span: Span,
    /// CPU samples a second on each CPU.
    pub sample_hz: u32,
    /// What people asked for: `podman build`.
    pub operations: Vec<Operation>,
    /// Runs of containers. A restart is another, with the same id.
    pub containers: Vec<Container>,
    /// Phases of no container, such as a build's steps; those of a container stand there, below them in the tree.
    pub phases: Vec<Phase>,
    pub processes: Vec<Process>,
    /// The 1,000 longest waits of all threads, longest first.
    pub waits: Vec<Wait>,
    pub oom_kills: Vec<OomKill>,
    /// How much of the waiting and of the samples has stacks.
    pub coverage: CoverageOut,
    pub user_stacks: UserStacksOut,
    /// The layers of root file systems, those of containers first, topmost first, and what was done to them. `null`: this
    /// recording does not tell, see `not_measured`.
    pub layers: Option<Vec<super::layers::LayerOut>>,
    /// Files that overlays copied to their upper layers: the 10,000 longest, in order of time. `null`: this recording does
    /// not tell, see `not_measured`.
    pub copy_ups: Option<Vec<super::layers::CopyUpOut>>,
    /// Requests to block devices by device and operation. `null`: this recording does not tell, see `not_measured`.
    pub block_devices: Option<Vec<super::disk::Device>>,
    /// What each operation's wall time was waited for.
    pub critical_path: Vec<super::critical::CriticalPath>,
    /// Names of the fields that are `null` because the recording was made without what it takes to measure them.
    pub not_measured: Vec<&'static str>,
    /// Every cause of loss that is not zero; empty when every event was kept.
    pub losses: Vec<Loss>,
    /// The profiler's own cost, measured in this recording.
    #[serde(rename = "self")]
    pub own: Own,
    /// What of the recording could not be used; empty for a whole one.
    pub damage: Vec<String>,
}

/// What a benchmark's result must say of how it came about.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Receipt {
    /// When the recording began, ns since 1970-01-01 UTC; `null` in a recording without a clock.
    pub began_real_ns: Option<u64>,
    /// phasegraph's version that recorded.
    pub phasegraph: String,
    /// Commit that the git checkout around the command's working folder was at when the command began; `null` when that
    /// is not known (`commit_unknown`). Whether files differed from it is not looked at.
    pub commit: Option<Commit>,
    /// Why there is no `commit`; `null` when there is one, and in recordings that were not asked.
    pub commit_unknown: Option<String>,
    /// Arguments, redacted; empty when the whole host was recorded.
    pub command: Vec<Escaped>,
    /// 128 + signal when it was killed.
    pub exit_status: Option<i32>,
    pub cpu_model: String,
    /// Online CPUs, as the scheduler counts them (hardware threads).
    pub cpus: u32,
    /// Physical cores behind them; `null` where the kernel does not tell.
    pub cores: Option<u32>,
    pub kernel: String,
    /// As `uname -m` has it.
    pub machine: String,
    pub memory_bytes: u64,
    /// Engines and runtimes that ran, as the programs of these names in PATH said after the recording.
    pub programs: Vec<EngineVersion>,
    /// What whoever recorded noted (`--note`), such as a toolchain; nothing of it is checked.
    pub notes: Vec<Fact>,
    pub settings: Settings,
    /// Sum of the counts in `losses` that are losses.
    pub lost: u64,
    /// CPU time of the profiler, its BPF programs included, while it recorded; `null` when the BPF programs' is not
    /// known.
    pub self_cpu_ns: Option<u64>,
    /// CPUs × length of the recording: what `self_cpu_ns` is a share of.
    pub host_cpu_ns: u64,
    pub self_peak_memory_bytes: u64,
}

/// A checkout's commit.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Commit {
    /// 40 or 64 hexadecimal digits.
    pub id: String,
    /// The checkout's topmost folder.
    pub folder: String,
}

/// An engine or runtime.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EngineVersion {
    pub name: String,
    /// Empty when it did not say.
    pub version: String,
    pub path: Escaped,
}

/// How it was recorded.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Settings {
    /// CPU samples a second on each CPU.
    pub sample_hz: u32,
    /// The most that the profiler might cost, in words; `null` in recordings that do not tell.
    pub overhead_cap: Option<String>,
    /// Whether secrets in arguments were masked; `null` in recordings that do not tell.
    pub redaction: Option<bool>,
    /// User that the command ran as, where one was asked for; else empty.
    pub user: String,
    /// The container that was recorded, where one was asked for; else `null`.
    pub container: Option<String>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Host {
    pub hostname: String,
    /// Release, as `uname -r` has it.
    pub kernel: String,
    /// As `uname -m` has it.
    pub machine: String,
    pub cpu_model: String,
    /// Online CPUs when the recording began.
    pub cpus: u32,
    pub memory_bytes: u64,
    /// Pairs of readings that turn monotonic times into dates.
    pub clocks: Vec<Clock>,
    /// What each signal was taken from, or why it was not to be had.
    pub probes: Vec<Probe>,
    /// What else is known of host and settings, by name; a name can stand several times.
    pub facts: Vec<Fact>,
    /// What the host's CPUs did meanwhile; `null` in recordings that do not tell.
    pub cpu: Option<HostCpu>,
    /// CPUs that came online or went offline during the recording.
    pub cpu_changes: Vec<CpuChange>,
}

/// CPU time of the whole host over the recording, as `/proc/stat` has it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostCpu {
    pub user_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
    pub interrupt_ns: u64,
    /// Taken by the hypervisor for other guests.
    pub steal_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CpuChange {
    /// When it was noticed.
    pub at_ns: u64,
    pub cpu: u32,
    pub online: bool,
    /// Why it is not followed; empty when it is.
    pub problem: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Clock {
    pub monotonic_ns: u64,
    /// Since 1970-01-01 UTC.
    pub real_ns: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Probe {
    pub name: String,
    pub rung: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Fact {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Command {
    /// Empty when the whole host was recorded.
    pub argv: Vec<Escaped>,
    pub cwd: Escaped,
    pub user: String,
    /// 128 + signal when it was killed.
    pub exit_status: Option<i32>,
}

/// Time covered.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Span {
    pub begin_ns: u64,
    pub end_ns: u64,
    pub length_ns: u64,
    /// False when the recording was cut off.
    pub closed: bool,
}

/// Bytes from a traced process.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Escaped {
    pub text: String,
    /// The exact bytes, only when they are not UTF-8.
    #[serde(rename = "text_hex", skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
}

impl Escaped {
    pub(super) fn new(bytes: &[u8]) -> Escaped {
        Escaped {
            text: String::from_utf8_lossy(bytes).into_owned(),
            hex: std::str::from_utf8(bytes)
                .is_err()
                .then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        }
    }

    pub(super) fn list(texts: &[Text]) -> Vec<Escaped> {
        texts.iter().map(|text| Escaped::new(text)).collect()
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Operation {
    pub index: u32,
    pub name: String,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wall_ns: u64,
    /// Part of `wall_ns` in which none of its phases was.
    pub unattributed_ns: u64,
    /// It had not ended when the recording did.
    pub open: bool,
    /// Index of its client in `processes`.
    pub process: u32,
    /// Indexes in `processes`.
    pub processes: Vec<u32>,
    /// Indexes in `containers`.
    pub containers: Vec<u32>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Container {
    pub index: u32,
    pub id: Escaped,
    pub name: Escaped,
    pub engine: String,
    pub runtime: String,
    pub image: Escaped,
    /// `sha256:…` of the image's manifest; empty when it is not known.
    pub digest: Escaped,
    /// The most that its memory cgroup held; `null` where it has none of its own, or nothing tells.
    pub memory_peak_bytes: Option<u64>,
    /// Largest resident set of a process of its `run`, and that process's index.
    pub peak_rss_bytes: Option<u64>,
    pub peak_rss_process: Option<u32>,
    /// Id in the default cgroup hierarchy; `null` when none was seen.
    pub cgroup: Option<u64>,
    pub operation: Option<u32>,
    /// Index in `processes` of the first process inside.
    pub entrypoint: Option<u32>,
    /// What it read and wrote; `null` where the recording does not tell.
    pub disk: Option<super::disk::DiskOut>,
    pub from_ns: u64,
    pub to_ns: u64,
    pub phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Phase {
    /// What `--phase` takes.
    pub index: u32,
    pub name: &'static str,
    pub label: Escaped,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wall_ns: u64,
    pub open: bool,
    pub parent: Option<u32>,
    pub operation: Option<u32>,
    pub container: Option<u32>,
    /// Engine of the container; empty for a bare runtime and without a container.
    pub engine: String,
    /// Of `run`, `exec` and `healthcheck`: how the command ended, in the shell's form (128 + signal). Of a session whose
    /// program never ran that of the runtime, if that failed.
    pub exit_status: Option<i32>,
    /// Largest resident set of one of `processes` that is known to lie in the phase, and that process's index.
    pub peak_rss_bytes: Option<u64>,
    pub peak_rss_process: Option<u32>,
    /// States of the main thread; they and `unattributed_ns` add up to `wall_ns`.
    pub wall: Times,
    /// States along the critical path of the phase, back from its end; they add up to `wall_ns`.
    pub critical: Times,
    /// States of all threads of `processes` within the phase; `unattributed_ns` is 0.
    pub all: Times,
    /// The most by which a figure of `all` can be off: time in sums that the phase's edges cut.
    pub cut_ns: u64,
    /// What `processes` read and wrote within the phase; `null` where the recording does not tell.
    pub disk: Option<super::disk::DiskOut>,
    /// Indexes in `processes`.
    pub processes: Vec<u32>,
    /// Bytes that it moved: of a download what was sent, of an unpack the layer's contents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    pub evidence: Evidence,
    /// Phases below it that are of the same container, or of none.
    pub phases: Vec<Phase>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Evidence {
    pub from: String,
    pub to: String,
}

/// Where time went. All of them add up to the length that they divide.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Times {
    pub cpu_ns: u64,
    pub runqueue_ns: u64,
    pub disk_ns: u64,
    pub network_ns: u64,
    pub lock_ns: u64,
    pub ipc_ns: u64,
    pub child_ns: u64,
    pub sleep_ns: u64,
    /// Waits too short for a stack of their own, known by their sum.
    pub short_blocked_ns: u64,
    pub other_ns: u64,
    pub lost_ns: u64,
    pub unattributed_ns: u64,
}

impl Times {
    pub(crate) fn new(resources: &Resources, unattributed_ns: u64) -> Times {
        Times {
            cpu_ns: resources.cpu,
            runqueue_ns: resources.runqueue,
            disk_ns: resources.disk,
            network_ns: resources.network,
            lock_ns: resources.lock,
            ipc_ns: resources.ipc,
            child_ns: resources.child,
            sleep_ns: resources.sleep,
            short_blocked_ns: resources.short_blocked,
            other_ns: resources.other,
            lost_ns: resources.lost,
            unattributed_ns,
        }
    }
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Process {
    pub index: u32,
    pub pid: u32,
    /// With `pid` its name for good: pids are used again.
    pub start_ns: u64,
    pub parent: Option<u32>,
    /// Of its last program.
    pub comm: Escaped,
    pub argv: Vec<Escaped>,
    pub from_ns: u64,
    pub to_ns: u64,
    pub open: bool,
    /// It was there before the recording began.
    pub adopted: bool,
    /// `null` when its end was not seen or a signal killed it.
    pub exit_status: Option<i32>,
    pub signal: Option<i32>,
    /// Largest resident set of its programs; `null` when nothing tells.
    pub peak_rss_bytes: Option<u64>,
    /// What it read and wrote; `null` where the recording does not tell.
    pub disk: Option<super::disk::DiskOut>,
    pub resources: Times,
    pub threads: Vec<Thread>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Thread {
    pub tid: u32,
    pub comm: Escaped,
    pub from_ns: u64,
    pub to_ns: u64,
    pub resources: Times,
    /// The kernel's own account of its time on CPUs, from birth: an independent witness. `null` when its end was not
    /// seen.
    pub sum_exec_runtime_ns: Option<u64>,
}

/// A kill for want of memory.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OomKill {
    pub at_ns: u64,
    /// Of the victim.
    pub pid: u32,
    /// Index in `processes`; `null` for one that is not profiled.
    pub process: Option<u32>,
    pub comm: Escaped,
    /// Index in `containers`.
    pub container: Option<u32>,
    /// The innermost phase that it worked for.
    pub phase: Option<u32>,
    /// Its resident set; `null` where the kernel does not tell (before 6.9).
    pub rss_bytes: Option<u64>,
    /// The most that its memory cgroup held.
    pub memory_peak_bytes: Option<u64>,
    /// Whose allocation failed.
    pub allocating_pid: u32,
}

/// One of the longest waits.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Wait {
    pub pid: u32,
    pub tid: u32,
    pub process: u32,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wait_ns: u64,
    /// What was waited for.
    pub class: &'static str,
    /// The same in a few more words: `pipe read`.
    pub detail: &'static str,
    /// At what file or socket: a path from the root of its file system, `address:port`, or the program at the other end of
    /// a unix socket. Empty when that was not recorded or has no name.
    pub at: String,
    /// Names of the stack's frames, leaf first, the kernel's first.
    pub stack: Vec<Escaped>,
    pub woken_by: Option<Waker>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Waker {
    pub pid: u32,
    pub tid: u32,
    /// Woken from an interrupt: pid and tid are whoever was interrupted, no cause.
    pub interrupt: bool,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CoverageOut {
    pub samples: u64,
    pub samples_with_stack: u64,
    pub samples_with_user_stack: u64,
    pub samples_with_kernel_stack: u64,
    pub blocked_ns: u64,
    pub blocked_with_kernel_stack_ns: u64,
    pub blocked_with_user_stack_ns: u64,
}

/// How many user stacks of CPU samples reach the outermost frame.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UserStacksOut {
    /// Samples of tasks that have a user stack.
    pub samples: u64,
    pub whole: u64,
    /// Samples of tasks that have none: kernel threads, tasks at their end.
    pub no_user: u64,
    /// Samples in the middle of an exec.
    pub in_exec: u64,
    /// User frames of `samples` in all.
    pub frames: u64,
    /// Samples whose stack follows frame pointers: nobody tells whether it is whole.
    pub unknown: u64,
    /// Of processes that lived less than 10 ms.
    pub short: StackCount,
    /// Why the others end early, by cause.
    pub early: BTreeMap<&'static str, u64>,
    /// By program, most samples first.
    pub programs: Vec<ProgramStacks>,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StackCount {
    pub samples: u64,
    pub whole: u64,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ProgramStacks {
    pub program: Escaped,
    #[serde(flatten)]
    pub count: StackCount,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Loss {
    pub name: String,
    pub count: u64,
    pub text: String,
    /// False for what is counted but takes nothing away from the figures.
    pub is_loss: bool,
}

/// The profiler's own cost.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Own {
    /// `null` when the kernel's BPF statistics were off.
    pub bpf_ns: Option<u64>,
    pub bpf_runs: u64,
    pub bpf_missed: u64,
    pub programs: Vec<Program>,
    /// While it recorded.
    pub user_ns: u64,
    pub system_ns: u64,
    /// CPUs × length of the recording.
    pub host_cpu_ns: u64,
    pub peak_memory_bytes: u64,
    pub recording_bytes: u64,
    pub startup_ns: u64,
    /// User and system time before the recording began.
    pub startup_cpu_ns: u64,
    pub symbolize_ns: u64,
    /// Times in which less was recorded than was asked for, to keep the overhead cap.
    pub gaps: Vec<Gap>,
}

/// Something that the overhead cap gave up for a time.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Gap {
    /// `sampling`, `short_waits`, `wait_stacks`, `mappings`, `scheduling`, `births`.
    pub lever: String,
    pub from_ns: u64,
    pub to_ns: u64,
    /// Of `sampling` the frequency meanwhile, Hz; else 0.
    pub value: u32,
    /// What is not recorded.
    pub lost: String,
    /// The profiler's cost that led to it, millionths of the host's CPU time.
    pub cost_ppm: u64,
    pub cap_ppm: u32,
    /// The BPF program that cost most.
    pub dearest: String,
}

/// One BPF program's cost.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Program {
    pub name: String,
    pub run_ns: u64,
    pub runs: u64,
    /// Runs that were dropped because the program was in the middle of another on the same CPU.
    pub missed: u64,
}

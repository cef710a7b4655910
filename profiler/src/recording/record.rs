//! What a recording holds, record by record. The wire form of each is postcard's; a kind's fields never change: a
//! change is a new kind (`docs/recording-format.md`).
//!
//! All times are ns of `CLOCK_MONOTONIC`. Bytes that come from traced processes are kept as bytes: hostile text,
//! escaped by every sink.

mod disk;
mod storage;

pub use disk::{BlockIo, CallSum, CopyUp, FileCalls, Inode, InodeId, IoTotals, Overlaid, PageRun, Whiteout, WriteBack};
pub use storage::{Layer, Overlay, OverlayLayer, Role, Stored};

use serde::{Deserialize, Serialize};

/// Text from a traced process: any bytes.
pub type Text = Vec<u8>;

/// Names a thread for good: pids wrap, the pair with the start time does not repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    pub tgid: u32,
    pub tid: u32,
    /// `task_struct.start_time`, ns.
    pub start: u64,
}

/// When and to whom: the first part of every event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub ts: u64,
    pub task: TaskId,
    /// Id in the default (version 2) cgroup hierarchy.
    pub cgroup: u64,
    /// Inode number of the mount namespace; 0 when it has none any more.
    pub mnt_ns: u32,
    pub cpu: u16,
}

/// First record of a recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// phasegraph's version.
    pub version: String,
    pub contract: u32,
    pub hostname: String,
    pub kernel: String,
    pub machine: String,
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_bytes: u64,
    pub page_size: u32,
    pub sample_hz: u32,
    /// The command of `run`, redacted; empty for `record`.
    pub command: Vec<Text>,
    /// Working directory of the command.
    pub cwd: Text,
    /// `--name`.
    pub name: String,
    pub user: String,
    /// Which programs were attached, with their rung: `("sched_switch", "tp_btf")`; `"not available, so no …: why"`.
    pub probes: Vec<(String, String)>,
    /// Further facts: `("cgroup", "v2")`, `("redaction", "on")`.
    pub facts: Vec<(String, String)>,
}

/// Monotonic and real time, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    pub mono: u64,
    /// ns since 1970.
    pub real: u64,
}

/// A task was born; `at` is the child's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fork {
    pub at: At,
    pub parent: TaskId,
    pub clone_flags: u64,
    pub pid_ns: u32,
    pub ns_tid: u32,
    pub comm: Text,
}

/// A task that was there before the recording began.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adopt {
    pub at: At,
    pub parent_tgid: u32,
    pub pid_ns: u32,
    pub ns_tid: u32,
    /// Kernel's state word then; 0 runnable.
    pub state: u32,
    pub on_cpu: bool,
    pub comm: Text,
    /// From `/proc`, at the recording's start; redacted.
    pub argv: Vec<Text>,
    pub exe: Text,
}

/// A successful exec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    pub at: At,
    /// The tid the thread had before; differs when it was no leader.
    pub old_tid: u32,
    pub pid_ns: u32,
    pub ns_tid: u32,
    pub exe_dev: u32,
    pub exe_ino: u64,
    pub comm: Text,
    pub filename: Text,
    /// Redacted.
    pub argv: Vec<Text>,
    /// Bytes of arguments that the process had beyond what was kept.
    pub argv_cut: u32,
}

/// A thread ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub at: At,
    /// As `wait()` gives it: `status << 8 | signal`.
    pub code: i32,
    /// Last thread of its process; `None` when the kernel did not tell.
    pub group_dead: Option<bool>,
    /// User and system time as the kernel accounts them (by ticks on most kernels), ns.
    pub utime: u64,
    pub stime: u64,
}

/// The kernel's own account of a thread that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub at: At,
    /// Its time on CPUs, ns, without what the hypervisor stole.
    pub sum_exec: u64,
}

/// The file, pipe or socket that a thread waited at, of a wait that got a stack and whose system call was given a
/// descriptor; see `profiler_common::awaited::Awaited`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AwaitedFile {
    pub dev: u32,
    pub ino: u64,
    /// `i_mode`
    pub mode: u16,
    /// `AF_…`, `SOCK_…` and `IPPROTO_…`, of a socket; else 0.
    pub family: u16,
    pub socket_type: u16,
    pub protocol: u16,
    /// The process at the other end of a unix socket; 0 when not known.
    pub peer: u32,
    /// Four or sixteen bytes, of an internet socket; else empty. Ports in host order.
    pub local: Vec<u8>,
    pub local_port: u16,
    pub remote: Vec<u8>,
    pub remote_port: u16,
    /// Names from the file upward to the root of its file system.
    pub path: Vec<Text>,
    /// Folders above the last, or the end of a name, are missing.
    pub cut: bool,
}

/// At what a thread waited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Awaited {
    /// Of the cycle that the wait is in.
    pub at: At,
    /// When the wait began: `off` of the cycle.
    pub off: u64,
    pub file: AwaitedFile,
}

/// One thread's time from `from` to `at.ts` without a gap; see `profiler_common::sched::Cycle`, whose fields these
/// are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cycle {
    pub at: At,
    pub from: u64,
    pub on_start: u64,
    pub off: u64,
    pub wake: u64,
    pub sum_cpu: u32,
    pub sum_runqueue: u32,
    pub sum_blocked: u32,
    pub sum_count: u32,
    pub waker_tgid: u32,
    pub waker_tid: u32,
    pub state: u32,
    /// -1: in no system call; -2: not asked.
    pub syscall: i32,
    /// `profiler_common::sched::flag`.
    pub flags: u16,
    /// Stack of the wait: id of a [`Stack`], 0 for none.
    pub stack: u32,
}

/// A tick of the sampling clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub at: At,
    /// Id of a [`Stack`], 0 for none.
    pub stack: u32,
}

/// A file that frames lie in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// From 1.
    pub id: u32,
    /// As the mapping process saw it (inside its container).
    pub path: Text,
    /// `major << 20 | minor`
    pub dev: u32,
    pub ino: u64,
    pub generation: u64,
    /// Empty when it could not be read.
    pub build_id: Vec<u8>,
}

/// Where a frame's address points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Place {
    /// Kernel address.
    Kernel(u64),
    /// Offset in a file.
    File { file: u32, offset: u64 },
    /// A user address in no file: JIT code, a mapping that was not seen. As a caller, 0: the rest of the stack is
    /// unknown, since its next address lies in no executable mapping (frame pointers were followed through code that
    /// keeps none).
    Unmapped(u64),
}

/// A distinct place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// From 1.
    pub id: u32,
    pub place: Place,
}

/// A distinct stack: frames, leaf first; the first `kernel` of them are the kernel's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// From 1.
    pub id: u32,
    pub kernel: u16,
    pub frames: Vec<u32>,
    /// Why user frames are missing, when they are: 0 they are not, else the negative errno.
    pub user_error: i16,
}

/// Why a stack's user frames end where they do; stacks without one were not unwound by tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackEnd {
    /// Id of a [`Stack`].
    pub stack: u32,
    /// `profiler_common::unwind::end`.
    pub end: u8,
}

/// The name of a frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Symbol {
    pub frame: u32,
    pub name: Text,
    /// Offset of the frame's address from the symbol's start.
    pub offset: u64,
}

/// A loaded part of a file: its bytes `[offset, offset + size)` appear at `address`, as the file's symbols count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub offset: u64,
    pub size: u64,
    pub address: u64,
}

/// What is needed to find a file's debug information later and its frames' places in it. The last one of a file counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Id of a [`File`].
    pub file: u32,
    /// Empty when it has none.
    pub build_id: Vec<u8>,
    /// Executable ones first.
    pub segments: Vec<Segment>,
    /// Name of a file of debug information (`.gnu_debuglink`) and the CRC-32 of its content.
    pub link: Option<(Text, u32)>,
    /// Whether the names of local functions were known: nothing better is to be found elsewhere.
    pub complete: bool,
}

/// What happened to a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupOp {
    Mkdir,
    Rmdir,
    Release,
    Attach(TaskId),
    Populated(bool),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cgroup {
    pub at: At,
    pub op: CgroupOp,
    pub id: u64,
    pub hierarchy: u32,
    pub level: u32,
    pub path: Text,
}

/// A system call that changes mounts or namespaces, or by which an engine puts files in place. `call` is one of `profiler_common::container::call`, and the
/// meaning of `a` to `d` stands there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Syscall {
    pub at: At,
    /// 0 when its start was not seen.
    pub enter: u64,
    pub result: i64,
    pub args: [u64; 2],
    pub call: u32,
    pub a: Text,
    pub b: Text,
    pub c: Text,
    pub d: Text,
}

/// Something that was looked up live, because it would be gone later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Lookup {
    /// From an engine's state files.
    Container {
        id: Text,
        name: Text,
        image: Text,
        engine: String,
    },
    /// Instructions of the file that a build (its process) reads, in order, as written.
    Dockerfile {
        build: TaskId,
        path: Text,
        instructions: Vec<Text>,
    },
}

/// A socket began to listen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    pub at: At,
    /// When the system call began; 0 when its start was not seen.
    pub enter: u64,
    /// `AF_…`; 0 when the socket could not be read: then the rest is empty.
    pub family: u16,
    /// `SOCK_…`
    pub socket_type: u16,
    /// `IPPROTO_…`
    pub protocol: u16,
    pub port: u16,
    /// 4 or 16 bytes in network order; empty for other than IP.
    pub address: Vec<u8>,
    /// Of a unix socket; an abstract name begins with NUL.
    pub path: Text,
}

/// When a process's memory was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// At a CPU sample.
    Sample,
    /// At an exec: `max_bytes` is of the programs before.
    Exec,
    /// At the end of its last thread.
    Exit,
    /// At the recording's end.
    End,
}

/// A process's memory, by the kernel's own counters, bytes; 0 is not known. See `profiler_common::memory::Memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub at: At,
    pub moment: Moment,
    /// Resident set.
    pub rss: u64,
    /// Largest resident set of the running program.
    pub peak: u64,
    /// Largest of all programs that the process ran, with what it was forked from.
    pub max: u64,
    /// Id of the cgroup that the memory is charged to, in whichever hierarchy has the controller.
    pub memcg: u64,
    /// The most that this cgroup ever held.
    pub memcg_peak: u64,
    /// That hierarchy: 0 is the default (version 2) one.
    pub memcg_hierarchy: u32,
}

/// The kernel chose a victim for want of memory; `at` is of the task whose allocation failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Oom {
    pub at: At,
    /// Where the kernel tells its tid alone, the other fields are 0.
    pub victim: TaskId,
    pub victim_cgroup: u64,
    /// Bytes.
    pub victim_rss: u64,
    /// As in [`Memory`], of the victim.
    pub memcg: u64,
    pub memcg_peak: u64,
    pub memcg_hierarchy: u32,
    pub comm: Text,
}

/// What a mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MarkOp {
    Instant,
    /// Until an `End` of the name.
    Begin,
    End,
    /// The process goes on as a command: the phase is its life.
    Command,
}

/// A mark of the user's own (`phasegraph mark`), seen as the exec of a program that does nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    pub at: At,
    pub op: MarkOp,
    /// Redacted like arguments; empty for the end of whatever began last.
    pub name: Text,
}

/// What an engine's own files say of a container. Empty is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerState {
    pub id: Text,
    pub name: Text,
    /// As it was asked for.
    pub image: Text,
    /// `sha256:…` of the image's manifest.
    pub digest: Text,
    pub engine: String,
    /// The command that the engine runs to see whether it is healthy, redacted.
    pub healthcheck: Vec<Text>,
    /// Its first process, of a container that was there before the recording.
    pub pid: u32,
}

/// Rules of `phasegraph.toml` that the recording was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    /// Where they were read.
    pub file: Text,
    /// Name of the phase, and the patterns on arguments that stand for it.
    pub phases: Vec<(String, Vec<String>)>,
}

/// A request and its answer on one TCP connection of an engine; see `profiler_common::net::Exchange`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The thread that sent, and when the exchange was known to be over.
    pub at: At,
    /// When its connection was asked for, of the first on it; else 0.
    pub connect: u64,
    pub begin: u64,
    /// When the last byte was read; 0 when none was.
    pub last: u64,
    pub sent: u64,
    pub received: u64,
    /// 4 or 16 bytes.
    pub address: Vec<u8>,
    pub port: u16,
}

/// A request that a thread sent to an engine or a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Over TCP, its time is [`Exchange::begin`].
    pub at: At,
    /// Process at the other end of a local socket; 0 over TCP.
    pub peer: u32,
    pub method: Text,
    /// Without its query.
    pub path: Text,
    /// What of the query names an image or a container; nothing else of a request is kept.
    pub query: Vec<(Text, Text)>,
}

/// Bytes that an ended thread moved, as the kernel accounts them; see `profiler_common::task::Io`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Io {
    pub at: At,
    pub read_calls: u64,
    pub write_calls: u64,
    pub read_disk: u64,
    pub write_disk: u64,
}

/// Losses so far: counters by number (`profiler_common::Counter`), summed over CPUs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Losses {
    pub counters: Vec<(u32, u64)>,
    /// Records of perf's mapping rings that were lost.
    pub mappings_lost: u64,
    /// Events that user space could not decode.
    pub undecodable: u64,
    /// Further causes, named, for what user space loses.
    pub named: Vec<(String, u64)>,
}

/// The profiler's own cost so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SelfCost {
    pub ts: u64,
    /// Per BPF program: name, run time ns, runs, runs dropped by recursion. Run time is 0 unless statistics are on.
    pub programs: Vec<(String, u64, u64, u64)>,
    /// CPU time of the profiler's process while it recorded, ns.
    pub user_ns: u64,
    pub system_ns: u64,
    pub peak_rss_bytes: u64,
    pub recording_bytes: u64,
    /// From start to recording, ns.
    pub startup_ns: u64,
    /// CPU time of the profiler's process (user and system) up to then, ns.
    pub startup_cpu_ns: u64,
    /// Time spent on symbols after the end, ns.
    pub symbolize_ns: u64,
}

/// What reading mapped files took, which processes of their own do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parsing {
    /// CPU time of those processes, ns.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Of the largest of them.
    pub peak_rss_bytes: u64,
    /// Files read, and lists of names made readable.
    pub jobs: u64,
    /// Processes that died of a file.
    pub deaths: u64,
    /// Files whose names came from a file of debug information.
    pub debug_files: u64,
}

/// The overhead cap gave something up, or took it up again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    pub ts: u64,
    /// What: `sampling`, `short_waits`, `wait_stacks`, `mappings`, `scheduling`, `births`.
    pub lever: String,
    /// Of `sampling` the frequency from now on, Hz; else 1 it is recorded, 0 it is not.
    pub value: u32,
    /// Less is recorded than was asked for.
    pub reduced: bool,
    /// Cost that led to it: BPF programs and the profiler's process, ns, in `window_ns` on `cpus` CPUs.
    pub bpf_ns: u64,
    pub process_ns: u64,
    pub window_ns: u64,
    pub cpus: u32,
    /// The cap, millionths of the host's CPU time.
    pub cap_ppm: u32,
    /// The program that cost most then.
    pub dearest: String,
}

/// CPU time of the whole host over the recording, as `/proc/stat` accounts it, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCpu {
    /// Time that it covers.
    pub from: u64,
    pub to: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
    /// Hard and soft interrupts.
    pub interrupt_ns: u64,
    /// Taken by the hypervisor for other guests: threads that it hit were on their CPUs without running.
    pub steal_ns: u64,
}

/// A CPU came online or went offline during the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuChange {
    /// When that was noticed.
    pub ts: u64,
    pub cpu: u32,
    pub online: bool,
    /// Why it is not sampled or its mappings are not recorded; empty when all is well.
    pub problem: String,
}

/// Versions of the engines and runtimes that ran, as those in PATH say after the recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Name, version (empty when it did not say) and path.
    pub programs: Vec<(String, String, Text)>,
}

/// Last record of a recording that was closed in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The recording covers time up to here.
    pub mono: u64,
    /// Exit code of the command (128 + signal when it was killed), or `None` for `record`.
    pub exit_code: Option<i32>,
}

/// The moment from which everything is recorded: all probes attached, the command about to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begin {
    pub mono: u64,
    /// The command's first process (before its exec), for `run`.
    pub command: Option<TaskId>,
}

/// All kinds of records with their permanent numbers.
macro_rules! records {
    ($( $id:literal => $name:ident, )+) => {
        /// One record.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Record { $( $name($name), )+ }

        impl Record {
            /// Permanent number of its kind.
            pub fn kind(&self) -> u16 {
                match self { $( Record::$name(_) => $id, )+ }
            }

            /// Appends its wire form, without kind and length.
            pub fn encode(&self, out: Vec<u8>) -> Result<Vec<u8>, postcard::Error> {
                match self { $( Record::$name(value) => postcard::to_extend(value, out), )+ }
            }

            /// Reads the wire form of `kind`; `Ok(None)` when the kind is unknown, to be skipped.
            pub fn decode(kind: u16, bytes: &[u8]) -> Result<Option<Record>, postcard::Error> {
                Ok(match kind {
                    $( $id => Some(Record::$name(postcard::from_bytes(bytes)?)), )+
                    _ => None,
                })
            }
        }
        $( impl From<$name> for Record { fn from(value: $name) -> Record { Record::$name(value) } } )+
    };
}

records! {
    1 => Meta,
    2 => Clock,
    3 => Begin,
    4 => End,
    10 => Fork,
    11 => Adopt,
    12 => Exec,
    13 => Exit,
    14 => Cycle,
    15 => Sample,
    16 => Account,
    17 => Awaited,
    20 => File,
    21 => Frame,
    22 => Stack,
    23 => Symbol,
    24 => StackEnd,
    25 => Image,
    26 => Parsing,
    30 => Cgroup,
    31 => Syscall,
    32 => Listen,
    33 => Memory,
    34 => Oom,
    35 => Mark,
    36 => Exchange,
    37 => Request,
    38 => Io,
    45 => Layer,
    46 => Stored,
    47 => Overlay,
    40 => Lookup,
    41 => ContainerState,
    42 => Rules,
    50 => Losses,
    51 => SelfCost,
    52 => Throttle,
    53 => HostCpu,
    54 => CpuChange,
    60 => Versions,
    70 => Inode,
    71 => PageRun,
    72 => IoTotals,
    73 => BlockIo,
    74 => WriteBack,
    75 => CopyUp,
    76 => Overlaid,
    77 => Whiteout,
    78 => FileCalls,
}

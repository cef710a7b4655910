//! The data that reports speak of. No I/O: [`build`] makes a [`Session`] of records, wherever they come from.
//!
//! Indexes ([`ProcessIx`] and so on) point into the session's vectors and are only meaningful with it.
//! All times are ns of `CLOCK_MONOTONIC`.

pub mod awaited;
pub mod build;
pub mod disk;
#[cfg(test)]
pub(crate) mod fixture;
pub mod layers;
pub mod net;
pub mod process;
pub mod share;
pub mod stack;
pub mod verify;

pub use awaited::{AwaitedFiles, AwaitedIx};
pub use process::{Bytes, Image, Interval, Process, State, Thread, Waker};
pub use stack::Stacks;

use crate::recording::record::{
    Begin, Cgroup, Clock, ContainerState, CpuChange, Exchange, HostCpu, Layer, Listen, Lookup, Losses, Mark, Memory,
    Meta, Oom, Overlay, Parsing, Request, Rules, SelfCost, Stored, Syscall, Text, Throttle,
};

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);
        impl $name {
            /// As an index.
            pub fn ix(self) -> usize { self.0 as usize }
        }
    )+ };
}
index!(
    /// Into [`Session::processes`].
    ProcessIx,
    /// Into [`Session::threads`].
    ThreadIx,
    /// Into [`Session::operations`].
    OperationIx,
    /// Into [`Session::containers`].
    ContainerIx,
    /// Into [`Session::phases`].
    PhaseIx,
    /// Into [`Session::overlays`].
    OverlayIx,
    /// Into [`Session::files`].
    FileIx,
);

/// A closed interval of time `[from, to)`, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    pub from: u64,
    pub to: u64,
}

impl Span {
    /// Its length, ns; 0 when it ends before it begins.
    pub fn len(self) -> u64 {
        self.to.saturating_sub(self.from)
    }

    /// Whether it has no length.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The part of it that lies in `other`.
    pub fn clip(self, other: Span) -> Span {
        let from = self.from.max(other.from);
        Span {
            from,
            to: self.to.min(other.to).max(from),
        }
    }

    /// Whether `ts` lies in it.
    pub fn contains(self, ts: u64) -> bool {
        self.from <= ts && ts < self.to
    }
}

/// Everything a recording tells.
#[derive(Debug, Default)]
pub struct Session {
    pub meta: Meta,
    pub clocks: Vec<Clock>,
    /// Time covered: from [`Begin`] to the end (or to the last event, of a recording that was cut off).
    pub span: Span,
    pub begin: Option<Begin>,
    /// `Some` when the recording was closed in order; then the command's exit code, if there was one.
    pub closed: Option<Option<i32>>,
    /// What the reader could not use, in words; empty for a whole file.
    pub damage: Vec<String>,
    pub processes: Vec<Process>,
    pub threads: Vec<Thread>,
    pub stacks: Stacks,
    pub awaited: AwaitedFiles,
    /// In order of time.
    pub cgroups: Vec<Cgroup>,
    /// In order of time (of their end).
    pub syscalls: Vec<Syscall>,
    pub lookups: Vec<Lookup>,
    /// What engines sent to registries and were sent, in order of time.
    pub exchanges: Vec<Exchange>,
    /// What engines and registries were asked for, in order of time.
    pub requests: Vec<Request>,
    /// Layers and images in engines' storages, as far as their state files were looked at.
    pub layers: Vec<Layer>,
    pub images: Vec<Stored>,
    /// Overlay mounts, those that were there before among them, in order of time.
    pub overlays: Vec<Overlay>,
    /// In order of time, like the next three.
    pub listens: Vec<Listen>,
    pub memory: Vec<Memory>,
    pub ooms: Vec<Oom>,
    pub marks: Vec<Mark>,
    pub states: Vec<ContainerState>,
    /// Those that the recording was made with, or that a reader was given instead.
    pub rules: Rules,
    /// Files that were read or written, and the directories above them; in no order.
    pub files: Vec<disk::File>,
    /// In order of time (of their begin), like the next three.
    pub page_runs: Vec<disk::PageRun>,
    pub block: Vec<disk::BlockIo>,
    pub write_backs: Vec<disk::WriteBack>,
    pub copy_ups: Vec<disk::CopyUp>,
    /// Only where `--disk full` asked for it.
    pub file_calls: Vec<disk::FileCalls>,
    /// In order of time, like the next two.
    pub whiteouts: Vec<disk::Whiteout>,
    pub overlaid: Vec<disk::Overlaid>,
    pub io: Vec<disk::IoInterval>,
    pub losses: Losses,
    pub self_cost: SelfCost,
    /// What reading mapped files took besides.
    pub parsing: Parsing,
    /// What the overhead cap gave up and took up again, in order of time.
    pub throttles: Vec<Throttle>,
    /// `None` in recordings that do not tell.
    pub host_cpu: Option<HostCpu>,
    /// In order of time.
    pub cpu_changes: Vec<CpuChange>,
    /// Engines and runtimes that ran: name, version, path.
    pub versions: Vec<(String, String, Text)>,
    /// Filled by [`crate::detect`].
    pub operations: Vec<Operation>,
    pub containers: Vec<Container>,
    pub phases: Vec<Phase>,
}

/// What a person asked for: `podman build …`, with all it caused.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `podman build`, `docker run`, …; the command's name for anything else.
    pub name: String,
    /// Its client process.
    pub process: ProcessIx,
    pub span: Span,
    /// True when it had not ended when the recording did.
    pub open: bool,
    /// Client and all that descends from it.
    pub processes: Vec<ProcessIx>,
}

/// One run of a container: a restart is another, with the same id and another cgroup.
#[derive(Clone, Debug)]
pub struct Container {
    /// The runtime's id, as it gives it (hex for podman and docker, `buildah-buildah…` for a build).
    pub id: Text,
    /// From the engine's argv or state; empty when it can't be had.
    pub name: Text,
    pub image: Text,
    /// `sha256:…` of the image's manifest; empty when it can't be had.
    pub digest: Text,
    /// `podman`, `buildah`, `docker`, `containerd`, or empty for a bare runtime.
    pub engine: String,
    /// `runc`, `crun`, … (its program's base name).
    pub runtime: String,
    pub operation: Option<OperationIx>,
    /// Its cgroup in the default hierarchy; 0 when none was seen.
    pub cgroup: u64,
    /// Its first process: pid 1 inside.
    pub entrypoint: Option<ProcessIx>,
    /// The mount that its root file system is.
    pub rootfs: Option<OverlayIx>,
    pub span: Span,
}

/// Names of phases, as users know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PhaseKind {
    Pull,
    Download,
    Unpack,
    Commit,
    Mount,
    Create,
    Init,
    Network,
    Start,
    Ready,
    Run,
    Exec,
    /// An exec session by which the engine sees whether the container is healthy.
    Healthcheck,
    Stop,
    Cleanup,
    /// A build's step; its number (from 1) and instruction stand in [`Phase::label`].
    Step,
    /// The user's own, named in [`Phase::label`].
    User,
}

impl PhaseKind {
    /// Stable lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            PhaseKind::Pull => "pull",
            PhaseKind::Download => "download",
            PhaseKind::Unpack => "unpack",
            PhaseKind::Commit => "commit",
            PhaseKind::Mount => "mount",
            PhaseKind::Create => "create",
            PhaseKind::Init => "init",
            PhaseKind::Network => "network",
            PhaseKind::Start => "start",
            PhaseKind::Ready => "ready",
            PhaseKind::Run => "run",
            PhaseKind::Exec => "exec",
            PhaseKind::Healthcheck => "healthcheck",
            PhaseKind::Stop => "stop",
            PhaseKind::Cleanup => "cleanup",
            PhaseKind::Step => "step",
            PhaseKind::User => "user",
        }
    }
}

/// A named interval of an operation's or container's life. Phases form a tree: children are clipped to their parent,
/// siblings may overlap.
#[derive(Clone, Debug)]
pub struct Phase {
    pub kind: PhaseKind,
    /// `1/5 FROM scratch` for steps, else empty or a detail (a path, a layer id).
    pub label: Text,
    pub span: Span,
    /// Had not ended when the recording did.
    pub open: bool,
    pub parent: Option<PhaseIx>,
    pub operation: Option<OperationIx>,
    pub container: Option<ContainerIx>,
    /// The thread whose states are the phase's wall time, as far as it lived: entrypoint for `run`, the runtime's
    /// main thread for `create`, … `None`: all is unattributed.
    pub main: Option<ThreadIx>,
    /// Processes whose time within the span is charged to the phase.
    pub processes: Vec<ProcessIx>,
    /// Bytes that it moved: of a download what the registry sent, of an unpack the layer's contents.
    pub bytes: Option<u64>,
    /// What tells its start and its end: `exec of runc create`, `exit of pid 4711`. For people who doubt.
    pub evidence: (String, String),
}

impl Phase {
    /// How the command of a `run`, `exec` or `healthcheck` ended, as `wait()` gives it. When the program of an exec
    /// session never ran, since the container was killed meanwhile or has no such program, that the runtime failed is
    /// told by its own status; that it did not says nothing. `None` for other phases too, and while it runs.
    pub fn exit_code(&self, session: &Session) -> Option<i32> {
        if !matches!(self.kind, PhaseKind::Run | PhaseKind::Exec | PhaseKind::Healthcheck) {
            return None;
        }
        let thread = session.threads.get(self.main?.ix())?;
        let process = session.processes.get(thread.process.ix())?;
        // Such a session begins with the exec of the runtime, whose process was there before.
        let is_runtime = self.kind != PhaseKind::Run && process.span.from < self.span.from;
        process.exit_code.filter(|code| *code != 0 || !is_runtime)
    }
}

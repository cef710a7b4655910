//! Indexes over a session that every detector shares: programs by time, threads by name, mounts in order, the life of
//! each cgroup and who was in it.

use std::collections::HashMap;

use profiler_common::container::call;

use crate::model::{Image, Process, ProcessIx, Session, Span, State, ThreadIx};
use crate::recording::record::{CgroupOp, ContainerState, Lookup, Request, Syscall, TaskId, Text};

/// A program that a process began to run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exec {
    pub ts: u64,
    pub process: ProcessIx,
    /// Into the process's images.
    pub image: usize,
}

/// A mount that succeeded, by `mount` or by `fsopen` … `move_mount`.
#[derive(Clone, Debug)]
pub(super) struct Mount {
    pub span: Span,
    pub process: Option<ProcessIx>,
    pub thread: Option<ThreadIx>,
    pub source: Text,
    pub target: Text,
    pub fstype: Text,
}

impl Mount {
    /// Whether it lays layers over each other: in the kernel, or by a daemon, as where users may not mount overlays (before
    /// Linux 5.11). What libfuse calls that one depends on whether the kernel takes subtypes from it.
    pub(super) fn is_overlay(&self) -> bool {
        self.fstype == b"overlay" || self.is_by_daemon()
    }

    /// Whether fuse-overlayfs serves it.
    pub(super) fn is_by_daemon(&self) -> bool {
        self.fstype == b"fuse.fuse-overlayfs" || self.fstype == b"fuse" && self.source == b"fuse-overlayfs"
    }

    /// Whether it shows an existing tree in a second place.
    pub(super) fn is_bind(&self) -> bool {
        !self.is_overlay() && self.source.starts_with(b"/") && self.target.starts_with(b"/")
    }
}

/// An umount that succeeded.
#[derive(Clone, Debug)]
pub(super) struct Umount {
    /// To the end of what the kernel did on the way out of the system call, which can be most of it.
    pub span: Span,
    /// The end is later than the system call's.
    pub deferred: bool,
    /// Time that the thread waited for dirty data to be written, ns.
    pub flush: u64,
    pub process: Option<ProcessIx>,
    pub thread: Option<ThreadIx>,
    pub target: Text,
}

/// What is known of a cgroup of the default hierarchy.
#[derive(Clone, Debug, Default)]
pub(super) struct CgroupLife {
    pub id: u64,
    pub path: Text,
    pub made: Option<u64>,
    pub removed: Option<u64>,
    /// First and last event that names it.
    pub seen: Span,
}

/// The session with its indexes.
pub(super) struct Context<'a> {
    pub session: &'a Session,
    /// In order of time.
    pub execs: Vec<Exec>,
    /// In order of their end.
    pub mounts: Vec<Mount>,
    /// In order of their system call's end.
    pub umounts: Vec<Umount>,
    pub cgroups: HashMap<u64, CgroupLife>,
    members: HashMap<u64, Vec<ProcessIx>>,
    mounts_at: HashMap<Text, Vec<usize>>,
    mounts_by: HashMap<ProcessIx, Vec<usize>>,
    mounts_from: HashMap<Text, Vec<usize>>,
    umounts_at: HashMap<Text, Vec<usize>>,
    processes: HashMap<TaskId, ProcessIx>,
    threads: HashMap<TaskId, ThreadIx>,
    looked_up: HashMap<&'a [u8], (&'a [u8], &'a [u8])>,
    states: HashMap<&'a [u8], &'a ContainerState>,
}

impl<'a> Context<'a> {
    /// Builds the indexes.
    pub(super) fn new(session: &'a Session) -> Context<'a> {
        let mut context = Context {
            session,
            execs: execs(session),
            mounts: Vec::new(),
            umounts: Vec::new(),
            cgroups: cgroups(session),
            members: HashMap::new(),
            mounts_at: HashMap::new(),
            mounts_by: HashMap::new(),
            mounts_from: HashMap::new(),
            umounts_at: HashMap::new(),
            processes: HashMap::new(),
            threads: HashMap::new(),
            looked_up: HashMap::new(),
            states: session.states.iter().map(|state| (&state.id[..], state)).collect(),
        };
        for lookup in &session.lookups {
            if let Lookup::Container { id, name, image, .. } = lookup {
                context.looked_up.insert(id, (name, image));
            }
        }
        let mut threads = HashMap::new();
        for (index, thread) in session.threads.iter().enumerate() {
            threads.insert(thread.id, ThreadIx(index as u32));
        }
        for (index, process) in session.processes.iter().enumerate() {
            let ix = ProcessIx(index as u32);
            let leader = TaskId {
                tgid: process.tgid,
                tid: process.tgid,
                start: process.start,
            };
            context.processes.insert(leader, ix);
            for (_, cgroup) in &process.cgroups {
                let members = context.members.entry(*cgroup).or_default();
                if members.last() != Some(&ix) {
                    members.push(ix);
                }
            }
        }
        context.mounts(&threads);
        context.threads = threads;
        context
    }

    /// The process.
    pub(super) fn process(&self, ix: ProcessIx) -> &'a Process {
        &self.session.processes[ix.ix()]
    }

    /// The program that the exec began.
    pub(super) fn image(&self, exec: Exec) -> &'a Image {
        &self.process(exec.process).images[exec.image]
    }

    /// Name and image of a container, if its engine's state was looked up.
    pub(super) fn looked_up(&self, id: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
        self.looked_up.get(id).copied()
    }

    /// What its engine's files say of a container.
    pub(super) fn state(&self, id: &[u8]) -> Option<&'a ContainerState> {
        self.states.get(id).copied()
    }

    /// The process of that number that was there before the recording.
    pub(super) fn adopted(&self, pid: u32) -> Option<ProcessIx> {
        let mut processes = self.session.processes.iter();
        let found = processes.position(|process| pid != 0 && process.adopted && process.tgid == pid)?;
        Some(ProcessIx(found as u32))
    }

    /// The process that a thread is of.
    pub(super) fn of_task(&self, task: TaskId) -> Option<ProcessIx> {
        let thread = self.threads.get(&task);
        thread
            .map(|thread| self.session.threads[thread.ix()].process)
            .or_else(|| self.by_leader(task))
    }

    /// The process of that leader.
    pub(super) fn by_leader(&self, task: TaskId) -> Option<ProcessIx> {
        self.processes.get(&TaskId { tid: task.tgid, ..task }).copied()
    }

    /// The process's leader thread: that of its pid, else its first.
    pub(super) fn leader(&self, ix: ProcessIx) -> Option<ThreadIx> {
        let process = self.process(ix);
        let leads = |thread: &&ThreadIx| {
            self.session
                .threads
                .get(thread.ix())
                .is_some_and(|thread| thread.id.tid == process.tgid)
        };
        process.threads.iter().find(leads).or(process.threads.first()).copied()
    }

    /// The process's parent, its parent, and so on.
    pub(super) fn ancestors(&self, ix: ProcessIx) -> impl Iterator<Item = ProcessIx> + '_ {
        let mut left = self.session.processes.len();
        std::iter::successors(self.process(ix).parent, move |ix| {
            left = left.checked_sub(1)?;
            self.process(*ix).parent
        })
    }

    /// The process and all that descends from it.
    pub(super) fn tree(&self, ix: ProcessIx) -> Vec<ProcessIx> {
        let mut found = vec![ix];
        let mut next = 0;
        while next < found.len() && found.len() <= self.session.processes.len() {
            let children = &self.process(found[next]).children;
            found.extend_from_slice(children);
            next += 1;
        }
        found
    }

    /// Processes that were ever in the cgroup.
    pub(super) fn members(&self, cgroup: u64) -> &[ProcessIx] {
        match cgroup {
            0 => &[],
            _ => self.members.get(&cgroup).map_or(&[], Vec::as_slice),
        }
    }

    /// Mounts at that target, in order of time.
    pub(super) fn mounts_at(&self, target: &[u8]) -> impl DoubleEndedIterator<Item = (usize, &Mount)> {
        self.mounts_at
            .get(target)
            .into_iter()
            .flatten()
            .map(|index| (*index, &self.mounts[*index]))
    }

    /// Mounts by that process, in order of time.
    pub(super) fn mounts_by(&self, process: ProcessIx) -> impl DoubleEndedIterator<Item = &Mount> {
        self.mounts_by
            .get(&process)
            .into_iter()
            .flatten()
            .map(|index| &self.mounts[*index])
    }

    /// Mounts of that source, in order of time.
    pub(super) fn mounts_from(&self, source: &str) -> Vec<&Mount> {
        self.mounts_from
            .get(source.as_bytes())
            .into_iter()
            .flatten()
            .map(|index| &self.mounts[*index])
            .collect()
    }

    /// The process's first exec of such a program.
    pub(super) fn exec_of(&self, process: ProcessIx, is: impl Fn(&Image) -> bool) -> Option<Exec> {
        let images = &self.process(process).images;
        let image = images.iter().position(|image| image.exec && is(image))?;
        Some(Exec {
            ts: images[image].ts,
            process,
            image,
        })
    }

    /// Umounts of that target, in order of time.
    pub(super) fn umounts_at(&self, target: &[u8]) -> impl DoubleEndedIterator<Item = &Umount> {
        self.umounts_at
            .get(target)
            .into_iter()
            .flatten()
            .map(|index| &self.umounts[*index])
    }

    /// Renames, and other calls, whose end lies in the time.
    pub(super) fn calls_between(&self, from: u64, to: u64) -> &'a [Syscall] {
        let calls = &self.session.syscalls;
        let start = calls.partition_point(|call| call.at.ts < from);
        let end = calls.partition_point(|call| call.at.ts < to);
        &calls[start..end.max(start)]
    }

    /// The process that sent a request.
    pub(super) fn sender(&self, request: &Request) -> Option<ProcessIx> {
        self.threads
            .get(&request.at.task)
            .map(|thread| self.session.threads[thread.ix()].process)
    }

    /// Execs from `from` on, in order of time.
    pub(super) fn execs_from(&self, from: u64) -> &[Exec] {
        let start = self.execs.partition_point(|exec| exec.ts < from);
        &self.execs[start..]
    }

    /// Those of the processes that lived in the span, each once.
    pub(super) fn alive(&self, processes: impl IntoIterator<Item = ProcessIx>, span: Span) -> Vec<ProcessIx> {
        let mut alive: Vec<ProcessIx> = processes
            .into_iter()
            .filter(|ix| {
                let life = self.process(*ix).span;
                life.from < span.to && life.to > span.from
            })
            .collect();
        alive.sort_unstable();
        alive.dedup();
        alive
    }

    fn mounts(&mut self, threads: &HashMap<TaskId, ThreadIx>) {
        // Mounts under construction by the newer calls: (tgid, fd) → file system type, source, begin.
        let mut building: HashMap<(u32, i64), (Text, Text, u64)> = HashMap::new();
        let session = self.session;
        let next_call = next_calls(session);
        for (index, syscall) in session
            .syscalls
            .iter()
            .enumerate()
            .filter(|(_, syscall)| syscall.result >= 0)
        {
            let begin = if syscall.enter == 0 {
                syscall.at.ts
            } else {
                syscall.enter
            };
            let span = Span {
                from: begin,
                to: syscall.at.ts,
            };
            let tgid = syscall.at.task.tgid;
            let thread = threads.get(&syscall.at.task).copied();
            let process = thread
                .map(|thread| session.threads[thread.ix()].process)
                .or_else(|| self.by_leader(syscall.at.task));
            let mut mount = |span, source: Text, target: &Text, fstype: Text| {
                let target = trim(target);
                self.mounts_at
                    .entry(target.clone())
                    .or_default()
                    .push(self.mounts.len());
                if let Some(process) = process {
                    self.mounts_by.entry(process).or_default().push(self.mounts.len());
                }
                let source = trim(&source);
                self.mounts_from
                    .entry(source.clone())
                    .or_default()
                    .push(self.mounts.len());
                self.mounts.push(Mount {
                    span,
                    process,
                    thread,
                    source,
                    target,
                    fstype,
                });
            };
            match syscall.call {
                call::MOUNT if !changes_only(syscall.args[0]) => {
                    mount(span, syscall.a.clone(), &syscall.b, syscall.c.clone());
                }
                call::UMOUNT => {
                    let target = trim(&syscall.b);
                    let work = thread.map(|thread| teardown(session, thread, span.to, next_call[index]));
                    let (end, flush) = work.unwrap_or((span.to, 0));
                    self.umounts_at
                        .entry(target.clone())
                        .or_default()
                        .push(self.umounts.len());
                    let deferred = end > span.to;
                    let span = Span { to: end, ..span };
                    self.umounts.push(Umount {
                        span,
                        deferred,
                        flush,
                        process,
                        thread,
                        target,
                    });
                }
                call::FSOPEN => {
                    building.insert((tgid, syscall.result), (syscall.c.clone(), Text::new(), begin));
                }
                call::FSCONFIG if syscall.c == b"source" => {
                    if let Some(entry) = building.get_mut(&(tgid, syscall.args[0] as i64)) {
                        entry.1 = syscall.a.clone();
                    }
                }
                call::FSMOUNT => {
                    if let Some(entry) = building.remove(&(tgid, syscall.args[0] as i64)) {
                        building.insert((tgid, syscall.result), entry);
                    }
                }
                call::MOVE_MOUNT => {
                    if let Some((fstype, source, from)) = building.remove(&(tgid, syscall.args[0] as i64)) {
                        mount(Span { from, to: span.to }, source, &syscall.b, fstype);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Whether `mount` with these flags changes a mount that is there (its flags or how it propagates) and makes none:
/// `path_mount` of `fs/namespace.c`, which looks at them in this order.
fn changes_only(flags: u64) -> bool {
    const REMOUNT: u64 = 1 << 5;
    const BIND: u64 = 1 << 12;
    /// `MS_UNBINDABLE | MS_PRIVATE | MS_SLAVE | MS_SHARED`
    const PROPAGATION: u64 = 0xf << 17;
    flags & REMOUNT != 0 || (flags & BIND == 0 && flags & PROPAGATION != 0)
}

/// Without a slash at the end.
fn trim(path: &[u8]) -> Text {
    match path {
        [b'/'] => path.to_vec(),
        _ => path.strip_suffix(b"/").unwrap_or(path).to_vec(),
    }
}

fn execs(session: &Session) -> Vec<Exec> {
    let mut execs = Vec::new();
    for (index, process) in session.processes.iter().enumerate() {
        for (image, program) in process.images.iter().enumerate() {
            if program.exec {
                execs.push(Exec {
                    ts: program.ts,
                    process: ProcessIx(index as u32),
                    image,
                });
            }
        }
    }
    execs.sort_by_key(|exec| (exec.ts, exec.process));
    execs
}

fn cgroups(session: &Session) -> HashMap<u64, CgroupLife> {
    let mut cgroups: HashMap<u64, CgroupLife> = HashMap::new();
    for event in session
        .cgroups
        .iter()
        .filter(|event| event.hierarchy == 0 && event.id != 0)
    {
        let ts = event.at.ts;
        let life = cgroups.entry(event.id).or_insert_with(|| CgroupLife {
            id: event.id,
            seen: Span { from: ts, to: ts },
            ..CgroupLife::default()
        });
        life.seen.to = ts;
        if !event.path.is_empty() {
            life.path.clone_from(&event.path);
        }
        match event.op {
            CgroupOp::Mkdir => life.made = Some(ts),
            CgroupOp::Rmdir => life.removed = Some(ts),
            CgroupOp::Release | CgroupOp::Attach(_) | CgroupOp::Populated(_) => {}
        }
    }
    cgroups
}

/// For each system call, when the same thread's next one began; `u64::MAX` for its last.
fn next_calls(session: &Session) -> Vec<u64> {
    let mut next = vec![u64::MAX; session.syscalls.len()];
    let mut later: HashMap<TaskId, u64> = HashMap::new();
    for (index, syscall) in session.syscalls.iter().enumerate().rev() {
        let begin = if syscall.enter == 0 {
            syscall.at.ts
        } else {
            syscall.enter
        };
        if let Some(ts) = later.insert(syscall.at.task, begin) {
            next[index] = ts;
        }
    }
    next
}

/// When the thread left the kernel after an umount whose system call ended at `exit`, and how long it waited meanwhile
/// for dirty data to be written.
///
/// The superblock is torn down in task work, after `sys_exit_umount` and before the return to user space
/// (`task_work_run` → `cleanup_mnt` → `generic_shutdown_super`): the end is that of the thread's last wait there
/// before `next`, its next system call that was seen.
///
/// An overlay's teardown writes back all dirty data of the file system that its upper directory lies on, whoever made it
/// dirty (`ovl_sync_fs` → `sync_filesystem`); with the mount option `volatile` it does not.
fn teardown(session: &Session, thread: ThreadIx, exit: u64, next: u64) -> (u64, u64) {
    let intervals = &session.threads[thread.ix()].intervals;
    let first = intervals.partition_point(|interval| interval.span.to <= exit);
    let (mut end, mut flush) = (exit, 0);
    for interval in &intervals[first..] {
        if interval.span.from >= next {
            break;
        }
        if let State::Blocked { stack, .. } = interval.state {
            if !passes(
                session,
                stack,
                &["cleanup_mnt", "deactivate_super", "deactivate_locked_super"],
            ) {
                break;
            }
            end = interval.span.to;
            if passes(session, stack, &["sync_filesystem"]) {
                flush += interval.span.len();
            }
        }
    }
    (end, flush)
}

/// Whether the wait's kernel stack passes through one of the functions.
fn passes(session: &Session, stack: u32, functions: &[&str]) -> bool {
    let Some(stack) = session.stacks.get(stack) else {
        return false;
    };
    stack.frames.iter().take(usize::from(stack.kernel)).any(|frame| {
        session.stacks.symbols.get(frame).is_some_and(|symbol| {
            let name = symbol.name.split(|byte| *byte == b'.').next().unwrap_or_default();
            functions.iter().any(|function| function.as_bytes() == name)
        })
    })
}

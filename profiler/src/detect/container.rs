//! Finds containers from what runtimes were asked to do, and each one's cgroup, entrypoint and root file system.

mod cgroups;
mod rootfs;

use std::collections::{HashMap, HashSet};

use self::cgroups::CgroupIndex;
pub(super) use self::rootfs::mount_by_cleanup;
use super::context::{Context, Exec};
use super::oci::{Call, Verb};
use super::{RUNTIMES, Runtime};
use crate::model::{Container, Image, OperationIx, ProcessIx, Span, ThreadIx};
use crate::recording::record::Text;

/// A runtime's process that was asked to do something to a container.
#[derive(Clone, Debug)]
pub(super) struct RuntimeCall {
    pub process: ProcessIx,
    /// From its exec to its end.
    pub span: Span,
    /// Had not ended when the recording did.
    pub open: bool,
    pub call: Call,
}

/// The container's first process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub process: ProcessIx,
    /// Its exec; the recording's start for one that ran before.
    pub ts: u64,
    /// It ran before the recording began.
    pub before: bool,
}

/// Something that belongs to a container's life and is not a runtime's call.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub span: Span,
    pub open: bool,
    pub processes: Vec<ProcessIx>,
    pub thread: Option<ThreadIx>,
    /// What it is: `exit of netavark`.
    pub end: String,
}

impl Piece {
    /// From the exec of a process to its end.
    pub(super) fn of(context: &Context<'_>, exec: Exec, what: &str) -> Piece {
        let process = context.process(exec.process);
        Piece {
            span: Span {
                from: exec.ts,
                to: process.span.to.max(exec.ts),
            },
            open: process.open,
            processes: context.tree(exec.process),
            thread: context.leader(exec.process),
            end: format!("exit of {what} (pid {})", process.tgid),
        }
    }
}

/// One run of a container, as far as it is known.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub id: Text,
    pub name: Text,
    pub image: Text,
    pub digest: Text,
    /// The command that tells whether it is healthy.
    pub healthcheck: Vec<Text>,
    pub engine: &'static str,
    pub runtime: &'static str,
    pub kind: &'static dyn Runtime,
    pub operation: Option<OperationIx>,
    /// In order of time.
    pub calls: Vec<RuntimeCall>,
    /// When the previous run of the same container began; 0 when there is none.
    pub since: u64,
    /// When the next run of the same container began; `u64::MAX` when there is none.
    pub until: u64,
    /// Its cgroup and those below it.
    pub cgroups: Vec<u64>,
    pub made: Option<u64>,
    pub removed: Option<u64>,
    pub entry: Option<Entry>,
    /// The creating runtime process and all that descends from it.
    pub tree: Vec<ProcessIx>,
    /// Where its root file system is mounted: what the runtime binds, and what that in turn is a bind of.
    pub rootfs: Vec<Text>,
    /// The overlay mount of it, into [`Context::mounts`].
    pub mount: Option<usize>,
    /// Execs with the id as one of their arguments.
    pub mentions: Vec<Exec>,
    /// Umounts of its root file system, or with the id in their path, into [`Context::umounts`].
    pub umounts: Vec<usize>,
    /// The engine's own processes for it: conmon, a shim.
    pub helpers: Vec<ProcessIx>,
    pub networks: Vec<Piece>,
    /// What is done after its end, by the engine.
    pub cleanups: Vec<Piece>,
}

impl Draft {
    fn new(id: &[u8], runtime: &'static str, kind: &'static dyn Runtime) -> Draft {
        Draft {
            id: id.to_vec(),
            name: Text::new(),
            image: Text::new(),
            digest: Text::new(),
            healthcheck: Vec::new(),
            engine: "",
            runtime,
            kind,
            operation: None,
            calls: Vec::new(),
            since: 0,
            until: u64::MAX,
            cgroups: Vec::new(),
            made: None,
            removed: None,
            entry: None,
            tree: Vec::new(),
            rootfs: Vec::new(),
            mount: None,
            mentions: Vec::new(),
            umounts: Vec::new(),
            helpers: Vec::new(),
            networks: Vec::new(),
            cleanups: Vec::new(),
        }
    }

    /// The call that created it.
    pub(super) fn create(&self) -> Option<&RuntimeCall> {
        self.calls
            .first()
            .filter(|call| matches!(call.call.verb, Verb::Create | Verb::Run))
    }

    /// The first such call.
    pub(super) fn call(&self, verb: Verb) -> Option<&RuntimeCall> {
        self.calls.iter().find(|call| call.call.verb == verb)
    }

    /// When it was first heard of.
    pub(super) fn from(&self) -> u64 {
        self.calls.first().map_or(0, |call| call.span.from)
    }

    /// Its end: that of its first process.
    pub(super) fn exit(&self, context: &Context<'_>) -> Option<u64> {
        let process = context.process(self.entry?.process);
        (!process.open).then_some(process.end())
    }

    /// Processes of the container: those of its cgroup, and all that descends from its first.
    pub(super) fn processes(&self, context: &Context<'_>) -> Vec<ProcessIx> {
        let members = self
            .cgroups
            .iter()
            .flat_map(|cgroup| context.members(*cgroup).iter().copied());
        let tree = self.entry.map(|entry| context.tree(entry.process)).unwrap_or_default();
        let mut processes: Vec<ProcessIx> = members.chain(tree).collect();
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    /// Argument vector of its entrypoint.
    pub(super) fn entry_argv<'a>(&self, context: &Context<'a>) -> &'a [Text] {
        let Some(entry) = self.entry else { return &[] };
        context
            .process(entry.process)
            .image_at(entry.ts)
            .map_or(&[], |image| &image.argv)
    }

    /// As reports see it; `phases` is the span of all its phases, if it has any.
    pub(super) fn container(&self, context: &Context<'_>, phases: Option<Span>) -> Container {
        let calls = self
            .calls
            .iter()
            .map(|call| call.span.to)
            .max()
            .unwrap_or_else(|| self.from());
        Container {
            id: self.id.clone(),
            name: self.name.clone(),
            image: self.image.clone(),
            digest: self.digest.clone(),
            engine: self.engine.to_owned(),
            runtime: self.runtime.to_owned(),
            operation: self.operation,
            cgroup: self.cgroups.first().copied().unwrap_or(0),
            entrypoint: self.entry.map(|entry| entry.process),
            rootfs: rootfs::looked_up(context, self),
            span: phases.unwrap_or(Span {
                from: self.from(),
                to: calls,
            }),
        }
    }
}

/// Every container that a runtime was asked about, in order of time.
pub(super) fn find(context: &Context<'_>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    let mut by_id: HashMap<Text, Vec<usize>> = HashMap::new();
    let mut seen: HashSet<ProcessIx> = HashSet::new();
    for exec in &context.execs {
        let image = context.image(*exec);
        let Some((kind, name, mut call)) = RUNTIMES
            .iter()
            .find_map(|runtime| Some((*runtime, runtime.name(image)?, runtime.call(image)?)))
        else {
            continue;
        };
        // A runtime may re-execute itself with the same arguments: the first counts.
        if !seen.insert(exec.process) {
            continue;
        }
        let process = context.process(exec.process);
        if call.id.is_empty() {
            let id = kind.identify(context, *exec);
            call.id = id.unwrap_or_else(|| format!("pid {}", process.tgid).into_bytes());
        }
        let creates = matches!(call.verb, Verb::Create | Verb::Run);
        let runs = by_id.entry(call.id.clone()).or_default();
        if creates || runs.is_empty() {
            let mut draft = Draft::new(&call.id, name, kind);
            if let Some(last) = runs.last() {
                drafts[*last].until = exec.ts;
                draft.since = drafts[*last].from();
            }
            runs.push(drafts.len());
            drafts.push(draft);
        }
        if let Some(draft) = runs.last().and_then(|last| drafts.get_mut(*last)) {
            let span = Span {
                from: exec.ts,
                to: process.span.to.max(exec.ts),
            };
            draft.calls.push(RuntimeCall {
                process: exec.process,
                span,
                open: process.open,
                call,
            });
        }
    }
    there_before(context, &by_id, &mut drafts);
    let cgroups = CgroupIndex::new(context);
    let mut taken: HashSet<usize> = HashSet::new();
    for draft in &mut drafts {
        if let Some(create) = draft.create() {
            draft.tree = context.tree(create.process);
        }
        cgroups::find(context, &cgroups, draft);
        find_entry(context, draft);
        rootfs::find(context, draft);
        draft.mount = draft.mount.filter(|mount| taken.insert(*mount));
    }
    find_mentions(context, &by_id, &mut drafts);
    drafts
}

/// Adds, in a recording of the whole host, the containers that were there before and of which no runtime was asked
/// anything. A recorded command's own page is not about them.
fn there_before(context: &Context<'_>, by_id: &HashMap<Text, Vec<usize>>, drafts: &mut Vec<Draft>) {
    let whole_host = context.session.begin.is_some_and(|begin| begin.command.is_none());
    let states = context.session.states.iter().filter(|state| state.pid != 0);
    for state in states.filter(|state| whole_host && !by_id.contains_key(&state.id)) {
        // Which runtime made it is not known.
        drafts.extend(RUNTIMES.first().map(|kind| Draft::new(&state.id, "", *kind)));
    }
}

/// Whether a program is the runtime's own, run again: its name says so, or its file is the runtime's.
///
/// runc and crun run copies of themselves (sealed memory files, for CVE-2019-5736), which are another file.
pub(super) fn is_own(image: &Image, runtime: Option<&Image>) -> bool {
    const COPIES: [&[u8]; 4] = [b"/dev/fd/", b"/proc/self/fd/", b"/proc/thread-self/fd/", b"memfd:"];
    image.filename == b"/proc/self/exe"
        || COPIES.iter().any(|prefix| image.filename.starts_with(prefix))
        || runtime.is_some_and(|runtime| image.exe != (0, 0) && image.exe == runtime.exe)
}

/// The entrypoint is the first program in the container that is not the runtime's own.
fn find_entry(context: &Context<'_>, draft: &mut Draft) {
    let Some(create) = draft.create().cloned() else {
        draft.entry = entry_before(context, draft);
        if let (Some(entry), true) = (draft.entry, draft.cgroups.is_empty()) {
            let cgroup = context.process(entry.process).cgroup_at(entry.ts);
            draft.cgroups.extend((cgroup != 0).then_some(cgroup));
        }
        return;
    };
    let runtime = context.process(create.process);
    let program = runtime.image_at(create.span.from);
    let mut best: Option<((bool, u64), Entry)> = None;
    for ix in draft.tree.iter().copied().filter(|ix| *ix != create.process) {
        let process = context.process(ix);
        let first = process
            .images
            .iter()
            .filter(|image| image.exec && image.ts >= create.span.from && image.ts < draft.until)
            .find(|image| !is_own(image, program));
        let Some(image) = first else { continue };
        let is_init = process.ns_pid == 1 && process.pid_ns != runtime.pid_ns;
        let inside = draft.cgroups.contains(&process.cgroup_at(image.ts));
        let without_cgroup = draft.cgroups.is_empty() && descends_from_init(context, draft.kind, ix, program);
        if !(is_init || inside || without_cgroup) {
            continue;
        }
        // Pid 1 of the namespace before anything else: hooks may run in the container's cgroup before it.
        let key = (!is_init, image.ts);
        if best.is_none_or(|(known, _)| key < known) {
            best = Some((
                key,
                Entry {
                    process: ix,
                    ts: image.ts,
                    before: false,
                },
            ));
        }
    }
    draft.entry = best.map(|(_, entry)| entry);
    if let (Some(entry), true) = (draft.entry, draft.cgroups.is_empty()) {
        // Its cgroup's birth was not seen under its id: the process itself tells, unless it shares the runtime's.
        let cgroup = context.process(entry.process).cgroup_at(entry.ts);
        if cgroup != 0 && cgroup != runtime.cgroup_at(create.span.from) {
            draft.cgroups.push(cgroup);
            draft.made = context.cgroups.get(&cgroup).and_then(|life| life.made);
            draft.removed = context.cgroups.get(&cgroup).and_then(|life| life.removed);
        }
    }
}

/// Whether a process or one of its parents, up to the creating one, ran the runtime's program again.
fn descends_from_init(context: &Context<'_>, kind: &dyn Runtime, ix: ProcessIx, runtime: Option<&Image>) -> bool {
    std::iter::once(ix).chain(context.ancestors(ix)).take(6).any(|ix| {
        let images = &context.process(ix).images;
        images
            .iter()
            .any(|image| image.exec && is_own(image, runtime) && kind.is_init(image))
    })
}

/// Pid 1 of a container that ran before the recording began.
fn entry_before(context: &Context<'_>, draft: &Draft) -> Option<Entry> {
    let members = draft
        .cgroups
        .iter()
        .flat_map(|cgroup| context.members(*cgroup).iter().copied());
    let first = members
        .filter(|ix| context.process(*ix).adopted && context.process(*ix).ns_pid == 1)
        .min()
        .or_else(|| {
            let pid = context.state(&draft.id).map_or(0, |state| state.pid);
            context.adopted(pid)
        })?;
    Some(Entry {
        process: first,
        ts: context.process(first).span.from,
        before: true,
    })
}

/// One pass over all arguments and umounted paths, for those that hold a container's id.
fn find_mentions(context: &Context<'_>, by_id: &HashMap<Text, Vec<usize>>, drafts: &mut [Draft]) {
    // The run of the id that began last before `ts`, or its first.
    let run = |drafts: &[Draft], id: &[u8], ts: u64| -> Option<usize> {
        let runs = by_id.get(id)?;
        let next = runs.partition_point(|run| drafts[*run].from() <= ts);
        runs.get(next.saturating_sub(1)).copied()
    };
    for exec in &context.execs {
        let mut last = None;
        for argument in &context.image(*exec).argv {
            // What comes after a run is its; helpers that start before their runtime are found by descent instead.
            let Some(runs) = by_id.get(argument) else { continue };
            let next = runs.partition_point(|run| drafts[*run].until <= exec.ts);
            let Some(index) = runs.get(next).copied() else { continue };
            if last != Some(index) {
                drafts[index].mentions.push(*exec);
            }
            last = Some(index);
        }
    }
    let mut by_rootfs: HashMap<Text, Vec<usize>> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        for path in &draft.rootfs {
            by_rootfs.entry(path.clone()).or_default().push(index);
        }
    }
    for (index, umount) in context.umounts.iter().enumerate() {
        let ts = umount.span.from;
        let by_part = umount
            .target
            .split(|byte| *byte == b'/')
            .find_map(|part| run(drafts, part, ts));
        let by_path = by_rootfs.get(&umount.target).and_then(|runs| {
            let next = runs.partition_point(|run| drafts[*run].from() <= ts);
            runs.get(next.checked_sub(1)?).copied()
        });
        if let Some(draft) = by_path.or(by_part) {
            drafts[draft].umounts.push(index);
        }
    }
}

/// Name and image from the engine's state files, where they were looked up.
pub(super) fn name_by_lookup(context: &Context<'_>, draft: &mut Draft) {
    if let Some(state) = context.state(&draft.id) {
        for (known, told) in [(&mut draft.name, &state.name), (&mut draft.digest, &state.digest)] {
            if !told.is_empty() {
                known.clone_from(told);
            }
        }
        draft.healthcheck.clone_from(&state.healthcheck);
        // Of a container that was there before, no process of the engine may have been seen.
        if draft.engine.is_empty() {
            const ENGINES: [&str; 4] = ["podman", "docker", "containerd", "cri-o"];
            let known = ENGINES.into_iter().find(|engine| *engine == state.engine);
            draft.engine = known.unwrap_or_default();
        }
    }
    let Some((name, image)) = context.looked_up(&draft.id) else {
        return;
    };
    if !name.is_empty() {
        draft.name = name.to_vec();
    }
    if !image.is_empty() {
        draft.image = image.to_vec();
    }
}

/// The image as the engine's files call it, where no command line says how it was asked for.
pub(super) fn image_by_lookup(context: &Context<'_>, draft: &mut Draft) {
    if let (true, Some(state)) = (draft.image.is_empty(), context.state(&draft.id)) {
        draft.image.clone_from(&state.image);
    }
}

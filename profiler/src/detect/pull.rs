//! Pulls: what an engine fetched from a registry, unpacked and put in place.
//!
//! ```text
//! exchanges ──▶ fetch: manifests, blobs ──▶ pulls ◀── unpack: storage.rs, docker.rs, containerd.rs
//!                                             │       (children or files; layers by the engine's state files)
//!                                             ▼
//!                    pull ─┬─ download, one per blob: first byte asked for to last byte read
//!                          ├─ unpack, one per layer
//!                          └─ commit: from the last of these to the last file that is put in place
//! ```
//!
//! Layers are told apart by digest, never by time: a request names the blob it asks for, state files join blob and
//! folder. Where the connection is encrypted a blob is known by its size. See `docs/design/0014`.

mod containerd;
mod docker;
mod fetch;
mod storage;

use std::collections::HashMap;

use self::fetch::{Fetch, What};
use super::context::Context;
use super::operation::{self, Requests};
use crate::model::{OperationIx, Phase, PhaseIx, PhaseKind, ProcessIx, Span, ThreadIx};
use crate::recording::record::{Layer, TaskId, Text};

/// The unpacking of one layer.
#[derive(Clone, Debug)]
struct Unpack {
    span: Span,
    open: bool,
    /// The layer as the engine calls it: a folder's name.
    layer: Text,
    /// The blob that it came as, where that is known.
    blob: Text,
    bytes: Option<u64>,
    main: Option<ThreadIx>,
    processes: Vec<ProcessIx>,
    evidence: (String, String),
}

/// What came of one image being asked for.
#[derive(Clone, Debug)]
struct Pull {
    operation: Option<OperationIx>,
    /// Who fetched.
    process: ProcessIx,
    /// `registry/name:tag`, as far as it is known.
    reference: Text,
    /// `sha256:…` of the manifest; empty when it is not known.
    digest: Text,
    /// When its first connection was asked for.
    began: u64,
    fetches: Vec<Fetch>,
    unpacks: Vec<Unpack>,
    /// When the last file was put in place, and what tells.
    committed: Option<(u64, &'static str)>,
}

impl Pull {
    /// Of one fetch at least.
    fn new(process: ProcessIx, began: Option<u64>, fetches: Vec<Fetch>) -> Pull {
        let first = fetches.iter().map(|fetch| fetch.span.from).min();
        Pull {
            operation: None,
            process,
            reference: Text::new(),
            digest: Text::new(),
            began: began.into_iter().chain(first).min().unwrap_or(0),
            fetches,
            unpacks: Vec::new(),
            committed: None,
        }
    }

    fn from(&self) -> u64 {
        self.began
    }

    /// End of the last download and unpacking.
    fn moved(&self) -> u64 {
        let fetched = self.fetches.iter().map(|fetch| fetch.span.to);
        let unpacked = self.unpacks.iter().map(|unpack| unpack.span.to);
        fetched.chain(unpacked).max().unwrap_or(0)
    }

    fn has_blob(&self, digest: &[u8]) -> bool {
        !digest.is_empty() && self.fetches.iter().any(|fetch| fetch.is_blob(digest))
    }

    /// The repository that its requests name.
    fn repository(&self) -> &[u8] {
        let named = self.fetches.iter().map(|fetch| fetch.repository.as_slice());
        named.max_by_key(|name| name.len()).unwrap_or_default()
    }
}

/// What state files tell, indexed.
struct Store<'a> {
    /// By folder.
    by_id: HashMap<&'a [u8], Vec<&'a Layer>>,
    by_blob: HashMap<&'a [u8], Vec<&'a Layer>>,
    by_diff: HashMap<&'a [u8], Vec<&'a Layer>>,
}

impl<'a> Store<'a> {
    fn new(context: &Context<'a>) -> Store<'a> {
        let mut store = Store {
            by_id: HashMap::new(),
            by_blob: HashMap::new(),
            by_diff: HashMap::new(),
        };
        for layer in &context.session.layers {
            for (index, key) in [
                (&mut store.by_id, &layer.id),
                (&mut store.by_blob, &layer.blob),
                (&mut store.by_diff, &layer.diff),
            ] {
                if !key.is_empty() {
                    index.entry(key.as_slice()).or_default().push(layer);
                }
            }
        }
        store
    }

    /// Every record of the layer in that folder, and of its contents.
    fn of_folder(&self, id: &[u8]) -> Vec<&'a Layer> {
        let mut found = self.by_id.get(id).cloned().unwrap_or_default();
        let diffs: Vec<&[u8]> = found.iter().map(|layer| layer.diff.as_slice()).collect();
        for diff in diffs {
            found.extend(self.by_diff.get(diff).into_iter().flatten());
        }
        found
    }

    /// The blobs that the layer in that folder may have come as.
    fn blobs_of(&self, id: &[u8]) -> impl Iterator<Item = &'a Text> {
        let layers = self.of_folder(id).into_iter();
        layers.map(|layer| &layer.blob).filter(|blob| !blob.is_empty())
    }

    /// Size of a blob.
    fn blob_bytes(&self, blob: &[u8]) -> Option<u64> {
        let layers = self.by_blob.get(blob)?;
        layers.iter().find_map(|layer| layer.blob_bytes)
    }

    /// Size of what a blob holds.
    fn contents_of(&self, blob: &[u8]) -> Option<u64> {
        let layers = self.by_blob.get(blob)?;
        layers.iter().find_map(|layer| layer.diff_bytes)
    }
}

/// Threads by their id, with the process they belong to.
type Threads = HashMap<TaskId, (ThreadIx, ProcessIx)>;

fn threads(context: &Context<'_>) -> Threads {
    let threads = context.session.threads.iter().enumerate();
    threads
        .map(|(index, thread)| (thread.id, (ThreadIx(index as u32), thread.process)))
        .collect()
}

/// Adds the phases of every pull; those of a build's base images hang below the step that asked for them.
pub(super) fn phases(context: &Context<'_>, requests: &Requests, phases: &mut Vec<Phase>) {
    let threads = threads(context);
    let store = Store::new(context);
    let mut pulls = grouped(context, fetch::find(context, &threads, &store));
    for pull in &mut pulls {
        let client = operation::of_process(context, requests, pull.process);
        pull.operation = client.filter(|client| requests[client.ix()].command.is_some());
    }
    storage::complete(context, &store, requests, &mut pulls);
    docker::complete(context, &store, requests, &mut pulls);
    containerd::complete(context, &threads, &store, requests, &mut pulls);
    for mut pull in pulls {
        if pull.digest.is_empty() {
            pull.digest = asked_by_digest(&pull);
        }
        if pull.unpacks.is_empty() && !pull.fetches.iter().any(Fetch::is_content) {
            continue;
        }
        push(context, &store, &pull, phases);
    }
}

/// Fetches of one process from one repository are one pull, until an image was put in place and the next manifest is
/// asked for. What names no repository (a ping, a token, an encrypted connection) belongs to the next that does, or all
/// such to one pull.
fn grouped(context: &Context<'_>, fetches: Vec<Fetch>) -> Vec<Pull> {
    let mut pulls: Vec<Pull> = Vec::new();
    let mut nameless: HashMap<ProcessIx, Vec<Fetch>> = HashMap::new();
    for fetch in fetches {
        if fetch.repository.is_empty() {
            nameless.entry(fetch.process).or_default().push(fetch);
            continue;
        }
        let known = pulls.iter_mut().rev().find(|pull| {
            pull.process == fetch.process
                && pull.repository() == fetch.repository
                && !(matches!(fetch.what, What::Manifest(_)) && placed(context, pull, fetch.span.from))
        });
        match known {
            Some(pull) => pull.fetches.push(fetch),
            None => {
                // A connection that was asked for, pinged and given a token is the beginning of what follows.
                let before = nameless.get_mut(&fetch.process).into_iter();
                let before = before.flat_map(|before| before.extract_if(.., |other| !other.is_content()));
                let began = before.map(|other| other.span.from).min();
                pulls.push(Pull::new(fetch.process, began, vec![fetch]));
            }
        }
    }
    for (process, fetches) in nameless {
        // One that sent much and was sent nothing pushes.
        if fetches.iter().any(Fetch::is_content) {
            pulls.push(Pull::new(process, None, fetches));
        }
    }
    pulls.sort_by_key(|pull| (pull.from(), pull.process));
    pulls
}

/// The manifest that was asked for by its digest, last: of an image for several machines the one for this.
fn asked_by_digest(pull: &Pull) -> Text {
    let asked = pull.fetches.iter().rev().find_map(|fetch| match &fetch.what {
        What::Manifest(reference) if reference.starts_with(b"sha256:") => Some(reference.clone()),
        _ => None,
    });
    asked.unwrap_or_default()
}

/// What its requests name: `repository:tag`, at the address that they went to.
fn fetch_name(pull: &Pull) -> Text {
    let named = pull.fetches.iter().find_map(|fetch| match &fetch.what {
        What::Manifest(reference) => Some((fetch, reference)),
        _ => None,
    });
    let Some((fetch, reference)) = named else {
        return Text::new();
    };
    let separator: &[u8] = if reference.starts_with(b"sha256:") { b"@" } else { b":" };
    [fetch.peer().as_bytes(), b"/", &fetch.repository, separator, reference].concat()
}

/// Whether the pull's process has put an image in place between the pull's last blob and `before`.
fn placed(context: &Context<'_>, pull: &Pull, before: u64) -> bool {
    let process = context.process(pull.process);
    let renames = context.calls_between(pull.moved(), before);
    renames
        .iter()
        .any(|call| call.at.task.tgid == process.tgid && is_image_file(&call.b))
}

/// The files in which engines keep which images there are.
fn is_image_file(path: &[u8]) -> bool {
    path.ends_with(b"-images/images.json") || path.ends_with(b"/repositories.json")
}

fn push(context: &Context<'_>, store: &Store<'_>, pull: &Pull, phases: &mut Vec<Phase>) {
    let moved = pull.moved();
    let (to, end) = match pull.committed {
        Some((committed, what)) => (committed.max(moved), what),
        None => (moved, "last byte of its layers"),
    };
    let span = Span { from: pull.from(), to };
    let mut label = pull.reference.clone();
    if !pull.digest.is_empty() && !label.windows(8).any(|part| part == b"@sha256:") {
        label.push(b'@');
        label.extend_from_slice(&pull.digest);
    }
    let trees = pull.unpacks.iter().flat_map(|unpack| unpack.processes.iter().copied());
    let mut everyone: Vec<ProcessIx> = trees.chain([pull.process]).collect();
    everyone.sort_unstable();
    everyone.dedup();
    let open = pull.fetches.iter().any(|fetch| fetch.open) || pull.unpacks.iter().any(|unpack| unpack.open);
    let step = phases.iter().position(|phase| {
        phase.kind == PhaseKind::Step && phase.operation == pull.operation && phase.span.contains(span.from)
    });
    let mut add = |kind, label: Text, span: Span, open, main, processes, bytes, evidence| {
        phases.push(Phase {
            kind,
            label,
            span,
            open,
            parent: step.map(|step| PhaseIx(step as u32)),
            operation: pull.operation,
            container: None,
            main,
            processes: context.alive(processes, span),
            bytes,
            evidence,
        });
        PhaseIx((phases.len() - 1) as u32)
    };
    let leader = context.leader(pull.process);
    let pid = context.process(pull.process).tgid;
    let begin = format!("first connection or request to the registry by pid {pid}");
    let whole = add(
        PhaseKind::Pull,
        label,
        span,
        open,
        leader,
        everyone,
        None,
        (begin, end.to_owned()),
    );
    let first = phases.len();
    let mut child = |kind, label, span, open, main, processes, bytes, evidence| {
        phases.push(Phase {
            kind,
            label,
            span,
            open,
            parent: Some(whole),
            operation: pull.operation,
            container: None,
            main,
            processes: context.alive(processes, span),
            bytes,
            evidence,
        });
    };
    for fetch in pull.fetches.iter().filter(|fetch| fetch.is_layer(context)) {
        let peer = fetch.peer();
        child(
            PhaseKind::Download,
            fetch.blob.clone(),
            fetch.span,
            fetch.open,
            None,
            vec![fetch.process],
            Some(fetch.size(store)),
            (
                format!("request to {peer} by pid {pid}"),
                "last byte read of its answer".to_owned(),
            ),
        );
    }
    for unpack in &pull.unpacks {
        let label = if unpack.blob.is_empty() {
            unpack.layer.clone()
        } else {
            unpack.blob.clone()
        };
        child(
            PhaseKind::Unpack,
            label,
            unpack.span,
            unpack.open,
            unpack.main,
            unpack.processes.clone(),
            unpack.bytes,
            unpack.evidence.clone(),
        );
    }
    if let Some((to, what)) = pull.committed.filter(|(to, _)| *to > moved) {
        child(
            PhaseKind::Commit,
            Text::new(),
            Span { from: moved, to },
            false,
            None,
            vec![pull.process],
            None,
            ("last byte of its layers".to_owned(), what.to_owned()),
        );
    }
    debug_assert!(first > whole.ix());
}

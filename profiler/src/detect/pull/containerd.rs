//! containerd's own client (`ctr image pull`): the client fetches, and hands the blobs to containerd, which unpacks them
//! in its own process. What shows are the client's calls and the files that containerd puts in place:
//!
//! ```text
//! client: Prepare ─▶ rename snapshots/new-… → snapshots/N
//! client: Apply(digest of the blob, mounts of snapshots/N) ─▶  … unpacking …  ─▶ answer (digest of its contents)
//! client: Commit ─▶ sync metadata.db
//! ```
//!
//! So a layer is unpacked from the call that names its blob and the folder, to the answer, which names something else.
//! Other calls that name a blob alone (the client writes it, asks for its size) name no folder. Measured on containerd 1.6.

use std::collections::HashSet;

use profiler_common::container::call;

use super::{Pull, Store, Threads, Unpack};
use crate::detect::context::Context;
use crate::detect::operation::Requests;
use crate::model::{ProcessIx, Span, ThreadIx};
use crate::recording::record::{Request, Syscall, Text};

/// A folder that was prepared for a layer.
struct Snapshot {
    /// Its number.
    name: Text,
    process: ProcessIx,
    thread: ThreadIx,
    tgid: u32,
    made: u64,
}

/// Adds what containerd unpacked to the pulls of its clients, and when their images were there.
pub(super) fn complete(
    context: &Context<'_>,
    threads: &Threads,
    store: &Store<'_>,
    requests: &Requests,
    pulls: &mut [Pull],
) {
    let sent = &context.session.requests;
    let mut used: HashSet<usize> = HashSet::new();
    for snapshot in snapshots(context, threads) {
        let after = sent.partition_point(|request| request.at.ts <= snapshot.made);
        let applied = (after..sent.len())
            .filter(|index| !used.contains(index))
            .find_map(|index| {
                let request = sent.get(index).filter(|request| request.peer == snapshot.tgid)?;
                folder(request).filter(|folder| **folder == snapshot.name)?;
                let client = context.sender(request)?;
                // What else went out together with the call comes before it or after its folders; what its annotations
                // name is no blob of the pull.
                let before = request.query.iter().rev().skip_while(|(key, _)| key != b"snapshot");
                let (blob, pull) = before.filter(|(key, _)| key == b"digest").find_map(|(_, blob)| {
                    let of = |pull: &Pull| pull.process == client && pull.has_blob(blob);
                    Some((blob, pulls.iter().position(of)?))
                })?;
                let again = pulls[pull].unpacks.iter().any(|unpack| unpack.blob == *blob);
                (!again).then(|| (index, pull, blob.clone()))
            });
        let Some((index, pull, blob)) = applied else { continue };
        used.insert(index);
        let client = sent[index].at.task.tgid;
        let answer = sent[index..].iter().find(|answer| {
            let to_client = answer.peer == client && answer.at.task.tgid == snapshot.tgid;
            to_client && digests(answer).next().is_some() && digests(answer).all(|digest| !pulls[pull].has_blob(digest))
        });
        let from = sent[index].at.ts;
        let to = answer.map_or(context.session.span.to, |answer| answer.at.ts);
        pulls[pull].unpacks.push(Unpack {
            span: Span { from, to: to.max(from) },
            open: answer.is_none(),
            layer: snapshot.name.clone(),
            bytes: store.contents_of(&blob),
            blob,
            main: Some(snapshot.thread),
            processes: vec![snapshot.process],
            evidence: (
                format!(
                    "call of pid {client} to apply it to snapshot {}",
                    String::from_utf8_lossy(&snapshot.name)
                ),
                "its answer".to_owned(),
            ),
        });
    }
    for pull in pulls.iter_mut() {
        name(context, requests, pull);
        commit(context, pull);
    }
}

fn digests(request: &Request) -> impl Iterator<Item = &Text> {
    let named = request.query.iter().filter(|(key, _)| key == b"digest");
    named.map(|(_, digest)| digest)
}

/// The folder that a call works on.
fn folder(request: &Request) -> Option<&Text> {
    let mut named = request.query.iter().filter(|(key, _)| key == b"snapshot");
    named.next().map(|(_, folder)| folder)
}

fn snapshots(context: &Context<'_>, threads: &Threads) -> Vec<Snapshot> {
    let calls = context.session.syscalls.iter().filter(|call| call.result == 0);
    calls
        .filter_map(|made| {
            let (thread, process) = threads.get(&made.at.task).copied()?;
            Some(Snapshot {
                name: snapshot_of(made)?,
                process,
                thread,
                tgid: made.at.task.tgid,
                made: made.at.ts,
            })
        })
        .collect()
}

/// The number of the folder that a rename gives its place.
fn snapshot_of(call: &Syscall) -> Option<Text> {
    if call.call != call::RENAME {
        return None;
    }
    let mut to = call.b.rsplit(|byte| *byte == b'/');
    let (name, folder) = (to.next()?, to.next()?);
    let from = call.a.rsplit(|byte| *byte == b'/').next()?;
    (folder == b"snapshots" && from.starts_with(b"new-") && !name.is_empty()).then(|| name.to_vec())
}

/// Reference from the command line, digest from the manifest that was asked for or stored.
fn name(context: &Context<'_>, requests: &Requests, pull: &mut Pull) {
    let command = pull
        .operation
        .and_then(|operation| requests[operation.ix()].command.as_ref());
    let Some(command) = command.filter(|command| matches!(command.tool, "ctr" | "nerdctl")) else {
        return;
    };
    if let Some(word) = command.args.first() {
        pull.reference.clone_from(word);
    }
    let mut stored = context
        .session
        .images
        .iter()
        .filter(|image| image.engine == "containerd");
    let image = stored.rfind(|image| image.layers.iter().any(|layer| pull.has_blob(layer)));
    if let Some(image) = image {
        pull.digest.clone_from(&image.digest);
    }
}

/// The image is there with containerd's last transaction before its client's end.
fn commit(context: &Context<'_>, pull: &mut Pull) {
    let Some(unpack) = pull.unpacks.last() else { return };
    let Some(daemon) = unpack.processes.first().map(|daemon| context.process(*daemon).tgid) else {
        return;
    };
    let client = context.process(pull.process);
    if client.open || daemon == client.tgid || !unpack.evidence.0.starts_with("call of pid") {
        return;
    }
    let calls = context.session.syscalls.iter();
    let last = calls
        .filter(|call| call.at.task.tgid == daemon && call.call == call::SYNC && call.a == b"meta.db")
        .rfind(|call| (pull.moved()..client.span.to).contains(&call.at.ts));
    if let Some(call) = last {
        pull.committed = Some((call.at.ts, "last sync of meta.db before the client's end"));
    }
}

//! containerd's own client (`ctr image pull`): the client fetches, and hands the blobs to containerd, which unpacks them
//! in its own process. What shows are the files it puts in place:
//!
//! ```text
//! client: Prepare ─▶ rename snapshots/new-… → snapshots/N ─▶ sync metadata.db (twice: a bolt transaction)
//! client: Apply(digest) ─▶                                    … unpacking …
//! client: Commit ─▶ sync metadata.db (twice)
//! ```
//!
//! So a layer is unpacked from the end of the transaction that prepared its folder to the beginning of the next, and the
//! digest in the client's call in between tells whose layer it is. Measured on containerd 1.6.

use std::collections::HashSet;

use profiler_common::container::call;

use super::{Pull, Store, Threads, Unpack};
use crate::detect::context::Context;
use crate::detect::operation::Requests;
use crate::model::{ProcessIx, Span, ThreadIx};
use crate::recording::record::{Syscall, Text};

/// A folder that was prepared for a layer.
struct Snapshot {
    /// Its number.
    name: Text,
    process: ProcessIx,
    thread: ThreadIx,
    tgid: u32,
    span: Span,
    open: bool,
}

/// Adds what containerd unpacked to the pulls of its clients, and when their images were there.
pub(super) fn complete(
    context: &Context<'_>,
    threads: &Threads,
    store: &Store<'_>,
    requests: &Requests,
    pulls: &mut [Pull],
) {
    let snapshots = snapshots(context, threads);
    // The calls that name a blob, in order of time, each for one folder.
    let mut used: HashSet<usize> = HashSet::new();
    for snapshot in &snapshots {
        let sent = context.session.requests.iter().enumerate();
        let mut calls = sent.filter(|(index, request)| {
            request.peer == snapshot.tgid && snapshot.span.contains(request.at.ts) && !used.contains(index)
        });
        let found = calls.find_map(|(index, request)| {
            let process = context.sender(request)?;
            let digests = request.query.iter().filter(|(key, _)| key == b"digest");
            digests.into_iter().find_map(|(_, digest)| {
                let pull = pulls
                    .iter()
                    .position(|pull| pull.process == process && pull.has_blob(digest))?;
                let again = pulls[pull].unpacks.iter().any(|unpack| unpack.blob == *digest);
                (!again).then(|| (index, pull, digest.clone()))
            })
        });
        let Some((index, pull, blob)) = found else { continue };
        used.insert(index);
        pulls[pull].unpacks.push(Unpack {
            span: snapshot.span,
            open: snapshot.open,
            layer: snapshot.name.clone(),
            bytes: store.contents_of(&blob),
            blob,
            main: Some(snapshot.thread),
            processes: vec![snapshot.process],
            evidence: (
                format!("snapshot {} prepared", String::from_utf8_lossy(&snapshot.name)),
                "sync of metadata.db for its commit".to_owned(),
            ),
        });
    }
    for pull in pulls.iter_mut() {
        name(context, requests, pull);
        commit(context, pull);
    }
}

fn snapshots(context: &Context<'_>, threads: &Threads) -> Vec<Snapshot> {
    let calls: Vec<&Syscall> = context
        .session
        .syscalls
        .iter()
        .filter(|call| call.result == 0 && call::of_engines(call.call))
        .collect();
    let mut found = Vec::new();
    for (index, made) in calls.iter().enumerate() {
        let Some(name) = snapshot_of(made) else { continue };
        let Some((thread, process)) = threads.get(&made.at.task).copied() else {
            continue;
        };
        let tgid = made.at.task.tgid;
        // Transactions of the snapshotter, one at a time: those of the same thread are this call's.
        let later = &calls[index + 1..];
        let of_thread = later
            .iter()
            .filter(|call| call.at.task == made.at.task && is_transaction(call))
            .take(2);
        let prepared = of_thread.last().map_or(made.at.ts, |call| call.at.ts);
        // The next transaction of the process that is no other folder's preparation.
        let mut preparing: HashSet<u32> = HashSet::new();
        let mut committed = None;
        let mut skipped: Vec<(u32, u32)> = Vec::new();
        for call in later
            .iter()
            .filter(|call| call.at.task.tgid == tgid && call.at.ts > prepared)
        {
            let tid = call.at.task.tid;
            if snapshot_of(call).is_some() {
                preparing.insert(tid);
                skipped.retain(|(known, _)| *known != tid);
                skipped.push((tid, 2));
                continue;
            }
            if !is_transaction(call) {
                continue;
            }
            if let Some((_, left)) = skipped.iter_mut().find(|(known, left)| *known == tid && *left > 0) {
                *left -= 1;
                continue;
            }
            committed = Some(call.enter.max(prepared));
            break;
        }
        found.push(Snapshot {
            name,
            process,
            thread,
            tgid,
            span: Span {
                from: prepared,
                to: committed.unwrap_or(context.session.span.to).max(prepared),
            },
            open: committed.is_none(),
        });
    }
    found
}

/// The number of the folder that a rename gives its place.
fn snapshot_of(call: &Syscall) -> Option<Text> {
    if call.call != call::RENAME {
        return None;
    }
    let last = |path: &[u8]| -> Option<(Text, Text)> {
        let mut parts = path.rsplit(|byte| *byte == b'/');
        let name = parts.next()?.to_vec();
        Some((name, parts.next()?.to_vec()))
    };
    let ((from, _), (to, folder)) = (last(&call.a)?, last(&call.b)?);
    (folder == b"snapshots" && from.starts_with(b"new-") && !to.is_empty()).then_some(to)
}

fn is_transaction(call: &Syscall) -> bool {
    call.call == call::SYNC && call.a == b"metadata.db"
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
    let stored = context
        .session
        .images
        .iter()
        .filter(|image| image.engine == "containerd");
    let image = stored
        .filter(|image| image.layers.iter().any(|layer| pull.has_blob(layer)))
        .last();
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
    if client.open || daemon == client.tgid || !unpack.evidence.0.starts_with("snapshot") {
        return;
    }
    let calls = context.session.syscalls.iter();
    let last = calls
        .filter(|call| call.at.task.tgid == daemon && call.call == call::SYNC && call.a == b"meta.db")
        .filter(|call| (pull.moved()..client.span.to).contains(&call.at.ts))
        .last();
    if let Some(call) = last {
        pull.committed = Some((call.at.ts, "last sync of meta.db before the client's end"));
    }
}

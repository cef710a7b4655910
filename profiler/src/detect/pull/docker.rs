//! docker: dockerd fetches, children called `docker-untar` unpack; the last argument is the layer's folder,
//! `ROOT/overlay2/CACHE-ID/diff`. The client that asked is another process: its request names the image.

use super::storage::{holds, owner, untar};
use super::{Pull, Store, Unpack};
use crate::detect::context::Context;
use crate::detect::instruction;
use crate::detect::operation::{self, Requests};
use crate::model::OperationIx;
use crate::recording::record::{Request, Text};

const ENGINE: &str = "docker";

/// Adds what was unpacked to the pulls of dockerd, when their images were there, and who asked for them.
pub(super) fn complete(context: &Context<'_>, store: &Store<'_>, requests: &Requests, pulls: &mut [Pull]) {
    for exec in &context.execs {
        let Some((layer, unpack)) = untar(context, *exec, b"docker-untar") else {
            continue;
        };
        let Some(parent) = context.process(exec.process).parent else {
            continue;
        };
        let Some(index) = owner(context, store, pulls, parent, &layer, exec.ts) else {
            continue;
        };
        let pull = &mut pulls[index];
        let blob = store.blobs_of(&layer).find(|blob| pull.has_blob(blob)).cloned();
        // As docker counts it: the sizes of its files.
        let bytes = store.of_folder(&layer).iter().find_map(|layer| layer.diff_bytes);
        pull.unpacks.push(Unpack {
            blob: blob.unwrap_or_default(),
            bytes: bytes.or(unpack.bytes),
            ..unpack
        });
    }
    for pull in pulls.iter_mut().filter(|pull| is_daemon(context, pull)) {
        commit(context, pull);
        match asked(context, requests, pull) {
            Some((operation, reference)) => {
                pull.operation = operation.or(pull.operation);
                pull.reference = reference;
            }
            None => {
                pull.operation = pull.operation.or_else(|| built(context, requests, pull));
                pull.reference = super::fetch_name(pull);
            }
        }
        let mut stored = context.session.images.iter().filter(|image| image.engine == ENGINE);
        let image = stored.rfind(|image| image.names.contains(&pull.reference) && !image.digest.is_empty());
        if let Some(image) = image {
            pull.digest.clone_from(&image.digest);
        }
    }
}

fn is_daemon(context: &Context<'_>, pull: &Pull) -> bool {
    let images = &context.process(pull.process).images;
    images.iter().any(|image| {
        let name = image.argv.first().unwrap_or(&image.filename);
        matches!(crate::detect::cli::base(name), b"dockerd" | b"dockerd-ce")
    })
}

/// The image is there when its name is: with the first change of `repositories.json` after its last layer.
fn commit(context: &Context<'_>, pull: &mut Pull) {
    let tgid = context.process(pull.process).tgid;
    let renames = context.calls_between(pull.moved(), u64::MAX);
    let found = renames
        .iter()
        .find(|call| call.at.task.tgid == tgid && call.result == 0 && call.b.ends_with(b"/repositories.json"));
    if let Some(call) = found {
        pull.committed = Some((call.at.ts, "its name in repositories.json"));
    }
}

fn is_pull(request: &Request) -> bool {
    request.method == b"POST" && request.path.ends_with(b"/images/create")
}

/// `registry/name:tag` of a request to pull.
fn reference(request: &Request) -> Text {
    let word = |key: &[u8]| {
        request
            .query
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_slice())
    };
    let (name, tag) = (word(b"fromImage").unwrap_or_default(), word(b"tag").unwrap_or_default());
    let separator: &[u8] = if tag.starts_with(b"sha256:") { b"@" } else { b":" };
    match tag {
        [] => name.to_vec(),
        tag => [name, separator, tag].concat(),
    }
}

/// The request that asked this daemon for an image of the pull's repository: the last before the first fetch. Where
/// requests to the registry can't be read, the only one whose client was still waiting.
fn asked(context: &Context<'_>, requests: &Requests, pull: &Pull) -> Option<(Option<OperationIx>, Text)> {
    let tgid = context.process(pull.process).tgid;
    let from = pull.fetches.iter().map(|fetch| fetch.span.to).min().unwrap_or(0);
    let repository = pull.repository();
    let sent = context.session.requests.iter();
    let mut found = sent.rev().filter(|request| {
        let matches = repository.is_empty() || holds(&reference(request), repository);
        is_pull(request) && request.peer == tgid && request.at.ts <= from && matches
    });
    let operation = |request: &Request| {
        let process = context.sender(request)?;
        operation::of_process(context, requests, process)
    };
    let first = found.next()?;
    if repository.is_empty() {
        let waits = |request: &Request| operation(request).is_some_and(|ix| requests[ix.ix()].alive(pull.from()));
        if !waits(first) || found.any(waits) {
            return None;
        }
    }
    Some((operation(first), reference(first)))
}

/// The only build whose file begins from an image of the pull's repository.
fn built(context: &Context<'_>, requests: &Requests, pull: &Pull) -> Option<OperationIx> {
    let repository = pull.repository();
    let mut found = requests.iter().enumerate().filter(|(_, request)| {
        request.action() == "build"
            && request.alive(pull.from())
            && instruction::of_build(context, request.operation.process, true)
                .iter()
                .filter_map(|step| step.base())
                .any(|base| holds(base, repository))
    });
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Some(OperationIx(index as u32)),
        _ => None,
    }
}

//! Who asked an engine for what, by the requests that were seen: docker's and podman's interface over HTTP, containerd's
//! by the ids in its messages.
//!
//! A request names a container by its id, or as its client's user typed it: by name or the beginning of the id. It is
//! the sender's own process that counts, so clients that do the same at the same time are told apart.

use super::container::{Draft, RuntimeCall};
use super::context::Context;
use super::operation::{self, Requests};
use crate::model::OperationIx;
use crate::recording::record::Request;

/// The operation of whoever sent the last request before `ts` to do one of `actions` to this run of the container.
pub(super) fn for_container(
    context: &Context<'_>,
    requests: &Requests,
    draft: &Draft,
    ts: u64,
    actions: &[&str],
) -> Option<OperationIx> {
    let found = before(context, ts)
        .rev()
        .take_while(|request| request.at.ts >= draft.since);
    let mut found = found.filter(|request| {
        let Some((container, action)) = of_container(request) else {
            return false;
        };
        actions.iter().any(|wanted| wanted.as_bytes() == action) && names(draft, container)
    });
    sender(context, requests, found.next()?)
}

/// The operation of whoever started an exec session: the runtime is given a file named by the session's id.
pub(super) fn for_exec(
    context: &Context<'_>,
    requests: &Requests,
    draft: &Draft,
    call: &RuntimeCall,
) -> Option<OperationIx> {
    let image = context.process(call.process).image_at(call.span.from)?;
    let found = before(context, call.span.from)
        .rev()
        .take_while(|request| request.at.ts >= draft.since);
    let mut found = found.filter(|request| {
        let Some(id) = part_after(&request.path, b"/exec/") else {
            return false;
        };
        let named = |word: &[u8]| word.windows(id.len()).any(|part| part == id);
        id.len() >= 12 && request.path.ends_with(b"/start") && image.argv.iter().any(|word| named(word))
    });
    sender(context, requests, found.next()?)
}

/// The operation of whoever sent containerd the last message with the container's id, other than a daemon.
pub(super) fn by_frames(context: &Context<'_>, requests: &Requests, draft: &Draft, ts: u64) -> Option<OperationIx> {
    let sent = before(context, ts)
        .rev()
        .take_while(|request| request.at.ts >= draft.since);
    let mut named = sent.filter(|request| {
        let ids = request.query.iter().filter(|(key, _)| key == b"id");
        ids.into_iter().any(|(_, id)| *id == draft.id)
    });
    named.find_map(|request| sender(context, requests, request))
}

/// Whether a request asks an engine to do something, as opposed to tell something.
pub(super) fn is_work(request: &Request) -> bool {
    const SUBJECTS: [&[u8]; 6] = [
        b"/containers/",
        b"/images/",
        b"/exec/",
        b"/build",
        b"/pods/",
        b"/commit",
    ];
    let changes = request.method == b"POST" || request.method == b"DELETE";
    let engine = request.peer != 0 && request.path.starts_with(b"/v");
    let subject = |subject: &[u8]| request.path.windows(subject.len()).any(|part| part == subject);
    changes && engine && SUBJECTS.iter().any(|known| subject(known))
}

/// Requests over local sockets before `ts`, in order of time.
fn before<'a>(context: &Context<'a>, ts: u64) -> impl DoubleEndedIterator<Item = &'a Request> {
    let requests = &context.session.requests;
    let end = requests.partition_point(|request| request.at.ts <= ts);
    requests[..end].iter().filter(|request| request.peer != 0)
}

fn sender(context: &Context<'_>, requests: &Requests, request: &Request) -> Option<OperationIx> {
    operation::of_process(context, requests, context.sender(request)?)
}

/// Container and action of `POST /v1.41/containers/ID/start`; `rm` of `DELETE /v1.41/containers/ID`.
fn of_container(request: &Request) -> Option<(&[u8], &[u8])> {
    let rest = part_of(&request.path, b"/containers/")?;
    let mut parts = rest.splitn(2, |byte| *byte == b'/');
    let container = parts.next().filter(|name| !name.is_empty())?;
    match (request.method.as_slice(), parts.next()) {
        (b"DELETE", None) => Some((container, b"rm")),
        (b"POST", Some(action)) => Some((container, action)),
        _ => None,
    }
}

/// What stands behind `mark` in a path.
fn part_of<'a>(path: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    let at = path.windows(mark.len()).position(|part| part == mark)?;
    Some(&path[at + mark.len()..])
}

/// The part behind `mark`, up to the next slash.
fn part_after<'a>(path: &'a [u8], mark: &[u8]) -> Option<&'a [u8]> {
    part_of(path, mark)?.split(|byte| *byte == b'/').next()
}

fn names(draft: &Draft, container: &[u8]) -> bool {
    let by_name = !draft.name.is_empty() && container == draft.name;
    by_name || (container.len() >= 4 && draft.id.starts_with(container))
}

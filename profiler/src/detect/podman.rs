//! podman: each container has a conmon, which runs the runtime and, after the container's end, `podman container
//! cleanup`. Networks are set up by netavark before the runtime is called.

use super::Engine;
use super::asked;
use super::cli::{self, base};
use super::container::{Draft, Piece};
use super::containerd;
use super::context::Context;
use super::operation::Requests;
use crate::model::{Image, OperationIx, ProcessIx};

/// See the module.
pub(super) struct Podman;

impl Engine for Podman {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(first) = draft.calls.first() else { return false };
        let ts = first.span.from;
        // Above a shim is who made the container that its engine is in.
        let parents = context.ancestors(first.process).take(8);
        let parents: Vec<ProcessIx> = parents
            .take_while(|ix| !containerd::has_been_shim(context, *ix))
            .collect();
        let monitor = parents.iter().find_map(|ix| conmon(context, *ix, ts));
        let podman = parents.iter().copied().find(|ix| is_podman(context, *ix));
        let by_exit_command = monitor
            .and_then(|image| option(image, b"--exit-command"))
            .is_some_and(|command| base(command) == b"podman");
        if podman.is_none() && !by_exit_command {
            return false;
        }
        draft.engine = "podman";
        if draft.create().is_none() {
            return true;
        }
        if let Some(name) = monitor.and_then(|image| option(image, b"-n").or_else(|| option(image, b"--name"))) {
            draft.name = name.to_vec();
        }
        draft.helpers = parents
            .iter()
            .copied()
            .filter(|ix| conmon(context, *ix, ts).is_some())
            .collect();
        cleanups(context, draft);
        if let Some(podman) = podman {
            networks(context, draft, podman);
        }
        true
    }

    fn request(&self, context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
        let ts = draft.create()?.span.from;
        asked::for_container(context, requests, draft, ts, &["start", "restart"])
    }
}

/// conmon's program, if the process runs it at `ts`: by its own exec, or forked off by one that did.
pub(super) fn conmon<'a>(context: &Context<'a>, ix: ProcessIx, ts: u64) -> Option<&'a Image> {
    context
        .process(ix)
        .image_at(ts)
        .filter(|image| image.argv.first().is_some_and(|argv| base(argv) == b"conmon"))
}

fn is_podman(context: &Context<'_>, ix: ProcessIx) -> bool {
    let client = |image: &Image| cli::client(image).is_some_and(|command| command.tool == "podman");
    context.process(ix).images.iter().any(client)
}

/// The argument behind a flag.
pub(super) fn option<'a>(image: &'a Image, flag: &[u8]) -> Option<&'a [u8]> {
    let at = image.argv.iter().position(|argument| argument == flag)?;
    image.argv.get(at + 1).map(Vec::as_slice)
}

fn cleanups(context: &Context<'_>, draft: &mut Draft) {
    for exec in &draft.mentions {
        let Some(command) = cli::client(context.image(*exec)) else {
            continue;
        };
        if command.tool == "podman" && command.verb == "container cleanup" {
            draft
                .cleanups
                .push(Piece::of(context, *exec, "podman container cleanup"));
        }
    }
}

/// netavark's arguments do not name the container: it is the one set-up between the last container that the same
/// podman process started and this one. Where there are several, none is taken.
fn networks(context: &Context<'_>, draft: &mut Draft, podman: ProcessIx) {
    let Some(create) = draft.create() else { return };
    let before = create.span.from;
    let children = &context.process(podman).children;
    let last = children
        .iter()
        .filter(|ix| !draft.helpers.contains(ix))
        .filter_map(|ix| {
            let exec = context.exec_of(*ix, |image| {
                image.argv.first().is_some_and(|argv| base(argv) == b"conmon")
            })?;
            option(context.image(exec), b"-c").map(|_| exec.ts)
        })
        .filter(|from| *from < before)
        .max();
    let mut set_ups = children
        .iter()
        .filter_map(|ix| netavark(context, *ix, b"setup"))
        .filter(|piece| piece.span.to <= before && piece.span.from >= last.unwrap_or(0));
    if let (Some(piece), None) = (set_ups.next(), set_ups.next()) {
        draft.networks.push(piece);
    }
}

/// The process as a piece of network work, if it is netavark with that action.
pub(super) fn netavark(context: &Context<'_>, ix: ProcessIx, action: &[u8]) -> Option<Piece> {
    let exec = context.exec_of(ix, |image| {
        image.argv.first().is_some_and(|argv| base(argv) == b"netavark") && image.argv.iter().any(|word| word == action)
    })?;
    Some(Piece::of(context, exec, "netavark"))
}

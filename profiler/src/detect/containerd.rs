//! containerd's own containers (ctr, nerdctl, CRI): a shim per container runs the runtime; its arguments hold the
//! namespace and the id.

use super::Engine;
use super::asked;
use super::cli::base;
use super::container::{Draft, Piece};
use super::context::Context;
use super::operation::{Request, Requests};
use crate::model::{Image, OperationIx, ProcessIx};
use crate::recording::record::Text;

/// See the module.
pub(super) struct Containerd;

impl Engine for Containerd {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(shim) = shim(context, draft) else { return false };
        draft.engine = "containerd";
        serve(context, draft, &shim);
        true
    }

    /// ctr's own operands: the image and the container's id.
    fn request(&self, context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
        let ts = draft.create()?.span.from;
        let named = |request: &Request| {
            let command = request.command.as_ref();
            let command = command.filter(|command| command.sure && matches!(command.tool, "ctr" | "nerdctl"));
            let at = match request.action() {
                "run" => 1,
                "start" => 0,
                _ => return false,
            };
            request.alive(ts) && command.is_some_and(|command| command.args.get(at) == Some(&draft.id))
        };
        let mut found = requests.iter().enumerate().filter(|(_, request)| named(request));
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Some(OperationIx(index as u32)),
            _ => asked::by_frames(context, requests, draft, ts),
        }
    }
}

/// The shim that runs a container's runtime.
pub(super) struct Shim {
    /// The shim, and the one that started it.
    processes: Vec<ProcessIx>,
    /// `moby` for docker, `k8s.io` for CRI.
    pub(super) namespace: Text,
}

/// The shim above the container's first runtime call.
pub(super) fn shim(context: &Context<'_>, draft: &Draft) -> Option<Shim> {
    let mut found: Option<Shim> = None;
    for ix in context.ancestors(draft.calls.first()?.process).take(4) {
        let Some(image) = context.process(ix).images.iter().find(|image| is_shim(image)) else {
            continue;
        };
        let at = image
            .argv
            .iter()
            .position(|word| word == b"-namespace" || word == b"--namespace");
        let namespace = at.and_then(|at| image.argv.get(at + 1)).cloned().unwrap_or_default();
        found
            .get_or_insert(Shim {
                processes: Vec::new(),
                namespace,
            })
            .processes
            .push(ix);
    }
    found
}

pub(super) fn has_been_shim(context: &Context<'_>, ix: ProcessIx) -> bool {
    context.process(ix).images.iter().any(is_shim)
}

fn is_shim(image: &Image) -> bool {
    image
        .argv
        .first()
        .is_some_and(|argv| base(argv).starts_with(b"containerd-shim"))
}

/// What the shim tells of its container, whoever asked for it.
pub(super) fn serve(context: &Context<'_>, draft: &mut Draft, shim: &Shim) {
    if draft.create().is_none() {
        return;
    }
    draft.helpers.clone_from(&shim.processes);
    for exec in &draft.mentions {
        let image = context.image(*exec);
        // containerd runs the shim's program once more to delete what is left.
        if is_shim(image) && image.argv.last().is_some_and(|word| word == b"delete") {
            draft.cleanups.push(Piece::of(context, *exec, "containerd-shim delete"));
        }
    }
}

//! BuildKit, within dockerd or as buildkitd: each `RUN` is a container of its own by `runc run`, with a bundle in
//! `buildkit/executor/ID` (in buildkitd `buildkit/runc-overlayfs/executor/ID`) and a cgroup `…/buildkit/ID`.
//!
//! The daemon is the runtime's parent, and the client no ancestor of it. What joins them is the build file: the container
//! runs what one of its `RUN`s says. Steps that many builds share are carried out once, for whoever came first.

use super::Engine;
use super::cli::base;
use super::container::Draft;
use super::context::Context;
use super::instruction;
use super::oci::Verb;
use super::operation::Requests;
use crate::model::OperationIx;

/// See the module.
pub(super) struct BuildKit;

impl Engine for BuildKit {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(run) = draft.create().filter(|call| call.call.verb == Verb::Run) else {
            return false;
        };
        let executor = run.call.bundle.strip_suffix(draft.id.as_slice());
        if !executor.is_some_and(|folder| folder.ends_with(b"/executor/")) {
            return false;
        }
        let Some(parent) = context.process(run.process).parent else {
            return false;
        };
        let daemon = context.process(parent).image_at(run.span.from).is_some_and(|image| {
            let name = image.argv.first().unwrap_or(&image.filename);
            matches!(base(name), b"dockerd" | b"buildkitd")
        });
        if daemon {
            draft.engine = "buildkit";
        }
        daemon
    }

    fn request(&self, context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
        let ts = draft.create()?.span.from;
        let argv = draft.entry_argv(context);
        let mut builds = requests.iter().enumerate().filter(|(_, request)| {
            request.action() == "build" && request.alive(ts) && {
                let steps = instruction::of_build(context, request.operation.process, true);
                steps.iter().any(|step| step.runs(argv))
            }
        });
        match (builds.next(), builds.next()) {
            (Some((index, _)), None) => Some(OperationIx(index as u32)),
            _ => None,
        }
    }
}

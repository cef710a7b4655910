//! CRI-O: the kubelet asks `crio`, which starts a conmon for each container, as podman does, and mounts its root file
//! system itself. conmon's arguments hold the container's id and name (`k8s_<container>_<pod>_…`).

use super::Engine;
use super::cli::base;
use super::container::Draft;
use super::context::Context;
use super::podman::{conmon, option};
use crate::model::ProcessIx;

/// See the module.
pub(super) struct Crio;

impl Engine for Crio {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(first) = draft.calls.first() else { return false };
        let ts = first.span.from;
        let parents: Vec<ProcessIx> = context.ancestors(first.process).take(8).collect();
        let is_crio = |ix: &&ProcessIx| {
            let program = context.process(**ix).image_at(ts).and_then(|image| image.argv.first());
            program.is_some_and(|argv| base(argv) == b"crio")
        };
        if !parents.iter().any(|ix| is_crio(&ix)) {
            return false;
        }
        draft.engine = "cri-o";
        let monitor = parents.iter().find_map(|ix| conmon(context, *ix, ts));
        if let Some(name) = monitor.and_then(|image| option(image, b"-n")) {
            draft.name = name.to_vec();
        }
        draft.helpers = parents
            .into_iter()
            .filter(|ix| conmon(context, *ix, ts).is_some())
            .collect();
        true
    }
}

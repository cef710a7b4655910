//! nerdctl: containerd's containers, in whose runtime's `create` and `delete` nerdctl runs itself as a hook:
//! `nerdctl … internal oci-hook createRuntime`, which sets the network up by CNI plug-ins, and `… postStop`, which takes it
//! down (nerdctl `pkg/ocihook`, `pkg/cmd/container/create.go`).

use super::Engine;
use super::cli::base;
use super::container::{Draft, Piece};
use super::containerd;
use super::context::{Context, Exec};
use super::oci::Verb;
use super::operation::Requests;
use crate::model::{Image, OperationIx, ProcessIx};

/// See the module.
pub(super) struct Nerdctl;

impl Engine for Nerdctl {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(shim) = containerd::shim(context, draft) else {
            return false;
        };
        let set_up = hook(context, draft.tree.iter().copied(), b"createRuntime");
        let Some(set_up) = set_up else { return false };
        draft.engine = "containerd";
        containerd::serve(context, draft, &shim);
        draft.networks.push(Piece::of(context, set_up, "nerdctl's hook"));
        let deletes = draft.calls.iter().filter(|call| call.call.verb == Verb::Delete);
        let deleting = deletes.flat_map(|call| context.tree(call.process));
        let taken_down = hook(context, deleting, b"postStop");
        draft
            .cleanups
            .extend(taken_down.map(|exec| Piece::of(context, exec, "nerdctl's hook")));
        true
    }

    fn request(&self, context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
        containerd::Containerd.request(context, requests, draft)
    }
}

/// The first of the processes that is nerdctl as that hook.
fn hook(context: &Context<'_>, processes: impl IntoIterator<Item = ProcessIx>, event: &[u8]) -> Option<Exec> {
    let is_hook = |image: &Image| {
        let named = image.argv.iter().any(|word| base(word) == b"nerdctl");
        named
            && image
                .argv
                .ends_with(&[b"internal".to_vec(), b"oci-hook".to_vec(), event.to_vec()])
    };
    processes
        .into_iter()
        .find_map(|process| context.exec_of(process, is_hook))
}

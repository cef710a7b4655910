//! buildah, by itself or within `podman build`: each `RUN` is a container of its own, started by a re-exec called
//! `buildah-oci-runtime`, with its network set up between the runtime's `create` and `start`.

use super::Engine;
use super::container::{Draft, Piece};
use super::context::Context;
use super::podman::netavark;
use crate::model::ProcessIx;

/// See the module.
pub(super) struct Buildah;

impl Engine for Buildah {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(first) = draft.calls.first() else { return false };
        if draft.runtime == "chroot" {
            draft.engine = "buildah";
            keep_umounts_of(context, draft, first.process);
            return true;
        }
        let own = context.ancestors(first.process).take(4).find_map(|ix| {
            context.exec_of(ix, |image| {
                image.argv.first().is_some_and(|argv| argv == b"buildah-oci-runtime")
            })
        });
        let Some(own) = own else { return false };
        draft.engine = "buildah";
        draft.helpers = vec![own.process];
        draft.cleanups.push(Piece::of(context, own, "buildah-oci-runtime"));
        keep_umounts_of(context, draft, own.process);
        if let Some(builder) = context.process(own.process).parent {
            networks(context, draft, builder);
        }
        true
    }
}

/// The builder keeps the layer mounted until the whole build ends: that umount is not the container's.
fn keep_umounts_of(context: &Context<'_>, draft: &mut Draft, process: ProcessIx) {
    draft
        .umounts
        .retain(|umount| context.umounts[*umount].process == Some(process));
}

/// The builder runs its `RUN`s one after the other unless told otherwise (`--jobs`): what lies between this one's
/// create and start is its, unless there are several.
fn networks(context: &Context<'_>, draft: &mut Draft, builder: ProcessIx) {
    let (Some(create), Some(entry)) = (draft.create(), draft.entry) else {
        return;
    };
    let from = create.span.from;
    let children = &context.process(builder).children;
    let mut set_ups = children
        .iter()
        .filter_map(|ix| netavark(context, *ix, b"setup"))
        .filter(|piece| (from..entry.ts).contains(&piece.span.from));
    let (Some(set_up), None) = (set_ups.next(), set_ups.next()) else {
        return;
    };
    draft.networks.push(set_up);
    let Some(exit) = draft.exit(context) else { return };
    let tear_down = children
        .iter()
        .filter_map(|ix| netavark(context, *ix, b"teardown"))
        .filter(|piece| piece.span.from >= exit)
        .min_by_key(|piece| piece.span.from);
    let next = children
        .iter()
        .filter_map(|ix| netavark(context, *ix, b"setup"))
        .map(|piece| piece.span.from)
        .find(|from| *from > exit)
        .unwrap_or(u64::MAX);
    draft.cleanups.extend(tear_down.filter(|piece| piece.span.from < next));
}

//! Finds what happened in a session: operations, containers and their phases.
//!
//! ```text
//! session ──▶ context (indexes) ──▶ container: runtime calls, cgroup, entrypoint   ── runc.rs, crun.rs
//!                                     │ engine's claim: name, image, network …     ── podman.rs, docker.rs …
//!                                     ▼
//!              operation: clients, and what they caused ──▶ lifecycle: phases ──▶ step: a build's steps
//! ```
//!
//! A new runtime or engine is one file here and one row in [`RUNTIMES`] or [`ENGINES`]. What a recording does not show
//! gives fewer phases, never a guess; each phase carries the evidence of its start and end.

pub(crate) mod cli;
mod container;
mod context;
mod oci;

mod asked;
mod buildah;
mod buildkit;
mod chroot;
mod containerd;
mod crio;
mod crun;
mod demo;
mod docker;
mod instruction;
mod lifecycle;
mod nerdctl;
mod operation;
mod podman;
mod pull;
mod ready;
mod runc;
mod step;
mod user;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Debug;

use crate::model::{Image, OperationIx, Phase, PhaseIx, Session, Span};
use crate::recording::record::Text;
use container::Draft;
use context::{Context, Exec, Mount};
use operation::Requests;

/// An OCI runtime: what its processes look like.
trait Runtime: Debug + Sync {
    /// Its name, if the program is one of its.
    fn name(&self, image: &Image) -> Option<&'static str>;
    /// What the program was asked to do.
    fn call(&self, image: &Image) -> Option<oci::Call>;
    /// The container's id, where the command line does not give it.
    fn identify(&self, _context: &Context<'_>, _exec: Exec) -> Option<Text> {
        None
    }
    /// Whether the runtime's own program, run again, is the part of it that becomes the container's first process.
    fn is_init(&self, image: &Image) -> bool {
        image.argv.get(1).is_some_and(|argument| argument == b"init")
    }
    /// Whether the mount is the one that the runtime makes of a container's root file system before it enters it.
    fn binds_rootfs(&self, mount: &Mount) -> bool {
        mount.is_bind() && mount.source == mount.target
    }
}

/// What makes containers out of images and has a runtime run them.
trait Engine: Sync {
    /// Adds what the engine's own processes tell of a container; false when it is not one of its.
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool;
    /// The operation that asked for the container, where that is not the one whose client it descends from.
    fn request(&self, _context: &Context<'_>, _requests: &Requests, _draft: &Draft) -> Option<OperationIx> {
        None
    }
}

/// Every runtime.
const RUNTIMES: &[&dyn Runtime] = &[&runc::Runc, &crun::Crun, &chroot::Chroot, &demo::Demo];
/// Every engine; the first whose claim holds has the container.
const ENGINES: &[&dyn Engine] = &[
    &buildah::Buildah,
    &podman::Podman,
    &crio::Crio,
    &docker::Docker,
    &buildkit::BuildKit,
    &nerdctl::Nerdctl,
    &containerd::Containerd,
    &demo::Demo,
];

/// Fills the session's operations, containers and phases.
pub fn detect(session: &mut Session) {
    let context = Context::new(session);
    let mut requests = operation::find(&context);
    let mut drafts = container::find(&context);
    // A restart's command line names the container at most by its id: what is known of one run holds for the next.
    let mut known: HashMap<Text, (Text, Text)> = HashMap::new();
    for draft in &mut drafts {
        if let Some((name, image)) = known.get(&draft.id) {
            (draft.name, draft.image) = (name.clone(), image.clone());
        }
        let engine = ENGINES.iter().find(|engine| engine.claim(&context, draft));
        container::mount_by_cleanup(&context, draft);
        container::name_by_lookup(&context, draft);
        let requested = engine.and_then(|engine| engine.request(&context, &requests, draft));
        draft.operation = requested.or_else(|| operation::of_ancestors(&context, &requests, draft));
        operation::adopt_names(&requests, draft);
        container::image_by_lookup(&context, draft);
        known.insert(draft.id.clone(), (draft.name.clone(), draft.image.clone()));
    }
    operation::unmatched(&context, &mut requests, &mut drafts);
    operation::gather(&context, &mut requests, &drafts);
    let mut phases = lifecycle::phases(&context, &requests, &drafts);
    step::phases(&context, &requests, &drafts, &mut phases);
    pull::phases(&context, &requests, &mut phases);
    user::phases(&context, &requests, &drafts, &mut phases);
    let phases = in_order(operation::unmatched_pulls(&context, &mut requests, phases));
    let spans = spans_of_containers(&phases, drafts.len());
    let containers = drafts
        .iter()
        .zip(spans)
        .map(|(draft, span)| draft.container(&context, span))
        .collect();
    session.operations = requests.into_operations();
    session.containers = containers;
    session.phases = phases;
}

/// Id and bundle of the container that a runtime is asked to create by these arguments, if they are a runtime's.
pub(crate) fn creates(argv: &[Text]) -> Option<(Text, Text)> {
    let image = Image {
        argv: argv.to_vec(),
        exec: true,
        ..Image::default()
    };
    let call = RUNTIMES
        .iter()
        .find_map(|runtime| runtime.name(&image).and(runtime.call(&image)))?;
    let creates = matches!(call.verb, oci::Verb::Create | oci::Verb::Run);
    creates.then_some((call.id, call.bundle))
}

/// From the first start to the last end of each container's phases.
fn spans_of_containers(phases: &[Phase], containers: usize) -> Vec<Option<Span>> {
    let mut spans: Vec<Option<Span>> = vec![None; containers];
    for phase in phases {
        if let Some(span) = phase.container.and_then(|container| spans.get_mut(container.ix())) {
            let known = span.unwrap_or(phase.span);
            *span = Some(Span {
                from: known.from.min(phase.span.from),
                to: known.to.max(phase.span.to),
            });
        }
    }
    spans
}

/// In order of start, parents before their children, and each child within its parent.
fn in_order(mut phases: Vec<Phase>) -> Vec<Phase> {
    for index in 0..phases.len() {
        // From the outermost inwards, so that a parent's own clip counts.
        let mut chain = vec![index];
        while let Some(parent) = phases[*chain.last().unwrap_or(&index)].parent {
            if chain.len() > phases.len() {
                break;
            }
            chain.push(parent.ix());
        }
        for pair in chain.windows(2).rev() {
            phases[pair[0]].span = phases[pair[0]].span.clip(phases[pair[1]].span);
        }
    }
    let depth = |mut index: usize| {
        let mut depth = 0;
        while let Some(parent) = phases[index].parent.filter(|_| depth <= phases.len()) {
            index = parent.ix();
            depth += 1;
        }
        depth
    };
    let mut order: Vec<usize> = (0..phases.len()).collect();
    order.sort_by_cached_key(|index| {
        let phase = &phases[*index];
        (phase.span.from, depth(*index), Reverse(phase.span.to), phase.kind)
    });
    let mut place = vec![PhaseIx(0); phases.len()];
    for (new, old) in order.iter().enumerate() {
        place[*old] = PhaseIx(new as u32);
    }
    for phase in &mut phases {
        phase.parent = phase.parent.map(|parent| place[parent.ix()]);
    }
    let mut sorted: Vec<(PhaseIx, Phase)> = place.into_iter().zip(phases).collect();
    sorted.sort_by_key(|(new, _)| *new);
    sorted.into_iter().map(|(_, phase)| phase).collect()
}

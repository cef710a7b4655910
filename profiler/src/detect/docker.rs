//! docker: the client asks dockerd, dockerd mounts and asks containerd, whose shim (namespace `moby`) runs the runtime.
//! The network is set up in a hook of the runtime's `create`.
//!
//! The client is no ancestor of its container. What joins them: the name or id among the client's operands, or the
//! command that both its arguments and the entrypoint's hold.

use super::Engine;
use super::asked;
use super::container::{Draft, Piece};
use super::containerd;
use super::context::Context;
use super::instruction;
use super::operation::{self, Request, Requests};
use crate::model::{OperationIx, Span};
use crate::recording::record::Text;

/// See the module.
pub(super) struct Docker;

impl Engine for Docker {
    fn claim(&self, context: &Context<'_>, draft: &mut Draft) -> bool {
        let Some(shim) = containerd::shim(context, draft).filter(|shim| shim.namespace == b"moby") else {
            return false;
        };
        draft.engine = "docker";
        containerd::serve(context, draft, &shim);
        networks(context, draft);
        true
    }

    fn request(&self, context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
        let create = draft.create()?;
        let ts = create.span.from;
        if let Some(operation) = asked::for_container(context, requests, draft, ts, &["start", "restart"]) {
            return Some(operation);
        }
        if let Some(operation) = operation::by_operand(requests, draft, ts, &["start", "restart"]) {
            return Some(operation);
        }
        let docker = |request: &Request| request.command.as_ref().is_some_and(|command| command.tool == "docker");
        let clients = requests
            .iter()
            .enumerate()
            .filter(|(_, request)| request.alive(ts) && docker(request));
        let argv = draft.entry_argv(context);
        let runs = clients
            .clone()
            .filter(|(_, request)| request.action() == "run")
            .filter(|(_, request)| {
                let Some(command) = request.command.as_ref().filter(|command| command.sure) else {
                    return false;
                };
                let named = command.flag("name").filter(|_| !draft.name.is_empty());
                match (named, command.args.get(1..)) {
                    (Some(name), _) => *name == draft.name,
                    // Without a command of its own it runs the image's, which is not known.
                    (None, Some([])) | (None, None) => true,
                    (None, Some(words)) => argv.is_empty() || argv.ends_with(words),
                }
            });
        let mut runs: Vec<usize> = runs.map(|(index, _)| index).collect();
        runs.extend(
            clients
                .filter(|(_, request)| builds(context, request, argv))
                .map(|(index, _)| index),
        );
        match runs.as_slice() {
            [index] => Some(OperationIx(*index as u32)),
            _ => None,
        }
    }
}

/// Whether a build's file has the `RUN` that the container carries out.
fn builds(context: &Context<'_>, request: &Request, argv: &[Text]) -> bool {
    let steps = || instruction::of_build(context, request.operation.process, true);
    request.action() == "build" && steps().iter().any(|step| step.runs(argv))
}

/// The hook that hands the container's network namespace to dockerd, and what dockerd does with it meanwhile.
fn networks(context: &Context<'_>, draft: &mut Draft) {
    let hook = draft.mentions.iter().copied().find(|exec| {
        context
            .image(*exec)
            .argv
            .first()
            .is_some_and(|argv| argv == b"libnetwork-setkey")
    });
    let Some(hook) = hook else { return };
    let mut piece = Piece::of(context, hook, "libnetwork-setkey");
    let Some(create) = draft.create() else { return };
    // dockerd binds /proc/<pid of the container's first process>/ns/net somewhere: that path names the network.
    let window = Span {
        from: piece.span.from,
        to: create.span.to,
    };
    let bound = draft.tree.iter().find_map(|ix| {
        let source = format!("/proc/{}/ns/net", context.process(*ix).tgid);
        let bound = context.mounts_from(&source);
        bound.into_iter().find(|mount| window.contains(mount.span.from))
    });
    if let Some(bound) = bound {
        for exec in context
            .execs_from(window.from)
            .iter()
            .take_while(|exec| exec.ts < window.to)
        {
            if context.image(*exec).argv.contains(&bound.target) {
                piece.processes.push(exec.process);
            }
        }
        let exit = draft.exit(context).unwrap_or(u64::MAX);
        let until = draft.until;
        let umount = context
            .umounts_at(&bound.target)
            .find(|umount| umount.span.from >= exit && umount.span.from < until);
        draft.cleanups.extend(umount.map(|umount| Piece {
            span: umount.span,
            open: false,
            processes: umount.process.into_iter().collect(),
            thread: umount.thread,
            end: "umount of the network namespace".to_owned(),
        }));
    }
    draft.networks.push(piece);
}

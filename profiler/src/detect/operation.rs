//! Operations: what a person asked for, the client that carries it out, and what it caused.

use std::collections::HashMap;
use std::ops::Deref;

use super::asked;
use super::cli::{self, Command, base};
use super::container::Draft;
use super::context::Context;
use crate::model::{Operation, OperationIx, Phase, PhaseKind, ProcessIx, Span};
use crate::recording::record::Text;

/// An operation with its client's command line.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub operation: Operation,
    /// `None` for a command that is no container client.
    pub command: Option<Command>,
}

/// The name of the operation of what no evidence joins to a client.
pub(super) const UNMATCHED: &str = "unmatched";

impl Request {
    /// Whether the client was there at `ts`.
    pub(super) fn alive(&self, ts: u64) -> bool {
        self.operation.span.contains(ts)
    }

    /// The verb without its group; empty for what is no client.
    pub(super) fn action(&self) -> &str {
        self.command.as_ref().map_or("", Command::action)
    }
}

/// All operations of a session, with an index by their client.
#[derive(Debug, Default)]
pub(super) struct Requests {
    list: Vec<Request>,
    by_client: HashMap<ProcessIx, OperationIx>,
}

impl Requests {
    fn push(&mut self, request: Request) {
        // A process that is both has the later: a client within the recorded command comes behind it.
        self.by_client
            .insert(request.operation.process, OperationIx(self.list.len() as u32));
        self.list.push(request);
    }

    /// Adds an operation of what nobody is known to have asked for.
    fn add(&mut self, process: ProcessIx, span: Span, open: bool) -> OperationIx {
        let operation = OperationIx(self.list.len() as u32);
        self.list.push(Request {
            operation: Operation {
                name: UNMATCHED.to_owned(),
                process,
                span,
                open,
                processes: vec![process],
            },
            command: None,
        });
        operation
    }

    /// Without the command lines.
    pub(super) fn into_operations(self) -> Vec<Operation> {
        self.list.into_iter().map(|request| request.operation).collect()
    }
}

impl Deref for Requests {
    type Target = [Request];

    fn deref(&self) -> &[Request] {
        &self.list
    }
}

/// The recorded command, and every client that no other client started.
pub(super) fn find(context: &Context<'_>) -> Requests {
    let mut requests = Requests::default();
    let command = context
        .session
        .begin
        .and_then(|begin| begin.command)
        .and_then(|task| context.by_leader(task));
    if let Some(ix) = command {
        requests.push(recorded(context, ix));
    }
    for exec in &context.execs {
        let Some(command) = cli::client(context.image(*exec)) else {
            continue;
        };
        let nested = |ix: ProcessIx| {
            requests
                .by_client
                .get(&ix)
                .is_some_and(|client| requests[client.ix()].command.is_some())
        };
        if command.is_internal() || nested(exec.process) || context.ancestors(exec.process).any(nested) {
            continue;
        }
        let process = context.process(exec.process);
        requests.push(Request {
            operation: Operation {
                name: command.name(),
                process: exec.process,
                span: Span {
                    from: exec.ts,
                    to: process.span.to.max(exec.ts),
                },
                open: process.open,
                processes: context.tree(exec.process),
            },
            command: Some(command),
        });
    }
    callers(context, &mut requests);
    requests
}

/// Processes that asked an engine for work by themselves, over its interface, and are no client's.
fn callers(context: &Context<'_>, requests: &mut Requests) {
    for request in context
        .session
        .requests
        .iter()
        .filter(|request| asked::is_work(request))
    {
        let Some(process) = context.sender(request) else {
            continue;
        };
        let mut chain = std::iter::once(process).chain(context.ancestors(process));
        let known = chain.any(|ix| {
            let operation = requests.by_client.get(&ix);
            operation.is_some_and(|client| ix == process || requests[client.ix()].command.is_some())
        });
        if known {
            continue;
        }
        let caller = context.process(process);
        let image = caller.image_at(request.at.ts);
        let name = image.map_or(&b""[..], |image| image.argv.first().unwrap_or(&image.comm));
        let from = image.map_or(caller.span.from, |image| image.ts.max(caller.span.from));
        requests.push(Request {
            operation: Operation {
                name: String::from_utf8_lossy(base(name)).into_owned(),
                process,
                span: Span {
                    from,
                    to: caller.span.to.max(from),
                },
                open: caller.open,
                processes: context.tree(process),
            },
            command: None,
        });
    }
}

/// Each container that no client can be joined to is an operation of its own, its restarts with it.
pub(super) fn unmatched(context: &Context<'_>, requests: &mut Requests, drafts: &mut [Draft]) {
    let mut own: HashMap<Text, OperationIx> = HashMap::new();
    for draft in drafts.iter_mut().filter(|draft| draft.operation.is_none()) {
        let Some(first) = draft.calls.first() else { continue };
        let end = draft.calls.iter().map(|call| call.span.to);
        let end = end.chain(draft.entry.map(|entry| context.process(entry.process).span.to));
        let span = Span {
            from: first.span.from,
            to: end.max().unwrap_or(first.span.to),
        };
        let open = draft.entry.is_some_and(|entry| context.process(entry.process).open);
        let operation = *own
            .entry(draft.id.clone())
            .or_insert_with(|| requests.add(first.process, span, open));
        if let Some(known) = requests.list.get_mut(operation.ix()) {
            known.operation.span.to = known.operation.span.to.max(span.to);
            known.operation.open |= open;
        }
        draft.operation = Some(operation);
    }
}

/// As [`unmatched`], for pulls that a daemon made.
pub(super) fn unmatched_pulls(context: &Context<'_>, requests: &mut Requests, mut phases: Vec<Phase>) -> Vec<Phase> {
    for index in 0..phases.len() {
        let pull = &phases[index];
        if pull.kind != PhaseKind::Pull || pull.operation.is_some() {
            continue;
        }
        let daemon = pull.main.and_then(|main| context.session.threads.get(main.ix()));
        let Some(daemon) = daemon.map(|thread| thread.process) else {
            continue;
        };
        let operation = requests.add(daemon, pull.span, pull.open);
        for (other, phase) in phases.iter_mut().enumerate() {
            if other == index || phase.parent.is_some_and(|parent| parent.ix() == index) {
                phase.operation = Some(operation);
            }
        }
    }
    phases
}

fn recorded(context: &Context<'_>, ix: ProcessIx) -> Request {
    let process = context.process(ix);
    // Before the recording's begin it was this program's own, held back.
    let begin = context.session.begin.map_or(0, |begin| begin.mono);
    let mut programs = process.images.iter().filter(|image| image.exec && image.ts >= begin);
    let command = programs.clone().filter_map(cli::client).next_back();
    let image = programs.next().or(process.image());
    let plain = || {
        let image = image.map(|image| image.argv.first().unwrap_or(&image.comm));
        String::from_utf8_lossy(base(image.map_or(b"", |name| name))).into_owned()
    };
    Request {
        operation: Operation {
            name: command.as_ref().map_or_else(plain, Command::name),
            process: ix,
            span: process.span,
            open: process.open,
            processes: context.tree(ix),
        },
        command,
    }
}

/// The innermost operation whose client the process descends from, or is.
pub(super) fn of_process(context: &Context<'_>, requests: &Requests, process: ProcessIx) -> Option<OperationIx> {
    let mut chain = std::iter::once(process).chain(context.ancestors(process));
    chain.find_map(|ix| requests.by_client.get(&ix).copied())
}

/// The operation that a container's runtime descends from.
pub(super) fn of_ancestors(context: &Context<'_>, requests: &Requests, draft: &Draft) -> Option<OperationIx> {
    of_process(context, requests, draft.calls.first()?.process)
}

/// Name and image from the command line that asked for the container.
pub(super) fn adopt_names(requests: &[Request], draft: &mut Draft) {
    let request = draft.operation.and_then(|operation| requests.get(operation.ix()));
    let Some(command) = request.and_then(|request| request.command.as_ref()) else {
        return;
    };
    if command.tool == "buildah" {
        // Its operand is the working container, whose image is not known here.
        if let (true, Some(name)) = (draft.name.is_empty() && command.action() == "run", command.args.first()) {
            draft.name.clone_from(name);
        }
        return;
    }
    if draft.create().is_none() || !command.sure || command.action() != "run" {
        return;
    }
    if draft.name.is_empty()
        && let Some(name) = command.flag("name")
    {
        draft.name.clone_from(name);
    }
    if draft.image.is_empty()
        && let Some(image) = command.args.first()
    {
        draft.image.clone_from(image);
    }
}

/// Clients alive at `ts` whose operands name the container, for one of the actions.
pub(super) fn naming<'a>(
    requests: &'a [Request],
    draft: &'a Draft,
    ts: u64,
    actions: &'a [&str],
) -> impl Iterator<Item = OperationIx> + use<'a> {
    let names = |operand: &[u8]| {
        (!draft.name.is_empty() && operand == draft.name) || (operand.len() >= 4 && draft.id.starts_with(operand))
    };
    let found = requests.iter().enumerate().filter(move |(_, request)| {
        let args = request.command.as_ref().map_or(&[][..], |command| &command.args);
        let args = if request.action() == "exec" {
            &args[..args.len().min(1)]
        } else {
            args
        };
        request.alive(ts) && actions.contains(&request.action()) && args.iter().any(|operand| names(operand))
    });
    found.map(|(index, _)| OperationIx(index as u32))
}

/// The only one of [`naming`].
pub(super) fn by_operand(requests: &[Request], draft: &Draft, ts: u64, actions: &[&str]) -> Option<OperationIx> {
    let mut found = naming(requests, draft, ts, actions);
    found.next().filter(|_| found.next().is_none())
}

/// The only client alive at `ts` whose command for a running container is this.
pub(super) fn by_exec(requests: &[Request], ts: u64, argv: &[Text]) -> Option<OperationIx> {
    let mut found = requests.iter().enumerate().filter(|(_, request)| {
        let command = request
            .command
            .as_ref()
            .filter(|command| command.sure && command.action() == "exec");
        request.alive(ts) && !argv.is_empty() && command.is_some_and(|command| command.args.get(1..) == Some(argv))
    });
    match (found.next(), found.next()) {
        (Some((index, _)), None) => Some(OperationIx(index as u32)),
        _ => None,
    }
}

/// Adds the daemon-side processes of each operation's containers to it.
pub(super) fn gather(context: &Context<'_>, requests: &mut Requests, drafts: &[Draft]) {
    for draft in drafts {
        let Some(request) = draft
            .operation
            .and_then(|operation| requests.list.get_mut(operation.ix()))
        else {
            continue;
        };
        let processes = &mut request.operation.processes;
        processes.extend(draft.processes(context));
        processes.extend(draft.tree.iter().copied());
        processes.extend(draft.calls.iter().map(|call| call.process));
        processes.extend(draft.helpers.iter().copied());
        let pieces = draft.networks.iter().chain(&draft.cleanups);
        processes.extend(pieces.flat_map(|piece| piece.processes.iter().copied()));
    }
    for request in &mut requests.list {
        request.operation.processes.sort_unstable();
        request.operation.processes.dedup();
    }
}

//! The phases of each container's life.
//!
//! | phase | start | end |
//! |---|---|---|
//! | mount | the overlay mount of its root file system | its end |
//! | create | exec of the runtime's `create` (or `run`) | its exit; of `run`, the entrypoint's exec |
//! | init, in create | its cgroup's birth, or the runtime's first new namespace | create's end, or the entrypoint's exec before |
//! | network | exec of what sets it up | its exit |
//! | start | exec of the runtime's `start` | the entrypoint's exec |
//! | run | the entrypoint's exec | its exit |
//! | ready, in run | the entrypoint's exec | its first listening socket, or first healthcheck that succeeds |
//! | exec, in run | exec of the runtime's `exec` | exit of what it started |
//! | healthcheck, in run | the same, asked for by the engine itself | |
//! | stop, in run | exec of the runtime's `kill` | the entrypoint's exit |
//! | cleanup | the entrypoint's exit | the last of delete, cgroup removal, umounts and the engine's own cleanup |

mod cleanup;

use profiler_common::container::call;

use super::asked;
use super::container::{Draft, RuntimeCall, is_own};
use super::context::Context;
use super::oci::{self, Verb};
use super::operation::{self, Requests};
use crate::model::{ContainerIx, OperationIx, Phase, PhaseIx, PhaseKind, ProcessIx, Span, ThreadIx};
use crate::recording::record::Text;

/// `CLONE_NEWNS | CLONE_NEWPID`
const NEW_NAMESPACES: u64 = 0x0002_0000 | 0x2000_0000;

/// Phases of all containers; parents point into the result.
pub(super) fn phases(context: &Context<'_>, requests: &Requests, drafts: &[Draft]) -> Vec<Phase> {
    let mut phases = Vec::new();
    for (index, draft) in drafts.iter().enumerate() {
        let mut life = Life {
            context,
            requests,
            draft,
            container: ContainerIx(index as u32),
            phases: &mut phases,
        };
        life.mount();
        let create = life.create();
        life.networks(create);
        life.start();
        let run = life.run();
        life.execs(run);
        life.ready(run);
        life.stop(run);
        life.cleanup();
    }
    phases
}

pub(super) struct Life<'c, 'a> {
    pub(super) context: &'c Context<'a>,
    pub(super) requests: &'c Requests,
    pub(super) draft: &'c Draft,
    pub(super) container: ContainerIx,
    pub(super) phases: &'c mut Vec<Phase>,
}

/// A phase before it has its place.
pub(super) struct New {
    pub(super) kind: PhaseKind,
    pub(super) label: Text,
    pub(super) span: Span,
    pub(super) open: bool,
    pub(super) parent: Option<PhaseIx>,
    pub(super) operation: Option<OperationIx>,
    pub(super) main: Option<ThreadIx>,
    pub(super) processes: Vec<ProcessIx>,
    pub(super) evidence: (String, String),
}

impl Life<'_, '_> {
    pub(super) fn push(&mut self, new: New) -> PhaseIx {
        let New {
            kind,
            label,
            mut span,
            open,
            parent,
            operation,
            main,
            processes,
            evidence,
        } = new;
        if open {
            span.to = self.context.session.span.to.max(span.from);
        }
        let processes = self.context.alive(processes, span);
        let container = Some(self.container);
        self.phases.push(Phase {
            kind,
            label,
            span,
            open,
            parent,
            operation,
            container,
            main,
            processes,
            bytes: None,
            evidence,
        });
        PhaseIx((self.phases.len() - 1) as u32)
    }

    /// A phase of this container with nothing special.
    pub(super) fn plain(&self, kind: PhaseKind, span: Span) -> New {
        New {
            kind,
            label: Text::new(),
            span,
            open: false,
            parent: None,
            operation: self.draft.operation,
            main: None,
            processes: Vec::new(),
            evidence: (String::new(), String::new()),
        }
    }

    pub(super) fn pid(&self, process: ProcessIx) -> u32 {
        self.context.process(process).tgid
    }

    fn exec_of(&self, call: &RuntimeCall) -> String {
        let verb = match call.call.verb {
            Verb::Create => "create",
            Verb::Run => "run",
            Verb::Start => "start",
            Verb::Exec => "exec",
            Verb::Kill => "kill",
            Verb::Delete => "delete",
        };
        format!("exec of {} {verb} (pid {})", self.draft.runtime, self.pid(call.process))
    }

    fn mount(&mut self) {
        let Some(mount) = self.draft.mount.map(|mount| &self.context.mounts[mount]) else {
            return;
        };
        let pid = mount.process.map_or(0, |process| self.pid(process));
        let mut span = mount.span;
        let mut evidence = (format!("overlay mount by pid {pid}"), "its end".to_owned());
        // A daemon reads the layers before it mounts.
        let daemon = mount.process.filter(|_| mount.is_by_daemon());
        let exec = daemon.and_then(|process| self.context.process(process).image_at(span.from));
        if let Some(exec) = exec.filter(|exec| exec.exec && exec.filename.ends_with(b"/fuse-overlayfs")) {
            span.from = span.from.min(exec.ts);
            evidence = (
                format!("exec of fuse-overlayfs (pid {pid})"),
                "end of its mount".to_owned(),
            );
        }
        let new = New {
            main: mount.thread,
            processes: mount.process.into_iter().collect(),
            evidence,
            ..self.plain(PhaseKind::Mount, span)
        };
        self.push(new);
    }

    fn create(&mut self) -> Option<PhaseIx> {
        let create = self.draft.create()?;
        let entry = self.draft.entry.filter(|entry| entry.ts >= create.span.from);
        let pid = self.pid(create.process);
        let (span, open, end) = match (create.call.verb, entry) {
            (Verb::Run, Some(entry)) => (
                Span {
                    to: entry.ts,
                    ..create.span
                },
                false,
                format!("exec of the entrypoint (pid {})", self.pid(entry.process)),
            ),
            _ => (create.span, create.open, format!("exit of pid {pid}")),
        };
        let mut processes = self.draft.tree.clone();
        processes.extend(self.draft.helpers.iter().copied());
        let new = New {
            open,
            main: self.context.leader(create.process),
            processes,
            evidence: (self.exec_of(create), end),
            ..self.plain(PhaseKind::Create, span)
        };
        let create_phase = self.push(new);
        self.init(create_phase, create, span, open);
        Some(create_phase)
    }

    fn init(&mut self, parent: PhaseIx, create: &RuntimeCall, within: Span, open: bool) {
        let unshared = self.first_namespace(within);
        let made = self.draft.made.filter(|made| within.contains(*made));
        let (from, begin) = match (made, unshared) {
            (Some(made), Some(unshared)) if unshared < made => (unshared, "first new namespace"),
            (Some(made), _) => (made, "birth of its cgroup"),
            (None, Some(unshared)) => (unshared, "first new namespace"),
            // Without a cgroup of its own (rootless), cloned into its namespaces (crun).
            (None, None) => match self.birth_of_first(within) {
                Some(born) => (born, "birth of its first process"),
                None => return,
            },
        };
        let entry = self.draft.entry.filter(|entry| entry.ts < within.to || open);
        let (to, open, end) = match entry {
            Some(entry) => (
                entry.ts,
                false,
                format!("exec of the entrypoint (pid {})", self.pid(entry.process)),
            ),
            None => (within.to, open, format!("exit of pid {}", self.pid(create.process))),
        };
        let new = New {
            open,
            parent: Some(parent),
            // The process that becomes the container's first, as far as it lived by then.
            main: self.draft.entry.and_then(|entry| self.context.leader(entry.process)),
            processes: self.draft.tree.clone(),
            evidence: (begin.to_owned(), end),
            ..self.plain(PhaseKind::Init, Span { from, to })
        };
        self.push(new);
    }

    /// When pid 1 of the container's own pid namespace was born.
    fn birth_of_first(&self, within: Span) -> Option<u64> {
        let create = self.context.process(self.draft.create()?.process);
        let first = self.context.process(self.draft.entry?.process);
        let born = first.span.from;
        (first.ns_pid == 1 && first.pid_ns != create.pid_ns && within.contains(born)).then_some(born)
    }

    /// When the runtime first asked for a mount or pid namespace of its own.
    fn first_namespace(&self, within: Span) -> Option<u64> {
        let session = self.context.session;
        let start = session.syscalls.partition_point(|syscall| syscall.at.ts < within.from);
        let calls = session.syscalls[start..]
            .iter()
            .take_while(|syscall| syscall.at.ts < within.to);
        let mut unshared = calls.filter(|syscall| {
            let new = syscall.call == call::UNSHARE && syscall.result >= 0 && syscall.args[0] & NEW_NAMESPACES != 0;
            new && self
                .context
                .by_leader(syscall.at.task)
                .is_some_and(|ix| self.draft.tree.contains(&ix))
        });
        unshared.next().map(|syscall| syscall.at.ts)
    }

    fn networks(&mut self, create: Option<PhaseIx>) {
        for piece in &self.draft.networks {
            let within = create.filter(|create| {
                let span = self.phases[create.ix()].span;
                span.from <= piece.span.from && piece.span.to <= span.to
            });
            let begin = piece.end.replacen("exit", "exec", 1);
            let new = New {
                open: piece.open,
                parent: within,
                main: piece.thread,
                processes: piece.processes.clone(),
                evidence: (begin, piece.end.clone()),
                ..self.plain(PhaseKind::Network, piece.span)
            };
            self.push(new);
        }
    }

    fn start(&mut self) {
        let Some(start) = self.draft.call(Verb::Start) else {
            return;
        };
        let entry = self
            .draft
            .entry
            .filter(|entry| entry.ts >= start.span.from && !entry.before);
        let (to, open, end) = match entry {
            Some(entry) => (
                entry.ts,
                false,
                format!("exec of the entrypoint (pid {})", self.pid(entry.process)),
            ),
            None => (
                start.span.to,
                start.open,
                format!("exit of pid {}", self.pid(start.process)),
            ),
        };
        let mut processes = self.context.tree(start.process);
        processes.extend(entry.map(|entry| entry.process));
        let new = New {
            open,
            main: self.context.leader(start.process),
            processes,
            evidence: (self.exec_of(start), end),
            ..self.plain(
                PhaseKind::Start,
                Span {
                    from: start.span.from,
                    to,
                },
            )
        };
        self.push(new);
    }

    fn run(&mut self) -> Option<PhaseIx> {
        let entry = self.draft.entry?;
        let process = self.context.process(entry.process);
        let begin = match entry.before {
            true => "it ran before the recording began".to_owned(),
            false => format!("exec of the entrypoint (pid {})", process.tgid),
        };
        let new = New {
            open: process.open,
            main: self.context.leader(entry.process),
            processes: self.draft.processes(self.context),
            evidence: (begin, format!("exit of pid {}", process.tgid)),
            ..self.plain(
                PhaseKind::Run,
                Span {
                    from: entry.ts,
                    to: process.end().max(entry.ts),
                },
            )
        };
        Some(self.push(new))
    }

    fn execs(&mut self, run: Option<PhaseIx>) {
        let calls = self.draft.calls.iter().filter(|call| call.call.verb == Verb::Exec);
        let calls: Vec<_> = calls
            .map(|call| (call, asked::for_exec(self.context, self.requests, self.draft, call)))
            .collect();
        let served: Vec<OperationIx> = calls.iter().filter_map(|(_, by_request)| *by_request).collect();
        for (call, by_request) in calls {
            let session = self.session_of(call);
            let argv = session.and_then(|(process, ts)| self.context.process(process).image_at(ts));
            let argv = argv.map_or(call.call.rest.as_slice(), |image| &image.argv);
            let ended = session.map_or(call.process, |(process, _)| process);
            let process = self.context.process(ended);
            let mut processes = self.context.tree(call.process);
            processes.extend(session.map(|(process, _)| process));
            // Of an engine in a container the client of that container is an ancestor too.
            let client = self.client_at(call.process);
            let by_client = client.filter(|client| self.requests[client.ix()].action() == "exec");
            let by_command = operation::by_exec(self.requests, call.span.from, argv);
            let is_asked = by_request.or(by_client).or(by_command).is_some();
            let kind = match self.checks_health(call, argv, is_asked, &served) {
                true => PhaseKind::Healthcheck,
                false => PhaseKind::Exec,
            };
            let asked = by_request.or(client).or(by_command);
            let operation = match kind {
                PhaseKind::Healthcheck => asked.or(self.draft.operation),
                _ => asked.or_else(|| self.request_at(call.process, call.span.from, &["exec"])),
            };
            let new = New {
                label: argv.join(&b' '),
                open: process.open,
                parent: run,
                operation,
                main: self.context.leader(ended),
                processes,
                evidence: (self.exec_of(call), format!("exit of pid {}", process.tgid)),
                ..self.plain(
                    kind,
                    Span {
                        from: call.span.from,
                        to: process.end().max(call.span.from),
                    },
                )
            };
            self.push(new);
        }
    }

    /// What an `exec` call started: the first program below it that is not the runtime's own.
    fn session_of(&self, call: &RuntimeCall) -> Option<(ProcessIx, u64)> {
        let program = self.context.process(call.process).image_at(call.span.from);
        let below = self
            .context
            .tree(call.process)
            .into_iter()
            .filter(|ix| *ix != call.process);
        let programs = below.filter_map(|ix| {
            let images = &self.context.process(ix).images;
            let first = images.iter().find(|image| image.exec && !is_own(image, program))?;
            Some((ix, first.ts))
        });
        programs.min_by_key(|(_, ts)| *ts)
    }

    fn stop(&mut self, run: Option<PhaseIx>) {
        let Some(run) = run else { return };
        let span = self.phases[run.ix()].span;
        let open = self.phases[run.ix()].open;
        let kill = self.draft.calls.iter().find(|call| {
            let signal = call.call.rest.iter().find(|word| !word.starts_with(b"-"));
            // Without a signal it is SIGTERM.
            let ends = signal.is_none_or(|signal| oci::ends(signal));
            call.call.verb == Verb::Kill && ends && call.span.from >= span.from && (open || call.span.from < span.to)
        });
        let Some(kill) = kill else { return };
        // The runtime's process is gone at once; what is waited for is the container's first process.
        let processes = [self.context.tree(kill.process), self.draft.processes(self.context)].concat();
        let end = self.phases[run.ix()].evidence.1.clone();
        let new = New {
            open,
            parent: Some(run),
            operation: self.request_at(kill.process, kill.span.from, &["stop", "restart", "kill", "rm"]),
            main: self.phases[run.ix()].main,
            processes,
            evidence: (self.exec_of(kill), end),
            ..self.plain(
                PhaseKind::Stop,
                Span {
                    from: kill.span.from,
                    to: span.to,
                },
            )
        };
        self.push(new);
    }

    /// The operation that asked for a later call: the client it descends from, or the only one that names the
    /// container; else the container's own.
    fn request_at(&self, process: ProcessIx, ts: u64, actions: &[&str]) -> Option<OperationIx> {
        self.client_at(process)
            .or_else(|| asked::for_container(self.context, self.requests, self.draft, ts, actions))
            .or_else(|| operation::by_operand(self.requests, self.draft, ts, actions))
            .or(self.draft.operation)
    }

    /// The client that the process descends from.
    fn client_at(&self, process: ProcessIx) -> Option<OperationIx> {
        let by_descent = operation::of_process(self.context, self.requests, process);
        by_descent.filter(|operation| self.requests[operation.ix()].command.is_some())
    }
}

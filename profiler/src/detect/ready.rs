//! When a container is ready: its first listening socket, and its first healthcheck that succeeds.

use super::cli;
use super::container::RuntimeCall;
use super::lifecycle::{Life, New};
use crate::model::{OperationIx, PhaseIx, PhaseKind, Span};
use crate::recording::record::{Listen, Text};

/// `include/linux/socket.h`, `include/uapi/linux/in.h`
const AF_UNIX: u16 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const IPPROTO_TCP: u16 = 6;
const IPPROTO_SCTP: u16 = 132;
const IPPROTO_MPTCP: u16 = 262;

impl Life<'_, '_> {
    /// Adds the `ready` phases, each from the entrypoint's exec. What was there before the recording may have listened
    /// long since.
    pub(super) fn ready(&mut self, run: Option<PhaseIx>) {
        let (Some(run), Some(entry)) = (run, self.draft.entry.filter(|entry| !entry.before)) else {
            return;
        };
        let ends = [self.first_listen(run), self.first_health(run)];
        for (ts, label, end) in ends.into_iter().flatten() {
            let new = New {
                label,
                parent: Some(run),
                main: self.context.leader(entry.process),
                processes: self.draft.processes(self.context),
                evidence: (format!("exec of the entrypoint (pid {})", self.pid(entry.process)), end),
                ..self.plain(PhaseKind::Ready, Span { from: entry.ts, to: ts })
            };
            self.push(new);
        }
    }

    /// End, label and evidence of the first socket that any process of the container listens on.
    fn first_listen(&self, run: PhaseIx) -> Option<(u64, Text, String)> {
        let span = self.phases[run.ix()].span;
        let listens = &self.context.session.listens;
        let start = listens.partition_point(|listen| listen.at.ts < span.from);
        let own = self.draft.processes(self.context);
        let listen = listens[start..]
            .iter()
            .take_while(|listen| listen.at.ts <= span.to)
            .find(|listen| {
                let process = self.context.of_task(listen.at.task);
                process.is_some_and(|process| own.binary_search(&process).is_ok())
            })?;
        Some((
            listen.at.ts,
            socket(listen),
            format!("listen by pid {}", listen.at.task.tgid),
        ))
    }

    /// The same of the first healthcheck that succeeded.
    fn first_health(&self, run: PhaseIx) -> Option<(u64, Text, String)> {
        let checks = self.phases.iter().filter(|phase| {
            phase.kind == PhaseKind::Healthcheck && phase.container == Some(self.container) && !phase.open
        });
        let good = checks.filter_map(|phase| {
            let thread = &self.context.session.threads[phase.main?.ix()];
            let process = self.context.process(thread.process);
            (process.exit_code == Some(0)).then_some((phase.span.to, process.tgid))
        });
        let (ts, pid) = good.min()?;
        let within = ts.min(self.phases[run.ix()].span.to);
        Some((
            within,
            b"healthcheck".to_vec(),
            format!("exit of the healthcheck (pid {pid}) with status 0"),
        ))
    }

    /// Whether an exec session is the engine's own look at the container's health: podman has a command for it, dockerd
    /// runs the container's check itself. `client` is who asked for the command, if anybody did.
    pub(super) fn checks_health(&self, call: &RuntimeCall, argv: &[Text], client: Option<OperationIx>) -> bool {
        let by_podman = self.context.ancestors(call.process).any(|ix| {
            let mut images = self.context.process(ix).images.iter();
            images.any(|image| cli::client(image).is_some_and(|command| command.verb == "healthcheck run"))
        });
        let by_docker = self.draft.engine == "docker" && !argv.is_empty() && argv == self.draft.healthcheck;
        by_podman || (by_docker && client.is_none())
    }
}

/// What is listened on: `tcp/8080`, `unix/run/app.sock`, `unix/@abstract`. Hostile text.
fn socket(listen: &Listen) -> Text {
    match (listen.family, listen.protocol) {
        (AF_INET | AF_INET6, IPPROTO_TCP | IPPROTO_MPTCP) => format!("tcp/{}", listen.port).into_bytes(),
        (AF_INET | AF_INET6, IPPROTO_SCTP) => format!("sctp/{}", listen.port).into_bytes(),
        (AF_INET | AF_INET6, protocol) => format!("protocol {protocol}/{}", listen.port).into_bytes(),
        (AF_UNIX, _) => match listen.path.split_first() {
            Some((b'/', _)) => [b"unix", &listen.path[..]].concat(),
            Some((0, name)) => [b"unix/@", name].concat(),
            Some(_) => [b"unix/", &listen.path[..]].concat(),
            None => b"unix".to_vec(),
        },
        (0, _) => b"socket".to_vec(),
        (family, _) => format!("family {family}").into_bytes(),
    }
}

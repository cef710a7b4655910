//! When a container is ready: its first listening socket, and its first healthcheck that succeeds.

use super::container::RuntimeCall;
use super::lifecycle::{Life, New};
use super::{cli, operation};
use crate::model::{OperationIx, PhaseIx, PhaseKind, Span};
use crate::recording::record::{Listen, Text};
use profiler_common::net::{AF_INET, AF_INET6, AF_UNIX, IPPROTO_TCP};

/// `include/linux/socket.h`, `include/uapi/linux/in.h`
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
        let session = self.context.session;
        let checks = self.phases.iter().filter(|phase| {
            phase.kind == PhaseKind::Healthcheck && phase.container == Some(self.container) && !phase.open
        });
        let good = checks.filter(|phase| phase.exit_code(session) == Some(0));
        let good = good.filter_map(|phase| {
            let thread = &session.threads[phase.main?.ix()];
            Some((phase.span.to, self.pid(thread.process)))
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
    /// runs the container's check itself. `argv` is empty when its program never ran: the container was killed meanwhile.
    /// `is_asked`: a client is known to have asked for the session; `served`: clients that asked for one.
    pub(super) fn checks_health(
        &self,
        call: &RuntimeCall,
        argv: &[Text],
        is_asked: bool,
        served: &[OperationIx],
    ) -> bool {
        let by_podman = self.context.ancestors(call.process).any(|ix| {
            let mut images = self.context.process(ix).images.iter();
            images.any(|image| cli::client(image).is_some_and(|command| command.verb == "healthcheck run"))
        });
        let check = &self.draft.healthcheck;
        if self.draft.engine != "docker" || check.is_empty() || is_asked {
            return by_podman;
        }
        // A client for sessions in this container may have asked for one of which only the runtime's call is known, unless
        // it has its session.
        let mut clients = operation::naming(self.requests, self.draft, call.span.from, &["exec"]);
        let is_check = match argv.is_empty() {
            true => clients.all(|client| served.contains(&client)),
            false => argv == check,
        };
        by_podman || is_check
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

#[cfg(test)]
mod tests {
    use super::super::detect;
    use super::super::fixture::{check, session};
    use super::*;
    use crate::model::{Phase, Session};
    use crate::recording::record::{At, ContainerState, TaskId};

    const PODMAN_RUN: &str = include_str!("fixtures/podman_run.txt");
    const DOCKER_LIFE: &str = include_str!("fixtures/docker_life.txt");

    fn listen(task: TaskId, ts: u64, family: u16, port: u16, path: &[u8]) -> Listen {
        Listen {
            at: At {
                ts,
                task,
                cgroup: 0,
                mnt_ns: 0,
                cpu: 0,
            },
            enter: ts - 1,
            family,
            socket_type: 1,
            protocol: if family == AF_UNIX { 0 } else { IPPROTO_TCP },
            port,
            address: Vec::new(),
            path: path.to_vec(),
        }
    }

    fn of(session: &Session, kind: PhaseKind) -> Vec<&Phase> {
        session.phases.iter().filter(|phase| phase.kind == kind).collect()
    }

    /// Make sure that the first socket of any process of the container counts, from its entrypoint's exec on, and none of
    /// the engine's or after the container's end.
    #[test]
    fn first_socket() {
        let mut found = session(PODMAN_RUN);
        detect(&mut found);
        assert!(of(&found, PhaseKind::Ready).is_empty());
        let run = of(&found, PhaseKind::Run)[0].clone();
        let task = |process: crate::model::ProcessIx| {
            let process = &found.processes[process.ix()];
            TaskId {
                tgid: process.tgid,
                tid: process.tgid,
                start: process.start,
            }
        };
        let inside = task(found.containers[0].entrypoint.unwrap());
        let engine = task(found.operations[0].process);
        let (from, to) = (run.span.from, run.span.to);
        let mut with = |listens: Vec<Listen>| {
            found.listens = listens;
            detect(&mut found);
            check(&found);
            let ready = of(&found, PhaseKind::Ready);
            ready
                .iter()
                .map(|phase| {
                    (
                        phase.span.from,
                        phase.span.to,
                        String::from_utf8(phase.label.clone()).unwrap(),
                    )
                })
                .collect::<Vec<_>>()
        };
        let engines = listen(engine, from + 1, AF_INET, 1, b"");
        let first = listen(inside, from + 5, AF_INET6, 8080, b"");
        let second = listen(inside, from + 9, AF_UNIX, 0, b"/run/x");
        let late = listen(inside, to + 1, AF_INET, 2, b"");
        assert_eq!(
            with(vec![engines.clone(), first, second, late.clone()]),
            [(from, from + 5, "tcp/8080".to_owned())]
        );
        assert!(with(vec![engines, late]).is_empty());
    }

    /// Make sure that a socket is called by its protocol and place, whatever its path holds.
    #[test]
    fn sockets() {
        let task = TaskId {
            tgid: 1,
            tid: 1,
            start: 1,
        };
        for (family, port, path, label) in [
            (AF_INET, 80, &b""[..], &b"tcp/80"[..]),
            (AF_UNIX, 0, b"/run/a b\x1b", b"unix/run/a b\x1b"),
            (AF_UNIX, 0, b"\0bus", b"unix/@bus"),
            (AF_UNIX, 0, b"x.sock", b"unix/x.sock"),
            (AF_UNIX, 0, b"", b"unix"),
            (40, 0, b"", b"family 40"),
            (0, 0, b"", b"socket"),
        ] {
            assert_eq!(socket(&listen(task, 5, family, port, path)), label);
        }
    }

    /// Make sure that an exec session of docker's is a healthcheck when it runs the container's check and no client asked
    /// for it, and that the first that ends with 0 makes the container ready.
    #[test]
    fn docker_healthcheck() {
        let mut found = session(DOCKER_LIFE);
        detect(&mut found);
        let exec = of(&found, PhaseKind::Exec)[0].clone();
        looks_with(&mut found, &exec, words(&exec));
        // A client asked for it.
        detect(&mut found);
        assert!(of(&found, PhaseKind::Healthcheck).is_empty());
        unname_client(&mut found);
        detect(&mut found);
        check(&found);
        let [check] = of(&found, PhaseKind::Healthcheck)[..] else {
            panic!()
        };
        assert_eq!(check.label, exec.label);
        assert!(of(&found, PhaseKind::Exec).is_empty());
        let ready = of(&found, PhaseKind::Ready);
        assert_eq!((ready.len(), &ready[0].label[..]), (1, &b"healthcheck"[..]));
        assert_eq!(ready[0].span.to, check.span.to);
    }

    /// Lets the engine's file of the session's container say that this is its check.
    fn looks_with(session: &mut Session, exec: &Phase, healthcheck: Vec<Text>) {
        let id = session.containers[exec.container.unwrap().ix()].id.clone();
        session.states.push(ContainerState {
            id,
            name: b"dk-two".to_vec(),
            healthcheck,
            ..ContainerState::default()
        });
    }

    fn words(exec: &Phase) -> Vec<Text> {
        exec.label.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
    }

    /// Without the arguments of the client that asks for a session, nobody did.
    fn unname_client(session: &mut Session) {
        for process in &mut session.processes {
            for image in &mut process.images {
                if image.argv.iter().any(|word| word == b"exec") && image.argv[0].ends_with(b"docker") {
                    image.argv.clear();
                }
            }
        }
    }

    /// Make sure that the check of a container in a container, whose engine descends from the client of the outer one, is a
    /// healthcheck too.
    #[test]
    fn nested_healthcheck() {
        let mut lines = Vec::new();
        for line in DOCKER_LIFE.lines() {
            match line.split('\t').collect::<Vec<_>>()[..] {
                // The daemons are the outer container's.
                [_, _, "adopt", ..] | [_, _, "exec", _, _, _, _, _, "docker", "exec", ..] => {}
                [ts, "1312", "exec", ..] => {
                    let exec =
                        |pid: u32, name: &str| format!("{ts}\t{pid}\texec\t1\t{pid}\t4026531836\t1\t/usr/bin/{name}");
                    lines.push(exec(1312, "podman") + "\tpodman\trun\t--privileged\tdind");
                    for (parent, child, name) in [(1312, 768, "dockerd"), (768, 790, "containerd")] {
                        lines.push(format!("{ts}\t{parent}\tfork\t{parent}\t{child}\t0x4100"));
                        lines.push(exec(child, name) + "\t" + name);
                    }
                }
                _ => lines.push(line.to_owned()),
            }
        }
        let mut found = session(&lines.join("\n"));
        detect(&mut found);
        let exec = of(&found, PhaseKind::Exec)[0].clone();
        looks_with(&mut found, &exec, words(&exec));
        detect(&mut found);
        assert_eq!(of(&found, PhaseKind::Healthcheck).len(), 1);
    }

    /// Make sure that a session whose program never ran, since its container was killed meanwhile, is a healthcheck when
    /// no client can have asked for it, and that the runtime's 0 is neither its status nor makes the container ready.
    #[test]
    fn healthcheck_that_never_ran() {
        let lines: Vec<&str> = DOCKER_LIFE
            .lines()
            .filter(|line| !line.ends_with("/bin/echo\t/bin/echo\thi"))
            .collect();
        let mut found = session(&lines.join("\n"));
        detect(&mut found);
        let exec = of(&found, PhaseKind::Exec)[0].clone();
        assert_eq!((&exec.label[..], exec.exit_code(&found)), (&b""[..], None));
        let runtime = found.threads[exec.main.unwrap().ix()].process;
        assert_eq!(found.processes[runtime.ix()].exit_code, Some(0));
        looks_with(&mut found, &exec, vec![b"true".to_vec()]);
        detect(&mut found);
        assert!(of(&found, PhaseKind::Healthcheck).is_empty());
        unname_client(&mut found);
        detect(&mut found);
        check(&found);
        let checks = of(&found, PhaseKind::Healthcheck);
        assert_eq!((checks.len(), checks[0].exit_code(&found)), (1, None));
        assert!(of(&found, PhaseKind::Exec).is_empty() && of(&found, PhaseKind::Ready).is_empty());
        // That the runtime failed is told.
        found.processes[runtime.ix()].exit_code = Some(1 << 8);
        detect(&mut found);
        assert_eq!(of(&found, PhaseKind::Healthcheck)[0].exit_code(&found), Some(1 << 8));
    }
}

//! Detection on real sequences (`fixtures/`), and on each of the traps of container lifecycles.

use super::detect;
use super::fixture::{check, dockerfile, outline, session};
use crate::model::{Phase, PhaseKind, Session};

const BUILD: &str = "FROM localhost/buildroot\nENV X=1\nCOPY stamp /stamp\nRUN /stamp one && \\\n    sleep 0.1\n\
                     RUN [\"/stamp\", \"two\"]\nCMD [\"/stamp\"]\n";
const CHROOT_BUILD: &str = "FROM localhost/tiny\nCOPY stamp /stamp2\nRUN [\"/stamp2\",\"one\",\"/bin/sleep\",\"0.2\"]\n\
                            RUN /stamp2 two /bin/sleep 0.1\nENV A=1\n";
const DOCKER_BUILD: &str = "FROM bb\nENV X=1\nCOPY stamp /stamp2\nRUN /stamp2 one && \\\n  sleep 0.1\n\
                            RUN [\"/stamp2\", \"two\"]\nCMD [\"/stamp\"]\n";
const STAGES: &str = "FROM localhost/buildroot AS one\nCOPY stamp /stamp\nRUN /stamp one > /out\n\
                      FROM localhost/buildroot\nRUN echo two; cat /etc/hostname\nCOPY --from=one /out /out\n\
                      RUN [\"/bin/cat\", \"/out\"]\n";
const FAILED: &str = "FROM localhost/buildroot AS one\nCOPY stamp /stamp\nRUN false\nFROM localhost/buildroot\n\
                      RUN echo two; cat /etc/hostname\nCOPY --from=one /out /out\nRUN [\"/bin/cat\", \"/out\"]\n";

/// A recorded sequence, what the build in it read, and what detection must make of it.
struct Case {
    name: &'static str,
    events: &'static str,
    expected: &'static str,
    /// Client and file.
    build: Option<(&'static str, &'static str)>,
}

macro_rules! cases {
    ($( $name:literal $build:expr; )+) => { &[ $( Case {
        name: $name,
        events: include_str!(concat!("fixtures/", $name, ".txt")),
        expected: include_str!(concat!("fixtures/", $name, ".expected")),
        build: $build,
    }, )+ ] };
}

const CASES: &[Case] = cases! {
    "buildah_bud" Some(("buildah", BUILD));
    "buildah_chroot_bud" Some(("buildah", CHROOT_BUILD));
    "buildah_chroot_run" None;
    "buildah_run" None;
    "cri_containerd" None;
    "crio_run" None;
    "crun_open_tree" None;
    "crun_run" None;
    "docker_before" None;
    "docker_build" Some(("docker", DOCKER_BUILD));
    "docker_compose" None;
    "docker_life" None;
    "docker_run" None;
    "docker_two" None;
    "nerdctl_life" None;
    "podman_build" Some(("podman", BUILD));
    "podman_crun_run" None;
    "podman_failed_build" Some(("podman", FAILED));
    "podman_life" None;
    "podman_no_layers" Some(("podman", STAGES));
    "podman_rootless" None;
    "podman_run" None;
    "podman_stages" Some(("podman", STAGES));
    "runc_new" None;
};

impl Case {
    fn named(name: &str) -> &'static Case {
        CASES.iter().find(|case| case.name == name).unwrap()
    }

    fn session(&self, events: &str) -> Session {
        let mut session = session(events);
        if let Some((tool, file)) = self.build {
            dockerfile(&mut session, tool, file);
        }
        session
    }

    /// Its session, with the events changed line by line.
    fn changed(&self, change: impl Fn(&str) -> Vec<String>) -> Session {
        let events: Vec<String> = self.events.lines().flat_map(change).collect();
        let mut session = self.session(&events.join("\n"));
        detect(&mut session);
        check(&session);
        session
    }
}

fn only(session: &Session, kind: PhaseKind) -> &Phase {
    let mut found = session.phases.iter().filter(|phase| phase.kind == kind);
    let phase = found.next().unwrap();
    assert!(found.next().is_none(), "{kind:?}");
    phase
}

fn ms(session: &Session, ns: u64) -> f64 {
    (ns - session.span.from) as f64 / 1e6
}

fn same(line: &str) -> Vec<String> {
    vec![line.to_owned()]
}

/// Make sure that each recorded sequence gives the phases that it gave when it was looked at by a person beside the
/// engine's own output.
#[test]
fn recorded_sequences() {
    let mut wrong = String::new();
    for case in CASES {
        let found = outline(&mut case.session(case.events));
        if found != case.expected {
            wrong.push_str(&format!("{}.expected is not\n{found}\n", case.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Make sure that a recording cut off anywhere gives no panic and no phase beyond its end, and that what had begun and
/// not ended is marked open.
#[test]
fn cut_recordings() {
    for case in CASES {
        let lines: Vec<&str> = case.events.lines().collect();
        for length in (1..lines.len()).step_by(1 + lines.len() / 60) {
            let mut session = case.session_if_built(&lines[..length].join("\n"));
            detect(&mut session);
            check(&session);
            for phase in session.phases.iter().filter(|phase| phase.kind == PhaseKind::Run) {
                let entrypoint = phase
                    .container
                    .and_then(|container| session.containers[container.ix()].entrypoint);
                assert_eq!(
                    phase.open,
                    session.processes[entrypoint.unwrap().ix()].open,
                    "{} {length}",
                    case.name
                );
            }
        }
    }
}

/// Make sure that an event that was lost costs no more than its own information: no panic, no phase out of its parent.
#[test]
fn lost_events() {
    for case in CASES {
        let lines: Vec<&str> = case.events.lines().collect();
        for lost in (1..lines.len()).step_by(1 + lines.len() / 100) {
            let kept: Vec<&str> = [&lines[..lost], &lines[lost + 1..]].concat();
            let mut session = case.session_if_built(&kept.join("\n"));
            detect(&mut session);
            check(&session);
        }
    }
}

impl Case {
    /// As [`Case::session`], where the build's client may be missing.
    fn session_if_built(&self, events: &str) -> Session {
        let started = self.build.is_none_or(|(tool, _)| {
            events
                .lines()
                .any(|line| line.contains(&format!("\t{tool}\tbuild")) || line.contains(&format!("\t{tool}\tbud")))
        });
        if started { self.session(events) } else { session(events) }
    }
}

/// Make sure that what an umount leaves to do after its system call is charged to it (trap 1: the superblock's sync
/// runs in task work), and that another wait of the same thread is not.
#[test]
fn deferred_umount() {
    let case = Case::named("podman_run");
    let plain = case.changed(same);
    let with = |function: &str| {
        case.changed(|line| {
            let mut lines = same(line);
            let fields: Vec<&str> = line.split('\t').collect();
            if fields[2] == "umount" && fields.last().unwrap().ends_with("/merged") {
                let end: u64 = fields[0].parse().unwrap();
                // The thread's next event in the recording comes later than this.
                lines.push(format!(
                    "{}\t{}\twait\t{}\t{function}",
                    end + 5_000_000,
                    fields[1],
                    end + 1_000
                ));
            }
            lines
        })
    };
    let context_end = |session: &Session| {
        let context = super::context::Context::new(session);
        let umount = context
            .umounts
            .iter()
            .find(|umount| umount.target.ends_with(b"/merged"))
            .unwrap();
        (umount.deferred, umount.span.len())
    };
    let (deferred, length) = context_end(&with("cleanup_mnt"));
    assert!(deferred && length > 5_000_000, "{length}");
    assert_eq!(context_end(&with("futex_wait")), context_end(&plain));
    assert!(!context_end(&plain).0);
}

/// Make sure that the runtime's own program in the container's cgroup is not taken for the entrypoint (trap 4).
#[test]
fn runtime_in_the_cgroup() {
    let case = Case::named("podman_run");
    let plain = case.changed(same);
    let cgroup = plain.containers[0].cgroup;
    let session = case.changed(|line| {
        let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        if fields[2] == "exec" && fields[7].starts_with("/dev/fd/") {
            fields[3] = cgroup.to_string();
        }
        vec![fields.join("\t")]
    });
    assert_eq!(session.containers[0].entrypoint, plain.containers[0].entrypoint);
    assert_eq!(only(&session, PhaseKind::Run).span, only(&plain, PhaseKind::Run).span);
}

/// Make sure that without any cgroup event (rootless with `--cgroups=disabled`) the container is still found, by its
/// pid namespace and the runtime's own re-exec above it.
#[test]
fn no_cgroup_events() {
    let case = Case::named("podman_run");
    let plain = case.changed(same);
    let session = case.changed(|line| {
        let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        match fields[2].as_str() {
            "mkdir" | "rmdir" | "release" | "populated" | "attach" => return Vec::new(),
            "exec" => fields[3] = "1".to_owned(),
            _ => {}
        }
        vec![fields.join("\t")]
    });
    assert_eq!(session.containers[0].cgroup, 0);
    assert_eq!(session.containers[0].entrypoint, plain.containers[0].entrypoint);
    assert_eq!(only(&session, PhaseKind::Run).span, only(&plain, PhaseKind::Run).span);
    // What it forks is found by descent.
    assert_eq!(
        only(&session, PhaseKind::Run).processes,
        only(&plain, PhaseKind::Run).processes
    );
    // Its cgroup's birth is not there to tell init's start: the first new namespace is.
    let (begin, plain_begin) = (only(&session, PhaseKind::Init), only(&plain, PhaseKind::Init));
    assert!(begin.span.from > plain_begin.span.from && begin.evidence.0 == "first new namespace");
}

/// Make sure that the storage driver's probe mounts (trap 6) are no steps and no container's mount.
#[test]
fn storage_probes() {
    let case = Case::named("podman_build");
    let plain = case.changed(same);
    let session = case.changed(|line| {
        let mut lines = same(line);
        let fields: Vec<&str> = line.split('\t').collect();
        if fields[2] == "mount" && fields[7].ends_with("/merged") {
            let at: u64 = fields[0].parse().unwrap();
            for probe in [
                "compat123",
                "metacopy-check456",
                "opaque-bug-check789",
                "volatile-check1",
            ] {
                let target = format!("/b/graph/overlay/{probe}/merged");
                lines.insert(
                    0,
                    format!("{at}\t{}\tmount\t{at}\t0\t0\toverlay\t{target}\toverlay", fields[1]),
                );
            }
        }
        lines
    });
    let spans = |session: &Session| {
        session
            .phases
            .iter()
            .map(|phase| (phase.kind, phase.span))
            .collect::<Vec<_>>()
    };
    assert_eq!(spans(&session), spans(&plain));
}

/// Make sure that the mounts that docker makes and unmounts while it creates a container (trap 6) are not its mount.
#[test]
fn docker_init_mounts() {
    let case = Case::named("docker_run");
    let made = case
        .events
        .lines()
        .filter(|line| line.contains("\toverlay\t") && line.contains("/merged\toverlay"));
    assert_eq!(made.count(), 3, "the -init mount, the first one, and the container's");
    let session = case.changed(same);
    let mount = only(&session, PhaseKind::Mount);
    assert!(mount.span.to < only(&session, PhaseKind::Create).span.from && ms(&session, mount.span.from) > 100.0);
}

/// Make sure that a root file system that fuse-overlayfs serves is the container's mount as one of the kernel's is.
#[test]
fn mounted_by_a_daemon() {
    let case = Case::named("podman_run");
    assert!(case.events.contains("/merged\toverlay") && case.events.contains("\toverlay\t"));
    let kernel = case.changed(same);
    for (source, fstype) in [("overlay", "fuse.fuse-overlayfs"), ("fuse-overlayfs", "fuse")] {
        let daemon = case.changed(|line| {
            let mounted = line.replace("/merged\toverlay", &format!("/merged\t{fstype}"));
            let mounted = if mounted == line {
                mounted
            } else {
                mounted.replace("\toverlay\t", &format!("\t{source}\t"))
            };
            vec![mounted]
        });
        let [kernel, daemon] = [&kernel, &daemon].map(|session| only(session, PhaseKind::Mount).span);
        assert_eq!(kernel, daemon);
    }
}

/// Make sure that a restart is another run of the same container, in another cgroup, under the same name.
#[test]
fn restart() {
    for name in ["podman_life", "docker_life"] {
        let session = Case::named(name).changed(same);
        let [first, second] = session.containers.as_slice() else {
            panic!("{name}")
        };
        assert_eq!(
            (&first.id, &first.name, &first.image),
            (&second.id, &second.name, &second.image)
        );
        assert!(!first.name.is_empty() && first.cgroup != second.cgroup && first.span.to <= second.span.from);
        let runs: Vec<&Phase> = session
            .phases
            .iter()
            .filter(|phase| phase.kind == PhaseKind::Run)
            .collect();
        assert!(runs.len() == 2 && runs[0].span.to < runs[1].span.from, "{name}");
    }
}

/// Make sure that two clients of one daemon at once keep their own containers, told apart by the command they gave.
#[test]
fn two_clients() {
    let session = Case::named("docker_two").changed(same);
    for container in &session.containers {
        let operation = &session.operations[container.operation.unwrap().ix()];
        let client = &session.processes[operation.process.ix()];
        assert!(client.image().unwrap().argv.contains(&container.name));
        let argv = &session.processes[container.entrypoint.unwrap().ix()]
            .image_at(u64::MAX)
            .unwrap()
            .argv;
        assert!(!argv.is_empty());
        // The container's processes count to their own client's operation only.
        assert!(operation.processes.contains(&container.entrypoint.unwrap()));
        let others = session
            .operations
            .iter()
            .filter(|other| other.process != operation.process && other.name == "docker run");
        assert!(
            others
                .into_iter()
                .all(|other| !other.processes.contains(&container.entrypoint.unwrap()))
        );
    }
    assert_eq!(session.containers.len(), 2);
}

/// Make sure that two clients with the same command are not told apart by guessing: no name, no image, no client.
#[test]
fn indistinct_clients() {
    let session = Case::named("docker_two").changed(|line| vec![line.replace("sleep 0.4", "sleep 0.5")]);
    assert_eq!(session.containers.len(), 2);
    for container in &session.containers {
        assert!(container.name.is_empty() && container.image.is_empty());
        assert!(
            container
                .operation
                .is_none_or(|operation| session.operations[operation.ix()].name != "docker run")
        );
    }
}

/// Make sure that a build whose file says other than its containers ran (it was changed meanwhile, or another one was
/// read) shows its `RUN`s by what they ran, under no number.
#[test]
fn build_file_that_does_not_fit() {
    let case = Case::named("podman_build");
    let mut session = session(case.events);
    dockerfile(&mut session, "podman", &BUILD.replace("/stamp one", "/stamp other"));
    detect(&mut session);
    check(&session);
    let labels: Vec<String> = session
        .phases
        .iter()
        .filter(|phase| phase.kind == PhaseKind::Step)
        .map(|phase| String::from_utf8(phase.label.clone()).unwrap())
        .collect();
    assert_eq!(
        labels,
        [
            "RUN /bin/sh -c /stamp one &&     sleep 0.1",
            "5/6 RUN [\"/stamp\", \"two\"]"
        ]
    );
}

/// Make sure that without the build's file the `RUN`s are there all the same.
#[test]
fn build_without_file() {
    let mut session = session(Case::named("podman_build").events);
    detect(&mut session);
    check(&session);
    let steps: Vec<&Phase> = session
        .phases
        .iter()
        .filter(|phase| phase.kind == PhaseKind::Step)
        .collect();
    assert_eq!(steps.len(), 2);
    assert!(steps.iter().all(|step| step.label.starts_with(b"RUN /")));
    let children = |step: &Phase| {
        let inside = |phase: &&Phase| phase.container.is_some() && step.span.clip(phase.span) == phase.span;
        session
            .phases
            .iter()
            .filter(inside)
            .filter(|phase| phase.parent.is_some())
            .count()
    };
    assert!(steps.iter().all(|step| children(step) >= 6));
}

/// Make sure that a runtime that dies between create and start leaves a container with what it came to.
#[test]
fn died_before_start() {
    let case = Case::named("podman_run");
    let start = case.events.lines().position(|line| line.contains("\tstart\t")).unwrap();
    let lines: Vec<&str> = case.events.lines().take(start).collect();
    let mut session = session(&lines.join("\n"));
    detect(&mut session);
    check(&session);
    let kinds: Vec<PhaseKind> = session.phases.iter().map(|phase| phase.kind).collect();
    assert_eq!(
        kinds,
        [PhaseKind::Mount, PhaseKind::Network, PhaseKind::Create, PhaseKind::Init]
    );
    assert!(session.containers[0].entrypoint.is_none());
}

/// Make sure that each of many containers is found, though all their processes have the same pids one after the other.
#[test]
fn many_containers_with_reused_pids() {
    const RUNS: u64 = 500;
    let case = Case::named("podman_run");
    let length: u64 = case
        .events
        .lines()
        .last()
        .unwrap()
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let plain = case.changed(same);
    let id = String::from_utf8(plain.containers[0].id.clone()).unwrap();
    let cgroup = plain.containers[0].cgroup;
    let mut events = String::from("0\t1\tbegin\n");
    for run in 0..RUNS {
        let shifted = |field: &str| (field.parse::<u64>().unwrap() + run * (length + 1)).to_string();
        for line in case.events.lines() {
            let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            fields[0] = shifted(&fields[0]);
            match fields[2].as_str() {
                // The recorded command starts them all.
                "begin" => {
                    fields = [&fields[0], "1", "fork", "1", &fields[1], "0"]
                        .map(str::to_owned)
                        .to_vec()
                }
                "mount" | "umount" => fields[3] = shifted(&fields[3]),
                _ => {}
            }
            if fields[3] == cgroup.to_string() {
                fields[3] = (cgroup + run).to_string();
            }
            let line = fields.join("\t").replace(&id, &format!("{run:064}"));
            events.push_str(&line.replace("/overlay/", &format!("/overlay/{run}/")));
            events.push('\n');
        }
    }
    let mut session = session(&events);
    detect(&mut session);
    check(&session);
    assert_eq!(
        (session.containers.len() as u64, session.phases.len() as u64),
        (RUNS, RUNS * 7)
    );
    for (run, container) in session.containers.iter().enumerate() {
        assert_eq!(container.id, format!("{run:064}").into_bytes());
        assert_eq!(container.name, b"phg-one");
        let mut own = session
            .phases
            .iter()
            .filter(|phase| phase.container.is_some_and(|owner| owner.ix() == run));
        assert!(own.all(|phase| phase.operation.is_some() && phase.operation == container.operation));
    }
}

/// Make sure that hostile ids and names neither panic nor are taken for others: long ones, and ones that look like a
/// prefix of the container's.
#[test]
fn hostile_names() {
    let case = Case::named("docker_life");
    let long = "x".repeat(100_000);
    let session = case.changed(|line| vec![line.replace("dk-two", &long)]);
    assert_eq!(session.containers[0].name, long.as_bytes());
    let session = case.changed(|line| vec![line.replace("dk-two", "\u{1b}[31m\\n")]);
    assert_eq!(session.containers.len(), 2);
    // A name too short to be anything but chance as a prefix of an id.
    let session = case.changed(|line| vec![line.replace("--name\tdk-two\t", "").replace("dk-two", "d")]);
    assert!(session.containers[0].name.is_empty());
}

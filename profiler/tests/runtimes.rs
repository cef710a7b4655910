//! phasegraph on real runtimes: podman with runc, buildah, docker with containerd and runc. They need root and the
//! runtimes, and say so when they are skipped.
//!
//! The truth that phases are held against is a stopwatch in the container itself: a static program that reads
//! `CLOCK_MONOTONIC` at `main()` and before its exit.
#![expect(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::path::Path;

use support::docker::{self, Docker};
use support::host::Skip;
use support::podman::{self, Podman};
use support::profile::{Item, Profile, profile};
use support::workload;

/// How far a `run` phase may reach beyond the stopwatch in it: exec to `main()`, and the last stamp to the exit.
const TOLERANCE_NS: u64 = 5_000_000;

/// Unpacks a scenario, or says why there is none here.
macro_rules! scenario {
    ($made:expr) => {
        match $made {
            Ok(scenario) => scenario,
            Err(Skip(why)) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}

fn podman_profile(podman: &Podman, words: &[&str]) -> Profile {
    profile(|program| podman.command(program), podman.corner.folder(), words)
}

fn docker_profile(docker: &Docker, words: &[&str]) -> Profile {
    profile(|program| docker.command(program), docker.corner.folder(), words)
}

/// The stopwatch lies in the phase, and the phase reaches no further than the tolerance beyond it. On a busy host the
/// container's first process waits for a CPU in between, which is no error of the phase.
fn assert_agrees(run: Item<'_>, (begin, end): (u64, u64)) {
    let (before, after) = (begin as i64 - run.from() as i64, run.to() as i64 - end as i64);
    println!("run begins {before} ns before the stopwatch and ends {after} ns after it");
    assert!(run.from() <= begin && end <= run.to(), "{before} {after}");
    let tolerance = TOLERANCE_NS + run.0["wall"]["runqueue_ns"].as_u64().unwrap();
    assert!(
        begin - run.from() <= tolerance && run.to() - end <= tolerance,
        "{before} {after}"
    );
}

/// Phases that follow each other: each begins when or after the one before began, and all of them ended.
fn assert_order(container: Item<'_>, names: &[&str]) {
    let phases: Vec<Item> = names.iter().map(|name| container.phase(name)).collect();
    for pair in phases.windows(2) {
        assert!(pair[0].from() < pair[1].from(), "{names:?} in {:#}", container.0);
    }
    assert!(
        phases
            .iter()
            .all(|phase| phase.0["open"] == false && phase.to() >= phase.from())
    );
    let (create, init) = (container.phase("create"), container.phase("init"));
    assert!(create.from() <= init.from() && init.to() <= create.to());
    let (start, run, cleanup) = (
        container.phase("start"),
        container.phase("run"),
        container.phase("cleanup"),
    );
    assert_eq!((start.to(), run.to()), (run.from(), cleanup.from()));
}

/// Writes the build context: the C project, the stopwatch and a file with two RUNs of both forms.
fn context(folder: &Path, name: &str, from: &str, run: &str) -> Result<(), Skip> {
    fs::create_dir_all(folder).unwrap();
    workload::stamp(&folder.join("stamp"))?;
    let text = format!(
        "FROM {from}\nCOPY . /src\nWORKDIR /src\n# compiled here\nRUN {run}\n\
         RUN exec /src/stamp shell \\\n    sleep 0.2\nENV A=1\nCMD [\"/src/app\"]\n"
    );
    fs::write(folder.join(name), text).unwrap();
    Ok(())
}

/// Make sure that `podman run` gives the container's whole life, under the name and image it was given, and that its
/// `run` agrees with a stopwatch inside it.
#[test]
fn podman_run() {
    let podman = scenario!(Podman::new());
    let words = [
        "podman",
        "run",
        "--rm",
        "--network=none",
        "--name=one",
        podman::TINY,
        "/stamp",
        "one",
        "/bin/sleep",
        "0.3",
    ];
    let profile = podman_profile(&podman, &words);
    assert_eq!(profile.operations(), ["podman run"]);
    let container = profile.container("one");
    assert_eq!(
        (container.text("engine"), container.text("runtime")),
        ("podman", "runc")
    );
    assert_eq!(container.text("image"), podman::TINY);
    assert_eq!(container.text("id").len(), 64);
    assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    let run = container.phase("run");
    assert_agrees(run, workload::stamps(&profile.output, "one"));
    assert_eq!(profile.programs(run), ["stamp", "sleep"]);
}

/// Make sure that `podman exec`, `stop` and `restart` show in the run they belong to, each under its own operation,
/// and that a restart is another run of the same container.
#[test]
fn podman_life() {
    let podman = scenario!(Podman::new());
    let image = podman::TINY;
    let script = format!(
        "podman run -d --network=none --name=two {image} /bin/sleep 100; podman exec two /bin/echo hi; \
         podman restart -t 1 two; podman stop -t 1 two; podman rm two"
    );
    let profile = podman_profile(&podman, &["sh", "-c", &script]);
    let operations = profile.operations();
    assert_eq!(
        operations,
        [
            "sh",
            "podman run",
            "podman exec",
            "podman restart",
            "podman stop",
            "podman rm"
        ]
    );
    let containers = profile.containers();
    let [first, second] = containers.as_slice() else {
        panic!("{:#}", profile.json["containers"])
    };
    assert_eq!((first.text("id"), first.text("name")), (second.text("id"), "two"));
    assert_eq!(second.text("name"), "two");
    assert_ne!(first.0["cgroup"], second.0["cgroup"]);
    let operation = |phase: Item| operations[phase.0["operation"].as_u64().unwrap() as usize];
    let exec = first.phase("exec");
    assert_eq!((exec.text("label"), operation(exec)), ("/bin/echo hi", "podman exec"));
    // sleep as pid 1 ignores SIGTERM: the grace period of 1 s passes.
    for (container, name) in [(first, "podman restart"), (second, "podman stop")] {
        let (stop, run) = (container.phase("stop"), container.phase("run"));
        assert_eq!(operation(stop), name);
        assert_eq!(stop.to(), run.to());
        assert!(stop.to() - stop.from() >= 900_000_000);
        assert_eq!(profile.programs(run)[0], "sleep");
    }
}

/// The steps of a build of [`context`], with the phases of its two containers in the right ones.
fn assert_build(profile: &Profile, labels: &[&str], compiles: bool) {
    let steps = profile.steps();
    let found: Vec<&str> = steps.iter().map(|step| step.text("label")).collect();
    assert_eq!(found, labels);
    let containers = profile.containers();
    assert_eq!(containers.len(), 2);
    for (container, (step, stamp)) in containers.iter().zip([(3, "exec"), (4, "shell")]) {
        assert_order(*container, &["mount", "create", "start", "run", "cleanup"]);
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, stamp));
        for name in ["mount", "create", "start", "run", "cleanup"] {
            let phase = container.phase(name);
            assert_eq!(phase.0["parent"], steps[step].index(), "{name}");
            assert!(
                steps[step].from() <= phase.from() && phase.to() <= steps[step].to(),
                "{name}"
            );
        }
    }
    for pair in steps.windows(2) {
        assert!(pair[0].to() <= pair[1].from());
    }
    if compiles {
        let programs = profile.programs(steps[3]);
        let count = |name: &str| programs.iter().filter(|program| *program == name).count();
        assert_eq!(
            (count("cc1"), count("as")),
            (workload::SOURCES, workload::SOURCES),
            "{programs:?}"
        );
        assert_eq!((count("make"), count("collect2")), (1, 1));
        assert!(!profile.programs(steps[4]).contains(&"cc1".to_owned()));
    }
}

/// Make sure that `podman build` of a C project gives its steps as the Containerfile numbers them, with each RUN's
/// container and the compiler's processes below their step.
#[test]
fn podman_build() {
    let podman = scenario!(Podman::new().and_then(Podman::with_build_root));
    let folder = podman.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Containerfile",
        podman::BUILD_ROOT,
        r#"["/src/stamp", "exec", "make", "-j2"]"#
    ));
    workload::c_project(&folder);
    let words = [
        "podman",
        "build",
        "--network=none",
        "--no-cache",
        "-t",
        "app",
        "context",
    ];
    let profile = podman_profile(&podman, &words);
    assert_eq!(profile.operations(), ["podman build"]);
    let labels = [
        "1/7 FROM localhost/build-root",
        "2/7 COPY . /src",
        "3/7 WORKDIR /src",
        r#"4/7 RUN ["/src/stamp", "exec", "make", "-j2"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
        "6/7 ENV A=1",
        r#"7/7 CMD ["/src/app"]"#,
    ];
    assert_build(&profile, &labels, true);
}

/// Make sure that a build with buildah, which makes one layer only, still gives its RUNs with their numbers.
#[test]
fn buildah_build() {
    let podman = scenario!(support::host::require(&["buildah"]).and_then(|()| Podman::new()));
    let folder = podman.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Containerfile",
        podman::TINY,
        r#"["/src/stamp", "exec", "/bin/sleep", "0.1"]"#
    ));
    let words = [
        "buildah",
        "bud",
        "--network=none",
        "--runtime=runc",
        "--layers=false",
        "-t",
        "app",
        "context",
    ];
    let profile = podman_profile(&podman, &words);
    assert_eq!(profile.operations(), ["buildah bud"]);
    let steps = profile.steps();
    let labels: Vec<&str> = steps.iter().map(|step| step.text("label")).collect();
    let expected = [
        r#"4/7 RUN ["/src/stamp", "exec", "/bin/sleep", "0.1"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
    ];
    assert_eq!(labels, expected);
    for (container, stamp) in profile.containers().into_iter().zip(["exec", "shell"]) {
        assert_eq!(container.text("engine"), "buildah");
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, stamp));
    }
}

/// Make sure that `docker run` gives the container's whole life, with the daemon's part of it, and the network's hook
/// in `create`.
#[test]
fn docker_run() {
    let docker = scenario!(Docker::new());
    let words = [
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--name=one",
        docker::TINY,
        "/stamp",
        "one",
        "/bin/sleep",
        "0.3",
    ];
    let profile = docker_profile(&docker, &words);
    let container = profile.container("one");
    assert_eq!(
        (container.text("engine"), container.text("runtime")),
        ("docker", "runc")
    );
    assert_eq!(container.text("image"), docker::TINY);
    assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    assert_agrees(container.phase("run"), workload::stamps(&profile.output, "one"));
    let (create, network) = (container.phase("create"), container.phase("network"));
    assert!(create.from() < network.from() && network.to() < create.to());
    assert!(profile.programs(network).contains(&"libnetwork-setkey".to_owned()));
    // Charged to the client that asked for it, though it is no child of its.
    assert_eq!(container.0["operation"], 0);
}

/// Make sure that `docker exec`, `stop` and `restart` show in the run they belong to, each under its own operation.
#[test]
fn docker_life() {
    let docker = scenario!(Docker::new());
    let image = docker::TINY;
    let script = format!(
        "docker run -d --network=none --name=two {image} /bin/sleep 100; docker exec two /bin/echo hi; \
         docker restart -t 1 two; docker stop -t 1 two; docker rm two"
    );
    let profile = docker_profile(&docker, &["sh", "-c", &script]);
    let operations = profile.operations();
    assert_eq!(
        operations,
        [
            "sh",
            "docker run",
            "docker exec",
            "docker restart",
            "docker stop",
            "docker rm"
        ]
    );
    let containers = profile.containers();
    let [first, second] = containers.as_slice() else {
        panic!("{:#}", profile.json["containers"])
    };
    assert_eq!((first.text("id"), first.text("name")), (second.text("id"), "two"));
    assert_eq!(second.text("name"), "two");
    let operation = |phase: Item| operations[phase.0["operation"].as_u64().unwrap() as usize];
    let exec = first.phase("exec");
    assert_eq!((exec.text("label"), operation(exec)), ("/bin/echo hi", "docker exec"));
    for (container, name) in [(first, "docker restart"), (second, "docker stop")] {
        assert_eq!(operation(container.phase("stop")), name);
        assert!(container.phase("stop").to() - container.phase("stop").from() >= 900_000_000);
    }
    // The first run's mount was kept for the second.
    assert_eq!((first.phases("mount").len(), second.phases("mount").len()), (1, 0));
}

/// Make sure that two clients of one daemon at once each keep their own container.
#[test]
fn docker_two_clients() {
    let docker = scenario!(Docker::new());
    let image = docker::TINY;
    let script = format!(
        "docker run --network=none --name=first {image} /stamp first /bin/sleep 0.5 & \
         docker run --network=none --name=second {image} /stamp second /bin/sleep 0.4; wait"
    );
    let profile = docker_profile(&docker, &["sh", "-c", &script]);
    for name in ["first", "second"] {
        let container = profile.container(name);
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, name));
    }
    assert_ne!(
        profile.container("first").0["operation"],
        profile.container("second").0["operation"]
    );
}

/// Make sure that docker's classic builder gives its steps as it numbers them, with each RUN's container below its own.
#[test]
fn docker_build() {
    let docker = scenario!(Docker::new());
    let folder = docker.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Dockerfile",
        docker::TINY,
        r#"["/src/stamp", "exec", "/bin/sleep", "0.1"]"#
    ));
    let words = [
        "docker",
        "build",
        "--network=none",
        "--no-cache",
        "-t",
        "app",
        "context",
    ];
    let profile = docker_profile(&docker, &words);
    let labels = [
        "1/7 FROM tiny",
        "2/7 COPY . /src",
        "3/7 WORKDIR /src",
        r#"4/7 RUN ["/src/stamp", "exec", "/bin/sleep", "0.1"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
        "6/7 ENV A=1",
        r#"7/7 CMD ["/src/app"]"#,
    ];
    assert_build(&profile, &labels, false);
}

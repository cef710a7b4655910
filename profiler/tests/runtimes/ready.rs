//! Ready containers, healthchecks, exec sessions' ends, names from engines' files, and what people mark in a container.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::bare::Bare;
use super::support::check::scenario;
use super::support::coverage;
use super::support::docker::{self, Docker};
use super::support::host::{self, Skip, succeed};
use super::support::podman::{self, Podman};
use super::support::profile::{Item, Profile};
use super::support::workload;

/// Stamps around `listen` on a TCP port or a unix socket, from a thread of a child, and goes on for 200 ms.
const LISTENER: &str = r#"
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char **words;

static void stamp(const char *edge)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("stamp ready %s %lld\n", edge, now.tv_sec * 1000000000LL + now.tv_nsec);
    fflush(stdout);
}

static void *serve(void *unused)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_un un = { .sun_family = AF_UNIX };
    int tcp = strcmp(words[1], "tcp") == 0;
    int fd = socket(tcp ? AF_INET : AF_UNIX, SOCK_STREAM, 0);
    in.sin_port = htons(atoi(words[2]));
    strncpy(un.sun_path, words[2], sizeof un.sun_path - 1);
    if (bind(fd, tcp ? (void *)&in : (void *)&un, tcp ? sizeof in : sizeof un) != 0)
        exit(3);
    usleep(100000);
    stamp("begin");
    if (listen(fd, 1) != 0)
        exit(4);
    stamp("end");
    return unused;
}

int main(int count, char **all)
{
    pthread_t thread;
    words = all;
    if (count != 3)
        return 2;
    if (fork() == 0) {
        pthread_create(&thread, NULL, serve, NULL);
        pthread_join(thread, NULL);
        usleep(200000);
        exit(0);
    }
    wait(NULL);
    return 0;
}
"#;

/// Makes it at `program`.
pub(crate) fn listener(program: &Path) -> Result<PathBuf, Skip> {
    host::require(&["gcc"])?;
    let source = program.with_extension("c");
    std::fs::write(&source, LISTENER).unwrap();
    let mut compiler = Command::new("gcc");
    succeed(
        compiler
            .args(["-O2", "-static", "-pthread", "-o"])
            .args([program, &source]),
    );
    Ok(program.to_owned())
}

/// The container listened between its two stamps, and the phase says so and on what.
pub(crate) fn assert_ready(profile: &Profile, container: Item<'_>, label: &str) {
    let (ready, run) = (container.phase("ready"), container.phase("run"));
    let (before, after) = workload::stamps(&profile.output, "ready");
    assert_eq!(ready.text("label"), label);
    assert_eq!((ready.from(), &ready.0["parent"]), (run.from(), &run.0["index"]));
    println!(
        "listening at most {} ns after the stamp before, {} ns window",
        ready.to() as i64 - before as i64,
        after - before
    );
    assert!(
        before <= ready.to() && ready.to() <= after,
        "{before} {} {after}",
        ready.to()
    );
}

/// A container under podman that listens, TCP and unix, and one that does not.
fn podman_listens(runtime: &'static str, row: &str, test: &str) {
    let podman = scenario!(Podman::new(runtime));
    let program = scenario!(listener(&podman.corner.folder().join("listener")));
    let volume = format!("{}:/listener", program.display());
    let run = ["podman", "run", "--rm", "--network=none", "--name=one"];
    for (words, label) in [(["tcp", "8080"], "tcp/8080"), (["unix", "/a b.sock"], "unix/a b.sock")] {
        let profile = podman.profile(&[&run[..], &["-v", &volume, podman::TINY, "/listener"], &words].concat());
        assert_ready(&profile, profile.container("one"), label);
        coverage::assert(row, test, &profile);
    }
    let profile = podman.profile(&[&run[..], &[podman::TINY, "/bin/true"]].concat());
    assert!(profile.container("one").phases("ready").is_empty());
}

/// Make sure that `ready` ends in the very `listen` call of a child's thread in a podman container with runc, TCP and
/// unix, and that a container that never listens has none.
#[test]
fn podman_ready() {
    podman_listens("runc", "podman, runc", "podman_ready");
}

/// Make sure of the same with crun.
#[test]
fn podman_crun_ready() {
    podman_listens("crun", "podman, crun", "podman_crun_ready");
}

/// A container of a bare runtime that listens, by `run` and by `create` and `start`.
fn bare_listens(runtime: &'static str, [run, life]: [&str; 2], test: &str) {
    let bare = scenario!(Bare::new(runtime));
    scenario!(listener(&bare.corner.folder().join("rootfs/listener")));
    let bundle = bare.bundle("one", &["/listener", "unix", "/one.sock"]);
    let profile = bare.profile(&[runtime, "run", "--bundle", bundle.to_str().unwrap(), "phg-one"]);
    assert_ready(&profile, profile.containers()[0], "unix/one.sock");
    coverage::assert(run, test, &profile);
    bare.bundle("two", &["/listener", "tcp", "8080"]);
    let profile = bare.script(
        "$RT create --bundle two phg-two < /dev/null; $RT start phg-two; \
         while $RT state phg-two | grep -q '\"running\"'; do sleep 0.05; done; $RT delete phg-two",
    );
    assert_ready(&profile, profile.containers()[0], "tcp/8080");
    coverage::assert(life, test, &profile);
}

/// Make sure of the same with runc alone, by one command and by two.
#[test]
fn runc_ready() {
    bare_listens("runc", ["runc run", "runc create, start"], "runc_ready");
}

/// Make sure of the same with crun alone.
#[test]
fn crun_ready() {
    bare_listens("crun", ["crun run", "crun create, start"], "crun_ready");
}

/// An exec session with its command, engine and status, and a healthcheck apart from it.
fn assert_sessions(profile: &Profile, engine: &str) {
    let container = profile.container("two");
    let exec = container.phase("exec");
    assert_eq!((exec.text("label"), exec.text("engine")), ("/bin/sh -c exit 3", engine));
    assert_eq!(exec.0["exit_status"], 3);
    let checks = container.phases("healthcheck");
    let first = checks.first().unwrap();
    assert_eq!(
        (first.text("label"), first.text("engine")),
        ("/bin/sh -c exit 0", engine)
    );
    assert_eq!(first.0["exit_status"], 0);
    let ready = container.phase("ready");
    assert_eq!((ready.text("label"), ready.to()), ("healthcheck", first.to()));
    assert_eq!(ready.from(), container.phase("run").from());
}

/// Make sure that podman's exec sessions have their status, its healthchecks are told apart, and the first that succeeds
/// makes the container ready.
#[test]
fn podman_sessions() {
    let podman = scenario!(Podman::new("runc"));
    let image = podman::TINY;
    let script = format!(
        "podman run -d --network=none --name=two --health-cmd='exit 0' --health-interval=disable {image} /bin/sleep 100; \
         podman healthcheck run two; podman exec two /bin/sh -c 'exit 3' || true; podman rm -f -t 0 two"
    );
    assert_sessions(&podman.profile(&["sh", "-ec", &script]), "podman");
}

/// Make sure of the same for docker, whose daemon runs the check by itself, and that `ready` ends in the `listen` call.
#[test]
fn docker_ready_and_sessions() {
    let docker = scenario!(Docker::new());
    let image = docker::TINY;
    let script = format!(
        "docker run -d --network=none --name=two --health-cmd='exit 0' --health-interval=1s {image} /bin/sleep 100; \
         until docker ps | grep -q '(healthy)'; do sleep 0.2; done; \
         docker exec two /bin/sh -c 'exit 3' || true; docker rm -f two"
    );
    assert_sessions(&docker.profile(&["sh", "-ec", &script]), "docker");
    let program = scenario!(listener(&docker.corner.folder().join("listener")));
    let volume = format!("{}:/listener", program.display());
    let run = [
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--name=one",
        "-v",
        &volume,
        image,
        "/listener",
        "tcp",
        "80",
    ];
    let profile = docker.profile(&run);
    assert_ready(&profile, profile.container("one"), "tcp/80");
    coverage::assert("docker", "docker_ready_and_sessions", &profile);
}

/// Make sure that a container made before the recording, which no command line in it describes, has its name and image
/// from the engine's own files.
#[test]
fn names_from_state() {
    {
        let podman = scenario!(Podman::new("runc"));
        let create = ["create", "--network=none", "--name=made", podman::TINY, "/bin/true"];
        let output = succeed(podman.command("podman").args(create));
        let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        let profile = podman.profile(&["podman", "start", "-a", &id]);
        let container = profile.container("made");
        assert_eq!((container.text("id"), container.text("engine")), (&id[..], "podman"));
        assert!(
            container.text("image").starts_with(podman::TINY),
            "{}",
            container.text("image")
        );
        assert!(container.text("digest").starts_with("sha256:"));
    }
    let docker = scenario!(Docker::new());
    let create = ["create", "--network=none", "--name=made", docker::TINY, "/bin/true"];
    let output = succeed(docker.command("docker").args(create));
    let id = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let profile = docker.profile(&["docker", "start", "-a", &id]);
    let container = profile.container("made");
    assert_eq!((container.text("id"), container.text("engine")), (&id[..], "docker"));
    assert_eq!(container.text("image"), docker::TINY);
}

/// Make sure that marks made in a container, where phasegraph is not installed, are phases of its `run`, that a rule finds
/// its programs there, and that it has the peak of its largest process.
#[test]
fn own_phases_in_a_container() {
    let podman = scenario!(Podman::new("runc"));
    let rules = podman.corner.folder().join("phasegraph.toml");
    std::fs::write(&rules, "[phases]\nnap = \"sleep 0.2\"\n").unwrap();
    let script = "/bin/true phasegraph mark --begin inside; sleep 0.2; /bin/true phasegraph mark --end inside; \
                  /bin/true phasegraph mark --begin rest; /bin/busybox dd if=/dev/zero of=/dev/null bs=32M count=1";
    let run = [
        "podman",
        "run",
        "--rm",
        "--network=none",
        "--name=one",
        podman::TINY,
        "/bin/sh",
        "-c",
        script,
    ];
    let profile = podman.profile(&run);
    let container = profile.container("one");
    let run = container.phase("run");
    let own = run.phases("user");
    let labels: Vec<&str> = own.iter().map(|phase| phase.text("label")).collect();
    assert_eq!(labels, ["inside", "nap", "rest"]);
    assert!(own[0].to() - own[0].from() >= 200_000_000);
    assert_eq!(own[1].0["parent"], own[0].0["index"]);
    assert_eq!(
        (own[2].to(), &own[2].0["open"]),
        (run.to(), &serde_json::Value::Bool(false))
    );
    let peak = container.0["peak_rss_bytes"].as_u64().unwrap();
    assert!((32 << 20..40 << 20).contains(&peak), "{peak}: {}", profile.output);
    assert_eq!(own[2].0["peak_rss_bytes"], peak);
}

/// Make sure that phasegraph records in a privileged container that has the host's pid namespace, and says what is
/// missing in one that has not.
#[test]
fn in_a_privileged_container() {
    let podman = scenario!(Podman::new("runc"));
    let out = podman.corner.folder().join("out");
    std::fs::create_dir(&out).unwrap();
    let volumes = [
        format!("{}:/phasegraph:ro", env!("CARGO_BIN_EXE_phasegraph")),
        format!("{}:/out", out.display()),
        // The C library that the program was linked with.
        "/lib:/lib:ro".to_owned(),
        "/lib64:/lib64:ro".to_owned(),
    ];
    let run = |more: &[&str]| {
        let mut command = podman.command("podman");
        command
            .args(["run", "--rm", "--privileged", "--network=none"])
            .args(more);
        for volume in &volumes {
            command.args(["-v", volume]);
        }
        let words = [
            "/phasegraph",
            "run",
            "-o",
            "/out/x.phg",
            "--no-summary",
            "--",
            "/bin/sh",
            "-c",
            "/bin/true seen",
        ];
        command.arg(podman::TINY).args(words).output().unwrap()
    };
    let refused = run(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("pid namespace of its own") && said.contains("--pid=host"),
        "{said}"
    );
    let done = run(&["--pid=host"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let shown = succeed(
        Command::new(env!("CARGO_BIN_EXE_phasegraph"))
            .arg("show")
            .arg(out.join("x.phg"))
            .arg("--json"),
    );
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let mut processes = json["processes"].as_array().unwrap().iter();
    assert!(
        processes.any(|process| process["argv"][1]["text"] == "seen"),
        "{:#}",
        json["processes"]
    );
}

//! Bad input, and things that go wrong in the middle: shown as what they are, nothing left open without saying so.

use std::process::Command;

use serde_json::Value;

use super::support::bare::Bare;
use super::support::check::{assert_order, operation, scenario};
use super::support::docker::{self, Docker};
use super::support::machine::emulated;
use super::support::podman::{self, Podman};
use super::support::profile::{self, Item, Profile};

/// Parts of a path, each as long as a file name may be, and how many of them.
const PART: usize = 240;
const PARTS: usize = 15;

/// Bytes of a name that podman still takes: its database's keys are no longer than 32 kB.
const LONG_NAME: usize = 30_000;

/// A phase that is open ends with the recording.
fn assert_none_open_but_at_the_end(profile: &Profile) {
    let end = profile.json["span"]["end_ns"].as_u64().unwrap();
    for container in profile.containers() {
        for name in [
            "mount", "create", "init", "network", "start", "run", "exec", "stop", "cleanup",
        ] {
            for phase in container.phases(name) {
                assert!(phase.0["open"] == false || phase.to() == end, "{phase:?}");
            }
        }
    }
}

/// What the terminal's page says of the last recording; it must be harmless text.
fn page(bare: &Bare) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_phasegraph"))
        .arg("show")
        .arg(bare.corner.folder().join("profile.phg"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}'),
        "control characters on the page"
    );
    text
}

/// Make sure that arguments with newlines, escapes, bytes that are no UTF-8 and 100 kB are shown harmlessly, as the
/// phase's that they are.
#[test]
fn hostile_arguments() {
    let bare = scenario!(Bare::new("runc"));
    bare.bundle("odd", &["/bin/sleep", "30"]);
    let long = vec![b'x'; 100_000];
    // runc hands its arguments on as JSON, so what is no UTF-8 is in its own command line only.
    std::fs::write(bare.corner.folder().join("odd.txt"), b"a\n\x1b[31mred\x07\xff\xfe\r\tb").unwrap();
    std::fs::write(bare.corner.folder().join("long.txt"), &long).unwrap();
    let profile = bare.script(
        "$RT run --detach --bundle odd phg-odd < /dev/null > /dev/null 2>&1; $RT exec phg-odd /bin/true \"$(cat odd.txt)\"; \
         $RT exec phg-odd /bin/true \"$(cat long.txt)\"; $RT exec phg-odd \"$(cat odd.txt)\" || true; \
         $RT delete --force phg-odd",
    );
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    let execs = container.phases("exec");
    assert_eq!(execs.len(), 3, "{execs:?}");
    assert!(
        execs[0].text("label").starts_with("/bin/true a\n\u{1b}[31mred"),
        "{}",
        execs[0].text("label")
    );
    // Kept as far as the kernel side keeps arguments, which says how much is missing.
    assert!(execs[1].text("label").starts_with("/bin/true xxxx"));
    assert_none_open_but_at_the_end(&profile);
    page(&bare);
}

/// Make sure that a container in a cgroup whose path is nearly as long as a path may be is a container like others.
#[test]
fn long_cgroup_path() {
    let bare = scenario!(Bare::new("runc"));
    let bundle = bare.bundle("deep", &["/stamp", "deep"]);
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let path = format!("/phg-{}", vec!["d".repeat(PART); PARTS].join("/"));
    config["linux"]["cgroupsPath"] = path.clone().into();
    std::fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    let profile = bare.script("$RT run --bundle deep phg-deep");
    // runc removes the container's cgroup only, not those on the way to it.
    let _ = bare
        .command("sh")
        .args([
            "-c",
            "p=/sys/fs/cgroup$1; while [ \"$p\" != /sys/fs/cgroup ]; do rmdir \"$p\" 2> /dev/null; p=${p%/*}; done",
            "sh",
            &path,
        ])
        .status();
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    assert_order(*container, &["create", "run", "cleanup"]);
    assert!(container.0["cgroup"].as_u64().is_some_and(|id| id > 0));
    page(&bare);
}

/// Make sure that a container whose first process is killed between `create` and `start` ends with what it came to.
#[test]
fn killed_between_create_and_start() {
    let bare = scenario!(Bare::new("runc"));
    bare.bundle("dead", &["/bin/sleep", "30"]);
    let profile = bare.script(
        "$RT create --bundle dead --pid-file pid phg-dead < /dev/null > /dev/null 2>&1; kill -9 $(cat pid); sleep 0.2; \
         $RT start phg-dead || true; $RT delete --force phg-dead",
    );
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    assert_eq!(container.phases("create").len(), 1);
    assert!(
        container.phases("run").is_empty() && container.phases("stop").is_empty(),
        "{container:?}"
    );
    assert!(container.0["entrypoint"].is_null());
    assert_none_open_but_at_the_end(&profile);
}

/// Make sure that a runtime that is killed in the middle of `create` leaves a `create` that ends with it.
#[test]
fn runtime_killed_in_create() {
    let bare = scenario!(Bare::new("runc"));
    // A hook that takes its time keeps `create` busy until the kill.
    let bundle = bare.bundle("halted", &["/bin/sleep", "30"]);
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["hooks"] = serde_json::json!({ "createRuntime": [{ "path": "/bin/sleep", "args": ["sleep", "20"] }] });
    std::fs::write(file, serde_json::to_vec(&config).unwrap()).unwrap();
    let profile = bare.script(
        "$RT create --bundle halted phg-halted < /dev/null > /dev/null 2>&1 & pid=$!; \
         while ! pgrep -P $pid -x sleep > /dev/null; do sleep 0.02; done; hook=$(pgrep -P $pid -x sleep); \
         kill -9 $pid; kill -9 $hook; wait $pid || true; $RT delete --force phg-halted || true",
    );
    let containers = profile.containers();
    assert_eq!(containers.len(), 1);
    let create = containers[0].phase("create");
    assert_eq!(create.0["open"], false, "{create:?}");
    assert!(containers[0].phases("run").is_empty(), "{:?}", containers[0]);
    assert_none_open_but_at_the_end(&profile);
}

/// Make sure that what still runs when the recording ends is marked open, and ends with it.
#[test]
fn open_at_the_end() {
    let bare = scenario!(Bare::new("runc"));
    bare.bundle("left", &["/bin/sleep", "30"]);
    let profile = bare.script("$RT run --detach --bundle left phg-left < /dev/null > /dev/null 2>&1");
    let container = profile.containers()[0];
    let run = container.phase("run");
    assert_eq!(run.0["open"], true);
    assert_eq!(run.to(), profile.json["span"]["end_ns"].as_u64().unwrap());
    assert_eq!(container.phase("create").0["open"], false);
    assert!(page(&bare).contains("open at end"));
}

/// Make sure that a container with a name as long as podman takes is a container like others, under the part of it that
/// is kept of arguments.
#[test]
fn long_name() {
    let podman = scenario!(Podman::new("runc"));
    let name = "n".repeat(LONG_NAME);
    let profile = podman.profile(&[
        "podman",
        "run",
        "--rm",
        "--network=none",
        "--uts=host",
        &format!("--name={name}"),
        podman::TINY,
        "/bin/true",
    ]);
    let containers = profile.containers();
    assert_eq!(containers.len(), 1);
    let known = containers[0].text("name");
    assert!(
        known.is_empty() || name.starts_with(known),
        "{} bytes of another name",
        known.len()
    );
    assert_order(containers[0], &["mount", "create", "start", "run", "cleanup"]);
}

/// Make sure that processes are not mixed up when the kernel gives their pids again within one recording.
#[test]
fn reused_pids() {
    const RUNS: usize = 40;
    if !emulated() {
        eprintln!("skipped: the range of pids is the host's own, to be changed in a machine only");
        return;
    }
    let bare = scenario!(Bare::new("runc"));
    bare.bundle("again", &["/stamp", "again", "/bin/true"]);
    let before = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    std::fs::write("/proc/sys/kernel/pid_max", "400").unwrap();
    let profile = bare.script(&format!(
        "for run in $(seq {RUNS}); do $RT run --bundle again phg-$run; done"
    ));
    std::fs::write("/proc/sys/kernel/pid_max", before).unwrap();
    let containers = profile.containers();
    assert_eq!(containers.len(), RUNS);
    let mut pids: Vec<u64> = Vec::new();
    for container in &containers {
        assert_order(*container, &["create", "run", "cleanup"]);
        assert_eq!(profile.programs(container.phase("run")), ["stamp", "true"]);
        pids.push(profile.pid(container.0["entrypoint"].as_u64().unwrap()));
    }
    let all = profile.json["processes"].as_array().unwrap().len();
    let mut every: Vec<u64> = profile.json["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|process| process["pid"].as_u64())
        .collect();
    every.sort_unstable();
    every.dedup();
    assert!(every.len() < all, "no pid was given twice: {all} processes");
    println!("{all} processes with {} pids; entrypoints {pids:?}", every.len());
}

/// Make sure that conmon's death, in the middle of a container's life, costs the phases that conmon would have brought
/// about, and no other.
#[test]
fn monitor_killed() {
    let podman = scenario!(Podman::new("runc"));
    let script = format!(
        "podman run -d --network=none --name=orphan {} /bin/sleep 100 > /dev/null; \
         kill -9 $(cat run/overlay-containers/*/userdata/conmon.pid); sleep 0.2; \
         podman rm --force --time 0 orphan > /dev/null 2>&1 || true; \
         runc delete --force $(runc list -q) || true",
        podman::TINY
    );
    let profile = podman.profile(&["sh", "-c", &script]);
    let containers: Vec<Item> = profile.containers();
    assert_eq!(containers.len(), 1);
    for name in ["mount", "create", "start", "run"] {
        assert_eq!(containers[0].phase(name).0["open"], false, "{name}");
    }
    assert_none_open_but_at_the_end(&profile);
}

/// Runs a container, has the daemon restarted by that signal meanwhile, from outside of what is recorded, and runs another.
fn daemon_restarted(signal: i32) {
    let mut docker = scenario!(Docker::new());
    let image = docker::TINY;
    let folder = docker.corner.folder().to_owned();
    let script = format!(
        "docker run -d --network=none --stop-timeout=1 --name=before {image} /bin/sleep 100; : > asked; \
         while ! [ -e answered ]; do sleep 0.05; done; \
         docker run --rm --network=none --name=after {image} /bin/true; docker rm -f before"
    );
    let words = ["sh", "-ec", &script];
    let command = |program: &std::path::Path| docker.command(program);
    let started = profile::start(command, &folder, &words);
    let since = std::time::Instant::now();
    while !folder.join("asked").exists() {
        assert!(since.elapsed().as_secs() < 100, "the container never started");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    docker.restart(signal);
    std::fs::write(folder.join("answered"), "").unwrap();
    let profile = started.end(&words);
    assert_eq!(
        profile.operations(),
        ["sh", "docker run", "docker run", "docker rm"],
        "{}",
        profile.output
    );
    assert_eq!(profile.containers().len(), 2);
    for (name, phases) in [
        ("before", &["mount", "create", "start", "run"][..]),
        ("after", &["mount", "create", "start", "run", "cleanup"]),
    ] {
        let container = profile.container(name);
        assert_eq!((container.text("image"), container.text("engine")), (image, "docker"));
        for phase in phases {
            let phase = container.phase(phase);
            assert_eq!(phase.0["open"], false, "{phase:?}");
            assert_eq!(operation(&profile, phase), "docker run");
        }
    }
    assert_none_open_but_at_the_end(&profile);
}

/// Make sure that containers of a daemon that is restarted in order in the middle of a recording are told apart, whole,
/// and those of its successor have their clients as before.
#[test]
fn daemon_restarted_in_order() {
    daemon_restarted(libc::SIGTERM);
}

/// Make sure of the same where it is killed and can put nothing in order.
#[test]
fn daemon_killed() {
    daemon_restarted(libc::SIGKILL);
}

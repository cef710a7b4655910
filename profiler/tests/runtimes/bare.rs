//! OCI runtimes without an engine: runc, and crun.

use std::collections::HashSet;

use super::support::bare::Bare;
use super::support::check::{assert_agrees, assert_order, scenario};
use super::support::coverage;
use super::support::machine::slowness;
use super::support::workload;

/// Runs of one container in the restart test.
const RESTARTS: usize = 20;

/// `run` in one go, in the foreground: the container's whole life without any engine.
fn run(runtime: &'static str, row: &str, test: &str) {
    let bare = scenario!(Bare::new(runtime));
    let bundle = bare.bundle("one", &["/stamp", "one", "/bin/sleep", "0.2"]);
    let profile = bare.profile(&[runtime, "run", "--bundle", bundle.to_str().unwrap(), "phg-one"]);
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    assert_eq!(container.text("id"), "phg-one");
    assert_eq!((container.text("runtime"), container.text("engine")), (runtime, ""));
    assert_order(*container, &["create", "run", "cleanup"]);
    let phase = container.phase("run");
    assert_agrees(phase, workload::stamps(&profile.output, "one"));
    assert_eq!(profile.programs(phase), ["stamp", "sleep"]);
    // The runtime itself removes what is left, and then ends.
    assert!(container.phase("cleanup").evidence().1.contains("run"));
    coverage::assert(row, test, &profile);
}

/// Make sure that a bare `runc run` is a container with its whole life, though no engine told of it.
#[test]
fn runc_run() {
    run("runc", "runc run", "runc_run");
}

/// Make sure that a bare `crun run` is a container with its whole life, though it is cloned into its cgroup and no
/// attach is seen.
#[test]
fn crun_run() {
    run("crun", "crun run", "crun_run");
}

/// `create`, `start`, `exec`, `kill` and `delete`, each by a command of its own.
fn life(runtime: &'static str, row: &str, test: &str) {
    let bare = scenario!(Bare::new(runtime));
    // The stopwatch does not care for SIGTERM as pid 1, so that `stop` has a length.
    let seconds = format!("{:.1}", 1.2 * f64::from(slowness()));
    bare.bundle("two", &["/stamp", "two", "/bin/sleep", &seconds]);
    let profile = bare.script(
        "$RT create --bundle two phg-two < /dev/null; $RT start phg-two; $RT exec phg-two /bin/echo hi; \
         $RT kill phg-two TERM; while $RT state phg-two | grep -q '\"running\"'; do sleep 0.05; done; \
         $RT delete phg-two",
    );
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    assert_order(*container, &["create", "start", "run", "cleanup"]);
    assert_agrees(container.phase("run"), workload::stamps(&profile.output, "two"));
    let (exec, stop) = (container.phase("exec"), container.phase("stop"));
    assert_eq!(exec.text("label"), "/bin/echo hi");
    assert!(exec.to() < stop.from() && stop.to() == container.phase("run").to());
    assert!(container.phase("cleanup").evidence().1.contains("delete"));
    coverage::assert(row, test, &profile);
}

/// Make sure that each of runc's commands shows as its phase when nothing but a shell calls it.
#[test]
fn runc_life() {
    life("runc", "runc create, start", "runc_life");
}

/// Make sure that each of crun's commands shows as its phase when nothing but a shell calls it.
#[test]
fn crun_life() {
    life("crun", "crun create, start", "crun_life");
}

/// The same id again and again: each time another run, in another cgroup, with its own phases.
fn restarts(runtime: &'static str) {
    let bare = scenario!(Bare::new(runtime));
    bare.bundle("again", &["/stamp", "again"]);
    let profile = bare.script(&format!(
        "for run in $(seq {RESTARTS}); do $RT run --bundle again phg-again; done"
    ));
    let containers = profile.containers();
    assert_eq!(containers.len(), RESTARTS);
    let cgroups: HashSet<u64> = containers
        .iter()
        .map(|container| container.0["cgroup"].as_u64().unwrap())
        .collect();
    assert_eq!(cgroups.len(), RESTARTS);
    for container in &containers {
        assert_eq!(container.text("id"), "phg-again");
        assert_order(*container, &["create", "run", "cleanup"]);
    }
    for pair in containers.windows(2) {
        assert!(pair[0].to() <= pair[1].from());
    }
}

/// Make sure that 20 runs of one id by runc are 20 runs.
#[test]
fn runc_restarts() {
    restarts("runc");
}

/// Make sure that 20 runs of one id by crun are 20 runs.
#[test]
fn crun_restarts() {
    restarts("crun");
}

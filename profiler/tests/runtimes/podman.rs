//! podman, with runc and with crun.

use super::life::life;
use super::support::check::{assert_agrees, assert_order, scenario};
use super::support::coverage;
use super::support::podman::{self, Podman};
use super::support::workload;

/// `podman run` in the foreground.
fn run(runtime: &'static str, row: &str, test: &str) {
    let podman = scenario!(Podman::new(runtime));
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
    let profile = podman.profile(&words);
    assert_eq!(profile.operations(), ["podman run"]);
    let container = profile.container("one");
    assert_eq!(
        (container.text("engine"), container.text("runtime")),
        ("podman", runtime)
    );
    assert_eq!(container.text("image"), podman::TINY);
    assert_eq!(container.text("id").len(), 64);
    assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    let phase = container.phase("run");
    assert_agrees(phase, workload::stamps(&profile.output, "one"));
    assert_eq!(profile.programs(phase), ["stamp", "sleep"]);
    coverage::assert(row, test, &profile);
}

/// Make sure that `podman run` with runc gives the container's whole life, under the name and image it was given, and
/// that its `run` agrees with a stopwatch inside it.
#[test]
fn podman_run() {
    run("runc", "podman, runc", "podman_run");
}

/// Make sure that `podman run` with crun, which raises no attach event and re-executes itself in each call, gives the
/// same.
#[test]
fn podman_crun_run() {
    run("crun", "podman, crun", "podman_crun_run");
}

/// Make sure that podman's exec, restart, stop and start show in the run they belong to, each under its own operation,
/// and that a restart is another run of the same container.
#[test]
fn podman_life() {
    let podman = scenario!(Podman::new("runc"));
    life("podman", podman::TINY, "podman, runc", "podman_life", |words| {
        podman.profile(words)
    });
}

/// Make sure of the same with crun.
#[test]
fn podman_crun_life() {
    let podman = scenario!(Podman::new("crun"));
    life("podman", podman::TINY, "podman, crun", "podman_crun_life", |words| {
        podman.profile(words)
    });
}

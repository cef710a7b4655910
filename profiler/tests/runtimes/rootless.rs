//! podman by a user that is not root: no cgroup tells of its containers.

use super::ready::{assert_ready, listener};
use super::support::check::{assert_agrees, assert_order, operation, scenario};
use super::support::coverage;
use super::support::podman;
use super::support::rootless::Rootless;
use super::support::workload;

/// Make sure that a rootless container is found with its whole life, though it has no cgroup of its own, and that its
/// `run` agrees with a stopwatch inside it.
#[test]
fn rootless_run() {
    let rootless = scenario!(Rootless::new());
    let run = ["podman", "run", "--rm", "--network=none", "--name=one", podman::TINY];
    let profile = rootless.profile(&[&run[..], &["/stamp", "one", "/bin/sleep", "0.3"]].concat());
    assert_eq!(profile.operations(), ["podman run"], "{}", profile.output);
    let container = profile.container("one");
    assert_eq!(
        (
            container.text("engine"),
            container.text("runtime"),
            container.text("image")
        ),
        ("podman", "crun", podman::TINY)
    );
    assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    let run = container.phase("run");
    assert_agrees(run, workload::stamps(&profile.output, "one"));
    assert_eq!(profile.programs(run), ["stamp", "sleep"]);
    coverage::assert("podman, rootless", "rootless_run", &profile);
}

/// Make sure that exec and stop of a rootless container show in its run, each under its own operation.
#[test]
fn rootless_life() {
    let rootless = scenario!(Rootless::new());
    let script = format!(
        "podman run -d --network=none --name=two {} /bin/sleep 100; podman exec two /bin/echo hi; \
         podman stop -t 1 two; podman rm two",
        podman::TINY
    );
    let profile = rootless.profile(&["sh", "-ec", &script]);
    let container = profile.container("two");
    let (exec, stop) = (container.phase("exec"), container.phase("stop"));
    assert_eq!(exec.text("label"), "/bin/echo hi");
    // sleep as pid 1 ignores SIGTERM: the grace period of 1 s passes.
    assert!(stop.to() - stop.from() >= 900_000_000 && stop.to() == container.phase("run").to());
    let asked = [container, exec, stop].map(|item| operation(&profile, item).to_owned());
    assert_eq!(asked, ["podman run", "podman exec", "podman stop"]);
    coverage::assert("podman, rootless", "rootless_life", &profile);
}

/// Make sure that `ready` ends in the very `listen` call of a rootless container.
#[test]
fn rootless_ready() {
    let rootless = scenario!(Rootless::new());
    let program = scenario!(listener(&rootless.corner.folder().join("listener")));
    let volume = format!("{}:/listener", program.display());
    let run = ["podman", "run", "--rm", "--network=none", "--name=one", "-v", &volume];
    let profile = rootless.profile(&[&run[..], &[podman::TINY, "/listener", "tcp", "8080"]].concat());
    assert_ready(&profile, profile.container("one"), "tcp/8080");
    coverage::assert("podman, rootless", "rootless_ready", &profile);
}

//! containerd by its own client, ctr.

use super::ready::{assert_ready, listener};
use super::support::check::{assert_agrees, assert_order, operation, scenario};
use super::support::containerd::Containerd;
use super::support::coverage;
use super::support::host::{Skip, succeed};
use super::support::machine::slowness;
use super::support::registry::{ADDRESS, Registry};
use super::support::workload;

/// A containerd with the tiny image, and its name.
fn with_image() -> Result<(Containerd, String), Skip> {
    let containerd = Containerd::new()?;
    let registry = Registry::new(&containerd.corner)?;
    registry.push(&containerd.corner, "tiny", &[1000])?;
    let image = format!("{ADDRESS}/tiny:1");
    succeed(
        containerd
            .command("ctr")
            .args(["image", "pull", "--plain-http", &image]),
    );
    Ok((containerd, image))
}

/// Make sure that `ctr run` gives the container's whole life, under the id and image it was given, below its client,
/// and that its `run` agrees with a stopwatch inside it.
#[test]
fn ctr_run() {
    let (containerd, image) = scenario!(with_image());
    // The default share of the CPU is refused where cgroup2 has no controllers.
    let words = [
        "ctr",
        "run",
        "--rm",
        "--cpu-shares=0",
        &image,
        "one",
        "/stamp",
        "one",
        "/bin/sleep",
        "0.3",
    ];
    let profile = containerd.profile(&words);
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{:#}\n{}", profile.json["containers"], profile.output)
    };
    assert_eq!((container.text("id"), container.text("engine")), ("one", "containerd"));
    assert_eq!(
        (container.text("runtime"), container.text("image")),
        ("runc", image.as_str())
    );
    assert_eq!(
        profile.operations()[container.0["operation"].as_u64().unwrap() as usize],
        "ctr run"
    );
    assert_order(*container, &["mount", "create", "start", "run", "cleanup"]);
    assert_agrees(container.phase("run"), workload::stamps(&profile.output, "one"));
    coverage::assert("containerd (ctr)", "ctr_run", &profile);
}

/// Make sure that what `ctr task` does to a running container shows in its run, each under its own operation.
#[test]
fn ctr_life() {
    let (containerd, image) = scenario!(with_image());
    // As pid 1 the stopwatch does not care for SIGTERM, so that `stop` has a length.
    let seconds = format!("{:.1}", 1.2 * f64::from(slowness()));
    let script = format!(
        "ctr run -d --cpu-shares=0 --null-io {image} phg-two /stamp two /bin/sleep {seconds}; \
         ctr task exec --exec-id one phg-two /bin/echo hi; ctr task kill --signal SIGTERM phg-two; \
         while ctr task ls | grep -q RUNNING; do sleep 0.05; done; ctr task delete phg-two; \
         ctr container delete phg-two"
    );
    let profile = containerd.profile(&["sh", "-ec", &script]);
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{:#}\n{}", profile.json["containers"], profile.output)
    };
    assert_order(*container, &["mount", "create", "start", "run", "cleanup"]);
    let (exec, stop, run) = (container.phase("exec"), container.phase("stop"), container.phase("run"));
    assert_eq!(exec.text("label"), "/bin/echo hi");
    assert!(run.from() < exec.from(), "{:#}\n{:#}", run.0, exec.0);
    assert!(exec.to() < stop.from(), "{:#}\n{:#}", exec.0, stop.0);
    assert_eq!(stop.to(), run.to(), "{:#}\n{:#}", run.0, stop.0);
    let asked = [*container, exec, stop].map(|item| operation(&profile, item).to_owned());
    assert_eq!(asked, ["ctr run", "ctr task exec", "ctr task kill"]);
    coverage::assert("containerd (ctr)", "ctr_life", &profile);
}

/// Make sure that `ready` ends in the very `listen` call of a container under ctr.
#[test]
fn ctr_ready() {
    let (containerd, image) = scenario!(with_image());
    let program = scenario!(listener(&containerd.corner.folder().join("listener")));
    let mount = format!("type=bind,src={},dst=/listener,options=rbind:ro", program.display());
    let run = [
        "ctr",
        "run",
        "--rm",
        "--cpu-shares=0",
        "--mount",
        &mount,
        &image,
        "phg-one",
    ];
    let profile = containerd.profile(&[&run[..], &["/listener", "tcp", "8080"]].concat());
    assert_ready(&profile, profile.containers()[0], "tcp/8080");
    coverage::assert("containerd (ctr)", "ctr_ready", &profile);
}

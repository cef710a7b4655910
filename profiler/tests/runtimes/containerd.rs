//! containerd by its own client, ctr.

use super::support::check::{assert_agrees, assert_order, scenario};
use super::support::containerd::Containerd;
use super::support::coverage;
use super::support::registry::{ADDRESS, Registry};
use super::support::workload;

/// Make sure that `ctr run` gives the container's whole life, under the id and image it was given, below its client,
/// and that its `run` agrees with a stopwatch inside it.
#[test]
fn ctr_run() {
    let containerd = scenario!(Containerd::new());
    let registry = scenario!(Registry::new(&containerd.corner));
    scenario!(registry.push(&containerd.corner, "tiny", &[1000]));
    let image = format!("{ADDRESS}/tiny:1");
    containerd.profile(&["ctr", "image", "pull", "--plain-http", &image]);
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

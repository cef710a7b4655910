//! The life of a container under an engine, the same for each: run in the background, exec, restart, stop, start, rm.

use super::support::check::operation;
use super::support::coverage;
use super::support::profile::{Item, Profile};

/// What was seen of it.
pub(crate) struct Life {
    pub profile: Profile,
}

/// Has `tool` (a client that takes podman's and docker's verbs) go through a container's life, and checks what each
/// engine must show: three runs of one container, each command's phase under its own operation.
pub(crate) fn life(tool: &str, image: &str, row: &str, test: &str, profile: impl Fn(&[&str]) -> Profile) -> Life {
    let script = format!(
        "{tool} run -d --network=none --name=two {image} /bin/sleep 100; {tool} exec two /bin/echo hi; \
         {tool} restart -t 1 two; {tool} stop -t 1 two; {tool} start two; {tool} stop -t 1 two; {tool} rm two"
    );
    let profile = profile(&["sh", "-ec", &script]);
    let verbs = ["run", "exec", "restart", "stop", "start", "stop", "rm"];
    let expected: Vec<String> = std::iter::once("sh".to_owned())
        .chain(verbs.iter().map(|verb| format!("{tool} {verb}")))
        .collect();
    assert_eq!(profile.operations(), expected);
    let containers = profile.containers();
    let [first, second, third] = containers.as_slice() else {
        panic!("{:#}", profile.json["containers"])
    };
    for container in &containers {
        assert_eq!(
            (container.text("id"), container.text("name")),
            (first.text("id"), "two")
        );
        assert_eq!(container.text("image"), image);
        assert_eq!(profile.programs(container.phase("run"))[0], "sleep");
        // sleep as pid 1 ignores SIGTERM: the grace period of 1 s passes.
        let (stop, run) = (container.phase("stop"), container.phase("run"));
        assert_eq!(stop.to(), run.to());
        assert!(stop.to() - stop.from() >= 900_000_000, "{stop:?}");
    }
    let cgroup = |container: &Item| container.0["cgroup"].as_u64();
    assert!(cgroup(first) != cgroup(second) && cgroup(second) != cgroup(third) && cgroup(first) != cgroup(third));
    let exec = first.phase("exec");
    assert_eq!(exec.text("label"), "/bin/echo hi");
    assert_eq!(operation(&profile, exec), format!("{tool} exec"));
    let asked = |container: &Item, phase: &str| operation(&profile, container.phase(phase)).to_owned();
    assert_eq!(
        [first, second, third].map(|container| [asked(container, "create"), asked(container, "stop")]),
        [["run", "restart"], ["restart", "stop"], ["start", "stop"]]
            .map(|pair| pair.map(|verb| format!("{tool} {verb}")))
    );
    coverage::assert(row, test, &profile);
    Life { profile }
}

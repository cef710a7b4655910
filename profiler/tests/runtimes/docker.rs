//! docker: dockerd with containerd and runc.

use super::life::life;
use super::support::check::{assert_agrees, assert_explained, assert_order, operation, scenario};
use super::support::coverage;
use super::support::docker::{self, Docker};
use super::support::host;
use super::support::workload;

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
    let profile = docker.profile(&words);
    let container = profile.container("one");
    assert_eq!(
        (container.text("engine"), container.text("runtime")),
        ("docker", "runc")
    );
    assert_eq!(container.text("image"), docker::TINY);
    assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    assert_agrees(container.phase("run"), workload::stamps(&profile.output, "one"));
    assert_explained(&profile);
    let (create, network) = (container.phase("create"), container.phase("network"));
    assert!(create.from() < network.from() && network.to() < create.to());
    assert!(profile.programs(network).contains(&"libnetwork-setkey".to_owned()));
    // Charged to the client that asked for it, though it is no child of its.
    assert_eq!(container.0["operation"], 0);
    coverage::assert("docker", "docker_run", &profile);
}

/// Make sure that docker's exec, restart, stop and start show in the run they belong to, each under its own operation.
#[test]
fn docker_life() {
    let docker = scenario!(Docker::new());
    let seen = life("docker", docker::TINY, "docker", "docker_life", |words| {
        docker.profile(words)
    });
    // A restart keeps the first run's mount.
    let mounts: Vec<usize> = seen
        .profile
        .containers()
        .iter()
        .map(|container| container.phases("mount").len())
        .collect();
    assert_eq!(mounts, [1, 0, 1]);
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
    let profile = docker.profile(&["sh", "-c", &script]);
    for name in ["first", "second"] {
        let container = profile.container(name);
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, name));
    }
    assert_ne!(
        profile.container("first").0["operation"],
        profile.container("second").0["operation"]
    );
}

/// Make sure that docker-compose, a script that speaks to dockerd by itself, is the operation of what it starts and
/// stops.
#[test]
fn docker_compose() {
    let docker = scenario!(host::require(&["docker-compose"]).and_then(|()| Docker::new()));
    let image = docker::TINY;
    let service = |sleep: &str| {
        format!(r#"{{image: {image}, network_mode: none, command: [/stamp, "{sleep}", /bin/sleep, "{sleep}"]}}"#)
    };
    let text = format!(
        "version: \"2.4\"\nservices:\n  short: {}\n  long: {}\n",
        service("0.3"),
        service("100")
    );
    let folder = docker.corner.folder();
    std::fs::write(folder.join("compose.yaml"), text).unwrap();
    let compose = "docker-compose --project-name phg -f compose.yaml";
    let script =
        format!("{compose} up -d; docker wait phg_short_1; docker exec phg_long_1 /bin/true; {compose} down -t 1");
    let profile = docker.profile(&["sh", "-ec", &script]);
    assert_eq!(
        profile.operations(),
        [
            "sh",
            "docker-compose up",
            "docker wait",
            "docker exec",
            "docker-compose down"
        ]
    );
    assert_eq!(profile.containers().len(), 2, "{}", profile.output);
    for name in ["short", "long"] {
        let container = profile.container(&format!("phg_{name}_1"));
        assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
        assert_eq!(container.text("image"), image);
        for phase in ["mount", "create", "network", "start", "run"] {
            assert_eq!(
                operation(&profile, container.phase(phase)),
                "docker-compose up",
                "{phase}"
            );
        }
    }
    let long = profile.container("phg_long_1");
    let (exec, stop) = (long.phase("exec"), long.phase("stop"));
    let asked = [exec, stop, long.phase("cleanup")].map(|phase| operation(&profile, phase).to_owned());
    assert_eq!(asked, ["docker exec", "docker-compose down", "docker-compose down"]);
    coverage::assert("docker-compose", "docker_compose", &profile);
}

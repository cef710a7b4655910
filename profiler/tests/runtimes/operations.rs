//! Which client asked for what: several that do the same at the same time, and callers without a client.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::support::check::scenario;
use super::support::docker::{self, Docker};
use super::support::host;
use super::support::podman::{self, Podman};
use super::support::profile::{Item, Profile};

const CLIENTS: usize = 5;

fn argv(profile: &Profile, operation: &serde_json::Value) -> Vec<String> {
    let process = &profile.json["processes"][operation["process"].as_u64().unwrap() as usize];
    let words = process["argv"].as_array().unwrap().iter();
    words
        .map(|word| {
            word.as_str()
                .or_else(|| word["text"].as_str())
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// Five clients run the same command at once; each wrote its container's id into a file that its arguments name. Each
/// has that container, and that one alone.
fn assert_each_its_own(profile: &Profile, folder: &Path) {
    let containers = profile.containers();
    assert_eq!(containers.len(), CLIENTS, "{}", profile.output);
    let mut seen = HashSet::new();
    for container in &containers {
        let index = container.0["operation"].as_u64().unwrap();
        assert!(seen.insert(index), "operation {index} has two containers");
        let operation = &profile.json["operations"][index as usize];
        let argv = argv(profile, operation);
        let file = argv
            .iter()
            .find_map(|word| word.strip_prefix("--cidfile="))
            .unwrap_or_else(|| panic!("{argv:?}"));
        assert_eq!(
            fs::read_to_string(folder.join(file)).unwrap().trim(),
            container.text("id")
        );
        for phase in ["mount", "create", "start", "run", "cleanup"] {
            assert_eq!(container.phase(phase).0["operation"], index, "{phase}");
        }
    }
}

fn five(run: &str, image: &str) -> String {
    let clients: Vec<String> = (0..CLIENTS)
        .map(|index| format!("{run} --rm --network=none --cidfile=cid-{index} {image} /stamp same /bin/sleep 0.3 &"))
        .collect();
    format!("{} wait", clients.join(" "))
}

/// Make sure that five docker clients that run the very same command at once each keep their own container, though
/// dockerd does the work of all.
#[test]
fn docker_five_clients() {
    let docker = scenario!(Docker::new());
    let profile = docker.profile(&["sh", "-c", &five("docker run", docker::TINY)]);
    assert_each_its_own(&profile, docker.corner.folder());
}

/// Make sure that five podman clients that run the very same command at once each keep their own container.
#[test]
fn podman_five_clients() {
    let podman = scenario!(Podman::new("runc"));
    let profile = podman.profile(&["sh", "-c", &five("podman run", podman::TINY)]);
    assert_each_its_own(&profile, podman.corner.folder());
}

/// Make sure that five clients that execute the same in one container at once each keep their own session.
#[test]
fn docker_five_execs() {
    let docker = scenario!(Docker::new());
    let image = docker::TINY;
    let execs = "docker exec -d one /bin/sleep 0.2 & ".repeat(CLIENTS);
    let script = format!(
        "docker run -d --network=none --name=one {image} /bin/sleep 100; {execs} wait; sleep 1; docker rm -f one"
    );
    let profile = docker.profile(&["sh", "-c", &script]);
    let container = profile.container("one");
    let execs = container.phases("exec");
    assert_eq!(execs.len(), CLIENTS);
    let operations: HashSet<u64> = execs.iter().map(|exec| exec.0["operation"].as_u64().unwrap()).collect();
    assert_eq!(operations.len(), CLIENTS);
    for operation in operations {
        assert_eq!(
            Item(&profile.json["operations"][operation as usize]).text("name"),
            "docker exec"
        );
    }
}

/// Make sure that a caller of docker's interface, without any client, is an operation with the container that it started,
/// and that a container that the daemon restarts by itself is nobody's.
#[test]
fn docker_api_caller() {
    let docker = scenario!(host::require(&["curl"]).and_then(|()| Docker::new()));
    let image = docker::TINY;
    let socket = docker.corner.folder().join("docker.sock");
    let ask = format!(
        "curl -s --unix-socket {} -X POST -H Content-Type:application/json",
        socket.display()
    );
    let script = format!(
        "id=$({ask} -d '{{\"Image\":\"{image}\",\"Cmd\":[\"/bin/sleep\",\"0.2\"],\"HostConfig\":{{\"NetworkMode\":\"none\",\
         \"RestartPolicy\":{{\"Name\":\"on-failure\",\"MaximumRetryCount\":1}}}}}}' \
         http://x/v1.41/containers/create | sed 's/.*\"Id\":\"\\([0-9a-f]*\\)\".*/\\1/'); \
         {ask} http://x/v1.41/containers/$id/start; {ask} http://x/v1.41/containers/$id/wait"
    );
    let profile = docker.profile(&["sh", "-c", &script]);
    let containers = profile.containers();
    assert_eq!(containers.len(), 1, "{}", profile.output);
    let operation = &profile.json["operations"][containers[0].0["operation"].as_u64().unwrap() as usize];
    assert_eq!(Item(operation).text("name"), "curl");
    assert!(argv(&profile, operation).last().unwrap().ends_with("/start"));
}

/// Make sure that a container that a client outside of the recorded command asked for is an operation of its own, called
/// `unmatched`.
#[test]
fn docker_unmatched() {
    let docker = scenario!(Docker::new());
    let image = docker::TINY;
    // Its client has ended before the recording begins: the daemon starts it again by itself.
    let created = docker
        .command("docker")
        .args([
            "run",
            "-d",
            "--network=none",
            "--restart=always",
            image,
            "/bin/sleep",
            "1",
        ])
        .output()
        .unwrap();
    assert!(created.status.success());
    let id = String::from_utf8_lossy(&created.stdout).trim().to_owned();
    let profile = docker.profile(&["sleep", "4"]);
    let again: Vec<Item> = profile
        .containers()
        .into_iter()
        .filter(|container| container.text("id") == id)
        .collect();
    assert!(!again.is_empty(), "{:#}", profile.json["containers"]);
    for container in again {
        let operation = &profile.json["operations"][container.0["operation"].as_u64().unwrap() as usize];
        assert_eq!(Item(operation).text("name"), "unmatched");
    }
}

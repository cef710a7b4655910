//! The engines' own events as a second witness. They are stamped when the engine comes to know, so later than the
//! kernel's truth: never before a phase's edge, and at best as late as `docs/accuracy.md` says.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::accuracy::{self, Edge};
use super::support::check::{emulated, scenario};
use super::support::docker::{self, Docker};
use super::support::host::succeed;
use super::support::podman::{self, Podman};
use super::support::profile::{Item, Profile};
use super::support::rfc3339;

/// Containers of each test. The quickest event counts: on a busy host an engine may be late, but not each time.
const RUNS: usize = 8;
/// How far the monotonic and the real clock may have drifted apart since they were read together, ns.
const DRIFT_NS: i64 = 100_000;

/// An event of an engine about a container: what happened, and when, ns of the recording's monotonic clock.
struct Event {
    container: String,
    what: String,
    ts: u64,
}

/// Runs, executes in, kills and removes containers.
fn lives(tool: &str, image: &str) -> String {
    format!(
        "for run in $(seq {RUNS}); do {tool} run -d --network=none --name=w$run {image} /bin/sleep 100; \
         {tool} exec w$run /bin/true; {tool} kill w$run; {tool} rm -f w$run; done"
    )
}

/// Converts real time to the recording's clock.
fn monotonic(profile: &Profile, real_ns: u64) -> u64 {
    let clock = &profile.json["host"]["clocks"][0];
    let (monotonic, real) = (
        clock["monotonic_ns"].as_u64().unwrap(),
        clock["real_ns"].as_u64().unwrap(),
    );
    real_ns - real + monotonic
}

/// The events `what` less that edge of each container's phase. Where an engine tells it twice, the first counts.
fn edge(
    profile: &Profile,
    events: &[Event],
    (what, event): (&'static str, &str),
    at: impl Fn(Item<'_>) -> u64,
    quickest_ns: i64,
) -> Edge {
    let mut differences = Vec::new();
    for container in profile.containers() {
        let mut own = events
            .iter()
            .filter(|known| known.container == container.text("id") && known.what == event);
        let told = own
            .next()
            .unwrap_or_else(|| panic!("no {event} of {}", container.text("id")));
        differences.push(told.ts as i64 - at(container) as i64);
    }
    assert_eq!(differences.len(), RUNS, "{event}");
    Edge {
        what,
        differences,
        asserted: match emulated() {
            true => "never before".to_owned(),
            false => format!("never before; at best within {} ms", quickest_ns as f64 / 1e6),
        },
    }
    .checked(quickest_ns)
}

impl Edge {
    fn checked(self, quickest_ns: i64) -> Edge {
        let [least, ..] = self.spread();
        assert!(
            least >= -DRIFT_NS,
            "{} before the edge: {:?}",
            self.what,
            self.differences
        );
        assert!(
            emulated() || least <= quickest_ns,
            "{}: {:?}",
            self.what,
            self.differences
        );
        self
    }
}

fn tell(engine: &str, edges: &[Edge], profile: &Profile) {
    let what = format!(
        "{RUNS} containers; Linux {}. The engine's time less phasegraph's.",
        profile.json["host"]["kernel"].as_str().unwrap()
    );
    accuracy::tell(engine, &what, edges);
}

/// Make sure that podman's own events come after the edges that they tell of, and close behind them.
#[test]
fn podman_events() {
    let podman = scenario!(Podman::new("runc"));
    let profile = podman.profile(&["sh", "-ec", &lives("podman", podman::TINY)]);
    let output = succeed(
        podman
            .command("podman")
            .args(["events", "--stream=false", "--format=json"]),
    );
    let events: Vec<Event> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["Type"] == "container")
        .map(|event| Event {
            container: event["ID"].as_str().unwrap().to_owned(),
            what: event["Status"].as_str().unwrap().to_owned(),
            ts: monotonic(&profile, rfc3339::ns(event["Time"].as_str().unwrap())),
        })
        .collect();
    let to = |name: &'static str| move |container: Item<'_>| container.phase(name).to();
    let edge = |names, at: &dyn Fn(Item<'_>) -> u64, quickest| edge(&profile, &events, names, at, quickest);
    let edges = [
        edge(("`init` to the end of `create`", "init"), &to("create"), 5_000_000),
        edge(("`start` to the end of `start`", "start"), &to("start"), 2_000_000),
        edge(
            ("`exec` to the start of `exec`", "exec"),
            &|container| container.phase("exec").from(),
            100_000_000,
        ),
        edge(
            ("`exec_died` to the end of `exec`", "exec_died"),
            &to("exec"),
            100_000_000,
        ),
        edge(("`died` to the end of `run`", "died"), &to("run"), 35_000_000),
    ];
    tell("podman", &edges, &profile);
}

/// containerd's events, printed by `ctr` as they come.
fn containerd_events(docker: &Docker) -> std::process::Child {
    docker
        .command("ctr")
        .arg("--address")
        .arg(docker.containerd())
        .args(["--namespace", "moby", "events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// `2026-01-02 03:04:05.123456789 +0000 UTC moby /tasks/start {"container_id":"…"}`
fn containerd_event(profile: &Profile, line: &str) -> Option<Event> {
    let mut words = line.splitn(7, ' ');
    let (date, time) = (words.next()?, words.next()?);
    let [_offset, _zone, _namespace, topic, data] = [
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
        words.next()?,
    ];
    let data: Value = serde_json::from_str(data).ok()?;
    Some(Event {
        container: data["container_id"].as_str()?.to_owned(),
        what: match data["id"].as_str().is_some_and(|id| data["container_id"] != id) {
            // An exec session's exit bears its own id.
            true => format!("{topic} of a session"),
            false => topic.to_owned(),
        },
        ts: monotonic(profile, rfc3339::ns(&format!("{date}T{time}Z"))),
    })
}

/// Make sure that docker's and containerd's own events come after the edges that they tell of, and close behind them.
#[test]
fn docker_events() {
    let docker = scenario!(Docker::new());
    let mut ctr = containerd_events(&docker);
    let profile = docker.profile(&["sh", "-ec", &lives("docker", docker::TINY)]);
    let _ = ctr.kill();
    let output = ctr.wait_with_output().unwrap();
    let by_containerd: Vec<Event> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| containerd_event(&profile, line))
        .collect();
    let until = succeed(Command::new("date").arg("+%s")).stdout;
    let output = succeed(
        docker
            .command("docker")
            .args(["events", "--since=0", "--format={{json .}}", "--until"])
            .arg(String::from_utf8(until).unwrap().trim()),
    );
    let by_docker: Vec<Event> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|event| event["Type"] == "container")
        .map(|event| Event {
            container: event["id"].as_str().unwrap().to_owned(),
            // `exec_start: /bin/true`
            what: event["status"].as_str().unwrap().split(':').next().unwrap().to_owned(),
            ts: monotonic(&profile, event["timeNano"].as_u64().unwrap()),
        })
        .collect();
    let to = |name: &'static str| move |container: Item<'_>| container.phase(name).to();
    let docker_edge = |names, at: &dyn Fn(Item<'_>) -> u64, quickest| edge(&profile, &by_docker, names, at, quickest);
    let edges = [
        docker_edge(("`start` to the end of `start`", "start"), &to("start"), 10_000_000),
        docker_edge(("`exec_die` to the end of `exec`", "exec_die"), &to("exec"), 20_000_000),
        docker_edge(("`die` to the end of `run`", "die"), &to("run"), 50_000_000),
    ];
    tell("docker", &edges, &profile);
    let edge = |names, at: &dyn Fn(Item<'_>) -> u64, quickest| edge(&profile, &by_containerd, names, at, quickest);
    let edges = [
        edge(
            ("`/tasks/start` to the end of `start`", "/tasks/start"),
            &to("start"),
            2_000_000,
        ),
        edge(
            (
                "`/tasks/exit` of a session to the end of `exec`",
                "/tasks/exit of a session",
            ),
            &to("exec"),
            10_000_000,
        ),
        edge(
            ("`/tasks/exit` to the end of `run`", "/tasks/exit"),
            &to("run"),
            5_000_000,
        ),
    ];
    tell("containerd", &edges, &profile);
}

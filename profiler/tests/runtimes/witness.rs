//! The engines' own events as a second witness. They are stamped when the engine comes to know, so later than the
//! kernel's truth: never before a phase's edge, and at best as late as `docs/accuracy.md` says.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::support::accuracy::{self, Edge};
use super::support::check::scenario;
use super::support::docker::{self, Docker};
use super::support::host::succeed;
use super::support::machine::emulated;
use super::support::podman::{self, Podman};
use super::support::profile::{Item, Profile};
use super::support::rfc3339;

/// Containers of each test. The nearest event counts: an engine may be late, but not each time.
const RUNS: usize = 8;
/// How far the monotonic and the real clock may have drifted apart since they were read together, ns.
const DRIFT_NS: i64 = 100_000;

/// An event of an engine about a container: what happened, and when, ns of the recording's monotonic clock.
struct Event {
    container: String,
    what: String,
    ts: i64,
}

/// What is held against what: an engine's event and the end of the phase that it tells of.
struct Pair {
    event: &'static str,
    phase: &'static str,
    /// The event can't come before this edge of the phase.
    after: fn(Item<'_>) -> u64,
    /// How far from the phase's end the nearest event may be, ns.
    nearest_ns: i64,
}

impl Pair {
    fn new(event: &'static str, phase: &'static str, nearest_ms: i64) -> Pair {
        Pair {
            event,
            phase,
            after: |phase| phase.to(),
            nearest_ns: nearest_ms * 1_000_000,
        }
    }

    /// A runtime's `start` ends when it has let the container go, so an engine may tell of the start before the
    /// entrypoint's exec, with which the phase ends.
    fn after_its_begin(self) -> Pair {
        Pair {
            after: |phase| phase.from(),
            ..self
        }
    }
}

/// Runs, executes in, kills and removes containers.
fn lives(tool: &str, image: &str) -> String {
    format!(
        "for run in $(seq {RUNS}); do {tool} run -d --network=none --name=w$run {image} /bin/sleep 100; \
         {tool} exec w$run /bin/true; {tool} kill w$run; {tool} rm -f w$run; done"
    )
}

/// Converts real time to the recording's clock.
fn monotonic(profile: &Profile, real_ns: u64) -> i64 {
    let clock = &profile.json["host"]["clocks"][0];
    let [monotonic, real] = ["monotonic_ns", "real_ns"].map(|name| clock[name].as_i64().unwrap());
    real_ns as i64 - real + monotonic
}

/// Whether the host had no CPUs for an engine: its threads waited longer for one than they had one. It then tells of
/// everything as late as it comes to run, which is no property of its own.
fn starved(profile: &Profile) -> bool {
    const ENGINES: [&str; 4] = ["podman", "conmon", "dockerd", "containerd"];
    let had = profile.time_of(&ENGINES, "cpu_ns");
    let waited = profile.time_of(&ENGINES, "runqueue_ns");
    assert!(had > 0, "no engine was profiled");
    println!("the engine's threads had CPUs for {had} ns and waited {waited} ns for one");
    waited > had
}

/// The events less the end of each container's phase. Where an engine tells it twice, the first counts.
fn edge(profile: &Profile, events: &[Event], pair: &Pair, in_time: bool) -> Edge {
    let mut differences = Vec::new();
    for container in profile.containers() {
        let id = container.text("id");
        let mut own = events
            .iter()
            .filter(|event| event.container == id && event.what == pair.event);
        let told = own.next().unwrap_or_else(|| panic!("no {} of {id}", pair.event)).ts;
        let phase = container.phase(pair.phase);
        let early = (pair.after)(phase) as i64 - told;
        assert!(
            early <= DRIFT_NS,
            "{} of {id} comes {early} ns before it can",
            pair.event
        );
        differences.push(told - phase.to() as i64);
    }
    assert_eq!(differences.len(), RUNS, "{}", pair.event);
    let nearest = differences.iter().map(|ns| ns.abs()).min().unwrap();
    assert!(
        !in_time || nearest <= pair.nearest_ns,
        "{}: {differences:?}",
        pair.event
    );
    let asserted = match in_time {
        false => "not before it can".to_owned(),
        true => format!(
            "not before it can; the nearest within {} ms",
            pair.nearest_ns / 1_000_000
        ),
    };
    Edge {
        what: format!("`{}`, after the end of `{}`", pair.event, pair.phase),
        differences,
        asserted,
    }
}

fn tell(engine: &str, profile: &Profile, events: &[Event], pairs: &[Pair]) {
    let in_time = !emulated() && !starved(profile);
    let edges: Vec<Edge> = pairs.iter().map(|pair| edge(profile, events, pair, in_time)).collect();
    let what = format!(
        "{RUNS} containers; Linux {}. The engine's time less phasegraph's.",
        profile.json["host"]["kernel"].as_str().unwrap()
    );
    accuracy::tell(engine, &what, &edges);
}

/// The events of JSON lines that are about containers.
fn json_events(output: Vec<u8>, event: impl Fn(&Value) -> Event) -> Vec<Event> {
    let text = String::from_utf8(output).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["Type"] == "container")
        .map(|line| event(&line))
        .collect()
}

/// Make sure that podman's own events come after the edges that they tell of, and close behind them.
#[test]
fn podman_events() {
    let podman = scenario!(Podman::new("runc"));
    let profile = podman.profile(&["sh", "-ec", &lives("podman", podman::TINY)]);
    let mut command = podman.command("podman");
    let output = succeed(command.args(["events", "--stream=false", "--format=json"]));
    let events = json_events(output.stdout, |event| Event {
        container: event["ID"].as_str().unwrap().to_owned(),
        what: event["Status"].as_str().unwrap().to_owned(),
        ts: monotonic(&profile, rfc3339::ns(event["Time"].as_str().unwrap())),
    });
    let pairs = [
        Pair::new("init", "create", 5),
        Pair::new("start", "start", 2).after_its_begin(),
        Pair::new("exec_died", "exec", 100),
        Pair::new("died", "run", 35),
    ];
    tell("podman", &profile, &events, &pairs);
}

/// containerd's events, written by `ctr` into a file as they come.
struct Watched {
    ctr: Child,
    file: PathBuf,
}

impl Watched {
    /// From now on: returns when events do come.
    fn start(docker: &Docker) -> Watched {
        let ctr = |words: &[&str]| {
            let mut command = docker.command("ctr");
            let of_docker = ["--namespace", "moby"];
            command
                .arg("--address")
                .arg(docker.containerd())
                .args(of_docker)
                .args(words);
            command
        };
        let file = docker.corner.folder().join("events");
        let written = fs::File::create(&file).unwrap();
        let watched = Watched {
            ctr: ctr(&["events"]).stdout(written).stderr(Stdio::null()).spawn().unwrap(),
            file,
        };
        // A change of our own, until one is told.
        for round in 0.. {
            succeed(&mut ctr(&["namespaces", "label", "moby", &format!("watched={round}")]));
            if !watched.lines().is_empty() {
                return watched;
            }
            assert!(round < 1_000, "containerd tells no events");
            thread::sleep(Duration::from_millis(20));
        }
        watched
    }

    fn lines(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.ctr.kill();
        let _ = self.ctr.wait();
    }
}

/// `2026-01-02 03:04:05.123456789 +0000 UTC moby /tasks/start {"container_id":"…"}`
fn containerd_event(profile: &Profile, line: &str) -> Option<Event> {
    let words: Vec<&str> = line.splitn(7, ' ').collect();
    let [date, time, _, _, _, topic, data] = words.as_slice() else {
        return None;
    };
    let data: Value = serde_json::from_str(data).ok()?;
    let container = data["container_id"].as_str()?;
    // An exec session's exit bears its own id.
    let session = data["id"].as_str().is_some_and(|id| id != container);
    Some(Event {
        container: container.to_owned(),
        what: format!("{topic}{}", if session { " of a session" } else { "" }),
        ts: monotonic(profile, rfc3339::ns(&format!("{date}T{time}Z"))),
    })
}

/// Make sure that docker's and containerd's own events come after the edges that they tell of, and close behind them.
#[test]
fn docker_events() {
    let docker = scenario!(Docker::new());
    let watched = Watched::start(&docker);
    let profile = docker.profile(&["sh", "-ec", &lives("docker", docker::TINY)]);
    // An event is told at once, but by another process.
    let last = |lines: &str| lines.matches("/tasks/delete").count() >= RUNS;
    for _ in 0..1_000 {
        if last(&watched.lines()) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let by_containerd: Vec<Event> = watched
        .lines()
        .lines()
        .filter_map(|line| containerd_event(&profile, line))
        .collect();
    // Without an end it would wait for more.
    let mut command = docker.command("docker");
    let output = succeed(command.args(["events", "--since=0", "--until=0s", "--format={{json .}}"]));
    let by_docker = json_events(output.stdout, |event| Event {
        container: event["id"].as_str().unwrap().to_owned(),
        // `exec_start: /bin/true`
        what: event["status"].as_str().unwrap().split(':').next().unwrap().to_owned(),
        ts: monotonic(&profile, event["timeNano"].as_u64().unwrap()),
    });
    let pairs = [
        Pair::new("start", "start", 5).after_its_begin(),
        Pair::new("exec_die", "exec", 20),
        Pair::new("die", "run", 35),
    ];
    tell("docker", &profile, &by_docker, &pairs);
    let pairs = [
        Pair::new("/tasks/start", "start", 2).after_its_begin(),
        Pair::new("/tasks/exit of a session", "exec", 10),
        Pair::new("/tasks/exit", "run", 5),
    ];
    tell("containerd", &profile, &by_containerd, &pairs);
}

//! Critical paths of programs whose slow part is known: chains of processes, a server, a neighbour at a pipe. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use run::{Folder, Report, clock, monotonic_ns, needs_root, stderr};
use serde_json::Value;

/// What this program does when it runs itself.
const ROLE: &str = "PHASEGRAPH_TEST_ROLE";
/// Where it stamps: `pid from to`, `CLOCK_MONOTONIC`, ns.
const STAMP: &str = "PHASEGRAPH_TEST_STAMP";

const MS: u64 = 1_000_000;
/// Processes of the chain, and the one of them that is slow.
const CHAIN: u32 = 5;
const SLOW: u32 = 3;
/// Rounds of the ping-pong, and of the questions to the server.
const ROUNDS: usize = 10;

/// This program again, in another role.
fn itself(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
        .env(ROLE, role);
    command
}

/// Not a test: what the profiled processes do.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    match role.split_once('-') {
        Some(("chain", place)) => chain(place.parse().unwrap()),
        Some(("ask", how)) => ask(how),
        Some(("serve", how)) => serve(how),
        _ => panic!("{role}"),
    }
    // Without the test harness' own end.
    std::process::exit(0);
}

fn stamped(work: impl FnOnce()) {
    let from = monotonic_ns();
    work();
    let to = monotonic_ns();
    let file = File::options()
        .append(true)
        .create(true)
        .open(std::env::var_os(STAMP).unwrap());
    writeln!(file.unwrap(), "{} {from} {to}", std::process::id()).unwrap();
}

fn burn(ns: u64) {
    let start = clock(libc::CLOCK_THREAD_CPUTIME_ID);
    while clock(libc::CLOCK_THREAD_CPUTIME_ID) - start < ns {
        std::hint::spin_loop();
    }
}

fn chain(place: u32) {
    if place == SLOW {
        stamped(|| {
            burn(100 * MS);
            std::thread::sleep(Duration::from_millis(200));
        });
    }
    if place < CHAIN {
        assert!(itself(&format!("chain-{}", place + 1)).status().unwrap().success());
    }
}

/// Asks a child over its standard input and output, and waits for each answer.
fn ask(how: &str) {
    let mut server = itself(&format!("serve-{how}"));
    let mut child;
    let mut socket: Option<File>;
    match how {
        "socket" => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            child = server.stdin(OwnedFd::from(theirs)).spawn().unwrap();
            socket = Some(OwnedFd::from(ours).into());
        }
        "tcp" => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (theirs, _) = listener.accept().unwrap();
            child = server.stdin(OwnedFd::from(theirs)).spawn().unwrap();
            socket = Some(OwnedFd::from(ours).into());
        }
        _ => {
            child = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            socket = None;
        }
    }
    drop(server);
    let mut byte = [7];
    for _ in 0..ROUNDS {
        match &mut socket {
            Some(socket) => {
                socket.write_all(&byte).unwrap();
                socket.read_exact(&mut byte).unwrap();
            }
            None => {
                child.stdin.as_mut().unwrap().write_all(&byte).unwrap();
                // The harness of the other side prints before its first answer.
                let answers = child.stdout.as_mut().unwrap();
                while answers.read(&mut byte).unwrap() == 1 && byte[0] != b'\x01' {}
            }
        }
    }
    drop(socket);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Answers each byte after 10 ms on a CPU and 10 ms of sleep.
fn serve(how: &str) {
    use std::os::fd::AsFd as _;
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
    let mut output = match how {
        "socket" | "tcp" => File::from(std::io::stdin().as_fd().try_clone_to_owned().unwrap()),
        _ => File::from(std::io::stdout().as_fd().try_clone_to_owned().unwrap()),
    };
    let mut byte = [0];
    while matches!(input.read(&mut byte), Ok(1)) {
        stamped(|| {
            burn(10 * MS);
            std::thread::sleep(Duration::from_millis(10));
        });
        output.write_all(b"\x01").unwrap();
    }
}

struct Stamps {
    pid: u64,
    spans: Vec<(u64, u64)>,
}

fn profile(role: &str) -> (Report, Stamps) {
    let folder = Folder::new();
    let program = itself(role);
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let output = folder
        .profile("x.phg", words)
        .env(ROLE, role)
        .env(STAMP, folder.path("stamps"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(folder.path("stamps")).unwrap();
    let lines: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split(' ').map(|word| word.parse().unwrap()).collect())
        .collect();
    let stamps = Stamps {
        pid: lines[0][0],
        spans: lines.iter().map(|line| (line[1], line[2])).collect(),
    };
    let report = folder.report("x.phg");
    // The picture is as wide as the path.
    let folded = folder
        .phasegraph(["flame", "--kind", "critical", "--folded", "x.phg"])
        .output()
        .unwrap();
    assert!(folded.status.success(), "{}", stderr(&folded));
    let us: u64 = String::from_utf8_lossy(&folded.stdout)
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    let wall: u64 = paths(&report)
        .iter()
        .map(|path| path["wall_ns"].as_u64().unwrap())
        .sum();
    assert!(us.abs_diff(wall / 1_000) <= 1, "{us} of {wall}");
    (report, stamps)
}

fn paths(report: &Report) -> &Vec<Value> {
    report.0["critical_path"].as_array().unwrap()
}

/// The path tiles the operation, and what the slow process stamped is on it as that process's own, within 3 %; its
/// sleep as sleep, its burning as CPU or the wait for one.
fn assert_path(report: &Report, stamps: &Stamps) {
    let operation = &report.0["operations"][0];
    let path = &paths(report)[0];
    assert_eq!(path["wall_ns"], operation["wall_ns"]);
    let mut at = operation["from_ns"].as_u64().unwrap();
    let (mut on_path, mut asleep) = (0, 0);
    for segment in path["segments"].as_array().unwrap() {
        let (from, to) = (segment["from_ns"].as_u64().unwrap(), segment["to_ns"].as_u64().unwrap());
        assert_eq!(from, at, "{segment}");
        assert!(from < to);
        at = to;
        let Some(process) = segment["process"].as_u64() else {
            continue;
        };
        if report.0["processes"][process as usize]["pid"] == stamps.pid {
            let within = |(begin, end): &(u64, u64)| to.min(*end).saturating_sub(from.max(*begin));
            let ns: u64 = stamps.spans.iter().map(within).sum();
            on_path += ns;
            asleep += if segment["state"] == "sleep" { ns } else { 0 };
        }
    }
    assert_eq!(at, operation["to_ns"].as_u64().unwrap());
    let stamped: u64 = stamps.spans.iter().map(|(from, to)| to - from).sum();
    assert!(
        on_path <= stamped && stamped - on_path <= stamped * 3 / 100,
        "{on_path} of {stamped}: {path:#}"
    );
    // Each span holds a sleep of known length, and no other.
    let slept = if stamps.spans.len() == 1 {
        200
    } else {
        10 * stamps.spans.len() as u64
    } * MS;
    assert!(asleep >= slept * 97 / 100, "{asleep} of {slept}: {path:#}");
    let unattributed = path["times"]["unattributed_ns"].as_u64().unwrap();
    assert!(unattributed * 100 < path["wall_ns"].as_u64().unwrap(), "{path:#}");
}

/// Make sure that of a chain of five processes that wait for each other, the third's work is on the path.
#[test]
fn third_of_five() {
    needs_root!();
    let (report, stamps) = profile("chain-1");
    assert_path(&report, &stamps);
}

/// Make sure that the path goes from who asks over a unix socket to who answers, and back.
#[test]
fn server_at_a_socket() {
    needs_root!();
    let (report, stamps) = profile("ask-socket");
    assert_eq!(stamps.spans.len(), ROUNDS);
    assert_path(&report, &stamps);
}

/// Make sure that it goes over loopback just so, where the answer wakes who asked from a soft interrupt.
#[test]
fn server_over_loopback() {
    needs_root!();
    // A busy kernel leaves soft interrupts to a thread of its own, which is no cause: then the path ends at the network.
    let delivered_by_senders = |report: &Report| {
        let segments = paths(report)[0]["segments"].as_array().unwrap();
        let waited = segments.iter().filter(|segment| segment["state"] == "network");
        let ns = |segment: &Value| segment["to_ns"].as_u64().unwrap() - segment["from_ns"].as_u64().unwrap();
        waited.map(ns).sum::<u64>() < MS
    };
    let mut tries = (0..5).map(|_| profile("ask-tcp"));
    let (report, stamps) = tries.find(|(report, _)| delivered_by_senders(report)).unwrap();
    assert_eq!(stamps.spans.len(), ROUNDS);
    assert_path(&report, &stamps);
}

/// Make sure that it goes through pipes just so.
#[test]
fn neighbour_at_a_pipe() {
    needs_root!();
    let (report, stamps) = profile("ask-pipe");
    assert_eq!(stamps.spans.len(), ROUNDS);
    assert_path(&report, &stamps);
}

//! `record`: the whole host, and one container of it. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use run::machine::slowness;
use run::{Folder, Started, needs_root, shell_status, stderr, until};

/// Works in small steps for ever.
const BUSY: &str = "while :; do sleep 0.01; done";
const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// Something that ran before the recording began.
fn busy(folder: &Folder) -> Started {
    let mut command = Command::new("sh");
    command
        .args(["-c", BUSY])
        .current_dir(folder.path(""))
        .stdin(Stdio::null());
    Started::new(&mut command)
}

/// `record` under way.
fn recording(folder: &Folder, arguments: &[&str]) -> Started {
    let words = ["record", "--no-summary", "--max-overhead", "off"]
        .iter()
        .chain(arguments);
    let program = Started::new(folder.phasegraph(words).stderr(Stdio::piped()));
    until("the recording's beginning", || {
        folder.names().iter().any(|name| name.ends_with(".phg.partial"))
            && programs_attached(program.pid())
            && catches_interrupts(program.pid())
    });
    program
}

/// Whether Ctrl-C does not kill it any more. Hooks by kprobes are perf events too, and come before that.
fn catches_interrupts(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & 1 << (libc::SIGINT - 1) != 0)
}

/// Whether the process holds the iterator's map and its sampling clocks: the last that it attaches.
fn programs_attached(pid: u32) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let events = descriptors
        .filter(|descriptor| {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            target.as_os_str() == "anon_inode:[perf_event]"
        })
        .count();
    // A ring and a clock for each CPU.
    events >= 2 * std::thread::available_parallelism().unwrap().get()
}

/// Make sure that what ran before is followed with what it starts, that the time given ends the recording, and that its
/// default name is told.
#[test]
fn whole_host_for_a_time() {
    needs_root!();
    let folder = Folder::new();
    let before = busy(&folder);
    let seconds = 2 * slowness();
    let duration = format!("{seconds}s");
    let output = folder
        .phasegraph(["record", "--duration", &duration, "--max-overhead", "off"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let [name] = &folder.names()[..] else {
        panic!("{:?}", folder.names())
    };
    assert!(name.starts_with("phasegraph-2") && name.ends_with("Z.phg"), "{name}");
    let said = stderr(&output);
    assert!(said.contains(name) && said.contains("whole host"), "{said}");

    let report = folder.report(name);
    assert!(report.closed());
    let length = report.0["span"]["length_ns"].as_u64().unwrap();
    assert!(length >= u64::from(seconds) * 1_000_000_000, "{length}");
    let process = report
        .processes()
        .find(|process| process.pid() == u64::from(before.pid()))
        .unwrap();
    assert_eq!(process.0["adopted"], true);
    assert_eq!(process.0["argv"][2]["text"], BUSY);
    let children = report
        .named("sleep")
        .filter(|child| child.0["parent"] == process.0["index"])
        .count();
    assert!(children >= 10, "{children}");
    // Itself is the one that it does not follow.
    assert_eq!(
        report
            .named("phasegraph")
            .filter(|one| one.0["adopted"] == true
                && one.0["argv"][1]["text"] == "record"
                && one.0["argv"][4]["text"] == "--max-overhead")
            .count(),
        0
    );
    assert!(report.0["host"]["cpu"]["user_ns"].as_u64().unwrap() > 0);
    let lost: Vec<_> = report
        .losses()
        .into_iter()
        .filter(|(name, _)| name.starts_with("ring_full"))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
}

/// Make sure that Ctrl-C and SIGTERM each end a recording in order.
#[test]
fn signals_end_it() {
    needs_root!();
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let folder = Folder::new();
        let mut program = recording(&folder, &["-o", "x.phg"]);
        std::thread::sleep(std::time::Duration::from_millis(300));
        program.signal(signal);
        assert_eq!(shell_status(program.status()), 0);
        let report = folder.report("x.phg");
        assert!(report.closed() && report.damage().is_empty(), "{:?}", report.damage());
        assert!(report.0["command"]["exit_status"].is_null());
    }
}

/// Make sure that only the container asked for is recorded: its monitor with what that starts, by name and by id.
#[test]
fn one_container() {
    needs_root!();
    let folder = Folder::new();
    let stranger = busy(&folder);
    // What an engine's monitor looks like from outside: its name, and the container's id and name as its arguments.
    let monitor = Started::new(
        Command::new("awk")
            .arg0("conmon")
            .args([
                "BEGIN { while (1) system(\"sleep 0.01\") }",
                "-c",
                ID,
                "-n",
                "phasegraph-test",
            ])
            .stdin(Stdio::null()),
    );
    for wanted in ["phasegraph-test", &ID[..12]] {
        let file = format!("{wanted}.phg");
        let output = folder
            .phasegraph([
                "record",
                "--duration",
                &format!("{}s", slowness()),
                "--no-summary",
                "--max-overhead",
                "off",
                "--container",
                wanted,
                "-o",
                &file,
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let report = folder.report(&file);
        let pids: Vec<u64> = report.processes().map(|process| process.pid()).collect();
        assert!(pids.contains(&u64::from(monitor.pid())), "{pids:?}");
        assert!(!pids.contains(&u64::from(stranger.pid())), "{pids:?}");
        assert!(report.named("sleep").count() >= 5);
    }
    let unknown = folder
        .phasegraph(["record", "--duration", "1s", "--container", "no-such-container"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    let said = stderr(&unknown);
    assert!(
        said.contains("no-such-container") && said.contains("phasegraph-test"),
        "{said}"
    );
}

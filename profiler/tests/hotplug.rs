//! CPUs that go and come during a recording. Only on a machine of the tests' own: taking a CPU away disturbs whoever else
//! is there. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use run::{Folder, Report, Started, needs_root, shell_status, until};

/// Whether CPU 1 is in use.
const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

const PARANOIA: &str = "/proc/sys/kernel/perf_event_paranoid";

/// Whether a CPU can be taken away here; says why not.
fn may_take_a_cpu() -> bool {
    let may = std::env::var_os("PHASEGRAPH_OWN_MACHINE").is_some() && Path::new(SWITCH).exists();
    if !may {
        eprintln!("skipped: this machine is not the test's own, or has no second CPU to take away");
    }
    may
}

/// Records the host at this `perf_event_paranoid` while CPU 1 goes and returns, and then `burner` runs on it.
fn recorded(folder: &Folder, paranoia: &str) -> Report {
    fs::write(PARANOIA, paranoia).unwrap();
    let words = ["record", "--no-summary", "--max-overhead", "off", "-o", "x.phg"];
    let mut program = Started::new(folder.phasegraph(words).stderr(Stdio::piped()));
    let attached = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", program.pid()))
            .into_iter()
            .flatten();
        let events = descriptors.flatten().filter(|descriptor| {
            let target = fs::read_link(descriptor.path()).unwrap_or_default();
            target.as_os_str() == "anon_inode:[perf_event]"
        });
        // A clock and a ring of mappings for each CPU.
        events.count() >= 2 * std::thread::available_parallelism().unwrap().get()
    };
    until("the recording's beginning", attached);
    std::thread::sleep(Duration::from_secs(1));
    fs::write(SWITCH, "0").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    fs::write(SWITCH, "1").unwrap();
    std::thread::sleep(Duration::from_secs(2));
    // A name of its own, and a file that is mapped for the first time.
    fs::copy(fs::canonicalize("/bin/sh").unwrap(), folder.path("burner")).unwrap();
    let burnt = Command::new("taskset")
        .args([
            "-c",
            "1",
            "./burner",
            "-c",
            "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
        ])
        .current_dir(folder.path(""))
        .status()
        .unwrap();
    assert!(burnt.success());
    program.signal(libc::SIGINT);
    assert_eq!(shell_status(program.status()), 0);

    let report = folder.report("x.phg");
    assert!(report.closed() && report.damage().is_empty(), "{:?}", report.damage());
    // A CPU that is not sampled takes nothing away from the times.
    for thread in report.threads() {
        assert_eq!(thread.states(), thread.lived(), "{:#}", thread.value);
    }
    assert_eq!(report.named("burner").count(), 1);
    let page = folder.phasegraph(["show", "x.phg"]).output().unwrap();
    let page = run::stdout(&page);
    assert!(
        page.contains("CPU 1 went offline") && page.contains("CPU 1 came online"),
        "{page}"
    );
    report
}

/// The CPUs that went and came, and what of them could not be followed.
fn changes(report: &Report) -> Vec<(u64, bool, &str)> {
    let changes = report.0["host"]["cpu_changes"].as_array().unwrap().iter();
    changes
        .map(|change| {
            let cpu = change["cpu"].as_u64().unwrap();
            (cpu, change["online"] == true, change["problem"].as_str().unwrap())
        })
        .collect()
}

/// Make sure that a CPU that goes and returns is noticed both times, that nothing breaks meanwhile, and that what runs on
/// it afterwards is sampled, with its mappings.
#[test]
fn a_cpu_goes_and_returns() {
    needs_root!();
    if !may_take_a_cpu() {
        return;
    }
    let folder = Folder::new();
    let report = recorded(&folder, "2");
    assert_eq!(changes(&report), [(1, false, ""), (1, true, "")]);
    let flame = folder
        .phasegraph(["flame", "x.phg", "--process", "burner", "--folded"])
        .output()
        .unwrap();
    let flame = run::stdout(&flame);
    let sampled = flame
        .lines()
        .filter(|line| line.contains("burner") && !line.contains("[not sampled]"));
    assert!(sampled.count() > 0, "{flame}");
}

/// Make sure that where a CPU's events take `CAP_SYS_ADMIN`, which the profiler has given up by then, the recording says
/// what it lacks and why, and its times are whole.
#[test]
fn a_cpu_returns_unsampled() {
    needs_root!();
    if !may_take_a_cpu() {
        return;
    }
    let folder = Folder::new();
    // A level that Debian's kernels add.
    let report = recorded(&folder, "3");
    let [(1, false, ""), (1, true, problem)] = changes(&report)[..] else {
        panic!("{:?}", changes(&report));
    };
    for part in ["not sampled: ", "mappings not recorded: ", "Permission denied"] {
        assert!(problem.contains(part), "no `{part}` in: {problem}");
    }
}

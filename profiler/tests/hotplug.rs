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

use run::{Folder, Started, needs_root, shell_status, until};

/// Whether CPU 1 is in use.
const SWITCH: &str = "/sys/devices/system/cpu/cpu1/online";

/// Make sure that a CPU that goes and returns is noticed both times, that nothing breaks meanwhile, and that what runs on
/// it afterwards is sampled, with its mappings.
#[test]
fn a_cpu_goes_and_returns() {
    needs_root!();
    if std::env::var_os("PHASEGRAPH_OWN_MACHINE").is_none() || !Path::new(SWITCH).exists() {
        eprintln!("skipped: this machine is not the test's own, or has no second CPU to take away");
        return;
    }
    // Debian's kernels have a level 3, at which a CPU's event takes CAP_SYS_ADMIN, which the profiler has given up by
    // the time; the recording then says so.
    fs::write("/proc/sys/kernel/perf_event_paranoid", "2").unwrap();
    let folder = Folder::new();
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
        events.count() >= 4
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
    let changes: Vec<(u64, bool, &str)> = report.0["host"]["cpu_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let cpu = change["cpu"].as_u64().unwrap();
            (cpu, change["online"] == true, change["problem"].as_str().unwrap())
        })
        .collect();
    assert_eq!(changes, [(1, false, ""), (1, true, "")]);
    for thread in report.threads() {
        assert_eq!(thread.states(), thread.lived(), "{:#}", thread.value);
    }
    let flame = folder
        .phasegraph(["flame", "x.phg", "--process", "burner", "--folded"])
        .output()
        .unwrap();
    let flame = run::stdout(&flame);
    let sampled = flame
        .lines()
        .filter(|line| line.contains("burner") && !line.contains("[not sampled]"));
    assert!(sampled.count() > 0, "{flame}");
    let page = folder.phasegraph(["show", "x.phg"]).output().unwrap();
    let page = run::stdout(&page);
    assert!(
        page.contains("CPU 1 went offline") && page.contains("CPU 1 came online"),
        "{page}"
    );
}

//! The overhead cap under a storm: it is kept, and what was given up for it is told. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use run::{Folder, Report, clock, needs_root, stderr};

/// Tells this test program to be the storm.
const STORM: &str = "PHASEGRAPH_TEST_STORM";
/// How long it blows.
const SECONDS: u64 = 9;
/// The cap, percent; the storm costs several times as much.
const CAP: f64 = 1.0;

/// The load of the test below: on each CPU two threads that do nothing but wake each other.
#[test]
#[ignore = "a load, run by the other tests"]
fn storm() {
    if std::env::var_os(STORM).is_none() {
        eprintln!("skipped: this is a load, run by the other tests");
        return;
    }
    let cpus = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for cpu in 0..cpus {
            let (mut from, mut to) = std::io::pipe().unwrap();
            let (mut back_from, mut back_to) = std::io::pipe().unwrap();
            scope.spawn(move || {
                pin(cpu);
                let mut byte = [0];
                while from.read(&mut byte).unwrap() == 1 {
                    back_to.write_all(&byte).unwrap();
                }
                stamp();
            });
            scope.spawn(move || {
                pin(cpu);
                let end = Instant::now() + Duration::from_secs(SECONDS);
                let mut byte = [0];
                while Instant::now() < end {
                    to.write_all(&byte).unwrap();
                    back_from.read_exact(&mut byte).unwrap();
                }
                drop(to);
                stamp();
            });
        }
    });
}

/// One line with this thread's id and its time on CPUs.
fn stamp() {
    // SAFETY: no arguments.
    let tid = unsafe { libc::gettid() };
    println!("stamp {tid} {}", clock(libc::CLOCK_THREAD_CPUTIME_ID));
}

fn pin(cpu: usize) {
    // SAFETY: an all-zero set is valid, and is as large as is said.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        // A host that forbids it has its threads wherever they are.
        libc::sched_setaffinity(0, size_of_val(&set), &set);
    }
}

/// Profiles the storm under a cap; the report, and the threads' stamps.
fn profiled(folder: &Folder, cap: &str) -> (Report, Vec<(u64, u64)>) {
    let program = std::env::current_exe().unwrap();
    let file = format!("cap-{cap}.phg");
    let output = folder
        .phasegraph(["run", "--no-summary", "--max-overhead", cap, "-o", &file, "--"])
        .arg(program)
        .args(["--exact", "storm", "--ignored", "--nocapture"])
        .env(STORM, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let stamps = run::stdout(&output)
        .lines()
        .filter_map(|line| {
            // The test harness writes its own text before the first stamp.
            let (_, stamp) = line.split_once("stamp ")?;
            let (tid, cpu) = stamp.split_once(' ')?;
            Some((tid.parse().unwrap(), cpu.parse().unwrap()))
        })
        .collect();
    (folder.report(&file), stamps)
}

/// The profiler's cost, ns of CPU time.
fn cost(report: &Report) -> u64 {
    let own = &report.0["self"];
    let ns = |name: &str| own[name].as_u64().unwrap_or(0);
    ns("bpf_ns") + ns("user_ns") + ns("system_ns")
}

/// Make sure that a storm of context switches that costs more than the cap is shed within a second or two, that the gap
/// is in the report and on the page, and that what is told beside it is the truth.
#[test]
fn switch_storm_is_shed() {
    needs_root!();
    let folder = Folder::new();
    let (free, _) = profiled(&folder, "off");
    let host = |report: &Report| report.0["self"]["host_cpu_ns"].as_u64().unwrap();
    let rate = cost(&free) as f64 / host(&free) as f64;
    assert_eq!(
        free.0["self"]["gaps"].as_array().unwrap().len(),
        0,
        "without a cap nothing is given up"
    );
    if rate < 3.0 * CAP / 100.0 {
        eprintln!(
            "skipped: the storm costs {:.2} % here: no test of a cap of {CAP} %",
            rate * 100.0
        );
        return;
    }

    let (capped, stamps) = profiled(&folder, &CAP.to_string());
    let gaps = capped.0["self"]["gaps"].as_array().unwrap();
    let gap = gaps.iter().find(|gap| gap["lever"] == "scheduling").unwrap();
    assert!(gap["cost_ppm"].as_u64() > gap["cap_ppm"].as_u64(), "{gap}");
    assert_eq!(gap["cap_ppm"], 10_000);
    let ns = |value: &serde_json::Value| value.as_u64().unwrap();
    let length = ns(&gap["to_ns"]) - ns(&gap["from_ns"]);
    assert!(length > SECONDS * 1_000_000_000 / 2, "{gap}");

    // The cap over the whole, what may be used up at once (1.5 s of it), and two intervals of half a second until it
    // acts, at the storm's full rate.
    let cpus = capped.0["host"]["cpus"].as_f64().unwrap();
    let allowed = CAP / 100.0 * (host(&capped) as f64 + 1.5e9 * cpus) + rate * 1.0e9 * cpus;
    let spent = cost(&capped) as f64;
    let share = spent / host(&capped) as f64;
    eprintln!(
        "{:.2} % without a cap, {:.2} % with one of {CAP} %",
        rate * 100.0,
        share * 100.0
    );
    assert!(
        spent <= allowed,
        "{spent} of {allowed} ns; {:.2} % without a cap; {gaps:#?}",
        rate * 100.0
    );

    // What was not seen is lost, and no more time on CPUs is told than there was.
    assert!(!stamps.is_empty());
    for (tid, cpu) in stamps {
        let thread = capped.threads().find(|thread| thread.ns("tid") == tid).unwrap();
        assert_eq!(thread.states(), thread.lived(), "{:#}", thread.value);
        assert!(thread.state("lost_ns") >= length / 2, "{:#}", thread.value);
        // Stamped a moment before its end; a hypervisor's theft is in ours only.
        assert!(
            thread.state("cpu_ns") <= cpu + cpu / 4 + 5_000_000,
            "{:#} {cpu}",
            thread.value
        );
    }
    let page = folder.phasegraph(["show", "cap-1.phg"]).output().unwrap();
    let page = run::stdout(&page);
    assert!(page.contains("overhead cap") && page.contains("scheduling"), "{page}");
}

//! How exact the edges of `run` are: against the kernel's own trace, and against a stopwatch in the container.

use super::support::accuracy::{self, Edge};
use super::support::bare::Bare;
use super::support::check::scenario;
use super::support::machine::emulated;
use super::support::tracefs::Trace;
use super::support::workload;

/// Containers of each test.
const RUNS: usize = 40;
/// The kernel's trace is stamped some instructions before or after phasegraph's own program.
const TRACE_NS: i64 = 100_000;

/// How far an edge may be from the stopwatch within the container: exec to `main()`, and the last stamp to the exit.
const STOPWATCH_NS: i64 = 1_000_000;
/// Edges that may lie further away, of [`RUNS`]: whatever lies below this kernel (a hypervisor, an emulator) may take
/// the CPU away between the two stamps, and does not tell.
const TAKEN_AWAY: usize = RUNS / 20;

fn exact(runtime: &'static str) {
    let bare = scenario!(Bare::new(runtime));
    bare.bundle("exact", &["/stamp", "exact"]);
    let trace = scenario!(Trace::start());
    let profile = bare.script(&format!(
        "for run in $(seq {RUNS}); do $RT run --bundle exact phg-exact-$run; done"
    ));
    let lives = trace.lives("/stamp", "stamp");
    assert_eq!(lives.len(), RUNS, "the trace has every container");
    let containers = profile.containers();
    assert_eq!(containers.len(), RUNS);
    let stamps = workload::all_stamps(&profile.output, "exact");
    assert_eq!(stamps.len(), RUNS);
    let mut differences: [Vec<i64>; 4] = Default::default();
    for ((container, (pid, exec, exit)), (begin, end)) in containers.iter().zip(lives).zip(stamps) {
        let run = container.phase("run");
        assert_eq!(profile.pid(container.0["entrypoint"].as_u64().unwrap()), pid);
        let queued = run.0["wall"]["runqueue_ns"].as_i64().unwrap();
        let late = |witness: u64, edge: u64| witness as i64 - edge as i64;
        differences[0].push(late(exec, run.from()));
        differences[1].push(late(exit, run.to()));
        // What the phase's main thread waited for a CPU is no error of the phase, wherever it waited.
        differences[2].push((late(begin, run.from()) - queued).max(0));
        differences[3].push((late(run.to(), end) - queued).max(0));
        assert!(run.from() <= begin && end <= run.to(), "{run:?}");
    }
    let [exec, exit, begin, end] = differences;
    // An emulated CPU can be taken away between two readings of its clock, or be slow by itself.
    let taken_away = if emulated() { RUNS / 2 } else { TAKEN_AWAY };
    let trace = format!("within 0.1 ms, all but {taken_away}");
    let stopwatch = match emulated() {
        true => "never outside of the phase".to_owned(),
        false => format!("within 1 ms, all but {TAKEN_AWAY}; never outside of the phase"),
    };
    let edge = |what: &str, differences, asserted: &String| Edge {
        what: what.to_owned(),
        differences,
        asserted: asserted.clone(),
    };
    let edges = [
        edge(
            "start of `run` to `sched_process_exec` of the kernel's trace",
            exec,
            &trace,
        ),
        edge(
            "end of `run` to `sched_process_exit` of the kernel's trace",
            exit,
            &trace,
        ),
        edge(
            "start of `run` to `main()`, less the time in the run queue",
            begin,
            &stopwatch,
        ),
        edge(
            "last stamp to the end of `run`, less the time in the run queue",
            end,
            &stopwatch,
        ),
    ];
    let section = match emulated() {
        true => format!("{runtime}, in an emulated machine"),
        false => runtime.to_owned(),
    };
    let what = format!(
        "{RUNS} containers that live under 2 ms, by a bare `{runtime} run`; Linux {}.",
        profile.json["host"]["kernel"].as_str().unwrap()
    );
    accuracy::tell(&section, &what, &edges);
    let outside = |edge: &Edge, limit: i64| edge.differences.iter().filter(|ns| ns.abs() > limit).count();
    let limits = [TRACE_NS, TRACE_NS, STOPWATCH_NS, STOPWATCH_NS];
    let asserted = if emulated() { 2 } else { limits.len() };
    for (edge, limit) in edges.iter().zip(limits).take(asserted) {
        assert!(
            outside(edge, limit) <= taken_away,
            "{}: {:?}",
            edge.what,
            edge.differences
        );
    }
}

/// Make sure that `run` of runc's containers begins and ends where the kernel's own trace says, and a stopwatch in them.
#[test]
fn runc_exact() {
    exact("runc");
}

/// Make sure of the same with crun.
#[test]
fn crun_exact() {
    exact("crun");
}

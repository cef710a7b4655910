//! What is asserted of many runtimes' phases.

use serde_json::Value;

use super::machine::emulated;
use super::profile::{Item, Profile};

/// How far a `run` phase may reach beyond the stopwatch in it: exec to `main()`, and the last stamp to the exit, on a host
/// that has other work and a cold page cache. `exact.rs` holds the edges against the kernel's own trace.
pub(crate) const NEAR_NS: u64 = 5_000_000;

/// Unpacks a scenario, or says why there is none here.
macro_rules! scenario {
    ($made:expr) => {
        match $made {
            Ok(scenario) => scenario,
            Err($crate::support::host::Skip(why)) => {
                eprintln!("skipped: {why}");
                return;
            }
        }
    };
}
pub(crate) use scenario;

/// The stopwatch lies in the phase, and the phase reaches no further than 5 ms beyond it, besides what the
/// container's first process waited for a CPU: on a busy host that is no error of the phase. Where the CPU is emulated,
/// exec to `main()` takes as long as it takes (`exact.rs` holds such kernels against their own trace).
pub(crate) fn assert_agrees(run: Item<'_>, (begin, end): (u64, u64)) {
    let (before, after) = (begin as i64 - run.from() as i64, run.to() as i64 - end as i64);
    let queued = run.0["wall"]["runqueue_ns"].as_u64().unwrap();
    println!("run begins {before} ns before the stopwatch and ends {after} ns after it; {queued} ns in the run queue");
    assert!(run.from() <= begin && end <= run.to(), "{before} {after}");
    let tolerance = queued + NEAR_NS;
    assert!(
        emulated() || (begin - run.from() <= tolerance && run.to() - end <= tolerance),
        "{before} {after} {queued}"
    );
}

/// Phases that follow each other: each begins when or after the one before began, and all of them ended.
pub(crate) fn assert_order(container: Item<'_>, names: &[&str]) {
    let phases: Vec<Item> = names.iter().map(|name| container.phase(name)).collect();
    for pair in phases.windows(2) {
        assert!(pair[0].from() < pair[1].from(), "{names:?} in {:#}", container.0);
    }
    assert!(
        phases
            .iter()
            .all(|phase| phase.0["open"] == false && phase.to() >= phase.from()),
        "{:#}",
        container.0
    );
    let (create, init) = (container.phase("create"), container.phase("init"));
    assert!(create.from() <= init.from() && init.to() <= create.to());
    let (run, cleanup) = (container.phase("run"), container.phase("cleanup"));
    // With `run` in one go, the entrypoint's exec ends `create`; else `start`.
    let before = container.phases("start").pop().unwrap_or(create);
    assert_eq!((before.to(), run.to()), (run.from(), cleanup.from()));
}

/// At least 99 % of each phase's length, along its critical path, has a reason. What a counted loss has hidden has none either.
pub(crate) fn assert_explained(profile: &Profile) {
    let mut phases = Vec::new();
    let mut left: Vec<&Value> = ["phases", "containers"].map(|list| &profile.json[list]).to_vec();
    while let Some(list) = left.pop() {
        for item in list.as_array().into_iter().flatten() {
            left.push(&item["phases"]);
            if item["critical"].is_object() {
                phases.push(item);
            }
        }
    }
    assert!(!phases.is_empty());
    let losses = profile.json["losses"].as_array().unwrap();
    let losses = losses.iter().any(|loss| loss["is_loss"] == true);
    for phase in phases {
        let critical = |name: &str| phase["critical"][name].as_u64().unwrap();
        let lost = if losses { 0 } else { critical("lost_ns") };
        let without = critical("other_ns") + critical("unattributed_ns") + lost;
        assert!(
            without * 100 <= phase["wall_ns"].as_u64().unwrap(),
            "{without} ns of {} have no reason: {}",
            phase["name"],
            phase["critical"]
        );
    }
}

/// Name of the operation of a phase or container; empty when it has none.
pub(crate) fn operation<'a>(profile: &'a Profile, item: Item<'_>) -> &'a str {
    let index = item.0["operation"].as_u64();
    index.map_or("", |index| profile.operations()[index as usize])
}

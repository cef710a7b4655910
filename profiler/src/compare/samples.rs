//! The figures of a series by phase and measure.

use std::collections::BTreeMap;

use super::results::{Measure, PhaseRun, Series, TOTAL};
use super::stats::{self, Summary};

/// What is measured of a phase, in the order in which it is told.
pub const MEASURES: [&str; 16] = [
    "wall",
    "cpu",
    "runqueue",
    "disk",
    "network",
    "lock",
    "ipc",
    "child",
    "sleep",
    "short_blocked",
    "other",
    "lost",
    "unattributed",
    "cpu_all",
    "bytes",
    "memory",
];

/// Whether it is a size, not a time.
pub fn is_size(measure: &str) -> bool {
    ["bytes", "memory"].contains(&measure)
}

/// Whether the command as a whole has this figure: it has no critical path whose states there could be, and moves no bytes of
/// its own.
pub fn is_of_total(measure: &str) -> bool {
    ["wall", "cpu_all", "memory"].contains(&measure)
}

/// A phase's figure; `None` when it has none.
pub fn value(phase: &PhaseRun, measure: &str) -> Option<u64> {
    if phase.kind == TOTAL && !is_of_total(measure) {
        return None;
    }
    let critical = &phase.critical;
    Some(match measure {
        "wall" => phase.wall_ns,
        "cpu" => critical.cpu_ns,
        "runqueue" => critical.runqueue_ns,
        "disk" => critical.disk_ns,
        "network" => critical.network_ns,
        "lock" => critical.lock_ns,
        "ipc" => critical.ipc_ns,
        "child" => critical.child_ns,
        "sleep" => critical.sleep_ns,
        "short_blocked" => critical.short_blocked_ns,
        "other" => critical.other_ns,
        "lost" => critical.lost_ns,
        "unattributed" => critical.unattributed_ns,
        "cpu_all" => phase.all.cpu_ns,
        "bytes" => return phase.bytes,
        "memory" => return phase.memory_bytes,
        _ => return None,
    })
}

/// Keys of a series in the order in which its runs tell them; the command as a whole first.
pub fn keys(series: &Series) -> Vec<&str> {
    let mut keys: Vec<&str> = Vec::new();
    let mut known = std::collections::HashSet::new();
    for run in series.good() {
        // A key that a later run tells for the first time comes after the one that it follows there.
        let mut after = 0;
        for phase in &run.phases {
            if known.insert(&phase.key[..]) {
                keys.insert(after.min(keys.len()), &phase.key);
                after += 1;
            } else if let Some(place) = keys.iter().position(|key| *key == phase.key) {
                after = place + 1;
            }
        }
    }
    keys
}

/// All figures of a phase, with the number of the run that each is of. The command's copies have one each.
pub fn all(series: &Series, key: &str, measure: &str) -> Vec<(u32, f64)> {
    let runs = series.good().flat_map(|run| {
        let phases = run.phases.iter().filter(|phase| phase.key == key && !phase.open);
        phases.filter_map(|phase| Some((run.number, value(phase, measure)? as f64)))
    });
    runs.collect()
}

/// One figure for each run, the median of its copies': what is independent of each other, as tests demand.
pub fn independent(series: &Series, key: &str, measure: &str) -> Vec<f64> {
    let mut by_run: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (run, value) in all(series, key, measure) {
        by_run.entry(run).or_default().push(value);
    }
    by_run.values().map(|values| stats::median(values)).collect()
}

/// Figures of all phases over the runs. Measures that are 0 in every run are left out, but for `wall`.
pub(super) fn measures(series: &Series) -> Vec<Measure> {
    let mut measures = Vec::new();
    for key in keys(series) {
        for measure in MEASURES {
            let (runs, values): (Vec<u32>, Vec<f64>) = all(series, key, measure).into_iter().unzip();
            let idle = values.iter().all(|value| *value == 0.0) && measure != "wall";
            if values.is_empty() || idle {
                continue;
            }
            let summary = Summary::of(&values);
            let mut outliers: Vec<u32> = stats::outliers(&values).into_iter().map(|index| runs[index]).collect();
            outliers.dedup();
            measures.push(Measure {
                key: key.to_owned(),
                measure: measure.to_owned(),
                cv_ppm: summary.cv().map(|cv| (cv * 1e6).round() as u64),
                summary,
                outliers,
            });
        }
    }
    measures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::diff::tests::series;

    /// Make sure that the command as a whole has a length and CPU time, and of nothing else a 0 that nobody measured.
    #[test]
    fn of_the_command() {
        let mut series = series(1, 3, 0.01, |_| 1.0);
        for (run, bytes) in series.runs.iter_mut().zip([3, 1, 2]) {
            run.phases[0].memory_bytes = Some(bytes);
        }
        for measure in MEASURES {
            let expected = if is_of_total(measure) { 3 } else { 0 };
            assert_eq!(independent(&series, TOTAL, measure).len(), expected, "{measure}");
        }
        let told = measures(&series);
        let of_total: Vec<&str> = told
            .iter()
            .filter(|told| told.key == TOTAL)
            .map(|told| &told.measure[..])
            .collect();
        assert_eq!(of_total, ["wall", "memory"]);
        let memory = told.iter().find(|told| told.measure == "memory").unwrap();
        assert_eq!(
            (memory.key.as_str(), memory.summary.median, memory.summary.max),
            (TOTAL, 2, 3)
        );
        assert!(told.iter().any(|told| told.key != TOTAL && told.measure == "disk"));
    }
}

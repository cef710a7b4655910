//! Simulated series with fixed seeds: what is found, what is not, and what is said when nothing can be.

use super::*;
use crate::compare::results::{PhaseRun, ProgramRun, Run};
use crate::report::json::schema::Times;

const MS: f64 = 1e6;

/// Phases of a simulated command: name and length, ms, of which two thirds are CPU time and a third disk.
const PHASES: [(&str, f64); 8] = [
    ("pull", 900.0),
    ("mount", 12.0),
    ("create", 150.0),
    ("init", 60.0),
    ("network", 40.0),
    ("start", 80.0),
    ("run", 2_000.0),
    ("cleanup", 120.0),
];

/// Skewed as times are: never much shorter than usual, now and then longer; of the coefficient of variation `cv`.
fn time(random: &mut fastrand::Rng, mean: f64, cv: f64) -> f64 {
    // A sum of two exponentials (Erlang): variance 2, mean 2.
    let one = -(1.0 - random.f64()).ln() - (1.0 - random.f64()).ln();
    mean * (1.0 + cv * (one - 2.0) / 2.0_f64.sqrt())
}

/// A series of runs in which each phase is longer by the factor that `slower` gives it.
pub(crate) fn series(seed: u64, runs: u32, cv: f64, slower: impl Fn(&str) -> f64) -> Series {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut series = Series {
        name: "warm".to_owned(),
        ..Series::default()
    };
    for number in 1..=runs {
        let mut run = Run {
            number,
            version: "0.1.0".to_owned(),
            ..Run::default()
        };
        for (name, ms) in PHASES {
            let cpu = (time(&mut random, ms * MS * 2.0 / 3.0, cv) * slower(name)) as u64;
            let disk = (time(&mut random, ms * MS / 3.0, cv) * slower(name)) as u64;
            let critical = Times {
                cpu_ns: cpu,
                disk_ns: disk,
                ..Times::default()
            };
            run.wall_ns += cpu + disk;
            run.phases.push(PhaseRun {
                key: format!("podman run > {name}"),
                kind: name.to_owned(),
                wall_ns: cpu + disk,
                critical: critical.clone(),
                all: critical,
                ..PhaseRun::default()
            });
        }
        let total = PhaseRun {
            key: TOTAL.to_owned(),
            kind: TOTAL.to_owned(),
            wall_ns: run.wall_ns,
            ..PhaseRun::default()
        };
        run.phases.insert(0, total);
        run.programs.push(ProgramRun {
            name: "podman".to_owned(),
            processes: 1,
            cpu_ns: 1,
        });
        series.runs.push(run);
    }
    series.summarize();
    series
}

fn compared(base: &Series, new: &Series) -> Difference {
    compare(base, new, &Options::default())
}

fn changed(difference: &Difference) -> Vec<String> {
    let changes = difference.changes.iter();
    let changed = changes.filter(|change| matches!(change.judged, Judged::More | Judged::Less));
    changed
        .map(|change| format!("{} {}", change.key, change.measure))
        .collect()
}

/// Make sure that one phase that is 5 % slower is found in 20 runs on each side, whichever it is, where times vary by
/// 2 %, that its size is told, and that no other phase is accused.
#[test]
fn five_percent_is_found() {
    let mut held = 0;
    for seed in 0..20 {
        let (slow, _) = PHASES[seed as usize % PHASES.len()];
        let base = series(seed, 20, 0.02, |_| 1.0);
        let new = series(1_000 + seed, 20, 0.02, |name| if name == slow { 1.05 } else { 1.0 });
        let difference = compared(&base, &new);
        assert_eq!(difference.verdict, Verdict::Changed, "{slow}");
        let key = format!("podman run > {slow}");
        let wall = difference
            .changes
            .iter()
            .find(|change| change.key == key && change.measure == "wall");
        let wall = wall.unwrap();
        assert_eq!(wall.judged, Judged::More, "{slow}: {wall:?}");
        let (low, high) = wall.interval.unwrap();
        held += usize::from(wall.part(low) <= 0.05 && 0.05 <= wall.part(high));
        for name in changed(&difference) {
            assert!(name.starts_with(&key) || name.starts_with(TOTAL), "{slow}: {name}");
        }
    }
    // Each interval holds the true shift with 95 %.
    assert!(held >= 17, "{held}");
}

/// Make sure that series of the same kind are told to be the same in at least 19 of 20 comparisons, and that for each
/// phase the smallest change that would have been found is told.
#[test]
fn the_same_is_the_same() {
    let mut same = 0;
    for seed in 0..20 {
        let base = series(2_000 + seed, 20, 0.02, |_| 1.0);
        let new = series(3_000 + seed, 20, 0.02, |_| 1.0);
        let difference = compared(&base, &new);
        same += usize::from(difference.verdict == Verdict::Same);
        for change in &difference.changes {
            let detectable = change.part(change.detectable.unwrap());
            assert!(
                (0.001..0.05).contains(&detectable),
                "{} {}: {detectable}",
                change.key,
                change.measure
            );
        }
    }
    assert!(same >= 19, "{same} of 20");
    // The other extreme, with more variation and no correction needed for a shift: a hundred comparisons.
    let mut wrong = 0;
    for seed in 0..100 {
        let base = series(4_000 + seed, 10, 0.2, |_| 1.0);
        let new = series(5_000 + seed, 10, 0.2, |_| 1.0);
        wrong += usize::from(compared(&base, &new).verdict != Verdict::Same);
    }
    // 5 % is the level; three standard deviations more are 11.
    assert!(wrong <= 11, "{wrong} of 100");
}

/// Make sure that a change that is certain but too small to count does not count, unless smaller ones are asked for.
#[test]
fn small_changes() {
    let base = series(1, 50, 0.001, |_| 1.0);
    let new = series(2, 50, 0.001, |_| 1.005);
    assert_eq!(compared(&base, &new).verdict, Verdict::Same);
    let strict = Options {
        min_change: 0.001,
        ..Options::default()
    };
    assert_eq!(compare(&base, &new, &strict).verdict, Verdict::Changed);
}

/// Make sure that single runs, too few runs and none have no verdict, and say why.
#[test]
fn no_verdict() {
    for (runs, why) in [(0, "no successful run"), (1, "single run"), (3, "too few")] {
        let base = series(1, runs, 0.01, |_| 1.0);
        let new = series(2, runs, 0.01, |_| 2.0);
        let difference = compared(&base, &new);
        assert_eq!(difference.verdict, Verdict::CantTell);
        assert_eq!(difference.verdict.status(), 2);
        assert!(difference.why.contains(why), "{}", difference.why);
    }
    // As many as are said to be enough are.
    let difference = compared(&series(1, 3, 0.01, |_| 1.0), &series(2, 3, 0.01, |_| 2.0));
    let words: Vec<&str> = difference.why.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "each").unwrap();
    let enough: u32 = words[place - 2].parse().unwrap();
    let verdict = |runs| compared(&series(1, runs, 0.01, |_| 1.0), &series(2, runs, 0.01, |_| 2.0)).verdict;
    assert_eq!(verdict(enough), Verdict::Changed, "{}", difference.why);
    assert_eq!(verdict(enough - 1), Verdict::CantTell);
}

/// Make sure that phases and programs that came or went are told and count, and that failed runs are left out and told.
#[test]
fn structure() {
    let base = series(1, 10, 0.01, |_| 1.0);
    let mut new = series(2, 10, 0.01, |_| 1.0);
    for run in &mut new.runs {
        run.phases.retain(|phase| phase.kind != "network");
        run.programs.push(ProgramRun {
            name: "pigz".to_owned(),
            processes: 1,
            cpu_ns: 1,
        });
    }
    new.runs[3].outcome = Outcome::Failed;
    new.runs[4].version = "0.2.0".to_owned();
    let difference = compared(&base, &new);
    assert_eq!(difference.verdict, Verdict::Changed);
    let names = |list: &[Only]| list.iter().map(|only| only.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&difference.gone), ["podman run > network"]);
    assert_eq!(names(&difference.added), ["pigz"]);
    assert_eq!((difference.new.good, difference.new.runs), (9, 10));
    let cautions = difference.cautions.join("\n");
    assert!(
        cautions.contains("1 of 10 runs failed") && cautions.contains("0.1.0, 0.2.0"),
        "{cautions}"
    );
}

/// Make sure that few runs are enough for a question that was asked beforehand, that nothing else counts for its answer, and
/// that a phase which is not there is told.
#[test]
fn chosen_phases() {
    let base = series(1, 4, 0.01, |_| 1.0);
    let mut new = series(2, 4, 0.01, |_| 2.0);
    for run in &mut new.runs {
        run.phases.retain(|phase| phase.kind != "network");
    }
    assert_eq!(compared(&base, &new).verdict, Verdict::CantTell);
    let of = |names: &[&str]| {
        let options = Options {
            phases: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Options::default()
        };
        compare(&base, &new, &options)
    };
    let total = of(&[TOTAL]);
    assert_eq!(total.verdict, Verdict::Changed);
    assert_eq!(changed(&total), ["total wall"]);
    assert_eq!((total.gone.len(), total.added.len(), total.too_small), (0, 0, 0));
    let two = of(&[TOTAL, "create"]);
    assert!(two.changes.iter().any(|change| change.key == "podman run > create"));
    let gone = of(&["network"]);
    assert_eq!(gone.verdict, Verdict::CantTell);
    assert_eq!(gone.gone.len(), 1);
    assert!(gone.why.contains("no phase network"), "{}", gone.why);
}

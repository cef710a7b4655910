//! Budgets on simulated series.

use super::*;
use crate::compare::diff::tests::series;
use crate::compare::results::Outcome;

fn checked(text: &str, series: &Series, baseline: Option<&Series>) -> Vec<Checked> {
    check(&Budgets::parse(text).unwrap(), series, baseline)
}

fn kept(expression: &str, series: &Series) -> (Kept, String) {
    let checked = checked(&format!("budget = ['{expression}']"), series, None);
    assert_eq!(checked.len(), 1);
    (checked[0].kept, checked[0].why.clone())
}

/// Make sure that a phase that was slowed down on purpose fails, and the same run unslowed passes, in 20 of 20 tries.
#[test]
fn slowed_and_not() {
    const BUDGET: &str = "budget = ['phase.create.p95 < \"180ms\"', 'phase.create.share < 0.05']\n[regression]\nalert = 0.10\nfail = 0.20\n";
    for seed in 0..20 {
        let baseline = series(100 + seed, 10, 0.05, |_| 1.0);
        let same = series(200 + seed, 10, 0.05, |_| 1.0);
        let slowed = series(300 + seed, 10, 0.05, |name| if name == "create" { 1.5 } else { 1.0 });
        let of = |series: &Series| checked(BUDGET, series, Some(&baseline));
        assert_eq!(status(&of(&same)), 0, "{seed}: {:?}", of(&same));
        let verdicts = of(&slowed);
        assert_eq!(status(&verdicts), 1, "{seed}");
        let over: Vec<&str> = verdicts
            .iter()
            .filter(|checked| checked.kept == Kept::Over)
            .map(|checked| &checked.name[..])
            .collect();
        assert!(over.contains(&"regression: podman run > create"), "{over:?}");
        assert!(over.contains(&"phase.create.p95 < \"180ms\""), "{over:?}");
    }
}

/// Make sure that a regression between the two limits is an alert, which fails nothing.
#[test]
fn alert() {
    let baseline = series(1, 20, 0.02, |_| 1.0);
    let slower = series(2, 20, 0.02, |name| if name == "run" { 1.15 } else { 1.0 });
    let verdicts = checked("[regression]\nalert = 0.10\nfail = 0.20\n", &slower, Some(&baseline));
    assert!(
        verdicts.iter().any(|checked| checked.kept == Kept::Alert),
        "{verdicts:?}"
    );
    assert_eq!(status(&verdicts), 0);
    let level = "budget = [{ expr = 'total.median < \"1ms\"', level = \"alert\", name = \"whole\" }]";
    let verdicts = checked(level, &slower, None);
    assert_eq!((verdicts[0].kept, &verdicts[0].name[..]), (Kept::Alert, "whole"));
}

/// Make sure that a regression below what counts as a change elsewhere is told where the file asks for it.
#[test]
fn small_regression() {
    let baseline = series(1, 20, 0.0005, |_| 1.0);
    let slower = series(2, 20, 0.0005, |name| if name == "run" { 1.006 } else { 1.0 });
    for (text, expected) in [
        ("[regression]\nalert = 0.004\nfail = 0.2\n", Kept::Alert),
        ("[regression]\nfail = 0.004\n", Kept::Over),
        ("[regression]\nalert = 0.008\n", Kept::Within),
    ] {
        let verdicts = checked(text, &slower, Some(&baseline));
        let worst = verdicts.iter().max_by_key(|checked| checked.kept).unwrap();
        assert_eq!(worst.kept, expected, "{text}: {verdicts:?}");
    }
    let verdicts = checked("[regression]\nalert = 0.004\nfail = 0.2\n", &slower, Some(&baseline));
    assert_eq!(verdicts[0].limit, "alert at 0.4 %, fail at 20 %");
}

/// Make sure that a phase that never occurred is counted as 0 where a budget asks for that, and only there.
#[test]
fn absent_phase() {
    let series = series(1, 5, 0.02, |_| 1.0);
    for (expression, expected) in [
        ("phase.teleport.count == 0", Kept::Within),
        ("phase.teleport.count < 1", Kept::Within),
        ("phase.teleport.count >= 1", Kept::Over),
        ("phase.teleport.count == 2", Kept::Over),
        ("phase.teleport.count < 5", Kept::CantTell),
        ("phase.teleport.count >= 0", Kept::CantTell),
        ("phase.create.count == 0", Kept::Over),
        ("phase.teleport.max < \"1s\"", Kept::CantTell),
    ] {
        assert_eq!(kept(expression, &series).0, expected, "{expression}");
    }
    // One that had not ended was there, and of how many there are nobody knows.
    let mut open = series.clone();
    let phases = open.runs.iter_mut().flat_map(|run| &mut run.phases);
    phases
        .filter(|phase| phase.kind == "create")
        .for_each(|phase| phase.open = true);
    assert_eq!(kept("phase.create.count == 0", &open).0, Kept::CantTell);
    let mut failed = series.clone();
    failed.runs.iter_mut().for_each(|run| run.outcome = Outcome::Failed);
    assert_eq!(kept("phase.teleport.count == 0", &failed).0, Kept::CantTell);
}

/// Make sure that nobody can tell of a phase that never occurred, of what is not measured, without a baseline, and
/// without a successful run; and that this is 2, not 0.
#[test]
fn cant_tell() {
    let series = series(1, 5, 0.02, |_| 1.0);
    for (expression, says) in [
        (
            "phase.teleport.median < \"1s\"",
            "never occurred; there is: cleanup, create",
        ),
        ("copy_up.bytes == 0", "do not tell of copy-ups"),
        ("overhead_vs(baseline) < 0.2", "--baseline"),
        ("phase.run.bytes.max < 1", "has no bytes"),
    ] {
        let (kept, why) = kept(expression, &series);
        assert_eq!(kept, Kept::CantTell, "{expression}");
        assert!(why.contains(says), "{expression}: {why}");
    }
    // The whole key of the command: of what it does not have there is no share either, not one of 0.
    let disk = Subject::Phase {
        name: TOTAL.to_owned(),
        measure: "disk".to_owned(),
        figure: Figure::Share,
    };
    assert_eq!(
        value(&disk, &series, None),
        Err("phase \"total\" has no disk".to_owned())
    );
    assert_eq!(status(&checked("[regression]\nfail = 0.2\n", &series, None)), 2);
    let mut failed = series.clone();
    failed.runs.iter_mut().for_each(|run| run.outcome = Outcome::Failed);
    assert_eq!(kept("total.median < \"1h\"", &failed).0, Kept::CantTell);
    assert_eq!(kept("success_rate >= 0.9", &failed).0, Kept::Over);
    assert_eq!(status(&[]), 2);
    let budgets = Budgets::parse("budget = [{ expr = 'lost == 0', series = 'cold' }]").unwrap();
    assert_eq!(check(&budgets, &series, None).len(), 0);
    assert_eq!(status(&without_series(&budgets, std::slice::from_ref(&series))), 2);
}

/// Make sure that the figures are those of the series, whichever way a phase is called.
#[test]
fn figures() {
    let series = series(1, 9, 0.02, |_| 1.0);
    let median = Summary::of(&samples::independent(&series, "podman run > create", "wall")).median;
    for name in ["create", "\"podman run > create\""] {
        for (limit, expected) in [(median + 1, Kept::Within), (median, Kept::Over)] {
            assert_eq!(
                kept(&format!("phase.{name}.median < \"{limit}ns\""), &series).0,
                expected,
                "{name}"
            );
        }
    }
    assert_eq!(kept("phase.create.count == 1", &series).0, Kept::Within);
    let mut copied = series.clone();
    for (index, run) in copied.runs.iter_mut().enumerate() {
        run.copy_ups = Some(CopyUps {
            files: 2,
            bytes: 100 * index as u64,
            stall_ns: 1,
        });
    }
    for (expression, expected) in [
        ("copy_up.bytes == 0", Kept::Over),
        ("copy_up.bytes <= 800", Kept::Within),
        ("copy_up.bytes < 800", Kept::Over),
        ("copy_up.files == 2", Kept::Within),
    ] {
        assert_eq!(kept(expression, &copied).0, expected, "{expression}");
    }
    assert_eq!(kept("phase.run.share > 0.5", &series).0, Kept::Within);
    let mut some = series.clone();
    some.runs[0].outcome = Outcome::Timeout;
    assert_eq!(kept("success_rate < 0.9", &some).0, Kept::Within);
    let baseline = super::super::diff::tests::series(5, 9, 0.001, |_| 1.0);
    let slower = super::super::diff::tests::series(6, 9, 0.001, |_| 1.3);
    let verdicts = checked("budget = ['overhead_vs(baseline) < 0.20']", &slower, Some(&baseline));
    assert_eq!((verdicts[0].kept, &verdicts[0].value[..2]), (Kept::Over, "30"));
}

/// Make sure that steps are found by their number, and a second phase alike under the first one's name.
#[test]
fn names() {
    let phase = |key: &str, kind: &str| PhaseRun {
        key: key.to_owned(),
        kind: kind.to_owned(),
        ..PhaseRun::default()
    };
    let step = phase("podman build > step 2/3 RUN make", "step");
    for name in [
        "step 2",
        "step",
        "step 2/3 RUN make",
        "podman build > step 2/3 RUN make",
    ] {
        assert!(is_called(&step, name), "{name}");
    }
    for name in ["step 3", "RUN", "step 2/3", ""] {
        assert!(!is_called(&step, name), "{name}");
    }
    assert!(is_called(
        &phase("podman run > unpack sha256:a #2", "unpack"),
        "unpack sha256:a"
    ));
}

/// Make sure that files that make no sense are refused, with what is wrong.
#[test]
fn wrong_files() {
    for (text, says) in [
        ("", "no budget"),
        ("budget = ['phase.start.p95']", "comparison"),
        ("budgets = []", "unknown field"),
        ("[regression]\nfail = -1.0", "no part"),
        ("budget = [{ expr = 'lost == 0', colour = 'red' }]", "did not match"),
        ("budget = 3", "expected"),
    ] {
        let why = Budgets::parse(text).unwrap_err().to_string();
        assert!(why.contains(says), "{text}: {why}");
    }
}

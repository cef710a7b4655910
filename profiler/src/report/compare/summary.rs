//! A series of runs for people: each phase's middle, spread and tails, what its time went on, which runs stand apart.

use super::table::{self, Line};
use crate::compare::diff;
use crate::compare::rank;
use crate::compare::results::{Measure, Outcome, Results, Series, TOTAL, Unprofiled};
use crate::compare::samples;
use crate::compare::stats;
use crate::report::terminal::{Page, Paint, Style};
use crate::report::{text, units};

/// Phases shorter than this part of the command stand in the tables of the folder only.
const SMALLEST: f64 = 0.001;

/// Parts of a phase's time that are told.
const PARTS: usize = 3;

/// The summary, lines no wider than the style says.
pub fn render(results: &Results, style: &Style) -> String {
    let mut page = Page::new(*style);
    let command = text::argv(&results.command);
    let name = if results.name.is_empty() {
        command.clone()
    } else {
        format!("{}: {command}", results.name)
    };
    page.line(&[(Paint::Strong, &name)]);
    let host = &results.host;
    let place = format!(
        "{} · {} · {} CPUs · Linux {}",
        host.hostname, host.cpu_model, host.cpus, host.kernel
    );
    page.line(&[(Paint::Dim, &place)]);
    if results.interrupted {
        page.paragraph("", Paint::Warn, "ended before all runs were done");
    }
    for series in &results.series {
        add(&mut page, results, series);
    }
    page.finish()
}

fn add(page: &mut Page, results: &Results, series: &Series) {
    let good = series.good().count();
    let copies = match results.settings.concurrency {
        0 | 1 => String::new(),
        copies => format!(", {copies} at once"),
    };
    let detail = format!(
        "{}{copies}, {} succeeded",
        units::of(series.runs.len() as u64, "run", "runs"),
        units::share(good as u64, series.runs.len() as u64)
    );
    page.heading(&series.name, &detail);
    let total = series
        .measures
        .iter()
        .find(|measure| measure.key == TOTAL && measure.measure == "wall");
    let Some(total) = total else {
        page.paragraph("", Paint::Warn, "no run succeeded: there are no figures");
        runs(page, series);
        unprofiled(page, series);
        return;
    };
    let smallest = SMALLEST * total.summary.median as f64;
    let walls: Vec<&Measure> = series
        .measures
        .iter()
        .filter(|measure| measure.measure == "wall" && measure.summary.median as f64 >= smallest)
        .collect();
    let keys: Vec<&str> = walls.iter().map(|measure| &measure.key[..]).collect();
    let mut lines = Vec::new();
    for wall in &walls {
        let (indent, name) = table::name(&wall.key, &keys);
        let summary = &wall.summary;
        let of = |part: &str| {
            let found = series
                .measures
                .iter()
                .find(|measure| measure.key == wall.key && measure.measure == part);
            found.map_or(0, |measure| measure.summary.median)
        };
        lines.push(Line {
            indent,
            name: name.to_owned(),
            cells: vec![
                units::time(summary.median),
                wall.cv_ppm
                    .map_or("–".to_owned(), |cv| format!("{:.1} %", cv as f64 / 1e4)),
                units::time(summary.min),
                units::time(summary.max),
                units::time(summary.p95),
                units::time(summary.p99),
                units::time(summary.mean),
                units::time(summary.sd),
                parts(&of),
            ],
            paint: if wall.key == TOTAL { Paint::Strong } else { Paint::Plain },
        });
    }
    let head = [
        "phase",
        "median",
        "CV",
        "min",
        "max",
        "P95",
        "P99",
        "mean",
        "sd",
        "median of its path",
    ];
    table::add(page, &head, &lines);
    let hidden = series
        .measures
        .iter()
        .filter(|measure| measure.measure == "wall")
        .count()
        - walls.len();
    if hidden > 0 {
        let hidden = units::of(hidden as u64, "phase", "phases");
        page.paragraph(
            "",
            Paint::Dim,
            &format!("{hidden} below 0.1 % of the command: in summary.tsv"),
        );
    }
    outliers(page, &walls);
    runs(page, series);
    unprofiled(page, series);
}

/// `cpu 40.0 ms, disk 12.0 ms`.
fn parts(of: &impl Fn(&str) -> u64) -> String {
    let critical = samples::MEASURES
        .iter()
        .filter(|measure| !["wall", "cpu_all", "bytes", "memory"].contains(measure));
    let mut parts: Vec<(&str, u64)> = critical.map(|measure| (*measure, of(measure))).collect();
    parts.retain(|(_, ns)| *ns > 0);
    parts.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let told = parts.iter().take(PARTS);
    told.map(|(measure, ns)| format!("{} {}", words(measure), units::time(*ns)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A measure's name for people.
pub(super) fn words(measure: &str) -> &str {
    match measure {
        "cpu" => "on-CPU",
        "runqueue" => "run queue",
        "short_blocked" => "short waits",
        "cpu_all" => "CPU of all threads",
        measure => measure,
    }
}

fn outliers(page: &mut Page, walls: &[&Measure]) {
    let apart: Vec<String> = walls
        .iter()
        .filter(|measure| !measure.outliers.is_empty())
        .map(|measure| {
            let runs: Vec<String> = measure.outliers.iter().map(u32::to_string).collect();
            format!("{} (run {})", measure.key, runs.join(", "))
        })
        .collect();
    if !apart.is_empty() {
        page.paragraph("far from the other runs: ", Paint::Warn, &apart.join("; "));
    }
}

fn runs(page: &mut Page, series: &Series) {
    for outcome in [Outcome::Failed, Outcome::Timeout, Outcome::Broken] {
        let runs: Vec<String> = series
            .runs
            .iter()
            .filter(|run| run.outcome == outcome)
            .map(|run| match run.exit_status {
                Some(status) if outcome == Outcome::Failed => format!("{} (exit status {status})", run.number),
                _ => run.number.to_string(),
            })
            .collect();
        if !runs.is_empty() {
            let label = format!("{}, not in the figures: ", super::outcome(outcome));
            page.paragraph(&label, Paint::Warn, &format!("run {}", runs.join(", ")));
        }
    }
    let lossy: Vec<String> = series
        .runs
        .iter()
        .filter(|run| run.lost > 0)
        .map(|run| run.number.to_string())
        .collect();
    if !lossy.is_empty() {
        page.paragraph(
            "events are missing: ",
            Paint::Warn,
            &format!("run {}", lossy.join(", ")),
        );
    }
}

/// What the profiler itself costs the command.
fn unprofiled(page: &mut Page, series: &Series) {
    let plain: Vec<f64> = series
        .unprofiled
        .iter()
        .filter(|run| run.is_good())
        .map(|run| run.wall_ns as f64)
        .collect();
    if series.unprofiled.is_empty() {
        return;
    }
    let profiled = samples::independent(series, TOTAL, "wall");
    let told = match rank::shift(&plain, &profiled, 1.0 - diff::ALPHA, &mut rank::Criticals::default()) {
        None => "no pair of runs succeeded".to_owned(),
        Some(shift) => {
            let base = stats::median(&plain);
            let percent = |by: f64| format!("{:+.1} %", 100.0 * by / base.max(1.0));
            let interval = match shift.interval {
                Some((low, high)) => format!("95 % interval {} to {}", percent(low), percent(high)),
                None => "too few runs for an interval".to_owned(),
            };
            format!(
                "{} ({interval}; p {:.3}), median without it {}",
                percent(shift.by),
                rank::p_value(&plain, &profiled),
                units::time(base as u64)
            )
        }
    };
    page.paragraph("the profiler's effect on the command: ", Paint::Plain, &told);
    let left_out: Vec<&Unprofiled> = series.unprofiled.iter().filter(|run| !run.is_good()).collect();
    let late = left_out.iter().filter(|run| run.outcome == Outcome::Timeout).count();
    for (count, how) in [(left_out.len() - late, Outcome::Failed), (late, Outcome::Timeout)] {
        if count > 0 {
            let runs = units::of(count as u64, "run", "runs");
            let words = format!("{runs} without the profiler {}, not in that", super::outcome(how));
            page.paragraph("", Paint::Warn, &words);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn style(width: usize) -> Style {
        Style {
            width,
            color: false,
            utf8: true,
        }
    }

    /// Make sure that lines fit, that failed runs and what stands apart are named, and the profiler's effect is told.
    #[test]
    fn rendered() {
        let mut series = crate::compare::diff::tests::series(1, 12, 0.01, |_| 1.0);
        series.runs[3].outcome = Outcome::Failed;
        series.runs[3].exit_status = Some(7);
        series.runs[5].phases[1].wall_ns *= 3;
        series.runs[6].lost = 4;
        for run in &series.runs {
            series.unprofiled.push(Unprofiled {
                number: run.number,
                wall_ns: run.wall_ns * 99 / 100,
                ..Unprofiled::default()
            });
        }
        series.unprofiled[0].outcome = Outcome::Timeout;
        series.unprofiled[1].exit_status = 3;
        series.unprofiled[2].outcome = Outcome::Timeout;
        series.summarize();
        let results = Results {
            name: "base".to_owned(),
            series: vec![series],
            ..Results::default()
        };
        for width in [60, 80, 120, 200] {
            for line in render(&results, &style(width)).lines() {
                assert!(text::width(line) <= width, "{width}: {line:?}");
            }
        }
        let shown = render(&results, &style(200));
        for fact in [
            "12 runs, 91.7 % succeeded",
            "run 4 (exit status 7)",
            "podman run > pull (run 6)",
            "events are missing: run 7",
            "effect on the command: +1.0 %",
            "1 run without the profiler failed",
            "2 runs without the profiler ran into the timeout",
            "on-CPU 6",
            "P99",
        ] {
            assert!(shown.contains(fact), "{fact} in\n{shown}");
        }
        assert!(!render(&Results::default(), &style(80)).is_empty());
        // Without a figure it is told all the same how the runs ended.
        let mut results = results;
        let series = &mut results.series[0];
        series.runs.iter_mut().for_each(|run| run.outcome = Outcome::Timeout);
        series
            .unprofiled
            .iter_mut()
            .for_each(|run| run.outcome = Outcome::Timeout);
        series.summarize();
        let shown = render(&results, &style(200));
        for fact in [
            "there are no figures",
            "ran into the timeout, not in the figures: run 1, 2, 3",
            "no pair of runs succeeded",
            "12 runs without the profiler ran into the timeout",
        ] {
            assert!(shown.contains(fact), "{fact} in\n{shown}");
        }
    }
}

//! Budgets: what figures may be, in a file, and whether those of a series are.
//!
//! ```toml
//! budget = [
//!     'phase.start.p95 < "1s"',
//!     'phase.pull.share < 0.3',
//!     'success_rate >= 0.995',
//!     'overhead_vs(baseline) < 0.20',
//!     { expr = 'total.median < "30s"', name = "the whole build", series = "cold", level = "alert" },
//! ]
//! [regression]
//! alert = 0.10
//! fail = 0.20
//! ```

mod expression;

use serde::Deserialize;

pub use expression::{Expression, Unit};
use expression::{Figure, Subject};

use super::diff::{self, Difference, Judged, Verdict};
use super::key;
use super::results::{CopyUps, PhaseRun, Series, TOTAL};
use super::samples;
use super::stats::{self, Summary};

/// A file of budgets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default)]
    budget: Vec<Entry>,
    regression: Option<Regression>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Entry {
    Expression(String),
    Table(Table),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    expr: String,
    #[serde(default)]
    name: String,
    series: Option<String>,
    #[serde(default)]
    level: Level,
}

/// What a budget that does not hold means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    #[default]
    Fail,
    Alert,
}

/// How much longer a phase may be than in the baseline, as a part of its length there.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    pub alert: Option<f64>,
    pub fail: Option<f64>,
}

/// One budget.
#[derive(Clone, Debug)]
pub struct Budget {
    pub name: String,
    pub expression: Expression,
    pub series: Option<String>,
    pub level: Level,
}

/// All of a file's.
#[derive(Clone, Debug)]
pub struct Budgets {
    pub budgets: Vec<Budget>,
    pub regression: Option<Regression>,
}

/// Why a file is none of budgets.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    #[error("budget {expression:?}: {why}")]
    Expression { expression: String, why: String },
    #[error("it holds no budget: neither `budget = [\"…\"]` nor `[regression]`")]
    Empty,
    #[error("[regression]: {0} is no part such as 0.10")]
    Part(f64),
}

impl Budgets {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// [`Wrong`].
    pub fn parse(text: &str) -> Result<Budgets, Wrong> {
        let file: File = toml::from_str(text)?;
        if file.budget.is_empty() && file.regression.is_none() {
            return Err(Wrong::Empty);
        }
        if let Some(regression) = file.regression {
            let parts = [regression.alert, regression.fail].into_iter().flatten();
            if let Some(part) = parts.into_iter().find(|part| !(0.0..=100.0).contains(part)) {
                return Err(Wrong::Part(part));
            }
        }
        let budgets = file.budget.into_iter().map(|entry| {
            let table = match entry {
                Entry::Table(table) => table,
                Entry::Expression(expr) => Table {
                    expr,
                    name: String::new(),
                    series: None,
                    level: Level::Fail,
                },
            };
            let expression = table.expr.parse().map_err(|why| Wrong::Expression {
                expression: table.expr.clone(),
                why,
            })?;
            Ok(Budget {
                name: if table.name.is_empty() { table.expr } else { table.name },
                expression,
                series: table.series,
                level: table.level,
            })
        });
        Ok(Budgets {
            budgets: budgets.collect::<Result<_, Wrong>>()?,
            regression: file.regression,
        })
    }
}

/// How a budget is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    Within,
    /// Not kept, but only an alert.
    Alert,
    /// Nobody knows.
    CantTell,
    Over,
}

/// A budget's verdict.
#[derive(Clone, Debug)]
pub struct Checked {
    pub series: String,
    pub name: String,
    pub kept: Kept,
    /// The figure, as it is told; empty when there is none.
    pub value: String,
    /// The same in ns, bytes, or as a plain number; a change as a part.
    pub figure: Option<f64>,
    /// What it may be.
    pub limit: String,
    /// Why nobody knows, or what else is to be said.
    pub why: String,
}

/// The exit status of a check: 0 within, 1 over, 2 can't tell. What is over counts more than what nobody knows.
pub fn status(checked: &[Checked]) -> u8 {
    match checked.iter().map(|checked| checked.kept).max() {
        Some(Kept::Over) => 1,
        Some(Kept::CantTell) | None => 2,
        Some(Kept::Within | Kept::Alert) => 0,
    }
}

/// Checks a series. `baseline`: the one to compare with, if there is one.
pub fn check(budgets: &Budgets, series: &Series, baseline: Option<&Series>) -> Vec<Checked> {
    let own = |budget: &&Budget| budget.series.as_ref().is_none_or(|name| *name == series.name);
    let mut checked: Vec<Checked> = budgets
        .budgets
        .iter()
        .filter(own)
        .map(|budget| one(budget, series, baseline))
        .collect();
    if let Some(regression) = budgets.regression {
        checked.extend(regressions(regression, series, baseline));
    }
    checked
}

/// Budgets that name a series which none of these is: nobody can tell whether they are kept.
pub fn without_series(budgets: &Budgets, known: &[Series]) -> Vec<Checked> {
    let missing = budgets.budgets.iter().filter_map(|budget| {
        let name = budget.series.as_ref()?;
        (!known.iter().any(|series| series.name == *name)).then(|| Checked {
            series: name.clone(),
            name: budget.name.clone(),
            kept: Kept::CantTell,
            value: String::new(),
            figure: None,
            limit: budget.expression.limit(),
            why: format!("there is no series {name:?}"),
        })
    });
    missing.collect()
}

fn one(budget: &Budget, series: &Series, baseline: Option<&Series>) -> Checked {
    let mut checked = Checked {
        series: series.name.clone(),
        name: budget.name.clone(),
        kept: Kept::CantTell,
        value: String::new(),
        figure: None,
        limit: budget.expression.limit(),
        why: String::new(),
    };
    match absent(&budget.expression, series).map_or_else(|| value(&budget.expression.subject, series, baseline), Ok) {
        Err(why) => checked.why = why,
        Ok(value) => {
            checked.value = budget.expression.unit().show(value);
            checked.figure = Some(value);
            checked.kept = match (budget.expression.holds(value), budget.level) {
                (true, _) => Kept::Within,
                (false, Level::Alert) => Kept::Alert,
                (false, Level::Fail) => Kept::Over,
            };
        }
    }
    checked
}

/// The count of a phase that never occurred, where a budget asks for that: 0, unless 0 and 1 would both be within. Then nobody
/// asked whether the phase is there, and it may have got another name.
fn absent(expression: &Expression, series: &Series) -> Option<f64> {
    let Subject::Phase {
        name,
        figure: Figure::Count,
        ..
    } = &expression.subject
    else {
        return None;
    };
    series.good().next()?;
    let occurred = series
        .good()
        .flat_map(|run| &run.phases)
        .any(|phase| is_called(phase, name));
    let asked = !(expression.holds(0.0) && expression.holds(1.0));
    (!occurred && asked).then_some(0.0)
}

/// The figure that an expression is about.
fn value(subject: &Subject, series: &Series, baseline: Option<&Series>) -> Result<f64, String> {
    if series.runs.is_empty() {
        return Err("there is no run".to_owned());
    }
    if let Subject::SuccessRate = subject {
        return Ok(series.good().count() as f64 / series.runs.len() as f64);
    }
    if series.good().next().is_none() {
        return Err("no run succeeded".to_owned());
    }
    match subject {
        Subject::SuccessRate => Err("there is no run".to_owned()),
        Subject::Lost => Ok(series.good().map(|run| run.lost as f64).sum()),
        Subject::CopyUpBytes | Subject::CopyUpFiles => {
            let figure = |copied: CopyUps| match subject {
                Subject::CopyUpBytes => copied.bytes as f64,
                _ => copied.files as f64,
            };
            let told: Option<Vec<f64>> = series.good().map(|run| run.copy_ups.map(figure)).collect();
            let told = told.ok_or("there are recordings that do not tell of copy-ups")?;
            Ok(told.into_iter().fold(0.0, f64::max))
        }
        Subject::Overhead => {
            let baseline = baseline.ok_or("there is no baseline: give one with --baseline")?;
            let (base, new) = (
                samples::independent(baseline, TOTAL, "wall"),
                samples::independent(series, TOTAL, "wall"),
            );
            if base.is_empty() {
                return Err("no run of the baseline succeeded".to_owned());
            }
            let base = stats::median(&base);
            Ok((stats::median(&new) - base) / base.max(1.0))
        }
        Subject::Phase { name, measure, figure } => {
            let found = |phase: &&PhaseRun| is_called(phase, name) && !phase.open;
            if !series.good().any(|run| run.phases.iter().any(|phase| found(&phase))) {
                return Err(format!("phase {name:?} never occurred; there is: {}", known(series)));
            }
            let of_run = |run: &super::results::Run| -> Vec<f64> {
                let values = run
                    .phases
                    .iter()
                    .filter(found)
                    .filter_map(|phase| samples::value(phase, measure));
                values.map(|value| value as f64).collect()
            };
            let values: Vec<f64> = series.good().flat_map(of_run).collect();
            if values.is_empty() && *figure != Figure::Count {
                return Err(format!("phase {name:?} has no {measure}"));
            }
            match figure {
                Figure::Count => {
                    let counts: Vec<f64> = series
                        .good()
                        .map(|run| run.phases.iter().filter(found).count() as f64)
                        .collect();
                    Ok(stats::median(&counts))
                }
                Figure::Share => {
                    let shares: Vec<f64> = series
                        .good()
                        .map(|run| of_run(run).iter().sum::<f64>() / (run.wall_ns as f64).max(1.0))
                        .collect();
                    Ok(stats::median(&shares))
                }
                figure => {
                    let summary = Summary::of(&values);
                    Ok(match figure {
                        Figure::Mean => summary.mean as f64,
                        Figure::Min => summary.min as f64,
                        Figure::Max => summary.max as f64,
                        Figure::P95 => summary.p95 as f64,
                        Figure::P99 => summary.p99 as f64,
                        Figure::Sd => summary.sd as f64,
                        Figure::Cv => summary.cv().unwrap_or(0.0),
                        Figure::Median | Figure::Share | Figure::Count => summary.median as f64,
                    })
                }
            }
        }
    }
}

/// Whether somebody who says `name` means this phase: its key, the last part of it (`step 2/3 RUN make`, without the number
/// of a second one alike), its kind, or a step's number (`step 2`).
pub fn is_called(phase: &PhaseRun, name: &str) -> bool {
    let last = phase.key.rsplit(key::PART).next().unwrap_or(&phase.key);
    let last = match last.rsplit_once(" #") {
        Some((before, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => before,
        _ => last,
    };
    let step = name.strip_prefix("step ").is_some_and(|number| {
        phase.kind == "step" && last.strip_prefix("step ").and_then(|last| last.split('/').next()) == Some(number)
    });
    phase.key == name || last == name || phase.kind == name || step
}

/// Kinds of phases that there are, for people.
fn known(series: &Series) -> String {
    let mut kinds: Vec<&str> = series
        .good()
        .flat_map(|run| run.phases.iter().map(|phase| &phase.kind[..]))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds.join(", ")
}

/// Phases that take longer than the baseline's, as far as that is certain.
fn regressions(regression: Regression, series: &Series, baseline: Option<&Series>) -> Vec<Checked> {
    let limit = [("alert", regression.alert), ("fail", regression.fail)]
        .iter()
        .filter_map(|(name, part)| part.map(|part| format!("{name} at {} %", (1_000.0 * part).round() / 10.0)))
        .collect::<Vec<_>>()
        .join(", ");
    let line = |name: &str, kept, part: Option<f64>, why: String| Checked {
        series: series.name.clone(),
        name: format!("regression: {name}"),
        kept,
        value: part.map_or(String::new(), |part| format!("{:+.1} %", 100.0 * part)),
        figure: part,
        limit: limit.clone(),
        why,
    };
    let Some(baseline) = baseline else {
        let why = "there is no baseline: give one with --baseline".to_owned();
        return vec![line("all phases", Kept::CantTell, None, why)];
    };
    // A limit below what counts as a change elsewhere is one all the same.
    let limits = [regression.alert, regression.fail].into_iter().flatten();
    let options = diff::Options {
        min_change: limits.fold(diff::Options::default().min_change, f64::min),
        ..diff::Options::default()
    };
    let difference: Difference = diff::compare(baseline, series, &options);
    let mut lines = Vec::new();
    for change in difference
        .changes
        .iter()
        .filter(|change| change.measure == "wall" && change.judged == Judged::More)
    {
        let part = change.part(change.shift);
        let kept = match (regression.fail, regression.alert) {
            (Some(fail), _) if part >= fail => Kept::Over,
            (_, Some(alert)) if part >= alert => Kept::Alert,
            _ => continue,
        };
        let interval = change.interval.map_or(String::new(), |(low, high)| {
            format!(
                "95 % interval {:+.1} to {:+.1} %",
                100.0 * change.part(low),
                100.0 * change.part(high)
            )
        });
        lines.push(line(&change.key, kept, Some(part), interval));
    }
    if lines.is_empty() {
        lines.push(match difference.verdict {
            Verdict::CantTell => line("all phases", Kept::CantTell, None, difference.why),
            Verdict::Same | Verdict::Changed => line("all phases", Kept::Within, None, String::new()),
        });
    }
    lines
}

#[cfg(test)]
mod tests;

//! A budget's expression: `phase.start.p95 < "1s"`.

use std::str::FromStr;

use crate::compare::results::TOTAL;
use crate::compare::samples;
use crate::report::units;

/// What is compared, how, and with what.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    pub(super) subject: Subject,
    pub(super) operator: Operator,
    /// ns, bytes, or a plain number.
    pub(super) limit: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Subject {
    /// Successful runs as a part of all.
    SuccessRate,
    /// Events that are missing from the recordings.
    Lost,
    /// How much longer the command takes than in the baseline, as a part.
    Overhead,
    Phase {
        name: String,
        measure: String,
        figure: Figure,
    },
    /// The most that was copied up in a run: bytes, or files.
    CopyUpBytes,
    CopyUpFiles,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Figure {
    Median,
    Mean,
    Min,
    Max,
    P95,
    P99,
    Sd,
    Cv,
    /// Of the command's length.
    Share,
    /// How many there are in a run.
    Count,
}

const FIGURES: [(&str, Figure); 10] = [
    ("median", Figure::Median),
    ("mean", Figure::Mean),
    ("min", Figure::Min),
    ("max", Figure::Max),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("sd", Figure::Sd),
    ("cv", Figure::Cv),
    ("share", Figure::Share),
    ("count", Figure::Count),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Longer ones first: `<=` begins with `<`.
const OPERATORS: [(&str, Operator); 6] = [
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("==", Operator::Equal),
    ("!=", Operator::NotEqual),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

/// What a figure is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Time,
    Bytes,
    Part,
    Count,
}

/// Units of limits other than times, with what one is in bytes.
const UNITS: [(&str, Unit, f64); 8] = [
    ("B", Unit::Bytes, 1.0),
    ("kB", Unit::Bytes, 1e3),
    ("MB", Unit::Bytes, 1e6),
    ("GB", Unit::Bytes, 1e9),
    ("KiB", Unit::Bytes, 1_024.0),
    ("MiB", Unit::Bytes, 1_048_576.0),
    ("GiB", Unit::Bytes, 1_073_741_824.0),
    ("%", Unit::Part, 0.01),
];

impl Unit {
    /// A figure for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Time => units::time(value.max(0.0).round() as u64),
            Unit::Bytes => units::bytes(value.max(0.0).round() as u64),
            Unit::Part => format!("{:.1} %", 100.0 * value),
            Unit::Count => format!("{value}"),
        }
    }
}

impl Expression {
    pub(super) fn unit(&self) -> Unit {
        match &self.subject {
            Subject::SuccessRate | Subject::Overhead => Unit::Part,
            Subject::Lost | Subject::CopyUpFiles => Unit::Count,
            Subject::CopyUpBytes => Unit::Bytes,
            Subject::Phase { measure, figure, .. } => match figure {
                Figure::Share | Figure::Cv => Unit::Part,
                Figure::Count => Unit::Count,
                _ if samples::is_size(measure) => Unit::Bytes,
                _ => Unit::Time,
            },
        }
    }

    pub(super) fn holds(&self, value: f64) -> bool {
        match self.operator {
            Operator::Less => value < self.limit,
            Operator::LessOrEqual => value <= self.limit,
            Operator::Greater => value > self.limit,
            Operator::GreaterOrEqual => value >= self.limit,
            Operator::Equal => value == self.limit,
            Operator::NotEqual => value != self.limit,
        }
    }

    /// What the figure may be, for people: `< 1.00 s`.
    pub(super) fn limit(&self) -> String {
        let operator = OPERATORS.iter().find(|(_, operator)| *operator == self.operator);
        format!(
            "{} {}",
            operator.map_or("", |(sign, _)| sign),
            self.unit().show(self.limit)
        )
    }
}

impl FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Expression, String> {
        let (subject, rest) = split(text)?;
        let (sign, operator) = OPERATORS
            .iter()
            .find(|(sign, _)| rest.starts_with(sign))
            .ok_or("a comparison is missing: <, <=, >, >=, == or !=")?;
        let (limit, unit) = limit(rest[sign.len()..].trim())?;
        let expression = Expression {
            subject: subject_of(subject)?,
            operator: *operator,
            limit,
        };
        let needed = expression.unit();
        let fits = match unit {
            Some(unit) => unit == needed,
            None => needed != Unit::Time,
        };
        if !fits {
            return Err(match needed {
                Unit::Time => "a time is needed, such as \"1s\" or \"250ms\"".to_owned(),
                Unit::Bytes => "a size is needed, such as \"10MB\" or 0".to_owned(),
                Unit::Part => "a part is needed, such as 0.3 or \"30%\"".to_owned(),
                Unit::Count => "a plain number is needed".to_owned(),
            });
        }
        Ok(expression)
    }
}

/// What stands before the comparison, and the rest from it on. Names in quotes may hold anything.
fn split(text: &str) -> Result<(&str, &str), String> {
    let mut quoted = false;
    for (index, char) in text.char_indices() {
        match char {
            '"' => quoted = !quoted,
            '<' | '>' | '=' | '!' if !quoted => return Ok((text[..index].trim(), &text[index..])),
            _ => {}
        }
    }
    Err(if quoted {
        "a quote is not closed"
    } else {
        "a comparison is missing: <, <=, >, >=, == or !="
    }
    .to_owned())
}

/// `phase."step 2".p95` as its parts.
fn parts(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut quoted = false;
    for char in text.chars() {
        match char {
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            char => {
                if let Some(last) = parts.last_mut() {
                    last.push(char);
                }
            }
        }
    }
    if parts.iter().any(String::is_empty) {
        return Err(format!("{text:?} has an empty part"));
    }
    Ok(parts)
}

fn subject_of(text: &str) -> Result<Subject, String> {
    if text.replace(' ', "") == "overhead_vs(baseline)" {
        return Ok(Subject::Overhead);
    }
    let parts = parts(text)?;
    let words: Vec<&str> = parts.iter().map(String::as_str).collect();
    match words[..] {
        ["success_rate"] => Ok(Subject::SuccessRate),
        ["lost"] => Ok(Subject::Lost),
        ["copy_up", "bytes"] => Ok(Subject::CopyUpBytes),
        ["copy_up", "files"] => Ok(Subject::CopyUpFiles),
        [TOTAL, figure] => phase(TOTAL, "wall", figure),
        [TOTAL, measure, figure] => phase(TOTAL, measure, figure),
        ["phase", name, figure] => phase(name, "wall", figure),
        ["phase", name, measure, figure] => phase(name, measure, figure),
        _ => Err(format!(
            "{text:?} is none of success_rate, lost, copy_up.bytes, copy_up.files, overhead_vs(baseline), total.FIGURE, \
             total.MEASURE.FIGURE, phase.NAME.FIGURE, phase.NAME.MEASURE.FIGURE; a NAME with a dot or a space needs double quotes"
        )),
    }
}

fn phase(name: &str, measure: &str, figure: &str) -> Result<Subject, String> {
    let list = |names: &[&str]| names.join(", ");
    if !samples::MEASURES.contains(&measure) {
        return Err(format!(
            "{measure:?} is none of the measures {}",
            list(&samples::MEASURES)
        ));
    }
    if name == TOTAL && !samples::is_of_total(measure) {
        return Err(format!(
            "of the command as a whole there is no {measure}, only wall, cpu_all and memory"
        ));
    }
    let known = FIGURES.iter().find(|(known, _)| *known == figure);
    let (_, figure) = known.ok_or_else(|| {
        format!(
            "{figure:?} is none of the figures {}",
            list(&FIGURES.map(|(name, _)| name))
        )
    })?;
    if *figure == Figure::Share && samples::is_size(measure) {
        return Err(format!("{measure} is no share of the command's length"));
    }
    Ok(Subject::Phase {
        name: name.to_owned(),
        measure: measure.to_owned(),
        figure: *figure,
    })
}

/// `"1s"`, `"1h30m"`, `0.3`, `30%`.
fn limit(text: &str) -> Result<(f64, Option<Unit>), String> {
    let wrong = || format!("{text:?} is no limit, such as \"1s\", \"10MB\", 0.3 or \"30%\"");
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text)
        .trim();
    // Times as on the command line.
    if let Ok(time) = bare.parse::<jiff::SignedDuration>() {
        return Ok((time.as_nanos() as f64, Some(Unit::Time)));
    }
    let end = bare
        .find(|char: char| !char.is_ascii_digit() && !"+-.".contains(char))
        .unwrap_or(bare.len());
    let number: f64 = bare[..end].parse().map_err(|_| wrong())?;
    let unit = bare[end..].trim();
    if unit.is_empty() {
        return Ok((number, None));
    }
    let (_, unit, one) = UNITS.iter().find(|(name, _, _)| *name == unit).ok_or_else(wrong)?;
    Ok((number * one, Some(*unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the expressions that people write are understood, with their units.
    #[test]
    fn understood() {
        for (text, limit, unit) in [
            ("phase.start.p95 < \"1s\"", "< 1.00 s", Unit::Time),
            ("phase.start.p95<250ms", "< 250 ms", Unit::Time),
            ("phase.start.p95 < \"1.5 us\"", "< 1.50 µs", Unit::Time),
            ("phase.start.p95 < 0.25s", "< 250 ms", Unit::Time),
            ("total.max < \"1h30m\"", "< 1 h 30 min", Unit::Time),
            ("phase.pull.share < 0.3", "< 30.0 %", Unit::Part),
            ("copy_up.bytes == 0", "== 0 B", Unit::Bytes),
            ("copy_up.files < 10", "< 10", Unit::Count),
            ("overhead_vs(baseline) < 0.20", "< 20.0 %", Unit::Part),
            ("success_rate >= 0.995", ">= 99.5 %", Unit::Part),
            (
                "phase.\"step 2/3 RUN make > x.y\".cpu.median <= \"2min\"",
                "<= 2 min 00 s",
                Unit::Time,
            ),
            ("phase.download.bytes.max < \"10MB\"", "< 10.0 MB", Unit::Bytes),
            ("total.memory.p95 < 500MB", "< 500 MB", Unit::Bytes),
            ("phase.create.count == 8", "== 8", Unit::Count),
            ("total.cv < 5%", "< 5.0 %", Unit::Part),
        ] {
            let expression: Expression = text.parse().unwrap();
            assert_eq!(
                (expression.limit(), expression.unit()),
                (limit.to_owned(), unit),
                "{text}"
            );
        }
        let quoted: Expression = "phase.\"a.b < c\".median > 1ms".parse().unwrap();
        assert!(matches!(quoted.subject, Subject::Phase { name, .. } if name == "a.b < c"));
    }

    /// Make sure that the comparisons are those that they look like.
    #[test]
    fn comparisons() {
        for (sign, holds) in [
            ("<", [true, false, false]),
            ("<=", [true, true, false]),
            (">", [false, false, true]),
            (">=", [false, true, true]),
            ("==", [false, true, false]),
            ("!=", [true, false, true]),
        ] {
            let expression: Expression = format!("lost {sign} 2").parse().unwrap();
            assert_eq!([1.0, 2.0, 3.0].map(|value| expression.holds(value)), holds, "{sign}");
        }
    }

    /// Make sure that what can't be understood is refused, with what could.
    #[test]
    fn refused() {
        for (text, says) in [
            ("phase.start.p95", "comparison"),
            ("phase.start.p95 = 1s", "comparison"),
            ("phase.start.p95 < 1", "a time"),
            ("phase.start.p95 < 30%", "a time"),
            ("phase.pull.share < 1s", "a part"),
            ("total.disk.p95 < 1s", "only wall, cpu_all and memory"),
            ("phase.total.runqueue.p95 < 1s", "only wall, cpu_all and memory"),
            ("phase.total.disk.share < 0.3", "only wall, cpu_all and memory"),
            ("phase.download.bytes.share < 0.3", "no share"),
            ("phase.start.p96 < 1s", "p95, p99"),
            ("phase.start.heat.p95 < 1s", "runqueue"),
            ("phase..p95 < 1s", "empty"),
            ("phase.\"start.p95 < 1s", "quote"),
            ("sucess_rate > 1", "success_rate"),
            ("phase.start.p95 < 1 parsec", "no limit"),
            ("phase.start.p95 < \"\"", "no limit"),
            ("", "comparison"),
        ] {
            let why = text.parse::<Expression>().unwrap_err();
            assert!(why.contains(says), "{text}: {why}");
        }
    }
}

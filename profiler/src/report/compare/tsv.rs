//! Series as tables for spreadsheets and `awk`: tabs between, one heading, times in ns.

use std::io;

use crate::compare::diff::Difference;
use crate::compare::results::Results;
use crate::compare::samples;
use crate::report::export::table::cell;

/// One line for each measure of each phase of each series.
///
/// # Errors
///
/// None that depends on the results: it writes to memory.
pub fn summary(results: &Results) -> io::Result<Vec<u8>> {
    let mut table = writer();
    table.write_record([
        "series", "phase", "measure", "n", "median", "mean", "sd", "min", "max", "p95", "p99", "iqr", "cv", "outliers",
    ])?;
    for series in &results.series {
        for measure in &series.measures {
            let summary = &measure.summary;
            let figures = [
                summary.median,
                summary.mean,
                summary.sd,
                summary.min,
                summary.max,
                summary.p95,
                summary.p99,
                summary.iqr,
            ];
            let mut row = vec![
                cell(series.name.as_bytes()),
                cell(measure.key.as_bytes()),
                measure.measure.clone(),
                summary.n.to_string(),
            ];
            row.extend(figures.iter().map(u64::to_string));
            row.push(
                measure
                    .cv_ppm
                    .map_or(String::new(), |cv| format!("{:.4}", cv as f64 / 1e6)),
            );
            let outliers: Vec<String> = measure.outliers.iter().map(u32::to_string).collect();
            row.push(outliers.join(" "));
            table.write_record(&row)?;
        }
    }
    bytes(table)
}

/// One line for each phase of each run, failed ones included.
///
/// # Errors
///
/// As [`summary`].
pub fn runs(results: &Results) -> io::Result<Vec<u8>> {
    let mut table = writer();
    let mut head = vec!["series", "run", "outcome", "exit_status", "phase", "open"];
    head.extend(samples::MEASURES);
    table.write_record(&head)?;
    for series in &results.series {
        for run in &series.runs {
            for phase in &run.phases {
                let mut row = vec![
                    cell(series.name.as_bytes()),
                    run.number.to_string(),
                    format!("{:?}", run.outcome).to_lowercase(),
                    run.exit_status.map_or(String::new(), |status| status.to_string()),
                    cell(phase.key.as_bytes()),
                    phase.open.to_string(),
                ];
                row.extend(
                    samples::MEASURES
                        .map(|measure| samples::value(phase, measure).map_or(String::new(), |value| value.to_string())),
                );
                table.write_record(&row)?;
            }
        }
    }
    bytes(table)
}

/// One line for each comparison of each pair of series.
///
/// # Errors
///
/// As [`summary`].
pub fn changes(differences: &[Difference]) -> io::Result<Vec<u8>> {
    let mut table = writer();
    table.write_record([
        "series",
        "phase",
        "measure",
        "base_median",
        "new_median",
        "shift",
        "low",
        "high",
        "p",
        "p_adjusted",
        "detectable",
        "judged",
    ])?;
    let whole = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.0}"));
    for difference in differences {
        for change in &difference.changes {
            table.write_record([
                cell(difference.new.series.as_bytes()),
                cell(change.key.as_bytes()),
                change.measure.clone(),
                change.base.median.to_string(),
                change.new.median.to_string(),
                whole(Some(change.shift)),
                whole(change.interval.map(|(low, _)| low)),
                whole(change.interval.map(|(_, high)| high)),
                format!("{:.3e}", change.p),
                format!("{:.3e}", change.p_adjusted),
                whole(change.detectable),
                format!("{:?}", change.judged).to_lowercase(),
            ])?;
        }
    }
    bytes(table)
}

fn writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new())
}

fn bytes(table: csv::Writer<Vec<u8>>) -> io::Result<Vec<u8>> {
    table.into_inner().map_err(|error| io::Error::other(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::diff::tests::series;
    use crate::compare::diff::{Options, compare};

    /// Make sure that both tables have a cell for each heading, and the figures of the results.
    #[test]
    fn tables() {
        let results = Results {
            series: vec![series(1, 3, 0.01, |_| 1.0)],
            ..Results::default()
        };
        let series = &results.series[0];
        let read = |bytes: &[u8]| -> Vec<Vec<String>> {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            text.lines()
                .map(|line| line.split('\t').map(str::to_owned).collect())
                .collect()
        };
        let summary = read(&summary(&results).unwrap());
        assert_eq!(summary.len(), series.measures.len() + 1);
        assert!(summary.iter().all(|row| row.len() == summary[0].len()));
        assert_eq!(
            summary[1][1..5],
            ["total", "wall", "3", &series.measures[0].summary.median.to_string()]
        );
        let runs = read(&runs(&results).unwrap());
        assert_eq!(
            runs.len(),
            1 + series.runs.iter().map(|run| run.phases.len()).sum::<usize>()
        );
        assert!(runs.iter().all(|row| row.len() == runs[0].len()));
    }

    /// Make sure that the table of changes has all comparisons.
    #[test]
    fn comparisons() {
        let difference = compare(
            &series(1, 5, 0.02, |_| 1.0),
            &series(2, 5, 0.02, |_| 1.0),
            &Options::default(),
        );
        let count = difference.changes.len();
        let text = String::from_utf8(changes(&[difference]).unwrap()).unwrap();
        assert_eq!(text.lines().count(), count + 1);
        assert!(text.lines().all(|line| line.split('\t').count() == 12));
    }

    /// Make sure that in no table a name is a formula, or ends its cell or its line.
    #[test]
    fn no_formulas() {
        let hostile = |seed| {
            let mut series = series(seed, 3, 0.02, |_| 1.0);
            series.name = "=1+1\t\n\x1b".to_owned();
            for phase in series.runs.iter_mut().flat_map(|run| &mut run.phases) {
                phase.key = format!("=1+1\n\t{}", phase.key);
            }
            series.summarize();
            series
        };
        let difference = compare(&hostile(1), &hostile(2), &Options::default());
        let results = Results {
            series: vec![hostile(1)],
            ..Results::default()
        };
        for table in [summary(&results), runs(&results), changes(&[difference])] {
            let text = String::from_utf8(table.unwrap()).unwrap();
            let cells = text.lines().next().unwrap().split('\t').count();
            assert!(text.lines().count() > 1);
            for line in text.lines() {
                assert_eq!(line.split('\t').count(), cells, "{line}");
                assert!(!line.split('\t').any(|cell| cell.starts_with('=')), "{line}");
                assert!(!line.contains('\x1b'));
            }
            assert!(text.contains("\t'=1+1") && text.contains("\n'=1+1"), "{text}");
        }
    }
}

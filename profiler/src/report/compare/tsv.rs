//! Series as tables for spreadsheets and `awk`: tabs between, one heading, times in ns.

use std::io;

use crate::compare::results::Results;
use crate::compare::samples;

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
                series.name.clone(),
                cell(&measure.key),
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
                    series.name.clone(),
                    run.number.to_string(),
                    format!("{:?}", run.outcome).to_lowercase(),
                    run.exit_status.map_or(String::new(), |status| status.to_string()),
                    cell(&phase.key),
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

/// What a spreadsheet would take for a formula is quoted.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@']) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
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

    /// Make sure that both tables have a cell for each heading, and the figures of the results.
    #[test]
    fn tables() {
        let results = Results {
            series: vec![crate::compare::diff::tests::series(1, 3, 0.01, |_| 1.0)],
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
        assert_eq!(cell("=1+1"), "'=1+1");
    }
}

//! A phase over time: a table, and a plot with its steps.

use plotters::prelude::*;

use super::table::{self, Line};
use crate::compare::history::Entry;
use crate::compare::samples;
use crate::compare::step::{self, Step};
use crate::report::terminal::{Page, Paint, Style};
use crate::report::{text, units};

/// Significance of a step.
pub const ALPHA: f64 = 0.05;

/// The plot's size, pixels.
const SIZE: (u32, u32) = (1_000, 480);

/// Entries that can be put beside each other: the same phase of the same series of the same command on the same host.
#[derive(Debug)]
pub struct Course<'a> {
    pub title: String,
    pub entries: Vec<&'a Entry>,
    pub steps: Vec<Step>,
}

/// Parts entries into lines, in order of their first entries.
pub fn lines(entries: &[Entry]) -> Vec<Course<'_>> {
    let mut lines: Vec<Course<'_>> = Vec::new();
    for entry in entries {
        let name = if entry.name.is_empty() {
            text::argv(&entry.command)
        } else {
            entry.name.clone()
        };
        let title = format!("{} · {} · {} on {}", entry.key, name, entry.series, entry.hostname);
        let title = text::visible(title.as_bytes());
        match lines.iter_mut().find(|line| line.title == title) {
            Some(line) => line.entries.push(entry),
            None => lines.push(Course {
                title,
                entries: vec![entry],
                steps: Vec::new(),
            }),
        }
    }
    for line in &mut lines {
        let medians: Vec<f64> = line.entries.iter().map(|entry| entry.median as f64).collect();
        line.steps = step::steps(&medians, ALPHA);
    }
    lines
}

/// The tables, lines no wider than the style says.
pub fn render(lines: &[Course<'_>], measure: &str, style: &Style) -> String {
    let mut page = Page::new(*style);
    let figure = figure(measure);
    for (index, line) in lines.iter().enumerate() {
        if index > 0 {
            page.blank();
        }
        page.line(&[(Paint::Strong, &line.title)]);
        let rows: Vec<Line> = line
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                let step = line.steps.iter().find(|step| step.at == index);
                Line {
                    indent: 0,
                    name: date(entry.began_real_ns),
                    cells: vec![
                        figure(entry.median),
                        figure(entry.min),
                        figure(entry.max),
                        entry.n.to_string(),
                        entry
                            .commit
                            .as_deref()
                            .map_or("–".to_owned(), |commit| short(commit, 10)),
                        step.map_or(String::new(), change),
                    ],
                    paint: if step.is_some() { Paint::Warn } else { Paint::Plain },
                }
            })
            .collect();
        table::add(
            &mut page,
            &["began (UTC)", "median", "min", "max", "runs", "commit", "step"],
            &rows,
        );
        for step in &line.steps {
            page.paragraph("step: ", Paint::Warn, &sentence(line, step, &figure));
        }
        if line.steps.is_empty() {
            let why = if line.entries.len() < step::FEWEST {
                format!("no step can be told from chance in fewer than {} results", step::FEWEST)
            } else {
                "no step".to_owned()
            };
            page.paragraph("", Paint::Dim, &why);
        }
    }
    page.finish()
}

fn figure(measure: &str) -> impl Fn(u64) -> String + use<> {
    let bytes = samples::is_size(measure);
    move |value| if bytes { units::bytes(value) } else { units::time(value) }
}

fn change(step: &Step) -> String {
    format!("{:+.1} %", 100.0 * (step.after - step.before) / step.before.max(1.0))
}

/// The beginning of a commit's name: harmless, whatever the history holds.
fn short(commit: &str, columns: usize) -> String {
    text::fit(&text::visible(commit.as_bytes()), columns)
}

/// What changed, and between which results.
fn sentence(line: &Course<'_>, step: &Step, figure: &impl Fn(u64) -> String) -> String {
    let (last, first) = (line.entries[step.at.saturating_sub(1)], line.entries[step.at]);
    let commits = match (&last.commit, &first.commit) {
        (Some(last), Some(first)) if last != first => {
            format!(", commit {} to {}", short(last, 12), short(first, 12))
        }
        _ => String::new(),
    };
    format!(
        "from {} to {} ({}) between {} and {}{commits} (p {:.4})",
        figure(step.before.max(0.0) as u64),
        figure(step.after.max(0.0) as u64),
        change(step),
        date(last.began_real_ns),
        date(first.began_real_ns),
        step.p
    )
}

/// `2026-11-28 06:32`, UTC.
fn date(real_ns: u64) -> String {
    let seconds = i64::try_from(real_ns / 1_000_000_000).unwrap_or(0);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M").to_string()
}

/// There is no plot.
#[derive(Debug, thiserror::Error)]
#[error("can't draw the plot: {0}")]
pub struct PlotError(String);

/// The plot of a line as SVG: medians with their extremes over time, levels between steps.
///
/// # Errors
///
/// plotters'; none that depends on the figures.
pub fn svg(line: &Course<'_>, measure: &str) -> Result<String, PlotError> {
    let mut out = String::new();
    draw(line, measure, &mut out).map_err(|error| PlotError(error.to_string()))?;
    Ok(out)
}

fn draw(line: &Course<'_>, measure: &str, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let figure = figure(measure);
    let root = SVGBackend::with_string(out, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let times: Vec<f64> = line
        .entries
        .iter()
        .map(|entry| entry.began_real_ns as f64 / 1e9)
        .collect();
    let (first, last) = (
        times.first().copied().unwrap_or(0.0),
        times.last().copied().unwrap_or(0.0),
    );
    let edge = ((last - first) * 0.03).max(30.0);
    let most = line.entries.iter().map(|entry| entry.max).max().unwrap_or(0).max(1) as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(text::fit(&line.title, 100), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(80)
        .build_cartesian_2d(first - edge..last + edge, 0.0..most * 1.1)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .x_label_formatter(&|seconds| date((seconds.max(0.0) * 1e9) as u64))
        .y_label_formatter(&|value| figure(value.max(0.0) as u64))
        .draw()?;
    // Okabe and Ito's blue and vermilion.
    let (blue, vermilion) = (RGBColor(0, 114, 178), RGBColor(213, 94, 0));
    for (entry, time) in line.entries.iter().zip(&times) {
        let whisker = vec![(*time, entry.min as f64), (*time, entry.max as f64)];
        chart.draw_series([PathElement::new(whisker, blue.mix(0.4))])?;
    }
    chart.draw_series(LineSeries::new(
        line.entries
            .iter()
            .zip(&times)
            .map(|(entry, time)| (*time, entry.median as f64)),
        blue.mix(0.5),
    ))?;
    chart.draw_series(
        line.entries
            .iter()
            .zip(&times)
            .map(|(entry, time)| Circle::new((*time, entry.median as f64), 3, blue.filled())),
    )?;
    for (index, step) in line.steps.iter().enumerate() {
        let at = (times[step.at.saturating_sub(1)] + times[step.at]) / 2.0;
        let before = if index == 0 {
            first
        } else {
            times[line.steps[index - 1].at]
        };
        let after = line
            .steps
            .get(index + 1)
            .map_or(last, |next| times[next.at.saturating_sub(1)]);
        for path in [
            vec![(at, 0.0), (at, most * 1.1)],
            vec![(before, step.before), (at, step.before)],
            vec![(at, step.after), (after, step.after)],
        ] {
            chart.draw_series([PathElement::new(path, vermilion.stroke_width(2))])?;
        }
        let label = change(step);
        chart.draw_series([Text::new(
            label,
            (at, most * 1.08),
            ("sans-serif", 13).into_font().color(&vermilion),
        )])?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries() -> Vec<Entry> {
        (0..20)
            .map(|index| Entry {
                name: "base <&".to_owned(),
                series: "warm".to_owned(),
                command: Vec::new(),
                hostname: "build1".to_owned(),
                began_real_ns: (1_790_000_000 + index * 86_400) * 1_000_000_000,
                commit: Some(if index < 12 { "a".repeat(40) } else { "b".repeat(40) }),
                key: "podman run > start".to_owned(),
                n: 10,
                median: if index < 12 { 100_000_000 } else { 130_000_000 } + index % 4 * 1_000_000,
                min: 95_000_000,
                max: 140_000_000,
            })
            .collect()
    }

    /// Make sure that a step is told with its date, size and commits, and that results of other hosts stand apart.
    #[test]
    fn step_is_dated() {
        let mut entries = entries();
        entries[5].hostname = "build2".to_owned();
        entries[0].commit = Some("\x1b[2J".to_owned());
        let lines = lines(&entries);
        assert_eq!(lines.iter().map(|line| line.entries.len()).collect::<Vec<_>>(), [19, 1]);
        for width in [60, 80, 160] {
            let style = Style {
                width,
                color: false,
                utf8: true,
            };
            let shown = render(&lines, "wall", &style);
            assert!(shown.lines().all(|line| text::width(line) <= width), "{shown}");
            let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            for fact in [
                "step: from 102 ms to 132 ms",
                "between 2026-10-02 14:13 and 2026-10-03 14:13, commit aaaaaaaaaaa",
            ] {
                assert!(words.contains(fact), "{fact} in\n{shown}");
            }
            assert!(words.contains("fewer than 8 results"), "{shown}");
            assert!(!shown.contains('\x1b'), "{shown}");
        }
    }

    /// Make sure that the plot is well-formed XML with a point for each result, whatever names are.
    #[test]
    fn plot() {
        let entries = entries();
        let line = &lines(&entries)[0];
        let svg = svg(line, "wall").unwrap();
        let mut reader = quick_xml::Reader::from_str(&svg);
        let mut circles = 0;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Empty(tag) if tag.name().as_ref() == b"circle" => circles += 1,
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        assert_eq!(circles, entries.len());
        assert!(svg.contains("+29."), "the step's size: {svg}");
    }
}

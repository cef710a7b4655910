//! What a series spends its time on, the costliest first, cold apart from warm.

use super::table::{self, Line};
use crate::compare::pareto::{self, Part};
use crate::compare::results::{Results, Series};
use crate::report::terminal::{Page, Paint, Style};
use crate::report::{text, units};

/// Columns of a name, and of the figures beside it.
const NAME: usize = 60;
const FIGURES: usize = 44;

/// The rankings, lines no wider than the style says; `top` lines of each.
pub fn render(results: &Results, title: &str, top: usize, style: &Style) -> String {
    let mut page = Page::new(*style);
    page.line(&[(Paint::Strong, title)]);
    for cold in [true, false] {
        let series: Vec<&Series> = results.series.iter().filter(|series| series.cold == cold).collect();
        let runs: u64 = series.iter().map(|series| series.good().count() as u64).sum();
        if series.is_empty() {
            continue;
        }
        let name = if cold { "cold" } else { "warm" };
        let path: u64 = pareto::phases(&series).last().map_or(0, |part| part.up_to_ns);
        page.heading(
            name,
            &format!(
                "{}, {} of critical paths",
                units::of(runs, "run", "runs"),
                units::time(path)
            ),
        );
        if runs == 0 {
            page.paragraph("", Paint::Warn, "no run succeeded");
            continue;
        }
        for (title, parts) in [
            ("phase, without those in it", pareto::phases(&series)),
            ("reason", pareto::reasons(&series)),
            ("bottleneck", pareto::bottlenecks(&series)),
        ] {
            add(&mut page, title, &parts, runs, top);
        }
    }
    page.finish()
}

fn add(page: &mut Page, title: &str, parts: &[Part], runs: u64, top: usize) {
    let total = parts.last().map_or(0, |part| part.up_to_ns);
    let page_width = page.width();
    let line = |part: &Part| Line {
        indent: 0,
        name: text::fit(&part.name, page_width.saturating_sub(FIGURES).max(NAME)),
        cells: vec![
            units::share(part.ns, total),
            units::share(part.up_to_ns, total),
            units::time(part.ns / runs.max(1)),
            units::time(part.ns),
        ],
        paint: Paint::Plain,
    };
    let mut lines: Vec<Line> = parts.iter().take(top).map(line).collect();
    if let Some(rest) = parts.get(top..).filter(|rest| !rest.is_empty()) {
        let ns = rest.iter().fold(0, |sum: u64, part| sum.saturating_add(part.ns));
        lines.push(line(&Part {
            name: format!("{} more", rest.len()),
            ns,
            up_to_ns: total,
        }));
    }
    page.blank();
    table::add(page, &[title, "share", "up to here", "a run", "in all"], &lines);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::results::tests::results;

    /// Make sure that lines fit and cold stands apart from warm.
    #[test]
    fn rendered() {
        let mut both = results(2);
        let mut cold = both.series[0].clone();
        cold.cold = true;
        both.series.push(cold);
        for width in [60, 80, 160] {
            let style = Style {
                width,
                color: false,
                utf8: true,
            };
            let shown = render(&both, "runs", 3, &style);
            assert!(shown.lines().all(|line| text::width(line) <= width), "{shown}");
            assert!(shown.find("cold  2 runs") < shown.find("warm  2 runs"), "{shown}");
            for fact in ["bottleneck", "up to here", "more", "100 %"] {
                assert!(shown.contains(fact), "{fact} in\n{shown}");
            }
        }
    }
}

//! Two series beside each other, for people.

use super::summary::words;
use super::table::{self, Line};
use crate::compare::diff::{Change, Difference, Judged, Only, Side, Verdict};
use crate::compare::results::TOTAL;
use crate::compare::samples;
use crate::report::terminal::{Page, Paint, Style};
use crate::report::units;

/// Changes that the verdict tells in words; the table has them all.
const TOLD: usize = 5;

/// The comparison, lines no wider than the style says. `cautions`: what is to be known of it as a whole. `all`: every comparison,
/// not only lengths and what changed.
pub fn render(
    differences: &[Difference],
    (base, new): (&str, &str),
    cautions: &[String],
    all: bool,
    style: &Style,
) -> String {
    let mut page = Page::new(*style);
    page.line(&[(Paint::Strong, &format!("{new} compared with {base}"))]);
    for caution in cautions {
        page.paragraph("beware: ", Paint::Warn, caution);
    }
    for difference in differences {
        add(&mut page, difference, all);
    }
    page.finish()
}

fn add(page: &mut Page, difference: &Difference, all: bool) {
    let name = match (&difference.base.series, &difference.new.series) {
        (base, new) if base == new => new.clone(),
        (base, new) => format!("{new} against {base}"),
    };
    let runs = |side: &Side| units::of(side.good as u64, "run", "runs");
    page.heading(
        &name,
        &format!("{} against {}", runs(&difference.new), runs(&difference.base)),
    );
    for caution in &difference.cautions {
        page.paragraph("beware: ", Paint::Warn, caution);
    }
    let told: Vec<&Change> = difference
        .changes
        .iter()
        .filter(|change| all || change.measure == "wall" || matches!(change.judged, Judged::More | Judged::Less))
        .collect();
    let keys: Vec<&str> = told.iter().map(|change| &change.key[..]).collect();
    let lines: Vec<Line> = told.iter().map(|change| line(change, &keys)).collect();
    if !lines.is_empty() {
        let head = ["phase", "base", "new", "change", "95 % interval", "seen from", "p"];
        table::add(page, &head, &lines);
        page.paragraph(
            "",
            Paint::Dim,
            "medians; change: parts of the phase's length in the base; seen from: the smallest change that would have been \
             found four times of five; p: exact rank test, corrected for the number of comparisons",
        );
    }
    for (label, list) in [("gone: ", &difference.gone), ("new: ", &difference.added)] {
        if !list.is_empty() {
            page.paragraph(
                label,
                Paint::Warn,
                &list.iter().map(only).collect::<Vec<_>>().join("; "),
            );
        }
    }
    if difference.too_small > 0 {
        let small = units::of(difference.too_small as u64, "figure is", "figures are");
        page.paragraph(
            "",
            Paint::Dim,
            &format!("{small} too small a part of the command or phase to be compared"),
        );
    }
    let (paint, verdict) = verdict(difference);
    page.blank();
    page.paragraph("verdict: ", paint, &verdict);
}

fn line(change: &Change, keys: &[&str]) -> Line {
    let (mut indent, mut name) = table::name(&change.key, keys);
    if change.measure != "wall" {
        indent += 2;
        name = words(&change.measure);
    }
    let figure = |value: u64| {
        if samples::is_size(&change.measure) {
            units::bytes(value)
        } else {
            units::time(value)
        }
    };
    let interval = change.interval.map_or("–".to_owned(), |(low, high)| {
        format!("{} … {}", percent(change.part(low)), percent(change.part(high)))
    });
    let seen = change
        .detectable
        .map_or("–".to_owned(), |by| format!("{:.1} %", 100.0 * change.part(by)));
    Line {
        indent,
        name: name.to_owned(),
        cells: vec![
            figure(change.base.median),
            figure(change.new.median),
            percent(change.part(change.shift)),
            interval,
            seen,
            p(change.p_adjusted),
        ],
        paint: match change.judged {
            Judged::More | Judged::Less => Paint::Warn,
            Judged::Same | Judged::Unknown if change.key == TOTAL => Paint::Strong,
            Judged::Same | Judged::Unknown => Paint::Plain,
        },
    }
}

fn percent(part: f64) -> String {
    let percent = 100.0 * part;
    if percent.abs() >= 1_000.0 {
        format!("{percent:+.0} %")
    } else {
        format!("{percent:+.1} %")
    }
}

fn p(p: f64) -> String {
    if p < 0.0001 {
        "<0.0001".to_owned()
    } else {
        format!("{p:.4}")
    }
}

fn only(only: &Only) -> String {
    format!("{} {} (in {} of {} runs)", only.what, only.name, only.runs, only.of)
}

/// In words.
fn verdict(difference: &Difference) -> (Paint, String) {
    match difference.verdict {
        Verdict::CantTell => (Paint::Warn, format!("can't tell: {}", difference.why)),
        Verdict::Same => {
            let total = difference
                .changes
                .iter()
                .find(|change| change.key == TOTAL && change.measure == "wall");
            let seen = total.and_then(|total| Some(total.part(total.detectable?)));
            let seen = seen.map_or(String::new(), |part| {
                format!(
                    "; in the command as a whole a change of {:.1} % would have been found four times of five",
                    100.0 * part
                )
            });
            let comparisons = units::of(difference.changes.len() as u64, "comparison", "comparisons");
            (
                Paint::Strong,
                format!("the same: no significant change among {comparisons}{seen}"),
            )
        }
        Verdict::Changed => {
            let mut changed: Vec<&Change> = difference
                .changes
                .iter()
                .filter(|change| matches!(change.judged, Judged::More | Judged::Less))
                .collect();
            // What matters most to the command as a whole first; lengths before what they are made of.
            changed.sort_by(|a, b| {
                let (a_wall, b_wall) = (a.measure == "wall", b.measure == "wall");
                b_wall.cmp(&a_wall).then(b.shift.abs().total_cmp(&a.shift.abs()))
            });
            let mut told: Vec<String> = changed.iter().take(TOLD).map(|change| sentence(change)).collect();
            if changed.len() > TOLD {
                told.push(format!("{} more", changed.len() - TOLD));
            }
            let words = |list: &[Only], how: &str| -> Vec<String> {
                let words = list.iter().map(|only| format!("{} {} is {how}", only.what, only.name));
                words.collect()
            };
            let structure = [words(&difference.gone, "gone"), words(&difference.added, "new")].concat();
            told.extend(structure.iter().take(TOLD).cloned());
            if structure.len() > TOLD {
                told.push(format!("{} more are gone or new", structure.len() - TOLD));
            }
            (Paint::Warn, format!("changed: {}", told.join("; ")))
        }
    }
}

fn sentence(change: &Change) -> String {
    let what = match (&change.key[..], &change.measure[..]) {
        (TOTAL, "wall") => "the command as a whole".to_owned(),
        (key, "wall") => key.to_owned(),
        (key, measure) => format!("{} in {key}", words(measure)),
    };
    let part = 100.0 * change.part(change.shift).abs();
    let by = change.shift.abs() as u64;
    let by = if samples::is_size(&change.measure) {
        units::bytes(by)
    } else {
        units::time(by)
    };
    let how = match (change.judged, &change.measure[..]) {
        (Judged::Less, "bytes") => "fewer",
        (Judged::Less, "cpu_all" | "memory") => "less",
        (_, "bytes" | "cpu_all" | "memory") => "more",
        (Judged::Less, _) => "shorter",
        _ => "longer",
    };
    format!("{what} is {part:.1} % ({by}) {how}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::diff::tests::series;
    use crate::compare::diff::{Options, compare};
    use crate::report::text;

    fn rendered(width: usize, runs: u32, slower: f64) -> String {
        let base = series(1, runs, 0.02, |_| 1.0);
        let new = series(2, runs, 0.02, |name| if name == "run" { slower } else { 1.0 });
        let difference = compare(&base, &new, &Options::default());
        let style = Style {
            width,
            color: false,
            utf8: true,
        };
        let cautions = ["another host: \"a\" and \"b\"".to_owned()];
        render(&[difference], ("base", "new"), &cautions, true, &style)
    }

    /// Make sure that the verdict is told in words, with its size, and lines fit.
    #[test]
    fn told() {
        for width in [60, 80, 120, 200] {
            for line in rendered(width, 10, 1.2).lines() {
                assert!(text::width(line) <= width, "{width}: {line:?}");
            }
        }
        let words = |text: String| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let changed = words(rendered(80, 20, 1.2));
        for fact in [
            "verdict: changed: podman run > run is 2",
            "longer",
            "another host",
            "seen from",
        ] {
            assert!(changed.contains(fact), "{fact} in {changed}");
        }
        let same = words(rendered(80, 20, 1.0));
        assert!(
            same.contains("verdict: the same: no significant change among"),
            "{same}"
        );
        assert!(same.contains("would have been found four times of five"), "{same}");
        let single = words(rendered(80, 1, 1.2));
        assert!(single.contains("can't tell: of a single run nobody knows"), "{single}");
    }
}

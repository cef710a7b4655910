//! Verdicts on budgets: a table for people, JUnit's XML and GitHub's annotations for CI.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::table::{self, Line};
use crate::compare::budget::{self, Checked, Kept};
use crate::report::terminal::{Page, Paint, Style};
use crate::report::{text, units};

/// A verdict in a word or two.
fn words(kept: Kept) -> &'static str {
    match kept {
        Kept::Within => "within",
        Kept::Alert => "ALERT",
        Kept::CantTell => "can't tell",
        Kept::Over => "OVER",
    }
}

/// The table, lines no wider than the style says. `cautions`: what is to be known of how the figures came about.
pub fn render(title: &str, checked: &[Checked], cautions: &[String], style: &Style) -> String {
    let mut page = Page::new(*style);
    page.line(&[(Paint::Strong, title)]);
    for caution in cautions {
        page.paragraph("beware: ", Paint::Warn, caution);
    }
    for (name, of) in by_series(checked) {
        page.heading(name, "");
        let lines: Vec<Line> = of
            .iter()
            .map(|checked| Line {
                indent: 0,
                name: text::visible(checked.name.as_bytes()),
                cells: vec![
                    words(checked.kept).to_owned(),
                    if checked.value.is_empty() {
                        "–".to_owned()
                    } else {
                        checked.value.clone()
                    },
                    checked.limit.clone(),
                ],
                paint: match checked.kept {
                    Kept::Within => Paint::Plain,
                    Kept::Alert | Kept::CantTell | Kept::Over => Paint::Warn,
                },
            })
            .collect();
        table::add(&mut page, &["budget", "verdict", "is", "limit"], &lines);
        for checked in of.iter().filter(|checked| !checked.why.is_empty()) {
            let name = text::visible(checked.name.as_bytes());
            page.paragraph(
                "  ",
                Paint::Dim,
                &format!("{name}: {}", text::visible(checked.why.as_bytes())),
            );
        }
    }
    let count = |kept| checked.iter().filter(|checked| checked.kept == kept).count() as u64;
    let verdict = match budget::status(checked) {
        0 => (
            Paint::Strong,
            format!("within all of {}", units::of(checked.len() as u64, "budget", "budgets")),
        ),
        1 => (
            Paint::Warn,
            format!("over {}", units::of(count(Kept::Over), "budget", "budgets")),
        ),
        _ => (
            Paint::Warn,
            format!(
                "can't tell of {}",
                units::of(count(Kept::CantTell), "budget", "budgets")
            ),
        ),
    };
    let alerts = match count(Kept::Alert) {
        0 => String::new(),
        alerts => format!(", {}", units::of(alerts, "alert", "alerts")),
    };
    page.blank();
    page.paragraph("verdict: ", verdict.0, &format!("{}{alerts}", verdict.1));
    page.finish()
}

/// Verdicts by series, in the order in which they are first told of.
fn by_series(checked: &[Checked]) -> Vec<(&str, Vec<&Checked>)> {
    let mut all: Vec<(&str, Vec<&Checked>)> = Vec::new();
    for checked in checked {
        match all.iter_mut().find(|(name, _)| *name == checked.series) {
            Some((_, of)) => of.push(checked),
            None => all.push((&checked.series, vec![checked])),
        }
    }
    all
}

/// What is told of a budget that is not within, in one line.
fn message(checked: &Checked) -> String {
    let mut message = format!("{}: {} ({})", words(checked.kept), checked.name, checked.series);
    if !checked.value.is_empty() {
        message.push_str(&format!(": is {}, limit {}", checked.value, checked.limit));
    }
    if !checked.why.is_empty() {
        message.push_str(&format!(": {}", checked.why));
    }
    text::visible(message.as_bytes())
}

/// JUnit's XML: a suite for each series, a case for each budget; over is a failure, what nobody knows an error.
///
/// # Errors
///
/// quick-junit's; none that depends on the verdicts.
pub fn junit(checked: &[Checked], cautions: &[String]) -> Result<String, quick_junit::SerializeError> {
    let mut report = Report::new("phasegraph check");
    for (name, of) in by_series(checked) {
        let mut suite = TestSuite::new(text::visible(name.as_bytes()));
        for checked in of {
            let status = match checked.kept {
                Kept::Within | Kept::Alert => TestCaseStatus::success(),
                Kept::Over => failed(NonSuccessKind::Failure, checked),
                Kept::CantTell => failed(NonSuccessKind::Error, checked),
            };
            let mut case = TestCase::new(text::visible(checked.name.as_bytes()), status);
            case.set_classname("phasegraph");
            if checked.kept == Kept::Alert {
                case.set_system_out(message(checked));
            }
            suite.add_test_case(case);
        }
        if !cautions.is_empty() {
            suite.set_system_out(cautions.join("\n"));
        }
        report.add_test_suite(suite);
    }
    report.to_string()
}

fn failed(kind: NonSuccessKind, checked: &Checked) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message(checked));
    status
}

/// GitHub's workflow commands, a line each:
/// <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands>.
pub fn github(checked: &[Checked], cautions: &[String]) -> String {
    // The runner reads its own signs back from these; a colon or comma would end a title.
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let mut lines = String::new();
    for checked in checked {
        let level = match checked.kept {
            Kept::Within => continue,
            Kept::Alert => "warning",
            Kept::CantTell | Kept::Over => "error",
        };
        lines.push_str(&format!(
            "::{level} title=phasegraph budget::{}\n",
            escape(&message(checked))
        ));
    }
    for caution in cautions {
        lines.push_str(&format!("::notice title=phasegraph budget::{}\n", escape(caution)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked() -> Vec<Checked> {
        let one = |name: &str, kept, value: &str, why: &str| Checked {
            series: "warm".to_owned(),
            name: name.to_owned(),
            kept,
            value: value.to_owned(),
            figure: None,
            limit: "< 1.00 s".to_owned(),
            why: why.to_owned(),
        };
        vec![
            one("phase.start.p95 < \"1s\"", Kept::Within, "300 ms", ""),
            one("pull <&\x1b[2J\n::error::x %0A", Kept::Over, "2.00 s", ""),
            one(
                "phase.none.p95 < \"1s\"",
                Kept::CantTell,
                "",
                "phase \"none\" never occurred",
            ),
            one("create", Kept::Alert, "+12.0 %", "95 % interval +10 to +14 %"),
        ]
    }

    /// Make sure that each series stands once, with all of its verdicts, in whichever order they come.
    #[test]
    fn a_series_stands_once() {
        let mut checked = checked();
        for (checked, series) in checked.iter_mut().zip(["warm", "cold", "warm", "cold"]) {
            checked.series = series.to_owned();
        }
        let told = by_series(&checked);
        let told: Vec<(&str, usize)> = told.iter().map(|(name, of)| (*name, of.len())).collect();
        assert_eq!(told, [("warm", 2), ("cold", 2)]);
        let style = Style {
            width: 80,
            color: false,
            utf8: true,
        };
        let shown = render("runs", &checked, &[], &style);
        assert_eq!(shown.matches("create").count(), 2, "its line and why: {shown}");
        let xml = junit(&checked, &[]).unwrap();
        assert_eq!(
            (xml.matches("<testsuite ").count(), xml.matches("<testcase ").count()),
            (2, 4),
            "{xml}"
        );
    }

    /// Make sure that each verdict is in the table, within the width, and the worst one is the last word.
    #[test]
    fn table() {
        for width in [60, 80, 160] {
            let style = Style {
                width,
                color: false,
                utf8: true,
            };
            let shown = render(
                "runs",
                &checked(),
                &["the baseline is of another host".to_owned()],
                &style,
            );
            assert!(shown.lines().all(|line| text::width(line) <= width), "{shown}");
            assert!(!shown.contains('\x1b'));
            for fact in [
                "within",
                "OVER",
                "can't tell",
                "never occurred",
                "another host",
                "over 1 budget, 1 alert",
            ] {
                assert!(shown.contains(fact), "{fact} in\n{shown}");
            }
        }
    }

    /// Make sure that the XML is well formed, with the verdicts as JUnit has them, whatever a budget is called.
    #[test]
    fn xml() {
        let xml = junit(&checked(), &["beware <&".to_owned()]).unwrap();
        let mut reader = quick_xml::Reader::from_str(&xml);
        let mut names = Vec::new();
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Start(tag) | quick_xml::events::Event::Empty(tag) => {
                    names.push(String::from_utf8_lossy(tag.name().as_ref()).into_owned());
                }
                quick_xml::events::Event::Eof => break,
                _ => {}
            }
        }
        let count = |name: &str| names.iter().filter(|known| *known == name).count();
        assert_eq!(
            (count("testcase"), count("failure"), count("error")),
            (4, 1, 1),
            "{xml}"
        );
        assert!(
            xml.contains("tests=\"4\"") && xml.contains("failures=\"1\"") && xml.contains("errors=\"1\""),
            "{xml}"
        );
        assert!(!xml.contains('\x1b'));
    }

    /// Make sure that each verdict that is not within is one line, and no name makes a command of its own.
    #[test]
    fn annotations() {
        let lines = github(&checked(), &["beware".to_owned()]);
        assert_eq!(lines.lines().count(), 4);
        assert!(lines.lines().all(|line| line.starts_with("::")), "{lines}");
        assert_eq!(lines.lines().filter(|line| line.starts_with("::error ")).count(), 2);
        assert!(lines.contains("%250A"), "{lines}");
    }
}

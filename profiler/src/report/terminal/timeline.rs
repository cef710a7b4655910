//! Phases as bars: a lane each, placed within their operation.

use super::page::{Page, Paint};
use super::tree::{Row, What};
use crate::model::{PhaseKind, Session, Span};
use crate::report::{figures, names, text, units};

/// Narrowest bar and name.
const BAR: usize = 12;
const NAME: usize = 14;

/// Deepest indent; phases further down stand below each other.
const DEEPEST: usize = 8;

/// What belongs to no phase.
const UNATTRIBUTED: &str = "unattributed";
/// Time in which the overhead cap let nothing of threads' times be recorded.
const UNRECORDED: &str = "not recorded";

/// Mark of a phase that had not ended when the recording did.
const OPEN: &str = " open at end";

/// A lane for each row, and one for `gaps`, the time in which no phase was.
pub(super) fn add(page: &mut Page, session: &Session, rows: &[Row], span: Span, gaps: &[Span]) {
    if rows.is_empty() {
        page.line(&[(Paint::Dim, "no phases were recognised in it")]);
        return;
    }
    let number = number_width(session);
    let lanes: Vec<Lane> = rows.iter().map(|row| lane(session, row)).collect();
    let outside = figures::length(gaps);
    let unrecorded: Vec<Span> = crate::report::gaps::without_times(session)
        .into_iter()
        .map(|gap| gap.clip(span))
        .filter(|gap| !gap.is_empty())
        .collect();
    let unattributed = format!("{UNATTRIBUTED} {}", units::share(outside, span.len()));
    let names = lanes
        .iter()
        .filter(|lane| lane.bar.is_some())
        .map(|lane| text::width(&lane.label));
    let longest = names.chain([text::width(&unattributed)]).max().unwrap_or(0);
    let marks = if lanes.iter().any(|lane| lane.open) {
        OPEN.len()
    } else {
        0
    };
    let time = lanes
        .iter()
        .map(|lane| text::width(&units::time(lane.span.len())))
        .max()
        .unwrap_or(0);
    // Two fifths of the width for names at most, so that long ones leave a timeline to see.
    let free = page.width().saturating_sub(number + time + marks + 4);
    let name = longest.clamp(NAME, (free * 2 / 5).max(NAME));
    let bar = free.saturating_sub(name).max(BAR);
    for (row, lane) in rows.iter().zip(&lanes) {
        let index = match row.what {
            What::Phase(ix) => ix.0.to_string(),
            What::Container(_) => String::new(),
        };
        // A container has no bar, so that its name and image have room.
        let (label, paint) = match lane.bar {
            Some(_) => (text::left(&lane.label, name), Paint::Plain),
            None => (text::left(&lane.label, name + 1 + bar), Paint::Dim),
        };
        let drawn = lane
            .bar
            .map(|_| format!(" {}", text::left(&draw(lane.span, span, bar), bar)));
        page.line(&[
            (Paint::Dim, &text::right(&index, number)),
            (Paint::Plain, " "),
            (paint, &label),
            (lane.bar.unwrap_or(Paint::Plain), drawn.as_deref().unwrap_or_default()),
            (Paint::Plain, " "),
            (paint, &text::right(&units::time(lane.span.len()), time)),
            (Paint::Warn, if lane.open { OPEN } else { "" }),
        ]);
    }
    let mut lane_of = |label: &str, paint: Paint, spans: &[Span]| {
        page.line(&[
            (Paint::Plain, &" ".repeat(number + 1)),
            (paint, &text::left(label, name)),
            (Paint::Plain, " "),
            (Paint::Dim, &hatch(spans, span, bar)),
            (Paint::Plain, " "),
            (paint, &text::right(&units::time(figures::length(spans)), time)),
        ]);
    };
    if outside > 0 {
        lane_of(&unattributed, Paint::Plain, gaps);
    }
    if !unrecorded.is_empty() {
        lane_of(UNRECORDED, Paint::Warn, &unrecorded);
    }
    let (start, end) = ("0 s".to_owned(), units::time(span.len()));
    let scale = format!("{start}{}", text::right(&end, bar.saturating_sub(start.len())));
    page.line(&[(Paint::Plain, &" ".repeat(number + name + 2)), (Paint::Dim, &scale)]);
}

struct Lane {
    label: String,
    span: Span,
    open: bool,
    /// The bar's look; `None` without one.
    bar: Option<Paint>,
}

fn lane(session: &Session, row: &Row) -> Lane {
    let indent = "  ".repeat(row.depth.min(DEEPEST));
    match row.what {
        What::Phase(ix) => {
            let phase = &session.phases[ix.ix()];
            Lane {
                label: format!("{indent}{}", names::phase(session, ix)),
                span: phase.span,
                open: phase.open,
                bar: Some(if phase.kind == PhaseKind::Step {
                    Paint::Step
                } else {
                    Paint::Phase
                }),
            }
        }
        What::Container(ix) => {
            let container = &session.containers[ix.ix()];
            let facts: Vec<String> = [
                &container.image[..],
                container.engine.as_bytes(),
                container.runtime.as_bytes(),
            ]
            .into_iter()
            .filter(|fact| !fact.is_empty())
            .map(text::visible)
            .collect();
            Lane {
                label: format!(
                    "{indent}container {}  {}",
                    names::container(session, ix),
                    facts.join(", ")
                ),
                span: container.span,
                open: false,
                bar: None,
            }
        }
    }
}

/// Columns that the phases' numbers take.
pub(super) fn number_width(session: &Session) -> usize {
    session.phases.len().saturating_sub(1).to_string().len().max(2)
}

/// `own` as a bar within `whole`, in eighths of a column at its end and halves at its start; never invisible.
fn draw(own: Span, whole: Span, columns: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let own = own.clip(whole);
    let at = |ts: u64| {
        let eighths = u128::from(ts - whole.from) * (columns as u128 * 8);
        usize::try_from(eighths / u128::from(whole.len().max(1))).unwrap_or(0)
    };
    // A bar that is shorter than one eighth is drawn as one.
    let from = at(own.from.max(whole.from)).min((columns * 8).saturating_sub(1));
    let to = at(own.to.max(whole.from)).clamp(from + 1, (columns * 8).max(from + 1));
    let (first, last) = (from / 8, (to - 1) / 8);
    let mut bar = " ".repeat(first);
    if first == last {
        bar.push(if to - from == 8 { '█' } else { EIGHTHS[to - from] });
        return bar;
    }
    bar.push(if from % 8 >= 4 { '▐' } else { '█' });
    bar.extend(std::iter::repeat_n('█', last - first - 1));
    bar.push(if to % 8 == 0 { '█' } else { EIGHTHS[to % 8] });
    bar
}

/// The columns of which `gaps` take at least half.
fn hatch(gaps: &[Span], whole: Span, columns: usize) -> String {
    let edge = |column: usize| {
        let ns = u128::from(whole.len()) * column as u128 / columns.max(1) as u128;
        whole.from + u64::try_from(ns).unwrap_or(0)
    };
    let mut hatch = String::new();
    for column in 0..columns {
        let cell = Span {
            from: edge(column),
            to: edge(column + 1),
        };
        let taken: u64 = gaps.iter().map(|gap| gap.clip(cell).len()).sum();
        hatch.push(if taken > 0 && taken * 2 >= cell.len() {
            '░'
        } else {
            ' '
        });
    }
    hatch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that time in no phase is hatched where it is.
    #[test]
    fn hatched() {
        let whole = Span { from: 100, to: 200 };
        let gaps = [Span { from: 100, to: 111 }, Span { from: 155, to: 170 }];
        assert_eq!(hatch(&gaps, whole, 10), "░    ░░   ");
        assert_eq!(hatch(&[], whole, 3), "   ");
    }

    /// Make sure that a bar lies where its span does, is as long as it, and is never invisible or too long.
    #[test]
    fn bars() {
        let whole = Span { from: 100, to: 200 };
        let drawn = |from, to| draw(Span { from, to }, whole, 10);
        assert_eq!(drawn(100, 200), "██████████");
        assert_eq!(drawn(100, 150), "█████");
        assert_eq!(drawn(150, 200), "     █████");
        assert_eq!(drawn(150, 175), "     ██▌");
        assert_eq!(drawn(155, 170), "     ▐█");
        assert_eq!(drawn(100, 100), "▏");
        assert_eq!(drawn(200, 200), "         ▏");
        assert_eq!(drawn(0, 1000), "██████████");
        for from in 90..210 {
            for to in from..210 {
                let bar = drawn(from, to);
                assert!(text::width(&bar) <= 10 && !bar.trim().is_empty(), "{from} {to} {bar:?}");
            }
        }
        assert!(!draw(whole, Span { from: 5, to: 5 }, 10).trim().is_empty());
    }
}

//! Where the phases' time went, in figures.

use super::page::{Page, Paint, column_widths};
use super::timeline;
use super::tree::{Row, What};
use crate::attribute::resources::{PhaseResources, Resources};
use crate::model::{PhaseIx, Session};
use crate::report::{figures, names, text, units};

/// From this width on, what was waited for stands beside the figures and not below them.
const WIDE: usize = 120;

/// Narrowest name.
const NAME: usize = 14;

const COLUMNS: [&str; 6] = ["wall", "on-CPU", "run queue", "blocked", "unattrib.", "all CPU"];

const NOTE: &str = "wall = on-CPU + run queue + blocked of the phase's main thread + unattributed (no main thread \
                    lived, or lost); all CPU: every thread of the phase";

/// One line of the table.
struct Line {
    index: String,
    label: String,
    paint: Paint,
    /// Empty for a container.
    cells: Vec<String>,
    waits: String,
}

pub(super) fn add(page: &mut Page, session: &Session, figures: &[PhaseResources], rows: &[Row]) {
    if rows.is_empty() {
        return;
    }
    let mut lines = vec![Line {
        index: String::new(),
        label: "phase".to_owned(),
        paint: Paint::Dim,
        cells: COLUMNS.map(str::to_owned).to_vec(),
        waits: "blocked on".to_owned(),
    }];
    // One container's phases need no telling apart.
    let containers = rows.iter().filter(|row| matches!(row.what, What::Container(_))).count();
    lines.extend(rows.iter().filter_map(|row| match row.what {
        What::Phase(ix) => Some(phase(session, &figures[ix.ix()], ix)),
        What::Container(ix) => (containers > 1).then(|| Line {
            index: String::new(),
            label: format!("container {}", names::container(session, ix)),
            paint: Paint::Dim,
            cells: Vec::new(),
            waits: String::new(),
        }),
    }));
    let cells: Vec<Vec<String>> = lines.iter().map(|line| line.cells.clone()).collect();
    let widths = column_widths(&cells);
    let number = timeline::number_width(session);
    let numbers: usize = widths.iter().map(|width| width + 2).sum();
    let room = page.width().saturating_sub(number + 1 + numbers);
    let wide = page.width() >= WIDE;
    let longest = lines
        .iter()
        .filter(|line| !line.cells.is_empty())
        .map(|line| text::width(&line.label));
    let name = longest
        .max()
        .unwrap_or(0)
        .clamp(NAME, if wide { (room / 2).max(NAME) } else { room.max(NAME) });

    page.blank();
    for line in &lines {
        let index = text::right(&line.index, number);
        if line.cells.is_empty() {
            page.line(&[(Paint::Dim, &index), (Paint::Plain, " "), (line.paint, &line.label)]);
            continue;
        }
        let mut figures = String::new();
        for (cell, width) in line.cells.iter().zip(&widths) {
            figures.push_str("  ");
            figures.push_str(&text::right(cell, *width));
        }
        let beside = if wide {
            format!("  {}", line.waits)
        } else {
            String::new()
        };
        page.line(&[
            (Paint::Dim, &index),
            (Paint::Plain, " "),
            (line.paint, &text::left(&line.label, name)),
            (line.paint, &figures),
            (Paint::Dim, &beside),
        ]);
        if !wide && !line.index.is_empty() && !line.waits.is_empty() {
            let label = format!("{}blocked on ", " ".repeat(number + 3));
            page.paragraph(&label, Paint::Dim, &line.waits);
        }
    }
    page.paragraph("", Paint::Dim, NOTE);
}

fn phase(session: &Session, resources: &PhaseResources, ix: PhaseIx) -> Line {
    let cells = [
        session.phases[ix.ix()].span.len(),
        resources.wall.cpu,
        resources.wall.runqueue,
        resources.wall.blocked(),
        resources.unattributed + resources.wall.lost,
        resources.all.cpu,
    ];
    Line {
        index: ix.0.to_string(),
        label: names::phase(session, ix),
        paint: Paint::Plain,
        cells: cells.map(units::cell).to_vec(),
        waits: waits(&resources.wall),
    }
}

/// `child 30.1 s, disk 12.0 ms`: the classes that there are, longest first.
fn waits(resources: &Resources) -> String {
    let mut waits = figures::waits(resources);
    waits.retain(|(_, ns)| *ns > 0);
    waits.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let waits: Vec<String> = waits
        .iter()
        .map(|(class, ns)| format!("{class} {}", units::time(*ns)))
        .collect();
    waits.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that waits are told longest first, and those that were not, not at all.
    #[test]
    fn longest_wait_first() {
        let resources = Resources {
            disk: 12_000_000,
            child: 30_100_000_000,
            short_blocked: 5_000,
            ..Resources::default()
        };
        assert_eq!(waits(&resources), "child 30.1 s, disk 12.0 ms, short waits 5.00 µs");
        assert_eq!(waits(&Resources::default()), "");
    }
}

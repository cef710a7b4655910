//! Operations with their containers and phases, and a table of where the phases' time went.

use super::page::{Page, Paint, column_widths};
use super::tree::{Row, Tree, What};
use super::{Sort, timeline};
use crate::attribute::resources::{self, PhaseResources, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, PhaseIx, Session, Span};
use crate::report::figures;
use crate::report::select::{Selection, all_phases};
use crate::report::{names, text, units};

/// Most lanes of one operation; a whole host's recording can have thousands of phases.
const LANES: usize = 200;

/// From this width on, what was waited for stands beside the figures and not below them.
const WIDE: usize = 120;

/// Narrowest name.
const NAME: usize = 14;

pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection, sort: Sort) {
    let chosen: Vec<PhaseIx> = match &selection.phases {
        Some(phases) => phases.clone(),
        None => all_phases(session).collect(),
    };
    let mut classifier = Classifier::default();
    let figures: Vec<PhaseResources> = session
        .phases
        .iter()
        .map(|phase| resources::phase(session, phase, &mut classifier))
        .collect();
    let operations = (0..session.operations.len() as u32).map(OperationIx).map(Some);
    let mut shown = false;
    for operation in operations.chain([None]) {
        if selection.operation.is_some() && selection.operation != operation {
            continue;
        }
        let tree = Tree {
            session,
            figures: &figures,
            sort,
            phases: chosen
                .iter()
                .copied()
                .filter(|ix| session.phases[ix.ix()].operation == operation)
                .collect(),
        };
        if tree.phases.is_empty() && (operation.is_none() || selection.phases.is_some()) {
            continue;
        }
        shown = true;
        let span = heading(page, session, operation);
        let mut rows = Vec::new();
        tree.rows(None, None, 0, &mut rows);
        let more = rows.len().saturating_sub(LANES);
        rows.truncate(LANES);
        let gaps = match operation {
            Some(ix) if selection.phases.is_none() => figures::outside_phases(session, ix),
            _ => Vec::new(),
        };
        timeline::add(page, session, &rows, span, &gaps);
        table(page, session, &figures, &rows);
        if more > 0 {
            let note = format!(
                "{} more phases: choose with --phase or --container, or see all with --json",
                more
            );
            page.line(&[(Paint::Dim, &note)]);
        }
    }
    if !shown {
        page.heading(
            "no phases",
            "nothing in this recording was recognised as a container's life",
        );
    }
}

/// Names an operation and gives the span that its lanes are drawn in.
fn heading(page: &mut Page, session: &Session, operation: Option<OperationIx>) -> Span {
    let Some(operation) = operation.and_then(|ix| session.operations.get(ix.ix())) else {
        page.heading("outside any operation", "");
        return session.span;
    };
    let pid = session
        .processes
        .get(operation.process.ix())
        .map_or(0, |process| process.tgid);
    let open = if operation.open { ", open" } else { "" };
    let detail = format!(
        "{}, pid {pid}, {} processes{open}",
        units::time(operation.span.len()),
        units::count(operation.processes.len() as u64)
    );
    page.heading(&text::visible(operation.name.as_bytes()), &detail);
    operation.span
}

fn table(page: &mut Page, session: &Session, figures: &[PhaseResources], rows: &[Row]) {
    let phases: Vec<PhaseIx> = rows
        .iter()
        .filter_map(|row| match row.what {
            What::Phase(ix) => Some(ix),
            What::Container(_) => None,
        })
        .collect();
    if phases.is_empty() {
        return;
    }
    let mut cells = vec![
        ["wall", "on-CPU", "run queue", "blocked", "unattrib.", "all CPU"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for ix in &phases {
        let phase = &figures[ix.ix()];
        let cell = |ns: u64| if ns == 0 { "·".to_owned() } else { units::time(ns) };
        cells.push(vec![
            cell(session.phases[ix.ix()].span.len()),
            cell(phase.wall.cpu),
            cell(phase.wall.runqueue),
            cell(phase.wall.blocked()),
            cell(phase.unattributed + phase.wall.lost),
            cell(phase.all.cpu),
        ]);
    }
    let widths = column_widths(&cells);
    let number = timeline::number_width(session);
    let numbers: usize = widths.iter().map(|width| width + 2).sum();
    let longest = phases
        .iter()
        .map(|ix| text::width(&names::phase(session, *ix)))
        .max()
        .unwrap_or(0);
    let room = page.width().saturating_sub(number + 1 + numbers);
    let wide = page.width() >= WIDE;
    let name = longest.clamp(NAME, if wide { (room / 2).max(NAME) } else { room.max(NAME) });

    page.blank();
    for (index, row) in cells.iter().enumerate() {
        let phase = index.checked_sub(1).map(|index| phases[index]);
        let (index, label) = match phase {
            Some(ix) => (ix.0.to_string(), names::phase(session, ix)),
            None => (String::new(), "phase".to_owned()),
        };
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&text::right(cell, *width));
        }
        let waits = phase.map(|ix| waits(&figures[ix.ix()].wall)).unwrap_or_default();
        let paint = if phase.is_some() { Paint::Plain } else { Paint::Dim };
        let beside = match phase {
            _ if !wide => String::new(),
            Some(_) => format!("  {waits}"),
            None => "  blocked on".to_owned(),
        };
        page.line(&[
            (Paint::Dim, &text::right(&index, number)),
            (paint, " "),
            (paint, &text::left(&label, name)),
            (paint, &line),
            (Paint::Dim, &beside),
        ]);
        if !wide && !waits.is_empty() {
            let below = format!("{}blocked on {waits}", " ".repeat(number + 3));
            page.line(&[(Paint::Dim, &below)]);
        }
    }
    let note = "wall = on-CPU + run queue + blocked of the phase's main thread + unattributed (no main thread lived, or \
                lost); all CPU: every thread of the phase";
    page.paragraph("", Paint::Dim, note);
}

/// `child 30.1 s, disk 12.0 ms`: the classes that there are, longest first.
pub(super) fn waits(resources: &Resources) -> String {
    let mut waits: Vec<(&str, u64)> = figures::waits(resources)
        .into_iter()
        .filter(|(_, ns)| *ns > 0)
        .collect();
    waits.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let waits: Vec<String> = waits
        .iter()
        .map(|(class, ns)| format!("{class} {}", units::time(*ns)))
        .collect();
    waits.join(", ")
}

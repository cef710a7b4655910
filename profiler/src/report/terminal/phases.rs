//! Operations, each with its phases as a timeline and as a table.

use super::page::{Page, Paint};
use super::tree::Tree;
use super::{Sort, critical, table, timeline};
use crate::attribute::critical::Paths;
use crate::attribute::resources;
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, PhaseIx, Session, Span};
use crate::report::figures;
use crate::report::select::{Selection, all_phases};
use crate::report::{text, units};

/// Most lanes of one operation; a whole host's recording can have thousands of phases.
const LANES: usize = 200;

pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection, sort: Sort) {
    let chosen: Vec<PhaseIx> = match &selection.phases {
        Some(phases) => phases.clone(),
        None => all_phases(session).collect(),
    };
    let mut classifier = Classifier::default();
    let paths = Paths::new(session);
    let figures = resources::phases(session, &mut classifier);
    let operations = (0..session.operations.len() as u32).map(OperationIx).map(Some);
    let mut shown = false;
    for operation in operations.chain([None]) {
        if !selection.has_operation(operation) {
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
        table::add(page, session, &figures, &rows);
        if let Some(operation) = operation.filter(|_| selection.phases.is_none()) {
            critical::line(page, session, &paths, operation);
        }
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
        "{}, pid {pid}, {}{open}",
        units::time(operation.span.len()),
        units::of(operation.processes.len() as u64, "process", "processes")
    );
    page.heading(&text::visible(operation.name.as_bytes()), &detail);
    operation.span
}

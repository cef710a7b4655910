//! Phases as a table, one a row: CSV (RFC 4180) and TSV.
//!
//! A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@` (or a tab or carriage return, which [`text::visible`]
//! leaves in no cell) for a formula, quoted or not. Such text gets a `'` in front, which spreadsheets take for "this is
//! text" (<https://owasp.org/www-community/attacks/CSV_Injection>).

use std::io::Write;

use super::{Error, Request, Sink};
use crate::attribute::resources::{self, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{PhaseIx, Session};
use crate::report::select::all_phases;
use crate::report::{figures, text};

/// Columns for what every row tells of its phase.
const COLUMNS: [&str; 17] = [
    "phase_index",
    "phase",
    "label",
    "parent_index",
    "operation_index",
    "operation",
    "container_index",
    "container_id",
    "container_name",
    "engine",
    "runtime",
    "image",
    "from_ns",
    "to_ns",
    "wall_ns",
    "open",
    "exit_status",
];

/// Columns for times by state, of the main thread (`wall_…`) and of all threads (`all_…`).
const STATES: [&str; 11] = [
    "cpu",
    "runqueue",
    "disk",
    "network",
    "lock",
    "ipc",
    "child",
    "sleep",
    "short_blocked",
    "other",
    "lost",
];

/// And what follows them.
const LAST: [&str; 4] = ["wall_unattributed_ns", "all_cut_ns", "processes", "bytes"];

pub(super) struct Csv;
pub(super) struct Tsv;

impl Sink for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn about(&self) -> &'static str {
        "phases as a table, parted by commas"
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error> {
        table(session, request, b',', out)
    }
}

impl Sink for Tsv {
    fn name(&self) -> &'static str {
        "tsv"
    }

    fn about(&self) -> &'static str {
        "the same, parted by tabs"
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error> {
        table(session, request, b'\t', out)
    }
}

fn table(session: &Session, request: &Request, delimiter: u8, out: &mut dyn Write) -> Result<(), Error> {
    let mut table = ::csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    let states = |kind: &'static str| STATES.iter().map(move |state| format!("{kind}_{state}_ns"));
    let head: Vec<String> = COLUMNS
        .iter()
        .map(|name| (*name).to_owned())
        .chain(states("wall"))
        .chain(states("all"))
        .chain(LAST.iter().map(|name| (*name).to_owned()))
        .collect();
    table.write_record(&head)?;
    let mut classifier = Classifier::default();
    let chosen = request.selection.phases.clone();
    for ix in chosen.unwrap_or_else(|| all_phases(session).collect()) {
        table.write_record(row(session, ix, &mut classifier))?;
    }
    table.flush()?;
    Ok(())
}

fn row(session: &Session, ix: PhaseIx, classifier: &mut Classifier) -> Vec<String> {
    let phase = &session.phases[ix.ix()];
    let times = resources::phase(session, phase, classifier);
    let container = phase.container.and_then(|ix| session.containers.get(ix.ix()));
    let operation = phase.operation.and_then(|ix| session.operations.get(ix.ix()));
    let of_container = |part: &dyn Fn(&crate::model::Container) -> String| container.map(part).unwrap_or_default();
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let mut row = vec![
        ix.0.to_string(),
        phase.kind.name().to_owned(),
        cell(&phase.label),
        number(phase.parent.map(|ix| ix.0.into())),
        number(phase.operation.map(|ix| ix.0.into())),
        operation.map_or_else(String::new, |operation| cell(operation.name.as_bytes())),
        number(phase.container.map(|ix| ix.0.into())),
        of_container(&|container| cell(&container.id)),
        of_container(&|container| cell(&container.name)),
        of_container(&|container| cell(container.engine.as_bytes())),
        of_container(&|container| cell(container.runtime.as_bytes())),
        of_container(&|container| cell(&container.image)),
        phase.span.from.to_string(),
        phase.span.to.to_string(),
        phase.span.len().to_string(),
        phase.open.to_string(),
        figures::exit_status(session, phase).map_or_else(String::new, |status| status.to_string()),
    ];
    for resources in [&times.wall, &times.all] {
        row.extend(states(resources).iter().map(u64::to_string));
    }
    row.extend([
        times.unattributed.to_string(),
        times.all.cut.to_string(),
        phase.processes.len().to_string(),
        number(phase.bytes),
    ]);
    row
}

/// In the order of [`STATES`].
fn states(resources: &Resources) -> [u64; STATES.len()] {
    [
        resources.cpu,
        resources.runqueue,
        resources.disk,
        resources.network,
        resources.lock,
        resources.ipc,
        resources.child,
        resources.sleep,
        resources.short_blocked,
        resources.other,
        resources.lost,
    ]
}

/// Text that no spreadsheet computes.
pub(in crate::report) fn cell(bytes: &[u8]) -> String {
    let text = text::visible(bytes);
    if text.starts_with(['=', '+', '-', '@']) {
        return format!("'{text}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::export::tests::{hostile, written};
    use crate::report::fixture;

    fn rows(bytes: &[u8], delimiter: u8) -> Vec<Vec<String>> {
        let mut reader = ::csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .from_reader(bytes);
        let rows = reader
            .records()
            .map(|row| row.unwrap().iter().map(str::to_owned).collect());
        rows.collect()
    }

    /// Make sure that each phase is a row whose states add up to its wall time, in both forms.
    #[test]
    fn a_row_a_phase() {
        let session = fixture::session();
        for (sink, delimiter) in [(&Csv as &dyn Sink, b','), (&Tsv, b'\t')] {
            let rows = rows(&written(sink, &session), delimiter);
            assert_eq!(rows.len(), 1 + session.phases.len());
            let at = |name: &str| rows[0].iter().position(|column| column == name).unwrap();
            for (row, phase) in rows[1..].iter().zip(&session.phases) {
                let ns = |name: &str| row[at(name)].parse::<u64>().unwrap();
                let states = STATES.iter().map(|state| ns(&format!("wall_{state}_ns")));
                assert_eq!(states.sum::<u64>() + ns("wall_unattributed_ns"), phase.span.len());
                assert_eq!(ns("wall_ns"), phase.span.len());
            }
            assert_eq!(rows[2][at("label")], "2/2 RUN make -j2");
        }
    }

    /// Make sure that no name is a formula, ends its cell or its row, or is cut.
    #[test]
    fn no_formulas() {
        for begin in ["=", "+", "-", "@", "\t=", "\r\n="] {
            let name = format!("{begin}cmd|' /C calc'!A0,\"x\";\n{}", fixture::HOSTILE);
            let session = hostile(name.as_bytes());
            for (sink, delimiter) in [(&Csv as &dyn Sink, b','), (&Tsv, b'\t')] {
                let bytes = written(sink, &session);
                let rows = rows(&bytes, delimiter);
                assert_eq!(rows.len(), 1 + session.phases.len());
                for cell in rows.iter().flatten() {
                    assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{cell}");
                    assert!(!cell.chars().any(char::is_control), "{cell:?}");
                }
                assert_eq!(rows[1][8], super::cell(name.as_bytes()));
            }
        }
    }
}

//! Tables of layers, copy-ups and files: as `phasegraph layers` has them.

use super::data::LayerTable;
use crate::attribute::layers::{CopyUp, Stack, Table};
use crate::model::Session;
use crate::report::terminal::layers;
use crate::report::units;

/// Most root file systems, copy-ups and files on a page.
const STACKS: usize = 200;
const MOVES: usize = 200;

/// The layers of each root file system, those of containers first.
pub(super) fn stacks(session: &Session, table: &Table) -> Vec<LayerTable> {
    let told = table.stacks.iter().take(STACKS);
    let mut tables: Vec<LayerTable> = told.map(|stack| one(session, table, stack)).collect();
    let more = table.stacks.len().saturating_sub(STACKS);
    if more > 0 {
        tables.push(LayerTable {
            title: units::of(more as u64, "more root file system", "more root file systems"),
            detail: "told by phasegraph layers, and in the JSON".to_owned(),
            head: Vec::new(),
            rows: Vec::new(),
            more: 0,
        });
    }
    tables
}

fn one(session: &Session, table: &Table, stack: &Stack) -> LayerTable {
    let (title, mut detail) = layers::title(session, stack);
    for limit in table.limits(&session.overlays[stack.overlay.ix()]) {
        detail.push_str("; ");
        detail.push_str(limit);
    }
    let mut head = vec!["layer"];
    head.extend(layers::columns(table));
    let rows = layers::rows_of(table, stack).into_iter().map(|(label, cells, _)| {
        let mut row = vec![label.trim_start().to_owned()];
        row.extend(cells);
        row
    });
    LayerTable {
        title,
        detail,
        head,
        rows: rows.collect(),
        more: 0,
    }
}

/// Copy-ups, longest first, and files, most bytes first; tables of nothing are left out.
pub(super) fn moves(session: &Session, table: &Table) -> Vec<LayerTable> {
    let stall = |copy: &CopyUp| session.copy_ups[copy.ix].span.len();
    let longest = table.longest(session);
    let copy_ups = longest.iter().take(MOVES).map(|copy| {
        vec![
            units::bytes(copy.bytes),
            units::time(stall(copy)),
            layers::copy_up(session, table, copy),
        ]
    });
    let files = table.files.iter().take(MOVES).map(|file| {
        vec![
            units::bytes_cell(file.cold),
            units::bytes_cell(file.written),
            layers::file(session, table, &file.place),
        ]
    });
    let tables = [
        LayerTable {
            title: "Copy-ups".to_owned(),
            detail: "files of lower layers that were copied to the upper one, longest first".to_owned(),
            head: vec!["bytes", "stall", "file, layer, who and why"],
            rows: copy_ups.collect(),
            more: longest.len().saturating_sub(MOVES),
        },
        LayerTable {
            title: "Files".to_owned(),
            detail: "pages that were not in the page cache when read, and that were made dirty, most bytes first"
                .to_owned(),
            head: vec!["read cold", "made dirty", "file (container)"],
            rows: files.collect(),
            more: table.files.len().saturating_sub(MOVES),
        },
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

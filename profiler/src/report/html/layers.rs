//! Tables of disk traffic, layers, copy-ups and files: as `phasegraph show` and `phasegraph layers` have them.

use super::data::PlainTable;
use crate::attribute::disk::{Disk, Traffic, requests};
use crate::attribute::layers::{CopyUp, Stack, Table, measured};
use crate::model::Session;
use crate::report::select::Selection;
use crate::report::terminal::{disk, layers};
use crate::report::units;

/// Most root file systems, copy-ups, files, containers and phases on a page.
const STACKS: usize = 200;
const MOVES: usize = 200;
const OWNERS: usize = 100;

/// What containers and phases read and wrote, and what devices took for it; tables of nothing are left out.
pub(super) fn traffic(session: &Session) -> Vec<PlainTable> {
    if !measured(session) {
        return Vec::new();
    }
    let listed = disk::listed(session, &Disk::new(session), &Selection::all(), OWNERS, OWNERS);
    let owners = |title: &str,
                  detail: &str,
                  columns: &[&'static str],
                  rows: &[(String, Traffic)],
                  more,
                  cells: fn(&Traffic) -> Vec<String>| {
        let row = |(name, traffic): &(String, Traffic)| [vec![name.clone()], cells(traffic)].concat();
        PlainTable {
            title: title.to_owned(),
            detail: detail.to_owned(),
            head: [&["container or phase"], columns].concat(),
            rows: rows.iter().map(row).collect(),
            more,
        }
    };
    let devices = requests(session).into_iter();
    let devices = devices.map(|((dev, op), sum)| vec![disk::device(dev), disk::told(op, &sum)]);
    let tables = [
        owners(
            "Disk",
            disk::DETAIL,
            &disk::COLUMNS,
            &listed.moved(),
            listed.more,
            disk::figures,
        ),
        owners(
            "File calls",
            disk::CALLS_DETAIL,
            &disk::CALLS,
            &listed.called(),
            0,
            disk::calls,
        ),
        PlainTable {
            title: "Block devices".to_owned(),
            detail: "requests, and how long they waited and took".to_owned(),
            head: vec!["device", "requests"],
            rows: devices.collect(),
            more: 0,
        },
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

/// The layers of each root file system, those of containers first.
pub(super) fn stacks(session: &Session, table: &Table) -> Vec<PlainTable> {
    let told = table.stacks.iter().take(STACKS);
    let mut tables: Vec<PlainTable> = told.map(|stack| one(session, table, stack)).collect();
    let more = table.stacks.len().saturating_sub(STACKS);
    if more > 0 {
        tables.push(PlainTable {
            title: units::of(more as u64, "more root file system", "more root file systems"),
            detail: "told by phasegraph layers, and in the JSON".to_owned(),
            head: Vec::new(),
            rows: Vec::new(),
            more: 0,
        });
    }
    tables
}

fn one(session: &Session, table: &Table, stack: &Stack) -> PlainTable {
    let (title, mut detail) = layers::title(session, stack);
    for limit in table.limits(&session.overlays[stack.overlay.ix()]) {
        detail.push_str("; ");
        detail.push_str(limit);
    }
    if let Some(deleted) = stack.container.and_then(|ix| layers::deleted(table, Some(ix))) {
        detail.push_str("; ");
        detail.push_str(&deleted);
    }
    let mut head = vec!["layer"];
    head.extend(layers::columns(table));
    let rows = layers::rows_of(table, stack).into_iter().map(|(label, cells, _)| {
        let mut row = vec![label.trim_start().to_owned()];
        row.extend(cells);
        row
    });
    PlainTable {
        title,
        detail,
        head,
        rows: rows.collect(),
        more: 0,
    }
}

/// Copy-ups, longest first, and files, most bytes first; tables of nothing are left out.
pub(super) fn moves(session: &Session, table: &Table) -> Vec<PlainTable> {
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
    let calls = table.calls.iter().take(MOVES).map(|told| {
        let mut row = layers::call_cells(told);
        row.push(layers::file(session, table, &told.place));
        row
    });
    let tables = [
        PlainTable {
            title: "Copy-ups".to_owned(),
            detail: "files of lower layers that were copied to the upper one, longest first".to_owned(),
            head: vec!["bytes", "stall", "file, layer, who and why"],
            rows: copy_ups.collect(),
            more: longest.len().saturating_sub(MOVES),
        },
        PlainTable {
            title: "Files".to_owned(),
            detail: "pages that were not in the page cache when read, and that were made dirty, most bytes first"
                .to_owned(),
            head: vec!["read cold", "made dirty", "file (container)"],
            rows: files.collect(),
            more: table.files.len().saturating_sub(MOVES),
        },
        PlainTable {
            title: "Files by calls".to_owned(),
            detail: layers::CALLS_DETAIL.to_owned(),
            head: layers::CALLS.into_iter().chain(["file (container)"]).collect(),
            rows: calls.collect(),
            more: table.calls.len().saturating_sub(MOVES),
        },
    ];
    tables.into_iter().filter(|table| !table.rows.is_empty()).collect()
}

//! Files and directories with most traffic, and files with most time in calls.

use std::collections::BTreeMap;

use crate::attribute::layers::{FileCalls, FileUse, Place, Table};
use crate::model::Session;
use crate::model::disk::magic;
use crate::model::layers::LayerIx;
use crate::report::terminal::page::{Page, Paint, column_widths};
use crate::report::{names, text, units};

/// Columns of files' calls, and what they mean.
pub(in crate::report) const CALLS: [&str; 6] = ["time", "reads", "read", "writes", "written", "syncs"];
pub(in crate::report) const CALLS_DETAIL: &str = "read, written and synced by calls, most time in them first";

pub(super) fn files(page: &mut Page, session: &Session, table: &Table, files: &[&FileUse], top: usize) {
    if files.is_empty() {
        return;
    }
    page.heading("files", "read cold and written, most bytes first");
    let head = ["read cold", "written"].map(str::to_owned).to_vec();
    let mut cells = vec![head];
    let mut what = vec!["file".to_owned()];
    for file in files.iter().take(top) {
        cells.push(vec![units::bytes_cell(file.cold), units::bytes_cell(file.written)]);
        what.push(self::file(session, table, &file.place));
    }
    listed(page, &cells, &what);
    more(page, files.len(), top);
}

pub(super) fn calls(page: &mut Page, session: &Session, table: &Table, calls: &[&FileCalls], top: usize) {
    if calls.is_empty() {
        return;
    }
    page.heading("file calls", CALLS_DETAIL);
    let mut cells = vec![CALLS.map(str::to_owned).to_vec()];
    let mut what = vec!["file".to_owned()];
    for told in calls.iter().take(top) {
        cells.push(call_cells(told));
        what.push(self::file(session, table, &told.place));
    }
    listed(page, &cells, &what);
    more(page, calls.len(), top);
}

/// Cells of [`CALLS`].
pub(in crate::report) fn call_cells(told: &FileCalls) -> Vec<String> {
    let [read, written, synced] = &told.sums;
    vec![
        units::cell(told.ns()),
        units::count_cell(read.calls),
        units::bytes_cell(read.bytes),
        units::count_cell(written.calls),
        units::bytes_cell(written.bytes),
        units::count_cell(synced.calls),
    ]
}

pub(super) fn directories(page: &mut Page, session: &Session, table: &Table, files: &[&FileUse], top: usize) {
    let mut directories: BTreeMap<(Option<LayerIx>, String), (u64, u64, u64)> = Default::default();
    for file in files {
        let path = path(session, table, &file.place);
        let directory = match path.rsplit_once('/') {
            Some(("", _)) => "/".to_owned(),
            Some((directory, _)) => directory.to_owned(),
            None => continue,
        };
        let sum = directories.entry((file.place.layer, directory)).or_default();
        *sum = (
            sum.0.saturating_add(file.cold),
            sum.1.saturating_add(file.written),
            sum.2 + 1,
        );
    }
    if directories.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = directories.into_iter().collect();
    let most = |(cold, written, _): &(u64, u64, u64)| std::cmp::Reverse(cold.saturating_add(*written));
    sorted.sort_by(|(a, sum), (b, other)| most(sum).cmp(&most(other)).then_with(|| a.cmp(b)));
    page.heading("directories", "the same by directory");
    let head = ["read cold", "written", "files"].map(str::to_owned).to_vec();
    let mut cells = vec![head];
    let mut what = vec!["directory".to_owned()];
    for ((layer, directory), (cold, written, files)) in sorted.iter().take(top) {
        cells.push(vec![
            units::bytes_cell(*cold),
            units::bytes_cell(*written),
            units::count(*files),
        ]);
        what.push(format!("{}{directory}", prefix(table, *layer)));
    }
    listed(page, &cells, &what);
    more(page, sorted.len(), top);
}

fn listed(page: &mut Page, cells: &[Vec<String>], what: &[String]) {
    let widths = column_widths(cells);
    for (index, (cells, what)) in cells.iter().zip(what).enumerate() {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(&text::right(cell, *width));
            line.push_str("  ");
        }
        let paint = if index == 0 { Paint::Dim } else { Paint::Plain };
        page.line(&[(paint, &line), (paint, what)]);
    }
}

pub(super) fn more(page: &mut Page, number: usize, top: usize) {
    if number > top {
        let more = format!("{} more (--top N)", units::count((number - top) as u64));
        page.line(&[(Paint::Dim, &more)]);
    }
}

/// `abababababab:` before a path within a layer.
fn prefix(table: &Table, layer: Option<LayerIx>) -> String {
    layer.map_or_else(String::new, |ix| format!("{}:", names::layer(table.layers.get(ix))))
}

/// `abababababab:/etc/passwd (web)`
pub(in crate::report) fn file(session: &Session, table: &Table, place: &Place) -> String {
    let by = match place.container {
        Some(ix) => format!(" ({})", names::container(session, ix)),
        None => String::new(),
    };
    let path = path(session, table, place);
    format!("{}{path}{by}", prefix(table, place.layer))
}

fn path(session: &Session, table: &Table, place: &Place) -> String {
    let path = match place.layer {
        Some(layer) => table.layers.path_in(session, place.file, layer),
        None => session.path_on_disk(place.file),
    };
    let own = session.files.get(place.file.ix());
    match own {
        Some(own) if own.magic == magic::BLOCK_DEVICE => {
            format!(
                "[the file system's own data on device {}:{}]",
                own.rdev >> 20,
                own.rdev & 0xf_ffff
            )
        }
        _ if path.is_empty() => "[without a name]".to_owned(),
        _ => text::visible(&path),
    }
}

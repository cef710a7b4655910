//! What was read and written, by container and phase, and what the block devices took for it.

use super::page::{Page, Paint, column_widths};
use crate::attribute::disk::{Disk, Requests, Traffic, percentile, requests};
use crate::attribute::layers::measured;
use crate::model::{PhaseIx, Session};
use crate::report::select::{Selection, all_phases};
use crate::report::{names, text, units};

/// Phases told, those with most traffic.
const PHASES: usize = 12;
/// Containers told, those with most traffic.
const CONTAINERS: usize = 8;
/// Widest name.
const NAME: usize = 34;
pub(in crate::report) const COLUMNS: [&str; 6] = [
    "read cold",
    "made dirty",
    "of it flushed",
    "copy-ups",
    "stall",
    "deleted",
];
pub(in crate::report) const CALLS: [&str; 8] = ["reads", "bytes", "time", "writes", "bytes", "time", "syncs", "time"];
pub(in crate::report) const CALLS_DETAIL: &str =
    "calls that read, wrote and synced files, and the time in them, waits included";
pub(in crate::report) const DETAIL: &str = "pages read from disk, made dirty, flushed; names deleted in lower layers";

pub(super) fn add(page: &mut Page, session: &Session, disk: &Disk, selection: &Selection) {
    if !measured(session) {
        return;
    }
    let listed = listed(session, disk, selection, PHASES, CONTAINERS);
    let devices = requests(session);
    if listed.rows.is_empty() && devices.is_empty() {
        return;
    }
    page.heading("disk", DETAIL);
    table(page, &COLUMNS, &listed.moved(), figures);
    if listed.more > 0 {
        // No sum: a phase's traffic is that of the phases it lies in, too.
        let note = format!("and {} with less", units::of(listed.more as u64, "phase", "phases"));
        page.line(&[(Paint::Dim, &note)]);
    }
    let rows = listed.called();
    if !rows.is_empty() {
        page.heading("file calls", CALLS_DETAIL);
        table(page, &CALLS, &rows, calls);
    }
    if selection.title.is_empty() {
        for ((dev, op), sum) in &devices {
            page.paragraph(&format!("{} ", device(*dev)), Paint::Plain, &told(*op, sum));
        }
    }
}

/// `device 254:0`
pub(in crate::report) fn device(dev: u32) -> String {
    format!("device {}:{}", dev >> 20, dev & 0xf_ffff)
}

/// Containers and phases with their traffic.
pub(in crate::report) struct Listed {
    pub(in crate::report) rows: Vec<(String, Traffic)>,
    /// Phases left out.
    pub(in crate::report) more: usize,
}

impl Listed {
    /// Those with more than calls.
    pub(in crate::report) fn moved(&self) -> Vec<(String, Traffic)> {
        let alone = |(_, traffic): &&(String, Traffic)| {
            let calls = traffic.calls;
            *traffic
                == Traffic {
                    calls,
                    ..Traffic::default()
                }
        };
        self.rows.iter().filter(|row| !alone(row)).cloned().collect()
    }

    /// Those whose calls were counted.
    pub(in crate::report) fn called(&self) -> Vec<(String, Traffic)> {
        let called = |(_, traffic): &&(String, Traffic)| traffic.calls.iter().any(|sum| sum.calls > 0);
        self.rows.iter().filter(called).cloned().collect()
    }
}

/// At most so many phases and containers, those with most traffic.
pub(in crate::report) fn listed(
    session: &Session,
    disk: &Disk,
    selection: &Selection,
    phases_told: usize,
    containers_told: usize,
) -> Listed {
    let mut rows = Vec::new();
    let phases = match &selection.phases {
        Some(phases) => phases.clone(),
        None => all_phases(session).collect(),
    };
    if selection.title.is_empty() {
        let named = (0u32..).zip(&disk.containers).map(|(ix, traffic)| {
            let name = names::container(session, crate::model::ContainerIx(ix));
            (format!("container {name}"), *traffic)
        });
        rows.extend(summed(named.collect(), containers_told));
        if !disk.nobody.is_empty() {
            rows.push(("no container".to_owned(), disk.nobody));
        }
    }
    let of_phase = |ix: &PhaseIx| {
        let label = format!("{} {}", ix.0, names::phase(session, *ix));
        (label, disk.phases.get(ix.ix()).copied().unwrap_or_default())
    };
    let (busiest, rest) = most(phases.iter().map(of_phase).collect(), phases_told);
    rows.extend(busiest);
    Listed { rows, more: rest.len() }
}

/// Those with most traffic, in their own order, and a row for the others.
fn summed(all: Vec<(String, Traffic)>, most: usize) -> Vec<(String, Traffic)> {
    let (mut told, rest) = self::most(all, most);
    if !rest.is_empty() {
        let mut sum = Traffic::default();
        rest.iter().for_each(|traffic| sum.add(traffic));
        told.push((format!("{} more", units::count(rest.len() as u64)), sum));
    }
    told
}

/// Those with most traffic, in their own order, and what is left.
fn most(all: Vec<(String, Traffic)>, most: usize) -> (Vec<(String, Traffic)>, Vec<Traffic>) {
    let mut busy: Vec<(usize, (String, Traffic))> = all
        .into_iter()
        .filter(|(_, traffic)| !traffic.is_empty())
        .enumerate()
        .collect();
    busy.sort_by_key(|(place, (_, traffic))| {
        let bytes = traffic
            .cold
            .saturating_add(traffic.dirtied)
            .saturating_add(traffic.copied);
        (std::cmp::Reverse(bytes), *place)
    });
    let rest = busy.split_off(most.min(busy.len()));
    busy.sort_by_key(|(place, _)| *place);
    let told = busy.into_iter().map(|(_, one)| one).collect();
    (told, rest.into_iter().map(|(_, (_, traffic))| traffic).collect())
}

fn table(page: &mut Page, columns: &[&str], rows: &[(String, Traffic)], figures: fn(&Traffic) -> Vec<String>) {
    let mut labels = vec![String::new()];
    let mut cells: Vec<Vec<String>> = vec![columns.iter().map(|column| (*column).to_owned()).collect()];
    for (label, traffic) in rows {
        labels.push(label.clone());
        cells.push(figures(traffic));
    }
    let widths = column_widths(&cells);
    let numbers: usize = widths.iter().map(|width| width + 2).sum();
    let longest = labels.iter().map(|label| text::width(label)).max().unwrap_or(0);
    let name = longest.min(NAME).min(page.width().saturating_sub(numbers)).max(8);
    for (index, (label, cells)) in labels.iter().zip(&cells).enumerate() {
        let mut line = text::left(label, name);
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&text::right(cell, *width));
        }
        page.line(&[(if index == 0 { Paint::Dim } else { Paint::Plain }, &line)]);
    }
}

/// Cells of [`CALLS`].
pub(in crate::report) fn calls(traffic: &Traffic) -> Vec<String> {
    let [read, written, synced] = &traffic.calls;
    let mut cells = Vec::new();
    for sum in [read, written] {
        cells.extend([
            units::count_cell(sum.calls),
            units::bytes_cell(sum.bytes),
            units::cell(sum.ns),
        ]);
    }
    cells.extend([units::count_cell(synced.calls), units::cell(synced.ns)]);
    cells
}

/// Cells of [`COLUMNS`].
pub(in crate::report) fn figures(traffic: &Traffic) -> Vec<String> {
    vec![
        units::bytes_cell(traffic.cold),
        units::bytes_cell(traffic.dirtied),
        units::bytes_cell(traffic.written_back),
        units::count_cell(traffic.copy_ups),
        units::cell(traffic.stall),
        units::count_cell(traffic.whiteouts),
    ]
}

/// `read: 1,200 requests, 45.0 MB; queued half of them within 10.0 µs, 99 % within 1.00 ms; …`
pub(in crate::report) fn told(op: u32, sum: &Requests) -> String {
    let within = |times: &[u64]| {
        format!(
            "half within {}, 99 % within {}",
            units::time(percentile(times, 50)),
            units::time(percentile(times, 99))
        )
    };
    let errors = match sum.errors {
        0 => String::new(),
        errors => format!(", {} failed", units::count(errors)),
    };
    format!(
        "{}: {}, {}{errors}; queued {}; in the device {}",
        operation(op),
        units::of(sum.count, "request", "requests"),
        units::bytes(sum.bytes),
        within(&sum.queued),
        within(&sum.device)
    )
}

/// What the kernel's `enum req_op` calls it: `include/linux/blk_types.h`, these since 4.10.
pub(in crate::report) fn operation(op: u32) -> String {
    match op {
        0 => "read".to_owned(),
        1 => "write".to_owned(),
        2 => "flush".to_owned(),
        3 => "discard".to_owned(),
        op => format!("operation {op}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that those with most traffic keep their order, and that the others are summed up.
    #[test]
    fn biggest_in_order() {
        let one = |cold: u64| {
            (
                cold.to_string(),
                Traffic {
                    cold,
                    ..Traffic::default()
                },
            )
        };
        let told = summed(vec![one(5), one(0), one(1), one(9), one(2)], 2);
        let told: Vec<(&str, u64)> = told.iter().map(|(name, traffic)| (&name[..], traffic.cold)).collect();
        assert_eq!(told, [("5", 5), ("9", 9), ("2 more", 3)]);
    }

    /// Make sure that requests are told in words with their latencies.
    #[test]
    fn words() {
        let sum = Requests {
            count: 2,
            bytes: 8192,
            errors: 1,
            queued: vec![1_000, 2_000],
            device: vec![5_000, 7_000],
        };
        assert_eq!(
            told(0, &sum),
            "read: 2 requests, 8.2 kB, 1 failed; queued half within 1.00 µs, 99 % within 2.00 µs; in the device half \
             within 5.00 µs, 99 % within 7.00 µs"
        );
        assert_eq!(operation(11), "operation 11");
    }
}

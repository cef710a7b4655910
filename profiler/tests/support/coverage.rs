//! Which phase is shown on which runtime, and by which test: the table of `docs/runtimes.md`.
//!
//! A cell that says *tested* names a test. That test calls [`assert`] with what it profiled, and fails when a phase that
//! the table promises is not there. `tests/coverage.rs` makes sure that it calls it, that a *replayed* cell's fixture
//! shows the phase, and that the document is what the table says.

use super::profile::{Item, Profile};

/// Where a cell's claim comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cell {
    /// This test shows it on the real thing.
    Tested(&'static str),
    /// `detect/fixtures/NAME.txt`, a recorded sequence or one written after the runtime's source, shows it.
    Replayed(&'static str),
    /// There is no such phase, for this reason.
    None(&'static str),
}

/// A way to run or build containers.
pub(crate) struct Row {
    pub id: &'static str,
    /// What ran: versions, and where.
    pub what: &'static str,
    pub cells: &'static [(&'static str, Cell)],
}

impl Row {
    pub(crate) fn named(id: &str) -> &'static Row {
        let row = super::coverage_table::ROWS.iter().find(|row| row.id == id);
        row.unwrap_or_else(|| panic!("no row {id} in the table"))
    }
}

/// Makes sure that each phase that the table says `test` shows in `row` is in the profile, ended and of some evidence.
pub(crate) fn assert(row: &str, test: &str, profile: &Profile) {
    let cells = Row::named(row).cells.iter();
    let promised: Vec<&str> = cells
        .filter(|(_, cell)| matches!(cell, Cell::Tested(name) if *name == test))
        .map(|(phase, _)| *phase)
        .collect();
    assert!(!promised.is_empty(), "the table promises nothing of {test} in {row}");
    let containers = profile.containers();
    for phase in promised {
        let of_containers = containers.iter().flat_map(|container| container.phases(phase));
        let found: Vec<Item> = of_containers.chain(Item(&profile.json).phases(phase)).collect();
        let told = |item: &Item| item.0["open"] == false && item.from() < item.to() && !item.evidence().1.is_empty();
        assert!(found.iter().any(told), "{row}: {test} shows no {phase}: {found:?}");
    }
}

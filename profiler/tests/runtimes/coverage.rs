//! The table of runtimes and phases against the tests and fixtures that it names, and the document made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::support::coverage::{Cell, Row};
use super::support::coverage_table::{PHASES, ROWS};

const HEAD: &str = "\
<!-- Made by `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --test runtimes coverage`. Do not edit. -->
# Runtimes and phases

What phasegraph shows of each runtime, and how that is known:

- **T**: tested on the real thing, by the test named below the table (`profiler/tests/runtimes/`). The test fails when the
  phase is not there.
- **R**: replayed: a recorded sequence of events, or one written after the runtime's source code, gives the phase
  (`profiler/src/detect/fixtures/`). The runtime itself has not run under phasegraph's tests.
- **–**: there is no such phase; the reason is below the table.

[design/0016](design/0016-runtime-matrix.md) says how the table is kept true.
";

/// Make sure that the table is whole and names each phase once, in the document's order.
#[test]
fn table_is_whole() {
    for row in ROWS {
        let named: Vec<&str> = row.cells.iter().map(|(phase, _)| *phase).collect();
        assert_eq!(named, PHASES, "{}", row.id);
    }
    let ids: BTreeSet<&str> = ROWS.iter().map(|row| row.id).collect();
    assert_eq!(ids.len(), ROWS.len());
}

/// Make sure that each test that the table names exists, and checks what the table says of it.
#[test]
fn tested_cells() {
    let sources = sources();
    for (row, test) in tested() {
        let found = sources.values().find_map(|source| body(source, test));
        let body = found.unwrap_or_else(|| panic!("no test called {test}, which the table names for {row}"));
        // The row and the test's own name are what the test hands to `coverage::assert`.
        for word in [row, test] {
            assert!(
                body.contains(&format!("{word:?}")),
                "{test} does not check the row {row:?}:\n{body}"
            );
        }
    }
}

/// Make sure that each fixture that the table names shows the phase.
#[test]
fn replayed_cells() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/detect/fixtures");
    for row in ROWS {
        for (phase, cell) in row.cells {
            let Cell::Replayed(name) = cell else { continue };
            let outline = fs::read_to_string(fixtures.join(format!("{name}.expected"))).unwrap();
            let shown = outline
                .lines()
                .any(|line| line.rsplit(" | ").next().unwrap().split(' ').next() == Some(phase));
            assert!(shown, "{}: {name} shows no {phase}", row.id);
        }
    }
}

/// Make sure that `docs/runtimes.md` is what the table says.
#[test]
fn document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runtimes.md");
    let made = render();
    if std::env::var_os("PHASEGRAPH_UPDATE_DOCS").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&path).unwrap_or_default(),
        made,
        "docs/runtimes.md: PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --test runtimes coverage"
    );
}

/// Rows with the tests that they name, each once.
fn tested() -> BTreeSet<(&'static str, &'static str)> {
    let of_row = |row: &'static Row| {
        row.cells.iter().filter_map(|(_, cell)| match cell {
            Cell::Tested(test) => Some((row.id, *test)),
            _ => None,
        })
    };
    ROWS.iter().flat_map(of_row).collect()
}

/// The scenarios' files.
fn sources() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtimes");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap()))
        .collect()
}

/// The test function of that name, if there is one.
fn body<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let from = source.find(&format!("\nfn {name}() {{"))?;
    let before = source[..from].rsplit("\n\n").next()?;
    if !before.contains("#[test]") {
        return None;
    }
    source[from..].split("\n}").next()
}

fn render() -> String {
    let mut out = String::from(HEAD);
    writeln!(out, "\n| Runtime | {} |", PHASES.join(" | ")).unwrap();
    writeln!(out, "|---{}|", "|:-:".repeat(PHASES.len())).unwrap();
    for row in ROWS {
        let marks: Vec<&str> = row
            .cells
            .iter()
            .map(|(_, cell)| match cell {
                Cell::Tested(_) => "T",
                Cell::Replayed(_) => "R",
                Cell::None(_) => "–",
            })
            .collect();
        writeln!(out, "| {} | {} |", row.id, marks.join(" | ")).unwrap();
    }
    for row in ROWS {
        writeln!(out, "\n## {}\n\n{}\n", row.id, row.what).unwrap();
        let mut by_source: Vec<(String, Vec<&str>)> = Vec::new();
        for (phase, cell) in row.cells {
            let source = match cell {
                Cell::Tested(test) => format!("tested by `{test}`"),
                Cell::Replayed(fixture) => format!("replayed, `{fixture}`"),
                Cell::None(reason) => format!("not there: {reason}"),
            };
            match by_source.iter_mut().find(|(known, _)| *known == source) {
                Some((_, phases)) => phases.push(phase),
                Option::None => by_source.push((source, vec![phase])),
            }
        }
        for (source, phases) in by_source {
            writeln!(out, "- {}: {source}", phases.join(", ")).unwrap();
        }
    }
    out
}

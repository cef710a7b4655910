//! `docs/recording-format.md` and the code say the same.

use std::fmt::Debug;

use super::super::format::{BLOCK_HEADER_LEN, BLOCK_TARGET, FILE_HEADER_LEN, MAGIC, MAX_RAW, MAX_RECORD, SYNC};
use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/recording-format.md");

/// Names of the fields that a value's `Debug` form shows at its first level, below a newtype.
fn fields(value: &impl Debug) -> Vec<String> {
    format!("{value:#?}")
        .lines()
        .filter_map(|line| line.strip_prefix("        ")?.split_once(": "))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// `### 12 Exec` and the rows of the table below it: first cells, in backquotes.
fn documented() -> Vec<(u16, String, Vec<String>)> {
    let mut kinds = Vec::new();
    for line in DOCUMENT.lines() {
        let heading = line.strip_prefix("### ").and_then(|heading| heading.split_once(' '));
        if let Some((Ok(number), name)) = heading.map(|(number, name)| (number.parse(), name)) {
            kinds.push((number, name.to_owned(), Vec::new()));
        } else if line.starts_with('#') {
            kinds.push((0, String::new(), Vec::new()));
        } else if let (Some((_, _, rows)), Some(cell)) = (kinds.last_mut(), line.strip_prefix("| `")) {
            rows.push(cell.split_once('`').unwrap().0.to_owned());
        }
    }
    kinds.retain(|(number, ..)| *number != 0);
    kinds
}

/// Make sure that the document names every kind with its number and its fields in their order, and no other.
#[test]
fn kinds_and_fields() {
    let mut expected: Vec<(u16, String, Vec<String>)> = Vec::new();
    for sample in samples() {
        let debug = format!("{sample:?}");
        let name = debug.split_once('(').unwrap().0.to_owned();
        let fields = fields(&sample);
        match expected.iter_mut().find(|(kind, ..)| *kind == sample.kind()) {
            // Variants of one kind: the fields of each.
            Some((_, _, known)) if *known != fields => known.extend(fields),
            Some(_) => {}
            None => expected.push((sample.kind(), name, fields)),
        }
    }
    expected.sort();
    assert_eq!(documented(), expected);
}

/// Make sure that the document has the format's numbers.
#[test]
fn numbers() {
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for said in [
        format!("This document describes version {MAJOR}.{MINOR}."),
        format!("`{}`", hex(&MAGIC)),
        format!("`{}`", hex(&SYNC)),
        format!("The file header has {FILE_HEADER_LEN} bytes"),
        format!("A block header has {BLOCK_HEADER_LEN} bytes"),
        format!("at most {MAX_RAW} bytes"),
        format!("at most {MAX_RECORD} bytes"),
        format!("{BLOCK_TARGET} bytes"),
    ] {
        assert!(DOCUMENT.contains(&said), "not in the document: {said}");
    }
}

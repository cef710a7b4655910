//! Tables of phases: the last parts of a key on the left, indented below what they are part of; figures on the right.

use crate::compare::key::PART;
use crate::report::terminal::{Page, Paint, column_widths};
use crate::report::text;

/// Narrowest name.
const NAME: usize = 16;

/// One line.
pub(super) struct Line {
    /// Columns that the name is indented by.
    pub(super) indent: usize,
    pub(super) name: String,
    pub(super) cells: Vec<String>,
    pub(super) paint: Paint,
}

/// Adds a table; as many of its columns as have room.
pub(super) fn add(page: &mut Page, head: &[&str], lines: &[Line]) {
    let titles: Vec<String> = head.iter().skip(1).map(|title| (*title).to_owned()).collect();
    let rows = std::iter::once(titles.clone()).chain(lines.iter().map(|line| line.cells.clone()));
    let widths = column_widths(&rows.collect::<Vec<_>>());
    let room = page.width().saturating_sub(NAME);
    let mut used = 0;
    let shown = widths.iter().take_while(|width| {
        used += *width + 2;
        used <= room
    });
    let shown = shown.count();
    let figures: usize = widths[..shown].iter().map(|width| width + 2).sum();
    let longest = lines
        .iter()
        .map(|line| line.indent + text::width(&line.name))
        .max()
        .unwrap_or(0);
    let name = longest.clamp(NAME, page.width().saturating_sub(figures).max(NAME));
    let row = |cells: &[String]| {
        let cells = cells.iter().zip(&widths[..shown]);
        cells
            .map(|(cell, width)| format!("  {}", text::right(cell, *width)))
            .collect::<String>()
    };
    page.line(&[
        (Paint::Dim, &text::left(head.first().unwrap_or(&""), name)),
        (Paint::Dim, &row(&titles)),
    ]);
    for line in lines {
        let label = format!("{}{}", " ".repeat(line.indent), line.name);
        page.line(&[(line.paint, &text::left(&label, name)), (line.paint, &row(&line.cells))]);
    }
}

/// A key as a name in a table: what its parent does not say already, and how deep it stands.
pub(super) fn name<'a>(key: &'a str, above: &[&str]) -> (usize, &'a str) {
    let parents = above
        .iter()
        .filter(|parent| key.len() > parent.len() && key.starts_with(*parent) && key[parent.len()..].starts_with(PART));
    match parents.max_by_key(|parent| parent.len()) {
        Some(parent) => {
            let (depth, _) = name(parent, above);
            (depth + 2, &key[parent.len() + PART.len()..])
        }
        None => (0, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a phase stands below its parent, without what that says, and that a name that only begins alike
    /// is no parent.
    #[test]
    fn names() {
        let keys = [
            "total",
            "podman run > create",
            "podman run > create > init",
            "podman run > create #2",
        ];
        assert_eq!(name(keys[1], &keys), (0, "podman run > create"));
        assert_eq!(name(keys[2], &keys), (2, "init"));
        assert_eq!(name(keys[3], &keys), (0, "podman run > create #2"));
    }
}

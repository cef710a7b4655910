//! Rows of figures, at most 140 columns wide.

use std::fmt::Write as _;

/// Width of the first column, and of the others.
const FIRST: usize = 34;
const OTHER: usize = 15;

/// Adds a row; a figure that is missing is a dash.
pub(crate) fn row(text: &mut String, name: &str, cells: impl Iterator<Item = Option<String>>) {
    _ = write!(text, "{name:FIRST$}");
    for cell in cells {
        _ = write!(text, "{:>OTHER$}", cell.as_deref().unwrap_or("-"));
    }
    text.push('\n');
}

/// Three significant digits, or the whole number.
pub(crate) fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if value == value.trunc() && magnitude < 1e6 || magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that figures have three significant digits where they need them.
    #[test]
    fn digits() {
        let texts = [0.0, 0.01234, 1.0, 1.2345, 12.345, 123.45, 12_345.6].map(figure);
        assert_eq!(texts, ["0", "0.012", "1", "1.23", "12.3", "123", "12346"]);
    }
}

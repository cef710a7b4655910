//! Lines that fit: every text is measured, every line cut at the page's width, and colour is added last.

use anstyle::{AnsiColor, Style as Ansi};

use crate::report::text;

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns.
    pub width: usize,
    pub color: bool,
    /// Blocks for bars; ASCII otherwise.
    pub utf8: bool,
}

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    /// Headings and what matters most.
    Strong,
    /// What only some readers need.
    Dim,
    /// Something is missing or wrong.
    Warn,
    /// Bar of a build's step.
    Step,
    /// Bar of any other phase.
    Phase,
}

impl Paint {
    fn ansi(self) -> Ansi {
        match self {
            Paint::Plain => Ansi::new(),
            Paint::Strong => Ansi::new().bold(),
            Paint::Dim => Ansi::new().dimmed(),
            Paint::Warn => AnsiColor::Yellow.on_default().bold(),
            Paint::Step => AnsiColor::Blue.on_default(),
            Paint::Phase => AnsiColor::Cyan.on_default(),
        }
    }
}

/// A heading with the paragraphs below it, before they are broken into lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Section {
    pub title: String,
    pub detail: String,
    /// Label and text.
    pub paragraphs: Vec<(String, String)>,
}

/// The summary as it grows.
pub(crate) struct Page {
    style: Style,
    out: String,
    sections: Vec<Section>,
}

impl Page {
    pub(crate) fn new(style: Style) -> Page {
        Page {
            style,
            out: String::new(),
            sections: Vec::new(),
        }
    }

    /// Columns of a line.
    pub(crate) fn width(&self) -> usize {
        self.style.width
    }

    /// Adds a line made of pieces of harmless text.
    pub(crate) fn line(&mut self, pieces: &[(Paint, &str)]) {
        let mut room = self.style.width;
        // Nothing but spaces may follow the last piece that shows.
        let last = pieces.iter().rposition(|(_, text)| !text.trim_end().is_empty());
        for (index, (paint, piece)) in pieces.iter().enumerate().take(last.map_or(0, |last| last + 1)) {
            let piece = if Some(index) == last { piece.trim_end() } else { *piece };
            let piece = text::fit(piece, room);
            room -= text::width(&piece);
            let piece = if self.style.utf8 { piece } else { text::to_ascii(&piece) };
            if self.style.color && *paint != Paint::Plain && !piece.trim().is_empty() {
                let ansi = paint.ansi();
                self.out
                    .push_str(&format!("{}{piece}{}", ansi.render(), ansi.render_reset()));
            } else {
                self.out.push_str(&piece);
            }
        }
        self.out.truncate(self.out.trim_end_matches(' ').len());
        self.out.push('\n');
    }

    /// Starts a section.
    pub(crate) fn heading(&mut self, title: &str, detail: &str) {
        self.blank();
        self.line(&[(Paint::Strong, title), (Paint::Dim, "  "), (Paint::Dim, detail)]);
        self.sections.push(Section {
            title: title.to_owned(),
            detail: detail.to_owned(),
            paragraphs: Vec::new(),
        });
    }

    pub(crate) fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A paragraph, broken at spaces; its first line after `label`, the others below it.
    pub(crate) fn paragraph(&mut self, label: &str, paint: Paint, text: &str) {
        if let Some(section) = self.sections.last_mut() {
            section.paragraphs.push((label.trim().to_owned(), text.to_owned()));
        }
        let indent = text::width(label);
        let room = self.style.width.saturating_sub(indent).max(20);
        let mut label = label.to_owned();
        for line in wrap(text, room) {
            self.line(&[(Paint::Dim, &label), (paint, &line)]);
            label = " ".repeat(indent);
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// What was added, by heading.
    pub(crate) fn into_sections(self) -> Vec<Section> {
        self.sections
    }
}

/// Breaks text at spaces into lines of at most `room` columns; a longer word is cut.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let width = text::width(word);
        if used > 0 && used + 1 + width > room {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(&text::fit(word, room));
            used += width.min(room);
        }
    }
    lines
}

/// A table whose columns are as wide as their widest cell; the first is on the left, the others on the right.
pub(crate) fn column_widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    (0..columns)
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| text::width(cell)).max().unwrap_or(0)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(width: usize, color: bool) -> Page {
        Page::new(Style {
            width,
            color,
            utf8: true,
        })
    }

    /// Make sure that colour takes no columns, and that nothing is left of it after its piece.
    #[test]
    fn colour_is_outside_of_the_measure() {
        let mut page = page(5, true);
        page.line(&[(Paint::Strong, "abc"), (Paint::Plain, "defg")]);
        assert_eq!(page.finish(), "\x1b[1mabc\x1b[0md…\n");
    }

    /// Make sure that text is broken at spaces and a word that is too long is cut.
    #[test]
    fn wrapping() {
        assert_eq!(wrap("aa bb cc", 5), ["aa bb", "cc"]);
        assert_eq!(wrap("aaaaaaaa b", 5), ["aaaa…", "b"]);
        assert_eq!(wrap("", 5), [""]);
    }
}

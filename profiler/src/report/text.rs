//! Hostile text made harmless: names and arguments of traced processes are bytes that anyone on the host can choose.
//!
//! One escape for all sinks ([`visible`]), and what each sink needs beyond it. Markup is left to the sink's own writer
//! (inferno escapes XML, serde_json escapes JSON).

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Longest text, bytes, that any sink looks at; the recording keeps less of all of them but symbols.
const LONGEST: usize = 8192;

/// Bytes as one line of text that a reader sees as it is: control characters (C0, DEL, C1), line and paragraph
/// separators, invisible and direction-changing characters and whatever is not UTF-8 become `\xNN` or `\u{NNNN}`.
/// A backslash stays: the escape is for display, not for reading back.
pub fn visible(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().min(LONGEST));
    for chunk in bytes[..bytes.len().min(LONGEST)].utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_ascii_control() {
                text.push_str(&format!("\\x{:02x}", u32::from(char)));
            } else if is_deceptive(char) {
                text.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    if bytes.len() > LONGEST {
        text.push('…');
    }
    text
}

/// Characters that take no place, move the cursor or turn the direction of what follows ("Trojan Source",
/// CVE-2021-42574), and those that XML 1.0 does not have (U+FFFE, U+FFFF).
fn is_deceptive(char: char) -> bool {
    matches!(char,
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fffe}' | '\u{ffff}'
        | '\u{e0000}'..='\u{e007f}')
}

/// [`visible`] text for a terminal, at most `max` columns wide; what is cut off shows as `…`.
pub fn escape_terminal(bytes: &[u8], max: usize) -> String {
    fit(&visible(bytes), max)
}

/// Cuts harmless text to at most `max` columns, the last of them `…` when something was cut.
pub fn fit(text: &str, max: usize) -> String {
    if text.width() <= max {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = 0;
    for char in text.chars() {
        let width = char.width().unwrap_or(0);
        if used + width + 1 > max {
            break;
        }
        used += width;
        cut.push(char);
    }
    if max > 0 {
        cut.push('…');
    }
    cut
}

/// Columns that harmless text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// [`fit`], filled with spaces on the right to exactly `columns`.
pub fn left(text: &str, columns: usize) -> String {
    let mut text = fit(text, columns);
    let fill = columns.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', fill));
    text
}

/// [`fit`], filled with spaces on the left to exactly `columns`.
pub fn right(text: &str, columns: usize) -> String {
    let text = fit(text, columns);
    format!("{}{text}", " ".repeat(columns.saturating_sub(text.width())))
}

/// The same columns in ASCII, for a terminal whose locale is not UTF-8.
pub fn to_ascii(text: &str) -> String {
    let mut ascii = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            _ if char.is_ascii() => ascii.push(char),
            'µ' => ascii.push('u'),
            '×' => ascii.push('x'),
            '…' => ascii.push('~'),
            '·' | '–' | '─' => ascii.push('-'),
            '█'..='▏' | '▐' => ascii.push('#'),
            '░' => ascii.push('.'),
            _ => ascii.extend(std::iter::repeat_n('?', char.width().unwrap_or(0))),
        }
    }
    ascii
}

/// A frame of a folded line: [`visible`], without what the format gives a meaning to. `;` parts frames and becomes
/// `:` (as `stackcollapse-perf.pl` does). A line's last word is its count, and a number before it would be read as
/// the first of two counts (a differential line), so the space before a trailing number becomes `_`; a leading `#`
/// would make a comment of the line. Never empty.
pub fn escape_folded(bytes: &[u8]) -> String {
    let text = visible(bytes).replace(';', ":");
    let mut text = text.trim().to_owned();
    if let Some(space) = text.rfind(' ')
        && text[space + 1..]
            .chars()
            .all(|char| char.is_ascii_digit() || char == '.')
    {
        text.replace_range(space..=space, "_");
    }
    if text.starts_with('#') {
        text.insert(0, '\\');
    }
    if text.is_empty() {
        text.push_str("[no name]");
    }
    text
}

/// A program's name out of what exec was given: the last part of the path, without a login shell's `-`.
pub fn base_name(path: &[u8]) -> &[u8] {
    let name = path
        .rsplit(|byte| *byte == b'/')
        .find(|part| !part.is_empty())
        .unwrap_or(path);
    name.strip_prefix(b"-").filter(|rest| !rest.is_empty()).unwrap_or(name)
}

/// Arguments as one line: those with spaces or nothing in them are quoted, so that a reader sees where each ends. It
/// is for reading, not for a shell.
pub fn argv<T: AsRef<[u8]>>(argv: &[T]) -> String {
    let mut line = String::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        let text = visible(argument.as_ref());
        if text.is_empty() || text.contains([' ', '\'', '"']) {
            line.push_str(&format!("'{}'", text.replace('\'', "\\'")));
        } else {
            line.push_str(&text);
        }
        if line.len() > LONGEST {
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that nothing that moves a cursor, colours text or hides it comes through.
    #[test]
    fn control_and_direction_are_shown() {
        assert_eq!(
            visible(b"a\x1b[31mb\x07\x7f\r\n\tc"),
            r"a\x1b[31mb\x07\x7f\x0d\x0a\x09c"
        );
        assert_eq!(visible("C1 \u{9b}2J".as_bytes()), r"C1 \u{9b}2J");
        assert_eq!(
            visible("x\u{202e}gpj.exe\u{2066}\u{2069}".as_bytes()),
            r"x\u{202e}gpj.exe\u{2066}\u{2069}"
        );
        assert_eq!(
            visible("a\u{200b}b\u{2028}c\u{feff}".as_bytes()),
            r"a\u{200b}b\u{2028}c\u{feff}"
        );
        assert_eq!(visible(b"caf\xc3\xa9 \xff\xfe\xc3"), "café \\xff\\xfe\\xc3");
        for byte in 0..=255u8 {
            for char in visible(&[b'a', byte, b'b']).chars() {
                assert!(!char.is_control(), "{byte:#x}");
            }
        }
    }

    /// Make sure that a cut text is never wider than it may be, wide characters included.
    #[test]
    fn cut_to_columns() {
        assert_eq!(escape_terminal(b"abcdef", 6), "abcdef");
        assert_eq!(escape_terminal(b"abcdefg", 6), "abcde…");
        assert_eq!(escape_terminal("日本語テキスト".as_bytes(), 6), "日本…");
        assert_eq!(escape_terminal(b"abc", 0), "");
        for max in 0..20 {
            assert!(width(&escape_terminal("é日\u{202e}\x1b日本x".as_bytes(), max)) <= max);
            assert_eq!(width(&left("日本語", max)), max);
            assert_eq!(width(&right("日本語", max)), max);
        }
    }

    /// Make sure that an overlong text is bounded before it is worked on.
    #[test]
    fn long_text_is_bounded() {
        assert!(visible(&vec![0; 1 << 20]).len() <= 4 * LONGEST + 3);
        assert!(argv(&vec![vec![b'x'; 100]; 10_000]).len() <= LONGEST + 101);
    }

    /// Make sure that the ASCII form has the same columns and only ASCII.
    #[test]
    fn ascii_keeps_columns() {
        for text in ["12 µs · ×3 █▌░ … 日本", "plain"] {
            assert!(to_ascii(text).is_ascii());
            assert_eq!(width(&to_ascii(text)), width(text));
        }
    }

    /// Make sure that a frame can't end its frame, its line, or be read as a count or a comment.
    #[test]
    fn folded_frames() {
        assert_eq!(escape_folded(b"a;b\nc"), r"a:b\x0ac");
        assert_eq!(escape_folded(b"sleep 10"), "sleep_10");
        assert_eq!(escape_folded(b"x 1 2.5"), "x 1_2.5");
        assert_eq!(
            escape_folded(b"operator new(unsigned long)"),
            "operator new(unsigned long)"
        );
        assert_eq!(escape_folded(b"# c"), r"\# c");
        assert_eq!(escape_folded(b"  "), "[no name]");
        assert_eq!(escape_folded(b" a "), "a");
    }

    /// Make sure that a program's name is found in the shapes that exec gets.
    #[test]
    fn base_names() {
        for (path, name) in [
            (&b"/usr/bin/gcc"[..], &b"gcc"[..]),
            (b"-bash", b"bash"),
            (b"/usr/lib/", b"lib"),
            (b"-", b"-"),
            (b"/", b"/"),
            (b"", b""),
        ] {
            assert_eq!(base_name(path), name);
        }
    }

    /// Make sure that arguments with spaces, quotes or nothing in them are told apart.
    #[test]
    fn arguments() {
        assert_eq!(
            argv(&[&b"sh"[..], b"-c", b"echo 'a b'", b""]),
            r"sh -c 'echo \'a b\'' ''"
        );
    }
}

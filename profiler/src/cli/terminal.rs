//! What the terminal at hand can show.

use std::env;
use std::io::IsTerminal;

use crate::report::terminal::Style;

/// Narrowest and widest summary.
pub(crate) const WIDTHS: std::ops::RangeInclusive<usize> = 60..=200;

/// Width when standard output is no terminal.
const DEFAULT_WIDTH: usize = 80;

/// The style for `stream`: colour on a terminal only and not with `NO_COLOR` (any value but an empty one, see
/// <https://no-color.org>) or `TERM=dumb`; blocks when the locale is UTF-8; `width` or the terminal's.
pub(crate) fn style(stream: &impl Stream, width: Option<usize>) -> Style {
    let terminal = stream.is_terminal();
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
    let width = width.or_else(|| stream.columns()).unwrap_or(DEFAULT_WIDTH);
    Style {
        width: width.clamp(*WIDTHS.start(), *WIDTHS.end()),
        color: terminal && set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb"),
        utf8: is_utf8(
            ["LC_ALL", "LC_CTYPE", "LANG"]
                .iter()
                .find_map(|name| set(name))
                .as_deref(),
        ),
    }
}

/// Whether a locale's name says UTF-8; without one the C locale holds, which is ASCII.
fn is_utf8(locale: Option<&std::ffi::OsStr>) -> bool {
    locale.is_some_and(|locale| {
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

/// A standard stream.
pub(crate) trait Stream: IsTerminal {
    /// Width of its terminal, if it is one.
    fn columns(&self) -> Option<usize>;
}

impl<T: IsTerminal + std::os::fd::AsFd> Stream for T {
    fn columns(&self) -> Option<usize> {
        terminal_size::terminal_size_of(self).map(|(width, _)| usize::from(width.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that locales are told apart by their character set, however it is spelled.
    #[test]
    fn locales() {
        for (locale, utf8) in [
            ("en_US.UTF-8", true),
            ("C.utf8", true),
            ("C", false),
            ("de_DE.ISO-8859-1", false),
        ] {
            assert_eq!(is_utf8(Some(locale.as_ref())), utf8, "{locale}");
        }
        assert!(!is_utf8(None));
    }
}

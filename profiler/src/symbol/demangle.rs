//! Rust and C++ names for people, within bounds.

use std::fmt::{self, Write};

/// Longest name kept for people, bytes: a mangled name may grow without end (its parts can refer to each other).
pub const MAX_NAME: usize = 1024;

/// Stands at the end of a name that was cut.
const CUT: &str = "…";

/// Deepest nesting followed in a C++ name.
const CPP_DEPTH: u32 = 96;

/// What compilers put before a mangled name that a function serves: constructors and destructors of a file's statics.
const HELPERS: [&str; 2] = ["_GLOBAL__sub_I_", "_GLOBAL__sub_D_"];

/// Whether [`demangle`] may change it.
pub fn is_mangled(name: &[u8]) -> bool {
    name.starts_with(b"_R") || name.starts_with(b"_Z") || name.starts_with(b"_GLOBAL__") || name.starts_with(b"__Z")
}

/// The name as its programmer wrote it, without arguments; cut at [`MAX_NAME`]. A name that is not mangled is only cut.
pub fn demangle(name: &[u8]) -> Vec<u8> {
    let readable = std::str::from_utf8(name).ok().filter(|_| is_mangled(name));
    if let Some(text) = readable.and_then(read) {
        return text.into_bytes();
    }
    if name.len() <= MAX_NAME {
        return name.to_vec();
    }
    let mut cut = name.get(..MAX_NAME - CUT.len()).unwrap_or(name).to_vec();
    cut.extend_from_slice(CUT.as_bytes());
    cut
}

fn read(text: &str) -> Option<String> {
    for helper in HELPERS {
        if let Some(of) = text.strip_prefix(helper) {
            return Some(format!("{helper}{}", read(of)?));
        }
    }
    let out = Bounded::default();
    if let Ok(symbol) = rustc_demangle::try_demangle(text) {
        // The alternate form leaves out the hash.
        return out.take(|out| write!(out, "{symbol:#}"));
    }
    // LLVM's and GCC's marks of copies of a function (`.llvm.123`, `.part.0`, `.cold`) stand behind the name. cpp_demangle
    // reads most of them, but not all.
    let (symbol, mark) = match (parse(text), text.split_once('.')) {
        (Some(symbol), _) => (symbol, None),
        (None, Some((name, mark))) => match parse(name) {
            Some(symbol) => (symbol, Some(mark)),
            None => return names_only(name),
        },
        (None, None) => return names_only(text),
    };
    let options = cpp_demangle::DemangleOptions::new()
        .no_params()
        .no_return_type()
        .recursion_limit(CPP_DEPTH);
    out.take(|out| {
        symbol.structured_demangle(out, &options).map_err(|_| fmt::Error)?;
        match mark {
            Some(mark) => write!(out, " [.{mark}]"),
            None => Ok(()),
        }
    })
}

/// `space::function<…>` of a nested name whose arguments can't be parsed: its plain names up to the first.
fn names_only(text: &str) -> Option<String> {
    let mut rest = text.strip_prefix("_ZN")?.trim_start_matches(['K', 'V']);
    let mut out = String::new();
    while rest.starts_with(|first: char| first.is_ascii_digit()) {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (length, from) = rest.split_at_checked(digits)?;
        let (name, after) = from.split_at_checked(length.parse().ok()?)?;
        if !out.is_empty() {
            out.push_str("::");
        }
        out.push_str(name);
        rest = after;
    }
    // Arguments, the end, a constructor or destructor.
    let known = rest.starts_with(['I', 'E', 'C', 'D']);
    if !known || out.is_empty() || out.len() > MAX_NAME - CUT.len() - 2 {
        return None;
    }
    if rest.starts_with('I') {
        out.push_str("<…>");
    }
    Some(out)
}

fn parse(text: &str) -> Option<cpp_demangle::Symbol<&str>> {
    let options = cpp_demangle::ParseOptions::default().recursion_limit(CPP_DEPTH);
    cpp_demangle::Symbol::new_with_options(text, &options).ok()
}

/// Refuses to grow beyond [`MAX_NAME`].
#[derive(Default)]
struct Bounded {
    text: String,
    full: bool,
}

impl Bounded {
    /// What was written, also when it was cut; `None` when writing failed for another reason, or nothing was written.
    fn take(mut self, write: impl FnOnce(&mut Self) -> fmt::Result) -> Option<String> {
        let result = write(&mut self);
        if self.full {
            self.text.push_str(CUT);
        } else if result.is_err() || self.text.is_empty() {
            return None;
        }
        Some(self.text)
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_NAME - CUT.len() - self.text.len().min(MAX_NAME - CUT.len());
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(text.get(..end).unwrap_or_default());
        self.full = true;
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, expected: &str) {
        assert_eq!(String::from_utf8(demangle(name.as_bytes())).unwrap(), expected);
    }

    /// Make sure that both languages' names are read, and C names stay.
    #[test]
    fn names() {
        read_as("_ZN3foo3barEi", "foo::bar");
        read_as(
            "_ZN4core3fmt9Formatter3pad17h0123456789abcdefE",
            "core::fmt::Formatter::pad",
        );
        read_as("_RNvC6_123foo3bar", "123foo::bar");
        read_as("main", "main");
        read_as("_start", "_start");
        assert_eq!(demangle(b"_Z\xff"), b"_Z\xff");
    }

    /// Make sure that a name with arguments beyond the demangler, one of cc1's own, is told without them, and that what
    /// is no name stays as it is.
    #[test]
    fn beyond_the_demangler() {
        read_as(
            "_ZN2wi3extI16generic_wide_intI22fixed_wide_int_storageILi576EEEEENS_13binary_traitsIT_S6_XsrNS_10int_\
             traitsIS6_EE14precision_typeEXsrS8_14precision_typeEE11result_typeERKS6_j6signop",
            "wi::ext<…>",
        );
        for odd in [
            "_ZN",
            "_ZN9short",
            "_ZN99999999999999999999x",
            "_ZNx",
            "_ZN3a\u{e9}\u{e9}",
        ] {
            read_as(odd, odd);
        }
    }

    /// Make sure that a name that doubles with each part is neither expanded nor followed for long.
    #[test]
    fn growing_name() {
        let mut name = String::from("_ZN1a");
        name.push('I');
        for _ in 0..200 {
            name.push_str("St4pairI");
        }
        name.push_str(&"iS_E".repeat(60));
        assert!(demangle(name.as_bytes()).len() <= MAX_NAME);
        let mut name = String::from("_Z1fSt4pairIiiE");
        for index in 0..30 {
            name.push_str(&format!("St4pairIS{0}_S{0}_E", char::from(b'0' + (index % 10))));
        }
        assert!(demangle(name.as_bytes()).len() <= MAX_NAME);
        assert_eq!(demangle(&[b'a'; 5000]).len(), MAX_NAME);
    }

    /// Make sure that what is too long is shown demangled as far as it goes, and marked as cut.
    #[test]
    fn long_name() {
        let parts = "10abcdefghij".repeat(150);
        let name = String::from_utf8(demangle(format!("_ZN{parts}E").as_bytes())).unwrap();
        assert!(
            name.starts_with("abcdefghij::abcdefghij::") && name.ends_with('…'),
            "{name}"
        );
        assert!(name.len() <= MAX_NAME);
    }
}

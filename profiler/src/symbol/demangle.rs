//! Rust and C++ names for people, within bounds.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Longest symbol kept, bytes, mangled or not: a mangled name may grow without end (its parts can refer to each
/// other), and both are hostile text.
pub const MAX_NAME: usize = 1024;

/// Deepest nesting followed in a C++ name.
const CPP_DEPTH: u32 = 64;

/// The name as its programmer wrote it; unchanged (but cut at [`MAX_NAME`]) when it is not mangled or too long.
pub fn demangle(name: &[u8]) -> Cow<'_, [u8]> {
    let Some(name) = name.get(..name.len().min(MAX_NAME)) else {
        return Cow::Borrowed(name);
    };
    if !name.starts_with(b"_") {
        return Cow::Borrowed(name);
    }
    let Ok(text) = std::str::from_utf8(name) else {
        return Cow::Borrowed(name);
    };
    let mut out = Bounded(String::new());
    if let Ok(symbol) = rustc_demangle::try_demangle(text) {
        // The alternate form leaves out the hash.
        if write!(out, "{symbol:#}").is_ok() {
            return Cow::Owned(out.0.into_bytes());
        }
    } else if text.starts_with("_Z") {
        let parse = cpp_demangle::ParseOptions::default().recursion_limit(CPP_DEPTH);
        let options = cpp_demangle::DemangleOptions::new()
            .no_params()
            .no_return_type()
            .recursion_limit(CPP_DEPTH);
        if let Ok(symbol) = cpp_demangle::Symbol::new_with_options(text, &parse)
            && symbol.structured_demangle(&mut out, &options).is_ok()
            && !out.0.is_empty()
        {
            return Cow::Owned(out.0.into_bytes());
        }
    }
    Cow::Borrowed(name)
}

/// Refuses to grow beyond [`MAX_NAME`].
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MAX_NAME {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that both languages' names are read, and C names stay.
    #[test]
    fn names() {
        assert_eq!(&*demangle(b"_ZN3foo3barEi"), b"foo::bar");
        assert_eq!(
            &*demangle(b"_ZN4core3fmt9Formatter3pad17h0123456789abcdefE"),
            b"core::fmt::Formatter::pad"
        );
        assert_eq!(&*demangle(b"_RNvC6_123foo3bar"), b"123foo::bar");
        assert_eq!(&*demangle(b"main"), b"main");
        assert_eq!(&*demangle(b"_start"), b"_start");
        assert_eq!(&*demangle(b"_Z\xff"), b"_Z\xff");
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
}

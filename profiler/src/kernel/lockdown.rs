//! Whether the kernel is locked down: in `confidentiality` no eBPF program may read the kernel's memory.

use std::{
    io::{self, Read as _},
    os::fd::AsRawFd as _,
};

use super::pseudo;

/// Where the kernel tells it, if securityfs is mounted.
pub const FILE: &str = "/sys/kernel/security/lockdown";

/// How far. `man 7 kernel_lockdown`
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    None,
    /// Nothing may change the kernel; no hindrance.
    Integrity,
    /// Nor may anything read its memory: nothing can be recorded.
    Confidentiality,
}

impl Mode {
    /// As the kernel calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::None => "none",
            Mode::Integrity => "integrity",
            Mode::Confidentiality => "confidentiality",
        }
    }

    /// Of the file's text, `none [integrity] confidentiality`.
    fn of(text: &str) -> Option<Mode> {
        let (_, rest) = text.split_once('[')?;
        let (name, _) = rest.split_once(']')?;
        [Mode::None, Mode::Integrity, Mode::Confidentiality]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// The running kernel's mode; `None` when it can't be known: no securityfs, or a kernel without lockdown, or no right to
/// look.
pub fn mode() -> Option<Mode> {
    let text = std::fs::read_to_string(FILE).or_else(|_| unmounted()).ok()?;
    Mode::of(&text)
}

fn unmounted() -> io::Result<String> {
    let root = pseudo::detached(c"securityfs")?;
    let mut text = String::new();
    std::fs::File::from(pseudo::open(root.as_raw_fd(), c"lockdown", libc::O_RDONLY)?).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the mode in brackets is taken, and that anything else is none.
    #[test]
    fn modes() {
        assert_eq!(Mode::of("none [integrity] confidentiality\n"), Some(Mode::Integrity));
        assert_eq!(
            Mode::of("none integrity [confidentiality]\n"),
            Some(Mode::Confidentiality)
        );
        assert_eq!(Mode::of("[none] integrity confidentiality\n"), Some(Mode::None));
        for text in ["", "none", "[", "[open]", "]["] {
            assert_eq!(Mode::of(text), None, "{text}");
        }
    }

    /// Make sure that an unmounted securityfs tells what a mounted one would.
    #[test]
    fn without_a_mount() {
        let Ok(text) = unmounted() else {
            eprintln!("skipped: not root, or no securityfs");
            return;
        };
        assert!(Mode::of(&text).is_some(), "{text}");
        if let Ok(mounted) = std::fs::read_to_string(FILE) {
            assert_eq!(mounted, text);
        }
    }
}

//! Why a mapped file has no symbols.

use crate::lookup::locate::Miss;
use crate::symbol::sandbox::{Failure, Refusal};

macro_rules! causes {
    ($( $name:ident = $text:literal, )+) => {
        /// A cause; each is counted by its text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Cause { $( $name, )+ }
        pub(super) const CAUSES: &[&str] = &[ $( $text, )+ ];
    };
}
causes! {
    Gone = "mapped file not found: gone before it could be read",
    Other = "mapped file not found: another file has its path",
    Changed = "mapped file was written to before it could be read",
    NotRegular = "mapped file is no regular file",
    Slow = "mapped file not read: on no file system that is known to be local (FUSE, network)",
    Refused = "mapped file could not be opened",
    NotElf = "mapped file is not ELF",
    Malformed = "mapped ELF file is malformed",
    TooLarge = "mapped ELF file is too large",
    TooMany = "mapped ELF file has too many symbols or sections",
    Read = "mapped ELF file could not be read",
    Crash = "mapped ELF file not read: its parser crashed (isolated; nothing else is lost)",
    Time = "mapped ELF file not read: its parser took too much time",
    Memory = "mapped ELF file not read: its parser took too much memory",
    Forbidden = "mapped ELF file not read: its parser tried what it may not do",
    NoParser = "mapped ELF file not read: no parser could be started",
}

impl From<Failure> for Cause {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal::NotElf) => Cause::NotElf,
            Failure::Refused(Refusal::Malformed | Refusal::OtherBuild | Refusal::Nothing) => Cause::Malformed,
            Failure::Refused(Refusal::TooLarge) => Cause::TooLarge,
            Failure::Refused(Refusal::TooMany) => Cause::TooMany,
            Failure::Refused(Refusal::Read) => Cause::Read,
            Failure::Crash | Failure::Garbled => Cause::Crash,
            Failure::Time => Cause::Time,
            Failure::Memory => Cause::Memory,
            Failure::Forbidden => Cause::Forbidden,
            Failure::NoParser => Cause::NoParser,
        }
    }
}

impl From<Miss> for Cause {
    fn from(miss: Miss) -> Self {
        match miss {
            Miss::Gone => Cause::Gone,
            Miss::Other => Cause::Other,
            Miss::Changed => Cause::Changed,
            Miss::NotRegular => Cause::NotRegular,
            Miss::Slow => Cause::Slow,
            Miss::Refused => Cause::Refused,
        }
    }
}

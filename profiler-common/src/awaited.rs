//! What a wait was for, where the system call's first argument is a file descriptor: the file, pipe or socket behind it.

use crate::{Header, layout};

/// Longest name of a file or folder that is sent, with its NUL: `NAME_MAX` of `include/uapi/linux/limits.h` is 255, names
/// of locks and sockets are much shorter.
pub const NAME_LEN: usize = 64;

/// Most names of a path, the file's own and those of the folders above it.
pub const NAMES: usize = 8;

/// Room for a path: [`NAMES`] names of [`NAME_LEN`].
pub const PATH_LEN: usize = NAMES * NAME_LEN;

/// Bits of [`Awaited::flags`].
pub mod flag {
    /// Folders above the last one that was sent, or a longer name: the path is not whole.
    pub const CUT: u16 = 1 << 0;
}

/// The file that a thread waited at. Follows the [`crate::sched::Cycle`] of the wait, with its time. Followed by the names
/// of the path, from the file upward, each of `name_len` bytes; none of a pipe, a socket or another file without a name.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    pub header: Header,
    /// When the wait began: [`crate::sched::Cycle::off`].
    pub off: u64,
    pub ino: u64,
    /// The process at the other end of a connected unix socket, as the kernel keeps it (`SO_PEERCRED`); 0 when it does not.
    pub peer_pid: u32,
    pub dev: u32,
    /// Of a socket; of version 4 the first four bytes.
    pub local: [u8; 16],
    pub remote: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    /// `i_mode`
    pub mode: u16,
    /// `AF_…`, of a socket; 0 of any other file.
    pub family: u16,
    /// `SOCK_…`
    pub r#type: u16,
    /// `IPPROTO_…`
    pub protocol: u16,
    /// [`flag`]
    pub flags: u16,
    /// How many names follow.
    pub names: u16,
    /// Length of each, without its NUL.
    pub name_len: [u8; NAMES],
}
layout!(
    Awaited,
    size = 120,
    header = 0,
    off = 40,
    ino = 48,
    peer_pid = 56,
    dev = 60,
    local = 64,
    remote = 80,
    local_port = 96,
    mode = 100,
    family = 102,
    flags = 108,
    names = 110,
    name_len = 112
);

/// `S_IFMT` and the kinds of files of `include/uapi/linux/stat.h`.
pub mod mode {
    pub const MASK: u16 = 0o170_000;
    pub const SOCKET: u16 = 0o140_000;
    pub const PIPE: u16 = 0o010_000;
    pub const REGULAR: u16 = 0o100_000;
    pub const FOLDER: u16 = 0o040_000;
    pub const CHARACTER: u16 = 0o020_000;
    pub const BLOCK: u16 = 0o060_000;
}

/// Words of a set of system call numbers; a power of two.
pub const CALL_WORDS: usize = 8;

/// Word and bit of a system call's number in such a set; `None` when it has no place there.
#[inline(always)]
pub const fn place(number: i32) -> Option<(usize, u32)> {
    if number >= 0 && (number as usize) < CALL_WORDS * 64 {
        Some((number as usize / 64, number as u32 % 64))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each number has a place of its own, and one outside of the set none.
    #[test]
    fn places() {
        assert_eq!(place(0), Some((0, 0)));
        assert_eq!(place(73), Some((1, 9)));
        assert_eq!(place(511), Some((7, 63)));
        for number in [-1, -2, 512, i32::MAX, i32::MIN] {
            assert_eq!(place(number), None, "{number}");
        }
    }
}

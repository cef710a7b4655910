//! Sockets that begin to listen: what tells that a service is ready.

use crate::{Header, layout};

/// Length of `sockaddr_un.sun_path`.
pub const UNIX_PATH_LEN: usize = 108;

/// `listen()` succeeded. Followed by `path_len` bytes of the socket's path, of a unix socket that has one (an abstract
/// name begins with NUL).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Listen {
    pub header: Header,
    /// When the system call began; 0 when that was not seen.
    pub enter: u64,
    /// `AF_…`; 0 when the socket could not be read, and then all that follows is 0.
    pub family: u16,
    /// `SOCK_…`
    pub r#type: u16,
    /// `IPPROTO_…`
    pub protocol: u16,
    /// Host byte order; 0 for other than IP.
    pub port: u16,
    /// Network byte order, IPv4 in the first four bytes; all zero is any address.
    pub address: [u8; 16],
    pub path_len: u32,
    pub pad: u32,
}
layout!(
    Listen,
    size = 80,
    header = 0,
    enter = 40,
    family = 48,
    port = 54,
    address = 56,
    path_len = 72
);

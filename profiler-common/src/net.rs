//! What engines and their clients say over sockets: requests, and exchanges of a request and its answer.

use crate::{Header, layout};

/// Longest beginning of a request that is looked at: a line of HTTP, or frames that are no longer.
pub const REQUEST_LEN: usize = 512;

/// The same of frames that are longer. containerd's call to unpack a layer holds up to 300 bytes of headers and digest
/// before the first path of its overlay, the only one that is needed, so that path may have some 1,700 bytes.
pub const LONG_REQUEST_LEN: usize = 2048;

/// A request and its answer on one TCP connection of an engine: from the first byte sent to the last byte read before
/// the next one is sent. `header` is that of the task that sent, with the time at which the exchange was closed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchange {
    pub header: Header,
    /// When the connection was asked for, of its first exchange; else 0.
    pub connect: u64,
    /// When the first byte was sent.
    pub begin: u64,
    /// When the last byte was read; 0 when none was.
    pub last: u64,
    /// Bytes sent and read by the process.
    pub sent: u64,
    pub received: u64,
    /// The peer; of version 4 the first four bytes.
    pub address: [u8; 16],
    /// 2 for version 4, 10 for version 6.
    pub family: u16,
    /// The peer's, host order.
    pub port: u16,
    /// The kernel's count of bytes read, when the last were.
    pub sequence: u32,
}
layout!(
    Exchange,
    size = 104,
    header = 0,
    connect = 40,
    begin = 48,
    last = 56,
    sent = 64,
    received = 72,
    address = 80,
    family = 96,
    port = 98,
    sequence = 100
);

/// A task sent what begins like an HTTP request, or small HTTP/2 frames to an engine (containerd's interface). Followed
/// by [`REQUEST_LEN`] or [`LONG_REQUEST_LEN`] bytes, the first `text_len` of which are its.
///
/// Over TCP its time is [`Exchange::begin`] of its exchange.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub header: Header,
    /// Process at the other end of a local socket, as the kernel keeps it (`SO_PEERCRED`); 0 over TCP.
    pub peer: u32,
    /// 1 local, 2 and 10 TCP.
    pub family: u16,
    pub text_len: u16,
}
layout!(Request, size = 48, header = 0, peer = 40, family = 44, text_len = 46);

/// `include/uapi/linux/in.h`
pub const IPPROTO_TCP: u16 = 6;

/// `AF_UNIX`, `AF_INET` and `AF_INET6` of `include/linux/socket.h`.
pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// `TCP_SYN_SENT` and `TCP_CLOSE` of `include/net/tcp_states.h`.
pub const TCP_SYN_SENT: i32 = 2;
pub const TCP_CLOSE: i32 = 7;

/// Whether what was sent may be the beginning of an HTTP request; `first` are its first eight bytes, in memory order.
#[inline(always)]
pub const fn is_request(first: [u8; 8]) -> bool {
    const fn begins(first: [u8; 8], with: &[u8]) -> bool {
        let mut at = 0;
        while at < with.len() {
            if first[at] != with[at] {
                return false;
            }
            at += 1;
        }
        true
    }
    begins(first, b"GET /") || begins(first, b"POST /") || begins(first, b"HEAD /") || begins(first, b"DELETE /")
}

/// Largest message of HTTP/2 frames that is looked at. containerd's call to unpack a layer names the folder of each layer
/// below it, up to 127; what carries a layer itself fills frames of 16 KiB.
pub const MAX_FRAMES_LEN: u64 = 16 << 10;

/// What is smaller has no room for a digest.
pub const MIN_FRAMES_LEN: u64 = 80;

/// Whether what was sent may be HTTP/2 frames: the first is of less than 16 KiB, of a type up to WINDOW_UPDATE (those go
/// out together with the calls), with no flags but END_STREAM or ACK, END_HEADERS, PADDED and PRIORITY (RFC 9113,
/// sections 4.1 and 6).
#[inline(always)]
pub const fn is_frames(first: [u8; 8]) -> bool {
    first[0] == 0 && first[1] < 0x40 && first[3] <= 8 && first[4] & !0x2d == 0 && first[5] & 0x80 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that calls are known by their frames, and other frames and text are not.
    #[test]
    fn frames() {
        assert!(is_frames([0, 0, 0x50, 1, 4, 0, 0, 0]));
        assert!(is_frames([0, 1, 0, 0, 1, 0, 0, 0]));
        // WINDOW_UPDATE before a call.
        assert!(is_frames([0, 0, 4, 8, 0, 0, 0, 0]));
        // No type of frame, no flags of one, the preface and an HTTP/1 request.
        assert!(!is_frames([0, 0, 8, 9, 0, 0, 0, 0]));
        assert!(!is_frames([0, 0, 8, 1, 0x80, 0, 0, 0]));
        assert!(!is_frames(*b"PRI * HT"));
        assert!(!is_frames(*b"GET /v1."));
    }

    /// Make sure that the methods of engines' interfaces are known, and nothing else is.
    #[test]
    fn requests() {
        for text in [b"GET /v1.", b"POST /v1", b"HEAD /_p", b"DELETE /"] {
            assert!(is_request(*text));
        }
        for text in [
            b"GETTER /",
            b"PRI * HT",
            b"\x16\x03\x01\0\0\0\0\0",
            b"PATCH /x",
            b"POST  /v",
        ] {
            assert!(!is_request(*text));
        }
    }
}

//! Addresses of peers, and the time that an exchange with one takes.

use std::net::{IpAddr, SocketAddr};

use super::Span;
use crate::recording::record::Exchange;

/// The address of four or sixteen bytes in network order, in its shortest form; `None` of anything else.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|bytes| IpAddr::from(bytes).to_canonical()),
    }
}

/// `10.0.0.2:5000`; `None` of what is no address.
pub fn address(bytes: &[u8], port: u16) -> Option<String> {
    Some(SocketAddr::new(ip(bytes)?, port).to_string())
}

impl Exchange {
    /// Whether it has had no answer, and has not been broken off either.
    pub fn open(&self) -> bool {
        self.last == 0 && self.at.ts <= self.begin
    }

    /// From when the connection was asked for, of its first exchange, else from the first byte sent, to the last byte read;
    /// `end` is the recording's.
    pub fn span(&self, end: u64) -> Span {
        let from = match self.connect {
            0 => self.begin,
            connect => connect.min(self.begin),
        };
        let to = match self.last {
            0 if self.open() => end,
            0 => self.at.ts,
            last => last,
        };
        Span { from, to: to.max(from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that both lengths are read, a mapped address is told as what it is, and nothing else is an address.
    #[test]
    fn addresses() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
        let mut six = [0; 16];
        (six[0], six[15]) = (0x20, 7);
        assert_eq!(address(&[192, 0, 2, 1], 443).unwrap(), "192.0.2.1:443");
        assert_eq!(address(&mapped, 443).unwrap(), "192.0.2.1:443");
        assert_eq!(address(&six, 5000).unwrap(), "[2000::7]:5000");
        assert_eq!(address(&[1, 2], 1), None);
        assert_eq!(address(&[], 1), None);
    }
}

//! What waits were for.

use profiler_common::{awaited, awaited::flag, net, split};

use super::{Event, at, take};
use crate::recording::record::{Awaited, AwaitedFile, Record, Text};

pub(super) fn event(bytes: &[u8]) -> Option<Event> {
    let (event, mut tail) = split::<awaited::Awaited>(bytes)?;
    let count = usize::from(event.names);
    let mut path: Vec<Text> = Vec::new();
    for len in event.name_len.get(..count)? {
        let name = take(&mut tail, awaited::NAME_LEN)?;
        path.push(name.get(..usize::from(*len))?.to_vec());
    }
    let address = |bytes: &[u8; 16]| match event.family {
        net::AF_INET => bytes[..4].to_vec(),
        net::AF_INET6 => bytes.to_vec(),
        _ => Vec::new(),
    };
    Some(Event::Whole(Record::Awaited(Awaited {
        at: at(&event.header),
        off: event.off,
        file: AwaitedFile {
            dev: event.dev,
            ino: event.ino,
            mode: event.mode,
            family: event.family,
            socket_type: event.r#type,
            protocol: event.protocol,
            peer: event.peer_pid,
            local: address(&event.local),
            local_port: event.local_port,
            remote: address(&event.remote),
            remote_port: event.remote_port,
            path,
            cut: event.flags & flag::CUT != 0,
        },
    })))
}

#[cfg(test)]
mod tests {
    use profiler_common::{Header, awaited::NAME_LEN, kind};

    use super::super::{decode, tests::bytes};
    use super::*;

    /// Make sure that names come out from the file upward, and that an event that claims more than it holds is refused.
    #[test]
    fn names_of_a_path() {
        let mut event = awaited::Awaited {
            header: Header {
                kind: kind::AWAITED,
                ts: 9,
                ..Header::default()
            },
            off: 5,
            mode: awaited::mode::REGULAR | 0o600,
            names: 2,
            ..awaited::Awaited::default()
        };
        event.name_len[..2].copy_from_slice(&[12, 3]);
        let mut item = bytes(&event);
        for name in [&b"storage.lock"[..], b"var"] {
            let mut place = [0; NAME_LEN];
            place[..name.len()].copy_from_slice(name);
            item.extend(place);
        }
        let Ok(Event::Whole(Record::Awaited(awaited))) = decode(&item) else {
            panic!("not decoded");
        };
        assert_eq!(awaited.file.path, [b"storage.lock".to_vec(), b"var".to_vec()]);
        assert_eq!((awaited.at.ts, awaited.off, awaited.file.cut), (9, 5, false));
        assert!(decode(&item[..item.len() - 1]).is_err());
        event.names = 9;
        assert!(decode(&bytes(&event)).is_err());
    }

    /// Make sure that an address has as many bytes as its family.
    #[test]
    fn addresses() {
        for (family, len) in [(net::AF_INET, 4), (net::AF_INET6, 16), (net::AF_UNIX, 0), (16, 0)] {
            let event = awaited::Awaited {
                header: Header {
                    kind: kind::AWAITED,
                    ..Header::default()
                },
                family,
                remote: [7; 16],
                ..awaited::Awaited::default()
            };
            let Ok(Event::Whole(Record::Awaited(awaited))) = decode(&bytes(&event)) else {
                panic!("not decoded");
            };
            assert_eq!(awaited.file.remote, vec![7; len]);
        }
    }
}

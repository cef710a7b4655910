//! Sockets that begin to listen, memory, and kills for want of it.

use profiler_common::net::{AF_INET, AF_INET6};
use profiler_common::{listen, memory, memory::moment, split};

use super::{Event, at, comm, take, whole};
use crate::recording::record::{Listen, Memory, Moment, Oom, Record, TaskId};

pub(super) fn listen(bytes: &[u8]) -> Option<Event> {
    let (listen, mut tail) = split::<listen::Listen>(bytes)?;
    let path = take(&mut tail, listen.path_len.try_into().ok()?)?;
    // A path ends at its NUL, which the kernel counts; an abstract name begins with one.
    let path = match path {
        [0, ..] => path,
        _ => path.split(|byte| *byte == 0).next().unwrap_or_default(),
    };
    let address = match listen.family {
        AF_INET => listen.address.get(..4)?,
        AF_INET6 => &listen.address,
        _ => &[],
    };
    Some(Event::Whole(Record::Listen(Listen {
        at: at(&listen.header),
        enter: listen.enter,
        family: listen.family,
        socket_type: listen.r#type,
        protocol: listen.protocol,
        port: listen.port,
        address: address.to_vec(),
        path: path.to_vec(),
    })))
}

pub(super) fn memory(bytes: &[u8]) -> Option<Event> {
    let memory::Memory {
        header,
        rss,
        peak,
        max,
        memcg,
        memcg_peak,
        moment,
        memcg_hierarchy,
    } = whole(bytes)?;
    Some(Event::Whole(Record::Memory(Memory {
        at: at(&header),
        moment: match moment {
            moment::SAMPLE => Moment::Sample,
            moment::EXEC => Moment::Exec,
            moment::EXIT => Moment::Exit,
            moment::END => Moment::End,
            _ => return None,
        },
        rss: in_bytes(rss),
        peak: in_bytes(peak),
        max: in_bytes(max),
        memcg,
        memcg_peak: in_bytes(memcg_peak),
        memcg_hierarchy,
    })))
}

pub(super) fn oom(bytes: &[u8]) -> Option<Event> {
    let memory::Oom {
        header,
        victim_start,
        victim_cgroup,
        victim_rss,
        memcg,
        memcg_peak,
        memcg_hierarchy,
        victim_tgid,
        victim_tid,
        pad: _,
        comm: name,
    } = whole(bytes)?;
    Some(Event::Whole(Record::Oom(Oom {
        at: at(&header),
        victim: TaskId {
            tgid: victim_tgid,
            tid: victim_tid,
            start: victim_start,
        },
        victim_cgroup,
        victim_rss: in_bytes(victim_rss),
        memcg,
        memcg_peak: in_bytes(memcg_peak),
        memcg_hierarchy,
        comm: comm(&name),
    })))
}

/// The kernel counts pages.
fn in_bytes(pages: u64) -> u64 {
    pages.saturating_mul(rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use profiler_common::{Header, kind};

    use super::super::tests::bytes;
    use super::*;

    fn listening(family: u16, path: &[u8]) -> Listen {
        let mut address = [0; 16];
        address[..4].copy_from_slice(&[127, 0, 0, 1]);
        let mut item = bytes(&listen::Listen {
            header: Header {
                kind: kind::LISTEN,
                ..Header::default()
            },
            family,
            r#type: 1,
            port: 80,
            address,
            path_len: path.len() as u32,
            ..listen::Listen::default()
        });
        item.extend_from_slice(path);
        let Some(Event::Whole(Record::Listen(listen))) = listen(&item) else {
            panic!()
        };
        listen
    }

    /// Make sure that a path ends at its NUL, an abstract name does not, and an address is as long as its family's.
    #[test]
    fn addresses() {
        assert_eq!(listening(1, b"/run/a.sock\0junk").path, b"/run/a.sock");
        assert_eq!(listening(1, b"\0a\0b").path, b"\0a\0b");
        assert_eq!(listening(1, b"").path, b"");
        assert_eq!(listening(2, b"").address, [127, 0, 0, 1]);
        assert_eq!(listening(10, b"").address.len(), 16);
        assert!(listening(1, b"").address.is_empty());
    }

    /// Make sure that pages become bytes, and that a moment nobody knows is refused.
    #[test]
    fn moments() {
        let event = memory::Memory {
            rss: 2,
            peak: u64::MAX,
            moment: moment::EXIT,
            ..memory::Memory::default()
        };
        let Some(Event::Whole(Record::Memory(read))) = memory(&bytes(&event)) else {
            panic!()
        };
        assert_eq!(read.moment, Moment::Exit);
        assert_eq!(read.rss, 2 * rustix::param::page_size() as u64);
        assert_eq!(read.peak, u64::MAX);
        assert!(memory(&bytes(&memory::Memory { moment: 9, ..event })).is_none());
    }
}

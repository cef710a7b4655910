//! What tells more of a wait that an interrupt ended: whose answer it was, and whether that came from this host.

use std::collections::HashMap;

use profiler_common::awaited::mode;
use profiler_common::net::{AF_INET, AF_INET6};

use crate::model::{AwaitedIx, Session, Span, net};
use crate::recording::record::AwaitedFile;

/// Into [`Session::exchanges`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeIx(pub u32);

/// One end of a connection: addresses and ports, own first.
type End<'a> = (&'a [u8], u16, &'a [u8], u16);

/// Connections and exchanges of one session.
#[derive(Debug)]
pub(super) struct Links<'a> {
    session: &'a Session,
    /// Processes, by tgid, that waited at an end of a connection. Other network namespaces may have the same end.
    ends: HashMap<End<'a>, Vec<&'a [u32]>>,
    /// Of each process, by tgid, in order of their beginning.
    exchanges: HashMap<u32, Vec<(Span, ExchangeIx)>>,
}

impl<'a> Links<'a> {
    pub(super) fn new(session: &'a Session) -> Links<'a> {
        let mut ends: HashMap<End<'a>, Vec<&'a [u32]>> = HashMap::new();
        for one in session.awaited.all() {
            if let Some(end) = end(&one.file) {
                ends.entry(end).or_default().push(&one.by);
            }
        }
        let mut exchanges: HashMap<u32, Vec<(Span, ExchangeIx)>> = HashMap::new();
        for (index, exchange) in session.exchanges.iter().enumerate() {
            let of = exchanges.entry(exchange.at.task.tgid).or_default();
            of.push((exchange.span(session.span.to), ExchangeIx(index as u32)));
        }
        for of in exchanges.values_mut() {
            of.sort_unstable();
        }
        Links {
            session,
            ends,
            exchanges,
        }
    }

    /// Whether the thread of process `tgid` that an interrupt hit, which then ended a wait at that connection, is the one
    /// that sent.
    ///
    /// What is sent to the same host is delivered in a soft interrupt on top of the sender: `netif_rx` puts it into the
    /// queue of its CPU, and `__dev_queue_xmit` takes it out again when it allows soft interrupts, before the system call
    /// returns (net/core/dev.c). So over loopback it is always the sender; over a pair of virtual links if that process
    /// is known to have the other end.
    pub(super) fn is_peer(&self, awaited: AwaitedIx, tgid: u32) -> bool {
        let file = self.session.awaited.get(awaited).map(|one| &one.file);
        let Some((local, local_port, remote, remote_port)) = file.and_then(end) else {
            return false;
        };
        if local == remote || (is_loopback(local) && is_loopback(remote)) {
            return true;
        }
        let other = self.ends.get(&(remote, remote_port, local, local_port));
        other.is_some_and(|files| files.iter().any(|by| by.contains(&tgid)))
    }

    /// The exchange of process `tgid` whose answer was on its way for most of `span`.
    pub(super) fn answer(&self, tgid: u32, span: Span) -> Option<ExchangeIx> {
        let of = self.exchanges.get(&tgid)?;
        let begun = of.partition_point(|(exchange, _)| exchange.from < span.to);
        let overlaps = of[..begun]
            .iter()
            .map(|(exchange, ix)| (exchange.clip(span).len(), *ix));
        let (ns, ix) = overlaps.max_by_key(|(ns, ix)| (*ns, std::cmp::Reverse(*ix)))?;
        (ns > 0).then_some(ix)
    }
}

/// Its end of a connection; `None` of anything else.
fn end(file: &AwaitedFile) -> Option<End<'_>> {
    let internet = matches!(file.family, AF_INET | AF_INET6) && file.mode & mode::MASK == mode::SOCKET;
    (internet && file.remote_port != 0).then_some((
        file.local.as_slice(),
        file.local_port,
        file.remote.as_slice(),
        file.remote_port,
    ))
}

fn is_loopback(bytes: &[u8]) -> bool {
    net::ip(bytes).is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::record::{At, Exchange, TaskId};

    fn socket(local_port: u16, remote_port: u16) -> AwaitedFile {
        AwaitedFile {
            mode: mode::SOCKET | 0o777,
            family: AF_INET,
            local: vec![10, 0, 0, (local_port == 5000).into()],
            local_port,
            remote: vec![10, 0, 0, (remote_port == 5000).into()],
            remote_port,
            ..AwaitedFile::default()
        }
    }

    /// Make sure that the process at the other end of a connection is known, and no other is taken for it.
    #[test]
    fn peers() {
        let mut session = Session::default();
        let client = session.awaited.place(socket(40_000, 5000), 10, 1).unwrap();
        let alone = session.awaited.place(socket(40_001, 5000), 10, 1).unwrap();
        session.awaited.place(socket(5000, 40_000), 20, 2).unwrap();
        let listening = session.awaited.place(socket(5000, 0), 20, 1).unwrap();
        let links = Links::new(&session);
        assert!(links.is_peer(client, 20));
        assert!(!links.is_peer(client, 10));
        assert!(!links.is_peer(alone, 20));
        assert!(!links.is_peer(listening, 20));
    }

    /// Make sure that over loopback whoever delivers is the sender, in each way to write that address.
    #[test]
    fn loopback() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 1, 2, 3];
        let own = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        for address in [&[127, 0, 0, 9][..], &mapped, &own] {
            assert!(is_loopback(address), "{address:?}");
        }
        for address in [&[10, 0, 0, 1][..], &[1], &[0; 16], &[]] {
            assert!(!is_loopback(address), "{address:?}");
        }
    }

    /// Make sure that the exchange that was waited for longest is the one, and that one of another process or time is none.
    #[test]
    fn answers() {
        let exchange = |tgid, begin, last| Exchange {
            at: At {
                ts: last,
                task: TaskId {
                    tgid,
                    tid: tgid,
                    start: 1,
                },
                cgroup: 1,
                mnt_ns: 1,
                cpu: 0,
            },
            connect: 0,
            begin,
            last,
            sent: 1,
            received: 1,
            address: vec![10, 0, 0, 2],
            port: 5000,
        };
        let session = Session {
            exchanges: vec![exchange(7, 100, 200), exchange(7, 150, 400), exchange(8, 0, 900)],
            ..Session::default()
        };
        let links = Links::new(&session);
        let span = |from, to| Span { from, to };
        assert_eq!(links.answer(7, span(150, 300)), Some(ExchangeIx(1)));
        assert_eq!(links.answer(7, span(90, 180)), Some(ExchangeIx(0)));
        assert_eq!(links.answer(7, span(400, 500)), None);
        assert_eq!(links.answer(9, span(0, 900)), None);
    }
}

//! What the files, pipes and sockets that threads waited at are called.

use profiler_common::awaited::mode;
use profiler_common::net::{AF_INET, AF_INET6, AF_UNIX};

use super::{names, text};
use crate::model::{AwaitedIx, Session, State, net};
use crate::recording::record::AwaitedFile;

/// `IPPROTO_UDP` of `include/uapi/linux/in.h`.
const UDP: u16 = 17;
/// The port that name servers answer at (RFC 1035, section 4.2).
const DNS: u16 = 53;
/// Widest path, columns.
const PATH: usize = 80;

/// At what a wait was, harmless text: `10.0.0.2:5000`, `storage/storage.lock`, `dockerd`. `None` when that was not
/// recorded or has no name, as a pipe has none.
pub fn at(session: &Session, state: State) -> Option<String> {
    let State::Blocked { awaited, .. } = state else {
        return None;
    };
    called(session, awaited?)
}

/// What one of [`Session::awaited`] is called.
pub fn called(session: &Session, ix: AwaitedIx) -> Option<String> {
    let one = session.awaited.get(ix)?;
    let file = &one.file;
    match (file.mode & mode::MASK, file.family) {
        (mode::SOCKET, AF_INET | AF_INET6) => internet(file),
        (mode::SOCKET, AF_UNIX) => {
            let process = session.processes.get(one.peer?.ix())?;
            Some(text::visible(names::program(process.image_at(one.ts)?)))
        }
        (mode::REGULAR | mode::FOLDER | mode::BLOCK, _) => path(file),
        _ => None,
    }
}

/// The peer's address; of a socket that has none, its own port.
fn internet(file: &AwaitedFile) -> Option<String> {
    let udp = if file.protocol == UDP { "udp " } else { "" };
    match (file.remote_port, file.local_port) {
        (0, 0) => None,
        (0, own) => Some(format!("own {udp}port {own}")),
        (DNS, _) => Some(format!("name server {}", net::ip(&file.remote)?)),
        (port, _) => Some(format!("{udp}{}", net::address(&file.remote, port)?)),
    }
}

/// From the root of the file system, or the last folders of a path that was cut.
fn path(file: &AwaitedFile) -> Option<String> {
    let names: Vec<String> = file.path.iter().rev().map(|name| text::visible(name)).collect();
    if names.is_empty() {
        return None;
    }
    let whole = format!("{}/{}", if file.cut { "…" } else { "" }, names.join("/"));
    // The end tells more than the beginning.
    let columns = text::width(&whole);
    if columns <= PATH {
        return Some(whole);
    }
    let mut kept = String::new();
    for name in names.iter().rev() {
        if text::width(&kept) + text::width(name) + 2 > PATH {
            break;
        }
        kept = format!("/{name}{kept}");
    }
    Some(if kept.is_empty() {
        text::fit(&whole, PATH)
    } else {
        format!("…{kept}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: AwaitedFile) -> Option<String> {
        let mut session = crate::report::fixture::session();
        let ix = session.awaited.place(file, 1, 0).unwrap();
        called(&session, ix)
    }

    /// Make sure that a socket is called by its peer's address, and one without a peer by its own port.
    #[test]
    fn sockets() {
        let tcp = AwaitedFile {
            mode: mode::SOCKET | 0o777,
            family: AF_INET,
            protocol: 6,
            local: vec![10, 0, 0, 1],
            local_port: 40_000,
            remote: vec![10, 0, 0, 2],
            remote_port: 5000,
            ..AwaitedFile::default()
        };
        assert_eq!(named(tcp.clone()).unwrap(), "10.0.0.2:5000");
        let listening = AwaitedFile {
            remote_port: 0,
            ..tcp.clone()
        };
        assert_eq!(named(listening).unwrap(), "own port 40000");
        let mapped = AwaitedFile {
            family: AF_INET6,
            remote: vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4],
            ..tcp.clone()
        };
        assert_eq!(named(mapped).unwrap(), "1.2.3.4:5000");
        let dns = AwaitedFile {
            protocol: UDP,
            remote_port: DNS,
            ..tcp.clone()
        };
        assert_eq!(named(dns).unwrap(), "name server 10.0.0.2");
        // A recording may claim anything.
        let broken = AwaitedFile {
            remote: vec![1, 2],
            ..tcp
        };
        assert_eq!(named(broken), None);
    }

    /// Make sure that a path is told whole or by its end, and that hostile names are harmless.
    #[test]
    fn paths() {
        let file = |names: &[&[u8]], cut| AwaitedFile {
            mode: mode::REGULAR | 0o644,
            path: names.iter().map(|name| name.to_vec()).collect(),
            cut,
            ..AwaitedFile::default()
        };
        assert_eq!(named(file(&[b"lock", b"run"], false)).unwrap(), "/run/lock");
        assert_eq!(named(file(&[b"lock", b"run"], true)).unwrap(), "…/run/lock");
        assert_eq!(named(file(&[], false)), None);
        let long = [&[b'x'; 60][..]; 8];
        let told = named(file(&long, false)).unwrap();
        assert!(told.starts_with("…/x") && text::width(&told) <= PATH, "{told}");
        let hostile = named(file(&[b"a\x1b[2J\n"], false)).unwrap();
        assert!(!hostile.contains(['\x1b', '\n']), "{hostile}");
        let pipe = AwaitedFile {
            mode: mode::PIPE,
            ..AwaitedFile::default()
        };
        assert_eq!(named(pipe), None);
    }
}

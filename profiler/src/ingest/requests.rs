//! What is kept of a request that was seen: its method, its path, and of its query what names an image or a container;
//! of a call of containerd's the digests and ids in it.

use crate::recording::record::{At, Request, Text};

/// The words of a query that are kept: names in the interfaces of docker and podman. Everything else (build arguments,
/// registries' tokens, labels) never leaves this file, nor do headers and bodies.
const KEPT: &[&[u8]] = &[
    b"container",
    b"dockerfile",
    b"fromImage",
    b"name",
    b"names",
    b"platform",
    b"reference",
    b"repo",
    b"t",
    b"tag",
    b"target",
];

/// [`Request::method`] of a message of HTTP/2 frames.
const FRAMES: &[u8] = b"frames";
/// The most digests and ids that are taken from one message.
const MAX_NAMES: usize = 16;

/// Reads the beginning of what was sent.
pub(super) fn read(at: At, peer: u32, text: &[u8]) -> Request {
    match text.first() {
        Some(byte) if byte.is_ascii_uppercase() => request(at, peer, text),
        _ => Request {
            at,
            peer,
            method: FRAMES.to_vec(),
            path: Text::new(),
            query: names(text),
        },
    }
}

/// The digests (`sha256:` and 64 hex digits) and ids (64 hex digits) in a message, and the folder of containerd's that
/// its first path names, in their order: strings stand in protobuf as they are. Nothing else of it is kept.
fn names(message: &[u8]) -> Vec<(Text, Text)> {
    const HEX: usize = 64;
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut found = Vec::new();
    let mut folder = snapshot(message);
    let mut at = 0;
    while at + HEX <= message.len() && found.len() < MAX_NAMES {
        if let Some((_, name)) = folder.take_if(|(place, _)| *place < at) {
            found.push((b"snapshot".to_vec(), name));
        }
        let Some(other) = message[at..at + HEX].iter().rposition(|byte| !digit(byte)) else {
            let name = &message[at..at + HEX];
            found.push(match message[..at].strip_suffix(b"sha256:") {
                Some(_) => (b"digest".to_vec(), [b"sha256:", name].concat()),
                None => (b"id".to_vec(), name.to_vec()),
            });
            at += HEX;
            continue;
        };
        at += other + 1;
    }
    found.extend(folder.map(|(_, name)| (b"snapshot".to_vec(), name)));
    found
}

/// Place and number of the first folder `snapshots/N/…` that a message names. Of an overlay's options that is the writable one
/// (`workdir=`, `upperdir=` stand before `lowerdir=`; containerd `snapshots/overlay/overlay.go`).
fn snapshot(message: &[u8]) -> Option<(usize, Text)> {
    const FOLDER: &[u8] = b"/snapshots/";
    /// Digits of the largest number.
    const LONGEST: usize = 20;
    let at = message.windows(FOLDER.len()).position(|part| part == FOLDER)?;
    let rest = &message[at + FOLDER.len()..];
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = (1..=LONGEST).contains(&digits) && rest.get(digits) == Some(&b'/');
    whole.then(|| (at, rest[..digits].to_vec()))
}

/// Reads an HTTP request's first line.
fn request(at: At, peer: u32, text: &[u8]) -> Request {
    let line = text
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    // One that was cut keeps what there is.
    let mut words = line.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default().to_vec();
    let target = words.next().unwrap_or_default();
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = unescape(parts.next().unwrap_or_default());
    let query = parts.next().unwrap_or_default().split(|byte| *byte == b'&');
    let query = query.filter_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (key, value) = (parts.next()?, parts.next()?);
        KEPT.contains(&key).then(|| (key.to_vec(), unescape(value)))
    });
    Request {
        at,
        peer,
        method,
        path,
        query: query.collect(),
    }
}

/// `%2F` and `+` as what they stand for.
fn unescape(text: &[u8]) -> Text {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(tail.first()), hex(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::fixture::{at, leader};

    fn read(text: &str) -> Request {
        super::read(at(leader(1, 1), 1), 7, text.as_bytes())
    }

    /// Make sure that a pull's image is kept, unescaped, and that the headers are not.
    #[test]
    fn names() {
        let request = read(
            "POST /v1.41/images/create?fromImage=localhost%3A5000%2Fapp&tag=1 HTTP/1.1\r\nHost: docker\r\n\
             X-Registry-Auth: c2VjcmV0\r\n\r\n",
        );
        assert_eq!(
            (&request.method[..], &request.path[..]),
            (&b"POST"[..], &b"/v1.41/images/create"[..])
        );
        let kept: Vec<(&[u8], &[u8])> = request
            .query
            .iter()
            .map(|(key, value)| (&key[..], &value[..]))
            .collect();
        assert_eq!(kept, [(&b"fromImage"[..], &b"localhost:5000/app"[..]), (b"tag", b"1")]);
    }

    /// Make sure that of a message of frames only digests and ids are kept.
    #[test]
    fn frames() {
        let hex = "0123456789abcdef".repeat(4);
        let request = read(&format!(
            "\0\0\x10\x00secret sha256:{hex}\x12\x40{hex}z token{}",
            &hex[1..]
        ));
        assert_eq!(request.method, b"frames");
        assert_eq!(
            request.query,
            [
                (b"digest".to_vec(), format!("sha256:{hex}").into_bytes()),
                (b"id".to_vec(), hex.clone().into_bytes())
            ]
        );
        for length in 0..80 {
            read(&format!("\0{}", &hex.repeat(2)[..length]));
        }
    }

    /// Make sure that a message tells the folder that is unpacked into, not those below it, and no other path.
    #[test]
    fn snapshots() {
        let folder = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let request = read(&format!(
            "\0\0\x10\x00workdir={folder}/12/work\x1aupperdir={folder}/12/fs\x1alowerdir={folder}/7/fs"
        ));
        assert_eq!(request.query, [(b"snapshot".to_vec(), b"12".to_vec())]);
        // Between what was named before and what comes after it.
        let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
        let (blob, other) = (digest("a"), digest("b"));
        let call = read(&format!("\0\0\x10\x00{blob} {folder}/12/work {folder}/7/fs {other}"));
        let kept: Vec<&[u8]> = call.query.iter().map(|(_, value)| value.as_slice()).collect();
        assert_eq!(kept, [blob.as_bytes(), b"12", other.as_bytes()]);
        // Cut before its end, no number, a file of another's.
        for path in ["/12", "/", "/x12/fs", "/123456789012345678901/fs"] {
            assert_eq!(read(&format!("\0\0\x10\x00{folder}{path}")).query, []);
        }
    }

    /// Make sure that nothing of a query that can hold a secret is kept, and that a cut or broken one does no harm.
    #[test]
    fn secrets() {
        let request = read("POST /v1.41/build?buildargs=%7B%22TOKEN%22%3A%22x%22%7D&t=app&labels=%7B%7D HTTP/1.1\r\n");
        assert_eq!(request.query, [(b"t".to_vec(), b"app".to_vec())]);
        assert!(!format!("{request:?}").contains("TOKEN"));
        for text in ["GET /a%", "GET /a%2", "GET", "", "GET /v2/?x", "POST /x?name=%zz&t"] {
            read(text);
        }
        assert_eq!(read("GET /a%zz HTTP/1.1").path, b"/a%zz");
    }
}

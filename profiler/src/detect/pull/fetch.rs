//! What was fetched from registries: exchanges with what they asked for.
//!
//! `GET /v2/NAME/manifests/TAG` and `GET /v2/NAME/blobs/DIGEST` (OCI distribution specification) are readable unless the
//! connection is encrypted; then a blob is known by its size, if only one layer has it.

use std::collections::HashMap;

use super::{Store, Threads};
use crate::detect::context::Context;
use crate::model::{ProcessIx, Span, net};
use crate::recording::record::{Exchange, Request, Text};

/// What an answer may have on top of a blob: headers (registries send some 500 bytes), and records of an encrypted
/// connection, 29 bytes for each of 1.4 to 16 KiB.
const HEADERS: u64 = 8 << 10;
const RECORDS: u64 = 50;
/// What is smaller and names nothing is no layer: tokens, redirections, handshakes.
const CONTENT: u64 = 16 << 10;

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// Tag or digest.
    Manifest(Text),
    /// A blob; its digest is [`Fetch::blob`].
    Blob,
    /// A ping, a token, or nothing that can be told.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Fetch {
    pub process: ProcessIx,
    pub span: Span,
    pub open: bool,
    pub what: What,
    /// Empty when the connection is encrypted.
    pub repository: Text,
    /// `sha256:…`; empty when it is not known.
    pub blob: Text,
    /// Headers and all.
    pub received: u64,
    address: Vec<u8>,
    port: u16,
}

impl Fetch {
    pub(super) fn is_blob(&self, digest: &[u8]) -> bool {
        self.what == What::Blob && self.blob == digest
    }

    /// Whether it brought, or would have brought, a manifest or a blob.
    pub(super) fn is_content(&self) -> bool {
        self.what != What::Other || self.received >= CONTENT
    }

    /// Whether it is a layer's, as opposed to an image's configuration.
    pub(super) fn is_layer(&self, context: &Context<'_>) -> bool {
        let is_configuration = || context.session.images.iter().any(|image| image.id == self.blob);
        match self.what {
            What::Blob => !is_configuration(),
            What::Manifest(_) => false,
            What::Other => self.received >= CONTENT,
        }
    }

    /// The blob's size where the answer was that, else what was received.
    pub(super) fn size(&self, store: &Store<'_>) -> u64 {
        store
            .blob_bytes(&self.blob)
            .filter(|size| may_be(*size, self.received))
            .unwrap_or(self.received)
    }

    /// `192.0.2.1:443`
    pub(super) fn peer(&self) -> String {
        peer(&self.address, self.port)
    }
}

pub(super) fn peer(address: &[u8], port: u16) -> String {
    net::address(address, port).unwrap_or_else(|| format!("port {port}"))
}

/// Whether so many bytes can have brought a blob of that size.
fn may_be(size: u64, received: u64) -> bool {
    let most = size.saturating_add(size / RECORDS).saturating_add(HEADERS);
    (size..=most).contains(&received)
}

/// All fetches, in order of their beginning.
pub(super) fn find(context: &Context<'_>, threads: &Threads, store: &Store<'_>) -> Vec<Fetch> {
    let session = context.session;
    let asked: HashMap<(u32, u64), &Request> = session
        .requests
        .iter()
        .filter(|request| request.peer == 0)
        .map(|request| ((request.at.task.tgid, request.at.ts), request))
        .collect();
    let mut fetches = Vec::new();
    for exchange in &session.exchanges {
        let Some((_, process)) = threads.get(&exchange.at.task) else {
            continue;
        };
        let request = asked.get(&(exchange.at.task.tgid, exchange.begin)).copied();
        if let Some(fetch) = fetch(exchange, *process, request, session.span, store) {
            fetches.push(fetch);
        }
    }
    fetches
}

fn fetch(
    exchange: &Exchange,
    process: ProcessIx,
    request: Option<&Request>,
    session: Span,
    store: &Store<'_>,
) -> Option<Fetch> {
    let (what, repository, digest) = match request {
        Some(request) => asked_for(request)?,
        None => (What::Other, Text::new(), Text::new()),
    };
    let mut fetch = Fetch {
        process,
        span: exchange.span(session.to),
        open: exchange.open(),
        what,
        repository,
        blob: digest,
        received: exchange.received,
        address: exchange.address.clone(),
        port: exchange.port,
    };
    if request.is_none() && fetch.received >= CONTENT {
        let mut sized: Vec<&[u8]> = store
            .by_blob
            .iter()
            .filter(|(_, layers)| {
                let size = layers.iter().find_map(|layer| layer.blob_bytes);
                size.is_some_and(|size| may_be(size, fetch.received))
            })
            .map(|(blob, _)| *blob)
            .collect();
        if let (Some(blob), true) = (sized.pop(), sized.is_empty()) {
            fetch.blob = blob.to_vec();
            fetch.what = What::Blob;
        }
    }
    Some(fetch)
}

/// What a request asks a registry for; `None` for one that puts something there, or that is no registry's.
fn asked_for(request: &Request) -> Option<(What, Text, Text)> {
    let rest = request.path.strip_prefix(b"/v2/");
    let Some(rest) = rest else {
        // A token's server, or what a registry has redirected to.
        return (request.method == b"GET").then(|| (What::Other, Text::new(), Text::new()));
    };
    if request.method != b"GET" && request.method != b"HEAD" {
        return None;
    }
    let find = |word: &[u8]| rest.windows(word.len()).rposition(|part| part == word);
    if let Some(at) = find(b"/manifests/") {
        let reference = rest[at + b"/manifests/".len()..].to_vec();
        return Some((What::Manifest(reference), rest[..at].to_vec(), Text::new()));
    }
    if let Some(at) = find(b"/blobs/") {
        let digest = rest[at + b"/blobs/".len()..].to_vec();
        // One that asks whether it is there, before it is sent.
        let what = (request.method == b"GET").then_some(What::Blob)?;
        return Some((what, rest[..at].to_vec(), digest));
    }
    rest.is_empty().then(|| (What::Other, Text::new(), Text::new()))
}

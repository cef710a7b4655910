//! `report`: one page for people, in a file of its own that needs no network.
//!
//! The page is made of four parts that are checked in beside this file: markup, style, scripts, and the data, which is
//! deflated JSON in base64 within a `<script type="application/json">`: no text of a traced process is ever markup.
//! The scripts put it on the page as text. A strict content security policy names the style and the scripts by their
//! hashes, so that nothing else runs or loads.

mod baseline;
mod collect;
mod data;
mod facts;
mod layers;
mod paths;
mod stacks;
mod strings;
mod strip;

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha2::{Digest, Sha256};

use crate::model::Session;

const MARKUP: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// One subject each; they share a scope of their own.
const SCRIPTS: [&str; 11] = [
    include_str!("script/basics.js"),
    include_str!("script/data.js"),
    include_str!("script/paint.js"),
    include_str!("script/head.js"),
    include_str!("script/tree.js"),
    include_str!("script/timeline.js"),
    include_str!("script/flame.js"),
    include_str!("script/detail.js"),
    include_str!("script/tables.js"),
    include_str!("script/layers.js"),
    include_str!("script/main.js"),
];

/// The report page; with an earlier recording, what has changed since.
///
/// # Errors
///
/// None that depends on the session: its data can always be written as JSON.
pub fn render(session: &Session, baseline: Option<&Session>) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(&collect::data(session, baseline))?;
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(&json)?;
    let data = STANDARD.encode(encoder.finish()?);
    Ok(assemble(&data).into_bytes())
}

/// The page around its data, which is base64 and so can't close an element.
fn assemble(data: &str) -> String {
    let script = format!("\"use strict\";(function(){{\n{}\n}})();\n", SCRIPTS.join("\n"));
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())));
    // In order: no part is searched for the marks of the others.
    let mut page = String::with_capacity(MARKUP.len() + STYLE.len() + script.len() + data.len() + 256);
    let mut rest = MARKUP;
    for (mark, part) in [
        ("{{script-hash}}", &hash(&script)),
        ("{{style-hash}}", &hash(STYLE)),
        ("{{style}}", &STYLE.to_owned()),
        ("{{data}}", &format!("\"{data}\"")),
        ("{{script}}", &script),
    ] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        page.push_str(before);
        page.push_str(part);
        rest = after;
    }
    page.push_str(rest);
    page
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::model::{Session, disk};
    use crate::report::fixture;

    fn page(session: &Session) -> String {
        String::from_utf8(render(session, None).unwrap()).unwrap()
    }

    /// The data within a page, as the browser reads it.
    fn data(page: &str) -> serde_json::Value {
        let (_, rest) = page
            .split_once("<script type=\"application/json\" id=\"data\">")
            .unwrap();
        let (text, _) = rest.split_once("</script>").unwrap();
        let base64: String = serde_json::from_str(text).unwrap();
        let mut json = String::new();
        let deflated = STANDARD.decode(base64).unwrap();
        flate2::read::ZlibDecoder::new(&deflated[..])
            .read_to_string(&mut json)
            .unwrap();
        serde_json::from_str(&json).unwrap()
    }

    /// Make sure that the page is whole, names its own style and script in its policy and loads nothing.
    #[test]
    fn page_is_whole() {
        let page = page(&fixture::session());
        assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
        assert!(!page.contains("{{") && !page.contains("}}\""));
        for (open, close) in [("<style>", "</style>"), ("<script>", "</script>")] {
            let (_, rest) = page.split_once(open).unwrap();
            let (text, _) = rest.split_once(close).unwrap();
            let hash = STANDARD.encode(Sha256::digest(text.as_bytes()));
            assert!(page.contains(&format!("'sha256-{hash}'")), "{open}");
        }
        for loads in [
            "src=",
            "href=",
            "url(",
            "@import",
            "http:",
            "https:",
            "unsafe-inline",
            "innerHTML",
            "eval(",
        ] {
            assert!(!page.contains(loads), "{loads}");
        }
    }

    /// Make sure that text of a traced process is in the data alone, escaped, wherever it comes from.
    #[test]
    fn hostile_text_is_data() {
        let mut session = fixture::session();
        session.meta.hostname = fixture::HOSTILE.to_owned();
        session.meta.command = vec![fixture::HOSTILE.into(), vec![0xff; 100_000]];
        session.operations[0].name = fixture::HOSTILE.to_owned();
        session.containers[0].name = fixture::HOSTILE.into();
        session.phases[4].label = "</script><script>alert(1)</script>\n".repeat(3_000).into_bytes();
        let page = page(&session);
        assert_eq!(page.matches("<script").count(), 2);
        assert!(!page.contains("alert(1)"));
        let data = data(&page).to_string();
        assert!(data.contains("<img src=x onerror=alert(1)>"));
        assert!(!data.contains("\\u001b") && !data.contains('\u{202e}'));
        assert!(page.len() < 400_000, "{}", page.len());
    }

    /// Make sure that the data tells the phases' figures, and that a session without anything gives a page.
    #[test]
    fn figures_are_there() {
        let session = fixture::session();
        let data = data(&page(&session));
        let states = data["states"].as_array().unwrap().len();
        for (index, phase) in session.phases.iter().enumerate() {
            let wall = &data["phases"]["wall"].as_array().unwrap()[index * states..(index + 1) * states];
            let sum: u64 = wall.iter().map(|ns| ns.as_u64().unwrap()).sum();
            assert_eq!(sum, phase.span.len());
        }
        assert_eq!(data["head"]["phase"], 4);
        assert!(data["baseline"].is_null());
        let empty = self::data(&page(&Session::default()));
        assert_eq!(empty["head"]["phase"], -1);
    }

    /// Make sure that an earlier recording's time is told by this one's phases, and all of it.
    #[test]
    fn earlier_recording() {
        let session = fixture::session();
        let mut new = fixture::session();
        new.phases[5].span.to += 100 * fixture::MS;
        let page = String::from_utf8(render(&new, Some(&session)).unwrap()).unwrap();
        let data = data(&page);
        let old = &data["baseline"];
        assert_eq!(old["gone"], 0);
        assert_eq!(old["wall"][5], 400 * fixture::MS);
        let rows = old["rows"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|rows| rows.as_array().unwrap());
        let ns: u64 = rows.skip(1).step_by(3).map(|ns| ns.as_u64().unwrap()).sum();
        assert_eq!(ns, session.threads.iter().map(|thread| thread.span.len()).sum::<u64>());
    }

    /// Make sure that layers, copy-ups and files stand on the page as text, and their bytes in a flamegraph of their own.
    #[test]
    fn layers_are_there() {
        let session = fixture::disk::with_disk();
        let data = data(&page(&session));
        assert_eq!(data["layers"][0]["rows"][1][0], "1 abababababab");
        assert_eq!(data["moves"][0]["rows"][0][1], "20.0 ms");
        let rows = data["flame"]["moved"].as_array().unwrap().iter();
        let rows = rows.flat_map(|rows| rows.as_array().unwrap());
        let bytes: u64 = rows.skip(1).step_by(3).map(|bytes| bytes.as_u64().unwrap()).sum();
        assert_eq!(bytes, 19 * fixture::disk::PAGE);
        assert!(!data.to_string().contains("\\u001b"));
    }

    /// Make sure that disk traffic, deletes, calls and devices stand on the page.
    #[test]
    fn traffic_is_there() {
        let mut session = fixture::disk::with_disk();
        let thread = session.copy_ups[0].thread;
        session.whiteouts.push(disk::Whiteout {
            ts: session.copy_ups[0].span.from,
            thread,
            syscall: 87,
            cgroup: 0,
        });
        session
            .meta
            .probes
            .push(("file_call_ends".to_owned(), "tp_btf".to_owned()));
        session.file_calls.push(disk::FileCalls {
            thread,
            span: session.copy_ups[0].span,
            file: session.page_runs[0].file,
            read: disk::CallSum {
                calls: 7,
                bytes: 28_672,
                ns: 9_000,
            },
            written: disk::CallSum::default(),
            synced: disk::CallSum::default(),
            cgroup: 0,
        });
        let data = data(&page(&session));
        let tables = data["disk"].as_array().unwrap();
        let titles: Vec<_> = tables.iter().map(|table| &table["title"]).collect();
        assert_eq!(titles, ["Disk", "File calls", "Block devices"]);
        let container = |table: &serde_json::Value| table["rows"][0].as_array().unwrap().clone();
        assert_eq!(
            container(&tables[0]),
            [
                "container buildah-buildah1234567890",
                "41.0 kB",
                "36.9 kB",
                "24.6 kB",
                "1",
                "20.0 ms",
                "1"
            ]
        );
        assert_eq!(container(&tables[1])[1..4], ["7", "28.7 kB", "9.00 µs"]);
        assert_eq!(tables[2]["rows"][0][0], "device 8:0");
        let detail = data["layers"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("1 name of lower layers deleted"), "{detail}");
        let moves = data["moves"].as_array().unwrap();
        let called = moves.iter().find(|table| table["title"] == "Files by calls").unwrap();
        assert_eq!(called["rows"][0][0], "9.00 µs");
    }
}

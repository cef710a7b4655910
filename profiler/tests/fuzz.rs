//! Broken and hostile recordings by the million: one target for the reader, one for everything that is made of records
//! (model, phases, every report). Mutations are seeded, so a finding can be made again; what fails is kept.
//!
//! `PHASEGRAPH_FUZZ_SECONDS=3600 PHASEGRAPH_FUZZ_SEED=7 cargo test -p phasegraph --test fuzz -- --nocapture` goes on for
//! longer. Without it, a minute each where `CI` is set, and some seconds elsewhere. `PHASEGRAPH_FUZZ_CORPUS=DIR` adds
//! recordings to begin with. Stable Rust has no coverage feedback, so blocks are sealed anew after each mutation: the
//! checksums would keep all but one in four billion from the decoder.
#![expect(clippy::unwrap_used, reason = "tests")]

#[path = "support/hostile.rs"]
mod hostile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use phasegraph::model::build::Builder;
use phasegraph::model::{Session, verify};
use phasegraph::recording::Reader;
use phasegraph::recording::format::{
    BlockHeader, FILE_HEADER_LEN, FileHeader, MAX_RAW, codec, put_varint, take_varint,
};
use phasegraph::recording::record::Record;
use phasegraph::report::export::{Error, Request, SINKS};
use phasegraph::report::flame::{self, Kind};
use phasegraph::report::select::Selection;
use phasegraph::report::{html, terminal};

/// No recording of these sizes may take longer; a thousand times what one takes.
const SLOWEST: Duration = Duration::from_secs(60);
/// Largest input, bytes.
const LARGEST: usize = 2 << 20;

/// xorshift64*: spread is all that is asked of it.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    fn one_in(&mut self, chance: usize) -> bool {
        self.below(chance) == 0
    }
}

fn seconds() -> Duration {
    let asked = std::env::var("PHASEGRAPH_FUZZ_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let usual = if std::env::var_os("CI").is_some() { 60 } else { 5 };
    Duration::from_secs(asked.unwrap_or(usual))
}

fn seed() -> u64 {
    let asked = std::env::var("PHASEGRAPH_FUZZ_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    asked.unwrap_or(1)
}

/// Whole recordings to begin with: one of every kind of record, the hostile one, and those that are given.
fn corpus() -> Vec<Vec<u8>> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let mut files: Vec<PathBuf> = files(&golden);
    if let Some(folder) = std::env::var_os("PHASEGRAPH_FUZZ_CORPUS") {
        files.extend(self::files(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hostile.phg");
    hostile::write(&path, 64);
    files.push(path);
    let corpus: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    assert!(corpus.len() >= 2 && corpus.iter().all(|bytes| bytes.len() > FILE_HEADER_LEN));
    corpus
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "phg"))
        .collect();
    files.sort();
    files
}

/// Kind and bytes of every record, framing off.
fn records(bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let reader = Reader::from_bytes(bytes.to_vec()).unwrap();
    reader
        .map(|record| (u32::from(record.kind()), record.encode(Vec::new()).unwrap()))
        .collect()
}

/// Payloads as a recording, checksums and lengths right.
fn sealed(payloads: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let id = 0x5eed_5eed_5eed_5eed;
    let header = FileHeader {
        major: 1,
        minor: 0,
        contract: 1,
        id,
    };
    let mut bytes = header.encode().to_vec();
    for (sequence, payload) in payloads.iter().enumerate() {
        let raw = payload.len().min(MAX_RAW);
        let payload = &payload[..raw];
        let packed = random.one_in(4).then(|| zstd::bulk::compress(payload, 1).unwrap());
        let packed = packed.filter(|packed| packed.len() < raw);
        let (codec, stored) = match &packed {
            Some(packed) => (codec::ZSTD, &packed[..]),
            None => (codec::NONE, payload),
        };
        let header = BlockHeader {
            id,
            sequence: sequence as u64,
            first: 0,
            last: 0,
            stored: stored.len() as u32,
            raw: raw as u32,
            records: 1,
            codec,
            crc: crc32fast::hash(stored),
        };
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(stored);
    }
    bytes
}

/// Changes bytes: flips, interesting values, inserts, deletes, copies from elsewhere.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x10, 0x40];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = EDGES[random.below(EDGES.len())],
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            3 => bytes.insert(at, EDGES[random.below(EDGES.len())]),
            4 => {
                // A varint as long as there is one.
                let end = (at + 10).min(bytes.len());
                bytes.splice(at..end, [0xff; 9].into_iter().chain([1]));
            }
            5 => {
                let end = (at + random.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
            _ if !other.is_empty() => {
                let from = random.below(other.len());
                let end = (from + random.below(64)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {}
        }
    }
    bytes.truncate(LARGEST);
}

/// A list of records with some changed, dropped, doubled, moved, or of another recording.
fn mutated(own: &[(u32, Vec<u8>)], others: &[(u32, Vec<u8>)], random: &mut Random) -> Vec<(u32, Vec<u8>)> {
    let mut records = own.to_vec();
    for _ in 0..=random.below(24) {
        let at = random.below(records.len());
        match random.below(8) {
            0 if records.len() > 1 => drop(records.remove(at)),
            1 => {
                let copy = records[at].clone();
                records.insert(random.below(records.len() + 1), copy);
            }
            2 => {
                let other = random.below(records.len());
                records.swap(at, other);
            }
            3 => {
                let other = others[random.below(others.len())].clone();
                records.insert(at, other);
            }
            4 => {
                let kind = others[random.below(others.len())].0;
                records[at].0 = kind;
            }
            _ => {
                let other = others[random.below(others.len())].1.clone();
                mutate(&mut records[at].1, &other, random);
            }
        }
    }
    records
}

/// Records as payloads of blocks; the framing of some is a lie.
fn payloads(records: &[(u32, Vec<u8>)], lie: bool, random: &mut Random) -> Vec<Vec<u8>> {
    let size = 1 + random.below(records.len());
    records
        .chunks(size)
        .map(|records| {
            let mut payload = Vec::new();
            for (kind, bytes) in records {
                put_varint(&mut payload, *kind);
                let length = match lie && random.one_in(64) {
                    true => random.next() as u32,
                    false => bytes.len() as u32,
                };
                put_varint(&mut payload, length);
                payload.extend_from_slice(bytes);
            }
            payload
        })
        .collect()
}

/// Runs `target` on mutated input until the time is up; the number of inputs. What makes it panic, or take too long, is
/// kept below the build's own folder.
fn run(name: &str, mut make: impl FnMut(&mut Random) -> Vec<u8>, mut target: impl FnMut(Vec<u8>)) -> u64 {
    let mut random = Random(seed().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (start, limit) = (Instant::now(), seconds());
    let mut inputs = 0;
    while start.elapsed() < limit {
        let input = make(&mut random);
        let began = Instant::now();
        let done = catch_unwind(AssertUnwindSafe(|| target(input.clone())));
        inputs += 1;
        if done.is_err() || began.elapsed() > SLOWEST {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}-{}-{inputs}.phg", seed()));
            std::fs::write(&path, &input).unwrap();
            panic!(
                "input {inputs} after {:?} is kept as {}",
                began.elapsed(),
                path.display()
            );
        }
    }
    eprintln!(
        "{name}: {inputs} inputs in {} s, seed {}",
        start.elapsed().as_secs(),
        seed()
    );
    inputs
}

/// Make sure that the reader survives any bytes: it gives records and says what is damaged, within bounded memory.
#[test]
fn reader() {
    let corpus = corpus();
    let all: Vec<(u32, Vec<u8>)> = corpus.iter().flat_map(|bytes| records(bytes)).collect();
    let make = |random: &mut Random| {
        let own = corpus[random.below(corpus.len())].clone();
        if random.one_in(3) {
            // Whatever comes: headers, checksums, compressed bytes.
            let mut bytes = own;
            let other = &corpus[random.below(corpus.len())];
            mutate(&mut bytes, other, random);
            return bytes;
        }
        let records = mutated(&records(&own), &all, random);
        let mut payloads = payloads(&records, true, random);
        if random.one_in(2) {
            let nth = random.below(payloads.len());
            let other = own.clone();
            mutate(&mut payloads[nth], &other, random);
        }
        sealed(&payloads, random)
    };
    let mut given = 0u64;
    let inputs = run("reader", make, |bytes| {
        let len = bytes.len();
        let Ok(mut reader) = Reader::from_bytes(bytes) else {
            return;
        };
        let mut count = 0usize;
        for record in &mut reader {
            count += 1;
            // What is read can be written, and read again.
            let bytes = record.encode(Vec::new()).unwrap();
            assert_eq!(Record::decode(record.kind(), &bytes).unwrap(), Some(record));
        }
        assert!(count <= len.max(MAX_RAW) * 64, "{count} records of {len} bytes");
        assert!(reader.damage().len() <= 101);
        given += count as u64;
    });
    assert!(inputs > 10 && given > 0, "{inputs} inputs, {given} records");
}

/// Make sure that any records give a session whose times hold together, and that every report of it is written.
#[test]
fn model() {
    let corpus = corpus();
    let lists: Vec<Vec<(u32, Vec<u8>)>> = corpus.iter().map(|bytes| records(bytes)).collect();
    let all: Vec<(u32, Vec<u8>)> = lists.iter().flatten().cloned().collect();
    let make = |random: &mut Random| {
        let list = mutated(&lists[random.below(lists.len())], &all, random);
        let payloads = payloads(&list, false, random);
        sealed(&payloads, random)
    };
    let mut processes = 0;
    let inputs = run("model", make, |bytes| {
        let mut reader = Reader::from_bytes(bytes).unwrap();
        let mut builder = Builder::new();
        builder.extend(&mut reader);
        let mut session = builder.finish(reader.damage().to_vec());
        phasegraph::detect::detect(&mut session);
        processes += session.processes.len();
        holds_together(&session);
        every_report(&session);
    });
    assert!(inputs > 10 && processes > 0, "{inputs} inputs, {processes} processes");
}

fn holds_together(session: &Session) {
    assert_eq!(verify::verify(session), [""; 0]);
    for phase in &session.phases {
        assert!(phase.span.from <= phase.span.to, "{phase:?}");
    }
}

fn every_report(session: &Session) {
    for (width, critical) in [(60, false), (200, false), (80, true)] {
        let style = terminal::Style {
            width,
            color: false,
            utf8: true,
        };
        let options = terminal::Options {
            critical,
            ..terminal::Options::default()
        };
        let page = terminal::render(session, &options, &style).unwrap();
        let control = page.lines().find(|line| line.chars().any(char::is_control));
        assert_eq!(control, None);
    }
    let page = html::render(session, None).unwrap();
    assert!(!page.is_empty());
    for kind in [Kind::Cpu, Kind::OffCpu, Kind::Critical] {
        // That there is nothing of it is no failure.
        if let Ok(flame) = flame::collect(session, &Selection::all(), kind, flame::Roots::default()) {
            assert!(!flame.svg(false).unwrap().is_empty());
        }
    }
    let request = Request {
        selection: Selection::all(),
        kind: Kind::Wall,
    };
    for sink in SINKS {
        let mut bytes = Vec::new();
        match sink.write(session, &request, &mut bytes) {
            Ok(()) if sink.name() == "json" => drop(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()),
            Ok(()) | Err(Error::Empty(_) | Error::NoClock) => {}
            Err(error) => panic!("{}: {error}", sink.name()),
        }
    }
}

/// Make sure that an input can be made again from its seed.
#[test]
fn seeds_repeat() {
    let corpus = corpus();
    let list = records(&corpus[0]);
    let make = || {
        let mut random = Random(5);
        let changed = mutated(&list, &list, &mut random);
        sealed(&payloads(&changed, true, &mut random), &mut random)
    };
    assert_eq!(make(), make());
    let mut varint = Vec::new();
    put_varint(&mut varint, 300);
    assert_eq!(take_varint(&varint), Some((300, &[][..])));
}

//! Recordings that were made once and must be readable for ever: a change of the format can't go unnoticed.
//!
//! `PHASEGRAPH_MAKE_GOLDEN=tests/golden/format-1.x.phg cargo test -p phasegraph --lib golden` makes one, of all
//! kinds there are. One that has been released is never made again: a new kind goes into a new file.

use std::path::{Path, PathBuf};

use super::super::writer::Writer;
use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn golden_files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("format-"))
        .collect();
    files.sort();
    files
}

/// Make sure that every golden recording gives what it was made of, without damage, and that every kind is in one.
#[test]
fn golden_recordings() {
    if let Some(path) = std::env::var_os("PHASEGRAPH_MAKE_GOLDEN") {
        make(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
    }
    let mut kinds = Vec::new();
    for path in golden_files() {
        let mut reader = Reader::open(&path).unwrap();
        let records: Vec<Record> = reader.by_ref().collect();
        assert!(reader.damage().is_empty(), "{}: {:?}", path.display(), reader.damage());
        assert!(reader.unknown().is_empty());
        assert_eq!(reader.header().unwrap().major, MAJOR);
        let there: Vec<u16> = records.iter().map(Record::kind).collect();
        let expected: Vec<Record> = samples()
            .into_iter()
            .filter(|record| there.contains(&record.kind()))
            .collect();
        assert_eq!(records, expected, "{}", path.display());
        kinds.extend(there);
    }
    for sample in samples() {
        let kind = sample.kind();
        assert!(
            kinds.contains(&kind),
            "kind {kind} is in no golden recording: make one (see above)"
        );
    }
}

/// Two blocks: one stored as it is, one compressed.
fn make(path: &Path) {
    let mut writer = Writer::create(path, false).unwrap();
    for (nth, record) in samples().iter().enumerate() {
        writer.write(record).unwrap();
        if nth == 1 {
            writer.flush().unwrap();
        }
    }
    writer.finish().unwrap();
}

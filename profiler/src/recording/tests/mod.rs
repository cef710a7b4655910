//! Tests of the recording as a whole: writer and reader together, files, damage, the document.

mod damage;
mod document;
mod files;
mod golden;

use super::format::{BLOCK_HEADER_LEN, BlockHeader, FileHeader, MAJOR, MINOR, codec};
use super::reader::Reader;
use super::record::Record;
use super::samples::samples;
use super::writer::Blocks;

const ID: u64 = 0x5eed_5eed_5eed_5eed;

fn file_header() -> Vec<u8> {
    FileHeader {
        major: MAJOR,
        minor: MINOR,
        contract: 1,
        id: ID,
    }
    .encode()
    .to_vec()
}

/// A recording of one block for each item.
fn recording(blocks: &[&[Record]]) -> Vec<u8> {
    let mut bytes = file_header();
    let mut maker = Blocks::new(ID);
    for records in blocks {
        for record in *records {
            maker.push(record).unwrap();
        }
        bytes.extend_from_slice(maker.end_block().unwrap());
    }
    bytes
}

/// The samples in blocks of at most four.
fn sample_recording() -> Vec<u8> {
    let samples = samples();
    recording(&samples.chunks(4).collect::<Vec<_>>())
}

/// A block with any payload, its checksums right.
fn block_of(sequence: u64, payload: &[u8], raw: usize, codec: u8) -> Vec<u8> {
    let header = BlockHeader {
        id: ID,
        sequence,
        first: 0,
        last: 0,
        stored: payload.len() as u32,
        raw: raw as u32,
        records: 1,
        codec,
        crc: crc32fast::hash(payload),
    };
    [&header.encode()[..], payload].concat()
}

/// A recording of one block that is stored as it is.
fn recording_of(payload: &[u8]) -> Vec<u8> {
    [file_header(), block_of(0, payload, payload.len(), codec::NONE)].concat()
}

/// All records and the damage told.
fn read(bytes: Vec<u8>) -> (Vec<Record>, Vec<String>) {
    let mut reader = Reader::from_bytes(bytes).unwrap();
    let records = reader.by_ref().collect();
    (records, reader.damage().to_vec())
}

/// Where each block of a whole recording begins.
fn block_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut at = super::format::FILE_HEADER_LEN;
    while let Some(header) = bytes[at..].first_chunk::<BLOCK_HEADER_LEN>() {
        starts.push(at);
        at += BLOCK_HEADER_LEN + BlockHeader::decode(header).unwrap().stored as usize;
    }
    assert_eq!(at, bytes.len());
    starts
}

/// Make sure that every kind of record comes back as it was, from one block and from many.
#[test]
fn round_trip() {
    let samples = samples();
    for blocks in [
        vec![&samples[..]],
        samples.chunks(1).collect(),
        samples.chunks(7).collect(),
    ] {
        assert_eq!(read(recording(&blocks)), (samples.clone(), Vec::new()));
    }
}

/// Make sure that a block header tells the earliest and latest time and the number of its records, and that blocks
/// are compressed only where it helps.
#[test]
fn block_headers_tell_what_is_inside() {
    let samples = samples();
    let bytes = recording(&[&samples[1..2], &samples[..1], &samples]);
    let headers: Vec<BlockHeader> = block_starts(&bytes)
        .into_iter()
        .map(|at| BlockHeader::decode(bytes[at..].first_chunk().unwrap()).unwrap())
        .collect();
    let clock = 12_345_000_000;
    assert_eq!(
        (headers[0].first, headers[0].last, headers[0].records),
        (clock, clock, 1)
    );
    assert_eq!((headers[1].first, headers[1].last, headers[1].records), (0, 0, 1));
    assert_eq!(headers[2].first, clock);
    assert_eq!(headers[2].last, 12_345_678_901 + 1_000);
    assert_eq!(headers[2].records as usize, samples.len());
    assert_eq!(
        headers.iter().map(|header| header.sequence).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!((headers[0].codec, headers[2].codec), (codec::NONE, codec::ZSTD));
}

/// Make sure that a reader needs no seeking and takes whatever a pipe gives it at a time.
#[test]
fn reads_in_small_bites() {
    struct Bites(Vec<u8>, usize);
    impl std::io::Read for Bites {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let len = out.len().min(3).min(self.0.len() - self.1);
            out[..len].copy_from_slice(&self.0[self.1..][..len]);
            self.1 += len;
            Ok(len)
        }
    }
    let mut reader = Reader::new(Bites(sample_recording(), 0), "pipe".to_owned()).unwrap();
    assert_eq!(reader.by_ref().collect::<Vec<_>>(), samples());
    assert!(reader.damage().is_empty());
}

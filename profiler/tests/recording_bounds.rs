//! How much memory reading a hostile recording can take. A test program of its own, because it counts every
//! allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use phasegraph::recording::Reader;
use phasegraph::recording::format::{BlockHeader, FileHeader, MAJOR, MAX_RAW, MAX_RECORD, MINOR, codec, put_varint};

struct Counting;
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ID: u64 = 7;
const DOCKERFILE: u32 = 40;

fn block(payload: &[u8], raw: usize, codec: u8, claimed: usize) -> Vec<u8> {
    let header = BlockHeader {
        id: ID,
        sequence: 0,
        first: 0,
        last: 0,
        stored: claimed as u32,
        raw: raw as u32,
        records: 1,
        codec,
        crc: crc32fast::hash(payload),
    };
    let start = FileHeader {
        major: MAJOR,
        minor: MINOR,
        contract: 1,
        id: ID,
    };
    [&start.encode()[..], &header.encode(), payload].concat()
}

fn record(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, kind);
    put_varint(&mut out, bytes.len() as u32);
    out.extend_from_slice(bytes);
    out
}

/// Peak of memory that reading takes beyond the file itself, bytes, and how many records came.
fn read(file: Vec<u8>) -> (usize, usize) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    let records = match Reader::from_bytes(file) {
        Ok(reader) => reader.count(),
        Err(error) => panic!("{error}"),
    };
    (PEAK.load(Relaxed) - before, records)
}

/// Make sure that neither claimed lengths nor bombs nor many tiny strings take more memory than the format's bounds
/// allow.
#[test]
fn memory_is_bounded() {
    const MIB: usize = 1 << 20;

    // A payload that is claimed and not there.
    let (peak, records) = read(block(b"", MAX_RAW, codec::NONE, MAX_RAW));
    assert_eq!(records, 0);
    assert!(peak < MIB, "claimed payload: {peak}");

    // A block that would unpack to 64 MiB.
    let bomb = zstd::bulk::compress(&vec![0; 64 * MIB], 3).unwrap();
    let (peak, records) = read(block(&bomb, MAX_RAW, codec::ZSTD, bomb.len()));
    assert_eq!(records, 0);
    assert!(peak < 8 * MIB, "bomb: {peak}");

    // Lists that claim 2^60 elements.
    for list in [&[1, 1, 1, 1, 0][..], &[1, 1, 1, 1], &[0]] {
        let claim = [list, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
        let payload = record(DOCKERFILE, &claim);
        let (peak, records) = read(block(&payload, payload.len(), codec::NONE, payload.len()));
        assert_eq!(records, 0);
        assert!(peak < 3 * MIB, "claimed list: {peak}");
    }

    // As many empty strings as one record can hold, packed into few bytes.
    let strings = MAX_RECORD - 16;
    let mut dockerfile = vec![1, 1, 1, 1, 0];
    put_varint(&mut dockerfile, strings as u32);
    dockerfile.resize(dockerfile.len() + strings, 0);
    let payload = record(DOCKERFILE, &dockerfile);
    let packed = zstd::bulk::compress(&payload, 3).unwrap();
    assert!(packed.len() < 1000);
    let (peak, records) = read(block(&packed, payload.len(), codec::ZSTD, packed.len()));
    assert_eq!(records, 1);
    assert!(peak < 2 * 24 * MAX_RECORD + 8 * MIB, "many strings: {peak}");
    assert!(peak > 24 * strings, "the allocator counts");
}

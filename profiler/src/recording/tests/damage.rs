//! What is left of a broken recording, and what hostile ones can do: nothing.

use super::super::error::ReadError;
use super::super::format::{FILE_HEADER_LEN, MAGIC, MAX_RAW, MAX_RECORD, put_varint};
use super::super::record::{Clock, Losses};
use super::*;

/// A record's framing and bytes.
fn framed(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, kind);
    put_varint(&mut out, bytes.len() as u32);
    out.extend_from_slice(bytes);
    out
}

fn clock(mono: u64) -> Record {
    Clock { mono, real: 1 }.into()
}

fn clock_bytes(mono: u64) -> Vec<u8> {
    framed(2, &clock(mono).encode(Vec::new()).unwrap())
}

fn is_subsequence(part: &[Record], whole: &[Record]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|record| rest.any(|other| other == record))
}

/// Make sure that a recording that is cut off anywhere gives exactly the records of its whole blocks, and says when
/// something is left over.
#[test]
fn truncated_anywhere() {
    let bytes = sample_recording();
    let mut ends = block_starts(&bytes);
    ends.push(bytes.len());
    for cut in 0..bytes.len() {
        let part = bytes[..cut].to_vec();
        if cut < FILE_HEADER_LEN {
            match Reader::from_bytes(part).map(|_| ()).unwrap_err() {
                ReadError::Empty { .. } => assert_eq!(cut, 0),
                ReadError::CutOff { len, .. } => assert_eq!(cut, len),
                error => panic!("{error}"),
            }
            continue;
        }
        let (records, damage) = read(part);
        let whole_blocks = ends.iter().filter(|end| **end <= cut).count() - 1;
        let expected = samples().into_iter().take(4 * whole_blocks).collect::<Vec<_>>();
        assert_eq!(records, expected, "cut at {cut}");
        assert_eq!(
            damage.len(),
            usize::from(!ends.contains(&cut)),
            "cut at {cut}: {damage:?}"
        );
        assert!(damage.iter().all(|note| note.contains("cut off")), "{damage:?}");
    }
}

/// Make sure that one wrong byte anywhere costs at most the block that it lies in, is always told, and never gives a
/// record that was not written.
#[test]
fn every_single_byte_flipped() {
    let bytes = sample_recording();
    let all = samples();
    let starts = block_starts(&bytes);
    for at in 0..bytes.len() {
        for flip in [1, 16, 128, 255] {
            let mut broken = bytes.clone();
            broken[at] ^= flip;
            let (records, damage) = read(broken);
            assert!(!damage.is_empty(), "byte {at} ^ {flip} is not told");
            assert!(is_subsequence(&records, &all), "byte {at} ^ {flip}");
            let lost = all.len() - records.len();
            let most = if at < starts[0] { 0 } else { 4 };
            assert!(lost <= most, "byte {at} ^ {flip} costs {lost} records: {damage:?}");
        }
    }
}

/// Make sure that damage is told with the block, its size and the time that is missing.
#[test]
fn damage_in_words() {
    let second = 1_000_000_000;
    let blocks: Vec<[Record; 2]> = (1..=5)
        .map(|s| [clock(s * second), clock(s * second + second / 2)])
        .collect();
    let whole = recording(&blocks.iter().map(|block| &block[..]).collect::<Vec<_>>());
    let starts = block_starts(&whole);

    let mut payload = whole.clone();
    payload[starts[1] + BLOCK_HEADER_LEN] ^= 1;
    let (records, damage) = read(payload);
    assert_eq!(records.len(), 8);
    let len = starts[2] - starts[1];
    let told = format!(
        "block 1: checksum differs, {len} bytes skipped; 2 records of 1.000 s to 1.500 s after the recording's start missing"
    );
    assert_eq!(damage, [told]);

    let mut header = whole.clone();
    header[starts[1]] ^= 1;
    header[starts[2] + 20] ^= 1;
    let (records, damage) = read(header);
    assert_eq!(records.len(), 6);
    let skipped = format!("{} bytes before block 3 are no block, skipped", starts[3] - starts[1]);
    assert_eq!(damage, [skipped, "blocks 1 to 2 are missing".to_owned()]);

    let (_, damage) = read(whole[..whole.len() - 3].to_vec());
    let there = whole.len() - 3 - starts[4];
    let told = format!(
        "the file ends in the middle of block 4: {there} bytes not used, 2 records of 4.000 s to 4.500 s after the \
         recording's start missing; the recording was cut off"
    );
    assert_eq!(damage, [told]);

    let (records, damage) = read([&whole[..], &[0; 4096]].concat());
    assert_eq!(records.len(), 10);
    assert_eq!(damage, ["the last 4096 bytes of the file are no block, not used"]);

    let cut_out = [&whole[..starts[1]], &whole[starts[2]..]].concat();
    assert_eq!(read(cut_out).1, ["block 1 is missing"]);

    let again = [&whole[..], &whole[starts[3]..starts[4]]].concat();
    let (records, damage) = read(again);
    assert_eq!(records.len(), 10);
    assert_eq!(damage, ["block 3 appears again; only the first is used"]);
}

/// Make sure that text of a profiled process that looks like a block is not taken for one, even when the block around
/// it is damaged.
#[test]
fn a_block_within_a_block_is_not_believed() {
    let forged_recording = {
        let mut maker = Blocks::new(ID ^ 1);
        maker.push(&clock(666)).unwrap();
        maker.end_block().unwrap().to_vec()
    };
    let around = framed(60_000, &forged_recording);
    let mut bytes = [
        recording_of(&around),
        block_of(1, &clock_bytes(5), clock_bytes(5).len(), codec::NONE),
    ]
    .concat();
    bytes[FILE_HEADER_LEN] ^= 1;
    let (records, damage) = read(bytes);
    assert_eq!(records, [clock(5)]);
    assert_eq!(damage.len(), 2, "{damage:?}");
}

/// Make sure that unknown kinds are skipped and counted, and are no damage.
#[test]
fn unknown_kinds() {
    let payload = [
        clock_bytes(1),
        framed(9_999, b"from the future"),
        framed(u32::MAX - 1, b""),
        framed(9_999, b""),
        clock_bytes(2),
    ]
    .concat();
    let mut reader = Reader::from_bytes(recording_of(&payload)).unwrap();
    assert_eq!(reader.by_ref().collect::<Vec<_>>(), [clock(1), clock(2)]);
    assert!(reader.damage().is_empty());
    assert_eq!(
        reader.unknown().iter().map(|(k, n)| (*k, *n)).collect::<Vec<_>>(),
        [(9_999, 2), (u32::MAX - 1, 1)]
    );
}

/// Make sure that a file full of unknown kinds and damaged places does not fill the memory with their names.
#[test]
fn counts_and_notes_are_bounded() {
    let kinds: Vec<u8> = (0..5_000).flat_map(|kind| framed(10_000 + kind, b"")).collect();
    let mut reader = Reader::from_bytes(recording_of(&kinds)).unwrap();
    assert_eq!(reader.by_ref().count(), 0);
    assert!(reader.unknown().len() <= 101);
    assert_eq!(reader.unknown().values().sum::<u64>(), 5_000);

    let mut bytes = file_header();
    for sequence in 0..1_000 {
        bytes.extend(block_of(
            2 * sequence,
            &clock_bytes(1),
            clock_bytes(1).len(),
            codec::NONE,
        ));
    }
    let (records, damage) = read(bytes);
    assert_eq!(records.len(), 1_000);
    assert_eq!(damage.len(), 101);
    assert_eq!(damage.last().unwrap(), "and 899 more damaged places");
}

/// Make sure that a record that can't be decoded is left out and told, and the others of its block are given.
#[test]
fn undecodable_records() {
    let payload = [
        clock_bytes(1),
        framed(2, b"\xff"),
        framed(50, b"\xff\xff\xff\xff"),
        clock_bytes(2),
    ]
    .concat();
    let mut reader = Reader::from_bytes(recording_of(&payload)).unwrap();
    assert_eq!(reader.by_ref().collect::<Vec<_>>(), [clock(1), clock(2)]);
    assert_eq!(reader.undecodable(), 2);
    assert_eq!(reader.damage().len(), 1);
    assert!(
        reader.damage()[0].starts_with("block 0: a record of kind 2 can't be decoded"),
        "{:?}",
        reader.damage()
    );
}

/// Make sure that framing which leads beyond the block ends the block, not the recording.
#[test]
fn broken_framing() {
    let too_long = framed(9_999, &vec![0; MAX_RECORD + 1]);
    for tail in [&[2, 0xff, 0x01, 0][..], &[0x80], &[2], &[0xff; 6], &too_long] {
        let payload = [clock_bytes(1), tail.to_vec()].concat();
        let next = block_of(1, &clock_bytes(2), clock_bytes(2).len(), codec::NONE);
        let (records, damage) = read([recording_of(&payload), next].concat());
        assert_eq!(records, [clock(1), clock(2)]);
        assert_eq!(
            damage,
            [format!("block 0: its last {} bytes are not records", tail.len())]
        );
    }
}

/// Make sure that payloads which do not unpack to what their header says are skipped: bombs, wrong lengths, garbage,
/// unknown compression.
#[test]
fn lying_blocks() {
    let plain = clock_bytes(1);
    let packed = zstd::bulk::compress(&[0; 1000], 3).unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 2 * MAX_RAW], 3).unwrap();
    for (payload, raw, codec, told) in [
        (&packed, 999, codec::ZSTD, "can't be decompressed"),
        (&packed, 1001, codec::ZSTD, "1000 bytes where 1001 should be"),
        (&bomb, MAX_RAW, codec::ZSTD, "can't be decompressed"),
        (&plain, 1000, codec::ZSTD, "can't be decompressed"),
        (&plain, plain.len() + 1, codec::NONE, "bytes where"),
        (&plain, plain.len(), 7, "compression 7 is not known"),
    ] {
        let next = block_of(1, &plain, plain.len(), codec::NONE);
        let (records, damage) = read([file_header(), block_of(0, payload, raw, codec), next].concat());
        assert_eq!(records, [clock(1)]);
        assert_eq!(damage.len(), 1);
        assert!(damage[0].contains(told), "{damage:?}");
    }
}

/// Make sure that length claims far beyond the bytes that are there are refused in every list of every kind.
#[test]
fn length_claims() {
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    for sample in samples() {
        let bytes = sample.encode(Vec::new()).unwrap();
        for at in 0..bytes.len() {
            let claim = [&bytes[..at], &many, &bytes[at..]].concat();
            // Whatever it decodes to, it comes back without a panic and without more memory than it has bytes for.
            if let Ok(Some(record)) = Record::decode(sample.kind(), &claim) {
                assert!(record.encode(Vec::new()).unwrap().len() <= claim.len());
            }
        }
    }
    let counters = [&many[..], &[1, 1]].concat();
    assert!(Record::decode(Record::from(Losses::default()).kind(), &counters).is_err());
}

/// Make sure that what is no recording, or one of a newer version, is refused with the next step.
#[test]
fn refused_files() {
    let error = |bytes: &[u8]| Reader::from_bytes(bytes.to_vec()).map(|_| ()).unwrap_err();
    assert!(matches!(error(b""), ReadError::Empty { .. }));
    assert!(matches!(error(b"x"), ReadError::NotARecording { .. }));
    assert!(matches!(error(&[0x7f; 5000]), ReadError::NotARecording { .. }));
    assert!(matches!(error(&MAGIC), ReadError::CutOff { len: 8, .. }));

    let newer = FileHeader {
        major: MAJOR + 1,
        minor: 2,
        contract: 9,
        id: 1,
    }
    .encode();
    let told = error(&newer).to_string();
    let expected = format!("has format {}.2, this program reads up to {MAJOR}; install", MAJOR + 1);
    assert!(told.contains(&expected), "{told}");

    let minor = FileHeader {
        major: MAJOR,
        minor: MINOR + 7,
        contract: 9,
        id: ID,
    }
    .encode();
    let bytes = [&minor[..], &sample_recording()[FILE_HEADER_LEN..]].concat();
    assert_eq!(read(bytes), (samples(), Vec::new()), "a newer minor version is read");
}

/// Make sure that an input that fails in the middle gives what came before, with the reason.
#[test]
fn read_errors() {
    struct Failing(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Failing {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(out)? {
                0 => Err(std::io::Error::from_raw_os_error(libc::EIO)),
                read => Ok(read),
            }
        }
    }
    let open = |bytes: &[u8]| Reader::new(Failing(std::io::Cursor::new(bytes.to_vec())), "disk".to_owned());
    let bytes = sample_recording();
    let starts = block_starts(&bytes);
    for cut in [starts[1], starts[1] + 10, starts[1] + BLOCK_HEADER_LEN + 3] {
        let mut reader = open(&bytes[..cut]).unwrap();
        assert_eq!(reader.by_ref().count(), 4);
        assert_eq!(reader.damage().len(), 1);
        assert!(reader.damage()[0].contains("os error 5"), "{:?}", reader.damage());
    }
    assert!(matches!(open(&bytes[..9]), Err(ReadError::Read { .. })));
    assert!(matches!(open(b""), Err(ReadError::Read { .. })));
}

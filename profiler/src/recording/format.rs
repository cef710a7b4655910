//! The bytes of a recording: file header, block header, framing of records. `docs/recording-format.md` is the same
//! in words; the two change together.

use super::record::Record;

/// Major version of the format: a reader refuses a greater one.
pub const MAJOR: u16 = 1;
/// Minor version: what it adds (kinds, meanings for reserved bytes) may be ignored by a reader that does not know it.
pub const MINOR: u16 = 0;

/// First bytes of every recording. As in PNG, the parts betray a transfer that changed line ends or cut a bit off.
pub const MAGIC: [u8; 8] = *b"\x89PHG\r\n\x1a\n";
/// First bytes of every block.
pub const SYNC: [u8; 8] = *b"\x9fPGBLK\r\n";

/// Length of the file header, bytes.
pub const FILE_HEADER_LEN: usize = 32;
/// Length of a block's header, bytes.
pub const BLOCK_HEADER_LEN: usize = 64;

/// Longest block before compression, bytes; what bounds a reader's memory. A greater claim is damage.
pub const MAX_RAW: usize = 4 << 20;
/// Longest record, bytes without kind and length. Decoded, a record takes at most 24 times that much, as a list of
/// empty strings does, and as much again while the list grows.
pub const MAX_RECORD: usize = 1 << 20;
/// A block is ended when it holds this much before compression, bytes: zstd gains little from more, and it is what
/// one damaged byte costs.
pub const BLOCK_TARGET: usize = 512 << 10;

// A full block and one last record fit (with ten bytes of framing).
const _: () = assert!(BLOCK_TARGET + MAX_RECORD + 10 <= MAX_RAW);

/// How a block's payload is stored.
pub mod codec {
    /// As it is.
    pub const NONE: u8 = 0;
    /// One zstd frame.
    pub const ZSTD: u8 = 1;
}

/// First part of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub major: u16,
    pub minor: u16,
    /// Version of the kernel contract the recording program was built with.
    pub contract: u32,
    /// Random; stands in each block's header too. A profiled process can't guess it, so text of its own that looks
    /// like a block is never taken for one.
    pub id: u64,
}

impl FileHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut out = Fields::<FILE_HEADER_LEN>::default();
        out.put(&MAGIC);
        out.put(&self.major.to_le_bytes());
        out.put(&self.minor.to_le_bytes());
        out.put(&self.contract.to_le_bytes());
        out.put(&self.id.to_le_bytes());
        out.put(&[0; 4]);
        out.seal()
    }

    /// Reads it; `None` when magic or checksum are not right. Any version: the first 32 bytes are the same in all.
    pub fn decode(bytes: &[u8; FILE_HEADER_LEN]) -> Option<FileHeader> {
        let mut fields = Unsealed::open(bytes, &MAGIC)?;
        Some(FileHeader {
            major: u16::from_le_bytes(fields.take()),
            minor: u16::from_le_bytes(fields.take()),
            contract: u32::from_le_bytes(fields.take()),
            id: u64::from_le_bytes(fields.take()),
        })
    }
}

/// First part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// [`FileHeader::id`].
    pub id: u64,
    /// Blocks are numbered from 0 without a gap.
    pub sequence: u64,
    /// Earliest and latest time of its records, ns of `CLOCK_MONOTONIC`; 0 when none has a time. An interval counts
    /// by its end.
    pub first: u64,
    pub last: u64,
    /// Length of the payload as stored, bytes.
    pub stored: u32,
    /// Its length before compression.
    pub raw: u32,
    /// How many records it holds.
    pub records: u32,
    /// One of [`codec`].
    pub codec: u8,
    /// CRC-32 of the payload as stored.
    pub crc: u32,
}

impl BlockHeader {
    /// Its bytes.
    pub fn encode(&self) -> [u8; BLOCK_HEADER_LEN] {
        let mut out = Fields::<BLOCK_HEADER_LEN>::default();
        out.put(&SYNC);
        out.put(&self.id.to_le_bytes());
        out.put(&self.sequence.to_le_bytes());
        out.put(&self.first.to_le_bytes());
        out.put(&self.last.to_le_bytes());
        out.put(&self.stored.to_le_bytes());
        out.put(&self.raw.to_le_bytes());
        out.put(&self.records.to_le_bytes());
        out.put(&[self.codec, 0, 0, 0]);
        out.put(&self.crc.to_le_bytes());
        out.seal()
    }

    /// Reads it; `None` when the sync marker, the checksum or a length is not right.
    pub fn decode(bytes: &[u8; BLOCK_HEADER_LEN]) -> Option<BlockHeader> {
        let mut fields = Unsealed::open(bytes, &SYNC)?;
        let header = BlockHeader {
            id: u64::from_le_bytes(fields.take()),
            sequence: u64::from_le_bytes(fields.take()),
            first: u64::from_le_bytes(fields.take()),
            last: u64::from_le_bytes(fields.take()),
            stored: u32::from_le_bytes(fields.take()),
            raw: u32::from_le_bytes(fields.take()),
            records: u32::from_le_bytes(fields.take()),
            codec: {
                let [codec, _reserved @ ..] = fields.take::<4>();
                codec
            },
            crc: u32::from_le_bytes(fields.take()),
        };
        let bounded = header.raw as usize <= MAX_RAW && header.stored <= header.raw;
        bounded.then_some(header)
    }
}

/// Puts fields one after the other, the header's own checksum last.
struct Fields<const N: usize> {
    bytes: [u8; N],
    at: usize,
}

impl<const N: usize> Default for Fields<N> {
    fn default() -> Self {
        Fields { bytes: [0; N], at: 0 }
    }
}

impl<const N: usize> Fields<N> {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }

    fn seal(mut self) -> [u8; N] {
        debug_assert_eq!(self.at, N - 4, "all fields but the checksum");
        let crc = crc32fast::hash(&self.bytes[..N - 4]);
        self.put(&crc.to_le_bytes());
        self.bytes
    }
}

/// The fields of a header whose first bytes and checksum are right.
struct Unsealed<'a>(&'a [u8]);

impl<'a> Unsealed<'a> {
    fn open<const N: usize>(bytes: &'a [u8; N], start: &[u8; 8]) -> Option<Unsealed<'a>> {
        let (fields, crc) = bytes.split_last_chunk::<4>()?;
        let fields = fields.strip_prefix(start)?;
        (u32::from_le_bytes(*crc) == crc32fast::hash(&bytes[..N - 4])).then_some(Unsealed(fields))
    }

    /// The next `N` bytes; zeros beyond the end, which the callers' fixed layouts never reach.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk::<N>() else {
            debug_assert!(false, "field beyond the header");
            return [0; N];
        };
        self.0 = rest;
        *field
    }
}

/// Appends `value` as a varint: seven bits a byte, lowest first, the top bit set on all but the last; as postcard's.
pub fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Reads a varint from the front of `bytes`, and what follows. `None` when it is cut off or greater than a `u32`.
pub fn take_varint(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((u32::try_from(value).ok()?, &bytes[place + 1..]));
        }
    }
    None
}

/// When `record` happened, ns of `CLOCK_MONOTONIC`; `None` for kinds that tell no time of their own.
pub fn time_of(record: &Record) -> Option<u64> {
    let time = match record {
        Record::Clock(clock) => clock.mono,
        Record::Begin(begin) => begin.mono,
        Record::End(end) => end.mono,
        Record::Fork(fork) => fork.at.ts,
        Record::Adopt(adopt) => adopt.at.ts,
        Record::Exec(exec) => exec.at.ts,
        Record::Exit(exit) => exit.at.ts,
        Record::Account(account) => account.at.ts,
        Record::Cycle(cycle) => cycle.at.ts,
        Record::Awaited(awaited) => awaited.at.ts,
        Record::Sample(sample) => sample.at.ts,
        Record::Cgroup(cgroup) => cgroup.at.ts,
        Record::Syscall(syscall) => syscall.at.ts,
        Record::Exchange(exchange) => exchange.at.ts,
        Record::Request(request) => request.at.ts,
        Record::Io(io) => io.at.ts,
        Record::Listen(listen) => listen.at.ts,
        Record::Memory(memory) => memory.at.ts,
        Record::Oom(oom) => oom.at.ts,
        Record::Mark(mark) => mark.at.ts,
        Record::Inode(inode) => inode.at.ts,
        Record::PageRun(run) => run.at.ts,
        Record::IoTotals(totals) => totals.at.ts,
        Record::BlockIo(io) => io.at.ts,
        Record::WriteBack(write) => write.at.ts,
        Record::CopyUp(copy) => copy.at.ts,
        Record::Whiteout(whiteout) => whiteout.at.ts,
        Record::FileCalls(calls) => calls.at.ts,
        Record::Overlaid(file) => file.at.ts,
        Record::SelfCost(cost) => cost.ts,
        Record::Throttle(throttle) => throttle.ts,
        Record::HostCpu(host) => host.to,
        Record::CpuChange(change) => change.ts,
        Record::Overlay(overlay) => overlay.ts,
        Record::Meta(_)
        | Record::File(_)
        | Record::Frame(_)
        | Record::Stack(_)
        | Record::Symbol(_)
        | Record::Image(_)
        | Record::Parsing(_)
        | Record::StackEnd(_)
        | Record::Lookup(_)
        | Record::Layer(_)
        | Record::Stored(_)
        | Record::ContainerState(_)
        | Record::Versions(_)
        | Record::Rules(_)
        | Record::Losses(_) => return None,
    };
    Some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that varints of every length come back, and that cut or too great ones are refused.
    #[test]
    fn varints() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 1 << 21, 1 << 28, u32::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes, postcard::to_stdvec(&value).unwrap(), "as postcard's");
            for cut in 0..bytes.len() {
                assert_eq!(take_varint(&bytes[..cut]), None);
            }
            bytes.push(7);
            assert_eq!(take_varint(&bytes), Some((value, &[7u8][..])));
        }
        assert_eq!(take_varint(&[0xff, 0xff, 0xff, 0xff, 0x10]), None);
        assert_eq!(take_varint(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), None);
    }

    /// Make sure that a block header comes back, and that one with a length beyond the bounds is refused although its
    /// checksum is right.
    #[test]
    fn block_headers() {
        let header = BlockHeader {
            id: 0x0102_0304_0506_0708,
            sequence: 9,
            first: 10,
            last: 11,
            stored: 12,
            raw: 13,
            records: 14,
            codec: codec::ZSTD,
            crc: 15,
        };
        assert_eq!(BlockHeader::decode(&header.encode()), Some(header));
        let raw = MAX_RAW as u32 + 1;
        assert_eq!(BlockHeader::decode(&BlockHeader { raw, ..header }.encode()), None);
        let stored = header.raw + 1;
        assert_eq!(BlockHeader::decode(&BlockHeader { stored, ..header }.encode()), None);
    }

    /// Make sure that a file header of a version that does not exist yet can be read.
    #[test]
    fn file_headers() {
        let header = FileHeader {
            major: MAJOR + 1,
            minor: 3,
            contract: 4,
            id: 5,
        };
        assert_eq!(FileHeader::decode(&header.encode()), Some(header));
    }
}

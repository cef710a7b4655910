//! Reads a recording, whole or broken: a block at a time, with bounded memory, past whatever is damaged.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::ReadError;
use super::format::{
    BLOCK_HEADER_LEN, BlockHeader, FILE_HEADER_LEN, FileHeader, MAGIC, MAJOR, MAX_RAW, MAX_RECORD, SYNC, codec,
    take_varint,
};
use super::record::Record;
use super::source::Source;

/// Damaged places that are told one by one; further ones are only counted.
const MOST_NOTES: usize = 100;

/// Unknown kinds that are counted apart; further ones share the count of kind `u32::MAX`.
const MOST_KINDS: usize = 100;

/// Gives the records of a recording, in the order in which they were written.
///
/// A broken recording gives every record of its whole blocks; [`Reader::damage`] then says what is missing. Only a
/// file that can't be read at all is an error, and that of opening.
pub struct Reader {
    source: Source,
    header: Option<FileHeader>,
    /// What the blocks must carry; `None` until the first block when the file header is damaged.
    id: Option<u64>,
    next_sequence: u64,
    /// The recording's earliest time known, ns: what times in messages count from.
    start: Option<u64>,
    block: Block,
    decompressor: zstd::bulk::Decompressor<'static>,
    unknown: BTreeMap<u32, u64>,
    undecodable: u64,
    damage: Damage,
}

/// The block whose records are being given.
#[derive(Default)]
struct Block {
    sequence: u64,
    raw: Vec<u8>,
    at: usize,
    undecodable_told: bool,
}

impl Reader {
    /// Opens a recording; `NAME.partial` of a run that was killed, or that is still being recorded, as well.
    ///
    /// # Errors
    ///
    /// The file can't be read, is empty, is no recording, or has a newer major version.
    pub fn open(path: &Path) -> Result<Reader, ReadError> {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.is_dir(), file)));
        match opened {
            Ok((true, _)) => Err(ReadError::Directory { name }),
            Ok((false, file)) => Reader::new(file, name),
            Err(error) => Err(ReadError::Open { name, error }),
        }
    }

    /// Reads a recording in memory.
    ///
    /// # Errors
    ///
    /// As of [`Reader::open`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Reader, ReadError> {
        Reader::new(io::Cursor::new(bytes), "recording in memory".to_owned())
    }

    /// Reads a recording from anywhere; `name` is for messages.
    ///
    /// # Errors
    ///
    /// As of [`Reader::open`].
    pub fn new(input: impl Read + Send + 'static, name: String) -> Result<Reader, ReadError> {
        let mut source = Source::new(Box::new(input));
        // With the first block's header, which speaks for the file when its own header is damaged.
        let len = source.peek(FILE_HEADER_LEN + BLOCK_HEADER_LEN).len();
        let error = source.error.take_if(|_| len < FILE_HEADER_LEN);
        let start = source.available();
        let Some(header) = start.first_chunk().map(FileHeader::decode) else {
            return Err(match error {
                Some(error) => ReadError::Read { name, error },
                None if len == 0 => ReadError::Empty { name },
                None if start.starts_with(&MAGIC) || MAGIC.starts_with(start) => ReadError::CutOff { name, len },
                None => ReadError::NotARecording { name },
            });
        };
        let looks_like_one = start.starts_with(&MAGIC) || block_header(&start[FILE_HEADER_LEN..]).is_some();
        let mut damage = Damage::default();
        match header {
            Some(FileHeader { major, minor, .. }) if major > MAJOR => {
                return Err(ReadError::Newer { name, major, minor });
            }
            Some(_) => {}
            None if looks_like_one => damage.note("the file's header is damaged; it is not used".to_owned()),
            None => return Err(ReadError::NotARecording { name }),
        }
        source.consume(FILE_HEADER_LEN);
        Ok(Reader {
            source,
            header,
            id: header.map(|header| header.id),
            next_sequence: 0,
            start: None,
            block: Block::default(),
            decompressor: zstd::bulk::Decompressor::default(),
            unknown: BTreeMap::new(),
            undecodable: 0,
            damage,
        })
    }

    /// The file's header; `None` when it is damaged.
    pub fn header(&self) -> Option<&FileHeader> {
        self.header.as_ref()
    }

    /// What could not be used so far, in words; nothing for a whole file. Complete when the reader has given its last
    /// record.
    pub fn damage(&self) -> &[String] {
        &self.damage.notes
    }

    /// Records of kinds that this program does not know, skipped: how many of each kind. They come from a newer minor
    /// version and are no damage.
    pub fn unknown(&self) -> &BTreeMap<u32, u64> {
        &self.unknown
    }

    /// Records of known kinds that could not be decoded; they are told in [`Reader::damage`] too.
    pub fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// Makes the next whole block the current one; false at the end of the file.
    fn next_block(&mut self) -> bool {
        loop {
            let Some(header) = self.next_header() else {
                return false;
            };
            if header.first != 0 {
                self.start = Some(self.start.map_or(header.first, |start| start.min(header.first)));
            }
            let len = BLOCK_HEADER_LEN + header.stored as usize;
            let bytes = self.source.peek(len);
            if bytes.len() < len {
                let there = size(bytes.len() as u64);
                let why = match self.source.error.take() {
                    Some(error) => format!("the file can't be read further: {error}"),
                    None => "the recording was cut off".to_owned(),
                };
                self.damage.note(format!(
                    "the file ends in the middle of block {}: {there} not used, {} missing; {why}",
                    header.sequence,
                    self.lost(&header)
                ));
                self.source.consume(len);
                return false;
            }
            let fits = crc32fast::hash(&bytes[BLOCK_HEADER_LEN..len]) == header.crc;
            let unpacked = match fits {
                true => self.unpack(&header),
                false => Err("checksum differs".to_owned()),
            };
            self.source.consume(len);
            let again = header.sequence < self.next_sequence;
            if header.sequence > self.next_sequence {
                self.damage
                    .note(format!("{} missing", numbered(self.next_sequence, header.sequence - 1)));
            }
            self.next_sequence = self.next_sequence.max(header.sequence.saturating_add(1));
            match unpacked {
                Ok(()) if again => self.damage.note(format!(
                    "block {} appears again; only the first is used",
                    header.sequence
                )),
                Ok(()) => {
                    self.block.sequence = header.sequence;
                    self.block.at = 0;
                    self.block.undecodable_told = false;
                    return true;
                }
                Err(why) => {
                    let note = format!(
                        "block {}: {why}, {} skipped; {} missing",
                        header.sequence,
                        size(len as u64),
                        self.lost(&header)
                    );
                    self.damage.note(note);
                }
            }
        }
    }

    /// The header of the next block, at which the source then stands; what is no block is skipped and told.
    fn next_header(&mut self) -> Option<BlockHeader> {
        let mut skipped = 0u64;
        loop {
            let bytes = self.source.peek(BLOCK_HEADER_LEN);
            if let Some(header) = block_header(bytes).filter(|header| self.id.is_none_or(|id| id == header.id)) {
                self.id = Some(header.id);
                if skipped > 0 {
                    self.damage.note(format!(
                        "{} before block {} are no block, skipped",
                        size(skipped),
                        header.sequence
                    ));
                }
                return Some(header);
            }
            if bytes.len() < BLOCK_HEADER_LEN {
                let rest = bytes.len();
                let torn = rest > 0 && skipped == 0 && SYNC[..rest.min(SYNC.len())] == bytes[..rest.min(SYNC.len())];
                self.source.consume(rest);
                let unused = size(skipped + rest as u64);
                if let Some(error) = self.source.error.take() {
                    self.damage.note(format!(
                        "can't be read beyond byte {}: {error}; what follows is not used",
                        self.source.position
                    ));
                } else if torn {
                    self.damage.note(format!(
                        "the file ends in the middle of a block: its last {rest} bytes are not used; the recording was \
                         cut off"
                    ));
                } else if skipped > 0 || rest > 0 {
                    self.damage
                        .note(format!("the last {unused} of the file are no block, not used"));
                }
                return None;
            }
            let step = match self.source.available()[1..].iter().position(|byte| *byte == SYNC[0]) {
                Some(at) => at + 1,
                None => self.source.available().len(),
            };
            self.source.consume(step);
            skipped += step as u64;
        }
    }

    /// Unpacks the payload of the block at which the source stands.
    fn unpack(&mut self, header: &BlockHeader) -> Result<(), String> {
        let payload = &self.source.available()[BLOCK_HEADER_LEN..][..header.stored as usize];
        let len = header.raw as usize;
        debug_assert!(len <= MAX_RAW);
        let raw = &mut self.block.raw;
        raw.clear();
        match header.codec {
            codec::NONE => raw.extend_from_slice(payload),
            codec::ZSTD => {
                raw.resize(len, 0);
                match self.decompressor.decompress_to_buffer(payload, raw.as_mut_slice()) {
                    Ok(unpacked) => raw.truncate(unpacked),
                    Err(error) => {
                        raw.clear();
                        return Err(format!("can't be decompressed ({error})"));
                    }
                }
            }
            other => return Err(format!("compression {other} is not known")),
        }
        if raw.len() != len {
            let found = raw.len();
            raw.clear();
            return Err(format!("{found} bytes where {len} should be"));
        }
        Ok(())
    }

    /// What a damaged block held, in words.
    fn lost(&self, header: &BlockHeader) -> String {
        let records = header.records;
        match self.start {
            Some(start) if header.first != 0 => {
                let seconds = |time: u64| time.saturating_sub(start) as f64 / 1e9;
                let (from, to) = (seconds(header.first), seconds(header.last));
                format!("{records} records of {from:.3} s to {to:.3} s after the recording's start")
            }
            _ => format!("{records} records"),
        }
    }

    /// The next record of the current block; `None` at its end.
    fn next_record(&mut self) -> Option<Record> {
        loop {
            let block = &mut self.block;
            let rest = &block.raw[block.at..];
            if rest.is_empty() {
                return None;
            }
            let Some((kind, bytes, after)) = split_record(rest) else {
                self.damage.note(format!(
                    "block {}: its last {} bytes are not records",
                    block.sequence,
                    rest.len()
                ));
                block.at = block.raw.len();
                return None;
            };
            let at = block.raw.len() - after.len();
            let decoded = match u16::try_from(kind) {
                Ok(kind) => Record::decode(kind, bytes),
                Err(_) => Ok(None),
            };
            block.at = at;
            match decoded {
                Ok(Some(record)) => return Some(record),
                Ok(None) => {
                    let kind = match self.unknown.len() < MOST_KINDS || self.unknown.contains_key(&kind) {
                        true => kind,
                        false => u32::MAX,
                    };
                    *self.unknown.entry(kind).or_default() += 1;
                }
                Err(error) => {
                    self.undecodable += 1;
                    if !std::mem::replace(&mut block.undecodable_told, true) {
                        self.damage.note(format!(
                            "block {}: a record of kind {kind} can't be decoded ({error}); such are left out",
                            block.sequence
                        ));
                    }
                }
            }
        }
    }
}

impl Iterator for Reader {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        loop {
            if let Some(record) = self.next_record() {
                return Some(record);
            }
            if !self.next_block() {
                return None;
            }
        }
    }
}

/// A valid block header at the front of `bytes`.
fn block_header(bytes: &[u8]) -> Option<BlockHeader> {
    bytes.first_chunk().and_then(BlockHeader::decode)
}

/// Kind and bytes of the first record in `bytes`, and what follows it.
fn split_record(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (kind, bytes) = take_varint(bytes)?;
    let (len, bytes) = take_varint(bytes)?;
    let (record, after) = bytes.split_at_checked(len as usize)?;
    (record.len() <= MAX_RECORD).then_some((kind, record, after))
}

/// `blocks 3 to 5 are`, `block 3 is`.
fn numbered(first: u64, last: u64) -> String {
    match first == last {
        true => format!("block {first} is"),
        false => format!("blocks {first} to {last} are"),
    }
}

/// For people: bytes up to 10,000, then kB, then MB.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        _ => format!("{} MB", bytes / 1_000_000),
    }
}

/// What is missing, in words; bounded, whatever the file.
#[derive(Default)]
struct Damage {
    notes: Vec<String>,
    more: u64,
}

impl Damage {
    fn note(&mut self, note: String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note);
            return;
        }
        self.more += 1;
        self.notes.truncate(MOST_NOTES);
        self.notes.push(format!("and {} more damaged places", self.more));
    }
}

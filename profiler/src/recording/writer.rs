//! Writes a recording: records into blocks, blocks into a file that is whole at every moment.

use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use super::error::WriteError;
use super::format::{
    BLOCK_HEADER_LEN, BLOCK_TARGET, BlockHeader, FileHeader, MAJOR, MAX_RECORD, MINOR, codec, put_varint, time_of,
};
use super::output::Output;
use super::record::Record;

/// zstd's default: beyond it, each percent of size costs more CPU time than a recording may take.
const ZSTD_LEVEL: i32 = 3;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub path: PathBuf,
    pub bytes: u64,
    pub blocks: u64,
    pub records: u64,
}

/// Writes a recording.
///
/// It is called `NAME.partial` until [`Writer::finish`]; when the process is killed it stays so, and reads up to the
/// last [`Writer::flush`]. Dropped without `finish`, it stays as well, unless it has no record yet.
pub struct Writer {
    output: Output,
    blocks: Blocks,
    notes: Vec<String>,
    records: u64,
    finished: bool,
}

impl Writer {
    /// Makes the file `PATH.partial`, with its header. What `path` itself names is touched by `finish` only.
    ///
    /// # Errors
    ///
    /// `path` exists and `overwrite` is not asked for, or it is no plain file; another phasegraph writes it; its
    /// folder is not there, can't be written to, or lies behind another user's symbolic link.
    pub fn create(path: &Path, overwrite: bool) -> Result<Writer, WriteError> {
        let mut id = [0; 8];
        getrandom(&mut id, GetRandomFlags::empty())
            .map_err(|error| WriteError::io("draw the random id of", path, error))?;
        let (output, notes) = Output::create(path, overwrite)?;
        Writer::begin(output, notes, u64::from_ne_bytes(id))
    }

    fn begin(output: Output, notes: Vec<String>, id: u64) -> Result<Writer, WriteError> {
        let header = FileHeader {
            major: MAJOR,
            minor: MINOR,
            contract: profiler_common::CONTRACT_VERSION,
            id,
        };
        let mut writer = Writer {
            output,
            blocks: Blocks::new(id),
            notes,
            records: 0,
            finished: false,
        };
        writer.output.append(&header.encode())?;
        Ok(writer)
    }

    /// Adds a record. It is in the file after the next [`Writer::flush`], or when its block is full.
    ///
    /// # Errors
    ///
    /// [`WriteError::is_of_one_record`] tells whether only this record is lost; else nothing more can be written, and
    /// the file holds all up to its last whole block.
    pub fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        self.blocks.push(record)?;
        self.records += 1;
        if self.blocks.is_full() { self.flush() } else { Ok(()) }
    }

    /// Ends the block and writes it: from now on a SIGKILL can't take it. (A power cut can: only `finish` waits for
    /// the disk.)
    ///
    /// # Errors
    ///
    /// As of a failed write: disk full, file size limit, I/O error. Nothing more can be written then.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        match self.blocks.end_block() {
            Some(block) => self.output.append(block),
            None => Ok(()),
        }
    }

    /// Size of the file so far, bytes.
    pub fn bytes_written(&self) -> u64 {
        self.output.len()
    }

    /// What a person should know about earlier recordings of that name.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the recording will be.
    pub fn path(&self) -> &Path {
        self.output.path()
    }

    /// Where it is until then.
    pub fn partial_path(&self) -> PathBuf {
        self.output.partial_path()
    }

    /// Writes what is left, waits for the disk, and gives the file its name.
    ///
    /// # Errors
    ///
    /// As of [`Writer::flush`], and when the name has been taken meanwhile. The file keeps its partial name then.
    pub fn finish(mut self) -> Result<Summary, WriteError> {
        // Whatever comes, the file is not to be removed or written to again.
        self.finished = true;
        self.flush()?;
        self.output.publish()?;
        Ok(Summary {
            path: self.output.path().to_owned(),
            bytes: self.output.len(),
            blocks: self.blocks.sequence,
            records: self.records,
        })
    }

    /// Gives the recording up and removes the file.
    pub fn discard(mut self) {
        self.finished = true;
        self.output.remove();
    }

    /// Onto any file, to try what errors do.
    #[cfg(test)]
    pub(super) fn onto(file: std::fs::File, path: &Path) -> Result<Writer, WriteError> {
        Writer::begin(Output::onto(file, path), Vec::new(), 1)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.finished {
        } else if self.records == 0 {
            self.output.remove();
        } else {
            // An error has been told before, or there is nobody left to tell.
            let _ = self.flush();
        }
    }
}

/// Makes blocks of records, in memory.
pub struct Blocks {
    id: u64,
    sequence: u64,
    first: Option<u64>,
    last: u64,
    records: u32,
    raw: Vec<u8>,
    /// A record's bytes, before their length is known.
    scratch: Vec<u8>,
    /// The block that was ended last, with its header.
    block: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
}

impl Blocks {
    /// Blocks of the recording `id`, from the first on.
    pub fn new(id: u64) -> Blocks {
        let mut compressor = zstd::bulk::Compressor::default();
        // Refused only for a level out of range, and then zstd's default is what we ask for.
        let _ = compressor.set_compression_level(ZSTD_LEVEL);
        Blocks {
            id,
            sequence: 0,
            first: None,
            last: 0,
            records: 0,
            raw: Vec::with_capacity(BLOCK_TARGET),
            scratch: Vec::new(),
            block: Vec::new(),
            compressor,
        }
    }

    /// Adds a record to the open block.
    ///
    /// # Errors
    ///
    /// The record is too large or can't be encoded; the block is as it was.
    pub fn push(&mut self, record: &Record) -> Result<(), WriteError> {
        let kind = record.kind();
        self.scratch.clear();
        self.scratch = record
            .encode(std::mem::take(&mut self.scratch))
            .map_err(|error| WriteError::Encode { kind, error })?;
        let len = self.scratch.len();
        if len > MAX_RECORD {
            self.scratch = Vec::new();
            return Err(WriteError::TooLarge { kind, len });
        }
        put_varint(&mut self.raw, u32::from(kind));
        put_varint(&mut self.raw, len as u32);
        self.raw.extend_from_slice(&self.scratch);
        self.records += 1;
        if let Some(time) = time_of(record) {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = self.last.max(time);
        }
        Ok(())
    }

    /// Whether the open block should be ended.
    pub fn is_full(&self) -> bool {
        self.raw.len() >= BLOCK_TARGET
    }

    /// Ends the open block and gives its bytes; `None` when it holds nothing.
    pub fn end_block(&mut self) -> Option<&[u8]> {
        if self.raw.is_empty() {
            return None;
        }
        self.block.clear();
        self.block.resize(BLOCK_HEADER_LEN, 0);
        let codec = match self.compress() {
            Some(codec) => codec,
            None => {
                self.block.truncate(BLOCK_HEADER_LEN);
                self.block.extend_from_slice(&self.raw);
                codec::NONE
            }
        };
        let payload = &self.block[BLOCK_HEADER_LEN..];
        let header = BlockHeader {
            id: self.id,
            sequence: self.sequence,
            first: self.first.unwrap_or(0),
            last: self.last,
            stored: payload.len() as u32,
            raw: self.raw.len() as u32,
            records: self.records,
            codec,
            crc: crc32fast::hash(payload),
        };
        self.block[..BLOCK_HEADER_LEN].copy_from_slice(&header.encode());
        self.sequence += 1;
        self.first = None;
        self.last = 0;
        self.records = 0;
        self.raw.clear();
        Some(&self.block)
    }

    /// Appends the compressed payload to the block; `None` when that gains nothing (a block of a few records).
    fn compress(&mut self) -> Option<u8> {
        let mut packed = std::mem::take(&mut self.block);
        packed.resize(BLOCK_HEADER_LEN + zstd::zstd_safe::compress_bound(self.raw.len()), 0);
        let done = self
            .compressor
            .compress_to_buffer(&self.raw, &mut packed[BLOCK_HEADER_LEN..]);
        self.block = packed;
        let len = done.ok().filter(|len| *len < self.raw.len())?;
        self.block.truncate(BLOCK_HEADER_LEN + len);
        Some(codec::ZSTD)
    }
}

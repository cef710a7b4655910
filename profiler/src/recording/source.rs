//! The reader's input, without seeking: a file, a pipe, bytes in memory.

use std::io::{self, Read};

/// How much is read at once, bytes.
const STEP: usize = 64 << 10;

/// Bytes of the input, as many as one asks for; its memory follows what is there, never what a length claims.
pub(super) struct Source {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// How much of the buffer is consumed.
    used: usize,
    /// Offset in the input of the first byte that is not consumed.
    pub(super) position: u64,
    ended: bool,
    /// Why the input ended before its end.
    pub(super) error: Option<io::Error>,
}

impl Source {
    pub(super) fn new(input: Box<dyn Read + Send>) -> Source {
        Source {
            input,
            buffer: Vec::new(),
            used: 0,
            position: 0,
            ended: false,
            error: None,
        }
    }

    /// At least the next `len` bytes, fewer only when the input ends before.
    pub(super) fn peek(&mut self, len: usize) -> &[u8] {
        if self.available().len() < len && !self.ended {
            self.buffer.drain(..self.used);
            self.used = 0;
            while self.buffer.len() < len && !self.ended {
                self.fill();
            }
        }
        self.available()
    }

    fn fill(&mut self) {
        let before = self.buffer.len();
        self.buffer.resize(before + STEP, 0);
        let read = match self.input.read(&mut self.buffer[before..]) {
            Ok(read) => {
                self.ended = read == 0;
                read
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                self.ended = true;
                self.error = Some(error);
                0
            }
        };
        self.buffer.truncate(before + read);
    }

    /// What is in memory.
    pub(super) fn available(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Goes on by `len` bytes, to the end of what is in memory at most.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.available().len());
        self.used += len;
        self.position += len as u64;
    }
}

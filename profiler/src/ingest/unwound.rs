//! Unwound stacks on their way: pieces of stacks that wait for their event, samples that wait for a table, and stacks
//! of waits that wait for the wait's end.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use profiler_common::unwind::{end, flag};

use super::decode::Unwound;
use super::frames::RawStack;
use super::spaces::Spaces;
use super::stacks::Stacks;
use crate::recording::record::{At, Record, Sample, TaskId};
use crate::symbol::unwind::walk::Piece;

/// How long a sample waits for a table. The largest compiler's takes 0.15 s of CPU time, which a busy host gives late.
const PATIENCE: Duration = Duration::from_secs(5);
/// Memory of the pieces that wait, bytes; a sample without room goes without its outer frames.
const MAX_BYTES: usize = 16 << 20;
/// Most threads whose wait has a stack. A thread waits once at a time; an end that was lost leaves one behind.
const MAX_WAITS: usize = 65_536;

/// See the module.
#[derive(Debug, Default)]
pub struct Unwinding {
    piece: Option<Box<Piece>>,
    pending: VecDeque<Pending>,
    bytes: usize,
    waits: HashMap<TaskId, (u64, Unwound)>,
    late: u64,
    refused: u64,
    without_event: u64,
}

#[derive(Debug)]
struct Pending {
    record: Sample,
    kernel: Vec<u64>,
    user: Unwound,
    piece: Box<Piece>,
    /// As they were at the sample.
    spaces: Spaces,
    since: Instant,
}

impl Unwinding {
    /// Keeps a piece for the event that follows it.
    pub fn copied(&mut self, piece: Box<Piece>) {
        if self.piece.replace(piece).is_some() {
            self.without_event += 1;
        }
    }

    /// A sample: recorded, or kept until the tables that it needs are there.
    pub fn sample(
        &mut self,
        record: Sample,
        kernel: Vec<u64>,
        mut user: Unwound,
        stacks: &mut Stacks,
        out: &mut Vec<Record>,
    ) {
        missed(&record.at, &user, stacks);
        let piece = if user.flags & flag::COPIED == 0 {
            None
        } else {
            self.piece
                .take()
                .filter(|piece| piece.head.header.ts == record.at.ts && piece.head.header.tid == record.at.task.tid)
        };
        if let Some(piece) = piece {
            match stacks.walk(&piece, None, &mut user.frames) {
                Ok(end) => user.end = end,
                Err(_) if self.bytes + piece.bytes.len() > MAX_BYTES => self.refused += 1,
                Err(_) => {
                    self.bytes += piece.bytes.len();
                    self.pending.push_back(Pending {
                        spaces: stacks.snapshot(record.at.task.tgid),
                        record,
                        kernel,
                        user,
                        piece,
                        since: Instant::now(),
                    });
                    return;
                }
            }
        }
        finish(record, &kernel, &user, None, stacks, out);
    }

    /// Records the samples whose tables have come, and those that have waited too long.
    pub fn retry(&mut self, stacks: &mut Stacks, out: &mut Vec<Record>) {
        let mut later = VecDeque::new();
        for mut pending in std::mem::take(&mut self.pending) {
            match stacks.walk(&pending.piece, Some(&pending.spaces), &mut pending.user.frames) {
                Ok(end) => pending.user.end = end,
                Err(_) if pending.since.elapsed() < PATIENCE => {
                    later.push_back(pending);
                    continue;
                }
                Err(_) => self.late += 1,
            }
            let Pending {
                record,
                kernel,
                user,
                piece,
                spaces,
                since: _,
            } = pending;
            self.bytes -= piece.bytes.len();
            finish(record, &kernel, &user, Some(&spaces), stacks, out);
        }
        self.pending = later;
    }

    /// Whether samples wait for tables.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The stack of a wait that begins.
    pub fn wait(&mut self, at: &At, user: Unwound, stacks: &mut Stacks) {
        missed(at, &user, stacks);
        if self.waits.len() >= MAX_WAITS && !self.waits.contains_key(&at.task) {
            self.refused += 1;
            return;
        }
        self.waits.insert(at.task, (at.ts, user));
    }

    /// The stack of the wait that began at `off`.
    pub fn waited(&mut self, task: TaskId, off: u64) -> Option<Unwound> {
        let (ts, mut user) = self.waits.remove(&task)?;
        if user.flags & flag::EXEC != 0 && !whole(user.end) {
            user.end = end::EXEC;
        }
        (ts == off).then_some(user)
    }

    /// A thread has ended.
    pub fn exit(&mut self, task: TaskId) {
        self.waits.remove(&task);
    }

    /// What was lost here, with its count.
    pub fn losses(&self) -> impl Iterator<Item = (String, u64)> {
        [
            ("samples without outer frames: unwind table too late", self.late),
            (
                "samples without outer frames: no memory for the copied stack",
                self.refused,
            ),
            ("copied stacks without their sample", self.without_event),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), count))
    }
}

/// Whether a walk came to the outermost frame.
pub fn whole(end: u8) -> bool {
    matches!(end, end::OUTERMOST | end::ZERO)
}

fn missed(at: &At, user: &Unwound, stacks: &mut Stacks) {
    if user.end == end::NO_TABLE
        && let Some(last) = user.frames.last()
    {
        // The byte before a return address is the caller's own; that of the interrupted code is its own.
        let address = last.saturating_sub(u64::from(user.frames.len() > 1));
        stacks.missed(at.task.tgid, address, user.missing);
    }
}

fn finish(
    mut record: Sample,
    kernel: &[u64],
    user: &Unwound,
    spaces: Option<&Spaces>,
    stacks: &mut Stacks,
    out: &mut Vec<Record>,
) {
    let end = if user.flags & flag::EXEC != 0 && !whole(user.end) {
        end::EXEC
    } else {
        user.end
    };
    let raw = RawStack {
        tgid: record.at.task.tgid,
        kernel,
        user: &user.frames,
        user_error: 0,
        end,
    };
    record.stack = stacks.record_in(&raw, spaces, out);
    out.push(record.into());
}

//! What the kernel has of unwind tables: its maps, and which of their blocks are free.

use std::collections::{HashMap, VecDeque};

use profiler_common::unwind::{BLOCK_ROWS, FILES, FileKey, FileTable, PAGE_SHIFT, RULES, Rule};

use crate::load::unwind::{Shared, UnwindMaps};
use crate::symbol::unwind::table::Table;

/// Blocks `[first, first + count)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: u32,
    pub(super) count: u32,
}

/// The kernel's maps, and what is in them.
pub(super) struct Kernel {
    pub(super) maps: UnwindMaps,
    pub(super) room: Room,
    rules: HashMap<Rule, u32>,
    entered: VecDeque<FileKey>,
    /// Given back, but a walk may still be reading them: free from the next drain on.
    leaving: [Vec<Run>; 2],
}

impl Kernel {
    pub(super) fn new(maps: UnwindMaps) -> Kernel {
        let mut kernel = Kernel {
            room: Room::new(maps.blocks.len()),
            maps,
            rules: HashMap::new(),
            entered: VecDeque::new(),
            leaving: Default::default(),
        };
        for rule in [Rule::NONE, Rule::UNSUPPORTED] {
            kernel.rule(&rule);
        }
        kernel
    }

    /// The number of a rule in the kernel; that of [`Rule::UNSUPPORTED`] when there are too many.
    fn rule(&mut self, rule: &Rule) -> u32 {
        const UNSUPPORTED: u32 = 1;
        if let Some(number) = self.rules.get(rule) {
            return *number;
        }
        let number = u32::try_from(self.rules.len()).unwrap_or(RULES);
        if number >= RULES || self.maps.rules.set(number, Shared(*rule), 0).is_err() {
            return UNSUPPORTED;
        }
        self.rules.insert(*rule, number);
        number
    }

    /// Writes a table's blocks. Whether that worked.
    pub(super) fn place(&mut self, run: Run, table: &Table) -> bool {
        let numbers: Vec<u32> = table.rules.iter().map(|rule| self.rule(rule)).collect();
        let index = table.index_blocks();
        for (at, block) in (run.first..).zip(table.blocks.iter().enumerate()) {
            let (position, block) = block;
            let written = if position < index {
                self.maps.blocks.set(at, block, 0)
            } else {
                let mut rows: [u32; BLOCK_ROWS] = *block;
                for row in &mut rows {
                    let number = numbers.get((*row >> PAGE_SHIFT) as usize).copied().unwrap_or(0);
                    *row = number << PAGE_SHIFT | *row & profiler_common::unwind::LOW_MASK;
                }
                self.maps.blocks.set(at, rows, 0)
            };
            if let Err(why) = written {
                tracing::warn!("unwind table not written: {why}");
                return false;
            }
        }
        true
    }

    /// Enters a file's table, and returns a key that is not there for it: the oldest, or this one if it can't be entered.
    /// Inodes come and go; a walk that misses what is still in use asks again.
    #[must_use]
    pub(super) fn enter(&mut self, key: FileKey, table: FileTable) -> Option<FileKey> {
        let is_new = !self.entered.contains(&key);
        let mut left = None;
        if is_new && self.entered.len() >= FILES as usize - 1 {
            left = self.entered.pop_front();
            if let Some(oldest) = left {
                let _ = self.maps.files.remove(&Shared(oldest));
            }
        }
        match self.maps.files.insert(Shared(key), Shared(table), 0) {
            Ok(()) if is_new => self.entered.push_back(key),
            Ok(()) => {}
            Err(why) => {
                tracing::debug!("unwind table not entered: {why}");
                return Some(key);
            }
        }
        left
    }

    pub(super) fn forget(&mut self, keys: &[FileKey], run: Run) {
        for key in keys {
            let _ = self.maps.files.remove(&Shared(*key));
        }
        self.entered.retain(|key| !keys.contains(key));
        self.leaving[0].push(run);
    }

    /// Whether blocks are on their way back.
    pub(super) fn awaits_room(&self) -> bool {
        self.leaving.iter().any(|runs| !runs.is_empty())
    }

    pub(super) fn settle(&mut self) {
        let [first, second] = &mut self.leaving;
        for run in second.drain(..) {
            self.room.give(run);
        }
        std::mem::swap(first, second);
    }
}

/// Blocks that are free.
#[derive(Debug)]
pub(super) struct Room {
    /// Sorted, no two adjoining.
    free: Vec<Run>,
    pub(super) all: u32,
}

impl Room {
    fn new(blocks: u32) -> Room {
        Room {
            free: vec![Run {
                first: 0,
                count: blocks,
            }],
            all: blocks,
        }
    }

    pub(super) fn used(&self) -> u32 {
        self.all - self.free.iter().map(|run| run.count).sum::<u32>()
    }

    pub(super) fn take(&mut self, count: u32) -> Option<Run> {
        let at = self.free.iter().position(|run| run.count >= count)?;
        let run = self.free.get_mut(at)?;
        let taken = Run {
            first: run.first,
            count,
        };
        run.first += count;
        run.count -= count;
        if run.count == 0 {
            self.free.remove(at);
        }
        Some(taken)
    }

    pub(super) fn give(&mut self, run: Run) {
        if run.count == 0 {
            return;
        }
        let at = self.free.partition_point(|free| free.first < run.first);
        self.free.insert(at, run);
        let joined = std::mem::take(&mut self.free);
        for run in joined {
            match self.free.last_mut() {
                Some(last) if last.first + last.count == run.first => last.count += run.count,
                _ => self.free.push(run),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that blocks are given out once, joined again when they come back, and counted.
    #[test]
    fn room() {
        let mut room = Room::new(10);
        let a = room.take(4).unwrap();
        let b = room.take(4).unwrap();
        assert_eq!(room.take(4), None);
        assert_eq!(room.used(), 8);
        room.give(a);
        assert_eq!(room.take(5), None);
        room.give(b);
        assert_eq!(room.free, [Run { first: 0, count: 10 }]);
        assert_eq!(room.take(10), Some(Run { first: 0, count: 10 }));
    }
}

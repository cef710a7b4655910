//! How many of the user stacks are whole: from the interrupted code to the outermost frame.

use std::collections::BTreeMap;

use profiler_common::unwind::end;

use crate::model::{Process, Session};
use crate::recording::record::{Stack, Text};

/// A process that lives shorter than this is a short one, ns.
pub const SHORT_NS: u64 = 10_000_000;

/// Samples that have a user stack, and how many of them are whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub samples: u64,
    pub whole: u64,
}

impl Count {
    fn add(&mut self, whole: bool) {
        self.samples += 1;
        self.whole += u64::from(whole);
    }
}

/// The user stacks of a session's CPU samples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserStacks {
    /// Of tasks that have a user stack.
    pub all: Count,
    /// Samples of tasks that have none, apart: kernel threads and tasks at their end, and tasks in the middle of an exec.
    pub no_user: u64,
    pub in_exec: u64,
    /// Samples of which nothing is known: frame pointers were followed.
    pub unknown: u64,
    /// Why the others end early ([`end`]), with their number.
    pub early: BTreeMap<u8, u64>,
    /// By program: its last path component, as exec was given it, or the name of its task.
    pub programs: BTreeMap<Text, Count>,
    /// Of processes that lived shorter than [`SHORT_NS`].
    pub short: Count,
    /// User frames of all that are counted in `all`.
    pub frames: u64,
}

impl UserStacks {
    /// Counts the CPU samples of all threads.
    pub fn of(session: &Session) -> UserStacks {
        let mut stacks = UserStacks::default();
        for thread in &session.threads {
            let process = session.processes.get(thread.process.ix());
            for (ts, id) in &thread.samples {
                match session.stacks.ends.get(id) {
                    None => stacks.unknown += 1,
                    Some(&end::NO_USER) => stacks.no_user += 1,
                    Some(&end::EXEC) => stacks.in_exec += 1,
                    Some(end) => {
                        stacks.add(*end, process, *ts);
                        let user = |stack: &Stack| stack.frames.len().saturating_sub(usize::from(stack.kernel));
                        stacks.frames += session.stacks.get(*id).map_or(0, user) as u64;
                    }
                }
            }
        }
        stacks
    }

    fn add(&mut self, end: u8, process: Option<&Process>, ts: u64) {
        let whole = matches!(end, end::OUTERMOST | end::ZERO);
        self.all.add(whole);
        if !whole {
            *self.early.entry(end).or_default() += 1;
        }
        let Some(process) = process else { return };
        if !process.open && !process.adopted && process.span.len() < SHORT_NS {
            self.short.add(whole);
        }
        let program = process.image_at(ts).map_or(&b""[..], |image| {
            let name = if image.filename.is_empty() {
                &image.comm
            } else {
                &image.filename
            };
            name.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
        });
        match self.programs.get_mut(program) {
            Some(count) => count.add(whole),
            None => self.programs.entry(program.to_vec()).or_default().add(whole),
        }
    }
}

/// An early end in words.
pub fn cause(end: u8) -> &'static str {
    match end {
        end::DEPTH => "deeper than 256 frames: the outer ones are missing",
        end::UNMAPPED => "an address in no executable mapping",
        end::NO_TABLE => "no unwind table of the file yet",
        end::NO_ROW => "code without unwind information and without a frame pointer",
        end::RULE => "an unwind rule that is not supported",
        end::MEMORY => "stack memory that could not be read",
        end::STUCK => "a caller's frame that is not above its callee's",
        end::COPY => "the copied piece of the stack was too short",
        end::REGISTERS => "no user registers",
        end::COMPAT => "a 32-bit process",
        _ => "a cause that this version does not know",
    }
}

/// As [`cause`], for machines.
pub fn cause_name(end: u8) -> &'static str {
    match end {
        end::DEPTH => "depth",
        end::UNMAPPED => "unmapped",
        end::NO_TABLE => "no_table",
        end::NO_ROW => "no_row",
        end::RULE => "rule",
        end::MEMORY => "memory",
        end::STUCK => "stuck",
        end::COPY => "copy",
        end::REGISTERS => "registers",
        end::COMPAT => "compat",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that whole stacks, early ends and tasks without a user stack are told apart, by program and by length
    /// of life.
    #[test]
    fn kinds_of_ends() {
        let mut session = crate::report::fixture::session();
        let all: Vec<u32> = session
            .threads
            .iter()
            .flat_map(|thread| thread.samples.iter().map(|(_, id)| *id))
            .collect();
        assert_eq!(UserStacks::of(&session).unknown, all.len() as u64);
        let mut ids = all.clone();
        ids.sort_unstable();
        ids.dedup();
        for id in &ids {
            session.stacks.ends.insert(*id, end::OUTERMOST);
        }
        let stacks = UserStacks::of(&session);
        assert_eq!(
            (stacks.all.whole, stacks.all.samples),
            (all.len() as u64, all.len() as u64)
        );
        assert_eq!(
            stacks.programs.values().map(|count| count.samples).sum::<u64>(),
            stacks.all.samples
        );
        let first = ids[0];
        let times = all.iter().filter(|id| **id == first).count() as u64;
        session.stacks.ends.insert(first, end::RULE);
        let stacks = UserStacks::of(&session);
        assert_eq!(stacks.all.samples - stacks.all.whole, times);
        assert_eq!(stacks.early, BTreeMap::from([(end::RULE, times)]));
        session.stacks.ends.insert(first, end::EXEC);
        let stacks = UserStacks::of(&session);
        assert_eq!((stacks.in_exec, stacks.all.samples), (times, all.len() as u64 - times));
        assert_eq!(stacks.all.samples, stacks.all.whole);
    }
}

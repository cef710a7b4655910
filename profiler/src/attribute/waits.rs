//! Why a thread waited: told by the kernel functions it waited in, else by its system call.

mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use self::table::{CALLS, Call, DISK_CALLERS, FIRM, LOCK_CALLERS, Row, WEAK};
use super::resources::Wait;
use crate::model::{Session, State};
use crate::recording::record::Place;

/// `__TASK_STOPPED` and `__TASK_TRACED` of `include/linux/sched.h`, unchanged since 4.14.
const TASK_STOPPED: u32 = 4;
const TASK_TRACED: u32 = 8;

/// Why a thread waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class {
    pub wait: Wait,
    /// A few words for people: `pipe read`, `kernel mutex: rtnl`.
    pub detail: &'static str,
}

/// Detail of waits for any of many files.
pub const POLL: &str = "poll without input";
/// Detail of waits for dirty data at an unmount.
pub const FLUSH: &str = "flush at unmount";
/// Detail of waits of a program's threads for each other.
pub const FUTEX: &str = "futex";
/// Detail of waits within copy-ups.
pub const COPY_UP: &str = "overlay copy-up";

const DISK: Class = Class {
    wait: Wait::Disk,
    detail: "disk I/O",
};
const UNKNOWN: Class = Class {
    wait: Wait::Other,
    detail: "unknown",
};

/// What a stack tells.
#[derive(Clone, Copy, Debug)]
enum Evidence {
    Firm(Class),
    /// A function that serves many ends.
    Weak(Class),
    None,
}

/// Rows of the tables that a function matches, by index.
#[derive(Clone, Copy, Debug, Default)]
struct Matches {
    firm: Option<usize>,
    weak: Option<usize>,
    disk_caller: Option<usize>,
    lock_caller: Option<usize>,
}

/// Classifies waits; remembers what it found for each stack and frame of one session.
#[derive(Debug, Default)]
pub struct Classifier {
    stacks: HashMap<u32, Evidence>,
    frames: HashMap<u32, Matches>,
}

impl Classifier {
    /// For one session: ids of stacks mean nothing in another.
    pub fn new() -> Classifier {
        Classifier::default()
    }

    /// Why a thread in `state` waited. States that are no wait are [`Wait::Other`].
    ///
    /// A function that waits for one thing decides; then the kernel's own `in_iowait`; then the system call, as far
    /// as it can wait for one thing only; then a function that serves many ends.
    pub fn classify(&mut self, session: &Session, state: State) -> Class {
        let State::Blocked {
            stack,
            syscall,
            iowait,
            task_state,
            ..
        } = state
        else {
            return UNKNOWN;
        };
        let evidence = match self.stacks.get(&stack) {
            Some(evidence) => *evidence,
            None => {
                let evidence = self.look(session, stack);
                self.stacks.insert(stack, evidence);
                evidence
            }
        };
        let weak = match evidence {
            Evidence::Firm(class) => return class,
            Evidence::Weak(class) => Some(class),
            Evidence::None => None,
        };
        if iowait {
            return DISK;
        }
        if let Some(class) = weak.filter(|class| class.wait != Wait::Other) {
            return class;
        }
        let call = call(&session.meta.machine, syscall).map(|call| Class {
            wait: call.wait,
            detail: call.detail,
        });
        let stopped = match task_state & (TASK_STOPPED | TASK_TRACED) {
            0 => None,
            TASK_STOPPED => Some("stopped by a signal"),
            _ => Some("stopped by a tracer"),
        };
        let stopped = stopped.map(|detail| Class {
            wait: Wait::Other,
            detail,
        });
        stopped.or(call).or(weak).unwrap_or(UNKNOWN)
    }

    fn look(&mut self, session: &Session, stack: u32) -> Evidence {
        let stacks = &session.stacks;
        let Some(stack) = stacks.get(stack) else {
            return Evidence::None;
        };
        let mut decided: Option<&Row> = None;
        let mut weak: Option<&Row> = None;
        let mut caller: Option<(usize, &Row)> = None;
        let mut first = true;
        // A user frame may have any name: only the kernel's count.
        for frame in stack.frames.iter().take(usize::from(stack.kernel)) {
            if matches!(stacks.frames.get(frame), Some(Place::File { .. } | Place::Unmapped(_))) {
                continue;
            }
            let matches = *self.frames.entry(*frame).or_insert_with(|| {
                let name = stacks.symbols.get(frame).map(|symbol| symbol.name.as_slice());
                name.map(matches).unwrap_or_default()
            });
            if decided.is_none() {
                decided = matches.firm.and_then(|row| FIRM.get(row));
                weak = weak.or(matches.weak.and_then(|row| WEAK.get(row)));
            }
            // Kernels leave out what lies in `.sched.text`, as the functions that take locks do (`stack_trace_save_tsk`): what
            // takes one is the leaf then. The kernel's own word that a wait is for the disk counts for more.
            if std::mem::take(&mut first) && decided.is_none() && weak.is_none() {
                weak = matches.lock_caller.and_then(|row| LOCK_CALLERS.get(row));
                if weak.is_some() {
                    break;
                }
            }
            let (callers, index) = match decided.filter(|row| row.served).map(|row| row.wait) {
                Some(Wait::Disk) => (DISK_CALLERS, matches.disk_caller),
                Some(Wait::Lock) => (LOCK_CALLERS, matches.lock_caller),
                _ => continue,
            };
            if let Some(index) = index.filter(|index| caller.is_none_or(|(known, _)| *index < known)) {
                caller = callers.get(index).map(|row| (index, row));
            }
        }
        let class = |row: &Row| Class {
            wait: row.wait,
            detail: row.detail,
        };
        match (decided, weak) {
            (Some(row), _) => Evidence::Firm(class(caller.map_or(row, |(_, caller)| caller))),
            (None, Some(row)) => Evidence::Weak(class(row)),
            (None, None) => Evidence::None,
        }
    }
}

/// Rows that a kernel function's name matches. The compiler's clones (`.constprop.0`, `.cold`) and a module's name
/// behind it do not count.
fn matches(name: &[u8]) -> Matches {
    let end = name.iter().position(|byte| matches!(byte, b'.' | b' ' | b'+' | b'\t'));
    let name = &name[..end.unwrap_or(name.len())];
    let find = |rows: &[Row]| {
        rows.iter()
            .position(|row| row.functions.iter().any(|pattern| fits(pattern, name)))
    };
    Matches {
        firm: find(FIRM),
        weak: find(WEAK),
        disk_caller: find(DISK_CALLERS),
        lock_caller: find(LOCK_CALLERS),
    }
}

/// Whether a name is the pattern, or begins with it when it ends in `*`.
fn fits(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => name == pattern.as_bytes(),
    }
}

fn call(machine: &str, number: i32) -> Option<&'static Call> {
    // On other machines the numbers mean other calls.
    (machine == "x86_64").then_some(())?;
    CALLS.iter().find(|call| call.x86_64 == number)
}

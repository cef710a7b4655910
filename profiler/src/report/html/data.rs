//! The page's data: what the scripts draw, aggregated. Columns instead of objects where there can be many.
//!
//! Times are ns, from the recording's start where they are moments. Texts are numbers of [`Data::strings`]; a missing
//! index is -1. Nothing but the page reads it: it changes with the page, other programs read `show --json`.

use serde::Serialize;

use super::strings::Strings;
use crate::report::terminal::Section;

/// Everything.
#[derive(Debug, Default, Serialize)]
pub(super) struct Data {
    pub(super) head: Head,
    pub(super) strings: Strings,
    /// Names of the states, in the order of all arrays of times.
    pub(super) states: Vec<&'static str>,
    pub(super) kinds: Vec<Kind>,
    pub(super) operations: Operations,
    pub(super) containers: Containers,
    pub(super) phases: Phases,
    pub(super) works: Works,
    pub(super) strips: Strips,
    /// What all threads did, in pieces of equal length: as many times as there are states for each.
    pub(super) activity: Vec<u64>,
    pub(super) flame: Flame,
    /// An earlier recording to compare with.
    pub(super) baseline: Option<Baseline>,
    pub(super) waits: Vec<Wait>,
    /// Tables of what containers and phases read and wrote, and of devices.
    pub(super) disk: Vec<PlainTable>,
    pub(super) layers: Vec<PlainTable>,
    /// Tables of copy-ups and of files.
    pub(super) moves: Vec<PlainTable>,
    pub(super) findings: Vec<Finding>,
    pub(super) trust: Trust,
    /// Name and value.
    pub(super) host: Vec<[String; 2]>,
    pub(super) settings: Vec<[String; 2]>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Head {
    pub(super) title: String,
    pub(super) command: String,
    pub(super) facts: Vec<String>,
    pub(super) span: u64,
    pub(super) cpus: u32,
    pub(super) hz: u32,
    /// What makes figures doubtful: cut off, damaged.
    pub(super) warnings: Vec<String>,
    pub(super) verdict: [String; 3],
    /// What comes after the slowest phase.
    pub(super) next: String,
    /// The phase that the verdict speaks of.
    pub(super) phase: i64,
    pub(super) version: String,
}

/// A kind of flamegraph: the states whose time it shows.
#[derive(Debug, Serialize)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) states: Vec<usize>,
    /// Of critical paths instead of all threads.
    pub(super) path: bool,
    /// Bytes instead of time.
    pub(super) bytes: bool,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Operations {
    pub(super) name: Vec<u32>,
    pub(super) from: Vec<u64>,
    pub(super) to: Vec<u64>,
    pub(super) open: Vec<u8>,
    pub(super) pid: Vec<u32>,
    pub(super) processes: Vec<usize>,
    pub(super) unattributed: Vec<u64>,
    pub(super) strip: Vec<i64>,
    /// States of the critical path, as many as there are states for each; its strip; its programs: from, to, name.
    pub(super) path: Vec<u64>,
    pub(super) path_strip: Vec<i64>,
    pub(super) chain: Vec<Vec<u64>>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Containers {
    pub(super) name: Vec<u32>,
    pub(super) image: Vec<u32>,
    /// Engine and runtime.
    pub(super) by: Vec<u32>,
    pub(super) operation: Vec<i64>,
    pub(super) from: Vec<u64>,
    pub(super) to: Vec<u64>,
    /// The most that its memory cgroup held, bytes; -1 not known.
    pub(super) memory: Vec<i64>,
    pub(super) strip: Vec<i64>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Phases {
    pub(super) kind: Vec<u32>,
    pub(super) name: Vec<u32>,
    pub(super) from: Vec<u64>,
    pub(super) to: Vec<u64>,
    pub(super) open: Vec<u8>,
    pub(super) parent: Vec<i64>,
    pub(super) operation: Vec<i64>,
    pub(super) container: Vec<i64>,
    /// The main thread's program and pid; an empty text for none.
    pub(super) main: Vec<u32>,
    /// States of the main thread, as many as there are states for each phase: they add up to its length.
    pub(super) wall: Vec<u64>,
    /// States of the critical path: they add up to the phase's length.
    pub(super) path: Vec<u64>,
    /// States of all threads.
    pub(super) all: Vec<u64>,
    pub(super) cut: Vec<u64>,
    pub(super) bytes: Vec<i64>,
    pub(super) exit: Vec<i64>,
    pub(super) rss: Vec<i64>,
    pub(super) processes: Vec<usize>,
    pub(super) began: Vec<u32>,
    pub(super) ended: Vec<u32>,
    pub(super) strip: Vec<i64>,
    /// Waits of the main thread and of all: detail, state, ns, count, longest; again and again.
    pub(super) main_waits: Vec<Vec<u64>>,
    pub(super) all_waits: Vec<Vec<u64>>,
}

/// Processes, each once for every phase that it worked for.
#[derive(Debug, Default, Serialize)]
pub(super) struct Works {
    /// A phase, or -1.
    pub(super) phase: Vec<i64>,
    pub(super) operation: Vec<i64>,
    pub(super) program: Vec<u32>,
    pub(super) argv: Vec<u32>,
    pub(super) pid: Vec<u32>,
    pub(super) from: Vec<u64>,
    pub(super) to: Vec<u64>,
    pub(super) times: Vec<u64>,
    pub(super) strip: Vec<i64>,
    /// Owners with more than these: phase, operation, how many more, their CPU time.
    pub(super) more: Vec<[i64; 4]>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Strips {
    /// Where each begins in `numbers`, and where the last ends.
    pub(super) starts: Vec<usize>,
    pub(super) numbers: Vec<u64>,
    /// Most pieces of one.
    pub(super) pieces: usize,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Flame {
    /// A node's parent, as how far it lies before it.
    pub(super) parent: Vec<u32>,
    pub(super) name: Vec<u32>,
    pub(super) category: Vec<u8>,
    /// Phases, and the operation of the process or -1.
    pub(super) sets: Vec<(Vec<u32>, i64)>,
    /// Of each set: node (as how far it lies behind the one before), ns, samples or waits.
    pub(super) rows: Vec<Vec<u64>>,
    /// The same of bytes that were read cold or made dirty: node, bytes, pages.
    pub(super) moved: Vec<Vec<u64>>,
    /// Of critical paths: of all phases, then of all operations.
    pub(super) paths: Vec<Vec<u64>>,
    pub(super) smaller: u64,
    pub(super) smaller_ns: u64,
}

/// An earlier recording, in terms of this one: its phases and operations are those that are the same.
#[derive(Debug, Serialize)]
pub(super) struct Baseline {
    pub(super) title: String,
    pub(super) span: u64,
    /// Of each phase how long it took then; -1 where there was none.
    pub(super) wall: Vec<i64>,
    /// As in [`Flame`], of the same tree.
    pub(super) sets: Vec<(Vec<u32>, i64)>,
    pub(super) rows: Vec<Vec<u64>>,
    /// Its phases that this recording does not have.
    pub(super) gone: usize,
}

/// Waits for one thing, in the whole recording.
#[derive(Debug, Serialize)]
pub(super) struct Wait {
    pub(super) state: usize,
    pub(super) detail: &'static str,
    pub(super) ns: u64,
    pub(super) count: u64,
    pub(super) longest: u64,
    /// The longest's thread, and when.
    pub(super) who: u32,
    pub(super) from: u64,
    pub(super) phase: i64,
}

/// A table whose cells are harmless text; the last column is on the left, the others on the right but for the first.
#[derive(Debug, Serialize)]
pub(super) struct PlainTable {
    pub(super) title: String,
    pub(super) detail: String,
    pub(super) head: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
    /// Rows that are left out.
    pub(super) more: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Finding {
    pub(super) question: &'static str,
    pub(super) answered: &'static str,
    pub(super) lines: Vec<String>,
    pub(super) phases: Vec<u32>,
}

/// How far the figures can be trusted.
#[derive(Debug, Default, Serialize)]
pub(super) struct Trust {
    pub(super) unattributed: String,
    pub(super) losses: Vec<Loss>,
    pub(super) cost: String,
    /// Longer: memory, evidence, limits, the profiler's cost.
    pub(super) sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
pub(super) struct Loss {
    pub(super) count: u64,
    pub(super) text: String,
    pub(super) is_loss: bool,
}

//! Critical paths in the schema's terms.

use serde::Serialize;

use super::schema::Times;
use crate::attribute::critical::{Path, Paths, Segment};
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, Session, State};
use crate::report::critical;

/// What an operation's wall time was waited for: see `docs/design/0020-critical-path.md`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CriticalPath {
    /// Index in `operations`.
    pub operation: u32,
    pub from_ns: u64,
    pub to_ns: u64,
    pub wall_ns: u64,
    /// States along the path; they add up to `wall_ns`.
    pub times: Times,
    /// By reason and program, longest first; they add up to `wall_ns`.
    pub shares: Vec<Share>,
    /// In order of time, without a gap or an overlap.
    pub segments: Vec<SegmentOut>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Share {
    /// `cpu`, `runqueue`, `disk`, `network`, `lock`, `ipc`, `child`, `sleep`, `other`, `short_waits`, `lost`,
    /// `unattributed`.
    pub state: &'static str,
    pub detail: &'static str,
    /// Empty where no thread is known.
    pub program: String,
    /// At what file or socket it was waited, as far as it was recorded and has a name; else empty.
    pub at: String,
    pub time_ns: u64,
    /// Pieces of segments that it is made of.
    pub pieces: u64,
}

/// A stretch of one thread in one state.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SegmentOut {
    pub from_ns: u64,
    pub to_ns: u64,
    /// Index in `processes`, and the thread in it; `null` where no thread is known.
    pub process: Option<u32>,
    pub tid: Option<u32>,
    /// As in [`Share`], or `mixed`: short intervals, of which only the sums are known.
    pub state: &'static str,
    pub detail: &'static str,
    /// As in [`Share`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub at: String,
    /// Sums of a `mixed` one: CPU, run queue, short waits; they add up to its length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sums_ns: Option<[u64; 3]>,
}

pub(super) fn all(session: &Session) -> Vec<CriticalPath> {
    let paths = Paths::new(session);
    let mut classifier = Classifier::default();
    (0..session.operations.len() as u32)
        .map(|ix| one(session, ix, &paths.of_operation(OperationIx(ix)), &mut classifier))
        .collect()
}

fn one(session: &Session, operation: u32, path: &Path, classifier: &mut Classifier) -> CriticalPath {
    let (resources, unattributed) = path.resources(session, classifier);
    let shares = critical::shares(session, path, classifier);
    CriticalPath {
        operation,
        from_ns: path.span.from,
        to_ns: path.span.to,
        wall_ns: path.span.len(),
        times: Times::new(&resources, unattributed),
        shares: shares
            .into_iter()
            .map(|share| Share {
                state: share.reason.name(),
                detail: share.reason.words(),
                program: share.program,
                at: share.at,
                time_ns: share.ns,
                pieces: share.pieces,
            })
            .collect(),
        segments: path
            .segments
            .iter()
            .map(|segment| self::segment(session, segment, classifier))
            .collect(),
    }
}

fn segment(session: &Session, segment: &Segment, classifier: &mut Classifier) -> SegmentOut {
    let thread = segment.doing.and_then(|(thread, _)| session.threads.get(thread.ix()));
    let (state, detail, sums_ns) = match segment.doing {
        Some((
            _,
            State::Mixed {
                cpu, runqueue, blocked, ..
            },
        )) => ("mixed", "short intervals", Some([cpu, runqueue, blocked])),
        _ => {
            let parts = segment.parts(session, classifier);
            let (state, detail) = parts
                .first()
                .map_or(("unattributed", ""), |(reason, _)| (reason.name(), reason.words()));
            (state, detail, None)
        }
    };
    SegmentOut {
        from_ns: segment.span.from,
        to_ns: segment.span.to,
        process: segment.process(session).map(|ix| ix.0),
        tid: thread.map(|thread| thread.id.tid),
        state,
        detail,
        at: critical::at(session, segment, classifier),
        sums_ns,
    }
}

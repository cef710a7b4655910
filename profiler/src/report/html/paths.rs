//! Critical paths: what the end of a phase or an operation waited for, as times, as rows of the tree of frames, and as
//! pieces for the timeline.

use std::collections::HashMap;

use super::stacks::{Stacks, Sum, Tree};
use super::strings::Strings;
use super::strip::{self, Strip, Times};
use crate::attribute::critical::{self, Path};
use crate::attribute::stacks;
use crate::attribute::waits::Classifier;
use crate::model::{Interval, OperationIx, PhaseIx, Session};
use crate::report::critical::chain;
use crate::report::flame::Roots;
use crate::report::flame::frames::Frames;

/// Stretches of an operation's path that are told by their program, and pieces of its strip.
const STRETCHES: u64 = 400;
/// Time of a path that no thread covers.
const UNATTRIBUTED: &str = "[unattributed]";

/// All paths.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Of each phase: times by state, which add up to its length.
    pub(super) phases: Vec<Times>,
    pub(super) operations: Vec<Times>,
    /// Rows of time, as in [`Stacks::rows`]: of all phases, then of all operations.
    pub(super) rows: Vec<Vec<(u32, u64, u64)>>,
    /// As of [`Stacks`].
    pub(super) smaller: u64,
    pub(super) smaller_ns: u64,
    /// Of each operation.
    pub(super) strips: Vec<Strip>,
    /// Of each operation: from, to (since the recording's start) and program, again and again.
    pub(super) chains: Vec<Vec<u64>>,
}

impl Paths {
    pub(super) fn new(session: &Session, tree: &mut Tree, strings: &mut Strings) -> Paths {
        let all = critical::Paths::new(session);
        let frames = Frames::new(session, Roots::PROCESSES);
        let mut classifier = Classifier::default();
        let mut paths = Paths::default();
        let mut sums: Vec<HashMap<u32, Sum>> = Vec::new();
        for ix in (0..session.phases.len() as u32).map(PhaseIx) {
            let path = all.of_phase(ix);
            let (resources, unattributed) = path.resources(session, &mut classifier);
            paths.phases.push(strip::times(&resources, unattributed));
            sums.push(rows(session, &frames, &path, tree, strings, &mut classifier));
        }
        for ix in (0..session.operations.len() as u32).map(OperationIx) {
            let path = all.of_operation(ix);
            let (resources, unattributed) = path.resources(session, &mut classifier);
            paths.operations.push(strip::times(&resources, unattributed));
            sums.push(rows(session, &frames, &path, tree, strings, &mut classifier));
            let shortest = path.span.len() / STRETCHES;
            paths
                .strips
                .push(Strip::of_path(session, &path, shortest, &mut classifier));
            let since = |ts: u64| ts.saturating_sub(session.span.from);
            let mut numbers = Vec::new();
            for stretch in chain(session, &path, shortest, &mut classifier) {
                let program = match (stretch.count, &stretch.program[..]) {
                    (2.., _) => format!("{} short stretches", stretch.count),
                    (_, "") => UNATTRIBUTED.to_owned(),
                    (_, program) => program.to_owned(),
                };
                let name = strings.add(&crate::report::text::fit(&program, 60));
                numbers.extend([since(stretch.span.from), since(stretch.span.to), u64::from(name)]);
            }
            paths.chains.push(numbers);
        }
        let mut kept = Stacks::default();
        kept.keep(sums, tree, strings);
        (paths.rows, paths.smaller, paths.smaller_ns) = (kept.rows, kept.smaller, kept.smaller_ns);
        paths
    }
}

/// A path's time by node.
fn rows(
    session: &Session,
    frames: &Frames<'_>,
    path: &Path,
    tree: &mut Tree,
    strings: &mut Strings,
    classifier: &mut Classifier,
) -> HashMap<u32, Sum> {
    let mut sums: HashMap<u32, Sum> = HashMap::new();
    let mut add = |node: u32, ns: u64, count: u64| {
        let sum = sums.entry(node).or_default();
        *sum = (sum.0.saturating_add(ns), sum.1.saturating_add(count));
    };
    for segment in &path.segments {
        let (Some((thread, state)), Some(process)) = (segment.doing, segment.process(session)) else {
            add(tree.unattributed(UNATTRIBUTED, strings), segment.span.len(), 0);
            continue;
        };
        let piece = Interval {
            span: segment.span,
            state,
        };
        let wait = segment.class(session, state, classifier).wait;
        for row in stacks::of_piece(session, process, thread, piece, wait) {
            let (node, _) = tree.row(frames, segment.span.from, &row, strings);
            add(node, row.ns, row.count);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that times, rows, strips and chains of a path add up to its phase or operation.
    #[test]
    fn paths_add_up() {
        let session = fixture::session();
        let mut strings = Strings::default();
        let mut tree = Tree::new(&mut strings);
        let paths = Paths::new(&session, &mut tree, &mut strings);
        let phases = session.phases.iter().map(|phase| phase.span.len());
        let lengths: Vec<u64> = phases
            .chain(session.operations.iter().map(|operation| operation.span.len()))
            .collect();
        let times = paths.phases.iter().chain(&paths.operations);
        assert_eq!(times.map(|times| times.iter().sum()).collect::<Vec<u64>>(), lengths);
        let rows = paths.rows.iter().map(|rows| rows.iter().map(|(_, ns, _)| ns).sum());
        assert_eq!(rows.collect::<Vec<u64>>(), lengths);
        let chain = &paths.chains[0];
        let told: u64 = chain.chunks(3).map(|stretch| stretch[1] - stretch[0]).sum();
        assert_eq!(told, session.operations[0].span.len());
    }
}

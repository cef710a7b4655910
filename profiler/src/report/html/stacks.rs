//! Every thread's time by phase and stack, merged before anything is drawn: one tree of frames for the whole page, and
//! rows of time that point into it.

use std::collections::{BTreeMap, HashMap};

use super::strings::Strings;
use super::strip::{self, STATES, Times};
use crate::attribute::resources::Wait;
use crate::attribute::stacks::{self as attribute, StackRow};
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, PhaseIx, ProcessIx, Session, Span};
use crate::report::flame::frames::{Category, Frames, Line};
use crate::report::flame::{Moved, Roots};
use crate::report::text;

/// Longest name of a frame, columns.
const NAME: usize = 300;
/// Rows of time by phase and stack on a page: what keeps it below 20 MB.
pub(super) const ROWS: usize = 400_000;
/// Most rows of one set of phases, where there is room for all.
const ROWS_OF_SET: usize = 4_000;
/// Stands for the stacks that are left out.
const SMALLER: &str = "[smaller stacks]";
/// Categories of frames in the page; a closing frame has this and its state.
const USER: u8 = 0;
const KERNEL: u8 = 1;
const SYNTHETIC: u8 = 2;
const PROCESS: u8 = 3;
const THREAD: u8 = 4;
const CLOSING: u8 = 5;

/// What owns time: a phase, else an operation, else nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Owner {
    Phase(PhaseIx),
    Operation(OperationIx),
    Nobody,
}

/// The phases that a piece of time lies in (they may overlap), and the operation that its process belongs to.
pub(super) type Set = (Vec<u32>, Option<u32>);

/// ns, and samples or waits.
pub(super) type Sum = (u64, u64);

/// A process's time for one owner.
#[derive(Clone, Debug, Default)]
pub(super) struct Work {
    pub(super) spans: Vec<Span>,
    pub(super) times: Times,
}

/// The frames of all stacks, of one recording or of two: columns of a node's parent (itself for the root, 0), name and
/// category. Parents come first.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) parents: Vec<u32>,
    pub(super) names: Vec<u32>,
    pub(super) categories: Vec<u8>,
    known: HashMap<(u32, u32, u8), u32>,
    /// The node of a stack below a chain of processes.
    stacked: HashMap<(u32, u32), u32>,
}

/// A recording's time.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    pub(super) sets: Vec<Set>,
    /// By set: node, ns, samples or waits.
    pub(super) rows: Vec<Vec<(u32, u64, u64)>>,
    /// By set: node, bytes read cold or made dirty, pages.
    pub(super) moved: Vec<Vec<(u32, u64, u64)>>,
    pub(super) work: BTreeMap<(Owner, ProcessIx), Work>,
    /// Stacks that are drawn as one with others of their set, and their time, ns.
    pub(super) smaller: u64,
    pub(super) smaller_ns: u64,
}

impl Stacks {
    pub(super) fn new(session: &Session, tree: &mut Tree, strings: &mut Strings) -> Stacks {
        let frames = Frames::new(session, Roots::PROCESSES);
        let mut stacks = Stacks::default();
        let mut classifier = Classifier::default();
        let mut sets: HashMap<Set, u32> = HashMap::new();
        let mut sums: Vec<HashMap<u32, Sum>> = Vec::new();
        let moved = Moved::new(session);
        let mut bytes: Vec<HashMap<u32, Sum>> = Vec::new();
        for process in (0..session.processes.len() as u32).map(ProcessIx) {
            let life = session.processes[process.ix()].span.clip(session.span);
            let operation = frames.owners().apart(process);
            for slice in slices(session, &frames, process, operation, life) {
                let operation = operation.filter(|ix| session.operations[ix.ix()].span.contains(slice.from));
                let owner = match (frames.owners().phase(process, slice.from), operation) {
                    (Some(phase), _) => Owner::Phase(phase),
                    (None, Some(operation)) => Owner::Operation(operation),
                    (None, None) => Owner::Nobody,
                };
                let phases = frames.owners().phases(process, slice.from);
                let set = (phases.map(|ix| ix.0).collect(), operation.map(|ix| ix.0));
                let set = *sets.entry(set).or_insert_with_key(|set| {
                    stacks.sets.push(set.clone());
                    sums.push(HashMap::new());
                    bytes.push(HashMap::new());
                    (stacks.sets.len() - 1) as u32
                });
                let mut times = Times::default();
                for row in attribute::wall(session, &[process], slice, &mut classifier) {
                    let (leaf, state) = tree.row(&frames, slice.from, &row, strings);
                    times[state] = times[state].saturating_add(row.ns);
                    let sum = sums[set as usize].entry(leaf).or_default();
                    *sum = (sum.0.saturating_add(row.ns), sum.1.saturating_add(row.count));
                }
                for row in moved.within(process, slice) {
                    let (leaf, _) = tree.row(&frames, slice.from, row, strings);
                    let sum = bytes[set as usize].entry(leaf).or_default();
                    *sum = (sum.0.saturating_add(row.ns), sum.1.saturating_add(row.count));
                }
                let work = stacks.work.entry((owner, process)).or_default();
                match work.spans.last_mut() {
                    Some(last) if last.to == slice.from => last.to = slice.to,
                    _ => work.spans.push(slice),
                }
                for (sum, part) in work.times.iter_mut().zip(times) {
                    *sum = sum.saturating_add(part);
                }
            }
        }
        // Their own bounds, so that no bytes count as smaller stacks' time.
        let mut kept = Stacks::default();
        kept.keep(bytes, tree, strings);
        stacks.moved = kept.rows;
        stacks.keep(sums, tree, strings);
        stacks
    }

    /// Keeps the biggest rows of each set, as many as there is room for; the others are summed up by state.
    pub(super) fn keep(&mut self, sums: Vec<HashMap<u32, Sum>>, tree: &mut Tree, strings: &mut Strings) {
        let mut most = ROWS_OF_SET;
        while most > 16 && sums.iter().map(|rows| rows.len().min(most)).sum::<usize>() > ROWS {
            most /= 2;
        }
        for rows in sums {
            let mut rows: Vec<(u32, u64, u64)> =
                rows.into_iter().map(|(leaf, (ns, count))| (leaf, ns, count)).collect();
            rows.sort_unstable_by_key(|(leaf, ns, _)| (std::cmp::Reverse(*ns), *leaf));
            let mut rest: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
            for (leaf, ns, count) in rows.drain(most.min(rows.len())..) {
                let state = tree.categories[leaf as usize].saturating_sub(CLOSING);
                let sum = rest.entry(state).or_default();
                *sum = (sum.0.saturating_add(ns), sum.1.saturating_add(count));
                self.smaller += 1;
                self.smaller_ns = self.smaller_ns.saturating_add(ns);
            }
            for (state, (ns, count)) in rest {
                let node = tree.node(0, strings.add(SMALLER), CLOSING + state);
                rows.push((node, ns, count));
            }
            rows.sort_unstable();
            self.rows.push(rows);
        }
    }
}

impl Tree {
    pub(super) fn new(strings: &mut Strings) -> Tree {
        Tree {
            parents: vec![0],
            names: vec![strings.add("")],
            categories: vec![PROCESS],
            known: HashMap::new(),
            stacked: HashMap::new(),
        }
    }

    /// Where a row's time stands, and its state.
    pub(super) fn row(&mut self, frames: &Frames<'_>, ts: u64, row: &StackRow, strings: &mut Strings) -> (u32, usize) {
        let state = state(row);
        let chain = self.path(0, &frames.below(row.process, ts, row), strings);
        let key = (chain, row.stack);
        let top = match self.stacked.get(&key) {
            Some(top) => *top,
            None => {
                let top = self.path(chain, &frames.stack_frames(row.stack), strings);
                self.stacked.insert(key, top);
                top
            }
        };
        (self.close(top, chain, row, state, strings), state)
    }

    /// Where time that no thread covers stands.
    pub(super) fn unattributed(&mut self, name: &str, strings: &mut Strings) -> u32 {
        let name = strings.add(name);
        self.node(0, name, CLOSING + strip::UNATTRIBUTED as u8)
    }

    /// Before another recording's stacks come in: their numbers mean others.
    pub(super) fn forget_stacks(&mut self) {
        self.stacked.clear();
    }

    /// The node at the end of a path of frames below another.
    fn path(&mut self, below: u32, line: &Line, strings: &mut Strings) -> u32 {
        line.frames.iter().fold(below, |node, (name, category)| {
            let (name, category) = match category {
                Category::User => (&name[..], USER),
                Category::Kernel => (name.strip_suffix("_[k]").unwrap_or(name), KERNEL),
                Category::Synthetic => (&name[..], SYNTHETIC),
                Category::Process | Category::Lifecycle => (&name[..], PROCESS),
                Category::Thread => (&name[..], THREAD),
            };
            let name = strings.add(&text::fit(name, NAME));
            self.node(node, name, category)
        })
    }

    /// The node that a row's time stands at: its stack, closed by what was waited for or why there is none.
    fn close(&mut self, top: u32, chain: u32, row: &StackRow, state: usize, strings: &mut Strings) -> u32 {
        let mut line = Line::default();
        if state == 0 && row.label.is_none() && top != chain {
            return top;
        }
        line.close(row);
        let name = line.frames.first().map_or("[no stack]", |(name, _)| name);
        let name = strings.add(name);
        self.node(top, name, CLOSING + state as u8)
    }

    fn node(&mut self, parent: u32, name: u32, category: u8) -> u32 {
        *self.known.entry((parent, name, category)).or_insert_with(|| {
            self.parents.push(parent);
            self.names.push(name);
            self.categories.push(category);
            (self.parents.len() - 1) as u32
        })
    }
}

/// A process's life cut wherever the phases that it works for change, its program, or its operation's span ends.
fn slices(
    session: &Session,
    frames: &Frames<'_>,
    process: ProcessIx,
    operation: Option<OperationIx>,
    life: Span,
) -> Vec<Span> {
    let slices = frames.slices(process, life);
    let Some(span) = operation
        .and_then(|ix| session.operations.get(ix.ix()))
        .map(|operation| operation.span)
    else {
        return slices;
    };
    let cut = |slice: Span| {
        let inner = slice.clip(span);
        if inner.is_empty() {
            return [slice, Span::default(), Span::default()];
        }
        let before = Span {
            from: slice.from,
            to: inner.from,
        };
        let after = Span {
            from: inner.to,
            to: slice.to,
        };
        [before, inner, after]
    };
    slices
        .into_iter()
        .flat_map(cut)
        .filter(|slice| !slice.is_empty())
        .collect()
}

/// A row's state, as an index into [`STATES`].
fn state(row: &StackRow) -> usize {
    if let Some(wait) = row.wait {
        return strip::place(wait);
    }
    let by_name = |name: &str| STATES.iter().position(|state| *state == name).unwrap_or(0);
    match row.label {
        Some(attribute::RUN_QUEUE) => by_name("runqueue"),
        Some(attribute::SHORT_WAITS) => by_name("short"),
        Some(attribute::LOST) => by_name("lost"),
        Some(label) => Wait::ALL
            .into_iter()
            .find(|wait| attribute::no_stack(*wait) == label)
            .map_or(0, strip::place),
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribute::resources;
    use crate::report::fixture;

    /// Make sure that a phase's rows add up to what the attribution says of it, state by state.
    #[test]
    fn rows_add_up() {
        let session = fixture::session();
        let mut strings = Strings::default();
        let mut tree = Tree::new(&mut strings);
        let stacks = Stacks::new(&session, &mut tree, &mut strings);
        assert_eq!(stacks.sets.len(), stacks.rows.len());
        for (index, phase) in session.phases.iter().enumerate() {
            let mut found = Times::default();
            for ((phases, _), rows) in stacks.sets.iter().zip(&stacks.rows) {
                if phases.contains(&(index as u32)) {
                    for (leaf, ns, _) in rows {
                        let category = tree.categories[*leaf as usize];
                        found[usize::from(category.saturating_sub(CLOSING))] += ns;
                    }
                }
            }
            let all = resources::phase(&session, phase, &mut Classifier::default()).all;
            assert_eq!(found, strip::times(&all, 0), "{index}");
        }
        let rows: u64 = stacks.rows.iter().flatten().map(|(_, ns, _)| ns).sum();
        let lived: u64 = session.threads.iter().map(|thread| thread.span.len()).sum();
        assert_eq!(rows, lived);
        let work: u64 = stacks.work.values().flat_map(|work| work.times).sum();
        assert_eq!(work, lived);
    }

    /// Make sure that parents stand before their children, and that a name keeps its category.
    #[test]
    fn frames_of_the_tree() {
        let session = fixture::session();
        let mut strings = Strings::default();
        let mut tree = Tree::new(&mut strings);
        Stacks::new(&session, &mut tree, &mut strings);
        for (node, parent) in tree.parents.iter().enumerate().skip(1) {
            assert!((*parent as usize) < node);
        }
        let category = |name: &str| {
            let id = strings.all().iter().position(|known| known == name).unwrap();
            let node = tree.names.iter().position(|known| *known as usize == id).unwrap();
            tree.categories[node]
        };
        assert_eq!(category("cc1"), PROCESS);
        assert_eq!(category("c_parse_file"), USER);
        assert_eq!(category("asm_exc_page_fault"), KERNEL);
        assert_eq!(category("[disk]"), CLOSING + 2);
        assert_eq!(category("[short waits]"), CLOSING + 9);
    }

    /// Make sure that stacks beyond what there is room for are summed up and counted, and that no time goes with them.
    #[test]
    fn too_many_are_summed_up() {
        let mut stacks = Stacks::default();
        let mut strings = Strings::default();
        let mut tree = Tree::new(&mut strings);
        let rows = (0..ROWS_OF_SET as u32 + 10).map(|leaf| (tree.node(0, leaf, USER), (u64::from(leaf) + 1, 1)));
        let rows: HashMap<u32, (u64, u64)> = rows.collect();
        let all: u64 = rows.values().map(|(ns, _)| ns).sum();
        stacks.keep(vec![rows], &mut tree, &mut strings);
        assert_eq!((stacks.smaller, stacks.smaller_ns), (10, (1..=10).sum()));
        assert_eq!(stacks.rows[0].len(), ROWS_OF_SET + 1);
        assert_eq!(stacks.rows[0].iter().map(|(_, ns, _)| ns).sum::<u64>(), all);
    }
}

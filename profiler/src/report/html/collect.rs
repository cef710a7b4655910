//! Makes the page's data of a session.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::data::{Baseline, Containers, Data, Finding, Flame, Head, Kind, Operations, Phases, Strips, Wait, Works};
use super::paths::Paths;
use super::stacks::{Owner, Stacks, Tree, Work};
use super::strings::Strings;
use super::strip::{self, Row, STATES, Strip};
use super::{baseline, facts, layers};
use crate::attribute::layers::Table;
use crate::attribute::memory::Peaks;
use crate::attribute::owners::Owners;
use crate::attribute::resources::{self, PhaseResources};
use crate::attribute::waits::Classifier;
use crate::model::{ContainerIx, OperationIx, Phase, PhaseIx, ProcessIx, Session, Span, ThreadIx};
use crate::report::figures;
use crate::report::select::{all_phases, merge};
use crate::report::wait_details::{self, Detail};
use crate::report::{findings, names, text};

/// Pieces of the strip above the timeline.
const ACTIVITY: usize = 720;
/// Pieces of all strips together: what keeps a page below 20 MB.
const PIECES: usize = 300_000;
/// Most and fewest pieces of one strip.
const FINEST: usize = 400;
const COARSEST: usize = 12;
/// Processes of a phase, and of all, that get rows; the others are counted.
const WORKS_OF_OWNER: usize = 40;
const WORKS: usize = 20_000;
/// Waits of a phase told by their detail.
const DETAILS: usize = 8;
/// Waits of the recording told by their detail.
const WAITS: usize = 60;
/// Longest text of a name and of arguments, columns.
const NAME: usize = 160;
const ARGV: usize = 400;

/// Everything that the page shows; with an earlier recording, what has changed since.
pub(super) fn data(session: &Session, baseline: Option<&Session>) -> Data {
    let mut classifier = Classifier::default();
    let figures = resources::phases(session, &mut classifier);
    let mut strings = Strings::default();
    let mut tree = Tree::new(&mut strings);
    let stacks = Stacks::new(session, &mut tree, &mut strings);
    let paths = Paths::new(session, &mut tree, &mut strings);
    tree.forget_stacks();
    let baseline = baseline.map(|old| before(session, old, &mut tree, &mut strings));
    let mut page = Collector {
        session,
        strings,
        classifier,
        rows: Vec::new(),
        made: HashMap::new(),
    };
    let operations = page.operations(&paths);
    let containers = page.containers();
    let phases = page.phases(&figures, &paths);
    let works = page.works(&stacks.work);
    let activity = page.activity();
    let waits = page.waits();
    let strips = page.strips();
    let table = Table::new(session);
    let findings = findings::all(session, &figures, &mut page.classifier);
    Data {
        head: facts::head(session),
        strings: page.strings,
        states: STATES.to_vec(),
        kinds: kinds(),
        operations,
        containers,
        phases,
        works,
        strips,
        activity,
        flame: flame(tree, stacks, paths),
        baseline,
        waits,
        disk: layers::traffic(session),
        layers: layers::stacks(session, &table),
        moves: layers::moves(session, &table),
        findings: findings
            .into_iter()
            .map(|finding| Finding {
                question: finding.question,
                answered: finding.answered.name(),
                lines: finding.lines,
                phases: finding.phases.iter().map(|ix| ix.0).collect(),
            })
            .collect(),
        trust: facts::trust(session),
        host: facts::host(session),
        settings: facts::settings(session),
    }
}

fn kinds() -> Vec<Kind> {
    let kind = |name, title, states: std::ops::Range<usize>, path| Kind {
        name,
        title,
        states: states.collect(),
        path,
        bytes: false,
    };
    vec![
        kind("cpu", "On-CPU", 0..1, false),
        kind("offcpu", "Off-CPU", 2..10, false),
        kind("wall", "All time", 0..11, false),
        kind("critical", "Critical path", 0..STATES.len(), true),
        // Bytes have no state: the first stands for none.
        Kind {
            bytes: true,
            ..kind("disk", "Disk bytes", 0..1, false)
        },
    ]
}

/// A missing index is -1.
pub(super) fn index(ix: Option<u32>) -> i64 {
    ix.map_or(-1, i64::from)
}

fn signed(value: Option<u64>) -> i64 {
    value.and_then(|value| i64::try_from(value).ok()).unwrap_or(-1)
}

struct Collector<'a> {
    session: &'a Session,
    strings: Strings,
    classifier: Classifier,
    /// What gets a strip.
    rows: Vec<Row>,
    /// Strips of rows that are no threads', by number of the row.
    made: HashMap<usize, Strip>,
}

impl Collector<'_> {
    /// Since the recording's start.
    fn at(&self, ts: u64) -> u64 {
        ts.saturating_sub(self.session.span.from)
    }

    fn row(&mut self, span: Span, parts: BTreeMap<ProcessIx, Vec<Span>>) -> i64 {
        self.rows.push(Row { span, parts });
        (self.rows.len() - 1) as i64
    }

    /// The time of some phases' processes.
    fn of_phases<'b>(&self, phases: impl Iterator<Item = &'b Phase>) -> BTreeMap<ProcessIx, Vec<Span>> {
        let mut parts: BTreeMap<ProcessIx, Vec<Span>> = BTreeMap::new();
        for phase in phases {
            for process in &phase.processes {
                parts.entry(*process).or_default().push(phase.span);
            }
        }
        parts.values_mut().for_each(merge);
        parts
    }

    fn operations(&mut self, paths: &Paths) -> Operations {
        let session = self.session;
        let mut out = Operations::default();
        let mut phases: Vec<Vec<&Phase>> = vec![Vec::new(); session.operations.len()];
        for phase in &session.phases {
            if let Some(own) = phase.operation.and_then(|ix| phases.get_mut(ix.ix())) {
                own.push(phase);
            }
        }
        for (number, operation) in session.operations.iter().enumerate() {
            let mut parts = self.of_phases(phases[number].iter().copied());
            for process in &operation.processes {
                parts.entry(*process).or_default().push(operation.span);
            }
            parts.values_mut().for_each(merge);
            out.name.push(self.strings.hostile(operation.name.as_bytes(), NAME));
            out.from.push(self.at(operation.span.from));
            out.to.push(self.at(operation.span.to));
            out.open.push(u8::from(operation.open));
            out.pid.push(
                session
                    .processes
                    .get(operation.process.ix())
                    .map_or(0, |process| process.tgid),
            );
            out.processes.push(operation.processes.len());
            let outside = figures::outside_phases(session, OperationIx(number as u32));
            out.unattributed.push(figures::length(&outside));
            out.strip.push(self.row(operation.span, parts));
            out.path.extend(paths.operations[number]);
            self.made.insert(self.rows.len(), paths.strips[number].clone());
            out.path_strip.push(self.row(operation.span, BTreeMap::new()));
            out.chain.push(paths.chains[number].clone());
        }
        out
    }

    fn containers(&mut self) -> Containers {
        let session = self.session;
        let peaks = Peaks::new(session);
        let mut out = Containers::default();
        let mut phases: Vec<Vec<&Phase>> = vec![Vec::new(); session.containers.len()];
        for phase in &session.phases {
            if let Some(own) = phase.container.and_then(|ix| phases.get_mut(ix.ix())) {
                own.push(phase);
            }
        }
        for (number, container) in session.containers.iter().enumerate() {
            let name = text::fit(&names::container(session, ContainerIx(number as u32)), NAME);
            let by: Vec<&str> = [&container.engine[..], &container.runtime[..]]
                .into_iter()
                .filter(|name| !name.is_empty())
                .collect();
            out.name.push(self.strings.add(&name));
            out.image.push(self.strings.hostile(&container.image, NAME));
            out.by.push(self.strings.hostile(by.join(", ").as_bytes(), NAME));
            out.operation.push(index(container.operation.map(|ix| ix.0)));
            out.from.push(self.at(container.span.from));
            out.to.push(self.at(container.span.to));
            out.memory.push(signed(peaks.container(container)));
            let parts = self.of_phases(phases[number].iter().copied());
            out.strip.push(self.row(container.span, parts));
        }
        out
    }

    fn phases(&mut self, figures: &[PhaseResources], paths: &Paths) -> Phases {
        let session = self.session;
        let peaks = Peaks::new(session);
        let mut out = Phases::default();
        for (ix, figures) in all_phases(session).zip(figures) {
            let phase = &session.phases[ix.ix()];
            let name = text::fit(&names::phase(session, ix), NAME);
            out.kind.push(self.strings.add(phase.kind.name()));
            out.name.push(self.strings.add(&name));
            out.from.push(self.at(phase.span.from));
            out.to.push(self.at(phase.span.to));
            out.open.push(u8::from(phase.open));
            out.parent
                .push(index(phase.parent.filter(|parent| *parent < ix).map(|ix| ix.0)));
            out.operation.push(index(phase.operation.map(|ix| ix.0)));
            out.container.push(index(phase.container.map(|ix| ix.0)));
            let main = phase.main.map(|ix| self.thread(ix)).unwrap_or_default();
            out.main.push(self.strings.add(&main));
            out.wall.extend(strip::times(&figures.wall, figures.unattributed));
            out.path.extend(paths.phases[ix.ix()]);
            out.all.extend(strip::times(&figures.all, 0));
            out.cut.push(figures.all.cut);
            out.bytes.push(signed(phase.bytes));
            out.exit
                .push(figures::exit_status(session, phase).map_or(-1, i64::from));
            out.rss.push(signed(
                peaks.largest(&phase.processes, phase.span).map(|(_, bytes)| bytes),
            ));
            out.processes.push(figures.processes.len());
            out.began.push(self.strings.hostile(phase.evidence.0.as_bytes(), ARGV));
            out.ended.push(self.strings.hostile(phase.evidence.1.as_bytes(), ARGV));
            let distinct: BTreeSet<ProcessIx> = phase.processes.iter().copied().collect();
            let threads: Vec<ThreadIx> = distinct
                .iter()
                .filter_map(|ix| session.processes.get(ix.ix()))
                .flat_map(|process| process.threads.iter().copied())
                .collect();
            let main = wait_details::within(session, phase.main, phase.span, &mut self.classifier);
            let all = wait_details::within(session, threads, phase.span, &mut self.classifier);
            out.main_waits.push(self.details(&main));
            out.all_waits.push(self.details(&all));
            let parts = self.of_phases([phase].into_iter());
            out.strip.push(self.row(phase.span, parts));
        }
        out
    }

    /// `sh, pid 4711`
    fn thread(&self, ix: ThreadIx) -> String {
        let thread = self.session.threads.get(ix.ix());
        let Some(process) = thread.and_then(|thread| self.session.processes.get(thread.process.ix())) else {
            return String::new();
        };
        let name = process.image().map_or(&b"?"[..], names::program);
        format!("{}, pid {}", text::escape_terminal(name, NAME), process.tgid)
    }

    fn details(&mut self, details: &[Detail]) -> Vec<u64> {
        let mut numbers = Vec::new();
        for one in details.iter().take(DETAILS) {
            let detail = self.strings.add(&one.words(self.session));
            let state = strip::place(one.wait) as u64;
            numbers.extend([u64::from(detail), state, one.ns, one.count, one.longest]);
        }
        numbers
    }

    fn works(&mut self, work: &BTreeMap<(Owner, ProcessIx), Work>) -> Works {
        let mut owners: BTreeMap<Owner, Vec<(ProcessIx, &Work)>> = BTreeMap::new();
        for ((owner, process), work) in work {
            owners.entry(*owner).or_default().push((*process, work));
        }
        let mut most = WORKS_OF_OWNER;
        while most > 1 && owners.values().map(|works| works.len().min(most)).sum::<usize>() > WORKS {
            most /= 2;
        }
        let mut out = Works::default();
        for (owner, mut works) in owners {
            let (phase, operation) = match owner {
                Owner::Phase(ix) => (i64::from(ix.0), -1),
                Owner::Operation(ix) => (-1, i64::from(ix.0)),
                Owner::Nobody => (-1, -1),
            };
            let busy = |work: &Work| work.times[..4].iter().sum::<u64>();
            let lived = |work: &Work| work.times.iter().sum::<u64>();
            works.sort_by_key(|(ix, work)| (std::cmp::Reverse((busy(work), lived(work))), *ix));
            let rest = works.split_off(most.min(works.len()));
            if !rest.is_empty() {
                let cpu = rest.iter().map(|(_, work)| work.times[0]).sum();
                out.more.push([phase, operation, rest.len() as i64, signed(Some(cpu))]);
            }
            works.sort_by_key(|(ix, work)| (work.spans.first().map(|span| span.from), *ix));
            for (ix, work) in works {
                let (Some(first), Some(last)) = (work.spans.first(), work.spans.last()) else {
                    continue;
                };
                let span = Span {
                    from: first.from,
                    to: last.to,
                };
                let process = &self.session.processes[ix.ix()];
                // What it ran last of what this owner saw.
                let image = process.image_at(span.to.saturating_sub(1));
                let program = image.map_or(&b"[unknown program]"[..], names::program);
                let argv = image
                    .map(|image| text::fit(&text::argv(&image.argv), ARGV))
                    .unwrap_or_default();
                out.phase.push(phase);
                out.operation.push(operation);
                out.program.push(self.strings.hostile(program, NAME));
                out.argv.push(self.strings.add(&argv));
                out.pid.push(process.tgid);
                out.from.push(self.at(span.from));
                out.to.push(self.at(span.to));
                out.times.extend(work.times);
                out.strip.push(self.row(span, [(ix, work.spans.clone())].into()));
            }
        }
        out
    }

    fn strips(&mut self) -> Strips {
        let session = self.session;
        let counts: Vec<usize> = self.rows.iter().map(|row| row.intervals(session, FINEST)).collect();
        let mut pieces = FINEST;
        while pieces > COARSEST && counts.iter().map(|count| (*count).min(pieces)).sum::<usize>() > PIECES {
            pieces /= 2;
        }
        let mut strips = Strips {
            starts: vec![0],
            pieces,
            ..Strips::default()
        };
        for (number, row) in self.rows.iter().enumerate() {
            let strip = match self.made.remove(&number) {
                Some(strip) => strip,
                None => row.strip(session, pieces, &mut self.classifier),
            };
            strips.numbers.extend(strip.numbers);
            strips.starts.push(strips.numbers.len());
        }
        strips
    }

    fn activity(&mut self) -> Vec<u64> {
        let span = self.session.span;
        let everybody = (0..self.session.processes.len() as u32)
            .map(|ix| (ProcessIx(ix), vec![span]))
            .collect();
        let row = Row { span, parts: everybody };
        let bins = row.bins(self.session, ACTIVITY, &mut self.classifier);
        bins.into_iter().flat_map(|(_, times)| times).collect()
    }

    fn waits(&mut self) -> Vec<Wait> {
        let session = self.session;
        let threads = (0..session.threads.len() as u32).map(ThreadIx);
        let details = wait_details::within(session, threads, session.span, &mut self.classifier);
        let owners = Owners::new(session);
        let mut out = Vec::new();
        for one in details.iter().take(WAITS) {
            let process = session.threads.get(one.thread.ix()).map(|thread| thread.process);
            let phase = process.and_then(|process| owners.phase(process, one.from));
            let who = self.thread(one.thread);
            out.push(Wait {
                state: strip::place(one.wait),
                detail: one.detail,
                ns: one.ns,
                count: one.count,
                longest: one.longest,
                who: self.strings.add(&who),
                from: self.at(one.from),
                phase: index(phase.map(|PhaseIx(ix)| ix)),
            });
        }
        out
    }
}

fn flame(tree: Tree, stacks: Stacks, paths: Paths) -> Flame {
    let parent = (0u32..)
        .zip(&tree.parents)
        .map(|(node, parent)| node - parent)
        .collect();
    let sets = stacks.sets.into_iter();
    Flame {
        parent,
        name: tree.names,
        category: tree.categories,
        rows: stacks.rows.into_iter().map(numbers).collect(),
        moved: stacks.moved.into_iter().map(numbers).collect(),
        sets: sets.map(|(phases, operation)| (phases, index(operation))).collect(),
        paths: paths.rows.into_iter().map(numbers).collect(),
        smaller: stacks.smaller + paths.smaller,
        smaller_ns: stacks.smaller_ns + paths.smaller_ns,
    }
}

/// Rows of one set as [`Flame::rows`] has them.
fn numbers(rows: Vec<(u32, u64, u64)>) -> Vec<u64> {
    let mut before = 0;
    let mut numbers = Vec::with_capacity(rows.len() * 3);
    for (node, ns, count) in rows {
        numbers.extend([u64::from(node - before), ns, count]);
        before = node;
    }
    numbers
}

/// An earlier recording in terms of this one.
fn before(session: &Session, old: &Session, tree: &mut Tree, strings: &mut Strings) -> Baseline {
    let phases = baseline::phases(old, session);
    let operations = baseline::operations(old, session);
    let stacks = Stacks::new(old, tree, strings);
    let mut wall = vec![-1; session.phases.len()];
    for (old, new) in old.phases.iter().zip(&phases) {
        if let Some(wall) = new.and_then(|new| wall.get_mut(new as usize)) {
            *wall = signed(Some(old.span.len()));
        }
    }
    let set = |(of, operation): (Vec<u32>, Option<u32>)| {
        let of = of
            .into_iter()
            .filter_map(|old| phases.get(old as usize).copied().flatten());
        let operation = operation.and_then(|old| operations.get(old as usize).copied().flatten());
        (of.collect(), index(operation))
    };
    let Head { title, mut facts, .. } = facts::head(old);
    facts.insert(0, title);
    Baseline {
        title: facts.join(", "),
        span: old.span.len(),
        wall,
        sets: stacks.sets.into_iter().map(set).collect(),
        rows: stacks.rows.into_iter().map(numbers).collect(),
        gone: phases.iter().filter(|new| new.is_none()).count(),
    }
}

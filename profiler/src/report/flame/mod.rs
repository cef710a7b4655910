//! Flamegraphs: time by where it was spent, as folded lines and as an SVG made by inferno.
//!
//! Frames, root first, as far as [`Roots`] has them: the operation, the phases from the outermost to the innermost at that moment (a container's
//! name before its first phase), the processes from the topmost of that phase down, the thread where it has a name of
//! its own, then the stack, kernel frames marked `_[k]` as FlameGraph has it. Waits end in a frame with their class.
//! What has no stack ends in a frame in brackets that says why.
//!
//! Counts are µs, of [`Kind::Disk`] bytes. µs are rounded as a running sum, so each line is off by less than 1 µs and their
//! total by less than 1 µs from the exact time that the other reports show.

pub mod differential;
pub(in crate::report) mod frames;
mod roots;
mod svg;

use std::collections::{BTreeMap, HashMap};

use super::select::Selection;
use super::{text, units};
use crate::attribute::critical::{Path, Paths};
use crate::attribute::resources::Wait;
use crate::attribute::stacks::{self, StackRow};
use crate::attribute::waits::Classifier;
use crate::model::{Interval, OperationIx, ProcessIx, Session, Span};

use frames::{Frames, PART};
pub use roots::Roots;

/// Less is 0 µs: nothing to draw, ns.
const SHORTEST: u64 = 500;

/// Which time is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Time on CPUs, by samples.
    #[default]
    Cpu,
    /// Time blocked, by the waits' own stacks.
    OffCpu,
    /// All time of all threads: on CPUs, in run queues, blocked.
    Wall,
    /// The critical paths of the phases or operations: wall time, by what it was spent on and waited for.
    Critical,
    /// Bytes that had to be read for files, and bytes of files made dirty, by who did it.
    Disk,
    /// Time blocked on disks alone.
    DiskTime,
}

/// What widths are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Time,
    Bytes,
}

impl Unit {
    fn text(self, amount: u64) -> String {
        match self {
            Unit::Time => units::time(amount),
            Unit::Bytes => units::bytes(amount),
        }
    }
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::OffCpu => "offcpu",
            Kind::Wall => "wall",
            Kind::Critical => "critical",
            Kind::Disk => "disk",
            Kind::DiskTime => "disk-time",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Cpu => "on-CPU time",
            Kind::OffCpu => "blocked time",
            Kind::Wall => "all time of all threads",
            Kind::Critical => "critical path",
            Kind::Disk => "bytes read cold and made dirty",
            Kind::DiskTime => "time blocked on disks",
        }
    }

    fn unit(self) -> Unit {
        match self {
            Kind::Disk => Unit::Bytes,
            Kind::Cpu | Kind::OffCpu | Kind::Wall | Kind::Critical | Kind::DiskTime => Unit::Time,
        }
    }
}

/// There is nothing to draw.
#[derive(Debug, thiserror::Error)]
pub enum Empty {
    #[error("no process lived in {selection}")]
    NoProcess { selection: String },
    #[error("no {kind} in {selection}")]
    NoTime { kind: &'static str, selection: String },
    #[error(
        "no CPU samples in {selection}: it was on CPUs for {cpu}, and at {hz} Hz a sample is taken every {every} on \
         each CPU"
    )]
    NoSamples {
        selection: String,
        cpu: String,
        hz: u32,
        every: String,
    },
}

/// Time, or bytes, by stack.
#[derive(Debug)]
pub struct Flame {
    /// Frames parted by [`PART`], root first, with their time, ns, or bytes.
    stacks: BTreeMap<String, u64>,
    unit: Unit,
    colors: frames::Categories,
    title: String,
    subtitle: String,
    /// Exact time of the selection, ns, or bytes.
    pub total: u64,
    /// CPU samples in it.
    pub samples: u64,
}

/// Gathers the selected time.
///
/// # Errors
///
/// There is none of it.
pub fn collect(session: &Session, selection: &Selection, kind: Kind, roots: Roots) -> Result<Flame, Empty> {
    let named = match &selection.title[..] {
        "" => "the recording".to_owned(),
        title => title.to_owned(),
    };
    let mut frames = Frames::new(session, roots);
    let mut classifier = Classifier::default();
    let mut flame = Flame {
        stacks: BTreeMap::new(),
        unit: kind.unit(),
        colors: frames::Categories::default(),
        title: String::new(),
        subtitle: String::new(),
        total: 0,
        samples: 0,
    };
    let mut sampled_ns = 0;
    let mut add = |at, row: &StackRow, frames: &mut Frames<'_>| {
        flame.total = flame.total.saturating_add(row.ns);
        if is_sample(session, row) {
            flame.samples = flame.samples.saturating_add(row.count);
            sampled_ns = row.ns.saturating_add(sampled_ns);
        }
        let line = frames.line(row.process, at, row);
        let sum = flame.stacks.entry(line).or_default();
        *sum = sum.saturating_add(row.ns);
    };
    if kind == Kind::Critical {
        let mut unattributed = 0;
        let segments = paths(session, selection).into_iter().flat_map(|path| path.segments);
        for segment in segments {
            let (Some((thread, state)), Some(process)) = (segment.doing, segment.process(session)) else {
                unattributed = segment.span.len().saturating_add(unattributed);
                continue;
            };
            let span = segment.span;
            let wait = segment.class(session, state, &mut classifier).wait;
            for slice in frames.slices(process, span) {
                let piece = Interval { span, state }.clip(slice);
                for row in stacks::of_piece(session, process, thread, piece, wait) {
                    add(slice.from, &row, &mut frames);
                }
            }
        }
        if unattributed > 0 {
            flame.total = flame.total.saturating_add(unattributed);
            let sum = flame.stacks.entry(frames.synthetic(UNATTRIBUTED)).or_default();
            *sum = sum.saturating_add(unattributed);
        }
    } else {
        let spans = selection.spans(session);
        if spans.iter().all(Vec::is_empty) {
            return Err(Empty::NoProcess { selection: named });
        }
        let moved = match kind {
            Kind::Disk => Moved::new(session),
            _ => Moved::default(),
        };
        for (index, spans) in spans.iter().enumerate() {
            let process = ProcessIx(index as u32);
            let slices: Vec<Span> = spans.iter().flat_map(|span| frames.slices(process, *span)).collect();
            for slice in slices {
                for row in moved.within(process, slice) {
                    add(slice.from, row, &mut frames);
                }
                for row in rows(session, process, slice, kind, &mut classifier) {
                    add(slice.from, &row, &mut frames);
                }
            }
        }
    }
    let least = match kind.unit() {
        Unit::Time => SHORTEST,
        Unit::Bytes => 1,
    };
    if flame.total < least {
        return Err(Empty::NoTime {
            kind: kind.title(),
            selection: named,
        });
    }
    if kind == Kind::Cpu && flame.samples == 0 {
        return Err(Empty::NoSamples {
            selection: named,
            cpu: units::time(flame.total),
            hz: session.meta.sample_hz,
            every: units::time(1_000_000_000 / u64::from(session.meta.sample_hz.max(1))),
        });
    }
    flame.title = text::fit(
        &format!("{}: {}, {named}", kind.title(), kind.unit().text(flame.total)),
        110,
    );
    let evidence = match kind {
        Kind::Cpu => format!(
            "{} samples at {} Hz stand for {} of it",
            units::count(flame.samples),
            session.meta.sample_hz,
            units::share(sampled_ns, flame.total)
        ),
        Kind::OffCpu | Kind::Wall | Kind::Critical | Kind::DiskTime => format!("{} CPUs", session.meta.cpus),
        Kind::Disk => "pages that were not in the page cache, or not dirty, before".to_owned(),
    };
    let command = match &session.meta.command[..] {
        [] => "whole host".to_owned(),
        command => text::fit(&text::argv(command), 80),
    };
    let host = text::visible(session.meta.hostname.as_bytes());
    flame.subtitle = text::fit(&format!("{command} · {host} · {evidence}"), 150);
    flame.colors = frames.into_categories();
    Ok(flame)
}

/// Frame of time of a critical path that no thread covers.
const UNATTRIBUTED: &str = "[unattributed]";

/// The selected phases' critical paths, of those within each other the outer one's; else the operations'.
fn paths(session: &Session, selection: &Selection) -> Vec<Path> {
    let paths = Paths::new(session);
    let Some(phases) = &selection.phases else {
        let operations = (0..session.operations.len() as u32).map(OperationIx);
        let asked = operations.filter(|ix| selection.has_operation(Some(*ix)));
        return asked.map(|ix| paths.of_operation(ix)).collect();
    };
    let outer = phases.iter().filter(|ix| {
        let mut above = session.phases[ix.ix()].parent;
        for _ in 0..session.phases.len() {
            match above {
                Some(parent) if phases.contains(&parent) => return false,
                Some(parent) => above = session.phases.get(parent.ix()).and_then(|phase| phase.parent),
                None => break,
            }
        }
        true
    });
    outer.map(|ix| paths.of_phase(*ix)).collect()
}

fn rows(session: &Session, process: ProcessIx, span: Span, kind: Kind, classifier: &mut Classifier) -> Vec<StackRow> {
    match kind {
        Kind::Cpu => stacks::on_cpu(session, &[process], span),
        Kind::OffCpu => stacks::off_cpu(session, &[process], span, classifier),
        Kind::Wall => stacks::wall(session, &[process], span, classifier),
        Kind::DiskTime => {
            let mut rows = stacks::off_cpu(session, &[process], span, classifier);
            rows.retain(|row| row.wait == Some(Wait::Disk) || row.label == Some(stacks::no_stack(Wait::Disk)));
            rows
        }
        // Not of a process's time: see `collect`.
        Kind::Critical | Kind::Disk => Vec::new(),
    }
}

/// Label of bytes that had to be read, and of those made dirty.
const READ: &str = "[read cold]";
const DIRTY: &str = "[made dirty]";

/// Bytes of files that each process moved, as rows, in order of time.
#[derive(Default)]
pub(in crate::report) struct Moved(HashMap<ProcessIx, Vec<(u64, StackRow)>>);

impl Moved {
    pub(in crate::report) fn new(session: &Session) -> Moved {
        let mut moved = Moved::default();
        for run in &session.page_runs {
            let known = run.thread.and_then(|ix| Some((ix, session.threads.get(ix.ix())?)));
            let Some((ix, thread)) = known else { continue };
            for (label, pages) in [(READ, run.read()), (DIRTY, run.written())] {
                if pages > 0 {
                    let row = StackRow {
                        process: thread.process,
                        thread: ix,
                        stack: run.stack,
                        label: Some(label),
                        wait: None,
                        ns: u64::from(pages) * session.page(),
                        count: u64::from(pages),
                    };
                    moved.0.entry(thread.process).or_default().push((run.span.from, row));
                }
            }
        }
        for rows in moved.0.values_mut() {
            rows.sort_by_key(|(ts, _)| *ts);
        }
        moved
    }

    /// What a process began to move within a span.
    pub(in crate::report) fn within(&self, process: ProcessIx, span: Span) -> impl Iterator<Item = &StackRow> {
        let rows = self.0.get(&process).map_or(&[][..], Vec::as_slice);
        let first = rows.partition_point(|(ts, _)| *ts < span.from);
        let end = rows.partition_point(|(ts, _)| *ts < span.to).max(first);
        rows[first..end].iter().map(|(_, row)| row)
    }
}

/// Whether a row stands for CPU samples with a stack, and not for a wait.
fn is_sample(session: &Session, row: &StackRow) -> bool {
    row.wait.is_none() && row.label.is_none() && session.stacks.get(row.stack).is_some()
}

impl Flame {
    /// Folded lines with their counts in µs or bytes, sorted; each ends in a newline.
    pub fn folded(&self) -> String {
        let mut out = String::new();
        for line in self.lines(false) {
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// What is drawn, for people; harmless.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Every stack's frames, root first, with its exact time, ns, or bytes; in order of the frames.
    pub fn stacks(&self) -> impl Iterator<Item = (impl Iterator<Item = &str>, u64)> {
        self.stacks.iter().map(|(line, ns)| (line.split(PART), *ns))
    }

    /// The flamegraph; leaf frames at the root with `reverse`, to see which functions take most from wherever they
    /// are called.
    ///
    /// # Errors
    ///
    /// inferno's; none that depends on the recording.
    pub fn svg(&self, reverse: bool) -> std::io::Result<Vec<u8>> {
        svg::draw(self, &self.lines(reverse), reverse)
    }

    /// Folded lines, sorted by frame.
    fn lines(&self, reverse: bool) -> Vec<String> {
        let turned: BTreeMap<String, u64>;
        let stacks = if reverse {
            turned = self.stacks.iter().map(|(line, ns)| (turn(line), *ns)).collect();
            &turned
        } else {
            &self.stacks
        };
        let mut lines = Vec::with_capacity(stacks.len());
        // Wide enough for the sum of whatever a broken recording claims.
        let (mut sum_ns, mut sum_us) = (0u128, 0u128);
        for (line, ns) in stacks {
            if self.unit == Unit::Bytes {
                lines.push(format!("{} {ns}", line.replace(PART, ";")));
                continue;
            }
            sum_ns += u128::from(*ns);
            let us = (sum_ns + 500) / 1_000 - sum_us;
            sum_us += us;
            if us > 0 {
                lines.push(format!("{} {us}", line.replace(PART, ";")));
            }
        }
        lines
    }
}

/// Frames leaf first.
fn turn(line: &str) -> String {
    let mut frames: Vec<&str> = line.split(PART).collect();
    frames.reverse();
    frames.join(&PART.to_string())
}

#[cfg(test)]
mod tests;

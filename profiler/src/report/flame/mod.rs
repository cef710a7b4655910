//! Flamegraphs: time by where it was spent, as folded lines and as an SVG made by inferno.
//!
//! Frames, root first, as far as [`Roots`] has them: the operation, the phases from the outermost to the innermost at that moment (a container's
//! name before its first phase), the processes from the topmost of that phase down, the thread where it has a name of
//! its own, then the stack, kernel frames marked `_[k]` as FlameGraph has it. Waits end in a frame with their class.
//! What has no stack ends in a frame in brackets that says why.
//!
//! Counts are µs. They are rounded as a running sum, so each line is off by less than 1 µs and their total by less
//! than 1 µs from the exact time that the other reports show.

pub mod differential;
pub(in crate::report) mod frames;
mod roots;
mod svg;

use std::collections::BTreeMap;

use super::select::Selection;
use super::{text, units};
use crate::attribute::critical::{Path, Paths};
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
}

impl Kind {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Cpu => "cpu",
            Kind::OffCpu => "offcpu",
            Kind::Wall => "wall",
            Kind::Critical => "critical",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Kind::Cpu => "on-CPU time",
            Kind::OffCpu => "blocked time",
            Kind::Wall => "all time of all threads",
            Kind::Critical => "critical path",
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

/// Time by stack.
#[derive(Debug)]
pub struct Flame {
    /// Frames parted by [`PART`], root first, with their time, ns.
    stacks: BTreeMap<String, u64>,
    colors: frames::Categories,
    title: String,
    subtitle: String,
    /// Exact time of the selection, ns.
    pub total_ns: u64,
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
        colors: frames::Categories::default(),
        title: String::new(),
        subtitle: String::new(),
        total_ns: 0,
        samples: 0,
    };
    let mut sampled_ns = 0;
    let mut add = |at, row: &StackRow, frames: &mut Frames<'_>| {
        flame.total_ns += row.ns;
        if is_sample(session, row) {
            flame.samples += row.count;
            sampled_ns += row.ns;
        }
        let line = frames.line(row.process, at, row);
        *flame.stacks.entry(line).or_default() += row.ns;
    };
    if kind == Kind::Critical {
        let mut unattributed = 0;
        let segments = paths(session, selection).into_iter().flat_map(|path| path.segments);
        for segment in segments {
            let (Some((thread, state)), Some(process)) = (segment.doing, segment.process(session)) else {
                unattributed += segment.span.len();
                continue;
            };
            let span = segment.span;
            for slice in frames.slices(process, span) {
                let piece = Interval { span, state }.clip(slice);
                for row in stacks::of_piece(session, process, thread, piece, &mut classifier) {
                    add(slice.from, &row, &mut frames);
                }
            }
        }
        if unattributed > 0 {
            flame.total_ns += unattributed;
            *flame.stacks.entry(frames.synthetic(UNATTRIBUTED)).or_default() += unattributed;
        }
    } else {
        let spans = selection.spans(session);
        if spans.iter().all(Vec::is_empty) {
            return Err(Empty::NoProcess { selection: named });
        }
        for (index, spans) in spans.iter().enumerate() {
            let process = ProcessIx(index as u32);
            let slices: Vec<Span> = spans.iter().flat_map(|span| frames.slices(process, *span)).collect();
            for slice in slices {
                for row in rows(session, process, slice, kind, &mut classifier) {
                    add(slice.from, &row, &mut frames);
                }
            }
        }
    }
    if flame.total_ns < SHORTEST {
        return Err(Empty::NoTime {
            kind: kind.title(),
            selection: named,
        });
    }
    if kind == Kind::Cpu && flame.samples == 0 {
        return Err(Empty::NoSamples {
            selection: named,
            cpu: units::time(flame.total_ns),
            hz: session.meta.sample_hz,
            every: units::time(1_000_000_000 / u64::from(session.meta.sample_hz.max(1))),
        });
    }
    flame.title = text::fit(
        &format!("{}: {}, {named}", kind.title(), units::time(flame.total_ns)),
        110,
    );
    let evidence = match kind {
        Kind::Cpu => format!(
            "{} samples at {} Hz stand for {} of it",
            units::count(flame.samples),
            session.meta.sample_hz,
            units::share(sampled_ns, flame.total_ns)
        ),
        Kind::OffCpu | Kind::Wall | Kind::Critical => format!("{} CPUs", session.meta.cpus),
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
        let asked = operations.filter(|ix| selection.operation.is_none_or(|asked| asked == *ix));
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
        // Not by process: see `collect`.
        Kind::Critical => Vec::new(),
    }
}

/// Whether a row stands for CPU samples with a stack, and not for a wait.
fn is_sample(session: &Session, row: &StackRow) -> bool {
    row.wait.is_none() && session.stacks.get(row.stack).is_some()
}

impl Flame {
    /// Folded lines with their counts in µs, sorted; each ends in a newline.
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

    /// Every stack's frames, root first, with its exact time, ns; in order of the frames.
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
        let (mut sum_ns, mut sum_us) = (0u64, 0u64);
        for (line, ns) in stacks {
            sum_ns += ns;
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

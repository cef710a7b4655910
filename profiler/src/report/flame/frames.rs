//! Which frames stand below a stack: operation, phases, processes, thread.

use std::collections::{HashMap, HashSet};

use super::roots::{Level, Roots};
use crate::attribute::owners::{self, Owners};
use crate::attribute::stacks::StackRow;
use crate::model::{ContainerIx, PhaseIx, Process, ProcessIx, Session, Span};
use crate::report::{names, text};

/// Parts frames within a line until it is written. No frame holds it ([`text::visible`]), and it sorts before every
/// character that one can hold, so lines are in the order of their frames and not of their characters: inferno merges
/// neighbours only.
pub(super) const PART: char = '\x01';

/// Most processes drawn on top of each other; a chain of forks can be any length.
const DEEPEST: usize = 32;

/// Longest arguments in a frame, bytes.
const MAX_ARGUMENTS: usize = 160;

/// What a frame is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::report) enum Category {
    User,
    Kernel,
    /// In brackets: made by us.
    Synthetic,
    Process,
    Thread,
    /// Operation, container or phase.
    Lifecycle,
}

/// Category of each frame; of one name in several, the last in order.
pub(super) type Categories = HashMap<String, Category>;

/// Makes lines.
pub(in crate::report) struct Frames<'a> {
    session: &'a Session,
    roots: Roots,
    owners: Owners<'a>,
    members: Vec<HashSet<ProcessIx>>,
    stacks: HashMap<u32, String>,
    categories: Categories,
}

impl<'a> Frames<'a> {
    pub(in crate::report) fn new(session: &'a Session, roots: Roots) -> Frames<'a> {
        let members = session
            .phases
            .iter()
            .map(|phase| phase.processes.iter().copied().collect());
        Frames {
            session,
            roots,
            owners: Owners::new(session),
            members: members.collect(),
            stacks: HashMap::new(),
            categories: Categories::new(),
        }
    }

    /// Cuts a span of a process wherever its frames change: at edges of its phases and at its execs.
    pub(in crate::report) fn slices(&self, process: ProcessIx, span: Span) -> Vec<Span> {
        let execs = self.session.processes[process.ix()].images.iter().map(|image| image.ts);
        owners::cut(span, self.owners.edges(process).chain(execs))
    }

    /// The frames of a row of time that began at `ts`.
    pub(super) fn line(&mut self, process: ProcessIx, ts: u64, row: &StackRow) -> String {
        let line = self.below(process, ts, row);
        let (below, stack) = (self.finish(line), self.stack(row));
        if below.is_empty() {
            return stack;
        }
        format!("{below}{PART}{stack}")
    }

    /// The frames below a row's stack, root first.
    pub(in crate::report) fn below(&self, process: ProcessIx, ts: u64, row: &StackRow) -> Line {
        let phase = self.owners.phase(process, ts);
        let mut line = Line::default();
        let operation = match phase {
            Some(phase) => self.session.phases[phase.ix()].operation,
            None => self.owners.apart(process),
        };
        let has = |level| self.roots.has(level);
        let operation = operation.filter(|_| has(Level::Operation));
        if let Some(operation) = operation.and_then(|ix| self.session.operations.get(ix.ix())) {
            line.push(operation.name.as_bytes(), Category::Lifecycle);
        }
        let mut container: Option<ContainerIx> = None;
        for ix in phase.map(|phase| path(self.session, phase)).unwrap_or_default() {
            let own = self.session.phases[ix.ix()].container;
            if let Some(own) = own.filter(|_| own != container && has(Level::Container)) {
                line.push(
                    format!("container {}", names::container(self.session, own)).as_bytes(),
                    Category::Lifecycle,
                );
                container = Some(own);
            }
            if has(Level::Phase) {
                line.push(names::phase(self.session, ix).as_bytes(), Category::Lifecycle);
            }
        }
        let chain = self.ancestry(process, ts, phase);
        if let Some((own, parents)) = chain.split_last() {
            for name in parents.iter().filter(|_| has(Level::Parents)) {
                line.push(name, Category::Process);
            }
            if has(Level::Process) {
                line.push(own, Category::Process);
            }
        }
        if has(Level::Arguments)
            && let Some(arguments) = self.arguments(process, ts)
        {
            line.push(&arguments, Category::Process);
        }
        if has(Level::Thread)
            && let Some(name) = self.thread_name(row, ts)
        {
            line.push(name, Category::Thread);
        }
        line
    }

    /// For whom processes work.
    pub(in crate::report) fn owners(&self) -> &Owners<'a> {
        &self.owners
    }

    /// Programs from the topmost process that works for the same phase (or operation) down to this one.
    fn ancestry(&self, process: ProcessIx, ts: u64, phase: Option<PhaseIx>) -> Vec<&'a [u8]> {
        let operation = self.owners.apart(process);
        let mut chain = Vec::new();
        let (mut ix, mut ts) = (process, ts);
        while chain.len() < DEEPEST {
            let Some(own) = self.session.processes.get(ix.ix()) else {
                break;
            };
            chain.push(program_at(own, ts));
            let Some(parent) = own.parent else { break };
            let together = match phase {
                Some(phase) => self.members[phase.ix()].contains(&parent),
                None => self.owners.apart(parent) == operation,
            };
            // A broken recording could go round.
            if !together || parent == process {
                break;
            }
            (ix, ts) = (parent, own.span.from);
        }
        chain.reverse();
        chain
    }

    /// A process' arguments behind its program's name, within bounds.
    fn arguments(&self, process: ProcessIx, ts: u64) -> Option<Vec<u8>> {
        let image = self.session.processes.get(process.ix())?.image_at(ts)?;
        let mut joined = Vec::new();
        for argument in image.argv.iter().skip(1) {
            if joined.len() > MAX_ARGUMENTS {
                break;
            }
            if !joined.is_empty() {
                joined.push(b' ');
            }
            joined.extend_from_slice(argument);
        }
        if joined.len() > MAX_ARGUMENTS {
            joined.truncate(MAX_ARGUMENTS);
            joined.extend_from_slice("…".as_bytes());
        }
        (!joined.is_empty()).then_some(joined)
    }

    /// A thread's name, where it says more than its process's.
    fn thread_name(&self, row: &StackRow, ts: u64) -> Option<&'a [u8]> {
        let thread = self.session.threads.get(row.thread.ix())?;
        let process = self.session.processes.get(row.process.ix())?;
        let comm = &thread.comm[..];
        let known = process
            .image_at(ts)
            .is_some_and(|image| image.comm == comm || names::program(image) == comm);
        (thread.id.tid != thread.id.tgid && !known && !comm.is_empty()).then_some(comm)
    }

    /// The frames of a row's stack and what stands for it or closes it.
    fn stack(&mut self, row: &StackRow) -> String {
        let known = self.stacks.get(&row.stack).cloned();
        let stack = known.unwrap_or_else(|| {
            let new = self.frames(row.stack);
            self.stacks.insert(row.stack, new.clone());
            new
        });
        let mut line = Line {
            text: stack,
            frames: Vec::new(),
        };
        line.close(row);
        self.finish(line)
    }

    /// A line's text; its frames' categories are kept.
    fn finish(&mut self, line: Line) -> String {
        for (name, category) in line.frames {
            let known = self.categories.entry(name).or_insert(category);
            *known = category.max(*known);
        }
        line.text
    }

    fn frames(&mut self, id: u32) -> String {
        let line = self.stack_frames(id);
        self.finish(line)
    }

    /// The frames of a stack, root first; none of an unknown one.
    pub(in crate::report) fn stack_frames(&self, id: u32) -> Line {
        let mut line = Line::default();
        let Some(stack) = self.session.stacks.get(id) else {
            return line;
        };
        let kernel = usize::from(stack.kernel);
        if stack.frames.len() <= kernel && stack.user_error != 0 {
            line.push(b"[no user stack]", Category::Synthetic);
        }
        for (index, frame) in stack.frames.iter().enumerate().rev() {
            let mut name = self.session.stacks.name(*frame);
            if index < kernel {
                name.extend_from_slice(b"_[k]");
                line.push(&name, Category::Kernel);
            } else {
                line.push(&name, Category::User);
                for inlined in self.session.stacks.inlined.get(frame).into_iter().flatten().rev() {
                    line.push(inlined, Category::User);
                }
            }
        }
        line
    }

    /// A line of one frame of our own.
    pub(super) fn synthetic(&mut self, label: &str) -> String {
        let mut line = Line::default();
        line.push(label.as_bytes(), Category::Synthetic);
        self.finish(line)
    }

    pub(super) fn into_categories(self) -> Categories {
        self.categories
    }
}

/// A line as it grows.
#[derive(Default)]
pub(in crate::report) struct Line {
    text: String,
    /// Those that are not categorised yet.
    pub(in crate::report) frames: Vec<(String, Category)>,
}

impl Line {
    /// Adds what a row's stack ends in: why there is none, or what was waited for.
    pub(in crate::report) fn close(&mut self, row: &StackRow) {
        if let Some(label) = row.label {
            self.push(label.as_bytes(), Category::Synthetic);
        } else if let Some(wait) = row.wait {
            self.push(format!("[{}]", wait.name()).as_bytes(), Category::Synthetic);
        } else if self.text.is_empty() {
            self.push(b"[no stack]", Category::Synthetic);
        }
    }

    fn push(&mut self, name: &[u8], category: Category) {
        let frame = text::escape_folded(name);
        if !self.text.is_empty() {
            self.text.push(PART);
        }
        self.text.push_str(&frame);
        self.frames.push((frame, category));
    }
}

fn program_at(process: &Process, ts: u64) -> &[u8] {
    process.image_at(ts).map_or(b"[unknown program]", names::program)
}

/// A phase and those above it, outermost first.
fn path(session: &Session, phase: PhaseIx) -> Vec<PhaseIx> {
    let mut path = vec![phase];
    while let Some(last) = path.last() {
        match session.phases[last.ix()].parent {
            Some(parent) if parent.ix() < session.phases.len() && !path.contains(&parent) => path.push(parent),
            _ => break,
        }
    }
    path.reverse();
    path
}

//! The user's own phases: marks (`phasegraph mark`) and rules on arguments (`phasegraph.toml`).
//!
//! Each belongs to where it was made: a container, else the operation whose client made it, else the host. Marks of one
//! place nest as they lie in time: one that lies within another is its child, two that overlap are siblings. Within a
//! command lies only what that command or a descendant of it made: commands at once are siblings.

use std::collections::HashMap;

use super::container::Draft;
use super::context::Context;
use super::operation::{self, Requests};
use crate::lookup::rules::Rule;
use crate::model::{ContainerIx, OperationIx, Phase, PhaseIx, PhaseKind, ProcessIx, Span, ThreadIx};
use crate::recording::record::{Mark, MarkOp, Text};

/// Where a phase of the user's belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Container(usize),
    Operation(OperationIx),
    Host,
}

/// A phase without its place in the tree.
struct Found {
    place: Place,
    label: Text,
    span: Span,
    open: bool,
    main: Option<ThreadIx>,
    processes: Vec<ProcessIx>,
    evidence: (String, String),
    /// Who made it, if that process is profiled.
    maker: Option<ProcessIx>,
    /// Whose lives it is; nobody's for what is between two marks.
    commands: Vec<ProcessIx>,
}

/// Adds the phases of marks and rules to those of the containers.
pub(super) fn phases(context: &Context<'_>, requests: &Requests, drafts: &[Draft], phases: &mut Vec<Phase>) {
    let (marks, rules) = (&context.session.marks, &context.session.rules.phases);
    if marks.is_empty() && rules.is_empty() {
        return;
    }
    let user = User {
        context,
        requests,
        drafts,
        containers: containers(context, drafts),
    };
    let mut found = user.marks(marks);
    found.extend(user.rules());
    // The longest first: what a phase lies in comes before it.
    found.sort_by_key(|found| (found.place, found.span.from, std::cmp::Reverse(found.span.to)));
    let mut above: Vec<Above> = Vec::new();
    for found in found {
        above.retain(|outer| outer.place == found.place && found.span.from <= outer.to);
        let parent = above.iter().rev().find(|outer| outer.encloses(&found, context));
        let parent = parent.map(|outer| outer.phase).or_else(|| match found.place {
            Place::Container(draft) => run_of(phases, draft, found.span.from),
            _ => None,
        });
        let (container, operation) = match found.place {
            Place::Container(draft) => (Some(ContainerIx(draft as u32)), drafts[draft].operation),
            Place::Operation(operation) => (None, Some(operation)),
            Place::Host => (None, None),
        };
        above.push(Above {
            place: found.place,
            phase: PhaseIx(phases.len() as u32),
            to: found.span.to,
            commands: found.commands,
        });
        phases.push(Phase {
            bytes: None,
            kind: PhaseKind::User,
            label: found.label,
            span: found.span,
            open: found.open,
            parent,
            operation,
            container,
            main: found.main,
            processes: context.alive(found.processes, found.span),
            evidence: found.evidence,
        });
    }
}

/// A phase that began before and has not ended.
struct Above {
    place: Place,
    phase: PhaseIx,
    to: u64,
    commands: Vec<ProcessIx>,
}

impl Above {
    fn encloses(&self, found: &Found, context: &Context<'_>) -> bool {
        let below = |maker: ProcessIx| {
            let mut line = std::iter::once(maker).chain(context.ancestors(maker));
            line.any(|process| self.commands.contains(&process))
        };
        found.span.to <= self.to && (self.commands.is_empty() || found.maker.is_none_or(below))
    }
}

/// A container's `run`, if it covers that moment.
fn run_of(phases: &[Phase], draft: usize, ts: u64) -> Option<PhaseIx> {
    let run = phases.iter().position(|phase| {
        let own = phase.kind == PhaseKind::Run && phase.container == Some(ContainerIx(draft as u32));
        own && phase.span.from <= ts && ts <= phase.span.to
    });
    run.map(|index| PhaseIx(index as u32))
}

/// Which containers each process was in.
fn containers(context: &Context<'_>, drafts: &[Draft]) -> HashMap<ProcessIx, Vec<usize>> {
    let mut containers: HashMap<ProcessIx, Vec<usize>> = HashMap::new();
    for (index, draft) in drafts.iter().enumerate() {
        for process in draft.processes(context) {
            containers.entry(process).or_default().push(index);
        }
    }
    containers
}

struct User<'c, 'a> {
    context: &'c Context<'a>,
    requests: &'c Requests,
    drafts: &'c [Draft],
    containers: HashMap<ProcessIx, Vec<usize>>,
}

impl User<'_, '_> {
    fn place(&self, process: ProcessIx, ts: u64) -> Place {
        let container = self.containers.get(&process).and_then(|all| {
            let begun = all.iter().filter(|draft| self.drafts[**draft].from() <= ts);
            begun.max_by_key(|draft| self.drafts[**draft].from())
        });
        if let Some(draft) = container {
            return Place::Container(*draft);
        }
        operation::of_process(self.context, self.requests, process).map_or(Place::Host, Place::Operation)
    }

    fn place_of(&self, mark: &Mark) -> Place {
        if let Some(process) = self.context.of_task(mark.at.task) {
            return self.place(process, mark.at.ts);
        }
        // A process that is not profiled itself, in a cgroup that a container has.
        let draft = self
            .drafts
            .iter()
            .position(|draft| draft.cgroups.contains(&mark.at.cgroup));
        draft.map_or(Place::Host, Place::Container)
    }

    /// When a place is over, and whether it was not when the recording ended.
    fn end_of(&self, place: Place) -> (u64, bool, &'static str) {
        let session = self.context.session;
        match place {
            Place::Container(draft) => match self.drafts[draft].exit(self.context) {
                Some(exit) => (exit, false, "the container's end"),
                None => (session.span.to, true, "the recording's end"),
            },
            Place::Operation(operation) => {
                let operation = &self.requests[operation.ix()].operation;
                match operation.open {
                    true => (session.span.to, true, "the recording's end"),
                    false => (operation.span.to, false, "the operation's end"),
                }
            }
            Place::Host => (session.span.to, true, "the recording's end"),
        }
    }

    /// Who worked there, and whose states are its wall time.
    fn workers(&self, place: Place) -> (Vec<ProcessIx>, Option<ThreadIx>) {
        match place {
            Place::Container(draft) => {
                let draft = &self.drafts[draft];
                let main = draft.entry.and_then(|entry| self.context.leader(entry.process));
                (draft.processes(self.context), main)
            }
            Place::Operation(operation) => {
                let operation = &self.requests[operation.ix()].operation;
                (operation.processes.clone(), self.context.leader(operation.process))
            }
            Place::Host => {
                let all = 0..self.context.session.processes.len() as u32;
                (all.map(ProcessIx).collect(), None)
            }
        }
    }

    fn marks(&self, marks: &[Mark]) -> Vec<Found> {
        let mut found = Vec::new();
        // What has begun and not ended, innermost last.
        let mut begun: Vec<(Place, &Mark)> = Vec::new();
        for mark in marks {
            let place = self.place_of(mark);
            match mark.op {
                MarkOp::Begin => begun.push((place, mark)),
                MarkOp::End => {
                    let ends = |(at, begin): &(Place, &Mark)| {
                        *at == place && (mark.name.is_empty() || begin.name == mark.name)
                    };
                    match begun.iter().rposition(ends) {
                        Some(index) => {
                            let (_, begin) = begun.remove(index);
                            let end = (mark.at.ts, false, by(mark, "end"));
                            found.push(self.between(place, begin, end));
                        }
                        None => found.push(self.moment(place, mark, "an end without its begin")),
                    }
                }
                MarkOp::Instant => found.push(self.moment(place, mark, "a mark")),
                MarkOp::Command => found.push(self.command(place, mark)),
            }
        }
        for (place, begin) in begun {
            let (to, open, what) = self.end_of(place);
            let end = (to.max(begin.at.ts), open, format!("{what}: no end was marked"));
            found.push(self.between(place, begin, end));
        }
        found
    }

    fn between(&self, place: Place, begin: &Mark, (to, open, end): (u64, bool, String)) -> Found {
        let (processes, main) = self.workers(place);
        Found {
            place,
            label: begin.name.clone(),
            span: Span { from: begin.at.ts, to },
            open,
            main,
            processes,
            evidence: (by(begin, "begin"), end),
            maker: self.context.of_task(begin.at.task),
            commands: Vec::new(),
        }
    }

    fn moment(&self, place: Place, mark: &Mark, what: &str) -> Found {
        let ts = mark.at.ts;
        Found {
            place,
            label: mark.name.clone(),
            span: Span { from: ts, to: ts },
            open: false,
            main: None,
            processes: Vec::new(),
            evidence: (by(mark, what), "the same moment".to_owned()),
            maker: self.context.of_task(mark.at.task),
            commands: Vec::new(),
        }
    }

    /// A mark that goes on as a command: its phase is the process's life.
    fn command(&self, place: Place, mark: &Mark) -> Found {
        let Some(process) = self.context.of_task(mark.at.task) else {
            return self.moment(place, mark, "a mark whose command is not profiled");
        };
        let life = self.context.process(process);
        Found {
            span: Span {
                from: mark.at.ts,
                to: life.span.to.max(mark.at.ts),
            },
            open: life.open,
            main: self.context.leader(process),
            processes: self.context.tree(process),
            evidence: (by(mark, "a command"), format!("exit of pid {}", life.tgid)),
            commands: vec![process],
            ..self.moment(place, mark, "")
        }
    }

    /// Phases of rules: while programs live whose arguments match. Where they overlap they are one.
    fn rules(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for (name, patterns) in &self.context.session.rules.phases {
            let rule = Rule::new(patterns);
            let mut own: Vec<Found> = Vec::new();
            for exec in &self.context.execs {
                let process = self.context.process(exec.process);
                let image = &process.images[exec.image];
                let Some(pattern) = rule.matches(&image.argv) else {
                    continue;
                };
                let next = process.images.get(exec.image + 1);
                let end = match next {
                    Some(_) => format!("the next program of pid {}", process.tgid),
                    None => format!("exit of pid {}", process.tgid),
                };
                let to = next.map_or(process.span.to, |next| next.ts).max(exec.ts);
                own.push(Found {
                    place: self.place(exec.process, exec.ts),
                    label: name.clone().into_bytes(),
                    span: Span { from: exec.ts, to },
                    open: next.is_none() && process.open,
                    main: self.context.leader(exec.process),
                    processes: self.context.tree(exec.process),
                    evidence: (format!("exec that matches `{pattern}` (pid {})", process.tgid), end),
                    maker: Some(exec.process),
                    commands: vec![exec.process],
                });
            }
            own.sort_by_key(|found| (found.place, found.span.from));
            found.extend(merged(own));
        }
        found
    }
}

/// Joins what overlaps, in order of place and time.
fn merged(all: Vec<Found>) -> Vec<Found> {
    let mut merged: Vec<Found> = Vec::new();
    for next in all {
        match merged.last_mut() {
            Some(last) if last.place == next.place && next.span.from <= last.span.to => {
                if next.span.to > last.span.to {
                    last.span.to = next.span.to;
                    last.evidence.1 = next.evidence.1;
                }
                last.open |= next.open;
                last.processes.extend(next.processes);
                last.commands.extend(next.commands);
            }
            _ => merged.push(next),
        }
    }
    merged
}

/// Who marked.
fn by(mark: &Mark, what: &str) -> String {
    format!("{what} (pid {})", mark.at.task.tgid)
}

#[cfg(test)]
mod tests {
    use super::super::detect;
    use super::super::fixture::{check, session};
    use super::*;
    use crate::model::{Process, Session};
    use crate::recording::record::{At, TaskId};

    const PODMAN_RUN: &str = include_str!("fixtures/podman_run.txt");

    fn task(session: &Session, process: ProcessIx) -> TaskId {
        let process = &session.processes[process.ix()];
        TaskId {
            tgid: process.tgid,
            tid: process.tgid,
            start: process.start,
        }
    }

    fn mark(task: TaskId, ts: u64, op: MarkOp, name: &str) -> Mark {
        Mark {
            at: At {
                ts,
                task,
                cgroup: 0,
                mnt_ns: 0,
                cpu: 0,
            },
            op,
            name: name.into(),
        }
    }

    /// Label, parent's name, and span from the start of the container's run, of each phase of the user's own.
    fn own(session: &mut Session, zero: u64) -> Vec<(String, String, u64, u64)> {
        detect(session);
        check(session);
        let phases = session.phases.iter().filter(|phase| phase.kind == PhaseKind::User);
        phases
            .map(|phase| {
                let parent = phase.parent.map(|ix| &session.phases[ix.ix()]);
                let parent = parent.map_or("", |parent| match parent.kind {
                    PhaseKind::User => std::str::from_utf8(&parent.label).unwrap(),
                    kind => kind.name(),
                });
                let label = String::from_utf8(phase.label.clone()).unwrap();
                (label, parent.to_owned(), phase.span.from - zero, phase.span.to - zero)
            })
            .collect()
    }

    /// The session of a container with its entrypoint, the client and the start and end of its run.
    fn container() -> (Session, TaskId, TaskId, Span) {
        let mut session = session(PODMAN_RUN);
        detect(&mut session);
        let run = session
            .phases
            .iter()
            .find(|phase| phase.kind == PhaseKind::Run)
            .unwrap();
        let span = run.span;
        let inside = task(&session, session.containers[0].entrypoint.unwrap());
        let client = task(&session, session.operations[0].process);
        (session, inside, client, span)
    }

    fn row(label: &str, parent: &str, from: u64, to: u64) -> (String, String, u64, u64) {
        (label.to_owned(), parent.to_owned(), from, to)
    }

    /// Make sure that marks nest within what encloses them, overlap as siblings, end the innermost of their name, and
    /// that those of a container lie in its run and are apart from its operation's and the host's.
    #[test]
    fn nesting() {
        let (mut session, inside, client, Span { from: zero, .. }) = container();
        let stranger = TaskId {
            tgid: 999_999,
            tid: 999_999,
            start: 7,
        };
        use MarkOp::{Begin, End, Instant};
        session.marks = [
            (inside, 10, Begin, "a"),
            (client, 11, Begin, "c"),
            (inside, 20, Begin, "b"),
            (stranger, 21, Begin, "host"),
            (inside, 25, Instant, "now"),
            (inside, 30, Begin, "a"),
            (inside, 40, End, ""),
            (client, 45, End, "a"),
            (inside, 50, End, "a"),
            (inside, 60, End, "b"),
            (client, 70, End, "c"),
            (stranger, 80, End, "host"),
        ]
        .map(|(task, ts, op, name)| mark(task, zero + ts, op, name))
        .to_vec();
        assert_eq!(
            own(&mut session, zero),
            [
                row("a", "run", 10, 50),
                row("c", "", 11, 70),
                row("b", "run", 20, 60),
                row("host", "", 21, 80),
                row("now", "b", 25, 25),
                row("a", "b", 30, 40),
                row("a", "c", 45, 45),
            ]
        );
        let containers: Vec<bool> = session
            .phases
            .iter()
            .filter(|phase| phase.kind == PhaseKind::User)
            .map(|phase| phase.container.is_some())
            .collect();
        assert_eq!(containers, [true, false, true, false, true, true, false]);
    }

    /// Make sure that commands at once are siblings, whatever lies in whose time, and that a command's own is below it.
    #[test]
    fn commands_at_once() {
        let (mut session, _, client_task, span) = container();
        let client = session
            .processes
            .iter()
            .position(|process| process.tgid == client_task.tgid)
            .unwrap();
        let client = ProcessIx(client as u32);
        let [long, short] = [(1, span.from, span.to), (2, span.from + 10, span.to - 10)].map(|(number, from, to)| {
            let ix = ProcessIx(session.processes.len() as u32);
            session.processes.push(Process {
                tgid: 900_000 + number,
                start: from,
                span: Span { from, to },
                parent: Some(client),
                children: Vec::new(),
                ..session.processes[client.ix()].clone()
            });
            session.processes[client.ix()].children.push(ix);
            task(&session, ix)
        });
        session.marks = vec![
            mark(long, span.from, MarkOp::Command, "long"),
            mark(short, span.from + 10, MarkOp::Command, "short"),
            mark(long, span.from + 11, MarkOp::Instant, "in long"),
            mark(short, span.from + 12, MarkOp::Instant, "in short"),
        ];
        let rows = own(&mut session, 0);
        let mut parents: Vec<(&str, &str)> = rows.iter().map(|row| (row.0.as_str(), row.1.as_str())).collect();
        parents.sort_unstable();
        assert_eq!(
            parents,
            [("in long", "long"), ("in short", "short"), ("long", ""), ("short", "")]
        );
    }

    /// Make sure that a begin without an end goes on to its place's end and is open only if that is.
    #[test]
    fn unbalanced() {
        let (mut session, inside, client, span) = container();
        session.marks = vec![
            mark(inside, span.from + 10, MarkOp::Begin, "in"),
            mark(client, span.from + 20, MarkOp::Begin, "out"),
        ];
        let end = session.operations[0].span.to;
        let found = own(&mut session, span.from);
        assert_eq!(found[0], row("in", "run", 10, span.len()));
        assert_eq!(found[1], row("out", "", 20, end - span.from));
        let own = session.phases.iter().filter(|phase| phase.kind == PhaseKind::User);
        for phase in own {
            assert!(
                !phase.open && phase.evidence.1.contains("no end was marked"),
                "{phase:?}"
            );
        }
    }

    /// Make sure that programs that match a rule are phases of where they ran, one where they overlap.
    #[test]
    fn rules() {
        let (mut session, ..) = container();
        session.rules.phases = vec![("engine".into(), vec!["conmon*".into(), "runc *".into()])];
        detect(&mut session);
        check(&session);
        let phases: Vec<&Phase> = session
            .phases
            .iter()
            .filter(|phase| phase.kind == PhaseKind::User)
            .collect();
        assert!(!phases.is_empty());
        for pair in phases.windows(2) {
            let apart = pair[0].span.to < pair[1].span.from;
            assert!(apart || pair[0].container != pair[1].container, "{pair:?}");
        }
        assert!(phases.iter().any(|phase| phase.processes.len() > 1));
        assert!(
            phases
                .iter()
                .all(|phase| phase.evidence.0.contains("exec that matches"))
        );
    }
}

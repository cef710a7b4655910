//! Which part of a session a report is about: what `--phase`, `--container`, `--process` and `--operation` mean.

use std::fmt::Write;

use super::{names, text};
use crate::model::{ContainerIx, OperationIx, PhaseIx, PhaseKind, Process, ProcessIx, Session, Span};

/// What a user asked for, as typed.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// A phase's name (`run`), `step 3` or `step:3`, or an index that `show` prints.
    pub phase: Option<String>,
    /// A container's name, id or the beginning of its id.
    pub container: Option<String>,
    /// A pid or a program's name.
    pub process: Option<String>,
    /// An operation's name (`podman build`).
    pub operation: Option<String>,
}

/// Nothing in the recording is what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("no {what} {asked:?} in this recording; there is: {known}")]
pub struct NoMatch {
    pub what: &'static str,
    pub asked: String,
    /// What could be asked for instead, in words.
    pub known: String,
}

/// Part of a session.
#[derive(Clone, Debug)]
pub struct Selection {
    /// Phases it is made of; `None`: it isn't limited to phases.
    pub phases: Option<Vec<PhaseIx>>,
    /// Only what these did, all of one name; `None`: whoever did it.
    pub operations: Option<Vec<OperationIx>>,
    /// Only these processes; `None`: all that the rest allows.
    pub processes: Option<Vec<ProcessIx>>,
    /// What was asked for, for people (harmless text); empty for everything.
    pub title: String,
}

impl Selection {
    /// The whole session.
    pub fn all() -> Selection {
        Selection {
            phases: None,
            operations: None,
            processes: None,
            title: String::new(),
        }
    }

    /// Finds what was asked for.
    pub fn find(session: &Session, query: &Query) -> Result<Selection, NoMatch> {
        let mut title = Vec::new();
        let operations = match &query.operation {
            Some(asked) => {
                let found = find_operations(session, asked)?;
                let name = text::visible(asked.as_bytes());
                title.push(match found.len() {
                    1 => name,
                    count => format!("{count} operations {name}"),
                });
                Some(found)
            }
            None => None,
        };
        let containers = match &query.container {
            Some(asked) => {
                let found = find_containers(session, asked)?;
                title.extend(
                    found
                        .first()
                        .map(|ix| format!("container {}", names::container(session, *ix))),
                );
                Some(found)
            }
            None => None,
        };
        let within = |ix: &PhaseIx| {
            let phase = &session.phases[ix.ix()];
            is_of(operations.as_deref(), phase.operation)
                && containers
                    .as_ref()
                    .is_none_or(|found| phase.container.is_some_and(|container| found.contains(&container)))
        };
        let phases = match (&query.phase, &containers) {
            (Some(asked), _) => {
                let found: Vec<PhaseIx> = find_phases(session, asked).into_iter().filter(within).collect();
                if found.is_empty() {
                    return Err(no_phase(session, asked, within));
                }
                title.push(match found[..] {
                    [one] => names::phase(session, one),
                    _ => format!("{} phases {}", found.len(), text::visible(asked.as_bytes())),
                });
                Some(found)
            }
            (None, Some(_)) => Some(all_phases(session).filter(within).collect()),
            (None, None) => None,
        };
        let processes = match &query.process {
            Some(asked) => {
                let found = find_processes(session, asked)?;
                title.push(format!("process {}", text::visible(asked.as_bytes())));
                Some(found)
            }
            None => None,
        };
        Ok(Selection {
            phases,
            operations,
            processes,
            title: title.join(", "),
        })
    }

    /// Whether what an operation did is part of it, as far as operations decide that.
    pub fn has_operation(&self, operation: Option<OperationIx>) -> bool {
        is_of(self.operations.as_deref(), operation)
    }

    /// The spans of each process that belong to the selection: disjoint, in order of time, none for a process that
    /// isn't part of it. Where selected phases overlap, time is there once.
    pub fn spans(&self, session: &Session) -> Vec<Vec<Span>> {
        let mut spans = vec![Vec::new(); session.processes.len()];
        let mut add = |process: &ProcessIx, span: Span| {
            if let (Some(own), Some(spans)) = (session.processes.get(process.ix()), spans.get_mut(process.ix())) {
                let span = own.span.clip(span);
                if !span.is_empty() {
                    spans.push(span);
                }
            }
        };
        let add_phase = |phase: PhaseIx, add: &mut dyn FnMut(&ProcessIx, Span)| {
            let phase = &session.phases[phase.ix()];
            for process in &phase.processes {
                add(process, phase.span);
            }
        };
        match (&self.phases, &self.operations) {
            (Some(phases), _) => phases.iter().for_each(|phase| add_phase(*phase, &mut add)),
            (None, Some(operations)) => {
                for operation in operations.iter().map(|ix| &session.operations[ix.ix()]) {
                    for process in &operation.processes {
                        add(process, operation.span);
                    }
                }
                for phase in all_phases(session) {
                    if self.has_operation(session.phases[phase.ix()].operation) {
                        add_phase(phase, &mut add);
                    }
                }
            }
            (None, None) => {
                for process in (0..session.processes.len() as u32).map(ProcessIx) {
                    add(&process, session.span);
                }
            }
        }
        for (index, spans) in spans.iter_mut().enumerate() {
            let wanted = self
                .processes
                .as_ref()
                .is_none_or(|processes| processes.contains(&ProcessIx(index as u32)));
            if wanted {
                merge(spans);
            } else {
                spans.clear();
            }
        }
        spans
    }
}

/// Sorts spans and joins those that touch or overlap.
pub(super) fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans.drain(..) {
        match merged.last_mut() {
            Some(last) if span.from <= last.to => last.to = last.to.max(span.to),
            _ => merged.push(span),
        }
    }
    *spans = merged;
}

/// Every phase's index.
pub fn all_phases(session: &Session) -> impl Iterator<Item = PhaseIx> + use<> {
    (0..session.phases.len() as u32).map(PhaseIx)
}

fn find_phases(session: &Session, asked: &str) -> Vec<PhaseIx> {
    let asked = asked.trim().to_ascii_lowercase();
    if let Ok(index) = asked.parse::<u32>() {
        return all_phases(session).filter(|ix| ix.0 == index).collect();
    }
    let step = asked
        .strip_prefix("step")
        .map(|rest| rest.trim_start_matches([' ', ':']))
        .filter(|number| !number.is_empty());
    all_phases(session)
        .filter(|ix| {
            let phase = &session.phases[ix.ix()];
            match step {
                Some(number) => phase.kind == PhaseKind::Step && step_number(&phase.label) == number.as_bytes(),
                None => phase.kind.name() == asked || phase.label.eq_ignore_ascii_case(asked.as_bytes()),
            }
        })
        .collect()
}

/// `3` of `3/5 RUN make`.
fn step_number(label: &[u8]) -> &[u8] {
    let end = label
        .iter()
        .position(|byte| !byte.is_ascii_digit())
        .unwrap_or(label.len());
    &label[..end]
}

/// Whether it is one of the operations that were asked for, if any were.
fn is_of(asked: Option<&[OperationIx]>, operation: Option<OperationIx>) -> bool {
    asked.is_none_or(|asked| operation.is_some_and(|ix| asked.contains(&ix)))
}

/// The operations of that name.
fn find_operations(session: &Session, asked: &str) -> Result<Vec<OperationIx>, NoMatch> {
    let all = (0..session.operations.len() as u32).map(OperationIx);
    let found: Vec<OperationIx> = all.filter(|ix| session.operations[ix.ix()].name == asked).collect();
    if found.is_empty() {
        let names = session.operations.iter();
        return Err(NoMatch {
            what: "operation",
            asked: asked.to_owned(),
            known: list(names.map(|operation| text::visible(operation.name.as_bytes()))),
        });
    }
    Ok(found)
}

/// The containers of that name or id, or whose id begins so.
///
/// # Errors
///
/// There is none.
pub fn find_containers(session: &Session, asked: &str) -> Result<Vec<ContainerIx>, NoMatch> {
    let wanted = asked.as_bytes();
    let matching = |exact: bool| -> Vec<ContainerIx> {
        (0..session.containers.len() as u32)
            .map(ContainerIx)
            .filter(|ix| {
                let container = &session.containers[ix.ix()];
                if exact {
                    container.name == wanted || container.id == wanted
                } else {
                    !wanted.is_empty() && container.id.starts_with(wanted)
                }
            })
            .collect()
    };
    // A restarted container is several runs of one id: all of them. A name wins over the beginning of an id.
    let mut found = matching(true);
    if found.is_empty() {
        found = matching(false);
    }
    if found.is_empty() {
        let known = (0..session.containers.len() as u32).map(|ix| names::container(session, ContainerIx(ix)));
        return Err(NoMatch {
            what: "container",
            asked: asked.to_owned(),
            known: list(known),
        });
    }
    Ok(found)
}

fn find_processes(session: &Session, asked: &str) -> Result<Vec<ProcessIx>, NoMatch> {
    let pid = asked.parse::<u32>().ok();
    let matches = |process: &Process| match pid {
        Some(pid) => process.tgid == pid,
        None => process
            .images
            .iter()
            .any(|image| names::program(image) == asked.as_bytes()),
    };
    let found: Vec<ProcessIx> = (0..session.processes.len() as u32)
        .map(ProcessIx)
        .filter(|ix| matches(&session.processes[ix.ix()]))
        .collect();
    if found.is_empty() {
        let programs = session.processes.iter().filter_map(Process::image);
        return Err(NoMatch {
            what: "process",
            asked: asked.to_owned(),
            known: list(programs.map(|image| text::visible(names::program(image)))),
        });
    }
    Ok(found)
}

fn no_phase(session: &Session, asked: &str, within: impl Fn(&PhaseIx) -> bool) -> NoMatch {
    let known = all_phases(session).filter(within);
    NoMatch {
        what: "phase",
        asked: asked.to_owned(),
        known: list(known.map(|ix| format!("{} ({})", ix.0, text::fit(&names::phase(session, ix), 40)))),
    }
}

/// Most entries of a list in an error message.
const LISTED: usize = 24;

/// The distinct entries, in order, as one line.
fn list(entries: impl Iterator<Item = String>) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for entry in entries {
        if !distinct.contains(&entry) {
            distinct.push(entry);
        }
        if distinct.len() > LISTED {
            break;
        }
    }
    if distinct.is_empty() {
        return "none".to_owned();
    }
    let more = distinct.len() > LISTED;
    distinct.truncate(LISTED);
    let mut line = distinct.join(", ");
    if more {
        _ = write!(line, ", and more");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn phases(session: &Session, asked: &str) -> Vec<u32> {
        find_phases(session, asked).iter().map(|ix| ix.0).collect()
    }

    /// Make sure that a phase is found by name, by step in both spellings, and by index.
    #[test]
    fn phase_by_name_step_and_index() {
        let session = fixture::session();
        assert_eq!(phases(&session, "run"), [4]);
        assert_eq!(phases(&session, "step 2"), [1]);
        assert_eq!(phases(&session, "STEP:2"), [1]);
        assert_eq!(phases(&session, "step"), [0, 1]);
        assert_eq!(phases(&session, "3"), [3]);
        assert_eq!(phases(&session, "step 22"), [0; 0]);
    }

    /// Make sure that an unknown phase, container, process or operation is an error that lists what there is.
    #[test]
    fn unknown_lists_known() {
        let session = fixture::session();
        let error = |query: Query| Selection::find(&session, &query).unwrap_err().to_string();
        let phase = error(Query {
            phase: Some("pull".into()),
            ..Query::default()
        });
        assert!(phase.contains("4 (run)"), "{phase}");
        assert!(phase.contains("1 (step 2/2 RUN make"), "{phase}");
        let container = error(Query {
            container: Some("web".into()),
            ..Query::default()
        });
        assert!(container.contains("buildah-buildah12"), "{container}");
        let process = error(Query {
            process: Some("rustc".into()),
            ..Query::default()
        });
        assert!(process.contains("cc1"), "{process}");
        let operation = error(Query {
            operation: Some("docker run".into()),
            ..Query::default()
        });
        assert!(operation.contains("podman build"), "{operation}");
        let index = error(Query {
            phase: Some("99".into()),
            ..Query::default()
        });
        assert!(index.contains("99"), "{index}");
    }

    /// Make sure that of several operations of one name all are selected, and the title says how many.
    #[test]
    fn operations_of_one_name() {
        let mut session = fixture::session();
        let mut again = session.operations[0].clone();
        again.span.from = again.span.to;
        again.span.to += 1_000;
        session.span.to = session.span.to.max(again.span.to);
        for process in &mut session.processes {
            process.span.to = process.span.to.max(again.span.to);
        }
        session.operations.push(again);
        let name = session.operations[0].name.clone();
        let query = Query {
            operation: Some(name.clone()),
            ..Query::default()
        };
        let selection = Selection::find(&session, &query).unwrap();
        assert_eq!(selection.title, format!("2 operations {name}"));
        assert!(selection.has_operation(Some(OperationIx(1))) && !selection.has_operation(None));
        let client = session.operations[0].process;
        let spans = selection.spans(&session);
        assert_eq!(spans[client.ix()].last().unwrap().to, session.operations[1].span.to);
    }

    /// Make sure that time in overlapping phases is selected once, and clipped to each process's life.
    #[test]
    fn overlapping_phases_count_once() {
        let mut spans = vec![
            Span { from: 5, to: 9 },
            Span { from: 0, to: 3 },
            Span { from: 2, to: 6 },
            Span { from: 12, to: 13 },
        ];
        merge(&mut spans);
        assert_eq!(spans, [Span { from: 0, to: 9 }, Span { from: 12, to: 13 }]);

        let session = fixture::session();
        let selection = Selection {
            phases: Some(vec![PhaseIx(1), PhaseIx(4)]),
            ..Selection::all()
        };
        for (process, spans) in session.processes.iter().zip(selection.spans(&session)) {
            assert!(spans.is_sorted());
            for span in spans {
                assert_eq!(process.span.clip(span), span);
            }
        }
    }

    /// Make sure that a process is selected alone, by name and by pid.
    #[test]
    fn one_process() {
        let session = fixture::session();
        for asked in ["cc1", "104"] {
            let query = Query {
                process: Some(asked.into()),
                ..Query::default()
            };
            let spans = Selection::find(&session, &query).unwrap().spans(&session);
            for (process, spans) in session.processes.iter().zip(spans) {
                let image = process.image().unwrap();
                assert_eq!(spans.is_empty(), names::program(image) != b"cc1", "{}", process.tgid);
            }
        }
    }
}

//! Operations with their containers and phases: a lane each on a timeline, and a table of where their time went.

use super::Sort;
use super::page::{Page, Paint, column_widths};
use crate::attribute::resources::{self, PhaseResources, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{ContainerIx, OperationIx, PhaseIx, PhaseKind, Session, Span};
use crate::report::figures;
use crate::report::select::{Selection, all_phases};
use crate::report::{names, text, units};

/// Most lanes of one operation; a whole host's recording can have thousands of phases.
const LANES: usize = 200;

/// From this width on, what was waited for stands beside the figures and not below them.
const WIDE: usize = 120;

/// Narrowest bar and name.
const BAR: usize = 12;
const NAME: usize = 14;

/// One lane: a phase, or the container that the phases below it belong to.
struct Row {
    depth: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Container(ContainerIx),
    Phase(PhaseIx),
}

pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection, sort: Sort) {
    let chosen: Vec<PhaseIx> = match &selection.phases {
        Some(phases) => phases.clone(),
        None => all_phases(session).collect(),
    };
    let mut classifier = Classifier::default();
    let figures: Vec<PhaseResources> = session
        .phases
        .iter()
        .map(|phase| resources::phase(session, phase, &mut classifier))
        .collect();
    let operations = (0..session.operations.len() as u32).map(OperationIx).map(Some);
    let mut shown = false;
    for operation in operations.chain([None]) {
        if selection.operation.is_some() && selection.operation != operation {
            continue;
        }
        let tree = Tree {
            session,
            figures: &figures,
            sort,
            phases: chosen
                .iter()
                .copied()
                .filter(|ix| session.phases[ix.ix()].operation == operation)
                .collect(),
        };
        if tree.phases.is_empty() && (operation.is_none() || selection.phases.is_some()) {
            continue;
        }
        shown = true;
        let span = heading(page, session, operation);
        let mut rows = Vec::new();
        tree.rows(None, None, 0, &mut rows);
        let more = rows.len().saturating_sub(LANES);
        rows.truncate(LANES);
        timeline(page, session, &rows, span);
        table(page, session, &figures, &rows);
        if more > 0 {
            let note = format!(
                "{} more phases: choose with --phase or --container, or see all with --json",
                more
            );
            page.line(&[(Paint::Dim, &note)]);
        }
    }
    if !shown {
        page.heading(
            "no phases",
            "nothing in this recording was recognised as a container's life",
        );
    }
}

/// Names an operation and gives the span that its lanes are drawn in.
fn heading(page: &mut Page, session: &Session, operation: Option<OperationIx>) -> Span {
    let Some(operation) = operation.and_then(|ix| session.operations.get(ix.ix())) else {
        page.heading("outside any operation", "");
        return session.span;
    };
    let pid = session
        .processes
        .get(operation.process.ix())
        .map_or(0, |process| process.tgid);
    let open = if operation.open { ", open" } else { "" };
    let detail = format!(
        "{}, pid {pid}, {} processes{open}",
        units::time(operation.span.len()),
        units::count(operation.processes.len() as u64)
    );
    page.heading(&text::visible(operation.name.as_bytes()), &detail);
    operation.span
}

/// The phases of one operation, in the order and depth in which they are shown.
struct Tree<'a> {
    session: &'a Session,
    figures: &'a [PhaseResources],
    sort: Sort,
    phases: Vec<PhaseIx>,
}

impl Tree<'_> {
    /// Adds the phases below `parent`, those of one container together below its name.
    fn rows(&self, parent: Option<PhaseIx>, container: Option<ContainerIx>, depth: usize, rows: &mut Vec<Row>) {
        let children: Vec<PhaseIx> = self
            .phases
            .iter()
            .copied()
            .filter(|ix| self.parent(*ix) == parent)
            .collect();
        let mut nodes: Vec<(What, Vec<PhaseIx>)> = Vec::new();
        for child in children {
            let own = self.session.phases[child.ix()].container;
            let what = match own {
                Some(own) if Some(own) != container => What::Container(own),
                _ => What::Phase(child),
            };
            match nodes.iter_mut().find(|(known, _)| *known == what) {
                Some((_, members)) => members.push(child),
                None => nodes.push((what, vec![child])),
            }
        }
        nodes.sort_by_key(|(_, members)| self.key(members));
        for (what, mut members) in nodes {
            rows.push(Row { depth, what });
            match what {
                What::Phase(phase) => self.rows(Some(phase), container, depth + 1, rows),
                What::Container(own) => {
                    members.sort_by_key(|member| self.key(&[*member]));
                    for member in members {
                        let what = What::Phase(member);
                        rows.push(Row { depth: depth + 1, what });
                        self.rows(Some(member), Some(own), depth + 2, rows);
                    }
                }
            }
        }
    }

    /// The nearest phase above that is shown as well.
    fn parent(&self, ix: PhaseIx) -> Option<PhaseIx> {
        let mut above = self.session.phases[ix.ix()].parent;
        // The bound keeps a broken tree (a phase above itself) from going round for ever.
        for _ in 0..self.session.phases.len() {
            match above {
                Some(parent) if !self.phases.contains(&parent) => {
                    above = self.session.phases.get(parent.ix()).and_then(|phase| phase.parent);
                }
                _ => return above,
            }
        }
        None
    }

    fn key(&self, members: &[PhaseIx]) -> (u64, u32) {
        let of = |ix: &PhaseIx| match self.sort {
            Sort::Start => self.session.phases[ix.ix()].span.from,
            Sort::Wall => u64::MAX - self.session.phases[ix.ix()].span.len(),
            Sort::Cpu => u64::MAX - self.figures[ix.ix()].all.cpu,
        };
        let first = members.first().map_or(0, |ix| ix.0);
        (members.iter().map(of).min().unwrap_or(0), first)
    }
}

fn timeline(page: &mut Page, session: &Session, rows: &[Row], span: Span) {
    if rows.is_empty() {
        page.line(&[(Paint::Dim, "no phases were recognised in it")]);
        return;
    }
    let number = number_width(session);
    let lanes: Vec<(String, String, Span, bool, Paint)> = rows.iter().map(|row| lane(session, row)).collect();
    let longest = lanes.iter().map(|lane| text::width(&lane.1)).max().unwrap_or(0);
    let time = lanes
        .iter()
        .map(|lane| text::width(&units::time(lane.2.len())))
        .max()
        .unwrap_or(0);
    // Two thirds of the width for names at most, so that long names leave a timeline to see.
    let free = page.width().saturating_sub(number + time + 4);
    let name = longest.clamp(NAME, (free * 2 / 5).max(NAME));
    let bar = free.saturating_sub(name).max(BAR);
    for (index, label, own, open, paint) in &lanes {
        let container = index.is_empty();
        let label_paint = if container { Paint::Dim } else { Paint::Plain };
        let open = if *open { " open" } else { "" };
        let drawn = if container {
            String::new()
        } else {
            draw(*own, span, bar)
        };
        page.line(&[
            (Paint::Dim, &text::right(index, number)),
            (Paint::Plain, " "),
            (
                label_paint,
                &if container {
                    text::left(label, name + bar + 1)
                } else {
                    text::left(label, name)
                },
            ),
            (Paint::Plain, " "),
            (
                *paint,
                &if container {
                    String::new()
                } else {
                    text::left(&drawn, bar)
                },
            ),
            (Paint::Plain, if container { "" } else { " " }),
            (label_paint, &text::right(&units::time(own.len()), time)),
            (Paint::Warn, open),
        ]);
    }
    let (start, end) = ("0 s".to_owned(), units::time(span.len()));
    let scale = format!("{start}{}", text::right(&end, bar.saturating_sub(start.len())));
    page.line(&[(Paint::Plain, &" ".repeat(number + name + 2)), (Paint::Dim, &scale)]);
}

/// Index, name, span, whether it is open, and the bar's look.
fn lane(session: &Session, row: &Row) -> (String, String, Span, bool, Paint) {
    let indent = "  ".repeat(row.depth.min(8));
    match row.what {
        What::Phase(ix) => {
            let phase = &session.phases[ix.ix()];
            let paint = if phase.kind == PhaseKind::Step {
                Paint::Step
            } else {
                Paint::Phase
            };
            let label = format!("{indent}{}", names::phase(session, ix));
            (ix.0.to_string(), label, phase.span, phase.open, paint)
        }
        What::Container(ix) => {
            let container = &session.containers[ix.ix()];
            let facts: Vec<String> = [
                text::visible(&container.image),
                text::visible(container.engine.as_bytes()),
                text::visible(container.runtime.as_bytes()),
            ]
            .into_iter()
            .filter(|fact| !fact.is_empty())
            .collect();
            let label = format!(
                "{indent}container {}  {}",
                names::container(session, ix),
                facts.join(", ")
            );
            (String::new(), label, container.span, false, Paint::Dim)
        }
    }
}

/// Columns that the phases' numbers take.
fn number_width(session: &Session) -> usize {
    session.phases.len().saturating_sub(1).to_string().len().max(2)
}

/// `own` as a bar within `whole`, in eighths of a column at its end and halves at its start; never invisible.
fn draw(own: Span, whole: Span, columns: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let own = own.clip(whole);
    let at = |ts: u64| {
        let eighths = u128::from(ts - whole.from) * (columns as u128 * 8);
        usize::try_from(eighths / u128::from(whole.len().max(1))).unwrap_or(0)
    };
    // A bar that is shorter than one eighth is drawn as one.
    let from = at(own.from.max(whole.from)).min((columns * 8).saturating_sub(1));
    let to = at(own.to.max(whole.from)).clamp(from + 1, (columns * 8).max(from + 1));
    let (first, last) = (from / 8, (to - 1) / 8);
    let mut bar = " ".repeat(first);
    if first == last {
        bar.push(if to - from == 8 { '█' } else { EIGHTHS[to - from] });
        return bar;
    }
    bar.push(if from % 8 >= 4 { '▐' } else { '█' });
    bar.extend(std::iter::repeat_n('█', last - first - 1));
    bar.push(if to % 8 == 0 { '█' } else { EIGHTHS[to % 8] });
    bar
}

fn table(page: &mut Page, session: &Session, figures: &[PhaseResources], rows: &[Row]) {
    let phases: Vec<PhaseIx> = rows
        .iter()
        .filter_map(|row| match row.what {
            What::Phase(ix) => Some(ix),
            What::Container(_) => None,
        })
        .collect();
    if phases.is_empty() {
        return;
    }
    let mut cells = vec![
        ["wall", "on-CPU", "run queue", "blocked", "unattrib.", "all CPU"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for ix in &phases {
        let phase = &figures[ix.ix()];
        let cell = |ns: u64| if ns == 0 { "·".to_owned() } else { units::time(ns) };
        cells.push(vec![
            cell(session.phases[ix.ix()].span.len()),
            cell(phase.wall.cpu),
            cell(phase.wall.runqueue),
            cell(phase.wall.blocked()),
            cell(phase.unattributed + phase.wall.lost),
            cell(phase.all.cpu),
        ]);
    }
    let widths = column_widths(&cells);
    let number = number_width(session);
    let numbers: usize = widths.iter().map(|width| width + 2).sum();
    let longest = phases
        .iter()
        .map(|ix| text::width(&names::phase(session, *ix)))
        .max()
        .unwrap_or(0);
    let room = page.width().saturating_sub(number + 1 + numbers);
    let wide = page.width() >= WIDE;
    let name = longest.clamp(NAME, if wide { (room / 2).max(NAME) } else { room.max(NAME) });

    page.blank();
    for (index, row) in cells.iter().enumerate() {
        let phase = index.checked_sub(1).map(|index| phases[index]);
        let (index, label) = match phase {
            Some(ix) => (ix.0.to_string(), names::phase(session, ix)),
            None => (String::new(), "phase".to_owned()),
        };
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&text::right(cell, *width));
        }
        let waits = phase.map(|ix| waits(&figures[ix.ix()].wall)).unwrap_or_default();
        let paint = if phase.is_some() { Paint::Plain } else { Paint::Dim };
        let beside = match phase {
            _ if !wide => String::new(),
            Some(_) => format!("  {waits}"),
            None => "  blocked on".to_owned(),
        };
        page.line(&[
            (Paint::Dim, &text::right(&index, number)),
            (paint, " "),
            (paint, &text::left(&label, name)),
            (paint, &line),
            (Paint::Dim, &beside),
        ]);
        if !wide && !waits.is_empty() {
            let below = format!("{}blocked on {waits}", " ".repeat(number + 3));
            page.line(&[(Paint::Dim, &below)]);
        }
    }
    let note = "wall = on-CPU + run queue + blocked of the phase's main thread + unattributed (no main thread lived, or \
                lost); all CPU: every thread of the phase";
    page.paragraph("", Paint::Dim, note);
}

/// `child 30.1 s, disk 12.0 ms`: the classes that there are, longest first.
pub(super) fn waits(resources: &Resources) -> String {
    let mut waits: Vec<(&str, u64)> = figures::waits(resources)
        .into_iter()
        .filter(|(_, ns)| *ns > 0)
        .collect();
    waits.sort_by_key(|(_, ns)| std::cmp::Reverse(*ns));
    let waits: Vec<String> = waits
        .iter()
        .map(|(class, ns)| format!("{class} {}", units::time(*ns)))
        .collect();
    waits.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a bar lies where its span does, is as long as it, and is never invisible or too long.
    #[test]
    fn bars() {
        let whole = Span { from: 100, to: 200 };
        let drawn = |from, to| draw(Span { from, to }, whole, 10);
        assert_eq!(drawn(100, 200), "██████████");
        assert_eq!(drawn(100, 150), "█████");
        assert_eq!(drawn(150, 200), "     █████");
        assert_eq!(drawn(150, 175), "     ██▌");
        assert_eq!(drawn(155, 170), "     ▐█");
        assert_eq!(drawn(100, 100), "▏");
        assert_eq!(drawn(200, 200), "         ▏");
        assert_eq!(drawn(0, 1000), "██████████");
        for from in 90..210 {
            for to in from..210 {
                let bar = drawn(from, to);
                assert!(text::width(&bar) <= 10 && !bar.trim().is_empty(), "{from} {to} {bar:?}");
            }
        }
        assert!(!draw(whole, Span { from: 5, to: 5 }, 10).trim().is_empty());
    }
}

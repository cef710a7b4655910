//! What an operation's or a phase's time was waited for: its critical path.

use super::page::{Page, Paint, column_widths};
use crate::attribute::critical::{Path, Paths, Reason};
use crate::attribute::waits::Classifier;
use crate::model::{OperationIx, PhaseIx, Session, share::sum};
use crate::report::critical::{self, Share, Stretch};
use crate::report::select::Selection;
use crate::report::{names, text, units};

/// Reasons told in one line below an operation's phases.
const IN_LINE: usize = 4;
/// A stretch of a chain that is shorter than one in so many of the path is told with its neighbours.
const SHORT: u64 = 200;
/// Reasons told of one stretch.
const OF_STRETCH: usize = 3;
/// Widest program name.
const NAME: usize = 24;

/// The main reasons in one paragraph.
pub(super) fn line(page: &mut Page, session: &Session, paths: &Paths<'_>, operation: OperationIx) {
    let path = paths.of_operation(operation);
    let mut classifier = Classifier::default();
    let shares = critical::shares(session, &path, &mut classifier);
    if shares.is_empty() {
        return;
    }
    let mut told: Vec<String> = shares
        .iter()
        .take(IN_LINE)
        .map(|share| {
            let by = match &share.program[..] {
                "" => String::new(),
                program => format!(" ({})", text::fit(program, NAME)),
            };
            format!("{} {}{by}", units::share(share.ns, path.span.len()), share.words())
        })
        .collect();
    let (resources, unattributed) = path.resources(session, &mut classifier);
    let without = sum([resources.other, resources.lost, unattributed]);
    told.push(format!("{} without a reason", units::share(without, path.span.len())));
    page.paragraph("critical path: ", Paint::Plain, &told.join(", "));
}

/// The paths of the selected phases, or of every operation, each with its reasons and its chain.
pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection, top: usize) {
    let paths = Paths::new(session);
    let mut classifier = Classifier::default();
    for (title, path) in selected(session, selection, &paths) {
        page.heading(
            &format!("critical path of {title}"),
            &format!(
                "what its {} were spent on and waited for, followed back from its end",
                units::time(path.span.len())
            ),
        );
        let shares = critical::shares(session, &path, &mut classifier);
        reasons(page, &path, &shares, top);
        let chain = critical::chain(session, &path, path.span.len() / SHORT, &mut classifier);
        stretches(page, session, &path, &chain);
    }
}

/// Paths with their names for people: of phases, where phases were asked for.
fn selected(session: &Session, selection: &Selection, paths: &Paths<'_>) -> Vec<(String, Path)> {
    if let Some(phases) = &selection.phases {
        let phase = |ix: &PhaseIx| (names::phase(session, *ix), paths.of_phase(*ix));
        return phases.iter().map(phase).collect();
    }
    let operations = (0..session.operations.len() as u32).map(OperationIx);
    operations
        .filter(|ix| selection.has_operation(Some(*ix)))
        .map(|ix| {
            let name = text::visible(session.operations[ix.ix()].name.as_bytes());
            (name, paths.of_operation(ix))
        })
        .collect()
}

fn reasons(page: &mut Page, path: &Path, shares: &[Share], top: usize) {
    let mut cells = vec![["share", "time", "times", "state"].map(str::to_owned).to_vec()];
    for share in shares.iter().take(top) {
        cells.push(vec![
            units::share(share.ns, path.span.len()),
            units::time(share.ns),
            format!("×{}", units::count(share.pieces)),
            state(share.reason).to_owned(),
        ]);
    }
    let widths = column_widths(&cells);
    for (index, row) in cells.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths).take(3) {
            line.push_str(&text::right(cell, *width));
            line.push_str("  ");
        }
        let (paint, what) = match index.checked_sub(1).map(|index| &shares[index]) {
            None => (Paint::Dim, "what, and in which program".to_owned()),
            Some(share) => (Paint::Plain, what(share)),
        };
        line.push_str(&text::left(&row[3], widths[3]));
        page.line(&[(paint, &line), (paint, "  "), (paint, &what)]);
    }
    let rest: u64 = shares.iter().skip(top).map(|share| share.ns).sum();
    if rest > 0 {
        let note = format!(
            "{} more reasons, {} (--top N)",
            units::count((shares.len() - top) as u64),
            units::time(rest)
        );
        page.line(&[(Paint::Dim, &note)]);
    }
}

/// The resource state as the tables call it.
fn state(reason: Reason) -> &'static str {
    match reason {
        Reason::Cpu | Reason::Runqueue | Reason::ShortWaits | Reason::Lost | Reason::Unattributed => reason.words(),
        Reason::Wait(class) => class.wait.name(),
    }
}

fn what(share: &Share) -> String {
    match (share.reason, &share.program[..]) {
        (_, "") => "no thread is known that it could be charged to".to_owned(),
        (Reason::Wait(_), program) => format!("{} in {program}", share.words()),
        (_, program) => program.to_owned(),
    }
}

fn stretches(page: &mut Page, session: &Session, path: &Path, chain: &[Stretch]) {
    let mut cells = vec![["at", "takes"].map(str::to_owned).to_vec()];
    cells.extend(chain.iter().map(|stretch| {
        vec![
            units::time(stretch.span.from - path.span.from),
            units::time(stretch.span.len()),
        ]
    }));
    let whose: Vec<String> = chain.iter().map(|stretch| who(session, stretch)).collect();
    let name = whose
        .iter()
        .map(|name| text::width(name))
        .max()
        .unwrap_or(0)
        .clamp(7, NAME + 12);
    let widths = column_widths(&cells);
    page.blank();
    for (index, row) in cells.iter().enumerate() {
        let at = text::right(&row[0], widths[0]);
        let takes = text::right(&row[1], widths[1]);
        let (paint, who, spent) = match index.checked_sub(1) {
            None => (Paint::Dim, "process", "spent on, waited for".to_owned()),
            Some(index) => (Paint::Plain, &whose[index][..], spent(&chain[index])),
        };
        page.line(&[
            (Paint::Dim, &at),
            (Paint::Plain, "  "),
            (paint, &takes),
            (Paint::Plain, "  "),
            (paint, &text::left(who, name)),
            (Paint::Plain, "  "),
            (Paint::Dim, &spent),
        ]);
    }
}

fn who(session: &Session, stretch: &Stretch) -> String {
    if stretch.count > 1 {
        return format!("{} short stretches", units::count(stretch.count));
    }
    match stretch.process.and_then(|ix| session.processes.get(ix.ix())) {
        Some(process) => format!("{} ({})", text::fit(&stretch.program, NAME), process.tgid),
        None => "unattributed".to_owned(),
    }
}

fn spent(stretch: &Stretch) -> String {
    let mut told: Vec<String> = stretch
        .reasons
        .iter()
        .take(OF_STRETCH)
        .map(|(reason, ns)| format!("{} {}", reason.words(), units::time(*ns)))
        .collect();
    if stretch.reasons.len() > OF_STRETCH {
        told.push("…".to_owned());
    }
    told.join(", ")
}

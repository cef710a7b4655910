//! Which programs used the time of the selected phases.

use std::collections::HashMap;

use super::page::{Page, Paint, column_widths};
use super::{Options, Sort};
use crate::attribute::resources::Resources;
use crate::attribute::waits::Classifier;
use crate::model::{ProcessIx, Session};
use crate::report::select::Selection;
use crate::report::{figures, names, text, units};

/// All processes that ran one program.
#[derive(Default)]
struct Program {
    count: u64,
    all: Resources,
    /// Sum of the processes' lives within the selection, ns.
    wall_ns: u64,
    /// The process with the most CPU time, for its arguments.
    example: Option<(u64, ProcessIx)>,
}

/// Widest program name.
const NAME: usize = 24;

pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection, options: &Options) {
    let mut programs: HashMap<&[u8], Program> = HashMap::new();
    let mut classifier = Classifier::default();
    let mut processes = 0u64;
    for (index, spans) in selection.spans(session).iter().enumerate() {
        let process = &session.processes[index];
        if spans.is_empty() {
            continue;
        }
        let Some(image) = process.image() else { continue };
        processes += 1;
        let ix = ProcessIx(index as u32);
        let own = figures::process(session, ix, spans, &mut classifier);
        let program = programs.entry(names::program(image)).or_default();
        program.count += 1;
        program.wall_ns += figures::length(spans);
        if program.example.is_none_or(|(cpu, _)| own.cpu > cpu) {
            program.example = Some((own.cpu, ix));
        }
        program.all.add(&own);
    }
    let total: u64 = programs.values().map(|program| program.all.cpu).sum();
    let mut sorted: Vec<(&[u8], Program)> = programs.into_iter().collect();
    sorted.sort_by_key(|(name, program)| {
        let size = match options.sort {
            Sort::Wall => program.wall_ns,
            Sort::Cpu | Sort::Start => program.all.cpu,
        };
        (std::cmp::Reverse(size), *name)
    });
    let title = match &selection.title[..] {
        "" => "programs".to_owned(),
        title => format!("programs in {title}"),
    };
    let detail = format!(
        "{} of {}, {} on CPUs",
        units::of(processes, "process", "processes"),
        units::of(sorted.len() as u64, "program", "programs"),
        units::time(total)
    );
    page.heading(&title, &detail);
    let more = sorted.len().saturating_sub(options.top);
    let rest: u64 = sorted
        .iter()
        .skip(options.top)
        .map(|(_, program)| program.all.cpu)
        .sum();
    sorted.truncate(options.top);
    rows(page, session, &sorted, total);
    if more > 0 {
        let note = format!(
            "{} more programs, {} on CPUs (--top N)",
            units::count(more as u64),
            units::time(rest)
        );
        page.line(&[(Paint::Dim, &note)]);
    }
}

fn rows(page: &mut Page, session: &Session, programs: &[(&[u8], Program)], total: u64) {
    if programs.is_empty() {
        return;
    }
    let mut cells = vec![
        ["count", "on-CPU", "share", "run queue", "blocked", "lived"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (_, program) in programs {
        cells.push(vec![
            format!("×{}", units::count(program.count)),
            units::cell(program.all.cpu),
            units::share(program.all.cpu, total),
            units::cell(program.all.runqueue),
            units::cell(program.all.blocked()),
            units::cell(program.wall_ns),
        ]);
    }
    let widths = column_widths(&cells);
    let shown: Vec<String> = programs
        .iter()
        .map(|(name, _)| text::escape_terminal(name, NAME))
        .collect();
    let name = shown
        .iter()
        .map(|name| text::width(name))
        .max()
        .unwrap_or(0)
        .max("program".len());
    for (index, row) in cells.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&text::right(cell, *width));
        }
        let paint = if index == 0 { Paint::Dim } else { Paint::Plain };
        let (label, example) = match index.checked_sub(1) {
            None => ("program", "  such as".to_owned()),
            Some(index) => (
                &shown[index][..],
                format!("  {}", arguments(session, &programs[index].1)),
            ),
        };
        // Arguments only where there is room to read them.
        let room = page.width().saturating_sub(name + text::width(&line));
        let example = if room >= 16 { example } else { String::new() };
        page.line(&[
            (paint, &text::left(label, name)),
            (paint, &line),
            (Paint::Dim, &example),
        ]);
    }
}

/// The arguments of a program's biggest process, without its name.
fn arguments(session: &Session, program: &Program) -> String {
    program
        .example
        .and_then(|(_, ix)| session.processes.get(ix.ix()))
        .and_then(|process| process.image())
        .filter(|image| image.exec)
        .and_then(|image| image.argv.get(1..))
        .map(text::argv)
        .unwrap_or_default()
}

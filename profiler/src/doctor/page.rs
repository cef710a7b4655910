//! The findings on one screen.

use std::collections::BTreeMap;

use super::{Findings, Runtime, Signal, Verdict};
use crate::report::{
    terminal::{Page, Paint, Style},
    text,
};

/// Columns of the names on the left, with the mark before them.
const LABEL: usize = 19;

/// The page, lines no wider than the style says.
pub fn render(findings: &Findings, style: &Style) -> String {
    let mut page = Page::new(*style);
    let verdict = if findings.works {
        "a recording works here"
    } else {
        "nothing can be recorded here"
    };
    page.heading(&format!("phasegraph {}", findings.version), verdict);
    for check in &findings.checks {
        let (mark, paint) = match check.verdict {
            Verdict::Good => (" ", Paint::Plain),
            Verdict::Less => ("-", Paint::Warn),
            Verdict::Bad => ("!", Paint::Warn),
            Verdict::Unknown => ("?", Paint::Warn),
        };
        let mut line = text::visible(check.found.as_bytes());
        if !check.advice.is_empty() {
            line.push_str(": ");
            line.push_str(&text::visible(check.advice.as_bytes()));
        }
        let label = text::left(&format!("{mark} {}", check.name), LABEL);
        page.paragraph(&label, paint, &line);
    }
    signals(&mut page, &findings.signals);
    runtimes(&mut page, &findings.runtimes);
    page.finish()
}

/// Those on their best rung by rung; each of the others by itself.
fn signals(page: &mut Page, signals: &[Signal]) {
    if signals.is_empty() {
        return;
    }
    page.heading("signals", "by the hook that each is taken from");
    let mut best: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for signal in signals {
        if let Some(rung) = signal.rung.filter(|_| signal.lost.is_empty()) {
            best.entry(rung).or_default().push(signal.signal);
        }
    }
    for (rung, signals) in best {
        let label = text::left(&format!("  {rung}"), LABEL);
        page.paragraph(&label, Paint::Plain, &signals.join(", "));
    }
    for signal in signals
        .iter()
        .filter(|signal| signal.rung.is_none() || !signal.lost.is_empty())
    {
        let label = text::left(&format!("- {}", signal.rung.unwrap_or("none")), LABEL);
        let lost = match signal.rung {
            Some(_) => signal.lost,
            None => signal.gives,
        };
        page.paragraph(&label, Paint::Warn, &format!("{}; lost: {lost}", signal.signal));
    }
}

fn runtimes(page: &mut Page, runtimes: &[Runtime]) {
    if runtimes.is_empty() {
        page.heading("runtimes", "none in PATH");
        return;
    }
    page.heading("runtimes", "found in PATH");
    let all: Vec<String> = runtimes
        .iter()
        .map(|runtime| {
            let mut words = format!("{} {}", runtime.program, text::visible(runtime.version.as_bytes()));
            if !runtime.storage.is_empty() {
                words.push_str(&format!(" ({})", text::visible(runtime.storage.join(", ").as_bytes())));
            }
            words.trim_end().to_owned()
        })
        .collect();
    page.paragraph("  ", Paint::Plain, &all.join(", "));
}

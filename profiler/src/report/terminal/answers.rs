//! What people ask of a container's life, answered in words as far as the recording shows it.

use super::page::{Page, Paint};
use crate::attribute::resources;
use crate::attribute::waits::Classifier;
use crate::model::Session;
use crate::report::findings::{self, Answered};
use crate::report::text;

/// Lines of an answer; the page of `report` has all.
const LINES: usize = 4;
/// Column in which answers begin.
const INDENT: usize = 2;

/// The questions that have an answer.
pub(super) fn add(page: &mut Page, session: &Session) {
    let mut classifier = Classifier::default();
    let figures = resources::phases(session, &mut classifier);
    let findings = findings::all(session, &figures, &mut classifier);
    let answered = findings.iter().filter(|finding| finding.answered == Answered::Yes);
    for (index, finding) in answered.enumerate() {
        if index == 0 {
            page.heading(
                "answers",
                "what the recording shows of ten questions; all of it: phasegraph report",
            );
        }
        page.paragraph("", Paint::Strong, finding.question);
        let indent = text::left("", INDENT);
        for line in finding.lines.iter().take(LINES) {
            page.paragraph(&indent, Paint::Plain, line);
        }
        if finding.lines.len() > LINES {
            let more = format!("and {} more lines", finding.lines.len() - LINES);
            page.paragraph(&indent, Paint::Dim, &more);
        }
    }
}

//! What was recorded, where and when.

use super::page::{Page, Paint};
use crate::model::Session;
use crate::report::{figures, text, units};

/// Columns of the names on the left.
const LABEL: usize = 11;

pub(super) fn add(page: &mut Page, session: &Session) {
    let meta = &session.meta;
    let clean = |value: &str| text::visible(value.as_bytes());
    let mut fact = |label: &str, value: String| {
        let label = text::left(label, LABEL);
        page.line(&[(Paint::Dim, &label), (Paint::Plain, &value)]);
    };
    if !meta.name.is_empty() {
        fact("name", clean(&meta.name));
    }
    let command = if meta.command.is_empty() {
        "whole host".to_owned()
    } else {
        text::argv(&meta.command)
    };
    fact("command", command);
    if !meta.cwd.is_empty() {
        let user = if meta.user.is_empty() {
            String::new()
        } else {
            format!(" as {}", clean(&meta.user))
        };
        fact("in", format!("{}{user}", text::visible(&meta.cwd)));
    }
    let host = format!(
        "{}, Linux {}, {} CPUs, {} memory",
        clean(&meta.hostname),
        clean(&meta.kernel),
        meta.cpus,
        units::bytes(meta.memory_bytes)
    );
    fact("host", host);
    if !meta.cpu_model.is_empty() {
        fact("CPU", format!("{} ({})", clean(&meta.cpu_model), clean(&meta.machine)));
    }
    for (name, value) in figures::notes(session) {
        fact("note", format!("{}: {}", clean(name), clean(value)));
    }
    let end = match session.closed {
        Some(Some(code)) if code > 128 => format!(", killed by signal {}", code - 128),
        Some(Some(code)) => format!(", exit status {code}"),
        Some(None) | None => String::new(),
    };
    let length = format!(
        "{}, {} Hz CPU samples{end}",
        units::time(session.span.len()),
        meta.sample_hz
    );
    fact("length", length);
    fact(
        "recorded",
        format!("{} by phasegraph {}", date(session), clean(&meta.version)),
    );

    if session.closed.is_none() {
        let note = "the recording was not closed: what follows is true up to its last whole block; what was still \
                    going on then is marked open";
        page.paragraph(&text::left("cut off", LABEL), Paint::Warn, note);
    }
    for damage in &session.damage {
        page.paragraph(&text::left("damage", LABEL), Paint::Warn, &clean(damage));
    }
}

/// When it began, UTC.
fn date(session: &Session) -> String {
    figures::real_time(&session.clocks, session.span.from)
        .and_then(|real| jiff::Timestamp::from_nanosecond(i128::from(real)).ok())
        .map_or_else(
            || "at an unknown date".to_owned(),
            |date| date.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        )
}

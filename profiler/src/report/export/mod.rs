//! Forms of output that other programs read: one sink a file, all behind [`Sink`]. Each is checked by the program that it
//! is for (`tests/exports.rs`).
//!
//! Names of traced processes reach every sink as bytes that anybody may have chosen. All of them take [`text::visible`]
//! text, and what the form itself gives a meaning to is escaped by the form's own writer. See
//! `docs/design/0018-exports.md`.

mod json;
mod otlp;
mod perfetto;
mod pprof;
mod prometheus;
mod speedscope;
mod stacks;
pub(super) mod table;

use std::io::{self, Write};

use super::flame::{Empty, Kind};
use super::select::Selection;
use super::text;
use crate::model::{ProcessIx, Session};
use crate::report::names;

/// What of a session is wanted.
#[derive(Clone, Debug)]
pub struct Request {
    /// Only with [`Sink::takes_part`].
    pub selection: Selection,
    /// Only with [`Sink::takes_kind`].
    pub kind: Kind,
}

/// Why there is nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Empty(#[from] Empty),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Table(#[from] ::csv::Error),
    #[error("the recording has no pair of clocks, so nothing in it has a date")]
    NoClock,
}

/// One form of output.
pub trait Sink: Sync {
    /// As `--format` takes it.
    fn name(&self) -> &'static str;

    /// What it is, in a few words for people.
    fn about(&self) -> &'static str;

    /// Ending of the file that it goes to when nobody names one; `None`: standard output.
    fn ending(&self) -> Option<&'static str> {
        None
    }

    /// Whether a part of a recording can be asked for.
    fn takes_part(&self) -> bool {
        false
    }

    /// Whether a kind of time can be asked for.
    fn takes_kind(&self) -> bool {
        false
    }

    /// Writes all of it.
    ///
    /// # Errors
    ///
    /// [`Error`]: there is nothing of what is wanted, or `out` can't be written to.
    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error>;
}

/// All of them. A new one is a file here and a line in this table.
pub const SINKS: [&dyn Sink; 9] = [
    &json::Json,
    &table::Csv,
    &table::Tsv,
    &stacks::Folded,
    &pprof::Pprof,
    &perfetto::Perfetto,
    &speedscope::Speedscope,
    &otlp::Otlp,
    &prometheus::Prometheus,
];

/// The sink of that name.
pub fn find(name: &str) -> Option<&'static dyn Sink> {
    SINKS.into_iter().find(|sink| sink.name() == name)
}

/// A process's program, harmless.
fn program(session: &Session, ix: ProcessIx) -> String {
    let image = session.processes.get(ix.ix()).and_then(|process| process.image());
    image.map_or_else(|| "[no name]".to_owned(), |image| text::visible(names::program(image)))
}

#[cfg(test)]
mod tests;

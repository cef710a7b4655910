//! Folded stacks: frames parted by `;`, root first, then the time in µs, of `disk` bytes (Brendan Gregg's FlameGraph, inferno).

use std::io::Write;

use super::{Error, Request, Sink};
use crate::model::Session;
use crate::report::flame::{self, Roots};

pub(super) struct Folded;

impl Sink for Folded {
    fn name(&self) -> &'static str {
        "folded"
    }

    fn about(&self) -> &'static str {
        "stacks, a line each, for flamegraph tools"
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn takes_kind(&self) -> bool {
        true
    }

    fn write(&self, session: &Session, request: &Request, out: &mut dyn Write) -> Result<(), Error> {
        let flame = flame::collect(session, &request.selection, request.kind, Roots::default())?;
        out.write_all(flame.folded().as_bytes())?;
        Ok(())
    }
}

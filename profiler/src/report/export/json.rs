//! `results.json`: the same bytes as `show --json`.

use std::io::Write;

use super::{Error, Request, Sink};
use crate::model::Session;
use crate::report::json;

pub(super) struct Json;

impl Sink for Json {
    fn name(&self) -> &'static str {
        "json"
    }

    fn about(&self) -> &'static str {
        "everything in numbers, with a published schema"
    }

    fn write(&self, session: &Session, _: &Request, out: &mut dyn Write) -> Result<(), Error> {
        out.write_all(&json::render(session)?)?;
        Ok(())
    }
}

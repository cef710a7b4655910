//! Reads a recording and makes of it what the reports speak of.

use std::path::Path;

use super::Problem;
use crate::lookup::rules;
use crate::model::Session;
use crate::model::build::Builder;
use crate::recording::Reader;

/// The session in the recording at `path`, with its operations, containers and phases.
///
/// A broken recording gives what can be read of it; [`Session::damage`] says what is missing.
///
/// # Errors
///
/// The file can't be read, is no recording, or is of a newer version.
pub fn load(path: &Path) -> Result<Session, Problem> {
    with_rules(path, None)
}

/// The same, with the rules for phases of the user's own of another file than the recording was made with.
pub(super) fn with_rules(path: &Path, config: Option<&Path>) -> Result<Session, Problem> {
    let given = config.map(|config| rules::find(Some(config))).transpose();
    let given = given.map_err(|error| {
        Problem::new("can't use the rules for phases")
            .because(error)
            .with_status(2)
    })?;
    // The reader's own message names the file, the cause and the next step.
    let mut reader = Reader::open(path).map_err(|error| Problem::new("can't show the recording").because(error))?;
    let mut builder = Builder::new();
    for record in &mut reader {
        builder.push(record);
    }
    let mut session = builder.finish(reader.damage().to_vec());
    if let Some(rules) = given.flatten() {
        session.rules = rules;
    }
    crate::detect::detect(&mut session);
    Ok(session)
}

//! `rungs`: what `--rung` can force, for tests.

use super::{Problem, output};
use crate::load::registry::PROBES;

/// List every signal and the rungs it can be taken by, best first, as `--rung` takes them
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  phasegraph rungs")]
pub(crate) struct Args {}

pub(super) fn run(_: &Args) -> Result<u8, Problem> {
    let mut text = String::new();
    for probe in PROBES {
        for rung in probe.attach.rungs() {
            text.push_str(&format!("{}={rung}\n", probe.program));
        }
    }
    output::stdout(text.as_bytes())?;
    Ok(0)
}

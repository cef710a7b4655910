//! `doctor`: what this host offers, and whether a recording works here.

use std::io;

use super::{Problem, output, terminal};
use crate::doctor;

/// Find out whether a recording works here, and what it would lack
///
/// Everything is looked at and tried, nothing is changed. Without root it says what root is needed for.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph doctor\n  \
                        sudo phasegraph doctor --json | jq '.signals[] | select(.lost != \"\")'\n\n\
                        Exit status: 0 when run and record work, 1 when they don't.")]
pub(crate) struct Args {
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let findings = doctor::examine();
    let text = if args.json {
        let mut json = serde_json::to_vec(&findings)
            .map_err(|error| Problem::new("can't write the findings as JSON").because(error))?;
        json.push(b'\n');
        json
    } else {
        doctor::render(&findings, &terminal::style(&io::stdout(), None)).into_bytes()
    };
    output::stdout(&text)?;
    Ok(u8::from(!findings.works))
}

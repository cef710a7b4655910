//! `phasegraph`: parses its arguments, does what they ask, and turns the outcome into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    // The demo's container is made of processes of this program; they come before anything that starts a thread.
    phasegraph::demo::stage::dispatch().unwrap_or_else(phasegraph::cli::main)
}

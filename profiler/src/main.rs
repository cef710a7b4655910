//! `phasegraph`: parses its arguments, does what they ask, and turns the outcome into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    phasegraph::cli::main()
}

//! `phasegraph`: parses its arguments, does what they ask, and turns the outcome into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Some processes of this program are no command lines: the parser of mapped files, and those that the demo makes its
    // container of. They come before anything that starts a thread.
    phasegraph::symbol::sandbox::child::dispatch()
        .or_else(phasegraph::demo::stage::dispatch)
        .unwrap_or_else(phasegraph::cli::main)
}

//! The container that the program makes itself. (The lead's; this holds its interface.)

use std::path::PathBuf;

/// What `demo` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Folder to write into.
    pub output: PathBuf,
}

/// Runs the demo.
pub fn run(_options: &Options) -> Result<(), crate::session::Error> {
    Err(crate::session::Error::NoCommand)
}

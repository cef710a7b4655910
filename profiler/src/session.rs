//! One profiling session: probes, command, recording. (The lead's; this holds its interface.)

use std::ffi::OsString;
use std::path::PathBuf;

/// What `run` was asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    pub output: PathBuf,
    /// Replace `output` if it exists.
    pub force: bool,
    pub name: String,
    /// CPU samples a second on each CPU.
    pub sample_hz: u32,
    /// Whom to run the command as, with that user's environment.
    pub user: Option<String>,
    /// Redact arguments that look like secrets.
    pub redact: bool,
    /// No progress.
    pub quiet: bool,
    pub command: Vec<OsString>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The command's exit status; 128 + signal when it was killed.
    pub status: u8,
    pub recording: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this build has no probes")]
    NoProbes,
}

impl Error {
    /// The program's exit status.
    pub fn exit_status(&self) -> u8 {
        1
    }

    /// What the user can do about it.
    pub fn next_step(&self) -> Option<String> {
        None
    }
}

/// Profiles a command.
pub fn run(_options: &Options) -> Result<Outcome, Error> {
    Err(Error::NoProbes)
}

//! What can go wrong with a recording, and what to do then.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{MAJOR, MAX_RECORD};

/// Why a recording can't be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "a recording can't go to standard output: it is written in place, so that it survives a crash; \
         name a file with -o"
    )]
    StandardOutput,
    #[error("{}: names no file; give one with -o, as in -o app.phg", path.display())]
    NoName { path: PathBuf },
    #[error("{} exists already; name another file with -o, or ask for --force", path.display())]
    Exists { path: PathBuf },
    #[error("{} is not a plain file, so it is not replaced; name another file with -o", path.display())]
    NotPlain { path: PathBuf },
    #[error("{} is being written by another phasegraph; name another file with -o", path.display())]
    Busy { path: PathBuf },
    #[error(
        "{} leads through {}, a symbolic link that another user put into a folder that anyone may write to; \
         give the real folder with -o",
        path.display(), link.display()
    )]
    Symlink { path: PathBuf, link: PathBuf },
    #[error("can't {doing} {}: {error}; {}", path.display(), next_step(error))]
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error(
        "the recording stopped: can't write to {}: {error}; {}. The {whole} bytes before are whole: \
         `phasegraph show {}` reads them",
        path.display(), next_step(error), path.display()
    )]
    Stopped {
        path: PathBuf,
        whole: u64,
        error: io::Error,
    },
    #[error("nothing more is written to {}: an earlier write failed", path.display())]
    StoppedBefore { path: PathBuf },
    #[error(
        "the recording is complete but can't be named {}, which came to be in the meantime; it is kept as {}: \
         rename that",
        path.display(), kept.display()
    )]
    Taken { path: PathBuf, kept: PathBuf },
    #[error(
        "{} was moved, removed or replaced while it was written; the recording is where it was moved to, if anywhere",
        path.display()
    )]
    Moved { path: PathBuf },
    #[error("a record of kind {kind} has {len} bytes, more than the {MAX_RECORD} that one may have; it was left out")]
    TooLarge { kind: u16, len: usize },
    #[error("a record of kind {kind} can't be encoded: {error}; it was left out")]
    Encode { kind: u16, error: postcard::Error },
}

impl WriteError {
    /// Whether only the one record is lost and the recording goes on.
    pub fn is_of_one_record(&self) -> bool {
        matches!(self, WriteError::TooLarge { .. } | WriteError::Encode { .. })
    }

    pub(super) fn io(doing: &'static str, path: &Path, error: impl Into<io::Error>) -> WriteError {
        WriteError::Io {
            doing,
            path: path.to_owned(),
            error: error.into(),
        }
    }
}

/// What a person does about `error`.
fn next_step(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "make the folder first, or name another with -o",
        io::ErrorKind::PermissionDenied => "name a file in a folder that you may write to with -o",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "make room, or name a file on another disk with -o"
        }
        io::ErrorKind::FileTooLarge => {
            "raise the file size limit (`ulimit -f`), or name a file on another disk with -o"
        }
        io::ErrorKind::ReadOnlyFilesystem => "name a file on a disk that can be written to with -o",
        io::ErrorKind::NotADirectory => "a part of the path is not a folder: correct it",
        io::ErrorKind::InvalidFilename => "the name is too long: give a shorter one with -o",
        _ => "name another file with -o",
    }
}

/// Why a recording can't be read at all. Damage further in is no error: see [`super::Reader::damage`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("can't open {name}: {error}; give a recording (.phg) that you may read")]
    Open { name: String, error: io::Error },
    #[error("can't read {name}: {error}")]
    Read { name: String, error: io::Error },
    #[error("{name} is a folder; give a recording (.phg) in it")]
    Directory { name: String },
    #[error("{name} has 0 bytes: nothing was recorded into it; record again")]
    Empty { name: String },
    #[error("{name} ends after {len} bytes, within its header: it was cut off before anything was recorded")]
    CutOff { name: String, len: usize },
    #[error("{name} is not a recording: it does not begin as one; give a file made by `phasegraph run` or `record`")]
    NotARecording { name: String },
    #[error(
        "{name} was made by a newer phasegraph: it has format {major}.{minor}, this program reads up to {MAJOR}; \
         install the phasegraph that made it, or a newer one"
    )]
    Newer { name: String, major: u16, minor: u16 },
}

//! What can go wrong with the demo.

use std::io;
use std::path::PathBuf;

/// The demo failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the demo makes mounts and namespaces, which only root may: run it with sudo")]
    NotRoot,
    #[error("{0} is there and is not empty: choose another folder with -o")]
    NotEmpty(PathBuf),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(
        "can't mount an overlay in {folder}: {source}; its file system must be able to hold one (ext4, xfs, btrfs; no \
         overlay itself): choose another folder with -o"
    )]
    Overlay { folder: PathBuf, source: io::Error },
    #[error("the demo's stage {stage} failed: {why}")]
    Stage { stage: String, why: String },
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn stage(stage: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Stage {
            stage: stage.into(),
            why: why.into(),
        }
    }
}

/// Names what an I/O error is about.
pub(super) trait At<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

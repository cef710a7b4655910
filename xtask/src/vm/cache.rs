//! Where kernels and root file systems are kept between runs.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::workspace;

/// Names another folder than `target/vm`, for several checkouts to share.
const FOLDER: &str = "PHASEGRAPH_VM_CACHE";

/// The folder of everything that is fetched or made once.
pub(crate) struct Cache(PathBuf);

impl Cache {
    pub(crate) fn new() -> anyhow::Result<Cache> {
        Ok(Cache(match std::env::var_os(FOLDER) {
            Some(folder) => PathBuf::from(folder),
            None => workspace()?.join("target/vm"),
        }))
    }

    /// One of its folders, made if need be.
    pub(crate) fn folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.0.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// A folder to make something in, on the file system that it will be kept on.
    pub(crate) fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        let parent = self.folder("scratch")?;
        tempfile::tempdir_in(&parent).with_context(|| parent.display().to_string())
    }
}

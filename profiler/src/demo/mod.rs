//! `phasegraph demo`: a container that the program makes itself, whose parts it has stamped: the first thing that a
//! new user runs, and a test whose truth is known.
//!
//! No container runtime is needed: the program writes two layers, mounts an overlay of them, and starts itself as
//! engine, runtime, init and entrypoint ([`stage`]).

mod cgroup;
pub mod compare;
mod error;
mod layers;
pub mod stage;
pub mod stamps;
mod sys;
mod workload;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use error::At as _;
pub use error::Error;
use layers::Layers;
pub use layers::Sizes;
use stamps::Stamps;

/// First argument of the processes that make up the demo's container.
pub const STAGE: &str = "demo-stage";
/// File name of the stamps, in the demo's folder.
pub const STAMPS: &str = "stamps.json";

/// A container that is ready to be run. Dropping it removes the layers, and the cgroup if its engine was killed.
#[derive(Debug)]
pub struct Demo {
    folder: PathBuf,
    container: String,
    layers: Layers,
    program: PathBuf,
}

/// Makes the layers below `folder`, which is made if it is not there. `program` is phasegraph's own file.
///
/// # Errors
///
/// When not root, when the folder is not empty, when a file can't be written.
pub fn prepare(folder: &Path, program: &Path, sizes: Sizes) -> Result<Demo, Error> {
    // SAFETY: no arguments, can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err(Error::NotRoot);
    }
    fs::create_dir_all(folder).at(|| folder.display().to_string())?;
    let mut entries = fs::read_dir(folder).at(|| folder.display().to_string())?;
    if entries.next().is_some() {
        return Err(Error::NotEmpty(folder.to_path_buf()));
    }
    let folder = folder.canonicalize().at(|| folder.display().to_string())?;
    let demo = Demo {
        container: container_name(),
        layers: Layers::of(&folder),
        program: program.to_path_buf(),
        folder,
    };
    demo.layers.make(program, sizes)?;
    Ok(demo)
}

/// A name that no other demo of this host has now.
fn container_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("phasegraph-demo-{}-{count}", std::process::id())
}

impl Demo {
    /// The command that runs the container: what `phasegraph run` is to profile.
    pub fn command(&self) -> Vec<OsString> {
        vec![
            self.program.clone().into(),
            STAGE.into(),
            "engine".into(),
            self.folder.clone().into(),
            self.container.clone().into(),
        ]
    }

    /// What the container stamped, once it has run.
    ///
    /// # Errors
    ///
    /// When it has not run to its end.
    pub fn stamps(&self) -> Result<Stamps, Error> {
        let path = self.folder.join(STAMPS);
        let text = fs::read(&path).at(|| path.display().to_string())?;
        serde_json::from_slice(&text).map_err(|error| Error::stage("engine", format!("{}: {error}", path.display())))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its id: the name of its cgroup and its host name.
    pub fn container(&self) -> &str {
        &self.container
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for result in [cgroup::remove(&self.container), self.layers.remove()] {
            if let Err(error) = result {
                tracing::warn!("the demo leaves something behind: {error}");
            }
        }
    }
}

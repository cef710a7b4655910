//! The demo's image: two layers, made on the spot.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{At as _, Error};
use super::{STAGE, sys};

/// The program, inside the container.
pub(super) const PROGRAM: &str = "/usr/bin/phasegraph";
/// Read by the disk part.
pub(super) const COLD_FILE: &str = "/srv/cold.bin";
/// Copied up.
pub(super) const CONFIG_FILE: &str = "/srv/config.bin";
/// Written by the entrypoint, into the upper layer.
pub(super) const STAMPS_FILE: &str = "/stamps.json";

/// How much is read and copied.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Size of the file that the disk part reads, bytes.
    pub cold: u64,
    /// Size of the file that is copied up, bytes.
    pub config: u64,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes {
            cold: 64 << 20,
            config: 16 << 20,
        }
    }
}

/// Where the parts of the container's root lie, below the demo's folder.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    folder: PathBuf,
}

impl Layers {
    pub(super) fn of(demo: &Path) -> Layers {
        Layers {
            folder: demo.join("container"),
        }
    }

    /// The folder that holds all of them.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The layer with program and libraries.
    fn system(&self) -> PathBuf {
        self.folder.join("lower1")
    }

    /// The layer with the data.
    fn data(&self) -> PathBuf {
        self.folder.join("lower2")
    }

    pub(super) fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    pub(super) fn merged(&self) -> PathBuf {
        self.folder.join("merged")
    }

    /// Makes everything that an engine has made when it starts a container: the image's layers.
    pub(super) fn make(&self, program: &Path, sizes: Sizes) -> Result<(), Error> {
        // Readable by root only: it holds a copy of a program that root runs.
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&self.folder)
            .at(|| self.folder.display().to_string())?;
        for folder in [self.upper(), self.work(), self.merged(), self.system().join("proc")] {
            make_folder(&folder)?;
        }
        share(program, &inside(&self.system(), Path::new(PROGRAM)))?;
        for library in libraries_of(program)? {
            share(&library, &inside(&self.system(), &library))?;
        }
        fill(&inside(&self.data(), Path::new(COLD_FILE)), sizes.cold)?;
        fill(&inside(&self.data(), Path::new(CONFIG_FILE)), sizes.config)
    }

    /// Mounts the layers at `merged`.
    ///
    /// With absolute paths, as engines have them, unless they hold what would need an escape there: then relative to
    /// the caller's working directory.
    pub(super) fn mount(&self) -> Result<(), Error> {
        std::env::set_current_dir(&self.folder).at(|| self.folder.display().to_string())?;
        sys::mount(Path::new("overlay"), &self.merged(), "overlay", 0, &self.options()).map_err(|source| {
            Error::Overlay {
                folder: self.folder.clone(),
                source,
            }
        })
    }

    fn options(&self) -> Vec<u8> {
        let folder = self.folder.as_os_str().as_bytes();
        let plain = folder.starts_with(b"/") && !folder.iter().any(|byte| b":,\\".contains(byte));
        let base: &[u8] = if plain { folder } else { b"." };
        let mut options = Vec::new();
        for part in [
            &b"lowerdir="[..],
            base,
            b"/lower2:",
            base,
            b"/lower1,upperdir=",
            base,
            b"/upper,workdir=",
            base,
        ] {
            options.extend_from_slice(part);
        }
        options.extend_from_slice(b"/work");
        options
    }

    /// What the container wrote as its stamps.
    pub(super) fn stamps(&self) -> PathBuf {
        inside(&self.upper(), Path::new(STAMPS_FILE))
    }

    /// Removes what the container wrote, as an engine's `rm` does.
    pub(super) fn remove_container(&self) -> Result<(), Error> {
        for folder in [self.upper(), self.work()] {
            remove(&folder)?;
        }
        Ok(())
    }

    /// Removes everything.
    pub(super) fn remove(&self) -> Result<(), Error> {
        remove(&self.folder)
    }
}

/// Prints what [`libraries_of`] reads: a NUL behind each path.
pub(super) fn print_libraries() -> Result<(), Error> {
    let mut text = Vec::new();
    for library in sys::loaded_libraries() {
        text.extend_from_slice(library.as_os_str().as_bytes());
        text.push(0);
    }
    io::stdout()
        .write_all(&text)
        .and_then(|()| io::stdout().flush())
        .at(|| "standard output".to_owned())
}

/// The loader and the libraries that `program`, which is phasegraph, runs with: it knows best.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>, Error> {
    let output = Command::new(program)
        .args([STAGE, "libraries"])
        .output()
        .at(|| program.display().to_string())?;
    if !output.status.success() {
        return Err(Error::stage("libraries", output.status.to_string()));
    }
    let paths = output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty());
    Ok(paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect())
}

/// Paths of all directories that this program's libraries lie in: the container has no loader cache.
pub(super) fn library_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = sys::loaded_libraries()
        .iter()
        .filter_map(|library| library.parent().map(Path::to_path_buf))
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

/// An absolute path of the container, in a layer.
fn inside(layer: &Path, path: &Path) -> PathBuf {
    layer.join(path.strip_prefix("/").unwrap_or(path))
}

/// Puts `from` at `to`: as a second name where the file system allows it, else as a copy.
fn share(from: &Path, to: &Path) -> Result<(), Error> {
    if let Some(parent) = to.parent() {
        make_folder(parent)?;
    }
    // A link to a link would dangle.
    let from = from.canonicalize().at(|| from.display().to_string())?;
    if fs::hard_link(&from, to).is_err() {
        fs::copy(&from, to).at(|| to.display().to_string())?;
    }
    Ok(())
}

/// Writes a file of bytes that nothing can compress or dedupe, and takes it out of the page cache.
fn fill(path: &Path, size: u64) -> Result<(), Error> {
    if let Some(parent) = path.parent() {
        make_folder(parent)?;
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        let mut block = vec![0u8; 1 << 20];
        let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ size;
        let mut left = size;
        while left > 0 {
            for word in block.chunks_exact_mut(8) {
                // xorshift64 (Marsaglia 2003)
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
            file.write_all(&block[..length])?;
            left -= length as u64;
        }
        file.sync_all()?;
        sys::drop_cache(&file)
    };
    write().at(|| path.display().to_string())
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).at(|| path.display().to_string())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at(|| path.display().to_string()),
        _ => Ok(()),
    }
}

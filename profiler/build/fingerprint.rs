// What ties the checked-in eBPF object to its sources: a hash over them, and the manifest that holds it.
//
// One file for `build.rs`, which verifies, and for `xtask`, which writes: two copies could come to disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// File name of the manifest, beside the objects.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The two objects, by file name, with the cargo features that each is built with.
pub(crate) const OBJECTS: [(&str, &[&str]); 2] = [
    ("phasegraph-storage.bpf.o", &["task-storage"]),
    ("phasegraph-hash.bpf.o", &[]),
];

/// What the objects are made of, relative to the workspace: files, and folders with all that is below them.
pub(crate) const SOURCES: [&str; 6] = [
    "profiler-common/Cargo.toml",
    "profiler-common/src",
    "profiler-ebpf/.cargo/config.toml",
    "profiler-ebpf/Cargo.lock",
    "profiler-ebpf/Cargo.toml",
    "profiler-ebpf/src",
];

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// `profiler_common::CONTRACT_VERSION` of the sources.
    pub(crate) contract: u32,
    /// `target_arch` of the machines that the objects are for: they hold its register layout.
    pub(crate) arch: String,
    /// [`sources`] of the workspace that they were built in.
    pub(crate) sources: String,
    pub(crate) toolchain: Toolchain,
    /// SHA-256 of each object, by file name.
    pub(crate) objects: BTreeMap<String, String>,
}

/// What built the objects. The same toolchain gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Toolchain {
    /// `rustup` or `debian`.
    pub(crate) source: String,
    /// First line of `rustc --version`.
    pub(crate) rustc: String,
    /// First line of `cargo --version`: it names the crates' instances, which appear in symbols.
    pub(crate) cargo: String,
    /// rustc's LLVM version.
    pub(crate) llvm: String,
    /// First line of `bpf-linker --version`.
    pub(crate) bpf_linker: String,
}

/// All files that the objects are made of, relative to `workspace`, sorted bytewise.
///
/// # Errors
///
/// When a file or folder of [`SOURCES`] can't be read; the message names it.
pub(crate) fn source_files(workspace: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for source in SOURCES {
        collect(workspace, Path::new(source), &mut files)?;
    }
    files.sort_by(|a, b| a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes()));
    Ok(files)
}

/// SHA-256, in hexadecimal, over path and content of each of [`source_files`]; lengths part them.
///
/// # Errors
///
/// When a source can't be read; the message names it.
pub(crate) fn sources(workspace: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for file in source_files(workspace)? {
        let content = fs::read(workspace.join(&file)).map_err(|error| named(&file, &error))?;
        for part in [file.as_os_str().as_encoded_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hex(&hash.finalize()))
}

/// SHA-256 of `bytes`, in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn collect(workspace: &Path, path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let full = workspace.join(path);
    let metadata = fs::metadata(&full).map_err(|error| named(path, &error))?;
    if !metadata.is_dir() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    for entry in fs::read_dir(&full).map_err(|error| named(path, &error))? {
        let name = entry.map_err(|error| named(path, &error))?.file_name();
        // Editors' swap and backup files: no part of any build.
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(b".") && !bytes.ends_with(b"~") {
            collect(workspace, &path.join(&name), files)?;
        }
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// `xtask` runs these; a build script has no tests.
#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for source in SOURCES {
            let path = folder.path().join(source);
            if source.ends_with("src") {
                fs::create_dir_all(path.join("probes")).unwrap();
                fs::write(path.join("main.rs"), "fn main() {}").unwrap();
                fs::write(path.join("probes/disk.rs"), "").unwrap();
            } else {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, source).unwrap();
            }
        }
        folder
    }

    /// Make sure that every change that could change the object changes the hash: content, a new file, a new name,
    /// bytes that move from one file to the next.
    #[test]
    fn every_change_shows() {
        let folder = workspace();
        let path = |name: &str| folder.path().join(name);
        let mut seen = vec![sources(folder.path()).unwrap()];
        let mut changed = |what: &str| {
            let now = sources(folder.path()).unwrap();
            assert!(!seen.contains(&now), "{what} does not show");
            seen.push(now);
        };
        fs::write(path("profiler-ebpf/src/probes/disk.rs"), "x").unwrap();
        changed("content");
        fs::write(path("profiler-ebpf/src/probes/net.rs"), "").unwrap();
        changed("a new, empty file");
        fs::rename(
            path("profiler-ebpf/src/probes/net.rs"),
            path("profiler-ebpf/src/net.rs"),
        )
        .unwrap();
        changed("a new name");
        fs::write(path("profiler-ebpf/src/probes/disk.rs"), "").unwrap();
        fs::write(path("profiler-ebpf/src/net.rs"), "x").unwrap();
        changed("moved bytes");
        fs::write(path("profiler-ebpf/.cargo/config.toml"), "[build]").unwrap();
        changed("compiler flags");
    }

    /// Make sure that an editor's open file does not make the object stale.
    #[test]
    fn swap_files_are_no_source() {
        let folder = workspace();
        let before = sources(folder.path()).unwrap();
        fs::write(folder.path().join("profiler-ebpf/src/.main.rs.swp"), "x").unwrap();
        fs::write(folder.path().join("profiler-ebpf/src/main.rs~"), "x").unwrap();
        assert_eq!(sources(folder.path()).unwrap(), before);
    }

    /// Make sure that a missing source is an error that names it, not an empty hash.
    #[test]
    fn missing_source_is_named() {
        let folder = workspace();
        fs::remove_file(folder.path().join("profiler-ebpf/Cargo.lock")).unwrap();
        let error = sources(folder.path()).unwrap_err().to_string();
        assert!(error.contains("profiler-ebpf/Cargo.lock"), "{error}");
    }
}

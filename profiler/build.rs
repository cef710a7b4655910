//! Picks the eBPF objects that are built into the program, and refuses stale ones.
//!
//! They are checked in, so that stable Rust alone builds phasegraph (`docs/design/0001-prebuilt-ebpf-object.md`).
//! This script compiles nothing and installs nothing: it verifies the manifest against the sources and the objects,
//! and copies the objects to where `src/load/object.rs` embeds them from.

#[path = "build/fingerprint.rs"]
mod fingerprint;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use fingerprint::{MANIFEST, Manifest, OBJECTS};

/// Where objects and manifest are taken from instead of `prebuilt/`: `cargo xtask test` sets it to freshly built ones.
const OVERRIDE: &str = "PHASEGRAPH_EBPF_DIR";
const REBUILD: &str = "run `cargo xtask ebpf`";

fn main() -> ExitCode {
    match embed() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={message}");
            ExitCode::FAILURE
        }
    }
}

fn embed() -> Result<(), String> {
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = package
        .parent()
        .ok_or_else(|| format!("{} has no parent folder", package.display()))?;

    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    for source in fingerprint::SOURCES {
        println!("cargo::rerun-if-changed={}", workspace.join(source).display());
    }
    let folder = match env::var_os(OVERRIDE) {
        Some(folder) if !folder.is_empty() => workspace.join(folder),
        _ => package.join("prebuilt"),
    };
    println!("cargo::rerun-if-changed={}", folder.display());

    let manifest = read_manifest(&folder)?;
    verify(&manifest, workspace)?;
    for (name, _) in OBJECTS {
        let object = verified_object(&folder, name, &manifest)?;
        fs::write(out.join(name), object).map_err(|error| format!("{}: {error}", out.join(name).display()))?;
    }
    Ok(())
}

fn read_manifest(folder: &Path) -> Result<Manifest, String> {
    let path = folder.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| format!("no eBPF object: {}: {error}; {REBUILD}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}; {REBUILD}", path.display()))
}

/// That the manifest is of these sources, this contract and this machine.
fn verify(manifest: &Manifest, workspace: &Path) -> Result<(), String> {
    let sources = fingerprint::sources(workspace).map_err(|error| {
        format!(
            "can't read the eBPF object's sources in {}: {error}",
            workspace.display()
        )
    })?;
    if manifest.sources != sources {
        return Err(format!("the eBPF object is older than its sources: {REBUILD}"));
    }
    if manifest.contract != profiler_common::CONTRACT_VERSION {
        return Err(format!(
            "the eBPF object speaks contract {}, the program {}: {REBUILD}",
            manifest.contract,
            profiler_common::CONTRACT_VERSION
        ));
    }
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    if manifest.arch != arch {
        return Err(format!(
            "the eBPF object is for {}, this build for {arch}: {REBUILD} on a machine of that kind",
            manifest.arch
        ));
    }
    Ok(())
}

fn verified_object(folder: &Path, name: &str, manifest: &Manifest) -> Result<Vec<u8>, String> {
    let path = folder.join(name);
    let object = fs::read(&path).map_err(|error| format!("no eBPF object: {}: {error}; {REBUILD}", path.display()))?;
    if manifest.objects.get(name) != Some(&fingerprint::digest(&object)) {
        return Err(format!(
            "{} is not the object that {MANIFEST} describes: {REBUILD}",
            path.display()
        ));
    }
    Ok(object)
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}, which cargo sets for build scripts: {error}"))
}

//! `cargo xtask ebpf`: builds the eBPF objects and their manifest, and compares them with the checked-in ones.

mod compare;
pub(crate) mod rustc;
mod strip;
mod toolchain;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::fingerprint::{self, MANIFEST, Manifest, OBJECTS};
use crate::{exec, workspace};

/// Build the eBPF objects and put them into profiler/prebuilt
///
/// Needs rustc with the standard library's source and bpf-linker: Debian's packages or rustup's nightly. What is
/// missing is installed when you say so.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing: compare the checked-in objects with freshly built ones
    #[arg(long)]
    check: bool,
    /// Which toolchain; by default the first one that is complete
    #[arg(long, value_enum)]
    toolchain: Option<toolchain::Source>,
    /// Install what is missing without asking; so does CI=true
    #[arg(long)]
    install: bool,
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let built = build(arguments.toolchain, arguments.install)?;
    if arguments.check {
        return check(&built);
    }
    let prebuilt = prebuilt()?;
    fs::create_dir_all(&prebuilt).with_context(|| prebuilt.display().to_string())?;
    // The manifest last: until it is there, build.rs refuses the new objects.
    for name in OBJECTS.iter().map(|(name, _)| *name).chain([MANIFEST]) {
        replace(&prebuilt.join(name), &read(&built.join(name))?)?;
    }
    exec::announce(format!("wrote {}", prebuilt.display()));
    Ok(())
}

/// Builds both objects with their manifest; returns their folder.
///
/// # Errors
///
/// When there is no toolchain or the build fails.
pub(crate) fn build(source: Option<toolchain::Source>, install: bool) -> anyhow::Result<PathBuf> {
    let workspace = workspace()?;
    let target = workspace.join("target");
    let toolchain = toolchain::find(source, &target.join("tools"), install)?;
    exec::announce(format!(
        "building the eBPF objects with {}",
        toolchain.description.rustc
    ));

    let folder = target.join("ebpf/objects");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let before = fingerprint::sources(&workspace)?;
    let mut objects = BTreeMap::new();
    for (name, features) in OBJECTS {
        let object = strip::debug_info(&compile(&toolchain, &workspace, features)?)?;
        objects.insert(name.to_owned(), fingerprint::digest(&object));
        replace(&folder.join(name), &object)?;
    }
    let manifest = Manifest {
        contract: profiler_common::CONTRACT_VERSION,
        arch: std::env::consts::ARCH.to_owned(),
        sources: fingerprint::sources(&workspace)?,
        toolchain: toolchain.description,
        objects,
    };
    if manifest.sources != before {
        bail!("the sources changed during the build; run it again");
    }
    let mut text = serde_json::to_vec_pretty(&manifest).context("can't write the manifest")?;
    text.push(b'\n');
    replace(&folder.join(MANIFEST), &text)?;
    Ok(folder)
}

/// Compares the checked-in objects with those in `built`.
///
/// # Errors
///
/// When they are stale or differ.
pub(crate) fn check(built: &Path) -> anyhow::Result<()> {
    let report =
        compare::folders(&prebuilt()?, built).context("the checked-in eBPF objects are not those of the sources")?;
    for line in report {
        exec::announce(line);
    }
    Ok(())
}

/// Compiles one object, with its debug information.
fn compile(toolchain: &toolchain::Ready, workspace: &Path, features: &[&str]) -> anyhow::Result<Vec<u8>> {
    let target = workspace.join("target/ebpf/build");
    let wrapper = std::env::current_exe().context("can't find this program's own file")?;
    let mut cargo = toolchain.cargo()?;
    cargo
        .current_dir(workspace.join("profiler-ebpf"))
        .args(["build", "--release", "--locked", "--features"])
        .arg(features.join(","))
        .arg("--target-dir")
        .arg(&target)
        .arg("--config")
        .arg(remap(workspace, &toolchain.sysroot()?)?)
        .env("RUSTC_WRAPPER", wrapper)
        .env(rustc::WRAPPER, "1");
    exec::run(&mut cargo)?;
    read(&target.join("bpfel-unknown-none/release/phasegraph"))
}

/// Cargo configuration that takes this machine's paths out of the object: they would be in its debug information and
/// its panic messages.
fn remap(workspace: &Path, sysroot: &Path) -> anyhow::Result<String> {
    let mut flags = vec![
        format!("--remap-path-prefix={}=/phasegraph", text(workspace)?),
        format!(
            "--remap-path-prefix={}=/rust",
            text(&sysroot.join("lib/rustlib/src/rust"))?
        ),
    ];
    // Debian's source folder is a link.
    if let Ok(source) = sysroot.join("lib/rustlib/src/rust/library").canonicalize() {
        flags.push(format!("--remap-path-prefix={}=/rust/library", text(&source)?));
    }
    // One folder per registry, whose name tells which mirror it came through.
    let sources = cargo_home()?.join("registry/src");
    if let Ok(registries) = fs::read_dir(&sources) {
        for registry in registries {
            let registry = registry.with_context(|| sources.display().to_string())?.path();
            flags.push(format!("--remap-path-prefix={}=/registry", text(&registry)?));
        }
    }
    flags.sort();
    let list = serde_json::to_string(&flags).context("can't quote the paths")?;
    // A JSON list of strings is a TOML one too. Added to the list in profiler-ebpf/.cargo/config.toml.
    Ok(format!("target.bpfel-unknown-none.rustflags={list}"))
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => Ok(home.into()),
        None => {
            Ok(PathBuf::from(std::env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?).join(".cargo"))
        }
    }
}

/// A command without what `cargo run` and the caller's shell would have it inherit: each of these variables changes
/// what is built. rustup's own stay: they say which toolchain is meant, also where a dependency's sources bring a
/// toolchain file of their own.
fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let bytes = name.as_encoded_bytes();
        let ours = bytes.starts_with(b"CARGO")
            || (bytes.starts_with(b"RUST") && !bytes.starts_with(b"RUSTUP_"))
            || bytes == b"LD_LIBRARY_PATH";
        let network = bytes == b"CARGO_HOME"
            || bytes.starts_with(b"CARGO_HTTP_")
            || bytes.starts_with(b"CARGO_NET_")
            || bytes.starts_with(b"CARGO_SOURCE_")
            || bytes.starts_with(b"CARGO_REGISTR");
        if ours && !network {
            command.env_remove(name);
        }
    }
    // What is asked for must be there: rustup is not to fetch or change a toolchain on the side.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    command
}

fn prebuilt() -> anyhow::Result<PathBuf> {
    Ok(workspace()?.join("profiler/prebuilt"))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// Writes a file whole or not at all; leaves it alone when it holds just that, so that nothing is rebuilt for it.
fn replace(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let folder = path
        .parent()
        .with_context(|| format!("{} lies in no folder", path.display()))?;
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, content)?;
        let permissions = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
        file.as_file().set_permissions(permissions)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| path.display().to_string())
}

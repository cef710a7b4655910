//! Toolchains that build for BPF: rustc with the standard library's source, and bpf-linker with rustc's LLVM.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::clean;
use crate::fingerprint::Toolchain;
use crate::{debian, exec};

/// The linker's version: a constant, because it has a share in the object's bytes.
const LINKER: &str = "0.13.0";

/// Where rustc and its source come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    /// rustup's nightly, with its rust-src component
    Rustup,
    /// Debian's rustc and rust-src packages
    Debian,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::Rustup => "rustup",
            Source::Debian => "debian",
        }
    }
}

/// A complete toolchain.
pub(crate) struct Ready {
    source: Source,
    /// The folder of bpf-linker, first on cargo's PATH.
    linker_bin: PathBuf,
    pub(crate) description: Toolchain,
}

impl Ready {
    /// This toolchain's cargo, with everything set that makes it build for BPF.
    pub(crate) fn cargo(&self) -> anyhow::Result<Command> {
        let mut cargo = cargo(self.source);
        cargo.env("PATH", path_with(&self.linker_bin)?);
        // Lets Debian's rustc, a stable one, take `-Z build-std`.
        cargo.env("RUSTC_BOOTSTRAP", "1");
        Ok(cargo)
    }

    /// rustc's own folder, where the standard library's source lies.
    pub(crate) fn sysroot(&self) -> anyhow::Result<PathBuf> {
        sysroot(self.source)
    }
}

/// The toolchain asked for, or the first one that is complete, or, where that is allowed, one that was installed.
///
/// # Errors
///
/// When there is none; the message says what to install.
pub(crate) fn find(wanted: Option<Source>, tools: &Path, install: bool) -> anyhow::Result<Ready> {
    let candidates = match wanted {
        Some(source) => vec![source],
        None => vec![Source::Debian, Source::Rustup],
    };
    let mut lacks = Vec::new();
    for &source in &candidates {
        match lacking(source, tools) {
            None => return ready(source, tools),
            Some(what) => lacks.push(format!("{}: {what}", source.name())),
        }
    }
    for &source in &candidates {
        if can_install(source) && exec::may_install(install, describe_installation(source))? {
            install_toolchain(source, tools).with_context(|| format!("installing the {} toolchain", source.name()))?;
            return ready(source, tools);
        }
    }
    bail!(
        "no toolchain for BPF ({}); `cargo xtask ebpf --install` installs one on Debian as root, or with rustup",
        lacks.join("; ")
    );
}

/// What `source` lacks to be complete.
fn lacking(source: Source, tools: &Path) -> Option<&'static str> {
    let Some(rustc) = version(source) else {
        return Some("no rustc");
    };
    if rustc.release < (1, 88) {
        return Some("rustc is older than 1.88");
    }
    if !has_source(source) {
        return Some("rustc without the standard library's source (rust-src)");
    }
    linker(&rustc, tools).is_none().then_some("no bpf-linker")
}

fn ready(source: Source, tools: &Path) -> anyhow::Result<Ready> {
    let rustc = version(source).with_context(|| format!("no rustc from {}", source.name()))?;
    let linker = linker(&rustc, tools).context("no bpf-linker")?;
    let cargo_version = exec::first_line(cargo(source).arg("--version")).context("no cargo for this rustc")?;
    let linker_version = exec::first_line(Command::new(&linker).arg("--version")).context("bpf-linker does not run")?;
    let linker_bin = linker.parent().context("bpf-linker lies in no folder")?.to_path_buf();
    Ok(Ready {
        source,
        linker_bin,
        description: Toolchain {
            source: source.name().to_owned(),
            rustc: rustc.line,
            cargo: cargo_version,
            llvm: rustc.llvm,
            bpf_linker: linker_version,
        },
    })
}

/// What `rustc -vV` says.
struct Rustc {
    line: String,
    release: (u32, u32),
    /// `22.1.8`
    llvm: String,
}

impl Rustc {
    fn llvm_major(&self) -> &str {
        self.llvm.split('.').next().unwrap_or_default()
    }
}

fn version(source: Source) -> Option<Rustc> {
    parse_version(&exec::output(rustc(source).arg("-vV")).ok()?)
}

fn parse_version(text: &str) -> Option<Rustc> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut release = field("release:")?.split('.').map(str::parse);
    Some(Rustc {
        line: text.lines().next()?.trim().to_owned(),
        release: (release.next()?.ok()?, release.next()?.ok()?),
        llvm: field("LLVM version:")?.to_owned(),
    })
}

fn rustc(source: Source) -> Command {
    match source {
        Source::Debian => clean("/usr/bin/rustc"),
        Source::Rustup => {
            let mut rustup = clean("rustup");
            rustup.args(["run", "nightly", "rustc"]);
            rustup
        }
    }
}

fn cargo(source: Source) -> Command {
    match source {
        Source::Debian => {
            let mut cargo = clean("/usr/bin/cargo");
            cargo.env("RUSTC", "/usr/bin/rustc");
            cargo
        }
        Source::Rustup => {
            let mut rustup = clean("rustup");
            rustup.args(["run", "nightly", "cargo"]);
            rustup
        }
    }
}

fn sysroot(source: Source) -> anyhow::Result<PathBuf> {
    Ok(PathBuf::from(
        exec::output(rustc(source).args(["--print", "sysroot"]))?.trim(),
    ))
}

fn has_source(source: Source) -> bool {
    sysroot(source).is_ok_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").exists())
}

/// Ours, built for this rustc's LLVM, or else one on PATH of the same version.
fn linker(rustc: &Rustc, tools: &Path) -> Option<PathBuf> {
    let wanted = format!("bpf-linker {LINKER}");
    let own = linker_root(rustc, tools).join("bin/bpf-linker");
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&path).map(|folder| folder.join("bpf-linker")))
        .find(|linker| exec::first_line(Command::new(linker).arg("--version")).is_some_and(|line| line == wanted))
}

fn linker_root(rustc: &Rustc, tools: &Path) -> PathBuf {
    tools.join(format!("llvm-{}", rustc.llvm_major()))
}

fn can_install(source: Source) -> bool {
    match source {
        Source::Debian => debian::is_debian() && exec::is_root(),
        Source::Rustup => exec::first_line(clean("rustup").arg("--version")).is_some(),
    }
}

fn describe_installation(source: Source) -> &'static str {
    match source {
        Source::Debian => "Debian's rustc with its source and LLVM, and bpf-linker into target/tools",
        Source::Rustup => "rustup's nightly with rust-src, and bpf-linker into target/tools",
    }
}

fn install_toolchain(source: Source, tools: &Path) -> anyhow::Result<()> {
    match source {
        Source::Debian => install_debian_rustc()?,
        Source::Rustup => exec::run(clean("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile=minimal",
            "--component=rust-src",
        ]))?,
    }
    let rustc = version(source).context("rustc is installed and does not run")?;
    if !has_source(source) {
        bail!(
            "the package of the standard library's source does not belong to {}",
            rustc.line
        );
    }
    if linker(&rustc, tools).is_none() {
        install_linker(&rustc, tools)?;
    }
    Ok(())
}

/// Debian keeps a current rustc for its browsers in `rustc-web`, where the plain `rustc` is too old.
fn install_debian_rustc() -> anyhow::Result<()> {
    const FAMILIES: [[&str; 3]; 2] = [
        ["rustc-web", "rust-web-src", "cargo-web"],
        ["rustc", "rust-src", "cargo"],
    ];
    debian::update()?;
    let family = FAMILIES
        .into_iter()
        .find(|[rustc, ..]| debian::candidate(rustc).is_some_and(|version| is_recent(&version)))
        .context("Debian's rustc packages are older than 1.88 here; use rustup's nightly")?;
    debian::install(&family)
}

/// Whether a Debian version such as `1.96.0+dfsg1-1` is 1.88 or later.
fn is_recent(version: &str) -> bool {
    let mut parts = version.split(['.', '+', '-']).map(str::parse::<u32>);
    matches!((parts.next(), parts.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (1, 88))
}

/// bpf-linker must read the bitcode that rustc writes: it is built against the same major version of LLVM.
fn install_linker(rustc: &Rustc, tools: &Path) -> anyhow::Result<()> {
    let major = rustc.llvm_major();
    let prefix = PathBuf::from(format!("/usr/lib/llvm-{major}"));
    if debian::is_debian() && exec::is_root() {
        let packages = [format!("llvm-{major}-dev"), format!("libpolly-{major}-dev")];
        let names = [
            packages[0].as_str(),
            packages[1].as_str(),
            "gcc",
            "g++",
            "libc6-dev",
            "zlib1g-dev",
        ];
        let missing = debian::missing(&names);
        if !missing.is_empty() {
            debian::install(&missing)?;
        }
    }
    if !prefix.join("bin/llvm-config").exists() {
        bail!("bpf-linker needs LLVM {major} with its headers in {}", prefix.display());
    }
    let root = linker_root(rustc, tools);
    let features = format!("--features=llvm-{major}");
    let version = format!("--version={LINKER}");
    let mut install = clean(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    install
        .args([
            "install",
            "bpf-linker",
            &version,
            "--locked",
            "--no-default-features",
            &features,
            "--root",
        ])
        .arg(&root)
        .env("LLVM_PREFIX", prefix);
    exec::run(&mut install)
}

fn path_with(first: &Path) -> anyhow::Result<OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(first.to_path_buf()).chain(std::env::split_paths(&rest));
    std::env::join_paths(folders).context("PATH can't hold bpf-linker's folder")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a rustc's release and LLVM are read, a nightly's too, and nonsense is refused.
    #[test]
    fn rustc_versions() {
        let rustc = parse_version(
            "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nrelease: 1.97.0-nightly\nLLVM version: 22.1.4\n",
        )
        .unwrap();
        assert_eq!(rustc.release, (1, 97));
        assert_eq!(rustc.llvm_major(), "22");
        assert!(parse_version("rustc: command not found\n").is_none());
    }

    /// Make sure that Debian's old rustc is passed over and the browsers' one taken.
    #[test]
    fn debian_versions() {
        assert!(is_recent("1.96.0+dfsg1-1~deb12u2"));
        assert!(is_recent("2.0-1"));
        assert!(!is_recent("1.63.0+dfsg1-2"));
        assert!(!is_recent("unstable"));
    }
}

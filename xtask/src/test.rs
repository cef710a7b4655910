//! `cargo xtask test`: sets up what the tests need, and runs them all on a freshly built eBPF object.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;

use crate::{debian, ebpf, exec, vm, workspace};

/// Set up what the tests need, then run them all
///
/// On this kernel, then in machines with others. As root on Debian, missing packages are installed (they are named
/// first). Elsewhere the tests that lack something say so and are skipped.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The long tests too: real image builds, every forced fallback, every kernel and machine
    #[arg(long)]
    full: bool,
    /// No machines: this kernel only
    #[arg(long)]
    no_vm: bool,
    /// Install nothing
    #[arg(long)]
    no_install: bool,
    /// Only tests whose name contains this, and no machines
    filter: Option<String>,
}

/// Packages that the tests use, and what for.
const PACKAGES: [(&str, &[&str]); 13] = [
    (
        "compiling the tests and the workloads they profile",
        &["gcc", "libc6-dev", "make"],
    ),
    (
        "programs of known calls in other languages",
        &["g++", "musl-tools", "golang-go"],
    ),
    ("an unwinder to compare with", &["gdb"]),
    (
        "podman and buildah builds and runs",
        &["podman", "buildah", "conmon", "runc", "crun", "netavark", "uidmap"],
    ),
    (
        "docker builds and runs",
        &["docker.io", "docker-compose", "containerd", "curl"],
    ),
    ("registries to pull from", &["docker-registry", "skopeo"]),
    ("container images made on the spot", &["busybox-static", "mmdebstrap"]),
    (
        "what reads exports: Python's packages, promtool",
        &["python3-venv", "prometheus"],
    ),
    ("speedscope, which reads one of them", &["npm"]),
    ("checkouts to take a commit of", &["git"]),
    (
        "mounts, namespaces and addresses",
        &["util-linux", "mount", "iproute2", "ca-certificates"],
    ),
    ("file systems for layers", &["xfsprogs", "btrfs-progs"]),
    ("pages in a browser", &["chromium"]),
];

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    packages(!arguments.no_install);
    tracefs();
    let objects = fresh_objects(!arguments.no_install)?;
    let cargo = || cargo_test(arguments.full, objects.as_deref());
    let failed = failures(cargo()?.args(&arguments.filter))?;
    if let Err(failed) = failed {
        // Real engines on a shared host: what fails beside others must pass alone, in CI; a person decides what to do.
        if !exec::is_ci() || failed.is_empty() || failed.len() > AGAIN {
            bail!("tests failed");
        }
        exec::announce(format!("once more: {}", failed.join(", ")));
        exec::run(cargo()?.arg("--exact").args(&failed))?;
    }
    if arguments.no_vm || arguments.filter.is_some() {
        return Ok(());
    }
    match vm::unfit() {
        None => {
            let machines = || vm::test::all(arguments.full, objects.as_deref());
            machines().or_else(|error| {
                if !exec::is_ci() {
                    return Err(error);
                }
                exec::announce(format!("{error:#}; once more"));
                machines()
            })
        }
        Some(why) if exec::is_ci() => bail!("no machines with other kernels: {why}"),
        Some(why) => {
            exec::announce(format!("no machines with other kernels: {why}"));
            Ok(())
        }
    }
}

/// More than this fail for a reason of their own, and are not run again.
const AGAIN: usize = 8;

fn cargo_test(full: bool, objects: Option<&Path>) -> anyhow::Result<Command> {
    let mut cargo = exec::cargo();
    cargo
        .current_dir(workspace()?)
        .args(["test", "--workspace", "--no-fail-fast", "--locked"]);
    if let Some(objects) = objects {
        cargo.env("PHASEGRAPH_EBPF_DIR", objects);
    }
    cargo.arg("--");
    if full {
        // The full tier's tests are marked `#[ignore]`.
        cargo.env("PHASEGRAPH_FULL", "1").arg("--include-ignored");
    }
    Ok(cargo)
}

/// Runs the tests and shows what they print. `Err`: the names of those that failed, none if it was something else.
fn failures(cargo: &mut Command) -> anyhow::Result<Result<(), Vec<String>>> {
    let mut failed = Vec::new();
    let status = exec::lines(cargo, |line| failed.extend(failed_test(line).map(str::to_owned)))?;
    Ok(if status.success() { Ok(()) } else { Err(failed) })
}

/// The name in the harness's line about a test that failed.
fn failed_test(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

/// Rebuilds the objects and compares them with the checked-in ones. `None` when there is no toolchain, which only a
/// developer's machine may lack: CI would test an object that nobody rebuilt.
fn fresh_objects(install: bool) -> anyhow::Result<Option<PathBuf>> {
    let built = match ebpf::build(None, install && exec::is_root() && debian::is_debian()) {
        Ok(built) => built,
        Err(error) if !exec::is_ci() => {
            exec::announce(format!("testing the checked-in eBPF objects: {error:#}"));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    ebpf::check(&built)?;
    Ok(Some(built))
}

/// Installs what is missing, or says what will be skipped for it. A package that can't be had is no reason to stop:
/// its tests say what they lack.
fn packages(install: bool) {
    if !debian::is_debian() {
        exec::announce("no Debian: nothing is installed; tests that lack a program are skipped and say so");
        return;
    }
    let lacking: Vec<_> = PACKAGES
        .iter()
        .chain(&vm::PACKAGES)
        .map(|(purpose, packages)| (*purpose, debian::missing(packages)))
        .filter(|(_, missing)| !missing.is_empty())
        .collect();
    if lacking.is_empty() {
        return;
    }
    let install = install && exec::is_root();
    for (purpose, missing) in &lacking {
        let verb = if install { "installing" } else { "not installed" };
        exec::announce(format!("{verb}, for {purpose}: {}", missing.join(" ")));
    }
    if !install {
        exec::announce(
            "tests that need them are skipped and say so; as root, without --no-install, they are installed",
        );
        return;
    }
    if let Err(error) = debian::update() {
        exec::announce(format!("going on with the package lists that there are: {error:#}"));
    }
    for (purpose, missing) in &lacking {
        let known: Vec<_> = missing
            .iter()
            .copied()
            .filter(|name| debian::candidate(name).is_some())
            .collect();
        if known.len() < missing.len() {
            exec::announce(format!("of {missing:?} this Debian has only {known:?}"));
        }
        if known.is_empty() {
            continue;
        }
        // What one purpose lacks takes nothing from the others.
        if let Err(error) = debian::install(&known) {
            exec::announce(format!("going on without what is for {purpose}: {error:#}"));
        }
    }
}

/// Mounts tracefs where root finds it missing: minimal hosts leave that to systemd.
fn tracefs() {
    const TRACEFS: &str = "/sys/kernel/tracing";
    if Path::new(TRACEFS).join("events").exists() || !exec::is_root() {
        return;
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tracefs", "tracefs", TRACEFS]);
    if let Err(error) = exec::run(&mut mount) {
        exec::announce(format!("going on without tracefs: {error:#}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a line about a failure gives its name, and no other line does.
    #[test]
    fn names_of_failures() {
        assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
        for other in ["test c ... ok", "test result: FAILED. 1 passed", "    a::b"] {
            assert_eq!(failed_test(other), None, "{other}");
        }
    }
}

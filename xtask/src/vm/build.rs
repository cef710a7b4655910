//! The programs that go into a machine: built as for the host's own tests, by the same cargo.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::exchange::{self, Exchange};
use crate::{exec, workspace};

/// Programs as cargo named them.
#[derive(Debug)]
pub(crate) struct Programs {
    /// phasegraph itself.
    pub(crate) phasegraph: PathBuf,
    /// Test programs by the name of their target.
    pub(crate) tests: Vec<(String, PathBuf)>,
}

/// Part of cargo's message about something it built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    profile: Option<Profile>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Profile {
    test: bool,
}

/// Builds phasegraph, and its test programs if `tests`, around the eBPF objects in `objects` instead of the checked-in
/// ones if it is given.
///
/// # Errors
///
/// When cargo fails.
pub(crate) fn programs(tests: bool, objects: Option<&Path>) -> anyhow::Result<Programs> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.current_dir(workspace()?);
    if let Some(objects) = objects {
        command.env("PHASEGRAPH_EBPF_DIR", objects);
    }
    if tests {
        command.args(["test", "--no-run"]);
    } else {
        command.arg("build");
    }
    command
        .args([
            "--package",
            "phasegraph",
            "--locked",
            "--message-format",
            "json-render-diagnostics",
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = command.output().context("can't run cargo")?;
    if !output.status.success() {
        bail!("cargo: {}", output.status);
    }
    let mut phasegraph = None;
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(message) = serde_json::from_str::<Message>(line) else {
            continue;
        };
        let (Some(target), Some(profile), Some(program)) = (message.target, message.profile, message.executable) else {
            continue;
        };
        if message.reason != "compiler-artifact" {
            continue;
        }
        let is = |kind: &str| target.kind.iter().any(|known| known == kind);
        if is("bin") && !profile.test && target.name == "phasegraph" {
            phasegraph = Some(program);
        } else if profile.test && is("test") {
            found.push((target.name, program));
        } else if profile.test && is("lib") {
            found.push(("lib".to_owned(), program));
        }
    }
    Ok(Programs {
        phasegraph: phasegraph.context("cargo built no phasegraph")?,
        tests: found,
    })
}

/// Puts programs where the machine will have them at the host's paths, beside the sources that tests read.
///
/// # Errors
///
/// When a program can't be copied.
pub(crate) fn install(programs: &Programs, exchange: &Exchange) -> anyhow::Result<()> {
    let workspace = workspace()?;
    let inside = exchange.folder(&workspace)?;
    let all = programs
        .tests
        .iter()
        .map(|(_, path)| path)
        .chain([&programs.phasegraph]);
    for program in all {
        let place = program
            .strip_prefix(&workspace)
            .with_context(|| format!("{} lies outside of {}", program.display(), workspace.display()))?;
        let copy = inside.join(place);
        fs::create_dir_all(copy.parent().context("a program lies in no folder")?).context("can't make a folder")?;
        exchange::strip(program, &copy)?;
    }
    // `CARGO_TARGET_TMPDIR` of the tests.
    fs::create_dir_all(inside.join("target/tmp")).context("can't make target/tmp")?;
    copy_sources(&workspace, &inside)?;
    exchange.program("phasegraph", &programs.phasegraph)
}

/// What tests read of the checkout, golden recordings for example.
fn copy_sources(workspace: &Path, inside: &Path) -> anyhow::Result<()> {
    for folder in ["profiler", "tests", "docs"] {
        exec::output(
            Command::new("cp")
                .args(["--archive", "--no-target-directory"])
                .arg(workspace.join(folder))
                .arg(inside.join(folder)),
        )?;
    }
    Ok(())
}

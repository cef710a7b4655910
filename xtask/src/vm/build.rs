//! The programs that go into a machine: built as for the host's own tests, by the same cargo.

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

/// Builds phasegraph, and the test programs named (`lib` is the library's own), around the eBPF objects in `objects`
/// instead of the checked-in ones if it is given.
///
/// # Errors
///
/// When cargo fails.
pub(crate) fn programs(tests: &[&str], objects: Option<&Path>) -> anyhow::Result<Programs> {
    let mut words = vec!["build".to_owned()];
    let mut artifacts = cargo(&words, objects)?;
    if !tests.is_empty() {
        words = vec!["test".to_owned(), "--no-run".to_owned()];
        for name in tests {
            match *name {
                "lib" => words.push("--lib".to_owned()),
                name => words.extend(["--test".to_owned(), name.to_owned()]),
            }
        }
        artifacts.extend(cargo(&words, objects)?);
    }
    let mut phasegraph = None;
    let mut found = Vec::new();
    for (target, is_test, program) in artifacts {
        let is = |kind: &str| target.kind.iter().any(|known| known == kind);
        if is("bin") && !is_test && target.name == "phasegraph" {
            phasegraph = Some(program);
        } else if is_test && is("test") {
            found.push((target.name, program));
        } else if is_test && is("lib") && target.name == "phasegraph" {
            found.push(("lib".to_owned(), program));
        }
    }
    Ok(Programs {
        phasegraph: phasegraph.context("cargo built no phasegraph")?,
        tests: found,
    })
}

/// Has cargo build something; the programs, and whether they are tests.
fn cargo(words: &[String], objects: Option<&Path>) -> anyhow::Result<Vec<(Target, bool, PathBuf)>> {
    let mut command = exec::cargo();
    if let Some(objects) = objects {
        command.env("PHASEGRAPH_EBPF_DIR", objects);
    }
    let output = command
        .args(words)
        .args([
            // As for the host's own tests: a package alone has other features of what the workspace shares, and all would be
            // compiled again.
            "--workspace",
            "--locked",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(workspace()?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("can't run cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", words.join(" "), output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok());
    let artifacts = messages.filter(|message| message.reason == "compiler-artifact");
    Ok(artifacts
        .filter_map(|message| Some((message.target?, message.profile?.test, message.executable?)))
        .collect())
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

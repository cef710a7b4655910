//! `cargo xtask scenario`: a reference workload with real tools, measured by this checkout's phasegraph, and its page in
//! docs/perf made of what came out.
//!
//! A scenario is a folder of `tests/scenarios`: `prepare.sh`, where there is one, fetches what no Debian package has; `run.sh`
//! works in a mount and network namespace of its own and leaves files in `$WORK/page`; in `page.md` `{{NAME}}` stands for the
//! file of that name.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context as _, bail, ensure};

use crate::{debian, exec, workspace};

/// Run a reference workload and write its page in docs/perf
///
/// Needs root and Debian's packages, which are installed when they are missing.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A folder of tests/scenarios
    name: String,
    /// At full size: more runs
    #[arg(long)]
    full: bool,
    /// Install nothing
    #[arg(long)]
    no_install: bool,
    /// Leave docs/perf as it is; print the page
    #[arg(long)]
    dry_run: bool,
}

/// What each scenario needs, by name.
const SCENARIOS: [(&str, &[&str]); 5] = [
    (
        "criterion",
        &[
            "docker.io",
            "containerd",
            "runc",
            "mmdebstrap",
            "gcc",
            "libc6-dev",
            "git",
            "jq",
            "util-linux",
            "mount",
            "iproute2",
        ],
    ),
    (
        "deployment",
        &[
            "podman",
            "conmon",
            "runc",
            "docker-registry",
            "mmdebstrap",
            "debian-archive-keyring",
            "busybox-static",
            "util-linux",
            "mount",
            "iproute2",
        ],
    ),
    (
        "occystrap",
        &[
            "docker-registry",
            "skopeo",
            "python3-venv",
            "util-linux",
            "mount",
            "iproute2",
        ],
    ),
    (
        "packages",
        &[
            "podman",
            "conmon",
            "runc",
            "docker-registry",
            "mmdebstrap",
            "apt-utils",
            "util-linux",
            "mount",
            "iproute2",
        ],
    ),
    (
        "pipeline",
        &[
            "podman",
            "conmon",
            "runc",
            "busybox-static",
            "util-linux",
            "mount",
            "iproute2",
        ],
    ),
];

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let known = SCENARIOS.iter().find(|(name, _)| *name == arguments.name);
    let (name, packages) = known.with_context(|| {
        let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
        format!("no scenario {:?}; there is: {}", arguments.name, names.join(", "))
    })?;
    ensure!(exec::is_root(), "a scenario needs root: it profiles real engines");
    let missing = if debian::is_debian() {
        debian::missing(packages)
    } else {
        Vec::new()
    };
    if !missing.is_empty() {
        ensure!(!arguments.no_install, "packages are missing: {}", missing.join(" "));
        debian::update()?;
        debian::install(&missing)?;
    }
    let workspace = workspace()?;
    exec::run(
        exec::cargo()
            .current_dir(&workspace)
            .args(["build", "--release", "--locked", "-p", "phasegraph"]),
    )?;
    let target = workspace.join("target");
    let work = tempfile::Builder::new().prefix("phasegraph-scenario-").tempdir()?;
    std::fs::create_dir(work.path().join("page"))?;
    let scenario = workspace.join("tests/scenarios").join(name);
    attend();
    let script = |command: &mut Command, name: &str| {
        command
            .arg(scenario.join(name))
            .env("WORK", work.path())
            .env("SCENARIO", &scenario)
            .env("PHASEGRAPH", target.join("release/phasegraph"))
            .env("FULL", if arguments.full { "yes" } else { "no" })
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        attended(command)
    };
    if scenario.join("prepare.sh").exists() {
        script(&mut Command::new("bash"), "prepare.sh")?;
    }
    let mut run = Command::new("unshare");
    run.args(["--mount", "--net", "--propagation", "private", "bash"]);
    script(&mut run, "run.sh")?;
    let template = std::fs::read_to_string(scenario.join("page.md")).context("can't read page.md")?;
    let page = fill(&template, &work.path().join("page"))?;
    if arguments.dry_run {
        print!("{page}");
        return Ok(());
    }
    let path = workspace.join("docs/perf").join(format!("{name}.md"));
    std::fs::write(&path, page).with_context(|| format!("can't write {}", path.display()))?;
    exec::announce(format!("written: {}", path.display()));
    Ok(())
}

/// The script that runs; 0 for none.
static SCRIPT: AtomicI32 = AtomicI32::new(0);

/// Makes sure that this process outlives its script, and removes the folder then, when it is told to end. A terminal tells the
/// script, too; what is told to this process alone is handed on.
fn attend() {
    extern "C" fn stay(signal: libc::c_int) {
        let script = SCRIPT.load(Ordering::Relaxed);
        if signal == libc::SIGTERM && script > 0 {
            // SAFETY: `kill` may be called in a handler; a child's number is its own until it has been waited for.
            unsafe { libc::kill(script, signal) };
        }
    }
    let stay: extern "C" fn(libc::c_int) = stay;
    for signal in [libc::SIGINT, libc::SIGHUP, libc::SIGTERM] {
        // SAFETY: a handler that does what a handler may. A script that is started gets the default ones.
        unsafe { libc::signal(signal, stay as libc::sighandler_t) };
    }
}

/// Runs a script, which must succeed.
fn attended(command: &mut Command) -> anyhow::Result<()> {
    let name = command
        .get_args()
        .last()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    exec::announce(&name);
    let mut child = command.spawn().with_context(|| format!("can't run {name}"))?;
    SCRIPT.store(child.id() as i32, Ordering::Relaxed);
    let status = child.wait();
    SCRIPT.store(0, Ordering::Relaxed);
    let status = status?;
    ensure!(status.success(), "{name}: {status}");
    Ok(())
}

/// Puts files in the places of their names.
fn fill(template: &str, folder: &Path) -> anyhow::Result<String> {
    let mut page = String::new();
    let mut rest = template;
    while let Some(from) = rest.find("{{") {
        let Some(length) = rest[from..].find("}}") else {
            bail!("a place is not closed: {:?}", &rest[from..])
        };
        let name = rest[from + 2..from + length].trim();
        ensure!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{name:?} is no file's name"
        );
        let text = std::fs::read_to_string(folder.join(name)).with_context(|| format!("run.sh left no {name}"))?;
        page.push_str(&rest[..from]);
        page.push_str(text.trim_end());
        rest = &rest[from + length + 2..];
    }
    page.push_str(rest);
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that files stand in their places, and one that is not there is an error that names it.
    #[test]
    fn places() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "one\n").unwrap();
        assert_eq!(fill("x {{a}} y {{ a }}.", folder.path()).unwrap(), "x one y one.");
        assert!(fill("{{b}}", folder.path()).unwrap_err().to_string().contains("no b"));
        assert!(fill("{{../a}}", folder.path()).is_err());
        assert!(fill("{{a", folder.path()).is_err());
    }

    /// Make sure that every scenario has its files, and every folder is a scenario.
    #[test]
    fn folders() {
        let folder = workspace().unwrap().join("tests/scenarios");
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, SCENARIOS.map(|(name, _)| name));
        for name in names {
            assert!(folder.join(&name).join("run.sh").is_file() && folder.join(&name).join("page.md").is_file());
        }
    }
}

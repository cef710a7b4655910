//! Debian packages: which are there, which can be had, and installing them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::exec;

/// Whether this is Debian or a descendant with its package tools.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists() && Path::new("/usr/bin/apt-get").exists()
}

/// Those of `packages` that are not installed.
pub(crate) fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", "--", package]);
    exec::first_line(&mut query).is_some_and(|status| status == "installed") || is_provided(package)
}

/// Whether an installed package says that it stands for this one: builds of Node.js that are not Debian's bring npm with
/// them, and Debian's can't be installed beside them.
fn is_provided(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status} ${Provides}\n"]);
    let installed = exec::output(&mut query).unwrap_or_default();
    let mut provided = installed.lines().filter_map(|line| line.strip_prefix("installed "));
    provided.any(|names| {
        let mut names = names.split(',').filter_map(|name| name.split_whitespace().next());
        names.any(|name| name == package)
    })
}

/// Version that apt would install, `None` when it knows none.
pub(crate) fn candidate(package: &str) -> Option<String> {
    let text = exec::output(
        Command::new("apt-cache")
            .args(["policy", "--", package])
            .env("LC_ALL", "C"),
    )
    .ok()?;
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate:"))?
        .trim();
    (version != "(none)").then(|| version.to_owned())
}

/// Fetches the package lists.
///
/// # Errors
///
/// When apt-get fails, twice.
pub(crate) fn update() -> anyhow::Result<()> {
    retried(&["update"])
}

/// Installs `packages`, without asking and without what they only recommend.
///
/// # Errors
///
/// When apt-get fails, twice: a mirror's hiccup should not fail a run.
pub(crate) fn install(packages: &[&str]) -> anyhow::Result<()> {
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    retried(&arguments)
}

fn retried(arguments: &[&str]) -> anyhow::Result<()> {
    let attempt = || {
        let mut apt = Command::new("apt-get");
        apt.args(["--quiet", "--option=Dpkg::Use-Pty=0"])
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        exec::run(&mut apt)
    };
    attempt().or_else(|error| {
        exec::announce(format!("{error:#}; once more"));
        attempt()
    })
}

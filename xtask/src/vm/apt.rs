//! A private apt configuration for one Debian suite: nothing of the host's package lists is read or changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::exec;

pub(crate) const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";
/// Debian's keys, from its package `debian-archive-keyring`.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite's package lists.
pub(crate) struct Apt {
    folder: PathBuf,
    options: Vec<String>,
}

impl Apt {
    /// Fetches the lists of `suite` into `folder`. The suite for unstable software has no security archive.
    ///
    /// # Errors
    ///
    /// When the folder can't be written or the lists can't be fetched.
    pub(crate) fn new(suite: &str, folder: &Path) -> anyhow::Result<Apt> {
        let lists = folder.join("lists");
        let cache = folder.join("cache");
        for path in [lists.join("partial"), cache.join("archives/partial")] {
            fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        let sources = folder.join("sources.list");
        let mut text = format!("deb [signed-by={KEYRING}] {MIRROR} {suite} main\n");
        if suite != "sid" {
            text += &format!("deb [signed-by={KEYRING}] {SECURITY} {suite}-security main\n");
        }
        fs::write(&sources, text).with_context(|| sources.display().to_string())?;
        let option = |name: &str, value: &dyn std::fmt::Display| format!("--option={name}={value}");
        let options = vec![
            option("Dir::Etc::sourcelist", &sources.display()),
            option("Dir::Etc::sourceparts", &"/dev/null"),
            option("Dir::Etc::preferencesparts", &"/dev/null"),
            option("Dir::State::Lists", &lists.display()),
            option("Dir::Cache", &cache.display()),
            // Nothing counts as installed, and nothing of the host is looked at.
            option("Dir::State::status", &"/dev/null"),
            option("APT::Architecture", &"amd64"),
            option("Acquire::Languages", &"none"),
            option("Acquire::Retries", &"3"),
            // apt's own user can't write to a folder that belongs to a build tree.
            option("APT::Sandbox::User", &"root"),
            option("Dpkg::Use-Pty", &"0"),
        ];
        let apt = Apt {
            folder: folder.to_owned(),
            options,
        };
        exec::run(apt.command("apt-get").args(["--quiet=2", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(&self.options)
            .env("LC_ALL", "C")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir(&self.folder);
        command
    }

    /// Names of the packages that `package` depends on.
    ///
    /// # Errors
    ///
    /// When the suite has no such package.
    pub(crate) fn depends(&self, package: &str) -> anyhow::Result<Vec<String>> {
        let text = exec::output(self.command("apt-cache").args(["depends", "--", package]))?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        Ok(names.map(|name| name.trim().to_owned()).collect())
    }

    /// Downloads `packages` and unpacks them, without running anything of theirs, into `tree`.
    ///
    /// # Errors
    ///
    /// When a download fails or a package can't be unpacked.
    pub(crate) fn unpack(&self, packages: &[String], tree: &Path) -> anyhow::Result<()> {
        let folder = tempfile::tempdir_in(&self.folder).context("no folder for the packages")?;
        let mut download = self.command("apt-get");
        download
            .args(["--quiet=2", "download"])
            .args(packages)
            .current_dir(folder.path());
        exec::run(&mut download)?;
        for entry in fs::read_dir(folder.path()).context("can't list the packages")? {
            let package = entry.context("can't list the packages")?.path();
            exec::run(Command::new("dpkg").arg("--extract").arg(&package).arg(tree))?;
        }
        Ok(())
    }
}

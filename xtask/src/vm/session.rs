//! One machine's life: its disks made, its work done, its results taken off.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::build::{self, Programs};
use super::cache::Cache;
use super::exchange::{self, Cgroups, Exchange, Item, Outcome};
use super::kernel::Kernel;
use super::machine::{self, Disks, Shape};
use super::{initramfs, root};
use crate::exec;

/// A machine that is to be.
pub(crate) struct Session<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) kernel: &'a Kernel,
    pub(crate) shape: Shape,
    pub(crate) cgroups: Cgroups,
    pub(crate) programs: &'a Programs,
}

/// Its disks, removed with this.
struct Made {
    _folder: tempfile::TempDir,
    root: PathBuf,
    initramfs: PathBuf,
    exchange: PathBuf,
}

impl Made {
    fn disks(&self) -> Disks<'_> {
        Disks {
            initramfs: &self.initramfs,
            root: &self.root,
            exchange: &self.exchange,
        }
    }
}

/// What a machine left.
pub(crate) struct Left {
    /// In the order of the items.
    pub(crate) outcomes: Vec<Outcome>,
    /// How the machine ended; one that hung may have done some of its work.
    pub(crate) ended: anyhow::Result<()>,
}

impl Session<'_> {
    fn make(&self, items: &[Item], interactive: bool) -> anyhow::Result<Made> {
        let root = root::ready(self.cache)?;
        let folder = self.cache.scratch()?;
        let mut exchange = Exchange::new(self.cache.scratch()?, self.cgroups, interactive)?;
        build::install(self.programs, &exchange)?;
        for item in items {
            exchange.work(item)?;
        }
        let made = Made {
            root,
            initramfs: folder.path().join("initramfs"),
            exchange: folder.path().join("exchange.ext4"),
            _folder: folder,
        };
        initramfs::make(&made.initramfs, &self.kernel.first_modules)?;
        exchange.disk(&made.exchange)?;
        Ok(made)
    }

    /// Has a machine do `items`; its console, and what it leaves, goes to `folder`, which is emptied first.
    ///
    /// # Errors
    ///
    /// When the machine can't be made or its results can't be read.
    pub(crate) fn run(&self, items: &[Item], deadline: Duration, folder: &Path) -> anyhow::Result<Left> {
        let made = self.make(items, false)?;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        exec::announce(format!("booting {}, {} CPUs", self.kernel.release, self.shape.cpus));
        let console = folder.join("console");
        let ended = machine::run(self.kernel, &self.shape, made.disks(), &console, deadline);
        Ok(Left {
            outcomes: exchange::results(&made.exchange, items, folder)?,
            ended,
        })
    }

    /// Gives the user a machine's shell.
    ///
    /// # Errors
    ///
    /// When the machine can't be made or QEMU fails.
    pub(crate) fn shell(&self) -> anyhow::Result<()> {
        let item = Item {
            name: "shell".to_owned(),
            script: "exec sh -i".to_owned(),
        };
        let made = self.make(&[item], true)?;
        machine::interactive(self.kernel, &self.shape, made.disks())
    }
}

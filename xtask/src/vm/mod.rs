//! `cargo xtask vm`: phasegraph on other kernels, in machines that QEMU emulates.
//!
//! A machine boots a Debian kernel with a small initramfs from a root disk with the container runtimes, does its work,
//! and is switched off; what it leaves comes back on a disk. Emulated CPUs are several times slower than real ones, so
//! their times mean nothing.

mod apt;
mod build;
mod cache;
mod disk;
mod exchange;
mod initramfs;
mod kernel;
mod machine;
mod root;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Subcommand;

use crate::{debian, exec};
use cache::Cache;
use exchange::{Cgroups, Exchange, Item};
use machine::{Disks, Shape};

/// Run phasegraph on other kernels, in emulated machines
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch kernels and make the root disk, and do nothing with them
    Fetch {
        /// 5.10, 6.1, 6.12, 7.2, a Debian suite, or all
        #[arg(long, default_value = "all")]
        kernel: String,
    },
    /// Run one command in a machine
    ///
    /// phasegraph is on its PATH. What the command puts into /exchange/out comes back.
    Run {
        /// 5.10, 6.1, 6.12, 7.2, a Debian suite, or all
        #[arg(long)]
        kernel: String,
        #[command(flatten)]
        options: Options,
        /// Where what comes back goes
        #[arg(long, short, value_name = "FOLDER")]
        output: Option<PathBuf>,
        /// The test programs too, at the paths that they have here
        #[arg(long)]
        tests: bool,
        /// Command, run by the machine's root; one word is a line for its shell
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
    /// Open a shell in a machine; leave it with `exit`, end it with Ctrl-A X
    Shell {
        /// 5.10, 6.1, 6.12, 7.2, or a Debian suite
        kernel: String,
        #[command(flatten)]
        options: Options,
    },
}

/// What machines are like.
#[derive(clap::Args)]
struct Options {
    /// CPUs
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory, MiB
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    memory: u32,
    /// How cgroups are mounted
    #[arg(long, value_enum, default_value = "v2")]
    cgroup: Cgroups,
    /// More of the kernel's command line, `lockdown=confidentiality` for example
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// End the machine after this many seconds
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    deadline: u64,
}

impl Options {
    fn shape(&self) -> Shape {
        Shape {
            cpus: self.cpus,
            memory_mib: self.memory,
            append: self.append.clone(),
        }
    }
}

/// What the host needs, and what for.
const PACKAGES: [(&str, &[&str]); 3] = [
    ("machines", &["qemu-system-x86"]),
    (
        "disks",
        &["e2fsprogs", "mmdebstrap", "busybox-static", "debian-archive-keyring"],
    ),
    ("kernels and programs", &["kmod", "xz-utils", "binutils"]),
];

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    host()?;
    let cache = Cache::new()?;
    match &arguments.command {
        Command::Fetch { kernel } => {
            for name in kernel::names(kernel)? {
                let kernel = kernel::ready(&cache, name)?;
                exec::announce(format!("{name}: {} of Debian {}", kernel.release, kernel.suite));
            }
            exec::announce(format!("root disk: {}", root::ready(&cache)?.display()));
            Ok(())
        }
        Command::Run {
            kernel,
            options,
            output,
            tests,
            words,
        } => {
            let script = match words.as_slice() {
                [line] => line.clone(),
                words => words
                    .iter()
                    .map(|word| exchange::quoted(word))
                    .collect::<Vec<_>>()
                    .join(" "),
            };
            let item = Item {
                name: "run".to_owned(),
                script,
            };
            let programs = build::programs(*tests)?;
            let mut failed = Vec::new();
            for name in kernel::names(kernel)? {
                let folder = match output {
                    Some(folder) => folder.join(name),
                    None => cache.folder("runs")?.join(name),
                };
                let outcome = once(&cache, name, options, &programs, &item, &folder);
                match outcome {
                    Ok(0) => {}
                    Ok(status) => failed.push(format!("{name}: exit status {status}")),
                    Err(error) => failed.push(format!("{name}: {error:#}")),
                }
                exec::announce(format!("{name}: what came back is in {}", folder.join("out").display()));
            }
            if failed.is_empty() {
                Ok(())
            } else {
                bail!("{}", failed.join("\n"))
            }
        }
        Command::Shell { kernel, options } => {
            let names = kernel::names(kernel)?;
            let [name] = names.as_slice() else {
                bail!("a shell is on one kernel");
            };
            shell(&cache, name, options)
        }
    }
}

/// One item on one kernel; its exit status.
fn once(
    cache: &Cache,
    name: &str,
    options: &Options,
    programs: &build::Programs,
    item: &Item,
    folder: &std::path::Path,
) -> anyhow::Result<i32> {
    let (kernel, root) = (kernel::ready(cache, name)?, root::ready(cache)?);
    let scratch = cache.scratch()?;
    let mut exchange = Exchange::new(cache.scratch()?, options.cgroup, false)?;
    build::install(programs, &exchange)?;
    exchange.work(item)?;
    let (initramfs, disk) = (scratch.path().join("initramfs"), scratch.path().join("exchange.ext4"));
    initramfs::make(&initramfs, &kernel.first_modules)?;
    exchange.disk(&disk)?;
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let disks = Disks {
        initramfs: &initramfs,
        root: &root,
        exchange: &disk,
    };
    let deadline = Duration::from_secs(options.deadline);
    exec::announce(format!("{name}: booting {}", kernel.release));
    let ended = machine::run(
        &kernel,
        &options.shape(),
        disks,
        &folder.join("console"),
        deadline,
        true,
    );
    let outcomes = exchange::results(&disk, std::slice::from_ref(item), folder)?;
    ended?;
    let outcome = outcomes.first().context("no outcome")?;
    outcome
        .status
        .context("the machine ended before its work did; its console is above")
}

fn shell(cache: &Cache, name: &str, options: &Options) -> anyhow::Result<()> {
    let (kernel, root) = (kernel::ready(cache, name)?, root::ready(cache)?);
    let programs = build::programs(true)?;
    let scratch = cache.scratch()?;
    let mut exchange = Exchange::new(cache.scratch()?, options.cgroup, true)?;
    build::install(&programs, &exchange)?;
    exchange.work(&Item {
        name: "shell".to_owned(),
        script: "exec sh -i".to_owned(),
    })?;
    let (initramfs, disk) = (scratch.path().join("initramfs"), scratch.path().join("exchange.ext4"));
    initramfs::make(&initramfs, &kernel.first_modules)?;
    exchange.disk(&disk)?;
    let disks = Disks {
        initramfs: &initramfs,
        root: &root,
        exchange: &disk,
    };
    machine::interactive(&kernel, &options.shape(), disks)
}

/// Checks that the host can do it, installing what it lacks.
fn host() -> anyhow::Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the machines are x86-64, and so must be the programs that go into them");
    }
    if !exec::is_root() {
        bail!("file systems with their owners and devices are made by root: run it as root");
    }
    if !debian::is_debian() {
        exec::announce("no Debian: apt, mmdebstrap, qemu-system-x86_64, mke2fs, depmod, xz and strip must be there");
        return Ok(());
    }
    let lacking: Vec<_> = PACKAGES.iter().flat_map(|(_, names)| debian::missing(names)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    if !exec::may_install(false, &lacking.join(" "))? {
        bail!("needs Debian's packages {}", lacking.join(" "));
    }
    debian::update()?;
    debian::install(&lacking)
}

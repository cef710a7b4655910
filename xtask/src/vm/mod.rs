//! `cargo xtask vm`: phasegraph on other kernels, in machines that QEMU emulates.
//!
//! A machine boots a Debian kernel with a small initramfs from a root disk with the container runtimes, does its work,
//! and is switched off; what it leaves comes back on a disk. Emulated CPUs are several times slower than real ones, so
//! their times mean nothing.

mod apt;
mod bench;
mod build;
mod cache;
mod disk;
mod exchange;
mod host;
mod initramfs;
mod kernel;
mod log;
mod machine;
mod plan;
mod results;
mod root;
mod session;
mod table;
pub(crate) mod test;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;

use crate::exec;
use build::Programs;
use cache::Cache;
use exchange::{Cgroups, Item};
use kernel::Kernel;
use machine::Shape;
use session::Session;

pub(crate) use host::{PACKAGES, unfit};

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
        /// This test program too, at the path that it has here: `runtimes` for example, `lib` for the library's own
        #[arg(long, value_name = "NAME")]
        test: Vec<String>,
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
    Test(test::Arguments),
    Bench(bench::Arguments),
    /// Make the tables in docs anew, from what the last run of a whole tier gave on each kernel
    Table,
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
    fn session<'a>(&self, cache: &'a Cache, kernel: &'a Kernel, programs: &'a Programs) -> Session<'a> {
        Session {
            cache,
            kernel,
            shape: Shape {
                cpus: self.cpus,
                memory_mib: self.memory,
                append: self.append.clone(),
            },
            cgroups: self.cgroup,
            programs,
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if !matches!(arguments.command, Command::Table) {
        host::ready()?;
    }
    let cache = Cache::new()?;
    match &arguments.command {
        Command::Fetch { kernel } => fetch(&cache, kernel),
        Command::Run {
            kernel,
            options,
            output,
            test,
            words,
        } => run_words(&cache, kernel, options, output.as_deref(), test, words),
        Command::Shell { kernel, options } => shell(&cache, kernel, options),
        Command::Test(arguments) => test::run(&cache, arguments),
        Command::Bench(arguments) => bench::run(&cache, arguments),
        Command::Table => table::write(&test::results_folder()?),
    }
}

fn fetch(cache: &Cache, kernel: &str) -> anyhow::Result<()> {
    for name in kernel::names(kernel)? {
        let kernel = kernel::ready(cache, name)?;
        exec::announce(format!("{name}: {} of Debian {}", kernel.release, kernel.suite));
    }
    exec::announce(format!("root disk: {}", root::ready(cache)?.display()));
    Ok(())
}

/// One command, on each of the kernels.
fn run_words(
    cache: &Cache,
    kernel: &str,
    options: &Options,
    output: Option<&Path>,
    tests: &[String],
    words: &[String],
) -> anyhow::Result<()> {
    let script = match words {
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
    let programs = build::programs(&tests.iter().map(String::as_str).collect::<Vec<_>>(), None)?;
    let mut failed = Vec::new();
    for name in kernel::names(kernel)? {
        let kernel = kernel::ready(cache, name)?;
        let folder = match output {
            Some(folder) => folder.join(name),
            None => cache.folder("runs")?.join(name),
        };
        let session = options.session(cache, &kernel, &programs);
        let deadline = Duration::from_secs(options.deadline);
        let left = session.run(std::slice::from_ref(&item), deadline, &folder)?;
        match (left.ended, left.outcomes.first().and_then(|outcome| outcome.status)) {
            (Ok(()), Some(0)) => {}
            (Ok(()), Some(status)) => failed.push(format!("{name}: exit status {status}")),
            (Ok(()), None) => failed.push(format!("{name}: the machine ended before its work did")),
            (Err(error), _) => failed.push(format!("{name}: {error:#}")),
        }
        exec::announce(format!("{name}: what came back is in {}", folder.join("out").display()));
    }
    if failed.is_empty() {
        Ok(())
    } else {
        bail!("{}", failed.join("\n"))
    }
}

fn shell(cache: &Cache, kernel: &str, options: &Options) -> anyhow::Result<()> {
    let names = kernel::names(kernel)?;
    let [name] = names.as_slice() else {
        bail!("a shell is on one kernel");
    };
    let kernel = kernel::ready(cache, name)?;
    let programs = build::programs(&[], None)?;
    options.session(cache, &kernel, &programs).shell()
}

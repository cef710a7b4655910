//! `cargo xtask`: what building and testing phasegraph needs beyond cargo.

mod bench;
mod debian;
mod ebpf;
mod exec;
#[path = "../../profiler/build/fingerprint.rs"]
mod fingerprint;
mod scenario;
mod test;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Work on phasegraph itself
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Arguments),
    #[command(hide = true)]
    BenchChild(bench::child::Arguments),
    Ebpf(ebpf::Arguments),
    Scenario(scenario::Arguments),
    Test(test::Arguments),
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    if let Some(status) = ebpf::rustc::as_wrapper() {
        return status;
    }
    let result = match Cli::parse().command {
        Command::Bench(arguments) => bench::run(&arguments),
        Command::BenchChild(arguments) => bench::child::run(&arguments),
        Command::Ebpf(arguments) => ebpf::run(&arguments),
        Command::Scenario(arguments) => scenario::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Vm(arguments) => vm::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace's folder.
fn workspace() -> anyhow::Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package.parent().context("xtask lies in no workspace")?;
    Ok(workspace.to_path_buf())
}

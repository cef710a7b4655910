//! `demo`: profile a tiny container that the program makes itself.

use std::path::PathBuf;

use super::Problem;
use crate::demo;

/// Profile a tiny container that phasegraph makes itself
///
/// Needs no container runtime: it makes layers, an overlay mount, namespaces and, where there is one, a cgroup, runs a
/// busy part, a sleeping part, a disk part and a copy-up in it, and shows the phases it finds. The recording and a
/// flamegraph are left in a folder that it names.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
                        sudo phasegraph demo\n  \
                        sudo phasegraph demo -o /var/tmp/first-look")]
pub(crate) struct Args {
    /// Write into this folder; it must be new or empty [default: phasegraph-demo-<UTC time>]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let output = args.output.clone().unwrap_or_else(|| {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        PathBuf::from(format!("phasegraph-demo-{now}"))
    });
    demo::run(&demo::Options { output }).map_err(|error| Problem::new("can't run the demo").because(error))?;
    Ok(0)
}

//! `timed` (hidden, `bench` uses it): starts a command, once or several times at once, without profiling it, and tells how
//! long that took, measured as a recording measures it: from the moment in which the command is let go to its exit. SIGTERM is
//! handed on, and the end that follows is waited for.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::output::Target;
use super::{Problem, capture};
use crate::session::command::Held;

/// Start a command, once or several times at once, and take its time
#[derive(clap::Args)]
#[command(after_help = "Example:\n  phasegraph timed --copies 5 -- podman run --rm alpine true")]
pub(crate) struct Args {
    /// Start it this many times at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    copies: u32,

    /// Write what it took here, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// The command, after --
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// From the start of the first to the end of the last.
    pub(crate) wall_ns: u64,
    /// Of the first that failed; 0 when none did.
    pub(crate) exit_status: i32,
}

pub(super) fn run(args: &Args) -> Result<u8, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::new("can't make an event loop").because(error))?;
    runtime.block_on(timed(args))
}

async fn timed(args: &Args) -> Result<u8, Problem> {
    let deaf = |error: io::Error| Problem::new("can't listen to signals").because(error);
    let mut ended = signal(SignalKind::child()).map_err(deaf)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(deaf)?;
    let failed = |error| capture::failed("can't run the command", error);
    let held = (0..args.copies)
        .map(|_| Held::spawn(&args.command, None))
        .collect::<Result<Vec<_>, _>>();
    let held = held.map_err(failed)?;
    let start = Instant::now();
    let running = held
        .into_iter()
        .map(Held::release)
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    let mut statuses: Vec<Option<i32>> = vec![None; running.len()];
    loop {
        let open = statuses.iter_mut().zip(&running).filter(|(status, _)| status.is_none());
        open.for_each(|(status, running)| *status = running.try_wait());
        if statuses.iter().all(Option::is_some) {
            break;
        }
        tokio::select! {
            _ = ended.recv() => {}
            // Whoever ends this means the command.
            _ = terminate.recv() => {
                let open = statuses.iter().zip(&running).filter(|(status, _)| status.is_none());
                open.for_each(|(_, running)| running.signal(libc::SIGTERM));
            }
        }
    }
    let told = Told {
        wall_ns: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
        exit_status: statuses.into_iter().flatten().find(|status| *status != 0).unwrap_or(0),
    };
    if let Some(report) = &args.report {
        let json = serde_json::to_vec(&told).map_err(|error| Problem::new("can't make JSON of it").because(error))?;
        Target::new(report).write(&json, true)?;
    }
    Ok(u8::try_from(told.exit_status).unwrap_or(u8::MAX))
}

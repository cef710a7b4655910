//! The end of a recording: what was still open is closed, and what it cost and lost is told.

use std::{
    io,
    time::{Duration, Instant},
};

use super::{Error, Options, guard::Guard};
use crate::{
    ingest::Ingest,
    kernel::host::{self, HostCounts},
    load::Loaded,
    recording::record::{Clock, End, HostCpu, SelfCost},
};

/// What is known at the end.
pub(super) struct Ending {
    pub(super) cost: SelfCost,
    /// The command's, if there was one.
    pub(super) status: Option<i32>,
    /// When the recording began, and the host's counts then.
    pub(super) begin: u64,
    pub(super) counts: Option<HostCounts>,
    pub(super) guard: Guard,
}

/// What the host's CPUs did between two moments.
fn host_cpu(from: (u64, HostCounts), to: (u64, HostCounts)) -> HostCpu {
    let ((from, before), (to, after)) = (from, to);
    HostCpu {
        from,
        to,
        user_ns: after.user_ns.saturating_sub(before.user_ns),
        system_ns: after.system_ns.saturating_sub(before.system_ns),
        idle_ns: after.idle_ns.saturating_sub(before.idle_ns),
        iowait_ns: after.iowait_ns.saturating_sub(before.iowait_ns),
        interrupt_ns: after.interrupt_ns.saturating_sub(before.interrupt_ns),
        steal_ns: after.steal_ns.saturating_sub(before.steal_ns),
    }
}

/// Closes the recording: detaches, closes every thread's last interval, names frames, tells losses and costs.
pub(super) fn finish(loaded: &mut Loaded, mut ingest: Ingest, ending: Ending, options: &Options) -> Result<(), Error> {
    let Ending {
        mut cost,
        status,
        begin,
        counts,
        guard,
    } = ending;
    let end = host::monotonic_ns();
    let counts = counts.zip(host::counts().ok());
    cost.programs = loaded
        .costs()
        .into_iter()
        .map(|program| (program.name, program.run_ns, program.runs, program.recursion_misses))
        .collect();
    loaded.detach();
    // Whatever the cap had given up, nothing runs any more that the last look at all threads could disturb.
    loaded.set_shed(0)?;
    loaded.flush(end)?;
    ingest.drain()?;
    let losses = loaded.counters()?;
    if let Ok((user_ns, system_ns, peak_rss_bytes)) = host::own_cost() {
        cost.user_ns = user_ns.saturating_sub(cost.user_ns);
        cost.system_ns = system_ns.saturating_sub(cost.system_ns);
        cost.peak_rss_bytes = peak_rss_bytes;
    }
    let symbolizing = Instant::now();
    let progress = Progress::new(options.quiet, "naming frames");
    ingest.symbolize()?;
    drop(progress);
    cost.symbolize_ns = symbolizing.elapsed().as_nanos() as u64;
    cost.ts = end;
    let parsing = ingest.close_parser();
    ingest.write_exchanges(&loaded.open_exchanges()?)?;
    ingest.write_losses(losses, guard.losses())?;
    ingest.write_versions()?;
    // All but the few records that follow.
    ingest.flush()?;
    cost.recording_bytes = ingest.bytes_written();
    ingest.write(cost)?;
    ingest.write(parsing)?;
    if let Some((before, after)) = counts {
        ingest.write(host_cpu((begin, before), (end, after)))?;
    }
    let pair: Clock = host::clock_pair();
    ingest.write(pair)?;
    ingest.write(End {
        mono: end,
        exit_code: status,
    })?;
    ingest.finish()?;
    Ok(())
}

/// A line that says what is going on, on a terminal only, gone when it is over.
struct Progress(Option<indicatif::ProgressBar>);

impl Progress {
    fn new(quiet: bool, text: &'static str) -> Progress {
        use std::io::IsTerminal as _;
        if quiet || !io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = indicatif::ProgressBar::new_spinner().with_message(text);
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(Some(bar))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

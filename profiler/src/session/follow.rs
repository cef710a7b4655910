//! Draining while the command runs, and its signals.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{command::Running, guard::Guard};
use crate::{
    ingest::{Ingest, IngestError},
    load::Loaded,
};

/// How often the rings are drained.
const DRAIN_EVERY: Duration = Duration::from_millis(50);
/// How often what was drained is written down: what a SIGKILL can cost at most.
const FLUSH_EVERY: Duration = Duration::from_millis(500);
/// How long the recording goes on after the command's end for what it left running (a container's cleanup goes on
/// behind its client's back), unless all of that has ended before.
const LINGER: Duration = Duration::from_millis(500);
/// How often is looked, meanwhile, whether it has.
const LINGER_STEP: Duration = Duration::from_millis(10);

/// The signals that a person or a supervisor sends.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
    child: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            child: signal(SignalKind::child())?,
        })
    }
}

/// What is drained, and what looks after it.
pub(super) struct Following<'a> {
    pub(super) loaded: &'a mut Loaded,
    pub(super) ingest: &'a mut Ingest,
    pub(super) guard: &'a mut Guard,
    flushed: Instant,
}

impl<'a> Following<'a> {
    pub(super) fn new(loaded: &'a mut Loaded, ingest: &'a mut Ingest, guard: &'a mut Guard) -> Following<'a> {
        Following {
            loaded,
            ingest,
            guard,
            flushed: Instant::now(),
        }
    }

    fn step(&mut self) -> Result<(), IngestError> {
        self.ingest.drain()?;
        self.guard.step(self.loaded, self.ingest)?;
        if self.flushed.elapsed() >= FLUSH_EVERY {
            self.ingest.flush()?;
            self.flushed = Instant::now();
        }
        Ok(())
    }
}

/// Drains until `deadline`, or until a person or a supervisor ends it.
///
/// # Errors
///
/// A failed write ends the recording.
pub(super) async fn host(
    mut following: Following<'_>,
    signals: &mut Signals,
    deadline: Option<Instant>,
) -> Result<(), IngestError> {
    let mut tick = tokio::time::interval(DRAIN_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let end = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = &mut end => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.hangup.recv() => return Ok(()),
            _ = signals.quit.recv() => return Ok(()),
        }
        following.step()?;
    }
}

/// How long a command that was told to end may take to do so, before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Drains until the command has ended, and then what it left, or time is up. Returns its status.
///
/// With a `timeout` the command is told to end when that is over, and killed when it does not.
///
/// A failed write ends the recording (`failed` says why), not the command: that goes on, unprofiled.
pub(super) async fn command(
    running: &Running,
    mut following: Following<'_>,
    signals: &mut Signals,
    timeout: Option<Duration>,
    failed: &mut Option<IngestError>,
) -> i32 {
    let start = Instant::now();
    let mut due = timeout.map(|timeout| (timeout, libc::SIGTERM));
    let mut tick = tokio::time::interval(DRAIN_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut interrupts = 0;
    let mut ended: Option<(i32, Instant)> = None;
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            _ = signals.child.recv() => {}
            // The terminal has sent it to the command as well; what it does about it is its own affair.
            _ = signals.interrupt.recv() => {
                interrupts += 1;
                if interrupts > 1 {
                    eprintln!("phasegraph: interrupted again: the recording ends here, the command is told to end");
                    running.signal(libc::SIGTERM);
                    return running.try_wait().unwrap_or(128 + libc::SIGINT);
                }
                eprintln!("phasegraph: interrupted: waiting for the command to end; once more ends the recording");
            }
            _ = signals.quit.recv() => {}
            _ = signals.terminate.recv() => running.signal(libc::SIGTERM),
            _ = signals.hangup.recv() => running.signal(libc::SIGHUP),
        }
        if failed.is_none()
            && let Err(error) = following.step()
        {
            eprintln!("phasegraph: {error}; the command goes on unprofiled");
            *failed = Some(error);
        }
        match ended {
            None => {
                if let Some((time, signal)) = due.filter(|(time, _)| start.elapsed() >= *time) {
                    running.signal(signal);
                    due = (signal == libc::SIGTERM).then_some((time + GRACE, libc::SIGKILL));
                }
                if let Some(status) = running.try_wait() {
                    ended = Some((status, Instant::now()));
                    tick = tokio::time::interval(LINGER_STEP);
                    if following.ingest.alive() == 0 || failed.is_some() {
                        return status;
                    }
                }
            }
            Some((status, since)) => {
                if following.ingest.alive() == 0 || since.elapsed() >= LINGER || failed.is_some() {
                    return status;
                }
            }
        }
    }
}

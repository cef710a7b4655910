//! What is looked after while a recording goes on: the overhead cap, and CPUs that come and go.

use std::time::{Duration, Instant};

use profiler_common::control::shed;

use crate::{
    control::watchdog::{Action, Cost, INTERVAL_NS, Reading, Watchdog, signals},
    ingest::{Ingest, IngestError},
    kernel::host,
    load::{LoadError, Loaded},
    recording::{
        lever::Lever,
        record::{CpuChange, Throttle},
    },
};

/// For tests of what a panic leaves behind: panics once the file exists that the environment names.
#[cfg(debug_assertions)]
fn panic_if_forced() {
    if std::env::var_os("PHASEGRAPH_FORCE_PANIC").is_some_and(|path| std::path::Path::new(&path).exists()) {
        panic!("forced by PHASEGRAPH_FORCE_PANIC");
    }
}

/// From what length on intervals stream whole while [`Lever::ShortWaits`] is pulled, ns.
const SHORT_WAITS_NS: u64 = 1_000_000;

/// See the module.
pub(super) struct Guard {
    /// `None`: there is no cap.
    watchdog: Option<Watchdog>,
    cap_ppm: u32,
    hz: u32,
    /// CPUs that are followed.
    cpus: Vec<u32>,
    next: Instant,
    /// Bits of [`shed`].
    shed: u64,
}

impl Guard {
    /// `cap_ppm`: millionths of the host's CPU time; `None` for no cap.
    pub(super) fn new(cap_ppm: Option<u32>, hz: u32, cpus: Vec<u32>) -> Guard {
        Guard {
            watchdog: cap_ppm.map(|cap| Watchdog::new(cap, hz)),
            cap_ppm: cap_ppm.unwrap_or(0),
            hz,
            cpus,
            next: Instant::now(),
            shed: 0,
        }
    }

    /// Looks, if it is time to, and does what is to be done.
    pub(super) fn step(&mut self, loaded: &mut Loaded, ingest: &mut Ingest) -> Result<(), IngestError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        self.next = now + Duration::from_nanos(INTERVAL_NS);
        #[cfg(debug_assertions)]
        panic_if_forced();
        self.hotplug(loaded, ingest)?;
        let Some(watchdog) = &mut self.watchdog else {
            return Ok(());
        };
        let (Ok((user_ns, system_ns, _)), Ok(counts)) = (host::own_cost(), host::counts()) else {
            return Ok(());
        };
        let (actions, cost) = watchdog.observe(Reading {
            ts: host::monotonic_ns(),
            cpus: u32::try_from(self.cpus.len()).unwrap_or(u32::MAX),
            programs: loaded.run_times(),
            process_ns: user_ns + system_ns,
            work: ingest.work(),
            switches: counts.switches,
            births: counts.births,
        });
        for action in actions {
            self.act(action, &cost, loaded, ingest)?;
        }
        Ok(())
    }

    /// What could not be done although the cap asked for it, for the recording's losses.
    pub(super) fn losses(&self) -> Option<(String, u64)> {
        let helpless = self.watchdog.as_ref()?.helpless();
        (helpless > 0).then(|| {
            (
                "half seconds above the overhead cap with nothing left to give up".to_owned(),
                helpless,
            )
        })
    }

    fn act(
        &mut self,
        action: Action,
        cost: &Cost,
        loaded: &mut Loaded,
        ingest: &mut Ingest,
    ) -> Result<(), IngestError> {
        let ts = host::monotonic_ns();
        if let Err(why) = self.apply(action, ts, loaded, ingest) {
            tracing::warn!("overhead cap, {}: {why}", action.lever.name());
            if !action.reduced {
                // Not to be had again: it stays marked as given up.
                if let Some(watchdog) = &mut self.watchdog {
                    watchdog.keep(action.lever);
                }
                return Ok(());
            }
        }
        tracing::info!("overhead cap: {action:?} after {} ppm", cost.ppm());
        ingest.write(Throttle {
            ts,
            lever: action.lever.name().to_owned(),
            value: action.value,
            reduced: action.reduced,
            bpf_ns: cost.bpf_ns,
            process_ns: cost.process_ns,
            window_ns: cost.window_ns,
            cpus: cost.cpus,
            cap_ppm: self.cap_ppm,
            dearest: cost.dearest.clone(),
        })
    }

    fn apply(&mut self, action: Action, ts: u64, loaded: &mut Loaded, ingest: &mut Ingest) -> Result<(), LoadError> {
        let mut bit = |bit: u64| {
            self.shed = if action.reduced {
                self.shed | bit
            } else {
                self.shed & !bit
            };
            self.shed
        };
        match (action.lever, action.reduced) {
            (Lever::Sampling, _) => {
                self.hz = action.value;
                loaded.set_frequency(action.value);
                Ok(())
            }
            (Lever::ShortWaits, true) => loaded.set_whole_ns(SHORT_WAITS_NS),
            (Lever::ShortWaits, false) => loaded.set_whole_ns(0),
            (Lever::WaitStacks, _) => loaded.set_shed(bit(shed::WAIT_STACKS)),
            (Lever::Mappings, true) => {
                ingest.pause_mappings();
                Ok(())
            }
            (Lever::Mappings, false) => {
                ingest.resume_mappings();
                Ok(())
            }
            (Lever::FileCalls | Lever::Pages, true) => {
                loaded.pause(signals(action.lever));
                Ok(())
            }
            (Lever::FileCalls, false) => loaded.resume_file_calls(signals(action.lever), ts),
            (Lever::Pages, false) => loaded.resume(signals(action.lever)),
            (Lever::Scheduling, true) => loaded.pause_scheduling(signals(action.lever), bit(shed::SCHEDULING), ts),
            (Lever::Scheduling, false) => loaded.resume_scheduling(signals(action.lever), bit(shed::SCHEDULING)),
            (Lever::Births, _) => loaded.set_shed(bit(shed::BIRTHS)),
        }
    }

    /// Follows CPUs that came online, lets go of those that went offline.
    fn hotplug(&mut self, loaded: &mut Loaded, ingest: &mut Ingest) -> Result<(), IngestError> {
        let Ok(now) = host::online_cpus() else { return Ok(()) };
        if now == self.cpus {
            return Ok(());
        }
        let gone: Vec<u32> = self.cpus.iter().copied().filter(|cpu| !now.contains(cpu)).collect();
        let come: Vec<u32> = now.iter().copied().filter(|cpu| !self.cpus.contains(cpu)).collect();
        if !gone.is_empty() {
            ingest.drain()?;
        }
        for cpu in gone {
            loaded.remove_cpu(cpu);
            ingest.remove_cpu(cpu);
            ingest.write(CpuChange {
                ts: host::monotonic_ns(),
                cpu,
                online: false,
                problem: String::new(),
            })?;
        }
        for cpu in come {
            let mut problems = Vec::new();
            problems.extend(
                loaded
                    .add_cpu(cpu, self.hz)
                    .err()
                    .map(|why| format!("not sampled: {why}")),
            );
            problems.extend(
                ingest
                    .add_cpu(cpu)
                    .err()
                    .map(|why| format!("mappings not recorded: {why}")),
            );
            ingest.write(CpuChange {
                ts: host::monotonic_ns(),
                cpu,
                online: true,
                problem: problems.join("; "),
            })?;
        }
        self.cpus = now;
        Ok(())
    }
}

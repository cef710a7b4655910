//! Giving up, and taking up again, part of what is attached: what the overhead cap does to the kernel's half.

use std::{collections::BTreeMap, os::fd::AsFd as _};

use profiler_common::control;

use super::{LoadError, Loaded, error::chain, ladder::program_of, perf, registry::PROBES};

impl Loaded {
    /// Run time of each signal's programs so far, ns, by the kernel's statistics.
    pub fn run_times(&self) -> BTreeMap<String, u64> {
        let mut times = BTreeMap::new();
        for (name, program) in self.ebpf.programs() {
            let Ok(info) = program.info() else { continue };
            let ns = u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX);
            *times.entry(signal_of(name).to_owned()).or_default() += ns;
        }
        for (name, program) in &self.functions {
            *times.entry((*name).to_owned()).or_default() += super::costs::cost(name, program.as_fd()).run_ns;
        }
        times
    }

    /// Lets the sampling clocks go on at another frequency, Hz.
    pub fn set_frequency(&mut self, hz: u32) {
        for (cpu, clock) in &self.clocks {
            if let Err(why) = clock.set_frequency(hz) {
                tracing::warn!("the sampling clock of CPU {cpu} keeps its frequency: {why}");
            }
        }
    }

    /// Tells the programs what they shall not do: bits of [`control::shed`].
    pub fn set_shed(&mut self, bits: u64) -> Result<(), LoadError> {
        self.set_control(control::SHED, bits)
    }

    /// From what length on intervals are not summed, ns.
    pub fn set_whole_ns(&mut self, ns: u64) -> Result<(), LoadError> {
        self.set_control(control::WHOLE_NS, ns)
    }

    /// Ends the recording of threads' times at `end`: from there on they are not known. `bits` has
    /// [`control::shed::SCHEDULING`].
    pub fn pause_scheduling(&mut self, signals: &[&str], bits: u64, end: u64) -> Result<(), LoadError> {
        // First the programs that go on are told, so that none takes a state for known that stands still.
        self.set_shed(bits)?;
        self.pause(signals);
        self.flush(end)
    }

    /// Records threads' times again. `bits` has no [`control::shed::SCHEDULING`].
    pub fn resume_scheduling(&mut self, signals: &[&'static str], bits: u64) -> Result<(), LoadError> {
        self.resume(signals)?;
        // Only now, as the programs that go on must not begin an interval whose end is missed.
        self.set_shed(bits)?;
        // Without it a thread is taken up at its next switch.
        if let Err(why) = self.iterate("resync_tasks") {
            tracing::warn!("sleeping threads show as lost until they wake: {why}");
        }
        Ok(())
    }

    /// Detaches signals.
    pub fn pause(&mut self, signals: &[&str]) {
        self.links.retain(|(signal, _)| !signals.contains(signal));
    }

    /// Attaches signals again.
    pub fn resume(&mut self, signals: &[&'static str]) -> Result<(), LoadError> {
        signals.iter().try_for_each(|name| self.attach_again(name))
    }

    /// Counts calls on files again that begin after `ts`: what a thread was in when they were paused is over, unseen.
    pub fn resume_file_calls(&mut self, signals: &[&'static str], ts: u64) -> Result<(), LoadError> {
        self.set_control(control::FILE_CALLS_SINCE, ts)?;
        self.resume(signals)
    }

    /// Attaches a signal again, on the rung that it had.
    fn attach_again(&mut self, name: &'static str) -> Result<(), LoadError> {
        let probe = PROBES
            .iter()
            .find(|probe| probe.program == name)
            .ok_or(LoadError::Missing(name))?;
        let outcome = self.ladder.iter().find(|outcome| outcome.signal == name);
        let Some(rung) = outcome.and_then(|outcome| outcome.rung) else {
            return Ok(());
        };
        self.attach_one(probe, rung).map_err(|why| LoadError::Required {
            probe: probe.program,
            gives: probe.gives,
            why,
        })
    }

    /// Samples a CPU that came online.
    pub fn add_cpu(&mut self, cpu: u32, hz: u32) -> Result<(), LoadError> {
        self.remove_cpu(cpu);
        self.clock_of(cpu, hz).map(|event| self.clocks.push((cpu, event)))
    }

    /// Forgets a CPU that went offline: its timer is dead, also should it return.
    pub fn remove_cpu(&mut self, cpu: u32) {
        self.clocks.retain(|(clock, _)| *clock != cpu);
    }

    fn clock_of(&self, cpu: u32, hz: u32) -> Result<perf::Event, LoadError> {
        let sampler = self.ladder.iter().find(|outcome| outcome.signal == SAMPLER);
        let (Some(outcome), Some(rung)) = (sampler, sampler.and_then(|sampler| sampler.rung)) else {
            return Err(LoadError::Missing(SAMPLER));
        };
        let required = |why: String| LoadError::Required {
            probe: SAMPLER,
            gives: outcome.gives,
            why,
        };
        let name = program_of(SAMPLER, rung);
        let program = self.ebpf.program(&name).ok_or(LoadError::Missing(SAMPLER))?;
        let fd = program.fd().map_err(|why| required(chain(&why)))?;
        perf::clock(cpu, hz, fd.as_fd()).map_err(|why| required(format!("CPU {cpu}: {why}")))
    }
}

/// The signal of the sampling clock.
const SAMPLER: &str = "cpu_sample";
/// The signal of a program that stands for it on another rung, or that it goes on in.
fn signal_of(program: &str) -> &str {
    match program {
        "wait_unwind" => "sched_switch",
        _ if program.starts_with("cpu_unwind") => SAMPLER,
        _ => program.strip_suffix("_raw").unwrap_or(program),
    }
}

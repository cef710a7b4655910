//! Attaching, each signal on its rung, and owning the links: dropping a link detaches.

use std::{any::Any, os::fd::AsFd as _};

use aya::{
    Btf,
    programs::{BtfTracePoint, ProgramError, RawTracePoint},
};

use super::{
    LoadError, LoadOptions, Loaded,
    error::{chain, refusal},
    ladder::{judge, program_of},
    perf,
    registry::{Attach, PROBES, Probe, Rung},
};

impl Loaded {
    /// Attaches everything but the sampling clock, which [`Loaded::start_clock`] starts last. What loaded and can't be
    /// attached goes further down its ladder.
    pub fn attach(&mut self, btf: &Btf) -> Result<(), LoadError> {
        for probe in PROBES {
            match probe.attach {
                attach if attach.tracepoint().is_some() => {
                    let Some(at) = self
                        .ladder
                        .iter()
                        .position(|outcome| outcome.signal == probe.program && outcome.rung.is_some())
                    else {
                        continue;
                    };
                    let mut outcome = self.ladder.remove(at);
                    let mut missing = Vec::new();
                    let result = self.descend(probe, &mut outcome, btf, |loaded, probe, rung| match rung {
                        Rung::Fentry => {
                            missing = loaded.hook_sends(probe, btf)?;
                            Ok(())
                        }
                        _ => loaded.attach_one(probe, rung),
                    });
                    if !missing.is_empty() {
                        outcome.detail = format!("without {}", missing.join(" and "));
                    }
                    self.ladder.insert(at, outcome);
                    result?;
                }
                Attach::Calls => {
                    let outcome = self.attach_calls(probe, btf);
                    judge(probe, &outcome)?;
                    self.ladder.push(outcome);
                }
                Attach::CopyUps | Attach::Whiteouts | Attach::Opens => {
                    let outcome = match probe.attach {
                        Attach::CopyUps => self.attach_copy_ups(probe, btf),
                        Attach::Whiteouts => self.attach_whiteouts(probe, btf),
                        _ => self.attach_opens(probe),
                    };
                    judge(probe, &outcome)?;
                    self.ladder.push(outcome);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Attaches a signal that is loaded on this rung.
    pub(super) fn attach_one(&mut self, probe: &'static Probe, rung: Rung) -> Result<(), String> {
        let Some(tracepoint) = probe.attach.tracepoint() else {
            return Err(format!("`{}` is no tracepoint", probe.program));
        };
        let name = program_of(probe.program, rung);
        let program = self.ebpf.program_mut(&name).ok_or("no such program")?;
        let link: Result<Box<dyn Any>, ProgramError> = match rung {
            Rung::TpBtf => <&mut BtfTracePoint>::try_from(program).and_then(|program| {
                let id = program.attach()?;
                Ok(Box::new(program.take_link(id)?) as Box<dyn Any>)
            }),
            Rung::RawTp => <&mut RawTracePoint>::try_from(program).and_then(|program| {
                let id = program.attach(tracepoint)?;
                Ok(Box::new(program.take_link(id)?) as Box<dyn Any>)
            }),
            _ => return Err(format!("a tracepoint has no rung {rung}")),
        };
        self.links.push((probe.program, link.map_err(|why| refusal(&why))?));
        Ok(())
    }

    /// Starts the sampling clock on each CPU.
    pub fn start_clock(&mut self, options: &LoadOptions) -> Result<(), LoadError> {
        for probe in PROBES.iter().filter(|probe| probe.attach == Attach::Clock) {
            let Some(outcome) = self.ladder.iter_mut().find(|outcome| outcome.signal == probe.program) else {
                continue;
            };
            let required = |why: String| LoadError::Required {
                probe: probe.program,
                gives: probe.gives,
                why,
            };
            let name = program_of(probe.program, outcome.rung.unwrap_or(Rung::Clock));
            let program = self.ebpf.program(&name).ok_or(LoadError::Missing(probe.program))?;
            let fd = program.fd().map_err(|why| required(chain(&why)))?;
            let mut started = 0;
            for cpu in &options.cpus {
                match perf::clock(*cpu, options.sample_hz, fd.as_fd()) {
                    Ok(event) => {
                        self.clocks.push((*cpu, event));
                        started += 1;
                    }
                    Err(why) => tracing::warn!("CPU {cpu} is not sampled: {why}"),
                }
            }
            if started == 0 {
                return Err(required("no CPU's cpu-clock could be opened".to_owned()));
            }
            outcome.detail = format!("{} Hz on {started} CPUs", options.sample_hz);
        }
        Ok(())
    }

    /// Detaches what switches and samples: from here on the per-task states stand still. The system calls' hooks go
    /// with the whole, since closing them takes a second in all (`docs/design/0005`).
    pub fn detach(&mut self) {
        self.clocks.clear();
        self.links.retain(|(signal, _)| *signal == CALLS_SIGNAL);
    }
}

/// [`Probe::program`] of the system calls.
pub(super) const CALLS_SIGNAL: &str = "mount_calls";

//! Going down the ladder: of each signal the best rung that this kernel grants, found by trial.

use aya::{
    Btf,
    programs::{BtfTracePoint, Iter, PerfEvent, Program, ProgramError, RawTracePoint, TracePoint},
};

use super::{
    LoadError, Loaded,
    error::refusal,
    forced::Choice,
    registry::{Attach, PROBES, Probe, Rung},
};

/// How a signal is had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// [`Probe::program`]
    pub signal: &'static str,
    /// What is missing without it.
    pub gives: &'static str,
    pub required: bool,
    /// `None`: not available.
    pub rung: Option<Rung>,
    /// More than the rung's name: what it covers.
    pub detail: String,
    /// The better rungs, or all, and why they can't be had.
    pub refused: Vec<(Rung, String)>,
    /// Nothing else was tried.
    pub forced: bool,
}

impl Outcome {
    /// One line for people. What is not to be had begins with `not available`.
    pub fn text(&self) -> String {
        let Some(rung) = self.rung else {
            return format!("not available, so no {}: {}", self.gives, self.why());
        };
        let mut text = rung.name().to_owned();
        if !self.detail.is_empty() {
            text.push_str(", ");
            text.push_str(&self.detail);
        }
        if self.forced {
            text.push_str(" (forced)");
        } else if !self.refused.is_empty() {
            text.push_str(&format!(" ({})", self.why()));
        }
        text
    }

    /// Why it can't be had, or not by a better rung.
    fn why(&self) -> String {
        if self.refused.is_empty() {
            return "left out by --rung".to_owned();
        }
        let why = self.refused.iter().map(|(rung, reason)| format!("{rung}: {reason}"));
        why.collect::<Vec<_>>().join("; ")
    }
}

/// Name of the program that stands on a rung of a signal.
pub fn program_of(signal: &str, rung: Rung) -> String {
    match rung {
        Rung::RawTp => format!("{signal}_raw"),
        Rung::Unwind => super::unwind::CPU.to_owned(),
        Rung::Fentry => format!("{signal}_fexit"),
        _ => signal.to_owned(),
    }
}

impl Loaded {
    /// Loads every signal's program on the best rung that the kernel takes; those of the system calls come when they
    /// are attached.
    pub(super) fn load_programs(&mut self, btf: &Btf) -> Result<(), LoadError> {
        for probe in PROBES {
            let later = matches!(
                probe.attach,
                Attach::State | Attach::Calls | Attach::CopyUps | Attach::Whiteouts | Attach::Opens
            );
            if later || !self.is_asked(probe) {
                continue;
            }
            let mut outcome = self.outcome(probe);
            self.descend(probe, &mut outcome, btf, |_, _, _| Ok(()))?;
            self.ladder.push(outcome);
        }
        Ok(())
    }

    /// Whether a signal is wanted by whoever records.
    pub(super) fn is_asked(&self, probe: &Probe) -> bool {
        match probe.attach {
            Attach::Asked(_) => self.file_calls,
            Attach::Again(_) => self.preemptible,
            _ => true,
        }
    }

    /// Nothing tried yet.
    pub(super) fn outcome(&self, probe: &'static Probe) -> Outcome {
        Outcome {
            signal: probe.program,
            gives: probe.gives,
            required: probe.required,
            rung: None,
            detail: String::new(),
            refused: Vec::new(),
            forced: matches!(self.forced.of(probe), Some(Choice::Rung(_))),
        }
    }

    /// Takes the first rung not yet refused whose program loads and passes `trial`.
    pub(super) fn descend(
        &mut self,
        probe: &'static Probe,
        outcome: &mut Outcome,
        btf: &Btf,
        mut trial: impl FnMut(&mut Loaded, &'static Probe, Rung) -> Result<(), String>,
    ) -> Result<(), LoadError> {
        outcome.rung = None;
        for rung in self.forced.rungs(probe) {
            if outcome.refused.iter().any(|(refused, _)| *refused == rung) {
                continue;
            }
            let tried = self
                .load_program(probe, rung, btf)
                .and_then(|()| trial(self, probe, rung));
            match tried {
                Ok(()) => {
                    outcome.rung = Some(rung);
                    break;
                }
                Err(why) => outcome.refused.push((rung, why)),
            }
        }
        judge(probe, outcome)
    }

    fn load_program(&mut self, probe: &Probe, rung: Rung, btf: &Btf) -> Result<(), String> {
        let name = program_of(probe.program, rung);
        if rung == Rung::Unwind && !self.can_unwind {
            return Err("this kernel does not tell where it keeps a process's mappings".to_owned());
        }
        let Some(program) = self.ebpf.program_mut(&name) else {
            return Err(if rung == Rung::RawTp {
                "only where per-task state is in the hash: a raw tracepoint's tasks have no type".to_owned()
            } else {
                format!("the eBPF object has no program `{name}`")
            });
        };
        // Most were loaded ahead. A program on functions is loaded for each of them when it is attached.
        if program.fd().is_err() && rung != Rung::Fentry {
            let Some(loaded) = load(program, rung, probe.attach, btf) else {
                return Err(format!("`{}` has no rung {rung}", probe.program));
            };
            loaded.map_err(|why| refusal(&why))?;
        }
        match (rung, probe.attach) {
            (Rung::Unwind, _) => self.chain(super::unwind::CPU_CHAIN, btf),
            (_, Attach::Tail(_)) => self.chain(super::unwind::WAIT_CHAIN, btf),
            _ => Ok(()),
        }
    }
}

/// Loads a program for a rung; `None` when what it hangs on has no such rung, or is not known yet.
pub(super) fn load(program: &mut Program, rung: Rung, attach: Attach, btf: &Btf) -> Option<Result<(), ProgramError>> {
    Some(match (rung, attach) {
        (Rung::TpBtf, Attach::Renamed(now, before)) => {
            <&mut BtfTracePoint>::try_from(program).and_then(|program| match program.load(now, btf) {
                Err(ProgramError::Btf(_)) => program.load(before, btf),
                loaded => loaded,
            })
        }
        (Rung::TpBtf, _) => {
            let tracepoint = match attach {
                Attach::Tail(tracepoint) => tracepoint,
                attach => attach.tracepoint()?,
            };
            <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(tracepoint, btf))
        }
        (Rung::RawTp, _) => <&mut RawTracePoint>::try_from(program).and_then(RawTracePoint::load),
        (Rung::Classic, _) => <&mut TracePoint>::try_from(program).and_then(TracePoint::load),
        (Rung::Clock | Rung::Unwind, _) => <&mut PerfEvent>::try_from(program).and_then(PerfEvent::load),
        (Rung::TaskIterator, _) => <&mut Iter>::try_from(program).and_then(|program| program.load("task", btf)),
        _ => return None,
    })
}

/// An error if a signal that is required, or was forced, is not to be had; else its loss is told.
pub(super) fn judge(probe: &'static Probe, outcome: &Outcome) -> Result<(), LoadError> {
    if outcome.rung.is_some() {
        for (rung, why) in &outcome.refused {
            tracing::debug!("{} not by {rung}: {why}", probe.program);
        }
        return Ok(());
    }
    if outcome.forced
        && let [(rung, why)] = outcome.refused.as_slice()
    {
        return Err(LoadError::Forced {
            signal: probe.program,
            rung: *rung,
            why: why.clone(),
        });
    }
    if probe.required {
        return Err(LoadError::Required {
            probe: probe.program,
            gives: probe.gives,
            why: outcome.why(),
        });
    }
    // The recording has it, and every report shows it.
    tracing::info!("{}: {}", probe.program, outcome.text());
    Ok(())
}

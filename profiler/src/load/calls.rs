//! Hooks at the beginning and the end of each watched system call, each call on the best rung that it can have.

use std::{
    any::Any,
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{Btf, programs::TracePoint};

use super::{
    Loaded,
    attach::CALLS_SIGNAL,
    error::{chain, refusal},
    ladder::Outcome,
    perf, preempt,
    registry::{CALLS, Call, Probe, Rung},
    tracefs::Tracefs,
};

/// Both ends of one call.
type Hooks = [Box<dyn Any>; 2];

impl Loaded {
    /// Hooks every call by the first rung that takes it. A rung that can't take the first call, which every kernel has,
    /// is not tried for the others.
    pub(super) fn attach_calls(&mut self, probe: &'static Probe, btf: &Btf) -> Outcome {
        let mut outcome = self.outcome(probe);
        let mut taken: Vec<(Rung, usize)> = Vec::new();
        let mut left: Vec<(&Call, String)> = CALLS.iter().map(|call| (call, String::new())).collect();
        let mut rungs = self.forced.rungs(probe);
        if preempt::cuts_into_functions() {
            // A program on a function that is cut into keeps out those of other threads; one on a breakpoint is not cut into.
            rungs.sort_by_key(|rung| *rung != Rung::Kprobe);
        }
        for rung in rungs {
            let before = left.len();
            match self.attach_by(rung, &mut left, btf) {
                Ok(()) => taken.push((rung, before - left.len())),
                Err(why) => outcome.refused.push((rung, why)),
            }
            if left.is_empty() {
                break;
            }
        }
        taken.retain(|(_, count)| *count > 0);
        outcome.rung = taken.first().map(|(rung, _)| *rung);
        if outcome.rung.is_some() {
            outcome.detail = detail(&taken, &left);
        }
        outcome
    }

    /// Hooks what this rung takes of `left`; what it does not take stays there, with the reason.
    fn attach_by(&mut self, rung: Rung, left: &mut Vec<(&Call, String)>, btf: &Btf) -> Result<(), String> {
        let tracefs = match rung {
            Rung::Classic => Some(Tracefs::open_at(self.tracefs.as_deref()).map_err(|why| {
                format!("tracefs can't be had: {why}; `mount -t tracefs none /sys/kernel/tracing` as root")
            })?),
            _ => None,
        };
        let mut refused = Vec::new();
        for (call, _) in std::mem::take(left) {
            let hooks = match (rung, &tracefs) {
                (Rung::Fentry, _) => self.hook_trampolines(call, btf),
                (Rung::Kprobe, _) => self.hook_breakpoints(call),
                (Rung::Classic, Some(tracefs)) => self.hook_tracepoints(call, tracefs),
                _ => Err(format!("system calls have no rung {rung}")),
            };
            match hooks {
                Ok(hooks) => self.links.extend(hooks.map(|hook| (CALLS_SIGNAL, hook))),
                Err(why) if call.call == CALLS[0].call => {
                    *left = CALLS.iter().map(|call| (call, why.clone())).collect();
                    return Err(why);
                }
                Err(why) => refused.push((call, why)),
            }
        }
        *left = refused;
        Ok(())
    }

    fn hook_trampolines(&mut self, call: &Call, btf: &Btf) -> Result<Hooks, String> {
        let function = call.function();
        let entry = self.hook_function("call_fentry", &function, btf)?;
        let exit = self.hook_function("call_fexit", &function, btf)?;
        Ok([entry, exit])
    }

    fn hook_breakpoints(&mut self, call: &Call) -> Result<Hooks, String> {
        let function = call.function();
        let entry = self.hook_breakpoint("call_kprobe", &function)?;
        let exit = self.hook_breakpoint("call_kretprobe", &function)?;
        Ok([entry, exit])
    }

    fn hook_tracepoints(&mut self, call: &Call, tracefs: &Tracefs) -> Result<Hooks, String> {
        let mut hook = |program: &str, prefix: &str| -> Result<Box<dyn Any>, String> {
            let fd = self.tracepoint_program(program)?;
            let event = tracefs
                .id("syscalls", &format!("{prefix}_{}", call.name))
                .and_then(|id| perf::tracepoint(id, fd))
                .map_err(|why| missing(&why))?;
            Ok(Box::new(event))
        };
        let exit = hook("call_exit", "sys_exit")?;
        let entry = hook("call_enter", "sys_enter")?;
        Ok([entry, exit])
    }

    /// A tracepoint's program, loaded if it is not yet.
    pub(super) fn tracepoint_program(&mut self, name: &str) -> Result<BorrowedFd<'_>, String> {
        let program = self.ebpf.program_mut(name).ok_or("no such program")?;
        let program: &mut TracePoint = program.try_into().map_err(|why| chain(&why))?;
        if program.fd().is_err() {
            program.load().map_err(|why| refusal(&why))?;
        }
        Ok(program.fd().map_err(|why| chain(&why))?.as_fd())
    }
}

fn missing(why: &io::Error) -> String {
    match why.kind() {
        io::ErrorKind::NotFound => "this kernel has no such tracepoint".to_owned(),
        _ => why.to_string(),
    }
}

/// How many calls are had by which rung, and which by none.
fn detail(taken: &[(Rung, usize)], left: &[(&Call, String)]) -> String {
    let mut text = match taken {
        [(_, count)] => format!("{count} system calls"),
        _ => {
            let parts: Vec<String> = taken.iter().map(|(rung, count)| format!("{count} by {rung}")).collect();
            format!("system calls: {}", parts.join(", "))
        }
    };
    if !left.is_empty() {
        let parts: Vec<String> = left
            .iter()
            .map(|(call, why)| format!("{} ({why})", call.name))
            .collect();
        text.push_str(&format!(", without {}", parts.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a mixture of rungs and a call that the kernel has not are told.
    #[test]
    fn mixture() {
        let left = vec![(&CALLS[9], "this kernel has no such tracepoint".to_owned())];
        assert_eq!(
            detail(&[(Rung::Fentry, 8), (Rung::Classic, 1)], &left),
            "system calls: 8 by fentry, 1 by tracepoint, without fsmount (this kernel has no such tracepoint)"
        );
        assert_eq!(detail(&[(Rung::Fentry, 10)], &[]), "10 system calls");
    }
}

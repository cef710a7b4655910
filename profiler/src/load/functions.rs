//! Hooks at the beginning and the end of kernel functions: `fentry` and `fexit`, `kprobe` and `kretprobe`.

use std::{any::Any, os::fd::AsFd as _};

use aya::{
    Btf,
    programs::{FExit, KProbe, Program, ProgramError},
};

use super::{
    Loaded,
    error::refusal,
    ladder::program_of,
    registry::{Probe, Rung, SENDS},
};

impl Loaded {
    /// Hooks a function; a program is for one function, so it is loaded once for each.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, in words.
    pub(super) fn hook_function(&mut self, name: &str, function: &str, btf: &Btf) -> Result<Box<dyn Any>, String> {
        if !self.trampolines_wait {
            // In such a function a thread may sleep for as long as it likes.
            let why = "before e21aa341785c (Linux 5.12) this kernel frees a hook's code while a thread sleeps in the function, \
                       which would crash it";
            return Err(why.to_owned());
        }
        let mut hook = || -> Result<Box<dyn Any>, ProgramError> {
            let program = self.ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
            let (link, fd): (Box<dyn Any>, _) = match program {
                Program::FEntry(program) => {
                    program.load(function, btf)?;
                    let fd = program.fd()?.as_fd().try_clone_to_owned();
                    let attached = program.attach().and_then(|id| program.take_link(id));
                    program.unload()?;
                    (Box::new(attached?), fd)
                }
                program => {
                    let program: &mut FExit = program.try_into()?;
                    program.load(function, btf)?;
                    let fd = program.fd()?.as_fd().try_clone_to_owned();
                    let attached = program.attach().and_then(|id| program.take_link(id));
                    program.unload()?;
                    (Box::new(attached?), fd)
                }
            };
            self.functions.push((name.to_owned(), fd?));
            Ok(link)
        };
        hook().map_err(|why| refusal(&why))
    }

    /// Hooks a function by a breakpoint at its beginning, or by one at its end, as the program asks for; one program serves
    /// any number of functions.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, in words.
    pub(super) fn hook_breakpoint(&mut self, name: &str, function: &str) -> Result<Box<dyn Any>, String> {
        let mut hook = || -> Result<Box<dyn Any>, ProgramError> {
            let program = self.ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
            let program: &mut KProbe = program.try_into()?;
            if program.fd().is_err() {
                program.load()?;
            }
            let id = program.attach(function, 0)?;
            Ok(Box::new(program.take_link(id)?))
        };
        hook().map_err(|why| refusal(&why))
    }

    /// Hooks the functions that send, and returns those of them that can't be hooked, with the reason: IPv6 may be a module.
    ///
    /// # Errors
    ///
    /// The first, by which engines are spoken to, can't be hooked: the kernel's refusal, in words.
    pub(super) fn hook_sends(&mut self, probe: &'static Probe, btf: &Btf) -> Result<Vec<String>, String> {
        let name = program_of(probe.program, Rung::Fentry);
        let mut missing = Vec::new();
        for function in SENDS {
            match self.hook_function(&name, function, btf) {
                Ok(link) => self.links.push((probe.program, link)),
                Err(why) if function == SENDS[0] => return Err(format!("{function}: {why}")),
                Err(why) => missing.push(format!("{function} ({why})")),
            }
        }
        Ok(missing)
    }
}

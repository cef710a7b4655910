//! Hooks at the beginning and the end of kernel functions (`fentry`, `fexit`).

use std::{any::Any, os::fd::AsFd as _};

use aya::{
    Btf,
    programs::{FExit, Program, ProgramError},
};

use super::{
    Loaded,
    error::refusal,
    registry::{Probe, SENDS},
};

/// The program on the functions that send.
const SENDS_PROGRAM: &str = "sock_send_length_fexit";

impl Loaded {
    /// Hooks a function; a program is for one function, so it is loaded once for each.
    ///
    /// # Errors
    ///
    /// The kernel's refusal, in words.
    pub(super) fn hook_function(
        &mut self,
        name: &'static str,
        function: &str,
        btf: &Btf,
    ) -> Result<Box<dyn Any>, String> {
        if !self.trampolines_wait {
            // In such a function a thread may sleep for as long as it likes.
            return Err(
                "before e21aa341785c (Linux 5.12) this kernel frees a hook's code while a thread sleeps in the \
                        function, which would crash it"
                    .to_owned(),
            );
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
            self.functions.push((name, fd?));
            Ok(link)
        };
        hook().map_err(|why| refusal(&why))
    }

    /// Hooks the functions that send, all or none.
    pub(super) fn hook_sends(&mut self, probe: &'static Probe, btf: &Btf) -> Result<(), String> {
        let mut links = Vec::new();
        for function in SENDS {
            match self.hook_function(SENDS_PROGRAM, function, btf) {
                Ok(link) => links.push((probe.program, link)),
                Err(why) => return Err(format!("{function}: {why}")),
            }
        }
        self.links.extend(links);
        Ok(())
    }
}

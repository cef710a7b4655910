//! Copy-ups, deletes and opens of overlays: by the overlay's own functions, else by what these do and by the system call.

use std::{any::Any, fs::File, io::BufRead as _, io::BufReader};

use aya::{
    Btf,
    programs::{BtfTracePoint, ProgramError},
};
use profiler_common::control;

use super::{
    Loaded,
    attach::CALLS_SIGNAL,
    error::{chain, refusal},
    ladder::Outcome,
    perf,
    registry::{Probe, Rung},
    tracefs::Tracefs,
};

/// Programs of the rung that brackets copy-ups, with the functions that they are hooked to.
const BRACKETS: &[(&str, &str)] = &[
    ("copy_up_ends", "ovl_copy_up_end"),
    ("copy_up_begun", "ovl_copy_up_start"),
    ("copy_up_begins", "ovl_copy_up_start"),
];
/// The program that is told of opened files by the overlay's function, and that by the end of `openat`.
const OPENS: (&str, &str) = ("overlay_opens", "ovl_open");
const OPENS_EXIT: &str = "overlay_opens_exit";
/// Why the end of `openat` is left alone where nothing else is hooked by such a tracepoint.
const NOT_PAID: &str = "it alone would make every system call of the host dearer";
/// The program that is told of new inodes of ext4, and its tracepoint.
const MADE: (&str, &str) = ("inode_made", "ext4_allocate_inode");

/// The program that is told of whiteouts by the overlay's function, and that by the renames of ext4.
const WHITEOUTS: (&str, &str) = ("whited_out", "ovl_cleanup_and_whiteout");
const PLACED: (&str, &str) = ("whiteout_placed", "ext4_mark_inode_dirty");
/// The function that every copy-up goes through, and those of ext4 in which a renamed inode is marked dirty; compilers may put
/// the second of all into the third.
const FUNCTIONS: [&str; 1 + control::RENAMING as usize] =
    ["ovl_copy_up_flags", "ext4_rename", "ext4_rename2", "ext4_cross_rename"];

impl Loaded {
    /// Attaches what tells of copy-ups, on the first rung that there is.
    pub(super) fn attach_copy_ups(&mut self, probe: &'static Probe, btf: &Btf) -> Outcome {
        self.first_rung(probe, |loaded, rung| match rung {
            Rung::Kprobe => loaded.bracket_copy_ups(probe),
            _ => loaded.recognize_copy_ups(probe, btf),
        })
    }

    /// Attaches what tells of deletes of what lower layers have, on the first rung that there is.
    pub(super) fn attach_whiteouts(&mut self, probe: &'static Probe, btf: &Btf) -> Outcome {
        self.first_rung(probe, |loaded, rung| {
            let link = match rung {
                Rung::Kprobe => loaded.hook_breakpoint(WHITEOUTS.0, WHITEOUTS.1)?,
                _ => loaded.recognize_whiteouts(btf)?,
            };
            loaded.links.push((probe.program, link));
            Ok(String::new())
        })
    }

    fn recognize_whiteouts(&mut self, btf: &Btf) -> Result<Box<dyn Any>, String> {
        let [_, renames @ ..] = self.texts()?;
        if renames.iter().all(Option::is_none) {
            return Err("ext4 is not loaded".to_owned());
        }
        for (index, text) in (0u32..).zip(renames) {
            let at = control::RENAMES + 2 * index;
            let (from, to) = text.unwrap_or_default();
            self.set_control(at, from)
                .and_then(|()| self.set_control(at + 1, to))
                .map_err(|why| chain(&why))?;
        }
        self.hook_tracepoint(PLACED.0, PLACED.1, btf)
            .map_err(|why| refusal(&why))
    }

    /// Attaches what tells of files of overlays that are opened, on the first rung that there is.
    pub(super) fn attach_opens(&mut self, probe: &'static Probe) -> Outcome {
        let forced = self.outcome(probe).forced;
        self.first_rung(probe, |loaded, rung| {
            match rung {
                Rung::Kprobe => {
                    let link = loaded.hook_breakpoint(OPENS.0, OPENS.1)?;
                    loaded.links.push((probe.program, link));
                }
                _ if !forced && !loaded.calls_by_tracepoint() => return Err(NOT_PAID.to_owned()),
                _ => loaded.hook_opens_exit()?,
            }
            Ok(String::new())
        })
    }

    /// Tries the rungs from the best on until one is taken, which then tells a detail.
    fn first_rung(
        &mut self,
        probe: &'static Probe,
        mut attach: impl FnMut(&mut Loaded, Rung) -> Result<String, String>,
    ) -> Outcome {
        let mut outcome = self.outcome(probe);
        for rung in self.forced.rungs(probe) {
            match attach(self, rung) {
                Ok(detail) => {
                    outcome.rung = Some(rung);
                    outcome.detail = detail;
                    break;
                }
                Err(why) => outcome.refused.push((rung, why)),
            }
        }
        outcome
    }

    /// Whether system calls are watched by tracepoints, the price of which every call of the host pays, once for all.
    fn calls_by_tracepoint(&self) -> bool {
        let calls = self.ladder.iter().find(|outcome| outcome.signal == CALLS_SIGNAL);
        calls.is_some_and(|outcome| outcome.rung == Some(Rung::Classic))
    }

    /// A tracepoint's event is closed with those of the other system calls: that takes a while.
    fn hook_opens_exit(&mut self) -> Result<(), String> {
        let tracefs =
            Tracefs::open_at(self.tracefs.as_deref()).map_err(|why| format!("tracefs can't be had: {why}"))?;
        let program = self.tracepoint_program(OPENS_EXIT)?;
        let event = tracefs
            .id("syscalls", "sys_exit_openat")
            .and_then(|id| perf::tracepoint(id, program))
            .map_err(|why| why.to_string())?;
        self.links.push((CALLS_SIGNAL, Box::new(event)));
        Ok(())
    }

    fn texts(&mut self) -> Result<Texts, String> {
        self.overlay_texts.get_or_insert_with(texts).clone()
    }

    fn hook_tracepoint(&mut self, name: &str, tracepoint: &str, btf: &Btf) -> Result<Box<dyn Any>, ProgramError> {
        let program = self.ebpf.program_mut(name).ok_or(ProgramError::NotLoaded)?;
        let program: &mut BtfTracePoint = program.try_into()?;
        program.load(tracepoint, btf)?;
        let id = program.attach()?;
        Ok(Box::new(program.take_link(id)?))
    }

    fn bracket_copy_ups(&mut self, probe: &'static Probe) -> Result<String, String> {
        let mut links: Vec<Box<dyn Any>> = Vec::new();
        for (name, function) in BRACKETS {
            links.push(self.hook_breakpoint(name, function)?);
        }
        self.set_control(control::COPY_UP_BRACKETED, 1)
            .map_err(|why| chain(&why))?;
        self.links.extend(links.into_iter().map(|link| (probe.program, link)));
        Ok(String::new())
    }

    fn recognize_copy_ups(&mut self, probe: &'static Probe, btf: &Btf) -> Result<String, String> {
        let [through, ..] = self.texts()?;
        let (from, to) = through.ok_or("the overlay file system is not loaded")?;
        self.set_control(control::COPY_UP_FROM, from)
            .and_then(|()| self.set_control(control::COPY_UP_TO, to))
            .map_err(|why| chain(&why))?;
        match self.hook_tracepoint(MADE.0, MADE.1, btf) {
            Ok(link) => {
                self.links.push((probe.program, link));
                Ok(String::new())
            }
            // What has contents is still recognized.
            Err(why) => Ok(format!("without what has no contents: {}", refusal(&why))),
        }
    }
}

/// Where the code of these kernel functions lies: address, and that of what comes next; `None` of one that there is not.
/// Compilers may have put something like `.isra.0` behind a name.
pub(super) type Texts = [Option<(u64, u64)>; FUNCTIONS.len()];

fn texts() -> Result<Texts, String> {
    let unreadable = |why: std::io::Error| format!("/proc/kallsyms can't be read: {why}");
    let symbols = File::open("/proc/kallsyms").map_err(unreadable)?;
    let mut addresses = Vec::new();
    let mut found = [None; FUNCTIONS.len()];
    for line in BufReader::new(symbols).lines() {
        let line = line.map_err(unreadable)?;
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(kind), Some(name)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address, 16) else {
            continue;
        };
        if !kind.eq_ignore_ascii_case("t") {
            continue;
        }
        addresses.push(address);
        let (base, part) = name.split_once('.').unwrap_or((name, ""));
        let at = FUNCTIONS.iter().position(|function| *function == base);
        if let Some(at) = at.filter(|_| !part.contains("cold")) {
            found[at] = Some(address);
        }
    }
    let mut texts = Texts::default();
    for (text, from) in texts.iter_mut().zip(found) {
        let Some(from) = from else { continue };
        let next = addresses.iter().copied().filter(|address| *address > from).min();
        match next {
            Some(to) if from != 0 => *text = Some((from, to)),
            _ => return Err("/proc/kallsyms hides addresses (kernel.kptr_restrict)".to_owned()),
        }
    }
    Ok(texts)
}

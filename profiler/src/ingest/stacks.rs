//! Everything that turns a task's addresses into a recorded stack: address spaces, files, names.

use std::path::PathBuf;

use crate::{
    control::unwind::{Found, Tables},
    ingest::{
        code::{self, Makers},
        frames::{Interner, RawStack, Sources},
        mappings::{Map, MappingEvent, What},
        spaces::Spaces,
    },
    kernel::host,
    load::unwind::UnwindMaps,
    lookup::{binaries::Binaries, locate::Sighting},
    recording::record::{Parsing, Record, Syscall},
    symbol::kernel::{Kernel, KernelError},
    symbol::unwind::walk::{Code, NotYet, Piece, walk},
};
use profiler_common::{container::call, unwind::FileKey};

/// See the module.
pub struct Stacks {
    spaces: Spaces,
    binaries: Binaries,
    interner: Interner,
    code: Makers,
    kernel: Option<Kernel>,
    kernel_refused: u64,
}

/// Frames of a program and of what calls it, at most: the program itself, which may have no name, and functions of
/// `kernel/trace/bpf_trace.c` and `include/trace/bpf_probe.h` and the tracepoint's own, where they are not inlined.
const HOOK_FRAMES: usize = 5;

/// See [`Stacks::below_hook`].
fn below_hook(frames: &[u64], name: impl Fn(u64) -> Option<String>) -> &[u64] {
    let is_hook = |address: &u64| {
        let name = name(*address).unwrap_or_default();
        ["bpf_trace_run", "__bpf_trace_", "__traceiter_"]
            .iter()
            .any(|hook| name.starts_with(hook))
    };
    let last = frames.iter().take(HOOK_FRAMES).rposition(is_hook);
    last.map_or(frames, |last| &frames[last + 1..])
}

impl Stacks {
    /// Without kernel symbols, frames of the kernel are recorded as addresses, and that is a named loss.
    pub fn new(kernel: Result<Kernel, KernelError>) -> Stacks {
        let kernel = kernel
            .inspect_err(|why| tracing::warn!("kernel frames have no names: {why}"))
            .ok();
        Stacks {
            spaces: Spaces::default(),
            binaries: Binaries::new(),
            interner: Interner::default(),
            code: Makers::default(),
            kernel_refused: u64::from(kernel.is_none()),
            kernel,
        }
    }

    /// A kernel stack, leaf first, without the frames of the tracepoint's program that took it.
    pub fn below_hook<'a>(&self, frames: &'a [u64]) -> &'a [u64] {
        match &self.kernel {
            Some(kernel) => below_hook(frames, |address| kernel.name(address).map(|(name, _)| name)),
            None => frames,
        }
    }

    /// Makes unwind tables for the kernel from here on.
    pub fn unwind_by(&mut self, maps: Option<UnwindMaps>) {
        self.binaries.unwind_by(Tables::new(maps));
    }

    /// Takes in the tables that were made meanwhile.
    pub fn poll(&mut self) {
        self.binaries.take_answers();
        self.binaries.unwind_mut().poll();
    }

    /// The kernel's walk at `address` has missed the table of the file there, which it calls `key`.
    pub fn missed(&mut self, tgid: u32, address: u64, key: FileKey) {
        if let Some((file, _)) = self.spaces.resolve(tgid, address) {
            self.binaries.unwind_mut().link(key, file);
        }
    }

    /// Goes on with a walk in `spaces`, or in the process' space of now.
    ///
    /// # Errors
    ///
    /// A table that it needs is on its way.
    pub fn walk(&self, piece: &Piece, spaces: Option<&Spaces>, frames: &mut Vec<u64>) -> Result<u8, NotYet> {
        let spaces = spaces.unwrap_or(&self.spaces);
        let tgid = piece.head.header.tgid;
        walk(piece, frames, |address| match spaces.resolve(tgid, address) {
            None => Code::Unmapped,
            Some((file, offset)) => match self.binaries.unwind().find(file) {
                Found::Table(table) => Code::File(table, offset),
                Found::Later => Code::Later,
                Found::Nothing => Code::FramePointers,
            },
        })
    }

    /// The process' mappings as they are now.
    pub fn snapshot(&self, tgid: u32) -> Spaces {
        self.spaces.snapshot(tgid)
    }

    /// Learns the executable mappings of a process that is there already. One that has ended meanwhile has none.
    pub fn seed(&mut self, tgid: u32) {
        let Stacks {
            spaces, binaries, code, ..
        } = self;
        binaries.learn_mounts(tgid);
        let ts = host::monotonic_ns();
        let seeded = spaces.seed(tgid, |map| match code::is_made(map) {
            true => code.of(tgid, 0, binaries),
            false => binaries.see(&Sighting {
                ts,
                pid: tgid,
                mnt_ns: 0,
                map: *map,
            }),
        });
        if let Err(why) = seeded {
            tracing::debug!("mappings of process {tgid}: {why}");
        }
    }

    /// Takes in what happened to an address space.
    pub fn mapping(&mut self, event: &MappingEvent<'_>, mnt_ns: u32) {
        match &event.what {
            What::Exec => {
                let naming = self.interner.naming();
                self.code.end(event.pid, &self.spaces, &mut self.binaries, naming);
                self.spaces.exec(event.pid);
            }
            What::Map(map) if code::is_made(map) => {
                let file = self.code.of(event.pid, mnt_ns, &mut self.binaries);
                // Offsets in it are addresses.
                let map = Map {
                    pgoff: map.start,
                    ..*map
                };
                self.spaces.map(event.pid, &map, file);
            }
            What::Map(map) => {
                let file = self.binaries.see(&Sighting {
                    ts: event.ts,
                    pid: event.pid,
                    mnt_ns,
                    map: *map,
                });
                self.spaces.map(event.pid, map, file);
            }
        }
    }

    /// A process got a copy of its parent's address space.
    pub fn fork(&mut self, parent: u32, child: u32) {
        self.spaces.fork(parent, child);
    }

    /// A process knows itself as `pid`, in its pid namespace.
    pub fn process(&mut self, tgid: u32, pid: u32) {
        self.code.process(tgid, pid);
    }

    /// A process runs a new image whose mappings are not known.
    pub fn exec(&mut self, tgid: u32) {
        let naming = self.interner.naming();
        self.code.end(tgid, &self.spaces, &mut self.binaries, naming);
        self.spaces.exec(tgid);
    }

    /// A process ended.
    pub fn exit(&mut self, tgid: u32) {
        let naming = self.interner.naming();
        self.code.exit(tgid, &self.spaces, &mut self.binaries, naming);
        self.spaces.exit(tgid);
    }

    /// An overlay mount tells where its files can be read from without touching it.
    pub fn syscall(&mut self, call: &Syscall) {
        if call.call == call::MOUNT && call.result == 0 && call.c == b"overlay" {
            self.binaries.note_overlay(call.at.mnt_ns, &call.b, &call.d);
        }
    }

    /// The stack's number; what it needs and was not recorded yet is appended to `out`. 0: no stack.
    pub fn record(&mut self, raw: &RawStack<'_>, out: &mut Vec<Record>) -> u32 {
        self.record_in(raw, None, out)
    }

    /// As [`Stacks::record`], in the mappings of an earlier time.
    pub fn record_in(&mut self, raw: &RawStack<'_>, spaces: Option<&Spaces>, out: &mut Vec<Record>) -> u32 {
        let mut sources = Sources {
            spaces: spaces.unwrap_or(&self.spaces),
            binaries: &mut self.binaries,
            kernel: self.kernel.as_ref(),
        };
        self.interner.stack(raw, &mut sources, out)
    }

    /// Records the names that have come since the last time.
    pub fn name(&mut self, out: &mut Vec<Record>) {
        self.interner.naming().poll(&mut self.binaries, out);
    }

    /// Waits for all names that are still to come.
    pub fn symbolize(&mut self, out: &mut Vec<Record>) {
        let Stacks {
            spaces,
            binaries,
            interner,
            code,
            ..
        } = self;
        code.end_all(spaces, binaries, interner.naming());
        interner.naming().finish(binaries, out);
        if self.kernel.is_some() && self.interner.has_unnamed_kernel_frames() {
            // Of modules and BPF programs that came while it was recorded.
            if let Ok(kernel) = Kernel::open() {
                self.interner.name_kernel_frames(&kernel, out);
            }
        }
    }

    /// See [`Binaries::set_debug_folders`].
    pub fn set_debug_folders(&mut self, folders: Vec<PathBuf>) {
        self.binaries.set_debug_folders(folders);
    }

    /// Starts the process that reads files.
    pub fn start_parser(&mut self) {
        self.binaries.start_parser();
    }

    /// Ends the process that reads files, and says what that took.
    pub fn close_parser(&mut self) -> Parsing {
        let cost = self.binaries.close();
        Parsing {
            user_ns: cost.user_ns,
            system_ns: cost.system_ns,
            peak_rss_bytes: cost.peak_rss_bytes,
            jobs: cost.jobs,
            deaths: cost.deaths,
            debug_files: self.binaries.debug_files(),
        }
    }

    /// Every cause of a missing name, with its count.
    pub fn losses(&self) -> Vec<(String, u64)> {
        let mut losses = self.binaries.losses();
        losses.extend(self.interner.losses());
        if self.spaces.refused() > 0 {
            losses.push(("mappings not kept: too many".to_owned(), self.spaces.refused()));
        }
        if self.code.without_map() > 0 {
            losses.push((
                "processes whose just-in-time code has no names: no perf map was found".to_owned(),
                self.code.without_map(),
            ));
        }
        if let Some(kept) = self.binaries.kept_privileges() {
            losses.push((
                format!("privileges that the parser of files could not give up ({kept})"),
                1,
            ));
        }
        if self.kernel_refused > 0 {
            losses.push(("kernel symbols not to be had".to_owned(), self.kernel_refused));
        }
        losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that what took a stack is no part of it, however much of it is inlined, and that nothing else is left out.
    #[test]
    fn without_the_hook() {
        let name = |address: u64| {
            let names = ["", "bpf_trace_run1", "__traceiter_x", "__filemap_add_folio", "vfs_read"];
            names
                .get(address as usize)
                .filter(|name| !name.is_empty())
                .map(|name| (*name).to_owned())
        };
        assert_eq!(below_hook(&[0, 1, 3, 4], name), [3, 4]);
        assert_eq!(below_hook(&[0, 1, 2, 3, 4], name), [3, 4]);
        assert_eq!(below_hook(&[0, 3, 4], name), [0, 3, 4]);
        assert_eq!(below_hook(&[3, 4, 4, 4, 4, 1, 3], name), [3, 4, 4, 4, 4, 1, 3]);
        assert_eq!(below_hook(&[0, 1], name), [0_u64; 0]);
        assert_eq!(below_hook(&[], name), [0_u64; 0]);
    }
}

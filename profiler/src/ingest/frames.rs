//! From addresses to numbered frames and stacks, each recorded once, before its first use.
//!
//! A caller's address is where it goes on after its call: one byte further can be another function (a call that
//! never returns is the last of its own). So of each list of addresses the first, the leaf, is recorded as it is and
//! the others minus one: what a [`Place`] holds is always what is looked up.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};

use crate::ingest::naming::Naming;
use crate::ingest::spaces::Spaces;
use crate::lookup::binaries::{Binaries, FileIx};
use crate::recording::record::{File, Frame, Place, Record, Stack, StackEnd, Symbol};
use crate::symbol::kernel::Kernel;

/// Most frames of a recording, about 60 bytes each; real builds have 10,000. Walks of frame pointers in code that has
/// none give chance addresses, as many as samples.
const MAX_FRAMES: usize = 1 << 18;
/// Most stacks of a recording, about 40 bytes each.
const MAX_STACKS: usize = 1 << 19;
/// Most raw stacks remembered with their number; beyond it all are forgotten, which costs time only.
const MAX_RAW: usize = 1 << 16;

/// Most kernel frames without a name that are looked up again.
const MAX_UNNAMED: usize = 4096;

/// Stands for the rest of a user stack whose next address is in no executable mapping: frame pointers were followed
/// through code that keeps none.
const BROKEN: Place = Place::Unmapped(0);

/// What addresses are looked up in.
pub struct Sources<'a> {
    /// As they were at the stack's time.
    pub spaces: &'a Spaces,
    pub binaries: &'a mut Binaries,
    /// `None` when kernel symbols can't be had.
    pub kernel: Option<&'a Kernel>,
}

/// A stack as the kernel gave it: addresses, leaf first.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawStack<'a> {
    pub tgid: u32,
    pub kernel: &'a [u64],
    pub user: &'a [u64],
    /// As in [`Stack::user_error`].
    pub user_error: i16,
    /// Why the user frames end where they do ([`profiler_common::unwind::end`]), 0 where nothing tells.
    pub end: u8,
}

/// Numbers frames, files and stacks.
#[derive(Debug, Default)]
pub struct Interner {
    frames: HashMap<Place, u32>,
    /// By a 128-bit keyed hash instead of the content: among 500,000 stacks two share one with a chance of 2^-90.
    stacks: HashMap<u128, u32>,
    raw: HashMap<u128, u32>,
    keys: [RandomState; 2],
    naming: Naming,
    unnamed_kernel: Vec<(u32, u64)>,
    scratch: Vec<u32>,
    refused_frames: u64,
    refused_stacks: u64,
}

impl Interner {
    /// The stack's number, from 1. What it needs and was not recorded yet is appended to `out`. 0 for a stack without
    /// frames and without an error, and when there are too many stacks (see [`Interner::losses`]).
    pub fn stack(&mut self, raw: &RawStack<'_>, sources: &mut Sources<'_>, out: &mut Vec<Record>) -> u32 {
        if raw.kernel.is_empty() && raw.user.is_empty() && raw.user_error == 0 && raw.end == 0 {
            return 0;
        }
        // Equal user addresses mean the same only in address spaces of equal content.
        let space = if raw.user.is_empty() {
            0
        } else {
            sources.spaces.version(raw.tgid)
        };
        let raw_key = self.hash(&(space, raw.kernel, raw.user, raw.user_error, raw.end));
        if let Some(&id) = self.raw.get(&raw_key) {
            return id;
        }
        let id = self.resolve(raw, sources, out);
        if self.raw.len() >= MAX_RAW {
            self.raw.clear();
        }
        self.raw.insert(raw_key, id);
        id
    }

    /// The names of user frames, which come when their files have been read.
    pub fn naming(&mut self) -> &mut Naming {
        &mut self.naming
    }

    /// Whether there are addresses of the kernel that had no name.
    pub fn has_unnamed_kernel_frames(&self) -> bool {
        !self.unnamed_kernel.is_empty()
    }

    /// Names kernel frames that had no name before.
    pub fn name_kernel_frames(&mut self, kernel: &Kernel, out: &mut Vec<Record>) {
        let unnamed = std::mem::take(&mut self.unnamed_kernel);
        out.extend(
            unnamed
                .into_iter()
                .filter_map(|(id, address)| kernel_symbol(kernel, id, address)),
        );
    }

    /// What was not kept, for want of room.
    pub fn losses(&self) -> Vec<(String, u64)> {
        [
            ("frames shown as [broken]: too many frames", self.refused_frames),
            ("stacks not kept: too many stacks", self.refused_stacks),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_string(), count))
        .chain(self.naming.losses())
        .collect()
    }

    fn resolve(&mut self, raw: &RawStack<'_>, sources: &mut Sources<'_>, out: &mut Vec<Record>) -> u32 {
        let mut frames = std::mem::take(&mut self.scratch);
        frames.clear();
        for address in looked_up(raw.kernel) {
            frames.push(self.frame(Place::Kernel(address), None, sources, out));
        }
        let kernel = u16::try_from(frames.len()).unwrap_or(u16::MAX);
        for (index, address) in looked_up(raw.user).enumerate() {
            let frame = match sources.spaces.resolve(raw.tgid, address) {
                Some((ix, offset)) => {
                    let file = self.file(ix, sources.binaries, out);
                    self.frame(Place::File { file, offset }, Some(ix), sources, out)
                }
                None if index == 0 => self.frame(Place::Unmapped(address), None, sources, out),
                // The walk has left the code: whatever it found further up is chance.
                None => {
                    frames.push(self.frame(BROKEN, None, sources, out));
                    break;
                }
            };
            frames.push(frame);
        }
        let id = self.known_stack(kernel, &frames, raw, out);
        self.scratch = frames;
        id
    }

    fn known_stack(&mut self, kernel: u16, frames: &[u32], raw: &RawStack<'_>, out: &mut Vec<Record>) -> u32 {
        let key = self.hash(&(kernel, frames, raw.user_error, raw.end));
        if let Some(&id) = self.stacks.get(&key) {
            return id;
        }
        if self.stacks.len() >= MAX_STACKS {
            self.refused_stacks += 1;
            return 0;
        }
        let id = next_id(self.stacks.len());
        self.stacks.insert(key, id);
        out.push(
            Stack {
                id,
                kernel,
                frames: frames.to_vec(),
                user_error: raw.user_error,
            }
            .into(),
        );
        if raw.end != 0 {
            let end = raw.end;
            out.push(StackEnd { stack: id, end }.into());
        }
        id
    }

    fn frame(&mut self, place: Place, file: Option<FileIx>, sources: &mut Sources<'_>, out: &mut Vec<Record>) -> u32 {
        if let Some(&id) = self.frames.get(&place) {
            return id;
        }
        let place = if self.frames.len() < MAX_FRAMES {
            place
        } else {
            self.refused_frames += 1;
            BROKEN
        };
        if let Some(&id) = self.frames.get(&place) {
            return id;
        }
        let id = next_id(self.frames.len());
        self.frames.insert(place, id);
        out.push(Frame { id, place }.into());
        match (place, file) {
            (Place::Kernel(address), _) => {
                let symbol = sources.kernel.and_then(|kernel| kernel_symbol(kernel, id, address));
                match symbol {
                    Some(symbol) => out.push(symbol),
                    None if self.unnamed_kernel.len() < MAX_UNNAMED => self.unnamed_kernel.push((id, address)),
                    None => {}
                }
            }
            (Place::File { offset, .. }, Some(file)) => self.naming.want(id, file, offset),
            _ => {}
        }
        id
    }

    fn file(&mut self, ix: FileIx, binaries: &Binaries, out: &mut Vec<Record>) -> u32 {
        // Files have few numbers: they are bounded where they are made.
        let id = ix.0 + 1;
        let at = out.len();
        if self.naming.recorded(ix, binaries, out)
            && let Some(binary) = binaries.file(ix)
        {
            let build_id = binaries.image(ix).map(|image| image.build_id.clone());
            let file = File {
                id,
                path: binary.path.clone(),
                dev: binary.key.dev,
                ino: binary.key.ino,
                generation: binary.key.generation,
                build_id: build_id.unwrap_or_default(),
            };
            out.insert(at, file.into());
        }
        id
    }

    fn hash<T: Hash>(&self, value: &T) -> u128 {
        let [low, high] = &self.keys;
        u128::from(high.hash_one(value)) << 64 | u128::from(low.hash_one(value))
    }
}

fn kernel_symbol(kernel: &Kernel, frame: u32, address: u64) -> Option<Record> {
    let (name, offset) = kernel.name(address)?;
    let name = name.into_bytes();
    Some(Symbol { frame, name, offset }.into())
}

/// Numbers begin at 1; the bounds above keep them far below `u32::MAX`.
fn next_id(len: usize) -> u32 {
    u32::try_from(len + 1).unwrap_or(u32::MAX)
}

fn looked_up(addresses: &[u64]) -> impl Iterator<Item = u64> {
    addresses.iter().enumerate().map(|(index, address)| {
        if index == 0 {
            *address
        } else {
            address.saturating_sub(1)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::mappings::Map;
    use crate::lookup::elf::{Image, Segment};
    use crate::lookup::locate::Sighting;
    use crate::symbol::table::{Builder, Rank};

    struct World {
        spaces: Spaces,
        binaries: Binaries,
        interner: Interner,
        file: FileIx,
    }

    fn world() -> World {
        let mut binaries = Binaries::new();
        let map = Map {
            start: 0x1000,
            end: 0x9000,
            pgoff: 0,
            dev: 9,
            ino: 9,
            generation: 9,
            path: b"/no/such/file",
        };
        let file = binaries
            .see(&Sighting {
                ts: 0,
                pid: 0,
                mnt_ns: 0,
                map,
            })
            .unwrap();
        let mut spaces = Spaces::default();
        spaces.map(1, &map, Some(file));
        World {
            spaces,
            binaries,
            interner: Interner::default(),
            file,
        }
    }

    fn image() -> Image {
        let mut table = Builder::default();
        table.add(0x100, 0x10, Rank::Global, b"caller");
        table.add(0x110, 0x10, Rank::Global, b"leaf");
        let segments = vec![Segment {
            offset: 0,
            size: 0x8000,
            address: 0,
        }];
        Image {
            segments,
            table: table.finish(),
            ..Image::default()
        }
    }

    impl World {
        fn stack(&mut self, tgid: u32, kernel: &[u64], user: &[u64], out: &mut Vec<Record>) -> u32 {
            let mut sources = Sources {
                spaces: &self.spaces,
                binaries: &mut self.binaries,
                kernel: None,
            };
            self.interner.stack(
                &RawStack {
                    tgid,
                    kernel,
                    user,
                    user_error: 0,
                    end: 0,
                },
                &mut sources,
                out,
            )
        }
    }

    fn names(out: &[Record]) -> Vec<String> {
        out.iter()
            .filter_map(|record| match record {
                Record::Symbol(symbol) => Some(format!("{}+{}", String::from_utf8_lossy(&symbol.name), symbol.offset)),
                _ => None,
            })
            .collect()
    }

    /// Make sure that the leaf is named by its own address and a caller by the byte before its return address.
    #[test]
    fn callers_minus_one() {
        let mut world = world();
        world.binaries.user().insert(world.file, image());
        let mut out = Vec::new();
        // The call is the caller's last instruction: the return address is the next function's first byte.
        assert_eq!(world.stack(1, &[], &[0x1110, 0x1110], &mut out), 1);
        world.interner.naming().poll(&mut world.binaries, &mut out);
        assert_eq!(names(&out), ["leaf+0", "caller+15"]);
    }

    /// Make sure that everything is recorded before it is referred to, and once only.
    #[test]
    fn recorded_once_in_order() {
        let mut world = world();
        let mut out = Vec::new();
        let first = world.stack(1, &[0xffff_0000], &[0x1110, 0x1210], &mut out);
        let kinds: Vec<_> = out.iter().map(Record::kind).collect();
        assert_eq!(kinds, [21, 20, 21, 21, 22]);
        let before = out.len();
        assert_eq!(world.stack(1, &[0xffff_0000], &[0x1110, 0x1210], &mut out), first);
        assert_eq!(out.len(), before);
        // The same places, reached by another address space of the same file.
        let map = Map {
            start: 0x2000,
            end: 0xa000,
            pgoff: 0,
            dev: 9,
            ino: 9,
            generation: 9,
            path: b"/no/such/file",
        };
        world.spaces.map(2, &map, Some(world.file));
        assert_eq!(world.stack(2, &[0xffff_0000], &[0x2110, 0x2210], &mut out), first);
        assert_eq!(out.len(), before);
        assert_eq!(world.stack(1, &[], &[], &mut out), 0);
    }

    /// Make sure that a changed address space is not answered from memory.
    #[test]
    fn changed_space() {
        let mut world = world();
        let mut out = Vec::new();
        let first = world.stack(1, &[], &[0x1110], &mut out);
        world.spaces.exec(1);
        let second = world.stack(1, &[], &[0x1110], &mut out);
        assert_ne!(first, second);
        let unmapped = Record::Frame(Frame {
            id: 2,
            place: Place::Unmapped(0x1110),
        });
        assert!(out.contains(&unmapped));
    }

    /// Make sure that a file found late still names its frames at the end, and each once.
    #[test]
    fn late_names() {
        let mut world = world();
        let mut out = Vec::new();
        world.stack(1, &[], &[0x1110, 0x1110], &mut out);
        world.interner.naming().poll(&mut world.binaries, &mut out);
        assert!(names(&out).is_empty());
        world.binaries.user().insert(world.file, image());
        world.interner.naming().finish(&mut world.binaries, &mut out);
        assert_eq!(names(&out), ["leaf+0", "caller+15"]);
        let before = out.len();
        world.interner.naming().finish(&mut world.binaries, &mut out);
        assert_eq!(out.len(), before);
    }
}

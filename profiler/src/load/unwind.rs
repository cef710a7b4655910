//! The unwinding programs' chains and maps.

use aya::Btf;
use aya::Pod;
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use profiler_common::{
    kernel::{ABSENT, Offsets},
    unwind::{BLOCK_BYTES, BLOCK_ROWS, FileKey, FileTable, Rule},
};

use super::{
    Loaded,
    error::{chain, refusal},
    ladder::load,
    registry::{Attach, Rung},
};

/// A program that others go on in, the array through which they call it, and its place there.
type Link = (&'static str, &'static str, u32);
/// Programs that others go on in, and the rung that all of them are on.
pub(super) type Chain = (&'static [Link], Rung);

/// The program that begins to unwind at a sample.
pub(super) const CPU: &str = "cpu_unwind";
/// The program that begins to unwind at a switch.
pub(super) const WAIT: &str = "wait_unwind";
pub(super) const CPU_CHAIN: Chain = (&[("cpu_unwind_more", "CPU_MORE", 0)], Rung::Unwind);
pub(super) const WAIT_CHAIN: Chain = (
    &[("wait_unwind_more", "WAIT_MORE", 1), (WAIT, "WAIT_MORE", 0)],
    Rung::TpBtf,
);
/// What the programs of a chain hang on, those of waits by their type.
pub(super) const TAIL: Attach = Attach::Tail("sched_switch");

/// Whether the kernel tells what the programs need to find a process's mappings and registers.
pub(super) fn possible(offsets: &Offsets) -> bool {
    let needed = [
        offsets.vma_start,
        offsets.vma_end,
        offsets.vma_flags,
        offsets.vma_pgoff,
        offsets.vma_file,
        offsets.file_inode,
        offsets.inode_ino,
        offsets.inode_sb,
        offsets.super_block_dev,
        offsets.inode_mtime,
        offsets.task_mm,
        offsets.task_stack,
    ];
    let tree = offsets.mm_mt_root != ABSENT
        || [offsets.mm_rb, offsets.vma_rb, offsets.rb_left, offsets.rb_right]
            .iter()
            .all(|offset| *offset != ABSENT);
    cfg!(target_arch = "x86_64") && tree && needed.iter().all(|offset| *offset != ABSENT)
}

/// Number of blocks for tables: a 512th of the memory, 8 to 64 MiB. The largest compilers have 2 MiB, most programs
/// less than 100 KiB.
pub(super) fn blocks() -> u32 {
    const LEAST: u64 = 8 << 20;
    const MOST: u64 = 64 << 20;
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    });
    let bytes = (memory.unwrap_or(0).saturating_mul(1024) / 512).clamp(LEAST, MOST);
    (bytes / BLOCK_BYTES as u64) as u32
}

/// Wraps a type of the contract for aya.
#[repr(transparent)]
#[derive(Clone, Copy, Debug)]
pub struct Shared<T: Copy>(pub T);
// SAFETY: `FileKey`, `FileTable` and `Rule` are repr(C), integers, without implicit padding (their layout is asserted).
unsafe impl Pod for Shared<FileKey> {}
// SAFETY: as above.
unsafe impl Pod for Shared<FileTable> {}
// SAFETY: as above.
unsafe impl Pod for Shared<Rule> {}

/// What the unwinding programs go by.
pub struct UnwindMaps {
    pub files: HashMap<MapData, Shared<FileKey>, Shared<FileTable>>,
    pub blocks: Array<MapData, [u32; BLOCK_ROWS]>,
    pub rules: Array<MapData, Shared<Rule>>,
}

impl Loaded {
    /// Loads what programs go on in and tells them so.
    pub(super) fn chain(&mut self, (links, rung): Chain, btf: &Btf) -> Result<(), String> {
        for (name, array, index) in links {
            let program = self.ebpf.program_mut(name).ok_or("no such program")?;
            if program.fd().is_err() {
                let loaded = load(program, rung, TAIL, btf).ok_or("no such rung")?;
                loaded.map_err(|why| refusal(&why))?;
            }
            let fd = program.fd().and_then(|fd| fd.try_clone().map_err(Into::into));
            let fd = fd.map_err(|why| chain(&why))?;
            let map = self.ebpf.map_mut(array).ok_or("no such map")?;
            ProgramArray::try_from(map)
                .and_then(|mut map| map.set(*index, &fd, 0))
                .map_err(|why| chain(&why))?;
        }
        Ok(())
    }

    /// The maps of the unwinding programs, once; `None` where none of them could be loaded.
    pub fn take_unwind(&mut self) -> Option<UnwindMaps> {
        let loaded = |name: &str| self.ebpf.program(name).is_some_and(|program| program.fd().is_ok());
        if !loaded(CPU) && !loaded(WAIT) {
            return None;
        }
        Some(UnwindMaps {
            files: HashMap::try_from(self.ebpf.take_map("UNWIND_FILES")?).ok()?,
            blocks: Array::try_from(self.ebpf.take_map("UNWIND_BLOCKS")?).ok()?,
            rules: Array::try_from(self.ebpf.take_map("UNWIND_RULES")?).ok()?,
        })
    }
}

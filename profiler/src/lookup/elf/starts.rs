//! Where functions begin, for those that have no name.

use object::elf;

use super::headers::Headers;
use super::{ElfError, Source};
use crate::symbol::table::{Builder, Rank};

/// Largest table read, bytes: 8 for each function.
const MAX_HEADER: u64 = 32 << 20;
/// The encodings that every linker writes (`DW_EH_PE_*` of the Linux Standard Base): pointer to `.eh_frame` relative to
/// its place (4 bytes, signed), count absolute (4 bytes), table relative to the header (4 bytes, signed).
const ENCODINGS: [u8; 4] = [1, 0x1b, 0x03, 0x3b];

/// Adds the starts that `.eh_frame_hdr` lists, nameless, each up to the next.
pub(super) fn add<S: Source + ?Sized>(file: &Headers<'_, S>, builder: &mut Builder) -> Result<(), ElfError> {
    let Some(header) = file.parts.iter().find(|part| part.kind == elf::PT_GNU_EH_FRAME) else {
        return Ok(());
    };
    let bytes = file.bytes(header.offset, header.size, MAX_HEADER)?;
    if bytes.get(..4) != Some(&ENCODINGS) || file.endian != object::Endianness::Little {
        return Ok(());
    }
    let word = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let count = word(8).unwrap_or(0) as u32 as usize;
    let mut starts: Vec<u64> = (0..count)
        .map_while(|index| word(12 + index * 8))
        .map(|relative| header.address.wrapping_add_signed(relative.into()))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    for part in file
        .parts
        .iter()
        .filter(|part| part.executable && part.kind == elf::PT_LOAD)
    {
        let end = part.address.saturating_add(part.size);
        let first = starts.partition_point(|start| *start < part.address);
        let last = starts.partition_point(|start| *start < end);
        let within = starts.get(first..last).unwrap_or_default();
        for (index, start) in within.iter().enumerate() {
            let next = within.get(index + 1).copied().unwrap_or(end);
            builder.add(*start, next - start, Rank::Nameless, b"");
        }
    }
    Ok(())
}

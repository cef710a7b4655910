//! Go's own table of functions, the "pclntab": its runtime needs it, so `strip` leaves it.
//!
//! Layouts: [1.2](https://go.dev/s/go12symtab), 1.16, 1.18 and 1.20, as `debug/gosym/pclntab.go` of Go's library reads
//! them; the magic number tells which. The table lies in a section of its own, or, in a position-independent program,
//! within `.data.rel.ro`, where its pointers are zero until the loader has relocated them.

use object::elf;

use super::headers::{Headers, Section};
use super::{ElfError, MAX_BUILDER, Source};
use crate::symbol::table::{Builder, MAX_RAW_NAME, Rank};

/// Largest table, bytes. That of `dockerd` (75 MB) has 20 MB, that of a Kubernetes in one binary 40 MB.
const MAX_TABLE: u64 = 128 << 20;
/// Largest list of relocations looked through, bytes.
const MAX_RELOCATIONS: u64 = 256 << 20;
/// Bytes read at a time while searching; relocations (24 bytes) fit in whole.
const CHUNK: u64 = 24 << 13;
/// The table begins at a multiple of this.
const ALIGN: usize = 8;

const R_X86_64_RELATIVE: u64 = 8;
const R_AARCH64_RELATIVE: u64 = 1027;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Layout {
    Go12,
    Go116,
    /// 1.18 and 1.20 differ in what comes behind a function's name.
    Go118,
}

/// Adds the functions of a Go program. Nothing in the file that isn't one.
pub(super) fn add<S: Source + ?Sized>(file: &Headers<'_, S>, builder: &mut Builder) -> Result<(), ElfError> {
    if file.endian != object::Endianness::Little {
        return Ok(());
    }
    let Some((mut table, address)) = find(file)? else {
        return Ok(());
    };
    relocate(file, &mut table, address)?;
    // Not known where the program is linked otherwise (1.26 leaves the field empty): the beginning of the code.
    let text = file.section(b".text").map_or(0, |section| section.address);
    read(&table, text, builder)
}

/// The table's bytes, from its magic number to the end of what can be it, and their address.
fn find<S: Source + ?Sized>(file: &Headers<'_, S>) -> Result<Option<(Vec<u8>, u64)>, ElfError> {
    for name in [&b".gopclntab"[..], b".data.rel.ro.gopclntab"] {
        if let Some(section) = file.section(name) {
            return Ok(Some((file.content(section, MAX_TABLE)?, section.address)));
        }
    }
    if file.section(b".go.buildinfo").is_none() && file.section(b".note.go.buildid").is_none() {
        return Ok(None);
    }
    let Some(section) = file.section(b".data.rel.ro") else {
        return Ok(None);
    };
    let Some(at) = search(file, section)? else {
        return Ok(None);
    };
    let len = (section.size - at).min(MAX_TABLE);
    let table = file.bytes(section.offset + at, len, MAX_TABLE)?;
    Ok(Some((table, section.address.wrapping_add(at))))
}

/// Where in a section the table begins.
fn search<S: Source + ?Sized>(file: &Headers<'_, S>, section: &Section) -> Result<Option<u64>, ElfError> {
    let mut at = 0;
    while at < section.size.min(MAX_TABLE) {
        let len = CHUNK.min(section.size - at);
        let offset = section.offset.checked_add(at).ok_or(ElfError::Malformed)?;
        let chunk = file.bytes(offset, len, CHUNK)?;
        let found = chunk.chunks_exact(ALIGN).position(|head| layout(head).is_some());
        if let Some(index) = found {
            return Ok(Some(at + (index * ALIGN) as u64));
        }
        at += len;
    }
    Ok(None)
}

/// By the first eight bytes: magic number, two zeros, the smallest instruction's length, a pointer's size.
fn layout(head: &[u8]) -> Option<Layout> {
    let [magic, 0xff, 0xff, 0xff, 0, 0, 1 | 2 | 4, 8] = head else {
        return None;
    };
    match magic {
        0xfb => Some(Layout::Go12),
        0xfa => Some(Layout::Go116),
        0xf0 | 0xf1 => Some(Layout::Go118),
        _ => None,
    }
}

/// Writes the addresses into the table that the loader would.
fn relocate<S: Source + ?Sized>(file: &Headers<'_, S>, table: &mut [u8], address: u64) -> Result<(), ElfError> {
    let relative = match file.machine {
        elf::EM_X86_64 => R_X86_64_RELATIVE,
        elf::EM_AARCH64 => R_AARCH64_RELATIVE,
        _ => return Ok(()),
    };
    let lists = file
        .sections
        .iter()
        .filter(|section| section.kind == elf::SHT_RELA && section.loaded);
    let mut budget = MAX_RELOCATIONS;
    for section in lists {
        let mut at = 0;
        while at < section.size && budget > 0 {
            let len = CHUNK.min(section.size - at);
            let offset = section.offset.checked_add(at).ok_or(ElfError::Malformed)?;
            let chunk = file.bytes(offset, len, CHUNK)?;
            for entry in chunk.chunks_exact(24) {
                let (place, info, addend) = (u64_at(entry, 0), u64_at(entry, 8), u64_at(entry, 16));
                let (Some(place), Some(info), Some(addend)) = (place, info, addend) else {
                    continue;
                };
                let to = place.checked_sub(address).and_then(|to| usize::try_from(to).ok());
                if info == relative
                    && let Some(to) = to.and_then(|to| table.get_mut(to..to.checked_add(8)?))
                {
                    to.copy_from_slice(&addend.to_le_bytes());
                }
            }
            (at, budget) = (at + len, budget.saturating_sub(len));
        }
    }
    Ok(())
}

fn read(table: &[u8], text: u64, builder: &mut Builder) -> Result<(), ElfError> {
    let Some(layout) = layout(table.get(..8).unwrap_or_default()) else {
        return Ok(());
    };
    let word = |index: usize| u64_at(table, 8 + index * 8);
    let field = |index: usize| word(index).ok_or(ElfError::Malformed);
    let part = |index: usize| -> Result<&[u8], ElfError> { Ok(table.get(offset(field(index)?)..).unwrap_or_default()) };
    // The functions' list, its entries' size, the functions' names, and what entries count from.
    let (list, wide, names, base) = match layout {
        Layout::Go12 => (table.get(16..).unwrap_or_default(), true, table, 0),
        Layout::Go116 => (part(6)?, true, part(2)?, 0),
        Layout::Go118 => {
            let base = match field(2)? {
                0 => text,
                start => start,
            };
            (part(7)?, false, part(3)?, base)
        }
    };
    // What a function's entry in the list points at counts from the list, or in 1.2 from the table.
    let functions = if layout == Layout::Go12 { table } else { list };
    let item = if wide { 16 } else { 8 };
    let count = usize::try_from(field(0)?).unwrap_or(usize::MAX).min(list.len() / item);
    let entry = |index: usize| -> Option<(u64, usize)> {
        let at = index * item;
        Some(if wide {
            (u64_at(list, at)?, offset(u64_at(list, at + 8)?))
        } else {
            let start = base.wrapping_add(u32_at(list, at)?.into());
            (start, u32_at(list, at + 4)? as usize)
        })
    };
    for index in 0..count {
        let Some((start, function)) = entry(index) else { break };
        // The list ends with the end of the last one.
        let end = match entry(index + 1) {
            Some((next, _)) => next,
            None if wide => u64_at(list, (index + 1) * item).unwrap_or(start),
            None => u32_at(list, (index + 1) * item).map_or(start, |end| base.wrapping_add(end.into())),
        };
        let name_at = function.saturating_add(if wide { 8 } else { 4 });
        let Some(name) = u32_at(functions, name_at) else {
            continue;
        };
        let name = names.get(name as usize..).unwrap_or_default();
        let name = name.get(..MAX_RAW_NAME).unwrap_or(name);
        builder.add(start, end.saturating_sub(start), Rank::Runtime, name);
        if builder.bytes() > MAX_BUILDER {
            return Err(ElfError::TooMany);
        }
    }
    Ok(())
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn offset(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two functions, `main.main` of 0x20 bytes and `main.init` of 0x10, in each layout.
    fn table(layout: Layout, start: u64) -> Vec<u8> {
        let magic = match layout {
            Layout::Go12 => 0xfb,
            Layout::Go116 => 0xfa,
            Layout::Go118 => 0xf1,
        };
        let mut out = vec![magic, 0xff, 0xff, 0xff, 0, 0, 1, 8];
        let names = b"main.main\0main.init\0";
        let push = |out: &mut Vec<u8>, value: u64| out.extend_from_slice(&value.to_le_bytes());
        match layout {
            Layout::Go12 => {
                push(&mut out, 2);
                for (entry, function) in [(start, 0x40), (start + 0x20, 0x50)] {
                    push(&mut out, entry);
                    push(&mut out, function);
                }
                push(&mut out, start + 0x30);
                out.resize(0x40, 0);
                for (entry, name) in [(start, 0x60u32), (start + 0x20, 0x6a)] {
                    push(&mut out, entry);
                    out.extend_from_slice(&name.to_le_bytes());
                    out.extend_from_slice(&[0; 4]);
                }
                out.extend_from_slice(names);
            }
            Layout::Go116 => {
                for word in [2, 0, 0x40, 0, 0, 0, 0x60] {
                    push(&mut out, word);
                }
                out.extend_from_slice(names);
                out.resize(0x60, 0);
                for word in [start, 0x28, start + 0x20, 0x38, start + 0x30] {
                    push(&mut out, word);
                }
                for (entry, name) in [(start, 0u32), (start + 0x20, 10)] {
                    push(&mut out, entry);
                    out.extend_from_slice(&name.to_le_bytes());
                    out.extend_from_slice(&[0; 4]);
                }
            }
            Layout::Go118 => {
                for word in [2, 0, start, 0x48, 0, 0, 0, 0x60] {
                    push(&mut out, word);
                }
                out.extend_from_slice(names);
                out.resize(0x60, 0);
                // The list, then each function's start and name, at 0x14 and 0x1c of it.
                for word in [0u32, 0x14, 0x20, 0x1c, 0x30, 0, 0, 0x20, 10] {
                    out.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        out
    }

    fn names(bytes: &[u8], text: u64, addresses: [u64; 3]) -> [Option<(String, u64)>; 3] {
        let mut builder = Builder::default();
        read(bytes, text, &mut builder).unwrap();
        let table = builder.finish();
        addresses.map(|address| {
            let found = table.find(address)?;
            Some((String::from_utf8(found.name).unwrap(), found.offset))
        })
    }

    /// Make sure that each layout gives names with their extent, also where the code's beginning is not told.
    #[test]
    fn layouts() {
        let expected = [
            Some(("main.main".to_owned(), 0x1f)),
            Some(("main.init".to_owned(), 0xf)),
            None,
        ];
        for layout in [Layout::Go12, Layout::Go116, Layout::Go118] {
            let addresses = [0x40_101f, 0x40_102f, 0x40_1030];
            assert_eq!(names(&table(layout, 0x40_1000), 0, addresses), expected, "{layout:?}");
        }
        let untold = table(Layout::Go118, 0);
        assert_eq!(names(&untold, 0x40_1000, [0x40_101f, 0x40_102f, 0x40_1030]), expected);
    }

    /// Make sure that tables cut or changed anywhere give something or nothing, within bounds.
    #[test]
    fn hostile_tables() {
        for layout in [Layout::Go12, Layout::Go116, Layout::Go118] {
            let good = table(layout, 0x40_1000);
            for at in 0..good.len() {
                let mut builder = Builder::default();
                _ = read(&good[..at], 0, &mut builder);
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let mut builder = Builder::default();
                    _ = read(&bad, 0, &mut builder);
                    assert!(builder.bytes() <= good.len() * MAX_RAW_NAME);
                }
            }
        }
    }
}

//! Functions of symbol tables.

use object::elf;
use object::endian::Endianness;
use object::read::elf::{FileHeader, Sym};

use super::headers::{Headers, Section};
use super::{ElfError, MAX_BUILDER, Source};
use crate::symbol::table::{Builder, MAX_RAW_NAME, Rank};

/// Largest symbol table in the file, bytes: 24 each, so 10 million symbols.
const MAX_SYMTAB: u64 = 256 << 20;
/// Largest string table, bytes; it is held while the symbols are read.
const MAX_STRTAB: u64 = 160 << 20;
/// Symbols read at a time, bytes; a multiple of both sizes of a symbol (16 and 24).
const CHUNK: u64 = 48 * 1024;

/// Adds the functions of the file's tables of that kind.
pub(super) fn add<S>(file: &Headers<'_, S>, kind: elf::SectionType, builder: &mut Builder) -> Result<(), ElfError>
where
    S: Source + ?Sized,
{
    // One of each is what linkers write; a second would cost as much again.
    let Some(symbols) = file
        .sections
        .iter()
        .find(|section| section.kind == kind && section.size > 0)
    else {
        return Ok(());
    };
    if file.wide {
        functions::<elf::FileHeader64<Endianness>, S>(file, symbols, builder)
    } else {
        functions::<elf::FileHeader32<Endianness>, S>(file, symbols, builder)
    }
}

fn functions<Elf, S>(file: &Headers<'_, S>, symbols: &Section, builder: &mut Builder) -> Result<(), ElfError>
where
    Elf: FileHeader<Endian = Endianness>,
    S: Source + ?Sized,
{
    let strings = file.sections.get(symbols.link as usize).ok_or(ElfError::Malformed)?;
    if symbols.size > MAX_SYMTAB {
        return Err(ElfError::TooMany);
    }
    let names = file.content(strings, MAX_STRTAB)?;
    let item = size_of::<Elf::Sym>() as u64;
    let mut offset = symbols.offset;
    let end = offset
        .checked_add(symbols.size - symbols.size % item)
        .ok_or(ElfError::Malformed)?;
    while offset < end {
        let part = CHUNK.min(end - offset);
        let chunk: Vec<Elf::Sym> = file.array(offset, part / item, CHUNK)?;
        for symbol in &chunk {
            add_one::<Elf>(builder, symbol, file.endian, &names);
        }
        if builder.bytes() > MAX_BUILDER {
            return Err(ElfError::TooMany);
        }
        offset += part;
    }
    Ok(())
}

fn add_one<Elf>(builder: &mut Builder, symbol: &Elf::Sym, endian: Endianness, names: &[u8])
where
    Elf: FileHeader<Endian = Endianness>,
{
    if !matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC) || symbol.is_undefined(endian) {
        return;
    }
    let name = names.get(symbol.st_name(endian) as usize..).unwrap_or_default();
    // Names may overlap in the file (a hostile one: all of them, each as long as the string table).
    let name = name.get(..MAX_RAW_NAME).unwrap_or(name);
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    // `memcpy@@GLIBC_2.14`: the version that a library's own table has.
    let name = name.split(|byte| *byte == b'@').next().unwrap_or_default();
    if name.is_empty() {
        return;
    }
    let rank = match symbol.st_bind() {
        elf::STB_GLOBAL => Rank::Global,
        elf::STB_WEAK => Rank::Weak,
        _ => Rank::Local,
    };
    builder.add(
        symbol.st_value(endian).into(),
        symbol.st_size(endian).into(),
        rank,
        name,
    );
}

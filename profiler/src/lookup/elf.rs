//! What symbolizing needs of an ELF file, read at once and within bounds.
//!
//! The file is hostile: it is read with `pread` (a mapped file that is cut short meanwhile raises SIGBUS), every
//! count and size is bounded before anything is allocated, and nothing in it leads outside it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::elf;
use object::endian::Endianness;
use object::pod;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader, Sym};

use crate::symbol::table::{Builder, Table};

/// Largest file that is read, bytes. It may be sparse: only headers and symbols are read.
pub const MAX_FILE: u64 = 1 << 30;
/// Most program headers. Linkers write about 15.
const MAX_SEGMENTS: u16 = 256;
/// Most sections, bytes of their table divided by 64. Mapped files have about 40.
const MAX_SECTIONS: u64 = 16 * 1024;
/// Largest symbol table in the file, bytes: 24 each, so 1.4 million symbols.
const MAX_SYMTAB: u64 = 32 << 20;
/// Largest string table, bytes; it is held while the symbols are read.
const MAX_STRTAB: u64 = 16 << 20;
/// Largest table kept of one file, bytes.
const MAX_TABLE: usize = 8 << 20;
/// Symbols read at a time, bytes; a multiple of both sizes of a symbol (16 and 24).
const CHUNK: u64 = 48 * 1024;
/// Largest note segment, bytes.
const MAX_NOTES: u64 = 64 * 1024;
/// Longest build id kept, bytes (SHA-1 has 20).
const MAX_BUILD_ID: usize = 64;

/// Why a file has no symbols. Each is counted by name.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("ELF file with headers that contradict themselves or the file's size")]
    Malformed,
    #[error("file larger than {} MiB", MAX_FILE >> 20)]
    TooLarge,
    #[error("too many symbols, sections or segments")]
    TooMany,
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// A loaded part of the file: bytes `[offset, offset + size)` of it appear at `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub offset: u64,
    pub size: u64,
    /// Virtual address as the file's symbols count it.
    pub address: u64,
}

/// What is kept of a file.
#[derive(Debug, Default)]
pub struct Image {
    /// GNU build id; empty when the file has none.
    pub build_id: Vec<u8>,
    /// Executable segments first, then the others.
    pub segments: Vec<Segment>,
    pub table: Table,
}

impl Image {
    /// Virtual address of a file offset.
    pub fn address(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            offset
                .checked_sub(segment.offset)
                .is_some_and(|within| within < segment.size)
        })?;
        segment.address.checked_add(offset - segment.offset)
    }
}

/// Bytes that can be read at an offset: a file, or memory.
pub trait Source {
    /// Length, bytes.
    fn size(&self) -> io::Result<u64>;
    /// Fills `into` from `offset`.
    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
}

impl Source for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn fill(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|from| self.get(from..)?.get(..into.len()));
        into.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// Reads build id, segments and functions.
///
/// # Errors
///
/// [`ElfError`]; a file without symbols is no error but has an empty table.
pub fn read<S: Source + ?Sized>(source: &S) -> Result<Image, ElfError> {
    let size = source.size()?;
    let mut ident = [0; 5];
    if size < 52 {
        return Err(ElfError::NotElf);
    }
    source.fill(&mut ident, 0)?;
    if ident[..4] != elf::ELFMAG {
        return Err(ElfError::NotElf);
    }
    if size > MAX_FILE {
        return Err(ElfError::TooLarge);
    }
    let bounded = Bounded { source, size };
    if ident[4] == elf::ELFCLASS32.0 {
        read_class::<elf::FileHeader32<Endianness>, S>(&bounded)
    } else {
        read_class::<elf::FileHeader64<Endianness>, S>(&bounded)
    }
}

struct Bounded<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
}

impl<S: Source + ?Sized> Bounded<'_, S> {
    fn bytes(&self, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>, ElfError> {
        if len > limit {
            return Err(ElfError::TooMany);
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(ElfError::Malformed);
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| ElfError::TooMany)?];
        self.source.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn array<T: pod::Pod>(&self, offset: u64, count: u64, limit: u64) -> Result<Vec<T>, ElfError> {
        let item = size_of::<T>() as u64;
        let len = count.checked_mul(item).ok_or(ElfError::TooMany)?;
        let bytes = self.bytes(offset, len, limit.saturating_mul(item))?;
        Ok(pod::slice_from_all_bytes::<T>(&bytes)
            .map_err(|()| ElfError::Malformed)?
            .to_vec())
    }
}

fn read_class<Elf, S>(file: &Bounded<'_, S>) -> Result<Image, ElfError>
where
    Elf: FileHeader<Endian = Endianness>,
    S: Source + ?Sized,
{
    let header = file.array::<Elf>(0, 1, 1)?;
    let header = header.first().ok_or(ElfError::NotElf)?;
    if !header.is_supported() {
        return Err(ElfError::Malformed);
    }
    let endian = header.endian().map_err(|_| ElfError::Malformed)?;

    let mut image = Image::default();
    let phnum = header.e_phnum(endian);
    if phnum > MAX_SEGMENTS {
        return Err(ElfError::TooMany);
    }
    let segments: Vec<Elf::ProgramHeader> =
        file.array(header.e_phoff(endian).into(), phnum.into(), MAX_SEGMENTS.into())?;
    for executable in [true, false] {
        let wanted = segments.iter().filter(|segment| {
            segment.p_type(endian) == elf::PT_LOAD && (segment.p_flags(endian).0 & elf::PF_X.0 != 0) == executable
        });
        image.segments.extend(wanted.map(|segment| Segment {
            offset: segment.p_offset(endian).into(),
            size: segment.p_filesz(endian).into(),
            address: segment.p_vaddr(endian).into(),
        }));
    }
    for segment in segments.iter().filter(|segment| segment.p_type(endian) == elf::PT_NOTE) {
        // A note that can't be read costs the build id only.
        let notes = file.bytes(
            segment.p_offset(endian).into(),
            segment.p_filesz(endian).into(),
            MAX_NOTES,
        );
        if let Ok(notes) = notes
            && let Some(id) = build_id::<Elf>(&notes, endian, segment.p_align(endian))
        {
            image.build_id = id;
            break;
        }
    }
    image.table = functions::<Elf, S>(file, header, endian)?;
    Ok(image)
}

fn build_id<Elf>(notes: &[u8], endian: Endianness, align: Elf::Word) -> Option<Vec<u8>>
where
    Elf: FileHeader<Endian = Endianness>,
{
    let mut notes = NoteIterator::<Elf>::new(endian, align, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            return note
                .desc()
                .get(..note.desc().len().min(MAX_BUILD_ID))
                .map(<[u8]>::to_vec);
        }
    }
    None
}

fn functions<Elf, S>(file: &Bounded<'_, S>, header: &Elf, endian: Endianness) -> Result<Table, ElfError>
where
    Elf: FileHeader<Endian = Endianness>,
    S: Source + ?Sized,
{
    let shoff: u64 = header.e_shoff(endian).into();
    if shoff == 0 {
        return Ok(Table::default());
    }
    let mut shnum = u64::from(header.e_shnum(endian));
    if shnum == 0 {
        // A count that does not fit stands in the first section's size.
        let first: Vec<Elf::SectionHeader> = file.array(shoff, 1, 1)?;
        shnum = first.first().map_or(0, |section| section.sh_size(endian).into());
    }
    let sections: Vec<Elf::SectionHeader> = file.array(shoff, shnum, MAX_SECTIONS)?;
    let of_type = |kind| sections.iter().find(|section| section.sh_type(endian) == kind);
    // A stripped file keeps the symbols that others link to.
    let Some(symbols) = of_type(elf::SHT_SYMTAB).or_else(|| of_type(elf::SHT_DYNSYM)) else {
        return Ok(Table::default());
    };
    let strings = sections
        .get(symbols.sh_link(endian) as usize)
        .ok_or(ElfError::Malformed)?;
    let (mut offset, len): (u64, u64) = (symbols.sh_offset(endian).into(), symbols.sh_size(endian).into());
    if len > MAX_SYMTAB {
        return Err(ElfError::TooMany);
    }
    let names = file.bytes(
        strings.sh_offset(endian).into(),
        strings.sh_size(endian).into(),
        MAX_STRTAB,
    )?;

    let item = size_of::<Elf::Sym>() as u64;
    let end = offset.checked_add(len - len % item).ok_or(ElfError::Malformed)?;
    let mut builder = Builder::default();
    while offset < end {
        let part = CHUNK.min(end - offset);
        let chunk: Vec<Elf::Sym> = file.array(offset, part / item, CHUNK)?;
        for symbol in &chunk {
            add::<Elf>(&mut builder, symbol, endian, &names);
        }
        if builder.bytes() > MAX_TABLE {
            return Err(ElfError::TooMany);
        }
        offset += part;
    }
    Ok(builder.finish())
}

fn add<Elf>(builder: &mut Builder, symbol: &Elf::Sym, endian: Endianness, names: &[u8])
where
    Elf: FileHeader<Endian = Endianness>,
{
    if !matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC) || symbol.is_undefined(endian) {
        return;
    }
    let name = names.get(symbol.st_name(endian) as usize..).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() {
        return;
    }
    // Names may overlap in the file (a hostile one: all of them, each as long as the string table).
    let name = name
        .get(..name.len().min(crate::symbol::demangle::MAX_NAME))
        .unwrap_or(name);
    let rank = match symbol.st_bind() {
        elf::STB_GLOBAL => 0,
        elf::STB_WEAK => 1,
        _ => 2,
    };
    builder.add(
        symbol.st_value(endian).into(),
        symbol.st_size(endian).into(),
        rank,
        name,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_bytes() -> Vec<u8> {
        std::fs::read("/bin/true").unwrap()
    }

    /// Make sure that a test binary's own function is found at the address it runs at.
    #[test]
    fn own_function() {
        let file = File::open("/proc/self/exe").unwrap();
        let image = read(&file).unwrap();
        assert!(image.table.len() > 1000);
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let address = own_function as fn() as usize as u64;
        let (start, offset) = maps
            .lines()
            .find_map(|line| {
                let mut fields = line.split_ascii_whitespace();
                let (start, end) = fields.next()?.split_once('-')?;
                let start = u64::from_str_radix(start, 16).ok()?;
                let range = start..u64::from_str_radix(end, 16).ok()?;
                let offset = u64::from_str_radix(fields.nth(1)?, 16).ok()?;
                range.contains(&address).then_some((start, offset))
            })
            .unwrap();
        let (name, within) = image
            .table
            .find(image.address(address - start + offset).unwrap())
            .unwrap();
        let name = String::from_utf8_lossy(name).into_owned();
        assert!(name.contains("own_function"), "{name}");
        assert_eq!(within, 0);
    }

    /// Make sure that build id, segments and functions of a stripped file are read, with the build id `file` shows.
    #[test]
    fn stripped_file() {
        let image = read(&own_bytes()[..]).unwrap();
        assert_eq!(image.build_id.len(), 20);
        assert!(!image.segments.is_empty());
    }

    /// Make sure that a file cut at any place is refused or read, and never brings a panic.
    #[test]
    fn cut_anywhere() {
        let bytes = own_bytes();
        for len in (0..4096).chain((4096..bytes.len()).step_by(97)) {
            let _ = read(&bytes[..len.min(bytes.len())]);
        }
        assert!(matches!(read(&bytes[..20]), Err(ElfError::NotElf)));
    }

    /// Make sure that no byte of the headers, nor of the section table, changed to any of some bad values, brings a
    /// panic or more than the bounded memory.
    #[test]
    fn flipped_headers() {
        let bytes = own_bytes();
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        for at in (0..1024).chain(sections..bytes.len()) {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                if let Ok(image) = read(&bad[..]) {
                    assert!(image.table.bytes() <= MAX_TABLE);
                    for offset in [0, 0x1000, 0x4000, u64::MAX] {
                        let address = image.address(offset);
                        let _ = address.and_then(|address| image.table.find(address));
                    }
                }
            }
        }
    }

    /// Make sure that sizes beyond the file or beyond a bound are told apart and allocate nothing.
    #[test]
    fn absurd_sizes() {
        let bytes = own_bytes();
        let mut bad = bytes.clone();
        bad[0x20..0x28].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&bad[..]), Err(ElfError::Malformed)));
        let mut bad = bytes.clone();
        bad[0x38..0x3a].copy_from_slice(&0xffffu16.to_le_bytes());
        assert!(matches!(read(&bad[..]), Err(ElfError::TooMany)));
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        let mut bad = bytes;
        bad[0x3c..0x3e].copy_from_slice(&0u16.to_le_bytes());
        bad[sections + 0x20..sections + 0x28].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&bad[..]), Err(ElfError::TooMany)));
    }

    /// Make sure that a sparse file beyond the bound is refused by its size alone.
    #[test]
    fn huge_sparse_file() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"\x7fELF\x02\x01\x01", 0).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&file), Err(ElfError::TooLarge)));
    }
}

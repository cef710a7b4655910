//! What symbolizing needs of an ELF file, read at once and within bounds.
//!
//! The file is hostile: it is read with `pread` (a mapped file that is cut short meanwhile raises SIGBUS), every
//! count and size is bounded before anything is allocated, and nothing in it leads outside it. On top of that it is
//! read in a process that may do nothing else, see [`crate::symbol::sandbox`].

mod go;
pub(crate) mod headers;
mod packed;
mod starts;
mod symbols;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use object::elf;
use serde::{Deserialize, Serialize};

use crate::symbol::table::{Builder, Rank, Table};
use headers::Headers;

/// Largest file that is read, bytes. It may be sparse: only headers and symbols are read.
pub const MAX_FILE: u64 = 4 << 30;
/// Largest table kept of one file, bytes.
pub const MAX_TABLE: usize = 16 << 20;
/// Most memory that names take while they are gathered, bytes.
const MAX_BUILDER: usize = 160 << 20;
/// Longest name of a file of debug information kept, bytes: `NAME_MAX`.
const MAX_LINK: usize = 255;

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
    #[error("debug information of another build")]
    OtherBuild,
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// A loaded part of the file: bytes `[offset, offset + size)` of it appear at `address`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    pub offset: u64,
    pub size: u64,
    /// Virtual address as the file's symbols count it.
    pub address: u64,
}

/// What is kept of a file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Image {
    /// GNU build id; empty when the file has none.
    pub build_id: Vec<u8>,
    /// Executable segments first, then the others.
    pub segments: Vec<Segment>,
    pub table: Table,
    /// Whether local functions have names: nothing is to be looked for elsewhere.
    pub complete: bool,
    /// Whether it holds DWARF.
    pub dwarf: bool,
    /// `.gnu_debuglink`: name of a file of debug information (hostile text) and the CRC-32 of its content.
    pub link: Option<(Vec<u8>, u32)>,
}

impl Image {
    /// Virtual address of a file offset.
    pub fn address(&self, offset: u64) -> Option<u64> {
        address(&self.segments, offset)
    }
}

/// Virtual address of a file offset.
pub fn address(segments: &[Segment], offset: u64) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        offset
            .checked_sub(segment.offset)
            .is_some_and(|within| within < segment.size)
    })?;
    segment.address.checked_add(offset - segment.offset)
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
        // Not by `metadata()`: its system call takes paths, which the parser may not.
        Ok(u64::try_from(rustix::fs::fstat(self)?.st_size).unwrap_or(0))
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
    let file = Headers::read(source)?;
    let mut builder = Builder::default();
    let mut image = describe(&file);
    image.complete = add_names(&file, &mut builder)?;
    // One that can't be read costs its own names only.
    image.complete |= add_packed(&file, &mut builder).unwrap_or(false);
    if !image.complete {
        optional(go::add(&file, &mut builder))?;
    }
    finish(image, &file, builder)
}

/// As [`read`], with the names that `debug` has, a file of debug information made from the same build.
///
/// # Errors
///
/// [`ElfError`], of either file; [`ElfError::OtherBuild`].
pub fn read_with<S, D>(source: &S, debug: &D, by: Proof) -> Result<Image, ElfError>
where
    S: Source + ?Sized,
    D: Source + ?Sized,
{
    let file = Headers::read(source)?;
    let debug_file = Headers::read(debug)?;
    let mut image = describe(&file);
    let same = match by {
        Proof::BuildId => !image.build_id.is_empty() && image.build_id == debug_file.build_id(),
        Proof::Crc(expected) => crc(debug)? == expected,
    };
    if !same {
        return Err(ElfError::OtherBuild);
    }
    let mut builder = Builder::default();
    image.complete = add_names(&debug_file, &mut builder)?;
    image.dwarf = debug_file.section(b".debug_info").is_some();
    add_names(&file, &mut builder)?;
    finish(image, &file, builder)
}

/// How a file of debug information is known to be of the same build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    BuildId,
    /// CRC-32 of its whole content, from `.gnu_debuglink`.
    Crc(u32),
}

fn describe<S: Source + ?Sized>(file: &Headers<'_, S>) -> Image {
    let mut image = Image {
        build_id: file.build_id(),
        dwarf: file.section(b".debug_info").is_some() || file.section(b".zdebug_info").is_some(),
        link: debug_link(file),
        ..Image::default()
    };
    for executable in [true, false] {
        let wanted = file
            .parts
            .iter()
            .filter(|part| part.kind == elf::PT_LOAD && part.executable == executable);
        image.segments.extend(wanted.map(|part| Segment {
            offset: part.offset,
            size: part.size,
            address: part.address,
        }));
    }
    image
}

/// Adds the names of the symbol tables; whether local ones are among them.
fn add_names<S: Source + ?Sized>(file: &Headers<'_, S>, builder: &mut Builder) -> Result<bool, ElfError> {
    symbols::add(file, elf::SHT_SYMTAB, builder)?;
    let whole = !builder.is_empty();
    if !whole {
        // A stripped file keeps the symbols that others link to.
        symbols::add(file, elf::SHT_DYNSYM, builder)?;
    }
    Ok(whole)
}

fn add_packed<S: Source + ?Sized>(file: &Headers<'_, S>, builder: &mut Builder) -> Result<bool, ElfError> {
    let Some(bytes) = packed::unpack(file)? else {
        return Ok(false);
    };
    let within = Headers::read(&bytes[..])?;
    symbols::add(&within, elf::SHT_SYMTAB, builder)?;
    Ok(true)
}

fn finish<S: Source + ?Sized>(
    mut image: Image,
    file: &Headers<'_, S>,
    mut builder: Builder,
) -> Result<Image, ElfError> {
    optional(starts::add(file, &mut builder))?;
    // Stubs that jump to other files' functions have no symbols.
    for section in &file.sections {
        if section.name.starts_with(b".plt") && section.kind == elf::SHT_PROGBITS {
            builder.add(section.address, section.size, Rank::Runtime, b"[plt]");
        }
    }
    image.table = builder.finish();
    if image.table.bytes() > MAX_TABLE {
        return Err(ElfError::TooMany);
    }
    Ok(image)
}

/// What only adds to the names: a part that contradicts itself costs its own, one that is too large all, since what is
/// gathered by then takes memory.
fn optional(result: Result<(), ElfError>) -> Result<(), ElfError> {
    match result {
        Err(error @ ElfError::TooMany) => Err(error),
        _ => Ok(()),
    }
}

fn debug_link<S: Source + ?Sized>(file: &Headers<'_, S>) -> Option<(Vec<u8>, u32)> {
    let section = file.section(b".gnu_debuglink")?;
    let content = file.content(section, MAX_LINK as u64 + 8).ok()?;
    let name = content.split(|byte| *byte == 0).next()?;
    let crc = content.get((name.len() + 1).next_multiple_of(4)..)?.get(..4)?;
    let crc = crc.try_into().ok()?;
    let crc = match file.endian {
        object::Endianness::Little => u32::from_le_bytes(crc),
        object::Endianness::Big => u32::from_be_bytes(crc),
    };
    let plain = !name.is_empty() && name.len() <= MAX_LINK && !name.contains(&b'/') && name != b"." && name != b"..";
    plain.then(|| (name.to_vec(), crc))
}

/// CRC-32 of all of it.
fn crc<S: Source + ?Sized>(source: &S) -> Result<u32, ElfError> {
    let size = source.size()?;
    if size > MAX_FILE {
        return Err(ElfError::TooLarge);
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        let len = (size - at).min(chunk.len() as u64);
        let part = chunk.get_mut(..len as usize).unwrap_or_default();
        source.fill(part, at)?;
        hasher.update(part);
        at += len;
    }
    Ok(hasher.finalize())
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
        let found = image
            .table
            .find(image.address(address - start + offset).unwrap())
            .unwrap();
        let name = String::from_utf8_lossy(&found.name).into_owned();
        assert!(name.contains("own_function"), "{name}");
        assert_eq!(found.offset, 0);
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

//! Segments and sections of an ELF file of either word size and byte order, in one form.

use object::elf;
use object::endian::Endianness;
use object::pod;
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader, SectionHeader};

use super::{ElfError, MAX_FILE, Source};

/// Most program headers. Linkers write about 15.
const MAX_SEGMENTS: u16 = 256;
/// Most sections. Mapped files have about 40.
const MAX_SECTIONS: u64 = 16 * 1024;
/// Longest table of the sections' names, bytes.
const MAX_SECTION_NAMES: u64 = 1 << 20;
/// Largest note segment, bytes.
const MAX_NOTES: u64 = 64 * 1024;
/// Longest build id kept, bytes (SHA-1 has 20).
const MAX_BUILD_ID: usize = 64;

/// A part of the file that is loaded, or says how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub kind: elf::ProgramType,
    pub executable: bool,
    pub offset: u64,
    pub size: u64,
    pub address: u64,
    pub align: u64,
}

/// A section.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    pub name: Vec<u8>,
    pub kind: elf::SectionType,
    pub offset: u64,
    pub size: u64,
    pub address: u64,
    /// Number of another section; for symbols that of their names.
    pub link: u32,
    pub loaded: bool,
    pub compressed: bool,
}

/// A file's headers, and reading of its parts within bounds.
pub(crate) struct Headers<'a, S: ?Sized> {
    source: &'a S,
    /// Length of the file, bytes.
    size: u64,
    pub wide: bool,
    pub endian: Endianness,
    pub machine: elf::Machine,
    pub parts: Vec<Part>,
    pub sections: Vec<Section>,
}

impl<'a, S: Source + ?Sized> Headers<'a, S> {
    pub(crate) fn read(source: &'a S) -> Result<Self, ElfError> {
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
        let mut headers = Headers {
            source,
            size,
            wide: ident[4] != elf::ELFCLASS32.0,
            endian: Endianness::Little,
            machine: elf::EM_NONE,
            parts: Vec::new(),
            sections: Vec::new(),
        };
        if headers.wide {
            headers.fill::<elf::FileHeader64<Endianness>>()?;
        } else {
            headers.fill::<elf::FileHeader32<Endianness>>()?;
        }
        Ok(headers)
    }

    fn fill<Elf: FileHeader<Endian = Endianness>>(&mut self) -> Result<(), ElfError> {
        let header = self.array::<Elf>(0, 1, 1)?;
        let header = header.first().ok_or(ElfError::NotElf)?;
        if !header.is_supported() {
            return Err(ElfError::Malformed);
        }
        let endian = header.endian().map_err(|_| ElfError::Malformed)?;
        (self.endian, self.machine) = (endian, header.e_machine(endian));
        let phnum = header.e_phnum(endian);
        if phnum > MAX_SEGMENTS {
            return Err(ElfError::TooMany);
        }
        let parts: Vec<Elf::ProgramHeader> =
            self.array(header.e_phoff(endian).into(), phnum.into(), MAX_SEGMENTS.into())?;
        self.parts = parts
            .iter()
            .map(|part| Part {
                kind: part.p_type(endian),
                executable: part.p_flags(endian).0 & elf::PF_X.0 != 0,
                offset: part.p_offset(endian).into(),
                size: part.p_filesz(endian).into(),
                address: part.p_vaddr(endian).into(),
                align: part.p_align(endian).into(),
            })
            .collect();
        self.sections::<Elf>(header, endian)
    }

    fn sections<Elf: FileHeader<Endian = Endianness>>(
        &mut self,
        header: &Elf,
        endian: Endianness,
    ) -> Result<(), ElfError> {
        let shoff: u64 = header.e_shoff(endian).into();
        if shoff == 0 {
            return Ok(());
        }
        let mut count = u64::from(header.e_shnum(endian));
        if count == 0 {
            // A count that does not fit stands in the first section's size.
            let first: Vec<Elf::SectionHeader> = self.array(shoff, 1, 1)?;
            count = first.first().map_or(0, |section| section.sh_size(endian).into());
        }
        let sections: Vec<Elf::SectionHeader> = self.array(shoff, count, MAX_SECTIONS)?;
        // Without their names the symbol tables are found all the same.
        let names = sections
            .get(usize::from(header.e_shstrndx(endian).0))
            .and_then(|names| {
                let (offset, size) = (names.sh_offset(endian).into(), names.sh_size(endian).into());
                self.bytes(offset, size, MAX_SECTION_NAMES).ok()
            })
            .unwrap_or_default();
        self.sections = sections
            .iter()
            .map(|section| {
                /// Longest name compared with.
                const LONGEST: usize = 32;
                let name = names.get(section.sh_name(endian) as usize..).unwrap_or_default();
                let name = name.get(..LONGEST).unwrap_or(name);
                Section {
                    name: name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
                    kind: section.sh_type(endian),
                    offset: section.sh_offset(endian).into(),
                    size: section.sh_size(endian).into(),
                    address: section.sh_addr(endian).into(),
                    link: section.sh_link(endian),
                    loaded: section.sh_flags(endian).0 & elf::SHF_ALLOC.0 != 0,
                    compressed: section.sh_flags(endian).0 & elf::SHF_COMPRESSED.0 != 0,
                }
            })
            .collect();
        Ok(())
    }

    /// The section of that name that has content in the file.
    pub(super) fn section(&self, name: &[u8]) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.name == name && section.kind != elf::SHT_NOBITS)
    }

    /// The content of a section of at most `limit` bytes.
    pub(super) fn content(&self, section: &Section, limit: u64) -> Result<Vec<u8>, ElfError> {
        self.bytes(section.offset, section.size, limit)
    }

    /// `len` bytes of the file from `offset`.
    pub(crate) fn bytes(&self, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>, ElfError> {
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

    /// `count` items of the file from `offset`.
    pub(super) fn array<T: pod::Pod>(&self, offset: u64, count: u64, limit: u64) -> Result<Vec<T>, ElfError> {
        let item = size_of::<T>() as u64;
        let len = count.checked_mul(item).ok_or(ElfError::TooMany)?;
        let bytes = self.bytes(offset, len, limit.saturating_mul(item))?;
        Ok(pod::slice_from_all_bytes::<T>(&bytes)
            .map_err(|()| ElfError::Malformed)?
            .to_vec())
    }

    /// GNU build id; empty when there is none, or none that can be read.
    pub(super) fn build_id(&self) -> Vec<u8> {
        let parts = self.parts.iter().filter(|part| part.kind == elf::PT_NOTE);
        let mut places = parts
            .map(|part| (part.offset, part.size, part.align))
            .collect::<Vec<_>>();
        // A file of debug information has lost what its segments held, but not its notes' section.
        let sections = self.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
        places.extend(sections.map(|section| (section.offset, section.size, 4)));
        places
            .into_iter()
            .filter_map(|(offset, size, align)| {
                let notes = self.bytes(offset, size, MAX_NOTES).ok()?;
                if self.wide {
                    build_id::<elf::FileHeader64<Endianness>>(&notes, self.endian, align)
                } else {
                    let align = u32::try_from(align).unwrap_or(4);
                    build_id::<elf::FileHeader32<Endianness>>(&notes, self.endian, align)
                }
            })
            .next()
            .unwrap_or_default()
    }
}

fn build_id<Elf>(notes: &[u8], endian: Endianness, align: Elf::Word) -> Option<Vec<u8>>
where
    Elf: FileHeader<Endian = Endianness>,
{
    let mut notes = NoteIterator::<Elf>::new(endian, align, notes).ok()?;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(endian) == elf::NT_GNU_BUILD_ID {
            let id = note.desc();
            return Some(id.get(..MAX_BUILD_ID).unwrap_or(id).to_vec());
        }
    }
    None
}

//! An ELF file's unwind sections.
//!
//! The file is hostile: what is read of it is bounded, and nothing in it leads outside it.

use gimli::{BaseAddresses, LittleEndian};
use object::elf;
use object::endian::LittleEndian as Little;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};

use super::go;
use crate::lookup::elf::Source;
use crate::symbol::sandbox::{Failure, Refusal};

/// Largest file that is looked at, bytes. It may be sparse: only headers and unwind sections are read.
pub(super) const MAX_FILE: u64 = 1 << 32;
/// Largest unwind section, bytes; LLVM's library, the largest of a usual host, has 12 MB.
pub(super) const MAX_SECTION: u64 = 64 << 20;
/// Most sections.
const MAX_SECTIONS: u64 = 16 * 1024;
/// Largest table of sections' names, bytes.
const MAX_NAMES: u64 = 1 << 20;
/// Most program headers.
const MAX_SEGMENTS: u64 = 256;

/// Why a file has no table.
#[derive(Debug, thiserror::Error)]
pub enum UnwindError {
    #[error("no ELF file of this machine")]
    Foreign,
    #[error("headers that contradict themselves or the file's size")]
    Malformed,
    #[error("too large: file, section, or code")]
    TooLarge,
    #[error("no unwind information")]
    None,
    #[error("reading failed: {0}")]
    Read(#[from] std::io::Error),
    #[error("not made: {0}")]
    Parser(Failure),
}

/// What a refusal is on its way from the process that reads files.
impl From<UnwindError> for Refusal {
    fn from(error: UnwindError) -> Refusal {
        match error {
            UnwindError::Foreign => Refusal::NotElf,
            UnwindError::Malformed | UnwindError::Parser(_) => Refusal::Malformed,
            UnwindError::TooLarge => Refusal::TooLarge,
            UnwindError::None => Refusal::Nothing,
            UnwindError::Read(_) => Refusal::Read,
        }
    }
}

impl From<Failure> for UnwindError {
    fn from(failure: Failure) -> UnwindError {
        match failure {
            Failure::Refused(Refusal::NotElf) => UnwindError::Foreign,
            Failure::Refused(Refusal::Nothing) => UnwindError::None,
            Failure::Refused(Refusal::TooLarge | Refusal::TooMany) => UnwindError::TooLarge,
            Failure::Refused(Refusal::Malformed | Refusal::OtherBuild) | Failure::Garbled => UnwindError::Malformed,
            Failure::Refused(Refusal::Read) => UnwindError::Read(std::io::ErrorKind::Other.into()),
            failure => UnwindError::Parser(failure),
        }
    }
}

/// Executable bytes of the file: `[offset, offset + size)` of it appear at `address`.
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) address: u64,
}

/// An unwind section in the file.
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) address: u64,
    pub(super) kind: Kind,
}

/// What is loaded with the program counts before what is for debuggers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `.eh_frame`
    Loaded,
    /// `.gopclntab`
    Go,
    /// `.debug_frame`
    Debug,
}

pub(super) struct Elf<'a, S: ?Sized> {
    pub(super) source: &'a S,
    pub(super) size: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    pub(super) text: u64,
    pub(super) got: u64,
}

impl<'a, S: Source + ?Sized> Elf<'a, S> {
    pub(super) fn open(source: &'a S) -> Result<Self, UnwindError> {
        let size = source.size()?;
        let mut file = Elf {
            source,
            size,
            segments: Vec::new(),
            sections: Vec::new(),
            text: 0,
            got: 0,
        };
        if size > MAX_FILE {
            return Err(UnwindError::TooLarge);
        }
        if size < 64 {
            return Err(UnwindError::Foreign);
        }
        let header: Vec<elf::FileHeader64<Little>> = file.array(0, 1, 1)?;
        let header = header.first().ok_or(UnwindError::Foreign)?;
        let ident = header.e_ident();
        if ident.magic != elf::ELFMAG
            || ident.class != elf::ELFCLASS64
            || ident.data != elf::ELFDATA2LSB
            || header.e_machine(Little) != elf::EM_X86_64
        {
            return Err(UnwindError::Foreign);
        }
        let segments: Vec<elf::ProgramHeader64<Little>> =
            file.array(header.e_phoff(Little), header.e_phnum(Little).into(), MAX_SEGMENTS)?;
        for segment in &segments {
            if segment.p_type(Little) == elf::PT_LOAD && segment.p_flags(Little).0 & elf::PF_X.0 != 0 {
                file.segments.push(Segment {
                    offset: segment.p_offset(Little),
                    size: segment.p_filesz(Little),
                    address: segment.p_vaddr(Little),
                });
            }
        }
        file.by_sections(header)?;
        if !file.sections.iter().any(|section| section.kind == Kind::Loaded) {
            file.by_header(&segments)?;
        }
        Ok(file)
    }

    /// `.eh_frame`, `.debug_frame` and `.gopclntab`, by name.
    fn by_sections(&mut self, header: &elf::FileHeader64<Little>) -> Result<(), UnwindError> {
        let offset = header.e_shoff(Little);
        if offset == 0 {
            return Ok(());
        }
        let mut count = u64::from(header.e_shnum(Little));
        let first: Vec<elf::SectionHeader64<Little>> = self.array(offset, 1, 1)?;
        let first = first.first().ok_or(UnwindError::Malformed)?;
        if count == 0 {
            count = first.sh_size(Little);
        }
        let mut names = u64::from(header.e_shstrndx(Little).0);
        if names == u64::from(elf::SHN_XINDEX.0) {
            names = first.sh_link(Little).into();
        }
        let sections: Vec<elf::SectionHeader64<Little>> = self.array(offset, count, MAX_SECTIONS)?;
        let names = usize::try_from(names).ok().and_then(|names| sections.get(names));
        let names = names.ok_or(UnwindError::Malformed)?;
        let names = self.bytes(names.sh_offset(Little), names.sh_size(Little), MAX_NAMES)?;
        for section in &sections {
            let name = names.get(section.sh_name(Little) as usize..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let here =
                section.sh_type(Little) != elf::SHT_NOBITS && section.sh_flags(Little).0 & elf::SHF_COMPRESSED.0 == 0;
            let kind = match name {
                b".eh_frame" => Some(Kind::Loaded),
                b".debug_frame" => Some(Kind::Debug),
                name if go::SECTIONS.contains(&name) => Some(Kind::Go),
                _ => None,
            };
            match name {
                b".text" => self.text = section.sh_addr(Little),
                b".got" => self.got = section.sh_addr(Little),
                _ => {}
            }
            // One of each: the sections may overlap, and a hostile file may name many.
            if let Some(kind) = kind
                && here
                && section.sh_size(Little) > 0
                && self.sections.iter().all(|known| known.kind != kind)
            {
                self.sections.push(Section {
                    offset: section.sh_offset(Little),
                    size: section.sh_size(Little),
                    address: section.sh_addr(Little),
                    kind,
                });
            }
        }
        self.sections.sort_by_key(|section| section.kind);
        Ok(())
    }

    /// `.eh_frame` of a file without section headers: where `PT_GNU_EH_FRAME` points, up to its segment's end.
    fn by_header(&mut self, segments: &[elf::ProgramHeader64<Little>]) -> Result<(), UnwindError> {
        let Some(header) = segments
            .iter()
            .find(|segment| segment.p_type(Little) == elf::PT_GNU_EH_FRAME)
        else {
            return Ok(());
        };
        let bytes = self.bytes(header.p_offset(Little), header.p_filesz(Little).min(64), 64)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr(Little));
        let parsed = gimli::EhFrameHdr::new(&bytes, LittleEndian).parse(&bases, 8);
        let Ok(address) = parsed.map(|parsed| parsed.eh_frame_ptr().pointer()) else {
            return Ok(());
        };
        for segment in segments {
            let within = address.wrapping_sub(segment.p_vaddr(Little));
            if segment.p_type(Little) == elf::PT_LOAD && within < segment.p_filesz(Little) {
                self.sections.push(Section {
                    offset: segment.p_offset(Little).saturating_add(within),
                    size: segment.p_filesz(Little) - within,
                    address,
                    kind: Kind::Loaded,
                });
                break;
            }
        }
        Ok(())
    }

    pub(super) fn bytes(&self, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>, UnwindError> {
        if len > limit {
            return Err(UnwindError::TooLarge);
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(UnwindError::Malformed);
        }
        let mut bytes = vec![0; usize::try_from(len).map_err(|_| UnwindError::TooLarge)?];
        self.source.fill(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn array<T: object::pod::Pod>(&self, offset: u64, count: u64, limit: u64) -> Result<Vec<T>, UnwindError> {
        let item = size_of::<T>() as u64;
        let len = count.checked_mul(item).ok_or(UnwindError::TooLarge)?;
        let bytes = self.bytes(offset, len, limit.saturating_mul(item))?;
        let items = object::pod::slice_from_all_bytes::<T>(&bytes).map_err(|()| UnwindError::Malformed)?;
        Ok(items.to_vec())
    }
}

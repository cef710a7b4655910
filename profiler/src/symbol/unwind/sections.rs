//! An ELF file's unwind sections, found by its [`Headers`], which bound what is read of it.

use gimli::{BaseAddresses, LittleEndian};
use object::elf;
use object::endian::Endianness;

use super::go;
use crate::lookup::elf::headers::{Headers, Part};
use crate::lookup::elf::{ElfError, Segment, Source};
use crate::symbol::sandbox::{Failure, Refusal};

/// Largest unwind section, bytes; LLVM's library, the largest of a usual host, has 12 MB.
pub(super) const MAX_SECTION: u64 = 64 << 20;

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

impl From<ElfError> for UnwindError {
    fn from(error: ElfError) -> UnwindError {
        match error {
            ElfError::NotElf => UnwindError::Foreign,
            ElfError::Malformed | ElfError::OtherBuild => UnwindError::Malformed,
            ElfError::TooLarge | ElfError::TooMany => UnwindError::TooLarge,
            ElfError::Read(error) => UnwindError::Read(error),
        }
    }
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

/// A file of this machine, with what its unwind information is read by.
pub(super) struct Elf<'a, S: ?Sized> {
    pub(super) headers: Headers<'a, S>,
    /// Executable ones.
    pub(super) segments: Vec<Segment>,
    pub(super) sections: Vec<Section>,
    pub(super) text: u64,
    pub(super) got: u64,
}

impl<'a, S: Source + ?Sized> Elf<'a, S> {
    pub(super) fn open(source: &'a S) -> Result<Self, UnwindError> {
        let headers = Headers::read(source)?;
        if !headers.wide || headers.endian != Endianness::Little || headers.machine != elf::EM_X86_64 {
            return Err(UnwindError::Foreign);
        }
        let executable = |part: &&Part| part.kind == elf::PT_LOAD && part.executable;
        let segments = headers.parts.iter().filter(executable);
        let segments = segments.map(|part| Segment {
            offset: part.offset,
            size: part.size,
            address: part.address,
        });
        let address = |name: &[u8]| {
            let mut named = headers.sections.iter().filter(|section| section.name == name);
            named.next_back().map_or(0, |section| section.address)
        };
        let mut sections = by_name(&headers);
        if !sections.iter().any(|section| section.kind == Kind::Loaded) {
            sections.extend(by_header(&headers)?);
        }
        Ok(Elf {
            segments: segments.collect(),
            sections,
            text: address(b".text"),
            got: address(b".got"),
            headers,
        })
    }
}

/// `.eh_frame`, `.debug_frame` and `.gopclntab`. One of each: the sections may overlap, and a hostile file may name many.
fn by_name<S: Source + ?Sized>(headers: &Headers<'_, S>) -> Vec<Section> {
    let mut found: Vec<Section> = Vec::new();
    for section in &headers.sections {
        let kind = match &section.name[..] {
            b".eh_frame" => Kind::Loaded,
            b".debug_frame" => Kind::Debug,
            name if go::SECTIONS.contains(&name) => Kind::Go,
            _ => continue,
        };
        let here = section.kind != elf::SHT_NOBITS && !section.compressed && section.size > 0;
        if here && found.iter().all(|known| known.kind != kind) {
            found.push(Section {
                offset: section.offset,
                size: section.size,
                address: section.address,
                kind,
            });
        }
    }
    found.sort_by_key(|section| section.kind);
    found
}

/// `.eh_frame` of a file without section headers: where `PT_GNU_EH_FRAME` points, up to its segment's end.
fn by_header<S: Source + ?Sized>(headers: &Headers<'_, S>) -> Result<Option<Section>, UnwindError> {
    let mut parts = headers.parts.iter();
    let Some(header) = parts.find(|part| part.kind == elf::PT_GNU_EH_FRAME) else {
        return Ok(None);
    };
    let bytes = headers.bytes(header.offset, header.size.min(64), 64)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = gimli::EhFrameHdr::new(&bytes, LittleEndian).parse(&bases, 8);
    let Ok(address) = parsed.map(|parsed| parsed.eh_frame_ptr().pointer()) else {
        return Ok(None);
    };
    let within = |part: &Part| address.wrapping_sub(part.address);
    let mut loaded = headers.parts.iter().filter(|part| part.kind == elf::PT_LOAD);
    let part = loaded.find(|part| within(part) < part.size);
    Ok(part.map(|part| Section {
        offset: part.offset.saturating_add(within(part)),
        size: part.size - within(part),
        address,
        kind: Kind::Loaded,
    }))
}

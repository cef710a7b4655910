//! From an ELF file's unwind sections to a table.
//!
//! The file is hostile: what is read of it is bounded, each byte of a section is looked at once, and nothing in it
//! leads outside it.

use std::collections::HashMap;

use gimli::{BaseAddresses, CieOrFde, DebugFrame, EhFrame, LittleEndian, UnwindOffset, UnwindSection};
use object::elf;
use object::endian::LittleEndian as Little;
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use profiler_common::unwind::Rule;

use super::frames::{self, Slice, State};
use super::table::Table;
use crate::lookup::elf::Source;
use crate::symbol::sandbox::{Failure, Refusal};

/// Largest file that is looked at, bytes. It may be sparse: only headers and unwind sections are read.
const MAX_FILE: u64 = 1 << 32;
/// Largest unwind section, bytes; LLVM's library, the largest of a usual host, has 12 MB.
const MAX_SECTION: u64 = 64 << 20;
/// Most sections.
const MAX_SECTIONS: u64 = 16 * 1024;
/// Largest table of sections' names, bytes.
const MAX_NAMES: u64 = 1 << 20;
/// Most program headers.
const MAX_SEGMENTS: u64 = 256;
/// Most rows of a file, 20 bytes each while the table is made.
const MAX_ROWS: usize = 8 << 20;
/// Most common information entries. A program has one for each way that its parts were compiled, and some linkers
/// keep one for each object file.
const MAX_CIES: usize = 1 << 16;

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
struct Segment {
    offset: u64,
    size: u64,
    address: u64,
}

/// Reads the unwind information of a file.
///
/// # Errors
///
/// [`UnwindError`]. A section that is broken somewhere gives what it holds before.
pub fn read<S: Source + ?Sized>(source: &S) -> Result<Table, UnwindError> {
    let file = Elf::open(source)?;
    let mut rows = Rows::default();
    for section in &file.sections {
        let bytes = file.bytes(section.offset, section.size, MAX_SECTION)?;
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address)
            .set_text(file.text)
            .set_got(file.got);
        if section.debug {
            let mut frames = DebugFrame::new(&bytes, LittleEndian);
            frames.set_address_size(8);
            rows.section(&frames, &bases, &file.segments);
        } else {
            let mut frames = EhFrame::new(&bytes, LittleEndian);
            frames.set_address_size(8);
            rows.section(&frames, &bases, &file.segments);
        }
    }
    if rows.functions.is_empty() {
        return Err(UnwindError::None);
    }
    Table::build(&rows.sorted()).ok_or(UnwindError::TooLarge)
}

/// An unwind section in the file.
struct Section {
    offset: u64,
    size: u64,
    address: u64,
    /// `.debug_frame`
    debug: bool,
}

struct Elf<'a, S: ?Sized> {
    source: &'a S,
    size: u64,
    segments: Vec<Segment>,
    sections: Vec<Section>,
    text: u64,
    got: u64,
}

impl<'a, S: Source + ?Sized> Elf<'a, S> {
    fn open(source: &'a S) -> Result<Self, UnwindError> {
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
        if !file.sections.iter().any(|section| !section.debug) {
            file.by_header(&segments)?;
        }
        Ok(file)
    }

    /// `.eh_frame` and `.debug_frame`, by name.
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
            match name {
                b".text" => self.text = section.sh_addr(Little),
                b".got" => self.got = section.sh_addr(Little),
                b".eh_frame" | b".debug_frame" if here && section.sh_size(Little) > 0 => {
                    let debug = name == b".debug_frame";
                    // One of each: the sections may overlap, and a hostile file may name many.
                    if self.sections.iter().all(|known| known.debug != debug) {
                        self.sections.push(Section {
                            offset: section.sh_offset(Little),
                            size: section.sh_size(Little),
                            address: section.sh_addr(Little),
                            debug,
                        });
                    }
                }
                _ => {}
            }
        }
        // What is loaded with the program counts before what is for debuggers.
        self.sections.sort_by_key(|section| section.debug);
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
                    debug: false,
                });
                break;
            }
        }
        Ok(())
    }

    fn bytes(&self, offset: u64, len: u64, limit: u64) -> Result<Vec<u8>, UnwindError> {
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

/// A function's rows: file offsets `[from, to)`, and where its rows lie.
#[derive(Clone, Copy)]
struct Function {
    from: u32,
    to: u32,
    first: usize,
    count: usize,
    /// Of several for one address the first one read counts.
    order: usize,
}

#[derive(Default)]
struct Rows {
    functions: Vec<Function>,
    rows: Vec<(u32, Rule)>,
}

impl Rows {
    fn section<'a, S>(&mut self, section: &S, bases: &BaseAddresses, segments: &[Segment])
    where
        S: UnwindSection<Slice<'a>>,
    {
        let mut cies: HashMap<usize, (gimli::CommonInformationEntry<Slice<'a>>, State)> = HashMap::new();
        let mut entries = section.entries(bases);
        // An entry that can't be read ends the section: where the next begins is not known.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            if self.rows.len() >= MAX_ROWS || cies.len() >= MAX_CIES {
                return;
            }
            let fde = partial.parse(|section, bases, offset| match cies.get(&UnwindOffset::into(offset)) {
                Some((cie, _)) => Ok(cie.clone()),
                None => {
                    let cie = section.cie_from_offset(bases, offset)?;
                    let initial = State::initial(&cie, section, bases);
                    cies.insert(UnwindOffset::into(offset), (cie.clone(), initial));
                    Ok(cie)
                }
            });
            let Ok(fde) = fde else { continue };
            let Some((_, initial)) = cies.get(&fde.cie().offset()) else {
                continue;
            };
            let Some((from, to, shift)) = placed(fde.initial_address(), fde.end_address(), segments) else {
                continue;
            };
            let first = self.rows.len();
            if fde.is_signal_trampoline() {
                self.rows.push((from, Rule::SIGNAL));
            } else {
                let rows = &mut self.rows;
                let row = |address: u64, rule: Rule| {
                    // Rows beyond the function's end would be another's.
                    if let Ok(at) = u32::try_from(address.wrapping_sub(shift))
                        && at >= from
                        && at < to
                        && rows.len() < MAX_ROWS
                    {
                        rows.push((at, rule));
                    }
                };
                let instructions = fde.instructions(section, bases);
                frames::run(section, fde.cie(), *initial, instructions, fde.initial_address(), row);
            }
            self.functions.push(Function {
                from,
                to,
                first,
                count: self.rows.len() - first,
                order: self.functions.len(),
            });
        }
    }

    /// All rows in the order of their offsets, with [`Rule::NONE`] where no function is.
    fn sorted(mut self) -> Vec<(u32, Rule)> {
        self.functions
            .sort_unstable_by_key(|function| (function.from, function.order));
        let mut sorted = Vec::with_capacity(self.rows.len() + self.functions.len() / 4);
        let mut end = 0;
        for function in &self.functions {
            if function.to <= end {
                continue;
            }
            if function.from > end {
                sorted.push((end, Rule::NONE));
            }
            let from = function.from.max(end);
            let rows = self.rows.get(function.first..function.first + function.count);
            let rows = rows.unwrap_or_default();
            // The row in force where the part that counts begins.
            let skipped = rows.partition_point(|(at, _)| *at <= from).saturating_sub(1);
            for (at, rule) in rows.iter().skip(skipped) {
                sorted.push(((*at).max(from), *rule));
            }
            end = function.to;
        }
        sorted.push((end, Rule::NONE));
        sorted
    }
}

/// A function's file offsets, and what to take from an address for the offset. Functions that the linker has left out
/// have addresses (0) in no segment.
fn placed(from: u64, to: u64, segments: &[Segment]) -> Option<(u32, u32, u64)> {
    let segment = segments
        .iter()
        .find(|segment| from >= segment.address && from - segment.address < segment.size)?;
    let shift = segment.address.wrapping_sub(segment.offset);
    let to = to.min(segment.address.checked_add(segment.size)?);
    let offset = |address: u64| u32::try_from(address.wrapping_sub(shift)).ok();
    let (from, to) = (offset(from)?, offset(to)?);
    (from < to).then_some((from, to, shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measure() {
        for path in [
            "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
            "/usr/bin/as",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/bin/ld.bfd",
            "/usr/bin/make",
            "/bin/sh",
            "/lib/x86_64-linux-gnu/libbfd-2.40-system.so",
            "/usr/bin/podman",
        ] {
            let Ok(file) = std::fs::File::open(path) else { continue };
            let begin = std::time::Instant::now();
            let table = read(&file);
            let took = begin.elapsed();
            match table {
                Ok(table) => {
                    let mut kinds = std::collections::BTreeMap::new();
                    for rule in &table.rules {
                        *kinds.entry(rule.cfa).or_insert(0) += 1;
                    }
                    eprintln!(
                        "{path}: {took:?} {} rows {} blocks {} bytes {} rules {kinds:?} crowded {}",
                        table.rows(),
                        table.blocks.len(),
                        table.bytes(),
                        table.rules.len(),
                        table.crowded
                    );
                }
                Err(why) => eprintln!("{path}: {took:?} {why}"),
            }
        }
    }
}

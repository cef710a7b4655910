//! From an ELF file's unwind sections to a table.
//!
//! The file is hostile: each byte of a section is looked at once, and nothing in it leads outside it.

use std::collections::HashMap;

use gimli::{BaseAddresses, CieOrFde, DebugFrame, EhFrame, LittleEndian, UnwindOffset, UnwindSection};
use profiler_common::unwind::Rule;

use super::frames::{self, Slice, State};
use super::go;
pub use super::sections::UnwindError;
use super::sections::{Elf, Kind, MAX_SECTION};
use super::table::Table;
use crate::lookup::elf::{Segment, Source};

/// Most rows of a file, 20 bytes each while the table is made.
const MAX_ROWS: usize = 8 << 20;
/// Most common information entries. A program has one for each way that its parts were compiled, and some linkers
/// keep one for each object file.
const MAX_CIES: usize = 1 << 16;

/// Reads the unwind information of a file.
///
/// # Errors
///
/// [`UnwindError`]. A section that is broken somewhere gives what it holds before.
pub fn read<S: Source + ?Sized>(source: &S) -> Result<Table, UnwindError> {
    let file = Elf::open(source)?;
    let mut rows = Rows::default();
    for section in &file.sections {
        let bytes = file.headers.bytes(section.offset, section.size, MAX_SECTION)?;
        let bases = BaseAddresses::default()
            .set_eh_frame(section.address)
            .set_text(file.text)
            .set_got(file.got);
        if section.kind == Kind::Go {
            rows.go(&bytes, file.text, &file.segments);
        } else if section.kind == Kind::Debug {
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

    fn go(&mut self, table: &[u8], text: u64, segments: &[Segment]) {
        go::functions(table, text, |from, to, rows| {
            let Some((start, end, shift)) = placed(from, to, segments) else {
                return;
            };
            let first = self.rows.len();
            for (address, rule) in rows {
                if let Ok(at) = u32::try_from(address.wrapping_sub(shift))
                    && at >= start
                    && at < end
                    && self.rows.len() < MAX_ROWS
                {
                    self.rows.push((at, *rule));
                }
            }
            self.functions.push(Function {
                from: start,
                to: end,
                first,
                count: self.rows.len() - first,
                order: self.functions.len(),
            });
        });
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
            if rows.is_empty() {
                sorted.push((from, Rule::NONE));
            }
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
    use gimli::{CfaRule, Register, RegisterRule, UnwindContext, X86_64};
    use object::{Object as _, ObjectSection as _};
    use profiler_common::unwind::{BLOCK_ROWS, cfa, saved};

    use super::*;
    use crate::lookup::elf::MAX_FILE;

    /// What gimli's own rows say, in our terms; `None` for what those do not hold.
    fn of_gimli(row: &gimli::UnwindTableRow<usize>) -> Option<Rule> {
        let register = |register: Register| row.register(register).unwrap_or(RegisterRule::SameValue);
        if register(X86_64::RA) == RegisterRule::Undefined {
            return Some(Rule::OUTERMOST);
        }
        let CfaRule::RegisterAndOffset { register: base, offset } = *row.cfa() else {
            return None;
        };
        let mut rule = Rule::NONE;
        rule.cfa = match base {
            X86_64::RSP => cfa::SP,
            X86_64::RBP => cfa::BP,
            X86_64::RBX => cfa::BX,
            _ => return None,
        };
        rule.cfa_offset = i32::try_from(offset).ok()?;
        if register(X86_64::RA) != RegisterRule::Offset(-8) {
            return None;
        }
        for (of, shift) in [(X86_64::RBP, 0), (X86_64::RBX, 4)] {
            match register(of) {
                RegisterRule::SameValue | RegisterRule::Undefined => {}
                RegisterRule::Offset(offset) => {
                    rule.saved |= saved::CFA << shift;
                    *(if shift == 0 {
                        &mut rule.bp_offset
                    } else {
                        &mut rule.bx_offset
                    }) = i32::try_from(offset).ok()?;
                }
                _ => return None,
            }
        }
        Some(rule)
    }

    /// Make sure that tables say what gimli's own evaluation of the same instructions says, at each row's first and last
    /// byte, for the files that everything runs on.
    #[test]
    fn as_gimli_says() {
        let mut compared = 0;
        for path in [
            "/bin/sh",
            "/lib/x86_64-linux-gnu/libc.so.6",
            "/usr/bin/gcc",
            "/lib64/ld-linux-x86-64.so.2",
        ] {
            let Ok(bytes) = std::fs::read(path) else { continue };
            let table = read(&bytes[..]).unwrap();
            let object = object::File::parse(&bytes[..]).unwrap();
            let section = object.section_by_name(".eh_frame").unwrap();
            let shift = {
                let text = object.section_by_name(".text").unwrap();
                text.address() - text.file_range().unwrap().0
            };
            let frames = EhFrame::new(section.data().unwrap(), LittleEndian);
            let bases = BaseAddresses::default().set_eh_frame(section.address());
            let mut context = UnwindContext::new();
            let mut entries = frames.entries(&bases);
            while let Ok(Some(entry)) = entries.next() {
                let CieOrFde::Fde(partial) = entry else { continue };
                let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
                if fde.is_signal_trampoline() {
                    continue;
                }
                let mut rows = fde.rows(&frames, &bases, &mut context).unwrap();
                while let Some(row) = rows.next_row().unwrap() {
                    let end = row.end_address().min(fde.end_address());
                    let Some(expected) = of_gimli(row).filter(|_| row.start_address() < end) else {
                        continue;
                    };
                    for address in [row.start_address(), end - 1] {
                        compared += 1;
                        assert_eq!(table.rule(address - shift), expected, "{path} {address:#x}");
                    }
                }
            }
        }
        if compared == 0 {
            eprintln!("skipped: none of the files is here");
        }
    }

    /// CPU time of this thread, ns.
    fn cpu_ns() -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: writes one timespec.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
        assert_eq!(failed, 0);
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// Make sure that a compiler's table (30 MB of program) takes less than 150 ms of CPU time, and those of the 500 largest
    /// programs and libraries of this host less than 100 MB.
    #[test]
    fn time_and_room() {
        use std::os::unix::fs::MetadataExt as _;
        let compiler = ["12", "13", "14", "15"].map(|version| format!("/usr/lib/gcc/x86_64-linux-gnu/{version}/cc1"));
        match compiler.iter().find_map(|path| std::fs::File::open(path).ok()) {
            Some(file) => {
                let times = [(); 3].map(|()| {
                    let begin = cpu_ns();
                    read(&file).unwrap();
                    cpu_ns() - begin
                });
                eprintln!("cc1: {times:?} ns");
                assert!(times.iter().min() < Some(&150_000_000), "{times:?}");
            }
            None => eprintln!("without cc1: gcc is not installed"),
        }
        let folders = ["/usr/bin", "/usr/sbin", "/usr/lib/x86_64-linux-gnu"];
        let entries = folders.iter().flat_map(std::fs::read_dir).flatten().flatten();
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let about = entry.path().symlink_metadata().ok().filter(|about| about.is_file())?;
                Some((about.size(), about.ino(), entry.path()))
            })
            .collect();
        files.sort_unstable_by(|a, b| b.cmp(a));
        files.dedup_by_key(|(_, ino, _)| *ino);
        let (mut count, mut bytes) = (0, 0);
        for (_, _, path) in files {
            let Some(table) = std::fs::File::open(path).ok().and_then(|file| read(&file).ok()) else {
                continue;
            };
            count += 1;
            bytes += table.blocks.len() * size_of::<[u32; BLOCK_ROWS]>() + table.rules.len() * size_of::<Rule>();
            if count == 500 {
                break;
            }
        }
        eprintln!("{count} tables: {bytes} bytes");
        assert!(bytes < 100_000_000, "{count} tables: {bytes} bytes");
    }

    /// A small program's bytes, or nothing where it is not.
    fn program() -> Vec<u8> {
        std::fs::read("/bin/true").unwrap_or_default()
    }

    /// Make sure that a file cut anywhere, or with any of some bytes in its headers and unwind sections changed, brings
    /// a table or an error, and in bounded time.
    #[test]
    fn hostile_files() {
        let bytes = program();
        for len in (0..1024).chain((1024..bytes.len()).step_by(331)) {
            let _ = read(&bytes[..len.min(bytes.len())]);
        }
        let Ok(object) = object::File::parse(&bytes[..]) else {
            return;
        };
        let (at, len) = object.section_by_name(".eh_frame").unwrap().file_range().unwrap();
        let section = at as usize..(at + len) as usize;
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        let places = (0..512)
            .chain(section.step_by(7))
            .chain((sections..bytes.len()).step_by(5));
        for at in places {
            for value in [0x00, 0x7f, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                if let Ok(table) = read(&bad[..]) {
                    for offset in [0, 0x1000, 0x2345, u64::MAX] {
                        table.rule(offset);
                    }
                }
            }
        }
    }

    /// Make sure that a sparse file of 4 GiB and more, and sections that claim as much, are refused without being read.
    #[test]
    fn huge_files() {
        use std::os::unix::fs::FileExt;
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&program(), 0).unwrap();
        file.set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(read(&file), Err(UnwindError::TooLarge)));
        let mut bytes = program();
        if bytes.is_empty() {
            return;
        }
        let sections = u64::from_le_bytes(bytes[0x28..0x30].try_into().unwrap()) as usize;
        for at in (sections..bytes.len() - 64).step_by(64) {
            bytes[at + 0x20..at + 0x28].copy_from_slice(&(1u64 << 40).to_le_bytes());
        }
        assert!(read(&bytes[..]).is_err());
    }

    /// Make sure that a function table of which every entry names the same huge set-up, and functions that overlap, cost
    /// no more than their bytes.
    #[test]
    fn overlapping_functions() {
        let mut rows = Rows::default();
        for index in 0..50_000u32 {
            rows.functions.push(Function {
                from: 0x1000 + index % 100,
                to: 0x9000_0000,
                first: 0,
                count: 0,
                order: index as usize,
            });
        }
        let sorted = rows.sorted();
        assert!(sorted.len() < 10, "{}", sorted.len());
    }
}

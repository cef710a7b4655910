//! Rules of Go programs, from the table that their runtime unwinds by itself.
//!
//! Go writes no `.eh_frame` for its own code, and its `.debug_frame` is compressed or stripped. Its function table
//! (`.gopclntab`) is always there: for each function, how far the stack pointer is from the frame's begin (`pcsp`), and
//! whether the function is a stack's outermost or changes stacks. The format is that of `src/runtime/symtab.go` and
//! `src/internal/abi/symtab.go` from Go 1.18 on; programs of older ones are followed by frame pointers.

use profiler_common::unwind::{Rule, cfa, saved};

/// Section names of the table, in programs at a fixed and at any address.
pub(super) const SECTIONS: [&[u8]; 2] = [b".gopclntab", b".data.rel.ro.gopclntab"];

/// Header magics: Go 1.18 and 1.19, and 1.20 and later.
const MAGIC_118: u32 = 0xffff_fff0;
const MAGIC_120: u32 = 0xffff_fff1;
/// The function is the outermost of its stack.
const TOP_FRAME: u8 = 1;
/// It writes the stack pointer: it goes to another stack.
const SP_WRITE: u8 = 2;
/// Most functions; Kubernetes' largest programs have 150,000.
const MAX_FUNCTIONS: u64 = 1 << 20;
/// Largest frame that is believed, bytes.
const MAX_FRAME: i64 = 1 << 24;

/// Gives each function of the table: its first address, the first behind it, and its rows. `text`: address of the code
/// where the table does not tell it.
pub(super) fn functions(table: &[u8], text: u64, mut function: impl FnMut(u64, u64, &[(u64, Rule)])) -> Option<()> {
    let table = Bytes(table);
    let magic = table.u32(0)?;
    if !matches!(magic, MAGIC_118 | MAGIC_120) || table.u8(7)? != 8 {
        return None;
    }
    let quantum = u64::from(table.u8(6)?);
    let count = table.u64(8)?.min(MAX_FUNCTIONS);
    let start = Some(table.u64(24)?).filter(|start| *start != 0).unwrap_or(text);
    let pctab = usize::try_from(table.u64(56)?).ok()?;
    let functab = usize::try_from(table.u64(64)?).ok()?;
    let flag_at = if magic == MAGIC_118 { 37 } else { 41 };
    let mut rows = Vec::new();
    for index in 0..usize::try_from(count).ok()? {
        let entry = functab.checked_add(index.checked_mul(8)?)?;
        let from = start.checked_add(table.u32(entry)?.into())?;
        let to = start.checked_add(table.u32(entry.checked_add(8)?)?.into())?;
        let at = functab.checked_add(usize::try_from(table.u32(entry.checked_add(4)?)?).ok()?)?;
        let flag = table.u8(at.checked_add(flag_at)?)?;
        let pcsp = table.u32(at.checked_add(16)?)?;
        if from >= to {
            continue;
        }
        rows.clear();
        if flag & TOP_FRAME != 0 {
            rows.push((from, Rule::OUTERMOST));
        } else if flag & SP_WRITE != 0 {
            rows.push((from, Rule::OTHER_STACK));
        } else if pcsp != 0 {
            depths(
                table,
                pctab.checked_add(usize::try_from(pcsp).ok()?)?,
                quantum,
                from,
                to,
                &mut rows,
            );
        }
        function(from, to, &rows);
    }
    Some(())
}

/// Decodes one function's `pcsp`: pairs of a signed step of the value and a step of the address.
fn depths(table: Bytes<'_>, mut at: usize, quantum: u64, from: u64, to: u64, rows: &mut Vec<(u64, Rule)>) {
    let mut pc = from;
    let mut depth = -1i64;
    let mut first = true;
    while pc < to {
        let Some(step) = table.varint(&mut at) else { return };
        if step == 0 && !first {
            return;
        }
        first = false;
        let signed = if step & 1 == 1 {
            !i64::from(step >> 1)
        } else {
            i64::from(step >> 1)
        };
        depth = depth.wrapping_add(signed);
        rows.push((pc, rule(depth)));
        let Some(length) = table.varint(&mut at) else { return };
        pc = pc.saturating_add(u64::from(length).saturating_mul(quantum));
    }
}

/// The rule at a place where the frame takes `depth` bytes below the return address.
fn rule(depth: i64) -> Rule {
    if !(0..MAX_FRAME).contains(&depth) {
        return Rule::UNSUPPORTED;
    }
    let mut rule = Rule {
        cfa: cfa::SP,
        cfa_offset: i32::try_from(depth + 8).unwrap_or(i32::MAX),
        ..Rule::NONE
    };
    if depth > 0 {
        // A function with a frame keeps its caller's frame pointer below the return address.
        rule.saved = saved::CFA;
        rule.bp_offset = -16;
    }
    rule
}

#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.0.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn varint(&self, at: &mut usize) -> Option<u32> {
        let mut value = 0u32;
        for shift in (0..35).step_by(7) {
            let byte = self.u8(*at)?;
            *at += 1;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of one function of 0x40 bytes: depth 0 for 4, 24 for 0x3b, 0 for the last.
    fn table(flag: u8) -> Vec<u8> {
        let mut bytes = vec![0; 200];
        bytes[0..4].copy_from_slice(&MAGIC_120.to_le_bytes());
        bytes[6] = 1;
        bytes[7] = 8;
        for (at, value) in [(8, 1u64), (24, 0x40_0000), (56, 80), (64, 96)] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        bytes[81..88].copy_from_slice(&[2, 4, 48, 0x3b, 47, 1, 0]);
        for (at, value) in [(96, 0x1000u32), (100, 16), (104, 0x1040), (112 + 16, 1)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[112 + 41] = flag;
        bytes
    }

    /// Begin and end of a function, and its rules.
    type Function = (u64, u64, Vec<(u64, Rule)>);

    fn read(bytes: &[u8]) -> Vec<Function> {
        let mut all = Vec::new();
        functions(bytes, 0, |from, to, rows| all.push((from, to, rows.to_vec())));
        all
    }

    /// Make sure that a function's depths become rules, and that outermost functions and those that change stacks are
    /// known.
    #[test]
    fn one_function() {
        let all = read(&table(0));
        let rows = [(0x40_1000, rule(0)), (0x40_1004, rule(24)), (0x40_103f, rule(0))];
        assert_eq!(all, [(0x40_1000, 0x40_1040, rows.to_vec())]);
        assert_eq!(rule(24).cfa_offset, 32);
        assert_eq!(read(&table(TOP_FRAME))[0].2, [(0x40_1000, Rule::OUTERMOST)]);
        assert_eq!(read(&table(SP_WRITE))[0].2, [(0x40_1000, Rule::OTHER_STACK)]);
    }

    /// Make sure that a table that is cut, or any of whose bytes is another, brings no panic.
    #[test]
    fn hostile() {
        let bytes = table(0);
        for len in 0..bytes.len() {
            read(&bytes[..len]);
        }
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                read(&bad);
            }
        }
    }
}

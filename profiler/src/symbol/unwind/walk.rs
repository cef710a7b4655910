//! Walks on in user space where the kernel's walk has stopped, over the piece of the stack that it has copied.

use profiler_common::unwind::{COPY_PART, Copied, Memory, Registers, Rule, Step, USER_FRAMES, cfa, end, pt, step};

use super::table::Table;

/// A piece of a user stack, with the registers of the walk that has stopped there.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    pub head: Copied,
    /// From `head.from()` on.
    pub bytes: Vec<u8>,
}

/// What lies at an address.
pub enum Code<'t> {
    /// Nothing that is executable.
    Unmapped,
    /// Code of a file at an offset in it.
    File(&'t Table, u64),
    /// Code without a table: it is taken to keep frame pointers.
    FramePointers,
    /// The file's table is on its way.
    Later,
}

/// The table of a file on the way is not there yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet;

struct Stack<'a> {
    from: u64,
    bytes: &'a [u8],
    holes: u16,
    registers: Option<&'a [u64; pt::LEN]>,
}

impl Memory for Stack<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.from)?).ok()?;
        let bytes = self.bytes.get(at..at.checked_add(8)?)?;
        let parts = [at, at + 7].map(|at| at / COPY_PART as usize);
        if parts.iter().any(|part| self.holes >> part & 1 != 0) {
            return None;
        }
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }

    fn register(&self, index: u8) -> Option<u64> {
        self.registers?.get(usize::from(index)).copied()
    }
}

/// Appends the frames beyond the last one of `frames`, at which the kernel has stopped, and says how the walk has ended
/// ([`end`]).
///
/// # Errors
///
/// [`NotYet`]; `frames` is as it was.
pub fn walk<'t>(piece: &Piece, frames: &mut Vec<u64>, mut code: impl FnMut(u64) -> Code<'t>) -> Result<u8, NotYet> {
    let known = frames.len();
    let mut at: Registers = piece.head.at;
    let mut leaf = piece.head.leaf != 0;
    let mut exact = piece.head.exact != 0;
    let mut noted = true;
    loop {
        let address = at.pc.wrapping_sub(u64::from(!exact));
        let place = code(address);
        if !noted {
            if matches!(place, Code::Unmapped) {
                return Ok(end::UNMAPPED);
            }
            if frames.len() >= USER_FRAMES {
                return Ok(end::DEPTH);
            }
            // As the kernel gives them: the byte before a caller's address is its own.
            frames.push(at.pc.wrapping_add(u64::from(exact)));
        }
        noted = false;
        let rule = match place {
            Code::Unmapped => return Ok(end::UNMAPPED),
            Code::Later => {
                frames.truncate(known);
                return Err(NotYet);
            }
            Code::FramePointers => Rule::FRAME_POINTER,
            Code::File(table, offset) => match table.rule(offset) {
                rule if rule.cfa == cfa::NONE => Rule::FRAME_POINTER,
                rule => rule,
            },
        };
        let mut memory = Stack {
            from: piece.head.from(),
            bytes: &piece.bytes,
            holes: piece.head.holes,
            registers: leaf.then_some(&piece.head.registers),
        };
        match step(&rule, &mut at, &mut memory) {
            Step::Caller => exact = false,
            Step::Interrupted => exact = true,
            Step::End(end::MEMORY) => return Ok(end::COPY),
            Step::End(end) => return Ok(end),
        }
        leaf = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(sp: u64, bp: u64, pc: u64, words: &[u64]) -> Piece {
        Piece {
            head: Copied {
                at: Registers { pc, sp, bp, bx: 0 },
                leaf: 1,
                exact: 1,
                ..Copied::default()
            },
            bytes: words.iter().flat_map(|word| word.to_ne_bytes()).collect(),
        }
    }

    fn rule(cfa: u8, cfa_offset: i32, saved: u8, bp_offset: i32) -> Rule {
        Rule {
            cfa,
            cfa_offset,
            saved,
            bp_offset,
            ..Rule::NONE
        }
    }

    /// Make sure that callers are found by the stack pointer, then by a restored frame pointer, up to the outermost.
    #[test]
    fn through_rules() {
        let table = Table::build(&[
            (0x1000, rule(cfa::SP, 16, 0, 0)),
            (0x1100, rule(cfa::SP, 24, 1, -16)),
            (0x1200, rule(cfa::BP, 16, 1, -16)),
            (0x1300, Rule::OUTERMOST),
        ])
        .unwrap();
        // Leaf at 0x1010: frame 8 + return address. Its caller at 0x1110 pushed bp and has 8 more.
        let words = [0, 0x1110, 0, 0x7040, 0x1210, 0, 0, 0, 0xbeef, 0x1310];
        let piece = piece(0x7000, 1, 0x1010, &words);
        let mut frames = vec![0x1010];
        let ended = walk(&piece, &mut frames, |address| Code::File(&table, address)).unwrap();
        assert_eq!(ended, end::OUTERMOST);
        assert_eq!(frames, [0x1010, 0x1110, 0x1210, 0x1310]);
    }

    /// Make sure that a signal's frame leads to the interrupted code with all that it needs, and that its address is
    /// given so that the byte before is its own.
    #[test]
    fn through_a_signal() {
        let table = Table::build(&[
            (0x1000, Rule::SIGNAL),
            (0x1100, rule(cfa::BP, 16, 1, -16)),
            (0x1200, Rule::OUTERMOST),
        ]);
        let table = table.unwrap();
        let mut words = [0u64; 40];
        words[120 / 8] = 0x7100;
        words[160 / 8] = 0x70e0;
        words[168 / 8] = 0x1100;
        words[0x108 / 8] = 0x1210;
        let piece = piece(0x7000, 0, 0x1005, &words);
        let mut frames = vec![0x1005];
        let ended = walk(&piece, &mut frames, |address| Code::File(&table, address)).unwrap();
        assert_eq!((ended, frames), (end::OUTERMOST, vec![0x1005, 0x1101, 0x1210]));
    }

    /// Make sure that a stack that leads in a circle, beyond the copy or into data ends, with the cause.
    #[test]
    fn broken_stacks() {
        let table = Table::build(&[(0x1000, rule(cfa::BP, 16, 1, -16)), (0x2000, Rule::UNSUPPORTED)]).unwrap();
        let code = |address| {
            if address < 0x9000 {
                Code::File(&table, address)
            } else {
                Code::Unmapped
            }
        };
        let ended = |piece: &Piece| walk(piece, &mut vec![0], code).unwrap();
        // A frame pointer that points at itself.
        assert_eq!(ended(&piece(0x7000, 0x7000, 0x1010, &[0x7000, 0x1010])), end::STUCK);
        assert_eq!(ended(&piece(0x7000, 0x8000, 0x1010, &[0x7000, 0x1010])), end::COPY);
        assert_eq!(ended(&piece(0x7000, 0x7000, 0x1010, &[0x7000, 0xa000])), end::UNMAPPED);
        assert_eq!(ended(&piece(0x7000, 0x7000, 0x1010, &[0x7000, 0])), end::ZERO);
        assert_eq!(ended(&piece(0x7000, 0x7000, 0x2010, &[])), end::RULE);
        assert_eq!(ended(&piece(u64::MAX, u64::MAX, u64::MAX, &[])), end::UNMAPPED);
    }

    /// Make sure that parts of the stack that were not there are neither read as zeros nor in the way of what lies beyond.
    #[test]
    fn holes_in_a_copy() {
        let mut words = vec![0u64; 3 * 256];
        // The frame pointer at 0x7010 leads to the third part, over the second, which is missing.
        words[2..4].copy_from_slice(&[0x8000, 0x1010]);
        words[512..514].copy_from_slice(&[0, 0]);
        let mut piece = piece(0x7000, 0x7010, 0x1010, &words);
        piece.head.holes = 0b10;
        let ended = |piece: &Piece| walk(piece, &mut vec![0], |_| Code::FramePointers);
        assert_eq!(ended(&piece), Ok(end::ZERO));
        piece.head.holes = 0b100;
        assert_eq!(ended(&piece), Ok(end::COPY));
    }

    /// Make sure that a walk that waits for a table leaves the frames as they were.
    #[test]
    fn waits_for_a_table() {
        let piece = piece(0x7000, 0x7000, 0x1010, &[0x7010, 0x2010, 0, 0]);
        let mut frames = vec![0x1010];
        let code = |address| {
            if address < 0x2000 {
                Code::FramePointers
            } else {
                Code::Later
            }
        };
        assert_eq!(walk(&piece, &mut frames, code), Err(NotYet));
        assert_eq!(frames, [0x1010]);
    }

    /// Make sure that endless recursion ends at the bound, and says that it did.
    #[test]
    fn deep_recursion() {
        let words: Vec<u64> = (0..2000u64).flat_map(|n| [0x7000 + 16 * (n + 1), 0x1010]).collect();
        let piece = piece(0x7000, 0x7000, 0x1010, &words);
        let mut frames = vec![0x1010];
        assert_eq!(walk(&piece, &mut frames, |_| Code::FramePointers), Ok(end::DEPTH));
        assert_eq!(frames.len(), USER_FRAMES);
    }
}

//! From call frame instructions to rules.
//!
//! A compiler's instructions say for each address how every register of the caller is found. Of these a walk needs
//! the frame address, the return address, and the registers that other frame addresses are counted from: the frame
//! pointer, and rbx (the dynamic linker's resolvers). The instructions are run here for these only, which takes a
//! tenth of the time that gimli's whole rows do.

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CommonInformationEntry, EndianSlice, LittleEndian,
    Reader as _, Register, UnwindExpression, UnwindSection, X86_64,
};
use profiler_common::unwind::{Rule, cfa, saved};

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// Most states that are remembered at a time. Compilers nest once.
const MAX_REMEMBERED: usize = 64;

/// The frame address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frame {
    Register(Register, i64),
    /// The word at register + offset.
    At(Register, i64),
    /// Stack pointer + 8, and 8 more from that byte of a 16-byte entry on.
    Plt(u8),
    Unsupported,
}

/// A register of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// Nothing was said.
    Same,
    Undefined,
    /// At frame address + offset.
    Saved(i64),
    /// At register + offset.
    At(Register, i64),
    Register(Register),
    Unsupported,
}

/// What is in force at an address.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    frame: Frame,
    bp: Caller,
    bx: Caller,
    ra: Caller,
}

impl State {
    const EMPTY: State = State {
        frame: Frame::Unsupported,
        bp: Caller::Same,
        bx: Caller::Same,
        ra: Caller::Same,
    };

    /// What a common information entry says of all its functions.
    pub(super) fn initial<'a, S>(cie: &CommonInformationEntry<Slice<'a>>, section: &S, bases: &BaseAddresses) -> State
    where
        S: UnwindSection<Slice<'a>>,
    {
        let mut state = State::EMPTY;
        let mut run = Run {
            section,
            cie,
            initial: State::EMPTY,
            remembered: Vec::new(),
        };
        let mut instructions = cie.instructions(section, bases);
        while let Ok(Some(instruction)) = instructions.next() {
            if run.change(&instruction, &mut state).is_err() {
                break;
            }
        }
        state
    }

    fn rule(&self) -> Rule {
        if self.ra == Caller::Undefined {
            return Rule::OUTERMOST;
        }
        self.supported().unwrap_or(Rule::UNSUPPORTED)
    }

    fn supported(&self) -> Option<Rule> {
        let mut rule = Rule::NONE;
        match self.frame {
            Frame::Register(register, offset) => {
                rule.cfa = match register {
                    X86_64::RSP => cfa::SP,
                    X86_64::RBP => cfa::BP,
                    X86_64::RBX => cfa::BX,
                    other => {
                        rule.register = saved_index(other)?;
                        cfa::REGISTER
                    }
                };
                rule.cfa_offset = i32::try_from(offset).ok()?;
            }
            Frame::At(register, offset) => {
                rule.cfa = match register {
                    X86_64::RBP => cfa::AT_BP,
                    X86_64::RSP => cfa::AT_SP,
                    _ => return None,
                };
                rule.cfa_offset = i32::try_from(offset).ok()?;
            }
            Frame::Plt(byte) => {
                rule.cfa = cfa::PLT;
                rule.cfa_offset = byte.into();
            }
            Frame::Unsupported => return None,
        }
        rule.ra = match self.ra {
            Caller::Saved(-8) => 0,
            Caller::Register(register) => 1 + saved_index(register)?,
            _ => return None,
        };
        let (bp, offset) = self.kept(self.bp)?;
        rule.bp_offset = offset;
        let (bx, offset) = self.kept(self.bx)?;
        rule.bx_offset = offset;
        rule.saved = bp | bx << 4;
        Some(rule)
    }

    fn kept(&self, caller: Caller) -> Option<(u8, i32)> {
        let (kind, offset) = match caller {
            Caller::Same | Caller::Undefined => (saved::SAME, 0),
            Caller::Saved(offset) => (saved::CFA, offset),
            Caller::At(X86_64::RBP, offset) => (saved::BP, offset),
            Caller::At(X86_64::RSP, offset) => match self.frame {
                Frame::Register(X86_64::RSP, up) => (saved::CFA, offset.checked_sub(up)?),
                _ => return None,
            },
            Caller::At(..) | Caller::Register(_) | Caller::Unsupported => return None,
        };
        Some((kind, i32::try_from(offset).ok()?))
    }
}

/// Index of a register in the kernel's `struct pt_regs`, in words.
fn saved_index(register: Register) -> Option<u8> {
    Some(match register {
        X86_64::R15 => 0,
        X86_64::R14 => 1,
        X86_64::R13 => 2,
        X86_64::R12 => 3,
        X86_64::RBP => 4,
        X86_64::RBX => 5,
        X86_64::R11 => 6,
        X86_64::R10 => 7,
        X86_64::R9 => 8,
        X86_64::R8 => 9,
        X86_64::RAX => 10,
        X86_64::RCX => 11,
        X86_64::RDX => 12,
        X86_64::RSI => 13,
        X86_64::RDI => 14,
        X86_64::RSP => 19,
        _ => return None,
    })
}

/// A function's instructions contradict themselves.
struct Broken;

struct Run<'r, 'a, S> {
    section: &'r S,
    cie: &'r CommonInformationEntry<Slice<'a>>,
    initial: State,
    remembered: Vec<State>,
}

/// Runs a function's instructions from `start` on and gives the rule of each address where it changes. From where they
/// contradict themselves, that is [`Rule::UNSUPPORTED`].
pub(super) fn run<'a, S>(
    section: &S,
    cie: &CommonInformationEntry<Slice<'a>>,
    initial: State,
    mut instructions: CallFrameInstructionIter<'_, Slice<'a>>,
    start: u64,
    mut row: impl FnMut(u64, Rule),
) where
    S: UnwindSection<Slice<'a>>,
{
    let mut run = Run {
        section,
        cie,
        initial,
        remembered: Vec::new(),
    };
    let mut state = initial;
    let mut at = start;
    loop {
        let next = match instructions.next() {
            Ok(None) => {
                row(at, state.rule());
                return;
            }
            Ok(Some(CallFrameInstruction::AdvanceLoc { delta })) => u64::from(delta)
                .checked_mul(cie.code_alignment_factor())
                .and_then(|delta| at.checked_add(delta)),
            Ok(Some(CallFrameInstruction::SetLoc { address })) => Some(address).filter(|address| *address >= at),
            Ok(Some(instruction)) => run.change(&instruction, &mut state).ok().map(|()| at),
            Err(_) => None,
        };
        let Some(next) = next else {
            row(at, Rule::UNSUPPORTED);
            return;
        };
        if next > at {
            row(at, state.rule());
            at = next;
        }
    }
}

impl<'a, S> Run<'_, 'a, S>
where
    S: UnwindSection<Slice<'a>>,
{
    fn change(&mut self, instruction: &CallFrameInstruction<usize>, state: &mut State) -> Result<(), Broken> {
        use CallFrameInstruction as I;
        let data = |factor: i64| factor.wrapping_mul(self.cie.data_alignment_factor());
        let register = match *instruction {
            I::DefCfa { register, offset } => {
                state.frame = Frame::Register(register, offset as i64);
                return Ok(());
            }
            I::DefCfaSf {
                register,
                factored_offset,
            } => {
                state.frame = Frame::Register(register, data(factored_offset));
                return Ok(());
            }
            I::DefCfaRegister { register } => {
                let Frame::Register(_, offset) = state.frame else {
                    return Err(Broken);
                };
                state.frame = Frame::Register(register, offset);
                return Ok(());
            }
            I::DefCfaOffset { offset } => return move_frame(state, offset as i64),
            I::DefCfaOffsetSf { factored_offset } => return move_frame(state, data(factored_offset)),
            I::DefCfaExpression { expression } => {
                state.frame = self.frame(&expression);
                return Ok(());
            }
            I::RememberState => {
                if self.remembered.len() >= MAX_REMEMBERED {
                    return Err(Broken);
                }
                self.remembered.push(*state);
                return Ok(());
            }
            I::RestoreState => {
                *state = self.remembered.pop().ok_or(Broken)?;
                return Ok(());
            }
            I::Undefined { register } => (register, Caller::Undefined),
            I::SameValue { register } => (register, Caller::Same),
            I::Offset {
                register,
                factored_offset,
            } => (register, Caller::Saved(data(factored_offset as i64))),
            I::OffsetExtendedSf {
                register,
                factored_offset,
            } => (register, Caller::Saved(data(factored_offset))),
            I::Register {
                dest_register,
                src_register,
            } => (dest_register, Caller::Register(src_register)),
            I::Expression { register, expression } => {
                let caller = self
                    .register_offset(&expression)
                    .map_or(Caller::Unsupported, |(base, offset)| Caller::At(base, offset));
                (register, caller)
            }
            I::ValOffset { register, .. } | I::ValOffsetSf { register, .. } | I::ValExpression { register, .. } => {
                (register, Caller::Unsupported)
            }
            I::Restore { register } => {
                let initial = match register {
                    X86_64::RBP => self.initial.bp,
                    X86_64::RBX => self.initial.bx,
                    X86_64::RA => self.initial.ra,
                    _ => return Ok(()),
                };
                (register, initial)
            }
            _ => return Ok(()),
        };
        match register.0 {
            X86_64::RBP => state.bp = register.1,
            X86_64::RBX => state.bx = register.1,
            X86_64::RA => state.ra = register.1,
            _ => {}
        }
        Ok(())
    }

    fn bytes(&self, expression: &UnwindExpression<usize>) -> Option<Slice<'a>> {
        Some(expression.get(self.section).ok()?.0)
    }

    fn frame(&self, expression: &UnwindExpression<usize>) -> Frame {
        let Some(bytes) = self.bytes(expression) else {
            return Frame::Unsupported;
        };
        // What linkers write for .plt: rsp + 8 + ((rip & 15) >= N) << 3.
        if let [0x77, 8, 0x80, 0, 0x3f, 0x1a, byte @ 0x30..=0x3f, 0x2a, 0x33, 0x24, 0x22] = bytes.slice() {
            return Frame::Plt(byte - 0x30);
        }
        match register_offset(bytes) {
            Some((register, offset, rest)) if rest.slice() == [gimli::DW_OP_deref.0] => Frame::At(register, offset),
            Some((register, offset, rest)) if rest.slice().is_empty() => Frame::Register(register, offset),
            _ => Frame::Unsupported,
        }
    }

    /// An expression that is one register and an offset.
    fn register_offset(&self, expression: &UnwindExpression<usize>) -> Option<(Register, i64)> {
        let (register, offset, rest) = register_offset(self.bytes(expression)?)?;
        rest.slice().is_empty().then_some((register, offset))
    }
}

fn move_frame(state: &mut State, to: i64) -> Result<(), Broken> {
    let Frame::Register(register, _) = state.frame else {
        return Err(Broken);
    };
    state.frame = Frame::Register(register, to);
    Ok(())
}

/// `DW_OP_bregN offset` at an expression's begin, and what follows.
fn register_offset(mut bytes: Slice<'_>) -> Option<(Register, i64, Slice<'_>)> {
    let operation = bytes.read_u8().ok()?;
    let register = operation
        .checked_sub(gimli::DW_OP_breg0.0)
        .filter(|number| *number < 32)?;
    let offset = bytes.read_sleb128().ok()?;
    Some((Register(register.into()), offset, bytes))
}

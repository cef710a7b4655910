//! Makes programs stay on their CPU on kernels that would let another thread take it in the middle of one; see
//! [`profiler_common::preempt`].

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use object::{Object as _, ObjectSection as _, SectionKind};
use profiler_common::preempt::{DISABLE, ENABLE};

use super::LoadError;
use crate::kernel::{host, offsets::Resolved, pseudo};

/// Since then a tracepoint's programs are called with preemption on (a46023d5616e). Before 6.15 (1d8c5b51d2f0) the verifier
/// refuses our functions of its own between the two calls.
const NEEDED_SINCE: (u32, u32) = (7, 0);

/// Length of an instruction: code, registers, a 16-bit offset, a 32-bit number.
const INSTRUCTION: usize = 8;
/// `BPF_JMP | BPF_CALL`
const CALL: u8 = 0x85;
/// Its source register when what is called is a kernel function (`BPF_PSEUDO_KFUNC_CALL`).
const KERNEL_FUNCTION: u8 = 2 << 4;
/// `r0 = 0`: what a call leaves there is nothing.
const NOTHING: [u8; INSTRUCTION] = [0xb7, 0, 0, 0, 0, 0, 0, 0];

/// Whether this kernel calls a tracepoint's programs with preemption on.
pub(super) fn needed() -> bool {
    host::version(&host::release()).is_some_and(|version| version >= NEEDED_SINCE)
}

/// Whether another thread can take the CPU in the middle of a program on a function (`fentry`, `fexit`), which runs as the
/// function does: on kernels built for that too.
pub(super) fn cuts_into_functions() -> bool {
    let built = std::fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    needed() || cuts(&built, mode)
}

/// The same by what the kernel says of its build (`#1 SMP PREEMPT_DYNAMIC Debian 6.12…`). What is dynamic is as the kernel was
/// configured or booted, which `mode` tells: where that can't be had, the worse is taken.
fn cuts(built: &str, mode: impl Fn() -> io::Result<String>) -> bool {
    built.split(' ').any(|word| match word {
        "PREEMPT" | "PREEMPT_RT" => true,
        "PREEMPT_DYNAMIC" => !mode().is_ok_and(|mode| mode.contains("(none)") || mode.contains("(voluntary)")),
        _ => false,
    })
}

/// The modes of preemption, the chosen one in brackets: `none (voluntary) full` (`sched_dynamic_show`,
/// kernel/sched/debug.c; 5.13).
fn mode() -> io::Result<String> {
    let root = pseudo::detached(c"debugfs")?;
    let mut text = String::new();
    File::from(pseudo::open(root.as_raw_fd(), c"sched/preempt", libc::O_RDONLY)?).read_to_string(&mut text)?;
    Ok(text)
}

/// Ids of the kernel's functions in its BTF, where they are needed.
pub(super) fn functions(resolved: &Resolved) -> Option<[u32; 2]> {
    if !needed() {
        return None;
    }
    if resolved.preempt.is_none() {
        tracing::warn!(
            "this kernel has no bpf_preempt_disable: what one thread does can cut into what is told of another"
        );
    }
    resolved.preempt
}

/// An object in memory, aligned as it is read.
pub(super) struct Patched(Vec<u64>);

impl Patched {
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the same memory; bytes have no alignment and no forbidden values.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * INSTRUCTION) }
    }
}

/// The object with calls of these functions, or with none.
///
/// # Errors
///
/// It is no object.
pub(super) fn patched(object: &[u8], functions: Option<[u32; 2]>) -> Result<Patched, LoadError> {
    let mut words: Vec<u64> = object.chunks(INSTRUCTION).map(word).collect();
    for code in code(object)? {
        for at in code.step_by(INSTRUCTION) {
            let at = at / INSTRUCTION;
            let [CALL, 0, 0, 0, number @ ..] = words[at].to_ne_bytes() else {
                continue;
            };
            let which = match u32::from_le_bytes(number) {
                DISABLE => 0,
                ENABLE => 1,
                _ => continue,
            };
            let instruction = match functions {
                None => NOTHING,
                Some(ids) => {
                    let [a, b, c, d] = ids[which].to_le_bytes();
                    [CALL, KERNEL_FUNCTION, 0, 0, a, b, c, d]
                }
            };
            words[at] = u64::from_ne_bytes(instruction);
        }
    }
    Ok(Patched(words))
}

/// Up to eight bytes, as they lie in memory.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; INSTRUCTION];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_ne_bytes(word)
}

/// Where an object's instructions lie in it: whole ones, aligned.
fn code(object: &[u8]) -> Result<Vec<Range<usize>>, LoadError> {
    let file = object::File::parse(object).map_err(|_| LoadError::Missing("sections"))?;
    let sections = file.sections().filter(|section| section.kind() == SectionKind::Text);
    let ranges = sections.filter_map(|section| section.file_range());
    let whole = |(from, length): (u64, u64)| {
        let from = usize::try_from(from).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        (from % INSTRUCTION == 0 && length % INSTRUCTION as u64 == 0 && to <= object.len()).then_some(from..to)
    };
    let ranges = ranges.map(|range| whole(range).ok_or(LoadError::Missing("aligned sections")));
    ranges.collect()
}

#[cfg(test)]
mod tests {
    use super::super::object::{hash, storage};
    use super::*;

    /// How many calls of each of the two are in an object, and of how many others of the kernel's functions.
    fn calls(object: &[u8]) -> [usize; 3] {
        let mut counts = [0; 3];
        for code in code(object).unwrap() {
            for instruction in object[code].chunks(INSTRUCTION) {
                let number = u32::from_le_bytes(instruction[4..].try_into().unwrap());
                match (instruction[0], instruction[1], number) {
                    (CALL, 0, DISABLE) => counts[0] += 1,
                    (CALL, 0, ENABLE) => counts[1] += 1,
                    (CALL, KERNEL_FUNCTION, _) => counts[2] += 1,
                    _ => {}
                }
            }
        }
        counts
    }

    /// Make sure that a kernel that may be preempted anywhere is known by its build, and one that can be either by its mode.
    #[test]
    fn preemptible_kernels() {
        let none = || Err(io::ErrorKind::PermissionDenied.into());
        for (built, expected) in [
            ("#1 SMP Debian 5.10.0-46 (2026-11-01)", false),
            ("#1 SMP PREEMPT Fri Nov 20", true),
            ("#1 SMP PREEMPT_RT Debian", true),
            ("#1 SMP PREEMPT_DYNAMIC Debian 6.12", true),
        ] {
            assert_eq!(cuts(built, none), expected, "{built}");
        }
        for (mode, expected) in [
            ("none (voluntary) full", false),
            ("(none) voluntary full lazy", false),
            ("none voluntary (full)", true),
            ("none voluntary full (lazy)", true),
            ("full (lazy)", true),
        ] {
            let cuts = cuts("#1 SMP PREEMPT_DYNAMIC x", || Ok(mode.to_owned()));
            assert_eq!(cuts, expected, "{mode}");
        }
    }

    /// Make sure that all calls are taken out, or become calls of the kernel's functions, and that nothing else changes.
    #[test]
    fn calls_are_replaced() {
        for object in [storage(), hash()] {
            let [begins, ends, others] = calls(object);
            assert!(begins > 20 && ends >= begins && others == 0, "{begins} {ends} {others}");
            for (functions, of_kernel) in [(None, 0), (Some([7, 8]), begins + ends)] {
                let patched = patched(object, functions).unwrap();
                let bytes = &patched.bytes()[..object.len()];
                assert_eq!(calls(bytes), [0, 0, of_kernel]);
                assert_eq!(bytes.as_ptr().align_offset(8), 0);
                let changed = bytes.chunks(INSTRUCTION).zip(object.chunks(INSTRUCTION));
                assert_eq!(changed.filter(|(new, old)| new != old).count(), begins + ends);
            }
        }
        assert!(patched(b"no object", None).is_err());
    }
}

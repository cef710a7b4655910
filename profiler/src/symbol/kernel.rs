//! Names of kernel addresses, from `/proc/kallsyms` through blazesym.

use blazesym::MaybeDefault;
use blazesym::symbolize::source::{Kernel as KernelSource, Source};
use blazesym::symbolize::{Input, Symbolized, Symbolizer};

/// Where the kernel's half of the address space begins, on every 64-bit architecture that Linux runs on.
const KERNEL_HALF: u64 = 1 << 63;

/// kallsyms has no sizes: an address further than this from the symbol below it is in no function that is known.
const MAX_OFFSET: u64 = 1 << 20;

/// Why kernel addresses can't be named.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("reading kernel symbols from /proc/kallsyms failed: {0:#}; kernel frames stay addresses")]
    Load(blazesym::Error),
    #[error(
        "/proc/kallsyms shows no addresses: set kernel.kptr_restrict to 0 or 1 and run as root; kernel frames stay \
         addresses"
    )]
    Hidden,
}

/// Resolves addresses of the running kernel, its modules and BPF programs.
///
/// Frames are named as they come, not when the recording is read: after a reboot (or once a module is gone) the
/// addresses mean nothing. Only `/proc/kallsyms` is asked: its addresses are the running kernel's, KASLR included,
/// while a `vmlinux` file can be another build's.
///
/// It is not `Send`: open it in the thread that asks it.
pub struct Kernel {
    symbolizer: Symbolizer,
    source: Source<'static>,
}

impl Kernel {
    /// Reads all kernel symbols: tens of milliseconds, most of them the kernel's own to write the text.
    ///
    /// # Errors
    ///
    /// [`KernelError`]: `/proc/kallsyms` can't be read, or hides its addresses (`kptr_restrict`).
    pub fn open() -> Result<Self, KernelError> {
        let kernel = KernelSource {
            kallsyms: MaybeDefault::Default,
            vmlinux: MaybeDefault::None,
            kaslr_offset: None,
            debug_syms: false,
            ..KernelSource::default()
        };
        let symbolizer = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .build();
        let kernel = Kernel {
            symbolizer,
            source: Source::Kernel(kernel),
        };
        // The first question loads the table. No address lies above the last symbol's: any name will do.
        let last = kernel.ask(u64::MAX - 1).map_err(KernelError::Load)?;
        if last.is_none() {
            return Err(KernelError::Hidden);
        }
        Ok(kernel)
    }

    /// Name of the function at `address` and the address' offset in it. BPF programs are `bpf_prog_<tag>_<name>`.
    pub fn name(&self, address: u64) -> Option<(String, u64)> {
        // Before 6.15 the offsets of per-CPU variables stand among the symbols as small addresses.
        if address < KERNEL_HALF {
            return None;
        }
        self.ask(address)
            .ok()
            .flatten()
            .filter(|(_, offset)| *offset < MAX_OFFSET)
    }

    fn ask(&self, address: u64) -> Result<Option<(String, u64)>, blazesym::Error> {
        Ok(
            match self
                .symbolizer
                .symbolize_single(&self.source, Input::AbsAddr(address))?
            {
                Symbolized::Sym(symbol) => Some((symbol.name.into_owned(), symbol.offset as u64)),
                Symbolized::Unknown(_) => None,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that an address of `/proc/kallsyms` gets the name that stands there, and others none.
    #[test]
    fn kallsyms_by_name() {
        let kernel = match Kernel::open() {
            Ok(kernel) => kernel,
            Err(error) => return eprintln!("skipped: {error}"),
        };
        let text = std::fs::read_to_string("/proc/kallsyms").unwrap();
        let address = text
            .lines()
            .find_map(|line| line.strip_suffix(" T vfs_read").or(line.strip_suffix(" t vfs_read")))
            .map(|address| u64::from_str_radix(address, 16).unwrap())
            .unwrap();
        assert_eq!(kernel.name(address + 5), Some(("vfs_read".to_string(), 5)));
        assert_eq!(kernel.name(0x1000), None);
        assert_eq!(kernel.name(u64::MAX - 1), None);
    }
}

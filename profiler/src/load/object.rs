//! The eBPF objects that are built into the program.

use aya::include_bytes_aligned;

pub fn storage() -> &'static [u8] {
    include_bytes_aligned!("../../prebuilt/phasegraph-storage.bpf.o")
}

pub fn hash() -> &'static [u8] {
    include_bytes_aligned!("../../prebuilt/phasegraph-hash.bpf.o")
}

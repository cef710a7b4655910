//! The eBPF objects that are built into the program; `build.rs` verified them.

use aya::include_bytes_aligned;

/// The object that keeps per-task state in task storage (Linux 5.13 and later for tracing programs).
pub fn storage() -> &'static [u8] {
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/phasegraph-storage.bpf.o"))
}

/// The object that keeps per-task state in a hash keyed by thread id: for kernels that refuse task storage, where one
/// unsupported map would fail the whole load.
pub fn hash() -> &'static [u8] {
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/phasegraph-hash.bpf.o"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSection, ObjectSymbol};

    /// Make sure that both objects are whole BPF objects with BTF, aligned as the loader reads them, and carry the
    /// contract that this program speaks.
    #[test]
    fn objects_are_of_this_contract() {
        for bytes in [storage(), hash()] {
            assert_eq!(bytes.as_ptr().align_offset(8), 0);
            let file = object::File::parse(bytes).unwrap();
            assert_eq!(file.architecture(), object::Architecture::Bpf);
            assert!(file.section_by_name(".BTF").is_some());
            let contract = file.symbols().find(|symbol| symbol.name() == Ok("CONTRACT")).unwrap();
            let section = file.section_by_index(contract.section_index().unwrap()).unwrap();
            let value = section.data_range(contract.address(), 4).unwrap().unwrap();
            assert_eq!(value, profiler_common::CONTRACT_VERSION.to_le_bytes());
        }
    }

    /// Make sure that the two objects are not one and the same.
    #[test]
    fn objects_differ() {
        assert_ne!(storage(), hash());
    }
}

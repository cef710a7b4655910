//! `.gnu_debugdata`: a small ELF file within the file, packed with xz, with the names that stripping took away
//! (Fedora, RHEL and their images have it; see "MiniDebugInfo" in gdb's manual).

use std::io::Read;

use super::headers::Headers;
use super::{ElfError, Source};

/// Largest section, packed, bytes. Of `gdb` it has 0.3 MB.
const MAX_PACKED: u64 = 16 << 20;
/// Largest file in it, bytes.
const MAX_UNPACKED: u64 = 96 << 20;
/// Most memory that unpacking may take, KiB: `xz -9` needs 65 MiB.
const MAX_MEMORY_KIB: u32 = 80 << 10;

/// The file within; `None` when there is none.
pub(super) fn unpack<S: Source + ?Sized>(file: &Headers<'_, S>) -> Result<Option<Vec<u8>>, ElfError> {
    let Some(section) = file.section(b".gnu_debugdata") else {
        return Ok(None);
    };
    let packed = file.content(section, MAX_PACKED)?;
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new_mem_limit(&packed[..], false, MAX_MEMORY_KIB);
    let read = reader.take(MAX_UNPACKED + 1).read_to_end(&mut unpacked);
    match read {
        Ok(len) if len as u64 > MAX_UNPACKED => Err(ElfError::TooMany),
        Ok(_) => Ok(Some(unpacked)),
        Err(_) => Err(ElfError::Malformed),
    }
}

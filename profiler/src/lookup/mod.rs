//! Answers that can't wait: what would be gone when the recording is read.

pub mod binaries;
pub mod elf;

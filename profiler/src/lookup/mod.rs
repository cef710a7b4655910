//! Answers that can't wait: what would be gone when the recording is read.

pub mod beside;
pub mod binaries;
pub mod dockerfile;
pub mod elf;
pub mod engines;
pub mod git;
pub mod images;
pub mod locate;
pub mod mounts;
pub mod overlay;
pub mod rules;
pub mod state;
pub mod tree;

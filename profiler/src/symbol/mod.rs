//! Names for addresses: the kernel's, and those of functions in ELF files.

pub mod debuginfod;
pub mod demangle;
pub mod inline;
pub mod kernel;
pub mod later;
pub mod perf_map;
pub mod sandbox;
pub mod table;
pub mod unwind;
pub mod user;

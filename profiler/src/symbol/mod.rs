//! Names for addresses: the kernel's, and those of functions in ELF files.

pub mod demangle;
pub mod kernel;
pub mod table;
pub mod unwind;
pub mod user;

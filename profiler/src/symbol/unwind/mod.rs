//! How callers are found: unwind information of ELF files as compact tables, and walks by them in user space.
//!
//! [`rows`] makes a [`Table`](table::Table) of a file's `.eh_frame` and `.debug_frame`, or of Go's own table; the kernel's walks and
//! [`walk`] here go by the same tables, with the same step ([`profiler_common::unwind`]). See
//! `docs/design/0012-unwinding.md`.

pub mod frames;
mod go;
pub mod rows;
mod sections;
pub mod table;
pub mod walk;

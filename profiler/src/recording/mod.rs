//! The recording: a documented, versioned, append-only file of compressed, checksummed blocks
//! (`docs/recording-format.md`).
//!
//! [`Writer`] makes one, [`Reader`] reads one, whole or broken; [`record`] says what stands in it.

pub mod error;
mod folder;
pub mod format;
pub mod lever;
mod output;
pub mod reader;
pub mod record;
#[cfg(test)]
mod samples;
mod source;
#[cfg(test)]
mod tests;
pub mod writer;

pub use error::{ReadError, WriteError};
pub use reader::Reader;
pub use writer::{Summary, Writer};

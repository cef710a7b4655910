//! The recording: a documented, versioned, append-only file of compressed, checksummed blocks.

pub mod record;

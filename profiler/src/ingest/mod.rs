//! From the kernel's events to records.

pub mod redact;

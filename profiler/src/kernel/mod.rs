//! What this kernel offers: struct offsets from its BTF, and the facts of the host.

pub mod host;
pub mod lockdown;
pub mod offsets;
pub mod pseudo;

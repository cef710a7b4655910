//! What this kernel offers: struct offsets from its BTF, and the facts of the host.

mod calls;
pub mod host;
pub mod lockdown;
pub mod offsets;
pub mod pseudo;

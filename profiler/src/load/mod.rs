//! From the eBPF object to attached probes.

pub mod object;

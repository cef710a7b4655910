//! Facts of the host.

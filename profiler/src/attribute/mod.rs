//! Charges the time of threads to phases, by resource state.

pub mod resources;
pub mod stacks;
pub mod waits;

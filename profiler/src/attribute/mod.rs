//! Charges the time of threads to phases, by resource state.

pub mod calls;
pub mod critical;
pub mod disk;
pub mod layers;
pub mod memory;
pub mod owners;
pub mod resources;
pub mod stacks;
#[cfg(test)]
mod tests;
pub mod user_stacks;
pub mod waits;

//! What goes back into the kernel: which tasks are profiled, and how their stacks are unwound.

pub mod daemons;
pub mod unwind;

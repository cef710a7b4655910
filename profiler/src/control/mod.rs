//! What goes back into the kernel: which tasks are profiled, how their stacks are unwound, and what is given up to keep
//! the overhead cap.

pub mod containers;
pub mod daemons;
pub mod unwind;
pub mod watchdog;
pub mod work;

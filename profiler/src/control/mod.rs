//! What goes back into the kernel: which tasks are profiled, and what is given up to keep the overhead cap.

pub mod containers;
pub mod daemons;
pub mod watchdog;
pub mod work;

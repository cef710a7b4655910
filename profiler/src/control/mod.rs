//! What goes back into the kernel: which tasks are profiled.

pub mod daemons;

//! One file per subject, with its private maps.

pub mod adopt;
pub mod awaited;
pub mod cgroup;
pub mod cpu;
pub mod disk;
pub mod io;
pub mod listen;
pub mod memory;
pub mod net;
pub mod oom;
pub mod process;
pub mod raw;
pub mod sched;
pub mod syscall;

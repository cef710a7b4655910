//! From the kernel's rings to records: decoding, time order, address spaces, stacks, losses.

pub mod frames;
pub mod mappings;
pub mod spaces;

//! Live answers that can't wait: what is read from the running host because it would be gone later.

pub mod dockerfile;

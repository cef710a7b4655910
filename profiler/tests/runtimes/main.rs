//! phasegraph on real runtimes. Each scenario needs root and its runtime, and says so when it is skipped.
//!
//! The truth that phases are held against is a stopwatch in the container itself: a static program that reads
//! `CLOCK_MONOTONIC` at `main()` and before its exit.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bare;
mod build;
mod buildkit;
mod containerd;
mod counts;
mod coverage;
mod cri;
mod docker;
mod exact;
mod faults;
mod flush;
mod hostile;
mod layers;
mod life;
mod operations;
mod podman;
mod pulls;
mod ready;
mod rootless;
#[path = "../support/mod.rs"]
mod support;
mod witness;

//! phasegraph: where a container's time goes, phase by phase.
//!
//! ```text
//! kernel probes ──ring──▶ ingest ──▶ recording ──▶ model ──▶ detect, attribute ──▶ report
//! ```
//!
//! Nothing right of the recording knows eBPF; nothing left of it knows reports.

pub mod attribute;
pub mod cli;
pub mod compare;
pub mod control;
pub mod demo;
pub mod detect;
pub mod doctor;
pub mod ingest;
pub mod kernel;
pub mod load;
pub mod lookup;
pub mod model;
pub mod recording;
pub mod report;
pub mod session;
pub mod symbol;

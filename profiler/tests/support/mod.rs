//! Real container runtimes for tests: a private corner of the host to run them in, something to build and run, and
//! phasegraph around it.

pub(crate) mod accuracy;
pub(crate) mod bare;
pub(crate) mod check;
#[expect(dead_code, reason = "each test program uses its own part")]
pub(crate) mod chromium;
pub(crate) mod containerd;
pub(crate) mod coverage;
pub(crate) mod coverage_table;
pub(crate) mod cri;
pub(crate) mod docker;
pub(crate) mod host;
pub(crate) mod machine;
pub(crate) mod podman;
pub(crate) mod profile;
pub(crate) mod registry;
pub(crate) mod rfc3339;
pub(crate) mod rootless;
pub(crate) mod tracefs;
pub(crate) mod workload;

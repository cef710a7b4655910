//! crun: each subcommand first re-executes itself from a sealed copy (`/dev/fd/N`), with the same arguments. `create`
//! clones the container's first process straight into its cgroup (`clone3`, so there is no `cgroup_attach_task`), and
//! that process execs nothing of crun's before the entrypoint.

use super::Runtime;
use super::cli::base;
use super::oci::{self, Call};
use crate::model::Image;

/// See the module.
#[derive(Debug)]
pub(super) struct Crun;

impl Runtime for Crun {
    fn name(&self, image: &Image) -> Option<&'static str> {
        let program = image.argv.first().map_or(&image.filename[..], |argv| argv);
        (base(program) == b"crun").then_some("crun")
    }

    fn call(&self, image: &Image) -> Option<Call> {
        oci::parse(&image.argv)
    }
}

//! runc, and what copies its command line and its way of starting (youki, runsc).
//!
//! `runc create` re-executes itself as `runc init` (from `/proc/self/exe`, then from a sealed copy at `/dev/fd/N`),
//! which forks twice; the last child becomes the container's pid 1 when `runc start` opens its FIFO. `runc run` does
//! both.

use super::Runtime;
use super::cli::base;
use super::oci::{self, Call};
use crate::model::Image;

/// See the module.
#[derive(Debug)]
pub(super) struct Runc;

impl Runtime for Runc {
    fn name(&self, image: &Image) -> Option<&'static str> {
        let program = image.argv.first().map_or(&image.filename[..], |argv| argv);
        match base(program) {
            b"runc" | b"docker-runc" => Some("runc"),
            b"youki" => Some("youki"),
            b"runsc" => Some("runsc"),
            _ => None,
        }
    }

    fn call(&self, image: &Image) -> Option<Call> {
        oci::parse(&image.argv)
    }
}

//! buildah's `--isolation chroot`: no OCI runtime, no cgroup, no pivot_root and no pid namespace. buildah re-executes
//! itself as `buildah-chroot-runtime`, which binds the root file system below its bundle, and that as
//! `buildah-chroot-exec COMMAND…`, which changes its root and forks the command.
//!
//! Neither command line names the container. Its bundle does, as for an OCI runtime: buildah calls both
//! `buildah-<base name of the bundle>` (`run_linux.go`, `containerName`).

use super::Runtime;
use super::cli::base;
use super::context::{Context, Exec, Mount};
use super::oci::{Call, Verb};
use crate::model::Image;
use crate::recording::record::Text;

/// See the module.
#[derive(Debug)]
pub(super) struct Chroot;

/// Where a bundle's root file system is bound, within it (`bind.SetupIntermediateMountNamespace`).
const ROOTFS: &[u8] = b"/mnt/rootfs";

impl Runtime for Chroot {
    fn name(&self, image: &Image) -> Option<&'static str> {
        let runs = image.argv.first().is_some_and(|argv| argv == b"buildah-chroot-runtime");
        runs.then_some("chroot")
    }

    fn call(&self, _: &Image) -> Option<Call> {
        Some(Call {
            verb: Verb::Run,
            id: Text::new(),
            bundle: Text::new(),
            rest: Vec::new(),
        })
    }

    fn identify(&self, context: &Context<'_>, exec: Exec) -> Option<Text> {
        let bound = context.mounts_by(exec.process).find(|mount| self.binds_rootfs(mount))?;
        let bundle = bound.target.strip_suffix(ROOTFS)?;
        Some([b"buildah-", base(bundle)].concat())
    }

    fn is_init(&self, image: &Image) -> bool {
        image.argv.first().is_some_and(|argv| argv == b"buildah-chroot-exec")
    }

    fn binds_rootfs(&self, mount: &Mount) -> bool {
        mount.is_bind() && mount.target.ends_with(ROOTFS)
    }
}

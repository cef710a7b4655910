//! Where a container's root file system was mounted.

use crate::detect::container::Draft;
use crate::detect::context::{Context, Umount};
use crate::model::{OverlayIx, ProcessIx};

/// The runtime binds the root file system on itself before it pivots into it; from there back to the overlay mount.
pub(super) fn find(context: &Context<'_>, draft: &mut Draft) {
    let Some(create) = draft.create() else { return };
    let end = draft.entry.map_or(create.span.to, |entry| entry.ts);
    let bound =
        draft.tree.iter().flat_map(|ix| context.mounts_by(*ix)).find(|mount| {
            mount.span.from >= create.span.from && mount.span.to <= end && draft.kind.binds_rootfs(mount)
        });
    let Some(bound) = bound else { return };
    let mut path = bound.target.clone();
    let mut before = bound.span.from;
    if bound.source != bound.target {
        draft.rootfs.push(path);
        path = bound.source.clone();
    }
    // Each step goes back in time, so it ends.
    loop {
        draft.rootfs.push(path.clone());
        let Some((index, mount)) = context
            .mounts_at(&path)
            .rev()
            .find(|(_, mount)| mount.span.to <= before)
        else {
            return;
        };
        let gone = |umount: &Umount| umount.span.from >= mount.span.to && umount.span.from < before;
        if context.umounts_at(&path).any(gone) {
            return;
        }
        if mount.is_overlay() {
            draft.mount = Some(index);
            return;
        }
        if !mount.is_bind() || mount.source == path {
            return;
        }
        before = mount.span.from;
        path = mount.source.clone();
    }
}

/// A runtime that enters its root file system without binding it first (crun from 1.29 on Linux 7.0, which opens it by
/// `open_tree(OPEN_TREE_NAMESPACE)`) does not tell where that is. Who cleans up after the container does, by its umount:
/// what it unmounts of an overlay that was mounted before the runtime's `create` is the root file system.
pub(in crate::detect) fn mount_by_cleanup(context: &Context<'_>, draft: &mut Draft) {
    if !draft.rootfs.is_empty() {
        return;
    }
    let (Some(create), Some(exit)) = (draft.create(), draft.exit(context)) else {
        return;
    };
    let (created, until) = (create.span.from, draft.until);
    let cleaning = |ix: &ProcessIx| draft.cleanups.iter().any(|piece| piece.processes.contains(ix));
    let unmounted = context.umounts.iter().enumerate().filter(|(_, umount)| {
        (exit..until).contains(&umount.span.from) && umount.process.as_ref().is_some_and(cleaning)
    });
    let found: Vec<(usize, usize)> = unmounted
        .filter_map(|(index, umount)| {
            let mut mounts = context.mounts_at(&umount.target).rev();
            let (mount, _) = mounts.find(|(_, mount)| mount.is_overlay() && mount.span.to <= created)?;
            Some((index, mount))
        })
        .collect();
    if let [(umount, mount)] = found.as_slice() {
        draft.rootfs.push(context.mounts[*mount].target.clone());
        draft.mount = Some(*mount);
        draft.umounts.push(*umount);
    }
}

/// What was looked up of the mount that a container's root file system is: of its own mount; else of one that was there
/// before, at the same place, or at the root of the namespace of its first process; else of a root file system of another
/// storage driver.
pub(in crate::detect) fn looked_up(context: &Context<'_>, draft: &Draft) -> Option<OverlayIx> {
    let overlays = &context.session.overlays;
    let mount = draft.mount.map(|mount| &context.mounts[mount]);
    let own = mount.and_then(|mount| {
        overlays.iter().position(|overlay| {
            let by = overlay.mounted.filter(|by| by.ts == mount.span.to);
            by.is_some_and(|by| context.of_task(by.task) == mount.process)
        })
    });
    let before = || {
        let at_place = |merged: &[u8]| draft.rootfs.iter().any(|path| path == merged);
        let namespace = draft
            .entry
            .and_then(|entry| context.process(entry.process).mnt_ns.last())
            .map_or(0, |(_, namespace)| *namespace);
        overlays.iter().position(|overlay| {
            let is_root = overlay.merged == b"/" && namespace != 0 && overlay.mnt_ns == namespace;
            overlay.mounted.is_none() && mount.is_none() && (at_place(&overlay.merged) || is_root)
        })
    };
    let other = || {
        let (from, until) = (draft.from(), draft.until);
        overlays.iter().position(|overlay| {
            let mounted = overlay.mounted.is_some_and(|by| (from..until).contains(&by.ts));
            overlay.driver != "overlay" && mounted && draft.rootfs.contains(&overlay.merged)
        })
    };
    let found = own.or_else(before).or_else(other)?;
    Some(OverlayIx(u32::try_from(found).ok()?))
}

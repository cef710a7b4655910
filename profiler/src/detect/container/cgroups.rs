//! Which cgroups are a container's: those that bear its id, and what lies below them.

use std::collections::HashMap;

use super::Draft;
use crate::detect::context::{CgroupLife, Context};

/// Cgroups by the container ids that the last part of their path may hold.
pub(super) struct CgroupIndex<'a> {
    by_name: HashMap<&'a [u8], Vec<&'a CgroupLife>>,
    /// In order of path.
    by_path: Vec<&'a CgroupLife>,
}

impl<'a> CgroupIndex<'a> {
    pub(super) fn new(context: &'a Context<'_>) -> CgroupIndex<'a> {
        let mut by_name: HashMap<&[u8], Vec<&CgroupLife>> = HashMap::new();
        let mut by_path: Vec<&CgroupLife> = context.cgroups.values().collect();
        by_path.sort_by(|a, b| (&a.path, a.seen.from).cmp(&(&b.path, b.seen.from)));
        for life in &by_path {
            for name in names(&life.path) {
                by_name.entry(name).or_default().push(life);
            }
        }
        CgroupIndex { by_name, by_path }
    }

    /// The cgroup and those below it.
    fn subtree(&self, path: &[u8]) -> impl Iterator<Item = &'a CgroupLife> + '_ {
        let start = self.by_path.partition_point(|life| life.path.as_slice() < path);
        let path = path.to_vec();
        self.by_path[start..]
            .iter()
            .copied()
            .take_while({
                let path = path.clone();
                move |life| life.path.starts_with(&path)
            })
            .filter(move |life| matches!(life.path.get(path.len()), None | Some(b'/')))
    }
}

/// What container ids a cgroup's path may be that of: its last part (`buildah-buildah123`), or what follows a prefix
/// there (`libpod-<id>`, `docker-<id>.scope`, `cri-containerd-<id>.scope`).
fn names(path: &[u8]) -> Vec<&[u8]> {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let last = last.strip_suffix(b".scope").unwrap_or(last);
    // conmon has a cgroup of its own beside the container's: libpod-conmon-<id>.scope.
    if last.is_empty() || last.windows(7).any(|window| window == b"conmon-") {
        return Vec::new();
    }
    let separators = last.iter().enumerate().filter(|(_, byte)| matches!(byte, b'-' | b':'));
    std::iter::once(last)
        .chain(separators.map(|(at, _)| &last[at + 1..]))
        .filter(|name| !name.is_empty())
        .collect()
}

pub(super) fn find(context: &Context<'_>, index: &CgroupIndex<'_>, draft: &mut Draft) {
    let from = draft.from();
    let created = draft.create().is_some();
    let matches = index
        .by_name
        .get(draft.id.as_slice())
        .map(Vec::as_slice)
        .unwrap_or_default();
    // Made while the runtime created the container; of one that was there before, any that bears its id.
    let own = matches
        .iter()
        .filter(|life| match life.made {
            Some(made) => (from..draft.until).contains(&made),
            None => !created && life.seen.from < draft.until,
        })
        .min_by_key(|life| life.seen.from);
    let Some(own) = own else { return };
    draft.made = own.made;
    draft.removed = own.removed;
    draft.cgroups = vec![own.id];
    for life in index.subtree(&own.path) {
        let in_time = life.made.is_none_or(|made| made >= own.made.unwrap_or(0)) && life.seen.from < draft.until;
        if life.id != own.id && life.path != own.path && in_time {
            draft.cgroups.push(life.id);
        }
    }
    debug_assert!(context.cgroups.contains_key(&own.id));
}

use super::*;
use crate::model::disk::{File, Overlaid};
use crate::recording::record::{At, InodeId, TaskId};
use crate::report::fixture::{self, disk::with_disk};

/// Device of the session's container's overlay, and a file's number on it.
const DEV: u32 = 40;
const INO: u64 = 21;
/// The cgroup of the session's container.
const CGROUP: u64 = 4_711;
/// The file of the session's lower layer.
const LOWER: FileIx = FileIx(2);

/// The session with a file of the overlay, which nobody opened yet.
fn unopened() -> (Session, FileIx) {
    let mut session = with_disk();
    session.overlaid.clear();
    let overlay = FileIx(session.files.len() as u32);
    session.files.push(File {
        id: InodeId {
            ino: INO,
            dev: DEV,
            generation: 0,
        },
        parent: None,
        ..session.files[LOWER.ix()].clone()
    });
    session.overlays[0].dev = DEV;
    (session, overlay)
}

fn open(ms: u64, overlay: FileIx, cgroup: u64) -> Overlaid {
    Overlaid {
        ts: fixture::span(ms, ms).from,
        thread: None,
        overlay,
        lower: Some(LOWER),
        upper: None,
        cgroup,
    }
}

/// Files opened of the session's lower layer by each container or none: of stacks, in their order.
fn opened(session: &Session) -> Vec<(Option<ContainerIx>, u64)> {
    let stacks = Table::new(session).stacks.into_iter();
    stacks
        .map(|stack| (stack.container, stack.rows[1].used.opened))
        .collect()
}

/// Make sure that what is opened by a thread that is not recorded counts for the container in whose cgroup it was.
#[test]
fn opens_by_cgroup() {
    let (mut session, overlay) = unopened();
    session.overlaid = vec![open(2_000, overlay, CGROUP)];
    assert_eq!(opened(&session), [(Some(ContainerIx(0)), 1)]);
    session.overlaid = vec![open(2_000, overlay, CGROUP + 1)];
    assert_eq!(opened(&session), [(Some(ContainerIx(0)), 0)]);
}

/// Make sure that a file that is told again, since something was mounted meanwhile, counts once for a container, and that the next
/// container's of the same name for good counts for that one.
#[test]
fn opens_once_for_each_container() {
    let (mut session, overlay) = unopened();
    let mut next = session.containers[0].clone();
    next.cgroup = CGROUP + 1;
    next.rootfs = Some(OverlayIx(1));
    session.containers.push(next);
    session.overlays.push(session.overlays[0].clone());
    let first = |ms| open(ms, overlay, CGROUP);
    session.overlaid = vec![first(2_000), first(3_000), open(4_000, overlay, CGROUP + 1)];
    let both = [(Some(ContainerIx(0)), 1), (Some(ContainerIx(1)), 1)];
    assert_eq!(opened(&session), both);
}

/// Make sure that of mounts that are no container's each counts its own files, one after another with the same device.
#[test]
fn opens_once_for_each_mount() {
    let (mut session, overlay) = unopened();
    session.containers.clear();
    session.phases.clear();
    let mut next = session.overlays[0].clone();
    next.mounted = Some(At {
        ts: fixture::span(3_500, 3_500).from,
        task: TaskId {
            tgid: 1,
            tid: 1,
            start: 0,
        },
        cgroup: 0,
        mnt_ns: 0,
        cpu: 0,
    });
    session.overlays.push(next);
    let open = |ms| open(ms, overlay, 0);
    session.overlaid = vec![open(2_000), open(3_000), open(4_000), open(5_000)];
    // By the newest mount of the layers.
    assert_eq!(opened(&session), [(None, 2)]);
}

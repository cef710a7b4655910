use super::*;
use rustix::fs::stat;

fn sighting(path: &str, ts: u64) -> Sighting<'_> {
    let stat = stat(path).unwrap();
    let dev = rustix::fs::major(stat.st_dev) << 20 | rustix::fs::minor(stat.st_dev);
    let map = Map {
        start: 0x1000,
        end: 0x2000,
        pgoff: 0,
        dev,
        ino: stat.st_ino,
        generation: 0,
        path: path.as_bytes(),
    };
    Sighting {
        ts,
        pid: 0,
        mnt_ns: 0,
        map,
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec * 1_000_000_000 + time.tv_nsec) as u64
}

/// Make sure that a file of the host is read at first sight, once.
#[test]
fn host_file() {
    let path = std::fs::canonicalize("/bin/true").unwrap();
    let path = path.to_str().unwrap();
    let mut binaries = Binaries::new();
    let file = binaries.see(&sighting(path, now())).unwrap();
    binaries.finish();
    assert_eq!(
        binaries.image(file).unwrap().build_id.len(),
        20,
        "{:?}",
        binaries.losses()
    );
    assert_eq!(binaries.see(&sighting(path, now())), Some(file));
    assert_eq!((binaries.len(), binaries.reached(Way::Host)), (1, 1));
}

/// Make sure that a file written after it was mapped gives no names to that mapping, and that the next mapping is
/// of another file.
#[test]
fn written_after_mapping() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    std::fs::copy("/bin/true", &path).unwrap();
    let path = path.to_str().unwrap();
    let mut binaries = Binaries::new();
    let before = now() - 10_000_000_000;
    let first = binaries.see(&sighting(path, before)).unwrap();
    assert!(binaries.user().image(first).is_none());
    assert_eq!(binaries.losses(), [(CAUSES[Cause::Changed as usize].to_string(), 1)]);
    let second = binaries.see(&sighting(path, now() + 1_000_000_000)).unwrap();
    assert_ne!(first, second);
    binaries.finish();
    assert!(binaries.user().image(second).is_some());
    binaries.retry_missing();
    assert!(binaries.user().image(first).is_none());
}

/// Make sure that a changed file with the same inode is another file, and the old one keeps its names.
#[test]
fn changed_between_mappings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("program");
    std::fs::copy("/bin/true", &path).unwrap();
    let text = path.to_str().unwrap();
    let mut binaries = Binaries::new();
    let later = now() + 60_000_000_000;
    let first = binaries.see(&sighting(text, later)).unwrap();
    assert_eq!(binaries.see(&sighting(text, later)), Some(first));
    std::fs::write(&path, "#!/bin/sh\n".repeat(50)).unwrap();
    let second = binaries.see(&sighting(text, later)).unwrap();
    assert_ne!(first, second);
    binaries.finish();
    assert!(binaries.user().image(first).is_some());
    assert!(binaries.user().image(second).is_none());
    assert_eq!(binaries.losses(), [(CAUSES[Cause::NotElf as usize].to_string(), 1)]);
}

/// Make sure that the vdso is one file with names, and that memory without a file is none.
#[test]
fn memory_without_files() {
    let map = |path| Map {
        start: 0x1000,
        end: 0x3000,
        pgoff: 0,
        dev: 0,
        ino: 0,
        generation: 0,
        path,
    };
    let mut binaries = Binaries::new();
    let vdso = binaries
        .see(&Sighting {
            ts: 0,
            pid: 0,
            mnt_ns: 0,
            map: map(b"[vdso]"),
        })
        .unwrap();
    assert_eq!(
        binaries.see(&Sighting {
            ts: 0,
            pid: 0,
            mnt_ns: 0,
            map: map(b"[vdso]")
        }),
        Some(vdso)
    );
    assert!(binaries.user().image(vdso).is_some_and(|image| !image.table.is_empty()));
    for path in [&b"//anon"[..], b"[heap]", b""] {
        assert_eq!(
            binaries.see(&Sighting {
                ts: 0,
                pid: 0,
                mnt_ns: 0,
                map: map(path)
            }),
            None
        );
    }
}

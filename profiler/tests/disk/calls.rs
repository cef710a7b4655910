//! `--disk full`: each call that reads, writes or syncs a file, beside what the workload counts.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use phasegraph::attribute::layers::{Stack, Table};
use phasegraph::model::Session;
use phasegraph::model::disk::{CallSum, FileCalls};

use crate::copies::overlay;
use crate::run::machine::emulated;
use crate::run::needs_root;
use crate::workload::{Stamps, now, stamp};
use crate::{folder, profile_with};

const PIECE: usize = 4_096;
const PIECES: usize = 300;
const SYNCS: usize = 3;
/// Bytes of the file that a lower layer has.
const LOWER: usize = 1_000_000;

fn prepare(folder: &Path) {
    fs::create_dir(folder.join("lower")).unwrap();
    fs::write(folder.join("lower/old"), vec![b'x'; LOWER]).unwrap();
}

/// What a piece of work took by a stopwatch, ns.
fn timed(what: impl FnOnce()) -> u64 {
    let begin = now();
    what();
    now() - begin
}

pub(crate) fn workload() {
    let folder = std::env::current_dir().unwrap();
    let path = |name: &str| folder.join(name);
    let piece = [7u8; PIECE];
    let mut file = OpenOptions::new()
        .create_new(true)
        .read(true)
        .write(true)
        .open(path("a"))
        .unwrap();
    stamp("inode a", file.metadata().unwrap().ino());
    stamp(
        "ns written",
        timed(|| (0..PIECES).for_each(|_| file.write_all(&piece).unwrap())),
    );
    stamp("ns synced", timed(|| (0..SYNCS).for_each(|_| file.sync_all().unwrap())));
    let mut back = [0u8; PIECE];
    stamp(
        "ns read",
        timed(|| (0..PIECES).for_each(|at| file.read_exact_at(&mut back, (at * PIECE) as u64).unwrap())),
    );
    // At its end: a call that reads nothing.
    assert_eq!(file.read(&mut back).unwrap(), 0);
    // A pipe is no file.
    let mut ends = [0; 2];
    // SAFETY: writes to `ends`.
    assert_eq!(unsafe { libc::pipe(ends.as_mut_ptr()) }, 0);
    // SAFETY: ours, and nobody else's.
    let (mut from, mut to) = unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    to.write_all(&piece).unwrap();
    from.read_exact(&mut back).unwrap();
    // In the kernel, from one file to another.
    let other = File::create(path("b")).unwrap();
    stamp("inode b", other.metadata().unwrap().ino());
    let mut offset = 0;
    // SAFETY: reads and writes `offset`.
    let sent = unsafe { libc::sendfile(other.as_raw_fd(), file.as_raw_fd(), &mut offset, 2 * PIECE) };
    assert_eq!(sent, 2 * PIECE as isize);
    let mut offset = 0;
    // SAFETY: as above.
    let copied = unsafe {
        libc::copy_file_range(
            file.as_raw_fd(),
            &mut offset,
            other.as_raw_fd(),
            std::ptr::null_mut(),
            PIECE,
            0,
        )
    };
    assert_eq!(copied, PIECE as isize);
    // On an overlay: what a lower layer has, twice.
    let merged = overlay(&folder);
    for _ in 0..2 {
        assert_eq!(fs::read(merged.join("old")).unwrap().len(), LOWER);
    }
    // Then in the upper one, at once.
    let mut old = OpenOptions::new().append(true).open(merged.join("old")).unwrap();
    old.write_all(&piece).unwrap();
    assert_eq!(fs::read(merged.join("old")).unwrap().len(), LOWER + PIECE);
    for layer in ["lower", "upper"] {
        let file = path(layer).join("old");
        stamp(&format!("inode {layer}"), fs::metadata(file).unwrap().ino());
    }
}

/// All calls on a file.
fn of(session: &Session, stamps: &Stamps, name: &str) -> [CallSum; 3] {
    let number = stamps.inode(name);
    let mut sums = [CallSum::default(); 3];
    let is_it = |told: &&FileCalls| session.files[told.file.ix()].id.ino == number;
    for told in session.file_calls.iter().filter(is_it) {
        for (sum, part) in sums.iter_mut().zip([told.read, told.written, told.synced]) {
            sum.add(&part);
        }
    }
    sums
}

/// Make sure that calls and bytes are exact, times are those of a stopwatch, pipes are left out, and what is read and written
/// of an overlay is its layer's, before a copy-up and after it.
#[test]
fn calls_are_counted() {
    needs_root!();
    let Some(folder) = folder() else { return };
    prepare(&folder.path(""));
    let full = [("PHASEGRAPH_DISK", OsStr::new("full"))];
    let (session, stamps) = profile_with(&folder, "calls", "", &full);
    let [read, written, synced] = of(&session, &stamps, "a");
    let pieces = PIECES as u64;
    // By `pread`, the read at the end, `sendfile` and `copy_file_range`.
    let bytes = (PIECES + 3) * PIECE;
    assert_eq!((read.calls, read.bytes), (pieces + 3, bytes as u64), "{read:?}");
    assert_eq!(
        (written.calls, written.bytes),
        (pieces, (PIECES * PIECE) as u64),
        "{written:?}"
    );
    assert_eq!((synced.calls, synced.bytes), (SYNCS as u64, 0), "{synced:?}");
    let [none, written_b, unsynced] = of(&session, &stamps, "b");
    assert_eq!((none.calls, unsynced.calls), (0, 0));
    assert_eq!(
        (written_b.calls, written_b.bytes, written_b.ns),
        (2, 3 * PIECE as u64, 0),
        "{written_b:?}"
    );
    for (name, sum) in [("written", written), ("synced", synced)] {
        let watch = stamps.number(&format!("ns {name}"));
        println!("{name}: {} ns of {watch}", sum.ns);
        assert!(sum.ns <= watch, "{name}: {sum:?} {watch}");
        // Between the calls is what the workload and the hooks themselves take, some hundred ns each; the disk is in the syncs.
        assert!(
            emulated() || name == "written" || sum.ns >= watch * 9 / 10,
            "{name}: {sum:?} {watch}"
        );
    }
    // Calls of everything but the workload's own files: the kernel counts all of the process.
    let told: u64 = session.file_calls.iter().map(|told| told.read.calls).sum();
    let all: u64 = session.io.iter().map(|io| io.bytes.read_calls).sum();
    assert!(told <= all + 2, "{told} {all}");
    let table = Table::new(&session);
    let merged = folder.path("merged").into_os_string().into_encoded_bytes();
    let is_ours = |stack: &&Stack| session.overlays[stack.overlay.ix()].merged == merged;
    let rows = table.stacks.iter().filter(is_ours).flat_map(|stack| &stack.rows);
    let read: u64 = rows.map(|row| row.used.read).sum();
    // To 5.10 nothing tells what the overlay's own inode stands for.
    let mut facts = session.meta.facts.iter();
    let unreadable = facts.any(|(_, said)| said.contains("which files of an overlay are opened"));
    let after = LOWER + PIECE;
    let expected = if unreadable { 0 } else { (2 * LOWER + after) as u64 };
    assert_eq!(read, expected, "{:#?}", table.calls);
    if unreadable {
        return;
    }
    for (layer, expected) in [("lower", (2 * LOWER, 0)), ("upper", (after, PIECE))] {
        let [read, written, _] = of(&session, &stamps, layer).map(|sum| sum.bytes as usize);
        assert_eq!((read, written), expected, "{layer}: {:#?}", table.calls);
    }
}

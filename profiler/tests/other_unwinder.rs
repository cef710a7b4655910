//! User stacks beside those of an independent unwinder: gdb, on the same process, stopped at the same instruction.
//!
//! A stop is a wait, and the stack of a long wait is taken when it begins; gdb reads the registers that the wait began
//! with. So both see the same sample. A stack of ours may end early (few do), but no frame may differ. Needs root, gcc and
//! gdb.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use phasegraph::model::build::Builder;
use phasegraph::model::{Session, State};
use phasegraph::recording::Reader;
use phasegraph::recording::record::Place;

use run::{Folder, Started, kill, monotonic_ns, needs_root, stderr, until};

/// Stops of each program.
const STOPS: u64 = 12;

/// A frame: name of its file, and offset in it.
type Frame = (String, u64);

/// What gdb saw at a stop.
struct Seen {
    /// While gdb held the process, ns.
    from: u64,
    to: u64,
    /// Leaf first.
    frames: Vec<Frame>,
    /// It came to the program's own first frame.
    whole: bool,
}

/// C, preprocessed, that keeps a compiler busy for seconds.
fn source() -> String {
    let mut text = String::new();
    for index in 0..400 {
        _ = writeln!(
            text,
            "static unsigned f{index}(const char *t, unsigned r) {{ for (; *t; t++) {{ switch ((*t + r) % 7) {{ case 0: \
             r += *t * {index}u; break; case 1: r ^= r << {}; break; case 2: r -= __builtin_strlen(t); break; default: r = (r >> 3) \
             | (r << 29); }} for (unsigned k = 0; k < r % 17; k++) r = r * k + {index}; }} return r; }}\nunsigned \
             g{index}(int n, char **v) {{ unsigned r = 0; for (int j = 0; j < n; j++) r += f{index}(v[j], r); return r; \
             }}",
            index % 13 + 1
        );
    }
    text
}

/// Recursion of which every level has its own amount on the stack, sorting with a comparison of its own at its end.
const DEEP: &str = "#include <alloca.h>\n#include <stdlib.h>\n#include <string.h>\nstatic volatile unsigned long sink;\n\
                    static int compare(const void *a, const void *b) { sink += *(int *)a * 7; return *(int *)a - *(int *)b; \
                    }\n__attribute__((noinline)) static void fill(int n) { int all[512]; for (int i = 0; i < 512; i++) \
                    all[i] = (int)(sink * 31 + i * n) % 1009; qsort(all, 512, sizeof *all, compare); sink += all[n]; }\n\
                    __attribute__((noinline)) static void down(int n) { char *room = alloca(n * 8 + (sink & 15)); \
                    memset(room, n, n * 8); if (n > 1) down(n - 1); else fill(n); sink += room[0]; }\nint main(void) { for \
                    (;;) for (int n = 1; n < 90; n++) down(n); }\n";

/// A program that burns CPU until it is ended, with what it needs.
fn programs(folder: &Folder) -> Vec<(&'static str, Vec<String>)> {
    let path = |name: &str| folder.path(name).to_str().unwrap().to_owned();
    fs::write(folder.path("big.c"), source()).unwrap();
    fs::write(folder.path("deep.c"), DEEP).unwrap();
    let built = Command::new("gcc")
        .args(["-O2", "-fomit-frame-pointer", "-o", &path("deep"), &path("deep.c")])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", stderr(&built));
    let compiler = Command::new("gcc").arg("-print-prog-name=cc1").output().unwrap();
    let compiler = String::from_utf8(compiler.stdout).unwrap().trim().to_owned();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let sum = "my $n = 0; while (1) { $n += length(join ',', sort { $b <=> $a } map { $_ * 7 % 1009 } 1 .. 400); }";
    vec![
        (
            "cc1",
            words(&[&compiler, "-quiet", "-O2", &path("big.c"), "-o", "/dev/null"]),
        ),
        ("deep", words(&[&path("deep")])),
        ("perl", words(&["perl", "-e", sum])),
        (
            "sh",
            words(&[
                "sh",
                "-c",
                "f() { [ $1 = 0 ] || f $(($1 - 1)); }; while :; do f 20; done",
            ]),
        ),
    ]
}

/// gdb's stack of a process.
fn gdb(pid: u32) -> Seen {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let from = monotonic_ns();
    let output = Command::new("gdb")
        .args(["-nx", "-batch", "-iex", "set debuginfod enabled off"])
        // Separate debug information would tell of inlined functions, as frames of their own at the same address.
        .args(["-iex", "set debug-file-directory /nonexistent"])
        .args(["-ex", "set print frame-info location-and-address"])
        .args([
            "-ex",
            "set backtrace past-main on",
            "-p",
            &pid.to_string(),
            "-ex",
            "backtrace",
        ])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let to = monotonic_ns();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut frames = Vec::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let address = line.split_whitespace().nth(1).unwrap();
        let address = u64::from_str_radix(address.strip_prefix("0x").unwrap_or_else(|| panic!("{text}")), 16).unwrap();
        // A return address can be the first byte behind its function and its mapping.
        let inside = address - u64::from(!frames.is_empty());
        frames.push(place(&maps, inside).unwrap_or_else(|| panic!("{address:#x} is nowhere:\n{text}\n{maps}")));
    }
    let complaint = text.contains("Backtrace stopped") || stderr(&output).contains("Backtrace stopped");
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let program = program.file_name().unwrap().to_str().unwrap().to_owned();
    Seen {
        from,
        to,
        whole: !complaint && frames.len() > 1 && frames.last().is_some_and(|(file, _)| *file == program),
        frames,
    }
}

/// Where an address lies, by `/proc/PID/maps`.
fn place(maps: &str, address: u64) -> Option<Frame> {
    maps.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let [start, end, offset] = [start, end, words[2]].map(|word| u64::from_str_radix(word, 16).unwrap());
        let name = words.get(5)?.rsplit('/').next().unwrap();
        (start <= address && address < end).then(|| (name.to_owned(), address - start + offset))
    })
}

/// The user stack of the wait that a process was in all the time from `from` to `to`, or of the last one that began there.
fn ours(session: &Session, pid: u32, seen: &Seen) -> Option<Vec<Frame>> {
    let threads = session.threads.iter().filter(|thread| thread.id.tid == pid);
    let waits = threads.flat_map(|thread| &thread.intervals).filter_map(|interval| {
        let State::Blocked { stack, .. } = interval.state else {
            return None;
        };
        (interval.span.from < seen.to && interval.span.to > seen.from).then_some(stack)
    });
    let stacks = &session.stacks;
    let mut user = waits.filter_map(|id| {
        let stack = stacks.get(id)?;
        let user = stack.frames.get(usize::from(stack.kernel)..)?;
        (!user.is_empty()).then_some(user)
    });
    let frame = |frame: &u32| match stacks.frames.get(frame) {
        Some(Place::File { file, offset }) => {
            let path = String::from_utf8_lossy(&stacks.files.get(file).unwrap().path).into_owned();
            (path.rsplit('/').next().unwrap().to_owned(), *offset)
        }
        other => (format!("{other:?}"), 0),
    };
    user.next_back().map(|user| user.iter().map(frame).collect())
}

/// Whether two stacks are the same. Of return addresses gdb's are given less one; ours may be either.
fn same(ours: &[Frame], theirs: &[Frame]) -> bool {
    ours.len() == theirs.len()
        && ours
            .iter()
            .zip(theirs)
            .all(|((file, offset), (their_file, their_offset))| {
                file == their_file && offset.wrapping_sub(*their_offset) <= 1
            })
}

fn shown(frames: &[Frame]) -> String {
    let words: Vec<String> = frames
        .iter()
        .map(|(file, offset)| format!("{file}+{offset:#x}"))
        .collect();
    words.join(" ")
}

/// Make sure that of the stacks that gdb unwinds to the end at least 99 % are the same here, frame by frame.
#[test]
fn as_gdb_says() {
    needs_root!();
    if Command::new("gdb").arg("--version").output().is_err() {
        eprintln!("skipped: gdb is not installed");
        return;
    }
    let folder = Folder::new();
    let (mut whole, mut alike, mut short, mut frames) = (0, 0, 0, 0);
    let mut wrong = String::new();
    for (name, words) in programs(&folder) {
        let file = format!("{name}.phg");
        let told = folder.path(format!("{name}.pid"));
        let mut command = folder.phasegraph(["run", "--quiet", "--no-summary", "--max-overhead", "off", "-o", &file]);
        command
            .args(["--", "sh", "-c", "echo $$ >\"$0\"; exec \"$@\""])
            .arg(&told)
            .args(&words);
        let mut recording = Started::new(command.stdout(Stdio::null()));
        let mut pid = 0;
        until("the program's begin", || {
            pid = fs::read_to_string(&told)
                .ok()
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(0);
            pid != 0
        });
        // Tables are made meanwhile.
        std::thread::sleep(Duration::from_millis(700));
        let mut stops = Vec::new();
        for stop in 0..STOPS {
            std::thread::sleep(Duration::from_millis(11 + stop * 7 % 31));
            kill(pid, libc::SIGSTOP);
            until("the stop", || {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
                stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
            });
            stops.push(gdb(pid));
            kill(pid, libc::SIGCONT);
        }
        kill(pid, libc::SIGKILL);
        recording.status();
        let mut reader = Reader::open(&folder.path(&file)).unwrap();
        let mut builder = Builder::new();
        (&mut reader).for_each(|record| builder.push(record));
        let session = builder.finish(reader.damage().to_vec());
        for seen in stops.iter().filter(|seen| seen.whole) {
            whole += 1;
            frames += seen.frames.len();
            let ours = ours(&session, pid, seen);
            if ours.as_ref().is_some_and(|ours| same(ours, &seen.frames)) {
                alike += 1;
            } else if ours
                .as_ref()
                .is_none_or(|ours| same(ours, &seen.frames[..ours.len().min(seen.frames.len())]))
            {
                // It ends early, which it tells itself: on a busy host a table can come later than the stop.
                short += 1;
            } else {
                let ours = ours.map_or_else(|| "nothing".to_owned(), |ours| shown(&ours));
                _ = writeln!(wrong, "{name}: {ours}\n  gdb: {}", shown(&seen.frames));
            }
        }
        eprintln!(
            "{name}: gdb came to the end of {} of {STOPS} stacks",
            stops.iter().filter(|seen| seen.whole).count()
        );
    }
    eprintln!("{alike} of {whole} stacks are the same ({frames} frames); {short} end early");
    assert!(whole * 4 >= STOPS * 4 * 3, "gdb came to the end of {whole} stacks only");
    assert!((alike + short) * 100 >= whole * 99, "{alike} of {whole}:\n{wrong}");
    assert!(short * 10 <= whole, "{short} of {whole} end early");
}

//! Names in recordings of programs that make finding them hard: code made at run time, programs deleted, replaced, run
//! from memory, stripped with their symbols elsewhere. Needs root and gcc; a test says what it lacks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[expect(dead_code, reason = "shared with other tests, which use the rest")]
#[path = "support/run.rs"]
mod run;

use run::{Folder, in_own_mounts, needs_root, stderr};

/// Burns CPU for `argv[1]` ms in `hot`, or with `jit` in code that it makes itself and names in a perf map, or from a copy
/// of itself in memory.
const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <fcntl.h>
static volatile unsigned long sink;
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
__attribute__((noinline)) static void hot(unsigned long n) { while (n--) sink += n; }
static const unsigned char LOOP[] = { 0x48, 0x89, 0xf8, 0x48, 0xff, 0xc8, 0x75, 0xfb, 0xc3 };
int main(int argc, char **argv) {
    long end = now() + atol(argv[1]);
    void (*work)(unsigned long) = hot;
    if (argc > 2 && !strcmp(argv[2], "jit")) {
        void *code = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        memcpy(code, LOOP, sizeof LOOP);
        mprotect(code, 4096, PROT_READ | PROT_EXEC);
        work = (void (*)(unsigned long))code;
        char name[64];
        snprintf(name, sizeof name, "/tmp/perf-%d.map", (int)getpid());
        if (argc > 3) {
            FILE *map = fopen(name, "w");
            fprintf(map, "%lx %zx %s\n", (unsigned long)code, sizeof LOOP, argv[3]);
            fclose(map);
        }
    } else if (argc > 2 && !strcmp(argv[2], "memory")) {
        int in = open("/proc/self/exe", O_RDONLY), out = memfd_create("copy", MFD_CLOEXEC);
        char buffer[65536];
        for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) if (write(out, buffer, n) != n) return 2;
        char *again[] = { argv[0], argv[1], 0 };
        fexecve(out, again, environ);
        return 3;
    }
    while (now() < end) work(200000);
    return 0;
}
"#;

/// A folder with the program as `program`, compiled with these arguments besides.
fn compile(arguments: &[&str]) -> Result<Folder, String> {
    let folder = Folder::new();
    std::fs::write(folder.path("program.c"), PROGRAM).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-O1", "-o", "program", "program.c"])
        .args(arguments)
        .current_dir(folder.path(""));
    let output = gcc.output().map_err(|error| format!("gcc: {error}"))?;
    match output.status.success() {
        true => Ok(folder),
        false => Err(format!("gcc: {}", stderr(&output))),
    }
}

macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return eprintln!("skipped: {reason}"),
        }
    };
}

/// Records a shell script and gives its folded stacks, without the frames below them.
fn record(folder: &Folder, script: &str, flame: &[&str]) -> String {
    let output = folder
        .phasegraph([
            "run",
            "-F",
            "997",
            "--no-summary",
            "-o",
            "x.phg",
            "--",
            "sh",
            "-c",
            script,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    folded(folder, flame)
}

fn folded(folder: &Folder, flame: &[&str]) -> String {
    let mut command = folder.phasegraph(["flame", "x.phg", "--folded", "--roots", "process"]);
    let output = command.args(flame).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// µs of the lines in which a frame is `leaf`, behind a process' frame of `program`.
fn time_in(folded: &str, program: &str, leaf: &str) -> u64 {
    folded
        .lines()
        .filter_map(|line| {
            let (frames, count) = line.rsplit_once(' ')?;
            let mut frames = frames.split(';');
            (frames.next() == Some(program) && frames.any(|frame| frame == leaf)).then(|| count.parse::<u64>().unwrap())
        })
        .sum()
}

/// Most of what the program did, of 300 ms. Its part of a busy machine's time decides nothing: it is of its own time.
fn mostly(folded: &str, program: &str, leaf: &str) {
    let all: u64 = folded
        .lines()
        .filter(|line| line.starts_with(&format!("{program};")))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    let own = time_in(folded, program, leaf);
    assert!(own * 10 > all * 6, "{leaf} {own} of {all} µs in:\n{folded}");
}

/// Make sure that code made at run time has the names of its map, on the host and by the container's own pid in its own
/// root, and that code without a map is one frame.
#[test]
fn made_at_run_time() {
    needs_root!();
    let folder = or_skip!(compile(&["-static"]));
    let flame = record(
        &folder,
        "./program 300 jit 'LazyCompile:*hot app.js:7'; ./program 300 jit; rm -f /tmp/perf-$!.map",
        &[],
    );
    assert!(time_in(&flame, "program", "LazyCompile:*hot app.js:7") > 0, "{flame}");
    assert!(time_in(&flame, "program", "[just-in-time code]") > 0, "{flame}");

    let script = r#"
        rm x.phg
        mkdir -p lower/tmp upper work merged
        cp program lower/contained
        cat > script <<'END'
mount -t overlay overlay -o "lowerdir=$PWD/lower,upperdir=$PWD/upper,workdir=$PWD/work" "$PWD/merged"
unshare --pid --fork --mount chroot "$PWD/merged" /contained 300 jit inside_the_container
umount "$PWD/merged"
END
        "$1" run -F 997 --no-summary -o x.phg -- sh -e script
    "#;
    let Some(output) = in_own_mounts(&folder, script, &[run::PHASEGRAPH]) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let flame = folded(&folder, &[]);
    mostly(&flame, "contained", "inside_the_container");
}

/// Make sure that programs that were deleted, replaced or run from memory have their own names.
#[test]
fn gone_files() {
    needs_root!();
    let folder = or_skip!(compile(&[]));
    let script = "cp program deleted; ./deleted 300 & sleep 0.1; rm deleted; wait; \
                  cp program replaced; ./replaced 300 & sleep 0.1; echo nothing > other; mv other replaced; wait; \
                  cp program memory; ./memory 300 memory";
    let flame = record(&folder, script, &[]);
    for program in ["deleted", "replaced", "memory"] {
        mostly(&flame, program, "hot");
    }
}

/// Make sure that a stripped program's samples fall together at its function's start, and get its name when debug
/// information turns up later, of the same build only.
#[test]
fn named_later() {
    needs_root!();
    let folder = or_skip!(compile(&["-g", "-Wl,--build-id"]));
    let prepare = "mkdir -p debug other && objcopy --only-keep-debug program debug/program.debug && strip program && \
                   gcc -g -O2 -Wl,--build-id -o other/program program.c";
    let prepared = Command::new("sh")
        .args(["-c", prepare])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    if !prepared.status.success() {
        return eprintln!("skipped: {}", stderr(&prepared));
    }
    let flame = record(&folder, "./program 400", &[]);
    // Of the program's own lines: daemons of the host are in the recording too.
    assert_eq!(time_in(&flame, "program", "hot"), 0, "{flame}");
    let mut starts: Vec<&str> = flame
        .lines()
        .filter(|line| line.starts_with("program;"))
        .flat_map(|line| line.rsplit_once(' ').unwrap().0.split(';'))
        .filter(|frame| frame.starts_with("program+0x"))
        .collect();
    starts.sort_unstable();
    starts.dedup();
    // As many as it has functions (hot, main, now, _start) and stubs, not as many as addresses were hit.
    assert!((1..=6).contains(&starts.len()), "{starts:?}");
    // The program is still there, and stripped; the other has the names, of another build.
    let other = folded(&folder, &["--debug-dir", "other"]);
    assert_eq!(time_in(&other, "program", "hot"), 0, "{other}");
    std::fs::create_dir(folder.path("named")).unwrap();
    std::fs::rename(folder.path("debug/program.debug"), folder.path("named/program")).unwrap();
    mostly(&folded(&folder, &["--debug-dir", "named"]), "program", "hot");
    let notes = folder
        .phasegraph(["flame", "x.phg", "--folded", "--debug-dir", "named"])
        .output()
        .unwrap();
    let told = stderr(&notes);
    assert!(
        told.contains("looked up again") && !told.contains("names: 0 frames"),
        "{told}"
    );
    let missing = folder
        .phasegraph(["flame", "x.phg", "--debug-dir", "missing"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(1));
}

/// Make sure that a separate file found beside the program by its link names it while it is recorded, and that the cost
/// of reading is told.
#[test]
fn named_by_link() {
    needs_root!();
    let folder = or_skip!(compile(&["-g"]));
    let prepare = "objcopy --only-keep-debug program program.debug && strip program && \
                   objcopy --add-gnu-debuglink=program.debug program";
    let prepared = Command::new("sh")
        .args(["-c", prepare])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    if !prepared.status.success() {
        return eprintln!("skipped: {}", stderr(&prepared));
    }
    // Looked for in the kernel's caches only, where this brings it.
    let flame = record(&folder, "cat program.debug > /dev/null; ./program 300", &[]);
    mostly(&flame, "program", "hot");
    let shown = folder.phasegraph(["show", "x.phg"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("lists of names"), "{shown}");
    assert!(!shown.contains("could not give up"), "{shown}");
}

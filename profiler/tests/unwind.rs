//! User stacks of programs whose calls are known, compiled in every way that matters. Needs root and gcc; what else is
//! missing (g++, musl-gcc, go) leaves out its part and says so.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs;
use std::path::Path;
use std::process::Command;

use run::{Folder, needs_root, stdout};

/// Burns CPU in `leaf` below a chain of calls that no compiler may flatten.
const CHAIN: &str = r#"
#include <alloca.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define KEEP __attribute__((noinline, noclone))
static volatile unsigned long sink;
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
KEEP int leaf(int n) {
    for (long end = now() + 250000000L; now() < end;)
        for (int i = 0; i < 20000; i++) sink += i * n;
    return sink != 0;
}
KEEP int inner(int n) { int r = leaf(n) + 1; sink += r; return r; }
KEEP int middle(int n) {
    char *room = alloca(n * 16 + (sink & 7));
    memset(room, n, n * 16);
    int r = inner(n + room[n]) + 1;
    sink += r;
    return r;
}
KEEP int aligned(int n) {
    __attribute__((aligned(64))) volatile char block[64];
    block[n & 63] = 1;
    int r = middle(n) + block[n & 63];
    sink += r;
    return r;
}
KEEP int recurse(int n) { int r = n > 1 ? recurse(n - 1) + 1 : leaf(n) + 1; sink += r; return r; }
KEEP static int compare(const void *a, const void *b) { int r = leaf(*(int *)a) + 1; sink += r; (void)b; return r; }
KEEP int sorting(void) { int pair[2] = {1, 2}; qsort(pair, 2, sizeof *pair, compare); sink += pair[0]; return 0; }
static void handler(int s) { sink += leaf(s); }
KEEP int signalled(void) { signal(SIGUSR1, handler); int r = raise(SIGUSR1) + 1; sink += r; return r; }
KEEP int clocked(void) { int r = 0; for (long end = now() + 250000000L; now() < end;) r++; sink += r; return r; }
int main(int argc, char **argv) {
    (void)argc;
    int r = 0;
    switch (argv[1][0]) {
    case 'c': r = aligned(3); break;
    case 'r': r = recurse(200); break;
    case 'q': r = sorting(); break;
    case 's': r = signalled(); break;
    case 'v': r = clocked(); break;
    }
    sink += r;
    return 0;
}
"#;

/// A library that is opened at run time, and who opens it.
const OPENED: &str = "#include <time.h>\nint leaf(long end_ns) { volatile unsigned long s = 0; struct timespec t; do { for \
                      (int i = 0; i < 20000; i++) s += i; clock_gettime(CLOCK_MONOTONIC, &t); } while (t.tv_sec * \
                      1000000000L + t.tv_nsec < end_ns); return s != 0; }\nint inside(long end_ns) { return leaf(end_ns) + \
                      1; }\n";
const OPENER: &str = "#include <dlfcn.h>\n#include <time.h>\n__attribute__((noinline)) int outside(int (*f)(long)) { \
                      struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return f(t.tv_sec * 1000000000L + t.tv_nsec \
                      + 250000000L) + 1; }\nint main(int c, char **v) { (void)c; void *h = dlopen(v[1], RTLD_NOW); return \
                      outside((int (*)(long))dlsym(h, \"inside\")) == 0; }\n";

/// Exceptions: the handler burns, below frames that were unwound in between.
const THROWING: &str = "#include <stdexcept>\n#include <time.h>\nstatic volatile unsigned long sink;\nstatic long now() { \
                        timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }\n\
                        extern \"C\" __attribute__((noinline)) int leaf(int n) { for (long end = now() + 250000000L; now() \
                        < end;) for (int i = 0; i < 20000; i++) sink += i * n; return sink != 0; }\nextern \"C\" \
                        __attribute__((noinline)) void thrower(int n) { if (n > 2) throw std::runtime_error(\"x\"); \
                        thrower(n + 1); sink += n; }\nextern \"C\" __attribute__((noinline)) int catcher(int n) { try { \
                        thrower(n); } catch (const std::exception &) { sink += leaf(n); } return 1; }\nint main() { return \
                        catcher(1) == 0; }\n";

const RUST: &str = "use std::time::{Duration, Instant};\n#[inline(never)]\nfn leaf(n: u64) -> u64 { let begin = \
                    Instant::now(); let mut s = n; while begin.elapsed() < Duration::from_millis(250) { for i in 0..20000u64 \
                    { s = std::hint::black_box(s.wrapping_add(i)); } } s }\n#[inline(never)]\nfn inner(n: u64) -> u64 { \
                    std::hint::black_box(leaf(n)) + 1 }\nfn main() { let all: u64 = (0..1).map(|n| \
                    std::hint::black_box(inner(n))).sum(); std::process::exit((all == 0) as i32); }\n";

const GO: &str = "package main\n\nimport \"time\"\n\nvar sink uint64\n\n//go:noinline\nfunc leaf(n uint64) uint64 {\n\tend := \
                  time.Now().Add(250 * time.Millisecond)\n\tfor time.Now().Before(end) {\n\t\tfor i := uint64(0); i < 20000; \
                  i++ {\n\t\t\tsink += i * n\n\t\t}\n\t}\n\treturn sink\n}\n\n//go:noinline\nfunc inner(n uint64) uint64 { \
                  return leaf(n) + 1 }\n\nfunc main() { sink += inner(3) }\n";

/// Runs a program from memory alone, as container runtimes do with themselves.
const MEMORY: &str = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <sys/mman.h>\n#include <sys/sendfile.h>\n#include \
                      <unistd.h>\nint main(int c, char **v, char **e) { (void)c; int from = open(v[1], O_RDONLY), to = \
                      memfd_create(\"x\", MFD_CLOEXEC); while (sendfile(to, from, 0, 1 << 20) > 0); return \
                      fexecve(to, v + 1, e); }\n";

struct Case {
    name: String,
    words: Vec<String>,
    /// Functions that must come in this order, outermost first, in every stack with the last of them.
    chain: &'static [&'static str],
}

const CALLS: &[&str] = &["main", "aligned", "middle", "inner", "leaf"];

fn compile(folder: &Folder, program: &str, source: &str, flags: &[&str], name: &str) -> Option<String> {
    let extension = match program {
        "g++" => "cc",
        "rustc" => "rs",
        "go" => "go",
        _ => "c",
    };
    let from = folder.path(format!("{name}.{extension}"));
    let to = folder.path(name);
    fs::write(&from, source).unwrap();
    let mut command = Command::new(program);
    if program == "go" {
        command.arg("build");
        command
            .env("GOCACHE", folder.path("go-cache"))
            .env("HOME", folder.path(""));
    }
    let output = command.args(flags).arg("-o").arg(&to).arg(&from).output();
    match output {
        Ok(output) if output.status.success() => Some(to.to_str().unwrap().to_owned()),
        Ok(output) => panic!("{program} {flags:?}: {}", String::from_utf8_lossy(&output.stderr)),
        Err(why) => {
            eprintln!("without {program}: {why}");
            None
        }
    }
}

fn cases(folder: &Folder) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, program: &Option<String>, words: &[&str], chain| {
        let Some(program) = program else { return };
        cases.push(Case {
            name: name.to_owned(),
            words: std::iter::once(program.as_str())
                .chain(words.iter().copied())
                .map(str::to_owned)
                .collect(),
            chain,
        });
    };
    let c = |name: &str, flags: &[&str]| compile(folder, "gcc", CHAIN, flags, name);
    let plain = c("omit", &["-O2", "-fomit-frame-pointer"]);
    add("omit", &plain, &["c"], CALLS);
    add("unoptimized", &c("unoptimized", &["-O0"]), &["c"], CALLS);
    add("nopie", &c("nopie", &["-O2", "-no-pie"]), &["c"], CALLS);
    add("static", &c("static", &["-O2", "-static"]), &["c"], CALLS);
    let debug = ["-O2", "-g", "-fno-asynchronous-unwind-tables", "-fno-exceptions"];
    add("debugframe", &c("debugframe", &debug), &["c"], CALLS);
    add(
        "pointers",
        &c("pointers", &["-O2", "-fno-omit-frame-pointer"]),
        &["c"],
        CALLS,
    );
    add(
        "musl",
        &compile(folder, "musl-gcc", CHAIN, &["-O2", "-static"], "musl"),
        &["c"],
        CALLS,
    );
    let copy = |name: &str| {
        let to = folder.path(name);
        fs::copy(plain.as_ref().unwrap(), &to).unwrap();
        Some(to.to_str().unwrap().to_owned())
    };
    add("recursion", &copy("recursion"), &["r"], &["main", "recurse", "leaf"]);
    add(
        "sorting",
        &copy("sorting"),
        &["q"],
        &["main", "sorting", "qsort", "compare", "leaf"],
    );
    add(
        "signal",
        &copy("signal"),
        &["s"],
        &["main", "signalled", "raise", "handler", "leaf"],
    );
    add(
        "clock",
        &copy("clock"),
        &["v"],
        &["main", "clocked", "__vdso_clock_gettime"],
    );
    let library = compile(folder, "gcc", OPENED, &["-O2", "-shared", "-fPIC"], "opened.so").unwrap();
    let opener = compile(folder, "gcc", OPENER, &["-O2"], "opener");
    add("opener", &opener, &[&library], &["main", "outside", "inside", "leaf"]);
    add(
        "throwing",
        &compile(folder, "g++", THROWING, &["-O2"], "throwing"),
        &[],
        &["main", "catcher", "leaf"],
    );
    let rust = compile(folder, "rustc", RUST, &["-O", "--edition", "2021"], "rust");
    add("rust", &rust, &[], &["main", "rust::inner", "rust::leaf"]);
    let go = compile(folder, "go", GO, &[], "golang");
    add(
        "golang",
        &go,
        &[],
        &["runtime.main", "main.main", "main.inner", "main.leaf"],
    );
    cases
}

/// Frames of the folded line, without its weight, and the weight.
fn parse(line: &str) -> (Vec<&str>, u64) {
    let (frames, weight) = line.rsplit_once(' ').unwrap();
    (frames.split(';').collect(), weight.parse().unwrap())
}

/// Whether `chain` comes in `frames` in this order. A name may have what a compiler adds to a part (`.cold`, `.part.0`)
/// or a library to a version.
fn in_order(frames: &[&str], chain: &[&str]) -> bool {
    let mut frames = frames.iter();
    chain.iter().all(|wanted| {
        frames.any(|frame| {
            frame == wanted
                || frame
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with(['.', '@', '_']))
        })
    })
}

/// Make sure that the stacks of programs with known calls show these calls, in whatever way they were compiled, and
/// that nearly all of them are whole.
#[test]
fn known_chains() {
    needs_root!();
    let folder = Folder::new();
    let cases = cases(&folder);
    let script: Vec<String> = cases.iter().map(|case| case.words.join(" ")).collect();
    let script = script.join("\n");
    let file = folder.path("chains.phg");
    let run = folder
        .phasegraph(["run", "--force", "--quiet", "--no-summary", "-F", "499", "-o"])
        .arg(&file)
        .args(["--", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let report = folder.report("chains.phg");
    if report.0["user_stacks"]["unknown"].as_u64() > Some(0) {
        eprintln!("skipped: this kernel's user stacks follow frame pointers");
        return;
    }
    let mut wrong = Vec::new();
    // Stacks of which the outer part is missing: as many as the report says had no table in time.
    let mut cut = 0;
    for case in &cases {
        let folded = folder
            .phasegraph(["flame", "--folded", "--kind", "cpu", "--process", &case.name])
            .arg(&file)
            .output()
            .unwrap();
        let text = stdout(&folded);
        let last = case.chain.last().unwrap();
        let (mut with, mut right, mut all) = (0, 0, 0);
        for (frames, weight) in text.lines().map(parse) {
            all += weight;
            if in_order(&frames, &[*last]) {
                with += weight;
                if in_order(&frames, case.chain) {
                    right += weight;
                } else if (1..case.chain.len()).any(|from| in_order(&frames, &case.chain[from..])) {
                    cut += 1;
                } else {
                    wrong.push(format!("{}: {}", case.name, frames.join(";")));
                }
                if case.name == "recursion" && in_order(&frames, case.chain) {
                    let depth = frames.iter().filter(|frame| **frame == "recurse").count();
                    if depth != 200 {
                        wrong.push(format!("{depth} frames of 200"));
                    }
                }
            }
        }
        eprintln!("{:12} {} of {} ns right, {} in all", case.name, right, with, all);
        // The rest is start-up, and what the kernel does at its end.
        if with * 10 < all * 5 {
            wrong.push(format!("{}: {last} in {with} of {all} ns only\n{text}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let stacks = &report.0["user_stacks"];
    // Before a file's table is there a piece of the stack is copied, which can be too short; and when it comes too late,
    // there is none.
    let late: u64 = ["no_table", "copy"]
        .map(|cause| stacks["early"][cause].as_u64().unwrap_or(0))
        .iter()
        .sum();
    assert!(cut <= late, "{cut} stacks without their outer part: {stacks}");
    // The start-up code of musl tells nothing of how to unwind it: its stacks are right, and end there.
    let programs = stacks["programs"].as_array().unwrap().iter();
    let known = programs.filter(|program| program["program"]["text"] != "musl");
    let (samples, whole) = known.fold((0, 0), |(samples, whole), program| {
        let count = |name: &str| program[name].as_u64().unwrap();
        (samples + count("samples"), whole + count("whole"))
    });
    assert!((whole + late) * 100 >= samples * 98, "{whole} of {samples}: {stacks}");
}

/// Make sure that a program that is replaced or removed while it runs, and one that lies in memory only, are unwound
/// or counted, and that the recording ends in order.
#[test]
fn files_that_change() {
    needs_root!();
    let folder = Folder::new();
    let Some(program) = compile(&folder, "gcc", CHAIN, &["-O2"], "gone") else {
        return;
    };
    let memory = compile(&folder, "gcc", MEMORY, &["-O2"], "memory").unwrap();
    let script = format!(
        "cp {program} {program}1; {program}1 c & sleep 0.1; rm {program}1; cp /bin/true {program}1; {program}1; wait; \
         cp {program} {program}2; {program}2 c & sleep 0.1; mv {program} {program}2; wait; {memory} {program}2 c"
    );
    let output = folder.profile("changed.phg", ["sh", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = folder.report("changed.phg");
    assert!(report.closed());
    assert!(Path::new(&folder.path("changed.phg")).exists());
    let stacks = &report.0["user_stacks"];
    let early: u64 = stacks["early"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|count| count.as_u64())
        .sum();
    // The start-up code of musl tells nothing of how to unwind it: its stacks are right, and end there.
    let programs = stacks["programs"].as_array().unwrap().iter();
    let known = programs.filter(|program| program["program"]["text"] != "musl");
    let (samples, whole) = known.fold((0, 0), |(samples, whole), program| {
        let count = |name: &str| program[name].as_u64().unwrap();
        (samples + count("samples"), whole + count("whole"))
    });
    assert_eq!(samples, whole + early, "{stacks}");
}

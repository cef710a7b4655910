//! Names out of files as they are made in the world: stripped, with the symbols elsewhere, packed, of several languages;
//! and files made to harm, read by the program's own parser. Needs gcc and binutils; a test says what it lacks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use phasegraph::lookup::elf::{Image, Proof, Segment};
use phasegraph::symbol::inline::Named;
use phasegraph::symbol::sandbox::{Cost, Failure, Job, Refusal, Sandbox};
use phasegraph::symbol::table::{Builder, Rank, Table};

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static volatile unsigned long sink;
static inline __attribute__((always_inline)) void inlined(unsigned long n) { while (n--) sink += n; }
__attribute__((noinline)) static void local_function(unsigned long n) { inlined(n); sink++; }
__attribute__((noinline)) void global_function(unsigned long n) { local_function(n); sink++; }
int main(int argc, char **argv) { global_function(argc > 1 ? strtoul(argv[1], 0, 10) : 9); return 0; }
"#;

macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return eprintln!("skipped: {reason}"),
        }
    };
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{program}: {}", text(&output.stderr))),
    }
}

/// The program with symbols and debug information, as `whole` in a folder of its own.
fn compile() -> Result<tempfile::TempDir, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("program.c"), PROGRAM).unwrap();
    let arguments = ["-g", "-O1", "-Wl,--build-id", "-o", "whole", "program.c"];
    run(folder.path(), "gcc", &arguments)?;
    Ok(folder)
}

/// Address of a function by `nm`.
fn address(folder: &Path, file: &str, name: &str) -> u64 {
    let symbols = run(folder, "nm", &[file]).unwrap();
    let line = symbols
        .lines()
        .find(|line| line.split(' ').nth(2) == Some(name))
        .unwrap();
    u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
}

fn sandbox() -> Sandbox {
    Sandbox::with_program(env!("CARGO_BIN_EXE_phasegraph").into())
}

fn ask<T: serde::de::DeserializeOwned>(sandbox: &mut Sandbox, job: Job, files: Vec<File>) -> Result<T, Failure> {
    sandbox.submit(7, job, files);
    let answers = sandbox.finish();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].ticket, 7);
    answers[0].decode()
}

fn image(path: &Path) -> Image {
    let mut sandbox = sandbox();
    let image = ask(&mut sandbox, Job::Symbols, vec![File::open(path).unwrap()]).unwrap();
    assert_eq!(sandbox.close().deaths, 0);
    image
}

fn name(image: &Image, address: u64) -> String {
    match image.table.find(address) {
        Some(found) => format!("{}+{}", String::from_utf8_lossy(&found.name), found.offset),
        None => "-".to_owned(),
    }
}

/// Make sure that a stripped program's functions are told apart by their starts alone.
#[test]
fn stripped_has_starts() {
    let folder = or_skip!(compile());
    let path = folder.path();
    or_skip!(run(path, "strip", &["-o", "stripped", "whole"]));
    let image = image(&path.join("stripped"));
    assert!(!image.complete && !image.build_id.is_empty());
    for function in ["local_function", "global_function", "main"] {
        let start = address(path, "whole", function);
        assert_eq!(name(&image, start + 3), "+3", "{function}");
    }
}

/// Make sure that the symbols packed into `.gnu_debugdata` are found.
#[test]
fn packed_symbols() {
    let folder = or_skip!(compile());
    let path = folder.path();
    or_skip!(run(
        path,
        "sh",
        &[
            "-c",
            "objcopy --only-keep-debug whole mini && strip --remove-section=.debug_* mini; \
        objcopy -S --remove-section .gnu_debuglink mini 2>/dev/null; objcopy --strip-debug --only-keep-debug whole mini && \
        xz -9 mini && objcopy --add-section .gnu_debugdata=mini.xz --strip-all whole packed"
        ]
    ));
    let image = image(&path.join("packed"));
    assert!(image.complete);
    let start = address(path, "whole", "local_function");
    assert_eq!(name(&image, start + 3), "local_function+3");
}

/// Make sure that a separate file gives the names when build id or checksum say that it is of the same build, and is
/// refused when they do not.
#[test]
fn separate_debug_file() {
    let folder = or_skip!(compile());
    let path = folder.path();
    let script = "objcopy --only-keep-debug whole whole.debug && strip -o stripped whole && \
                  objcopy --add-gnu-debuglink=whole.debug stripped";
    or_skip!(run(path, "sh", &["-c", script]));
    let own = image(&path.join("stripped"));
    let (link, crc) = own.link.clone().unwrap();
    assert_eq!(link, b"whole.debug");
    let start = address(path, "whole", "local_function");
    let with = |debug: &str, proof| {
        let files = ["stripped", debug].map(|file| File::open(path.join(file)).unwrap());
        ask::<Image>(&mut sandbox(), Job::SymbolsWith(proof), files.into())
    };
    for proof in [Proof::BuildId, Proof::Crc(crc)] {
        let image = with("whole.debug", proof).unwrap();
        assert!(image.complete && image.dwarf);
        assert_eq!(name(&image, start + 3), "local_function+3");
        assert_eq!(image.segments, own.segments);
    }
    let other = Err(Failure::Refused(Refusal::OtherBuild));
    assert_eq!(with("whole.debug", Proof::Crc(crc ^ 1)).map(|_| ()), other);
    assert_eq!(with("/bin/true", Proof::BuildId).map(|_| ()), other);
}

/// Make sure that functions that the compiler put into others are told from DWARF, innermost first, also where the
/// sections are compressed.
#[test]
fn inlined_functions() {
    let folder = or_skip!(compile());
    let path = folder.path();
    or_skip!(run(
        path,
        "objcopy",
        &["--compress-debug-sections=zlib", "whole", "compressed"]
    ));
    let build_id = image(&path.join("whole")).build_id;
    let start = address(path, "whole", "local_function");
    for file in ["whole", "compressed"] {
        let ask_with = |inline| {
            let job = Job::Frames {
                build_id: build_id.clone(),
                addresses: (start..start + 24).collect(),
                inline,
            };
            ask::<Vec<Named>>(&mut sandbox(), job, vec![File::open(path.join(file)).unwrap()]).unwrap()
        };
        let expected = [b"inlined".to_vec(), b"local_function".to_vec()];
        assert!(ask_with(true).iter().any(|named| named.names == expected), "{file}");
        assert!(
            ask_with(false).iter().all(|named| named.names == expected[1..]),
            "{file}"
        );
    }
}

/// Make sure that C++ and Rust functions have the names that their programmers gave them.
#[test]
fn other_languages() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let cpp = "namespace space { struct Type { template<class T> __attribute__((noinline)) void method(T t) \
               { volatile T v = t; (void)v; } }; } int main() { space::Type().method<long>(3); }";
    std::fs::write(path.join("program.cc"), cpp).unwrap();
    let rust = "mod part { #[inline(never)] pub fn work(n: u64) -> u64 { std::hint::black_box(n) + 1 } } \
                fn main() { std::process::exit(part::work(2) as i32 - 3) }";
    std::fs::write(path.join("program.rs"), rust).unwrap();
    let mut compared = 0;
    for (compiler, arguments, expected) in [
        ("g++", &["-O1", "-o", "out", "program.cc"][..], "space::Type::method"),
        ("rustc", &["-O", "-o", "out", "program.rs"], "program::part::work"),
        (
            "rustc",
            &["-O", "-C", "symbol-mangling-version=v0", "-o", "out", "program.rs"],
            "program::part::work",
        ),
    ] {
        if let Err(why) = run(path, compiler, arguments) {
            eprintln!("skipped: {why}");
            continue;
        }
        let symbols = run(path, "nm", &["out"]).unwrap();
        // The program's own: the language's library has thousands.
        let mangled: Vec<Vec<u8>> = symbols
            .lines()
            .filter_map(|line| line.split(' ').nth(2))
            .filter(|name| name.contains("method") || name.contains("work"))
            .map(|name| name.as_bytes().to_vec())
            .take(100)
            .collect();
        let names = ask::<Vec<Vec<u8>>>(&mut sandbox(), Job::Demangle(mangled), vec![]).unwrap();
        let names: Vec<String> = names.into_iter().map(|name| String::from_utf8(name).unwrap()).collect();
        assert!(
            names.iter().any(|name| name.starts_with(expected)),
            "{compiler}: {names:?}"
        );
        compared += 1;
    }
    if compared == 0 {
        eprintln!("skipped: neither g++ nor rustc");
    }
}

/// Make sure that Go programs that were stripped have names for their functions, position-independent ones too.
#[test]
fn go_programs() {
    let mut seen = 0;
    for (program, function) in [
        ("/usr/sbin/runc", "main.main"),
        ("/usr/bin/podman", "main.main"),
        ("/usr/bin/docker", "main.main"),
        ("/usr/bin/containerd", "main.main"),
    ] {
        let path = Path::new(program);
        if !path.exists() {
            continue;
        }
        seen += 1;
        let image = image(path);
        let (start, _) = functions(&image.table, &image)
            .find(|(_, name)| name == function)
            .unwrap_or_else(|| panic!("{program} has no {function} among {} functions", image.table.len()));
        assert!(name(&image, start + 5).starts_with(&format!("{function}+")));
        let named = functions(&image.table, &image)
            .filter(|(_, name)| !name.is_empty())
            .count();
        assert!(named > 5000, "{program}: {named}");
        assert!(
            image.table.bytes() < 8 << 20,
            "{program}: {} bytes",
            image.table.bytes()
        );
    }
    if seen == 0 {
        eprintln!("skipped: no Go program that is known");
    }
}

/// Start and name of the functions in the executable segments, found 16 bytes by 16 bytes (Go aligns them so).
fn functions<'a>(table: &'a Table, image: &'a Image) -> impl Iterator<Item = (u64, String)> + 'a {
    let segment = image.segments[0];
    (segment.address..segment.address + segment.size)
        .step_by(16)
        .filter_map(|address| {
            let found = table.find(address).filter(|found| found.offset == 0)?;
            Some((address, String::from_utf8_lossy(&found.name).into_owned()))
        })
}

/// A file made of headers that its writer chose.
struct Elf {
    bytes: Vec<u8>,
}

impl Elf {
    /// 64-bit, with `sections` of (type, flags, offset, size, link) from offset 0x40 on.
    fn new(sections: &[(u32, u64, u64, u64, u32)]) -> Elf {
        let mut bytes = vec![0; 0x40];
        bytes[..16].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
        bytes[0x10..0x18].copy_from_slice(&[3, 0, 62, 0, 1, 0, 0, 0]);
        bytes[0x28..0x30].copy_from_slice(&0x40u64.to_le_bytes());
        bytes[0x34..0x36].copy_from_slice(&0x40u16.to_le_bytes());
        bytes[0x36..0x38].copy_from_slice(&0x38u16.to_le_bytes());
        bytes[0x3a..0x3c].copy_from_slice(&0x40u16.to_le_bytes());
        bytes[0x3c..0x3e].copy_from_slice(&(sections.len() as u16).to_le_bytes());
        for (kind, flags, offset, size, link) in sections {
            bytes.extend_from_slice(&0u32.to_le_bytes());
            bytes.extend_from_slice(&kind.to_le_bytes());
            for word in [*flags, 0, *offset, *size] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&link.to_le_bytes());
            bytes.extend_from_slice(&0u32.to_le_bytes());
            for word in [1u64, 24] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        Elf { bytes }
    }

    fn symbol(name: u32, value: u64, size: u64) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&name.to_le_bytes());
        (bytes[4], bytes[6]) = (0x12, 1);
        bytes[8..16].copy_from_slice(&value.to_le_bytes());
        bytes[16..].copy_from_slice(&size.to_le_bytes());
        bytes
    }

    fn file(&self) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&self.bytes, 0).unwrap();
        file
    }
}

/// Reads a hostile file, and then a good one: the parser is there for it.
fn survives(sandbox: &mut Sandbox, file: File) -> Result<Image, Failure> {
    let image = ask(sandbox, Job::Symbols, vec![file]);
    let good = ask::<Image>(sandbox, Job::Symbols, vec![File::open("/bin/sh").unwrap()]);
    assert!(!good.unwrap().segments.is_empty());
    image
}

fn bounded(cost: Cost, jobs: u64) {
    // 768 MB of address space and 2 s of CPU time a job are what the kernel holds the parser to.
    assert!(cost.peak_rss_bytes <= 768 << 20, "{cost:?}");
    assert!(cost.user_ns + cost.system_ns <= jobs * 2_100_000_000, "{cost:?}");
}

const SYMTAB: u32 = 2;
const STRTAB: u32 = 3;

/// Make sure that hostile files are refused or give names within bounds, and that the parser goes on: sections over each
/// other and over the headers, a table of symbols and strings in one, counts beyond the file, 4 GB of nothing, a file
/// cut short, names of 100 kB and of control characters.
#[test]
fn hostile_files() {
    let mut sandbox = sandbox();
    // Symbols, strings and headers are all the same bytes, and each links to itself.
    let over = Elf::new(&[
        (SYMTAB, 0, 0, 0x100, 0),
        (STRTAB, 0, 0, 0x100, 1),
        (SYMTAB, 0, 0x40, 0xc0, 2),
    ]);
    _ = survives(&mut sandbox, over.file());

    let beyond = Elf::new(&[(SYMTAB, 0, 0x100, u64::MAX - 7, 1), (STRTAB, 0, u64::MAX, 5, 0)]);
    assert!(survives(&mut sandbox, beyond.file()).is_err());
    let mut many = Elf::new(&[(SYMTAB, 0, 0, 1 << 40, 0)]);
    many.bytes[0x3c..0x3e].copy_from_slice(&[0, 0]);
    assert!(survives(&mut sandbox, many.file()).is_err());

    let sparse = Elf::new(&[(SYMTAB, 0, 0x1000, 256 << 20, 1), (STRTAB, 0, 0x1000, 160 << 20, 0)]);
    let file = sparse.file();
    file.set_len(4 << 30).unwrap();
    assert!(survives(&mut sandbox, file).unwrap().table.is_empty());
    let file = sparse.file();
    file.set_len((4 << 30) + 1).unwrap();
    let too_large = Err(Failure::Refused(Refusal::TooLarge));
    assert_eq!(survives(&mut sandbox, file).map(|_| ()), too_large);

    // A million symbols that all have the same 100 kB for a name.
    let count = 1_000_000u64;
    let mut long = Elf::new(&[
        (SYMTAB, 0, 0x1000, count * 24, 1),
        (STRTAB, 0, 0x1000 + count * 24, 100_002, 0),
    ]);
    long.bytes.resize(0x1000, 0);
    for index in 0..count {
        long.bytes.extend_from_slice(&Elf::symbol(1, index * 16, 16));
    }
    long.bytes.push(0);
    long.bytes.resize(long.bytes.len() + 100_000, b'x');
    long.bytes.push(0);
    let too_many = Err(Failure::Refused(Refusal::TooMany));
    assert_eq!(survives(&mut sandbox, long.file()).map(|_| ()), too_many);

    let names = b"\0\x1b[31mred\n;0 1\0_ZN1aIS_IS_IS_IS_E\0";
    let mut odd = Elf::new(&[(SYMTAB, 0, 0x200, 48, 1), (STRTAB, 0, 0x300, names.len() as u64, 0)]);
    odd.bytes.resize(0x200, 0);
    odd.bytes.extend_from_slice(&Elf::symbol(1, 0x10, 16));
    odd.bytes.extend_from_slice(&Elf::symbol(15, 0x20, u64::MAX));
    odd.bytes.resize(0x300, 0);
    odd.bytes.extend_from_slice(names);
    let image = survives(&mut sandbox, odd.file()).unwrap();
    assert_eq!(image.table.find(0x10).unwrap().name, b"\x1b[31mred\n;0 1");

    let whole = std::fs::read("/bin/sh").unwrap();
    for cut in [0, 3, 52, 63, 64, 100, 1000, whole.len() / 2, whole.len() - 1] {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&whole[..cut], 0).unwrap();
        _ = survives(&mut sandbox, file);
    }
    let cost = sandbox.close();
    assert_eq!(cost.deaths, 0, "{cost:?}");
    bounded(cost, cost.jobs);
}

/// Make sure that bytes turned at random, in the headers, the tables and the packed symbols, cost a file's names at most.
#[test]
fn flipped_bytes() {
    let folder = or_skip!(compile());
    let path = folder.path();
    let script = "objcopy --strip-debug --only-keep-debug whole mini && xz mini && \
                  objcopy --add-section .gnu_debugdata=mini.xz --strip-all whole packed";
    or_skip!(run(path, "sh", &["-c", script]));
    let mut sandbox = sandbox();
    let mut seed = 88_172_645_463_325_252u64;
    let mut random = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    for file in ["whole", "packed"] {
        let good = std::fs::read(path.join(file)).unwrap();
        for _ in 0..400 {
            let mut bad = good.clone();
            for _ in 0..1 + random(8) {
                let at = random(bad.len());
                bad[at] = random(256) as u8;
            }
            // Sections and symbols lie at the end.
            let tail = bad.len() - 1 - random(4000);
            bad[tail] ^= 0x80;
            let bad = Elf { bytes: bad };
            let job = if random(4) == 0 {
                let build_id = Vec::new();
                Job::Frames {
                    build_id,
                    addresses: vec![0x1139, 0x1150],
                    inline: true,
                }
            } else {
                Job::Symbols
            };
            sandbox.submit(1, job, vec![bad.file()]);
        }
    }
    assert!(sandbox.finish().len() <= 800);
    let cost = sandbox.close();
    assert_eq!(cost.deaths, 0, "{cost:?}");
    bounded(cost, 800);
}

/// Make sure that a parser that needs more memory than it may is ended, that the cause is told, and that the next file is
/// read by a new one.
#[test]
fn out_of_memory() {
    let mut sandbox = sandbox().memory(96 << 20);
    let sparse = Elf::new(&[(SYMTAB, 0, 0x1000, 256 << 20, 1), (STRTAB, 0, 0x1000, 160 << 20, 0)]);
    let file = sparse.file();
    file.set_len(1 << 30).unwrap();
    assert_eq!(survives(&mut sandbox, file).map(|_| ()), Err(Failure::Memory));
    assert_eq!(sandbox.close().deaths, 1);
}

/// Make sure that a parser that ends by itself, or is no parser at all, costs the jobs' answers and nothing else.
#[test]
fn no_parser() {
    for (program, failure) in [
        ("/bin/true", Failure::Crash),
        ("/bin/cat", Failure::Crash),
        ("/no/such/program", Failure::NoParser),
    ] {
        let mut sandbox = Sandbox::with_program(PathBuf::from(program));
        for _ in 0..3 {
            let answer = ask::<Image>(&mut sandbox, Job::Symbols, vec![File::open("/bin/sh").unwrap()]);
            assert_eq!(answer.map(|_| ()), Err(failure), "{program}");
        }
    }
}

/// Make sure that the parser has no capabilities, no privileges to gain, a filter for its system calls, and no files.
#[test]
fn jailed() {
    let mut sandbox = sandbox();
    _ = ask::<Image>(&mut sandbox, Job::Symbols, vec![File::open("/bin/sh").unwrap()]).unwrap();
    assert_eq!(sandbox.kept(), None);
    let pid = sandbox.pid().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_ascii_whitespace().nth(1).unwrap().to_owned()
    };
    for set in ["CapInh", "CapPrm", "CapEff"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((&field("NoNewPrivs")[..], &field("Seccomp:")[..]), ("1", "2"));
    // SAFETY: takes nothing and can't fail.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(field("Uid"), "65534");
        let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        assert_eq!(open, 3, "the socket and two for nothing");
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        assert!(limits.contains("805306368"), "{limits}");
    }
}

/// Make sure that a perf map is read, and one that never ends a line or a name is bounded.
#[test]
fn perf_maps() {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(
        b"7f0000001000 40 Interpreter\n7f0000002000 100 LazyCompile:*hot app.js:7\n",
        0,
    )
    .unwrap();
    let table = ask::<Table>(&mut sandbox(), Job::PerfMap, vec![file]).unwrap();
    assert_eq!(table.find(0x7f00_0000_2020).unwrap().name, b"LazyCompile:*hot app.js:7");
    let file = tempfile::tempfile().unwrap();
    file.set_len(4 << 30).unwrap();
    let mut sandbox = sandbox();
    assert!(ask::<Table>(&mut sandbox, Job::PerfMap, vec![file]).unwrap().is_empty());
    bounded(sandbox.close(), 1);
}

/// Make sure that a table built by hand survives the way through the wire form whole.
#[test]
fn tables_travel() {
    let mut builder = Builder::default();
    for index in 0..100u64 {
        builder.add(index * 32, 32, Rank::Global, format!("function_{index}").as_bytes());
    }
    let image = Image {
        segments: vec![Segment {
            offset: 0,
            size: 3200,
            address: 0,
        }],
        table: builder.finish(),
        ..Image::default()
    };
    let bytes = postcard::to_stdvec(&image).unwrap();
    let back: Image = postcard::from_bytes(&bytes).unwrap();
    for index in 0..100u64 {
        assert_eq!(name(&back, index * 32 + 1), format!("function_{index}+1"));
    }
}

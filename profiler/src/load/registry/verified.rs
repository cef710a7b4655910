//! How many instructions the verifier goes through for each program: a limit for each, and the table in
//! `docs/verifier.md`.
//!
//! The table keeps a column for each kernel. `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --lib verified` writes the
//! running kernel's anew, and those of the files that `PHASEGRAPH_VERIFIED_IN` names (separated by `:`); on another
//! kernel the same test writes such a file where `PHASEGRAPH_VERIFIED_OUT` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aya::Btf;

use super::super::{LoadOptions, Loaded};
use crate::kernel::offsets;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verifier.md");
const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->";
/// The kernel's own limit: `BPF_COMPLEXITY_LIMIT_INSNS` of `include/linux/bpf.h`.
const KERNEL_LIMIT: u32 = 1_000_000;

/// The most that each program may take on any kernel, about twice what it takes at present. One that grows past it has
/// got a loop or a branch too many, or needs a new row here with a reason in its commit.
const LIMITS: &[(&str, u32)] = &[
    ("sched_switch", 60_000),
    // Each walks a stack as far as one program may; what comes next is a tail call.
    ("cpu_unwind", 40_000),
    ("cpu_unwind_more", 200_000),
    ("wait_unwind_more", 200_000),
];
/// For programs without a row.
const OTHERS: u32 = 20_000;

/// Instructions by program (with its variant), by kernel.
type Table = BTreeMap<String, BTreeMap<String, u32>>;

fn limit(program: &str) -> u32 {
    let (name, _) = program.split_once(' ').unwrap_or((program, ""));
    LIMITS
        .iter()
        .find(|(limited, _)| *limited == name)
        .map_or(OTHERS, |(_, limit)| *limit)
}

/// Of the running kernel: `"sched_switch storage"` → instructions.
fn measured() -> Option<BTreeMap<String, u32>> {
    let btf = Btf::from_sys_fs().ok()?;
    let resolved = offsets::resolve(Path::new(offsets::VMLINUX_BTF)).unwrap();
    let mut all = BTreeMap::new();
    for variant in ["storage", "hash"] {
        let options = LoadOptions {
            sample_hz: 99,
            cpus: vec![0],
            ring_bytes: 4 << 20,
            forced: format!("task_state={variant}").parse().unwrap(),
            ..LoadOptions::default()
        };
        let Ok(mut loaded) = Loaded::load(&btf, &resolved, &options) else {
            eprintln!("the variant with the {variant} does not load here");
            continue;
        };
        // Calls' programs are loaded when they are attached.
        loaded.attach(&btf).unwrap();
        for cost in loaded.costs().into_iter().filter(|cost| cost.verified_instructions > 0) {
            all.insert(format!("{} {variant}", cost.name), cost.verified_instructions);
        }
    }
    // The kernel tells since 5.16.
    (!all.is_empty()).then_some(all)
}

/// `6.18` of `6.18.44-…`.
fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    release.trim().split('.').take(2).collect::<Vec<_>>().join(".")
}

/// Reads what [`write`] wrote.
fn read(text: &str) -> Table {
    let mut table = Table::new();
    let body = text
        .split_once(BEGIN)
        .and_then(|(_, rest)| rest.split_once(END))
        .map_or("", |(body, _)| body);
    let mut rows = body.lines().map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('`', "")).collect::<Vec<_>>()
    });
    let kernels = rows.next().unwrap_or_default();
    for row in rows.skip(1) {
        for (kernel, cell) in kernels
            .iter()
            .zip(&row)
            .skip(2)
            .filter(|(kernel, _)| *kernel != "limit")
        {
            if let (Ok(count), [program, variant, ..]) = (cell.replace(',', "").parse(), &row[..]) {
                let counts = table.entry(kernel.trim_start_matches("Linux ").to_owned()).or_default();
                counts.insert(format!("{program} {variant}"), count);
            }
        }
    }
    table
}

fn write(table: &Table) -> String {
    let mut kernels: Vec<&String> = table.keys().collect();
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok()).unwrap_or(0);
    kernels.sort_by_key(|kernel| {
        let mut parts = kernel.split('.');
        (number(parts.next()), number(parts.next()))
    });
    let programs: BTreeSet<&String> = table.values().flat_map(|counts| counts.keys()).collect();
    let mut text = String::from("| program | variant |");
    for kernel in &kernels {
        text.push_str(&format!(" Linux {kernel} |"));
    }
    text.push_str(" limit |\n|---|---|");
    text.push_str(&"---:|".repeat(kernels.len() + 1));
    text.push('\n');
    for program in programs {
        let (name, variant) = program.split_once(' ').unwrap();
        text.push_str(&format!("| `{name}` | {variant} |"));
        for kernel in &kernels {
            let count = table[*kernel].get(program);
            let count = count.map_or_else(|| "–".to_owned(), |count| crate::report::units::count((*count).into()));
            text.push_str(&format!(" {count} |"));
        }
        text.push_str(&format!(" {} |\n", crate::report::units::count(limit(program).into())));
    }
    text
}

/// Make sure that no program needs more of the verifier than it may, on the running kernel.
#[test]
fn verified_instructions() {
    // SAFETY: no arguments.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: loading eBPF programs needs root");
        return;
    }
    let Some(measured) = measured() else {
        eprintln!("skipped: this kernel does not tell (it is older than 5.16)");
        return;
    };
    let mut too_many = Vec::new();
    for (program, count) in &measured {
        assert!(limit(program) < KERNEL_LIMIT);
        if *count > limit(program) {
            too_many.push(format!("{program}: {count} of {}", limit(program)));
        }
    }
    let lines: String = measured
        .iter()
        .map(|(program, count)| format!("{} {program} {count}\n", kernel()))
        .collect();
    eprint!("{lines}");
    if let Some(path) = std::env::var_os("PHASEGRAPH_VERIFIED_OUT") {
        std::fs::write(path, lines).unwrap();
    }
    if std::env::var_os("PHASEGRAPH_UPDATE_DOCS").is_some() {
        let text = std::fs::read_to_string(DOCUMENT).unwrap();
        let mut table = read(&text);
        table.insert(kernel(), measured);
        let others = std::env::var("PHASEGRAPH_VERIFIED_IN").unwrap_or_default();
        for path in others.split(':').filter(|path| !path.is_empty()) {
            let mut fresh = Table::new();
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let [kernel, name, variant, count] = line.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                let counts = fresh.entry(kernel.to_owned()).or_default();
                counts.insert(format!("{name} {variant}"), count.parse().unwrap());
            }
            table.extend(fresh);
        }
        let (before, rest) = text.split_once(BEGIN).unwrap();
        let (_, after) = rest.split_once(END).unwrap();
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}{}{END}{after}", write(&table))).unwrap();
    }
    assert!(too_many.is_empty(), "{too_many:#?}");
}

/// Make sure that the table reads back as it was written, and that the document has one.
#[test]
fn verified_table() {
    let table: Table = [
        ("6.18", vec![("a storage", 10), ("b hash", 1_234)]),
        ("5.16", vec![("a storage", 20)]),
    ]
    .into_iter()
    .map(|(kernel, counts)| {
        let counts = counts.into_iter().map(|(program, count)| (program.to_owned(), count));
        (kernel.to_owned(), counts.collect())
    })
    .collect();
    let text = write(&table);
    assert!(text.find("5.16") < text.find("6.18"), "{text}");
    assert_eq!(read(&format!("x\n{BEGIN}{text}{END}\n")), table);

    let documented = read(&std::fs::read_to_string(DOCUMENT).unwrap());
    assert!(
        documented
            .values()
            .any(|counts| counts.contains_key("sched_switch storage"))
    );
}

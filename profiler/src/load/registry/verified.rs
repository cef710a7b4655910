//! How many instructions the verifier goes through for each program: a limit for each, and the table in
//! `docs/verifier.md`.
//!
//! The table keeps a column for each kernel. `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --lib verified` writes the
//! running kernel's anew, and those of the files that `PHASEGRAPH_VERIFIED_IN` names (separated by `:`); on another
//! kernel the same test writes such a file where `PHASEGRAPH_VERIFIED_OUT` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aya::{
    Btf, VerifierLogLevel,
    programs::{Program, ProgramError},
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::{LoadOptions, Loaded, load_object};
use super::{Attach, CALLS, PROBES, Rung, SENDS};
use crate::kernel::offsets::{self, Resolved};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verifier.md");
const BEGIN: &str = "<!-- generated: begin -->\n";
const END: &str = "<!-- generated: end -->";
/// The kernel's own limit: `BPF_COMPLEXITY_LIMIT_INSNS` of `include/linux/bpf.h`.
const KERNEL_LIMIT: u32 = 1_000_000;

/// The most that each program may take on any kernel, about twice what it takes at present. One that grows past it has
/// got a loop or a branch too many, or needs a new row here with a reason in its commit.
const LIMITS: &[(&str, u32)] = &[
    ("sched_switch", 180_000),
    // The path of the cgroup, which 5.10 and 6.1 follow step by step.
    ("cgroup_attach_task", 60_000),
    // Each may tell a file with the folders above it, one step of the way for each: `disk/files.rs`.
    ("page_added", 80_000),
    ("page_dirtied", 70_000),
    ("flush_tasks", 70_000),
    ("pages_exec", 40_000),
    ("pages_exit", 40_000),
    ("pages_exit_again", 40_000),
    ("inode_made", 40_000),
    ("write_back_ends", 50_000),
    ("copy_up_ends", 50_000),
    ("overlay_opens", 50_000),
    ("overlay_opens_exit", 50_000),
    // What a request is for is reached by many pointers, the arguments of a program by paths: 5.10 and 6.1 keep more states.
    ("file_call_ends", 70_000),
    ("block_issue", 25_000),
    ("sched_process_exec", 30_000),
    // Each end of each watched call, with the names of the files that some are about.
    ("call_exit", 16_000),
    ("call_fexit", 16_000),
    ("call_kretprobe", 16_000),
    // Each walks a stack as far as one program may; what comes next is a tail call.
    ("cpu_unwind", 40_000),
    ("cpu_unwind_more", 200_000),
    ("wait_unwind_more", 200_000),
];
/// For programs without a row.
const OTHERS: u32 = 10_000;

/// Instructions by program (with its variant), by kernel.
type Table = BTreeMap<String, BTreeMap<String, u32>>;

fn limit(program: &str) -> u32 {
    let (name, _) = program.split_once(' ').unwrap_or((program, ""));
    LIMITS
        .iter()
        .find(|(limited, _)| *limited == name)
        .map_or(OTHERS, |(_, limit)| *limit)
}

/// The programs that take more than they may.
fn too_many(measured: &BTreeMap<String, u32>) -> Vec<String> {
    measured
        .iter()
        .filter(|(program, count)| **count > limit(program))
        .map(|(program, count)| format!("{program}: {count} of {}", limit(program)))
        .collect()
}

/// Of the running kernel: `"sched_switch storage"` → instructions.
fn measured() -> BTreeMap<String, u32> {
    let own_machine = std::env::var_os("PHASEGRAPH_OWN_MACHINE").is_some();
    let Ok(btf) = Btf::from_sys_fs() else {
        return BTreeMap::new();
    };
    let resolved = offsets::resolve(Path::new(offsets::VMLINUX_BTF)).unwrap();
    let mut all = BTreeMap::new();
    for (variant, state) in [("storage", Rung::Storage), ("hash", Rung::Hash)] {
        let options = LoadOptions {
            sample_hz: 99,
            cpus: vec![0],
            ring_bytes: 4 << 20,
            forced: format!("task_state={variant}").parse().unwrap(),
            file_calls: true,
            ..LoadOptions::default()
        };
        let Ok(mut loaded) = Loaded::load(&btf, &resolved, &options) else {
            eprintln!("the variant with the {variant} does not load here");
            continue;
        };
        // Calls' programs are loaded when they are attached.
        loaded.attach(&btf).unwrap();
        let costs = loaded.costs();
        let logged = if own_machine {
            logged(&btf, &resolved, &options, state)
        } else {
            BTreeMap::new()
        };
        for cost in costs {
            let told = (cost.verified_instructions > 0).then_some(cost.verified_instructions);
            let logged = logged.get(&cost.name).copied();
            if let (Some(told), Some(logged)) = (told, logged) {
                assert_eq!(told, logged, "{}: two answers of one verifier", cost.name);
            }
            if let Some(count) = told.or(logged) {
                all.insert(format!("{} {variant}", cost.name), count);
            }
        }
    }
    all
}

/// Instructions by program, from the verifier's own log: the kernel tells them otherwise since 5.16 only. A loader sees the
/// log of a program that is refused. One that passed the verifier is refused after it, for want of a descriptor, when
/// this process may have no more; so this is for a machine of the tests' own, where one test runs at a time.
fn logged(btf: &Btf, resolved: &Resolved, options: &LoadOptions, state: Rung) -> BTreeMap<String, u32> {
    // Every step of every program would be megabytes.
    let mut ebpf = load_object(btf, resolved, options, state, VerifierLogLevel::STATS).unwrap();
    let before = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(0),
        ..before
    };
    let mut counts = BTreeMap::new();
    for (name, program) in ebpf.programs_mut() {
        setrlimit(Resource::Nofile, none).unwrap();
        let result = match program {
            Program::BtfTracePoint(program) => program.load(tracepoint(name), btf),
            Program::RawTracePoint(program) => program.load(),
            Program::TracePoint(program) => program.load(),
            Program::PerfEvent(program) => program.load(),
            Program::KProbe(program) => program.load(),
            Program::FEntry(program) => program.load(&CALLS[0].function(), btf),
            Program::FExit(program) if name == "call_fexit" => program.load(&CALLS[0].function(), btf),
            Program::FExit(program) => program.load(SENDS[0], btf),
            Program::Iter(program) => program.load("task", btf),
            other => panic!("{name} is of another type: {other:?}"),
        };
        setrlimit(Resource::Nofile, before).unwrap();
        match result {
            Ok(()) => panic!("{name} was loaded, without a descriptor"),
            Err(ProgramError::LoadError { io_error, verifier_log })
                if io_error.raw_os_error() == Some(libc::EMFILE) =>
            {
                let log = verifier_log.to_string();
                let count = processed(&log).unwrap_or_else(|| panic!("{name}: {log}"));
                counts.insert(name.to_owned(), count);
            }
            // What the verifier refuses, or the kernel does not know, has no number.
            Err(_) => {}
        }
    }
    counts
}

/// Of `processed 1234 insns (limit 1000000) …`, the last line of a verifier's log.
fn processed(log: &str) -> Option<u32> {
    let (_, rest) = log.rsplit_once("processed ")?;
    rest.split_once(" insns")?.0.parse().ok()
}

/// The tracepoint of a typed program.
fn tracepoint(program: &str) -> &'static str {
    PROBES
        .iter()
        .find(|probe| probe.program == program)
        .and_then(|probe| match probe.attach {
            Attach::Tail(name) => Some(name),
            attach => attach.tracepoint(),
        })
        .unwrap_or(match program {
            "inode_made" => "ext4_allocate_inode",
            // What wait_unwind goes on in.
            _ => "sched_switch",
        })
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
    let measured = measured();
    if measured.is_empty() {
        eprintln!(
            "skipped: this kernel does not tell (before 5.16 its verifier's log has to be read, in a machine only)"
        );
        return;
    }
    let too_many = too_many(&measured);
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

/// Make sure that a program that grows past its limit is found, by its own limit or by the common one, and that no limit
/// is beyond the kernel's.
#[test]
fn growth_is_found() {
    let count = |program: &str, count| [(program.to_owned(), count)].into_iter().collect();
    for program in ["sched_switch storage", "cpu_unwind_more hash", "sched_waking hash"] {
        let most = limit(program);
        assert!(most < KERNEL_LIMIT);
        assert_eq!(too_many(&count(program, most)), Vec::<String>::new());
        let told = format!("{program}: {} of {most}", most + 1);
        assert_eq!(too_many(&count(program, most + 1)), [told]);
    }
    assert_eq!(limit("sched_waking hash"), OTHERS);
    assert_ne!(limit("sched_switch hash"), OTHERS);
}

/// Make sure that the count is found in a verifier's log, and nowhere else.
#[test]
fn count_in_a_log() {
    let log = "func#0 @0\nverification time 812 usec\nstack depth 96+0\n\
               processed 4179 insns (limit 1000000) max_states_per_insn 4 total_states 200\n\n";
    assert_eq!(processed(log), Some(4179));
    assert_eq!(processed("R1 type=inv expected=fp\n"), None);
}

/// Make sure that the table reads back as it was written, and that the document has one within the limits.
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
    for (kernel, counts) in &documented {
        assert_eq!(too_many(counts), Vec::<String>::new(), "documented of Linux {kernel}");
    }
}

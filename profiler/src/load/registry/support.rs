//! `docs/kernel-support.md` says what the registry and the list of members say: its tables are made from them.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::{Attach, CALLS, PROBES, Rung};
use crate::kernel::offsets::{IN_IOWAIT, MEMBERS};

/// Set to anything: the tables are written instead of compared.
const UPDATE: &str = "PHASEGRAPH_UPDATE_DOCS";

fn attached(attach: Attach) -> String {
    match attach {
        Attach::State => "each profiled thread".to_owned(),
        Attach::TpBtf(tracepoint)
        | Attach::Asked(tracepoint)
        | Attach::Again(tracepoint)
        | Attach::Tracepoint(tracepoint) => {
            format!("tracepoint `{tracepoint}`")
        }
        Attach::Renamed(now, before) => format!("tracepoint `{now}`, once `{before}`"),
        Attach::Sends(tracepoint) => format!("tracepoint `{tracepoint}`, or the functions that send"),
        Attach::CopyUps => "functions of the overlay, or tracepoints".to_owned(),
        Attach::Whiteouts => "a function of the overlay, or tracepoint `ext4_mark_inode_dirty`".to_owned(),
        Attach::Opens => "a function of the overlay, or tracepoint `sys_exit_openat`".to_owned(),
        Attach::Calls => format!("{} system calls, see below", CALLS.len()),
        Attach::Clock => "each CPU".to_owned(),
        Attach::Tail(tracepoint) => format!("after `{tracepoint}`"),
        Attach::TaskIterator => "every task, once".to_owned(),
    }
}

fn probes() -> String {
    let mut text =
        "| Signal | Taken from | Rungs, best first | Since Linux | Missing without it |\n|---|---|---|---|---|\n"
            .to_owned();
    for probe in PROBES {
        let without = if probe.required {
            format!("**everything**: {}", probe.gives)
        } else {
            probe.gives.to_owned()
        };
        let rungs: Vec<&str> = probe.attach.rungs().iter().map(|rung| rung.name()).collect();
        let (signal, attached, since) = (probe.program, attached(probe.attach), probe.since);
        _ = writeln!(
            text,
            "| `{signal}` | {attached} | {} | {since} | {without} |",
            rungs.join(" → ")
        );
    }
    text
}

fn rungs() -> String {
    let mut text =
        "| Rung | Since Linux | Needs beside eBPF | What is lost against a better one |\n|---|---|---|---|\n"
            .to_owned();
    for rung in Rung::ALL {
        let lost = if rung.lost().is_empty() { "–" } else { rung.lost() };
        _ = writeln!(text, "| `{rung}` | {} | {} | {lost} |", rung.since(), rung.needs());
    }
    text
}

fn prototypes() -> String {
    let mut text = "```text\n".to_owned();
    let mut seen = Vec::new();
    for probe in PROBES {
        if !probe.prototype.is_empty() && !seen.contains(&probe.prototype) {
            seen.push(probe.prototype);
            _ = writeln!(text, "{}", probe.prototype.replacen("; with ", "\n    with ", 1));
        }
    }
    text + "```\n"
}

fn calls() -> String {
    let mut text = "| System call | Function | Tracepoints |\n|---|---|---|\n".to_owned();
    for call in CALLS {
        let (name, function) = (call.name, call.function());
        _ = writeln!(
            text,
            "| `{name}` | `{function}` | `sys_enter_{name}`, `sys_exit_{name}` |"
        );
    }
    text
}

fn members() -> String {
    let mut text = "| Missing without it | Members |\n|---|---|\n".to_owned();
    let all: Vec<_> = MEMBERS.iter().chain([&IN_IOWAIT]).collect();
    let mut seen = Vec::new();
    for member in &all {
        if seen.contains(&member.lost) {
            continue;
        }
        seen.push(member.lost);
        let names: Vec<String> = all
            .iter()
            .filter(|other| other.lost == member.lost)
            .map(|other| {
                let names: Vec<String> = other
                    .names
                    .iter()
                    .map(|(name, path)| format!("`{name}.{path}`"))
                    .collect();
                names.join(" or ")
            })
            .collect();
        _ = writeln!(text, "| {} | {} |", member.lost, names.join(", "));
    }
    text
}

/// `document` with the text between `<!-- NAME -->` and `<!-- end of NAME -->` replaced.
fn with_table(document: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let (before, rest) = document.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}\n{end}{after}"))
}

/// Make sure that the document's tables are those of the registry and of the members that are looked for.
#[test]
fn kernel_support_document() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/kernel-support.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let mut expected = document.clone();
    for (name, table) in [
        ("probes", probes()),
        ("rungs", rungs()),
        ("prototypes", prototypes()),
        ("calls", calls()),
        ("members", members()),
    ] {
        expected = with_table(&expected, name, &table)
            .unwrap_or_else(|| panic!("docs/kernel-support.md has no `<!-- {name} -->` … `<!-- end of {name} -->`"));
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    assert!(
        document == expected,
        "docs/kernel-support.md is not what the registry says; \
         `{UPDATE}=1 cargo test -p phasegraph --lib kernel_support_document` writes its tables anew"
    );
}

/// Make sure that every probe says since when it can be had and by what declaration it reads its arguments.
#[test]
fn probes_say_what_they_rely_on() {
    for probe in PROBES {
        let (major, minor) = probe.since.split_once('.').unwrap();
        let version: (u32, u32) = (major.parse().unwrap(), minor.parse().unwrap());
        assert!((5, 8) <= version, "{}: the ring buffer came with 5.8", probe.program);
        if let Some(tracepoint) = probe.attach.tracepoint() {
            assert!(
                probe.prototype.starts_with(&format!("{tracepoint}(")),
                "{}",
                probe.program
            );
        }
    }
}

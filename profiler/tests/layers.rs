//! Layers of bare overlay mounts: which are known, what was read of each, what was copied up. Needs root; the page
//! `docs/perf/layers.md` besides gcc.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::Value;

#[path = "layers/again.rs"]
mod again;
#[expect(dead_code, reason = "shared with other tests, which use the rest")]
#[path = "support/run.rs"]
mod run;
#[path = "layers/uppers.rs"]
mod uppers;

use run::{Folder, in_own_mounts, needs_root, stderr};

const PAGE: u64 = 4096;

/// Mounts `lower0` (topmost) to `lowerN` with `upper` and `work` at `x/merged` and profiles that and what is in `"$@"`. Paths
/// are relative to the folder two levels above the mount, as engines give them.
const SCRIPT: &str = r#"
cd "$FOLDER"; depth=$1; shift
mkdir -p upper work x/merged; ln -s x/merged merged
lower=lower0; i=1
while [ $i -lt $depth ]; do lower=$lower:lower$i; i=$((i + 1)); done
sync
for file in $(find lower* -type f); do dd if="$file" iflag=nocache count=0 status=none; done
"$PHASEGRAPH" run --force --no-summary --quiet -o x.phg -- sh -e -c '
    cd "$0"
    mount -t overlay overlay -o "lowerdir=$1,upperdir=upper,workdir=work,index=off" "$0/x/merged"
    shift
    "$@"
    umount "$0/x/merged"
' "$FOLDER" "$lower" "$@"
"#;

/// A folder with `depth` layers, of which `holds` names those that hold `/data/N` of `pages(N)` pages.
fn layers(depth: usize, holds: &[usize]) -> Folder {
    let folder = Folder::new();
    for number in 0..depth {
        let data = folder.path(format!("lower{number}/data"));
        fs::create_dir_all(&data).unwrap();
        if holds.contains(&number) {
            fs::write(data.join(number.to_string()), contents(number)).unwrap();
        }
    }
    folder
}

fn pages(number: usize) -> u64 {
    3 + number as u64
}

/// Nothing that a file system could leave out.
fn contents(number: usize) -> Vec<u8> {
    (0..pages(number) * PAGE)
        .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 9) as u8 ^ number as u8)
        .collect()
}

/// Profiles words on a mount of that many layers. `None`, with the reason printed, where that can't be.
fn profile(folder: &Folder, depth: usize, words: &[&str]) -> Option<Value> {
    let script = format!(
        "FOLDER='{}'; PHASEGRAPH='{}'; {SCRIPT}",
        folder.path("").display(),
        run::PHASEGRAPH
    );
    let depth = depth.to_string();
    let mut all = vec![depth.as_str()];
    all.extend(words);
    let output = in_own_mounts(folder, &script, &all)?;
    assert!(output.status.success(), "{}", stderr(&output));
    Some(folder.report("x.phg").0)
}

/// Layers of the only mount, topmost first.
fn told(report: &Value) -> Vec<&Value> {
    let all = report["layers"].as_array().unwrap().iter();
    all.filter(|layer| layer["driver"] == "overlay").collect()
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_else(|| panic!("{field} in {value}"))
}

/// Make sure that with 1, 5 and 40 lower layers each is known by its directory's inode, and what was read of each to the
/// page; that the same files read again cost nothing; and that the options that matter are told.
#[test]
fn depths() {
    needs_root!();
    for depth in [1, 5, 40] {
        let holds = [0, depth / 2, depth - 1];
        let folder = layers(depth, &holds);
        let read = "for n in data/*; do cat $n > /dev/null; done";
        let both = format!("cd merged; {read}; {read}");
        let Some(report) = profile(&folder, depth, &["sh", "-c", &both]) else {
            return;
        };
        let layers = told(&report);
        assert_eq!(layers.len(), depth + 1, "{layers:#?}");
        assert_eq!(layers[0]["role"], "upper");
        assert_eq!(layers[0]["options"][0]["text"], "index=off");
        for (index, layer) in layers[1..].iter().enumerate() {
            let inode = fs::metadata(folder.path(format!("lower{index}"))).unwrap().ino();
            assert_eq!(
                (number(layer, "inode"), &layer["role"]),
                (inode, &"lower".into()),
                "{layer}"
            );
            assert_eq!(number(layer, "depth"), index as u64 + 1);
            let expected = if holds.contains(&index) { pages(index) * PAGE } else { 0 };
            assert_eq!(number(layer, "cold_bytes"), expected, "{depth}: lower{index}");
            assert_eq!(number(layer, "distinct_bytes"), expected);
        }
    }
}

/// Make sure that a copy-up is told with its path, its layer, its bytes and the call that it was done for, and the upper
/// layer with what was written to it.
#[test]
fn copy_ups() {
    needs_root!();
    let folder = layers(3, &[0, 1, 2]);
    let change = "cd merged/data; printf x >> 2; chown 1:1 1; chmod 600 0; truncate -s 0 0";
    let Some(report) = profile(&folder, 3, &["sh", "-c", change]) else {
        return;
    };
    let copied: Vec<(&str, &str, u64, u64)> = report["copy_ups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            let layer = one["layer_path"]["text"].as_str().unwrap();
            (
                one["path"]["text"].as_str().unwrap(),
                layer.rsplit('/').next().unwrap(),
                number(one, "bytes"),
                number(one, "size_bytes"),
            )
        })
        .filter(|(path, ..)| *path != "/data" && *path != "/")
        .collect();
    let whole = |number: usize| pages(number) * PAGE;
    assert_eq!(
        copied,
        [
            ("/data/2", "lower2", whole(2), whole(2)),
            ("/data/1", "lower1", whole(1), whole(1)),
            ("/data/0", "lower0", whole(0), whole(0)),
        ],
        "{:#}",
        report["copy_ups"]
    );
    let layers = told(&report);
    for (layer, number_of) in layers[1..].iter().zip([0, 1, 2]) {
        assert!(number(layer, "copy_ups") >= 1, "{layer}");
        assert_eq!(number(layer, "copied_bytes"), whole(number_of));
    }
}

/// Make sure that 500 lower layers, mounted one by one through the newer calls, are all known, and that names of their
/// folders with newlines and escapes are data.
#[test]
fn five_hundred_and_hostile_names() {
    needs_root!();
    let folder = Folder::new();
    let hostile = "a\n\u{1b}[31m$(x),b";
    fs::create_dir_all(folder.path(hostile)).unwrap();
    fs::write(folder.path(hostile).join("f"), contents(0)).unwrap();
    // A long name in few bytes of options: 500 layers fit into a page.
    for index in 0..499 {
        fs::create_dir(folder.path(format!("{index}"))).unwrap();
    }
    let script = format!(
        r#"cd '{0}'; mkdir -p x/m; sync; dd if="$(echo a*)/f" iflag=nocache count=0 status=none
        lower=$(seq -s : 0 498)
        '{1}' run --force --no-summary --quiet -o x.phg -- sh -e -c '
            cd "$0"; mount -t overlay overlay -o "lowerdir=$1:$2" "$0/x/m"; cat x/m/f > /dev/null; umount "$0/x/m"
        ' '{0}' "$lower" "$1""#,
        folder.path("").display(),
        run::PHASEGRAPH
    );
    let escaped = hostile.replace(',', "\\,");
    let Some(output) = in_own_mounts(&folder, &script, &[&escaped]) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let report = folder.report("x.phg").0;
    let layers = told(&report);
    assert_eq!(layers.len(), 500, "{:#} {}", report["losses"], stderr(&output));
    let last = layers.last().unwrap();
    assert!(last["path"]["text"].as_str().unwrap().ends_with(hostile), "{last}");
    assert_eq!(number(last, "inode"), fs::metadata(folder.path(hostile)).unwrap().ino());
    let shown = folder.phasegraph(["layers", "x.phg", "--top", "3"]).output().unwrap();
    let shown = run::stdout(&shown);
    assert!(!shown.contains('\u{1b}') && shown.contains(r"\x0a\x1b"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
}

/// Make sure that a layer that is gone before it could be looked at is told as not seen, and costs nothing else.
#[test]
fn deleted_layers() {
    needs_root!();
    let folder = layers(2, &[1]);
    let words = "cat merged/data/1 > /dev/null; umount merged; rm -r lower0 upper; mkdir upper lower0; \
                 mount -t overlay overlay -o lowerdir=lower1,upperdir=upper,workdir=work $PWD/x/merged";
    let Some(report) = profile(&folder, 2, &["sh", "-c", words]) else {
        return;
    };
    let layers = told(&report);
    let of_first: Vec<_> = layers
        .iter()
        .filter(|layer| layer["options"][0]["text"] == "index=off")
        .collect();
    assert!(of_first.len() == 3 || of_first.is_empty(), "{layers:#?}");
    for layer in layers.iter().filter(|layer| layer["inode"].is_null()) {
        assert_eq!(number(layer, "cold_bytes"), 0);
    }
    let read: u64 = layers.iter().map(|layer| number(layer, "cold_bytes")).sum();
    assert_eq!(read, pages(1) * PAGE, "{layers:#?}");
}

/// What the page measures: a program that opens and reads, looks up what is not there, and changes files.
const PROGRAM: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
static long now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000000000L + t.tv_nsec; }
int main(int argc, char **argv) {
    char name[64], buffer[65536];
    struct stat found;
    long from = now();
    if (!strcmp(argv[1], "read")) {
        for (int i = 0; i < 200; i++) {
            snprintf(name, sizeof name, "files/%d", i);
            int file = open(name, O_RDONLY);
            if (file < 0) return 2;
            while (read(file, buffer, sizeof buffer) > 0) {}
            close(file);
        }
    } else if (!strcmp(argv[1], "missing")) {
        for (int i = 0; i < 200; i++) {
            snprintf(name, sizeof name, "files/none%d", i);
            if (!stat(name, &found)) return 2;
        }
    } else {
        int file = open(argv[2], O_WRONLY | O_APPEND);
        if (file < 0) return 2;
    }
    printf("%ld\n", now() - from);
    return 0;
}
"#;

/// One row of the page.
struct Row {
    /// Lower layers; 0 is the plain directory.
    depth: usize,
    read_cold: u64,
    read_warm: u64,
    missing: u64,
    again: u64,
}

/// Writes `docs/perf/layers.md` anew with `PHASEGRAPH_UPDATE_DOCS=1`. It holds times of the host at hand, so nothing of it is
/// compared.
#[test]
#[ignore = "measures times: makes a page of the documentation"]
fn what_a_layer_costs() {
    needs_root!();
    let folder = Folder::new();
    fs::write(folder.path("work.c"), PROGRAM).unwrap();
    let gcc = std::process::Command::new("gcc")
        .args(["-O2", "-static", "-o", "work", "work.c"])
        .current_dir(folder.path(""))
        .status();
    assert!(gcc.unwrap().success());
    let mut rows = Vec::new();
    for depth in [0, 1, 5, 40] {
        let mut all: Vec<Row> = (0..5).map(|_| depth_row(&folder, depth)).collect();
        let median = |figure: fn(&Row) -> u64, all: &mut Vec<Row>| {
            all.sort_by_key(figure);
            figure(&all[all.len() / 2])
        };
        rows.push(Row {
            depth,
            read_cold: median(|row| row.read_cold, &mut all),
            read_warm: median(|row| row.read_warm, &mut all),
            missing: median(|row| row.missing, &mut all),
            again: median(|row| row.again, &mut all),
        });
    }
    let page = page(&rows, &copy_up_rows(&folder));
    if std::env::var_os("PHASEGRAPH_UPDATE_DOCS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/perf/layers.md");
        fs::write(path, page).unwrap();
    } else {
        eprintln!("{page}");
    }
}

/// Times, ns, that the program itself took, unprofiled; its files lie in the lowest layer.
fn depth_row(folder: &Folder, depth: usize) -> Row {
    let script = format!(
        r#"cd '{}'; rm -rf t; mkdir t; cd t; mkdir -p upper work merged
        lower=l0; mkdir l0; i=1
        while [ $i -lt {depth} ]; do mkdir l$i; lower=$lower:l$i; i=$((i + 1)); done
        last=l$((i - 1)); mkdir -p $last/files
        n=0; while [ $n -lt 200 ]; do head -c 65536 /dev/urandom > $last/files/$n; n=$((n + 1)); done
        sync; for file in $last/files/*; do dd if=$file iflag=nocache count=0 status=none; done
        if [ {depth} -gt 0 ]; then mount -t overlay overlay -o lowerdir=$lower,upperdir=upper,workdir=work "$PWD/merged"; cd merged
        else cd l0; fi
        for what in read read missing missing; do ../../work $what; done"#,
        folder.path("").display()
    );
    let output = in_own_mounts(folder, &script, &[]).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let told: Vec<u64> = run::stdout(&output).lines().map(|line| line.parse().unwrap()).collect();
    let [read_cold, read_warm, missing, again] = told[..] else {
        panic!("{told:?}")
    };
    Row {
        depth,
        read_cold,
        read_warm,
        missing,
        again,
    }
}

/// Size, how its copy-up is caused, whether its contents were cached, and what phasegraph tells of it: bytes and stall; beside
/// it the program's own stopwatch.
fn copy_up_rows(folder: &Folder) -> Vec<(u64, bool, u64, u64, u64)> {
    let mut rows = Vec::new();
    for (size, cached) in [
        (1, true),
        (4096, true),
        (1 << 20, true),
        (64 << 20, true),
        (64 << 20, false),
    ] {
        let script = format!(
            r#"cd '{0}'; rm -rf t; mkdir t; cd t; mkdir -p l0 upper work merged
            head -c {size} /dev/urandom > l0/f; sync
            [ {cached} = true ] || dd if=l0/f iflag=nocache count=0 status=none
            mount -t overlay overlay -o lowerdir=l0,upperdir=upper,workdir=work "$PWD/merged"
            '{1}' run --force --no-summary --quiet -o ../x.phg -- ../work write merged/f"#,
            folder.path("").display(),
            run::PHASEGRAPH
        );
        let output = in_own_mounts(folder, &script, &[]).unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let own: u64 = run::stdout(&output).trim().parse().unwrap();
        let report = folder.report("x.phg").0;
        let copies = report["copy_ups"].as_array().unwrap();
        assert_eq!(copies.len(), 1, "{copies:#?}");
        rows.push((
            size,
            cached,
            number(&copies[0], "size_bytes"),
            number(&copies[0], "stall_ns"),
            own,
        ));
    }
    rows
}

fn page(rows: &[Row], copies: &[(u64, bool, u64, u64, u64)]) -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let cpus = std::thread::available_parallelism().unwrap();
    let ms = |ns: u64| format!("{:.2}", ns as f64 / 1e6);
    let mut page = format!(
        "# What a layer costs\n\n\
         This page is the output of `PHASEGRAPH_UPDATE_DOCS=1 cargo test -p phasegraph --test layers -- --ignored \
         what_a_layer_costs`, as root; it is made anew by that command, and holds for the host it was made on: {cpus} CPUs, \
         Linux {}. Nothing in it is a test: no time makes a build fail.\n\n",
        release.trim()
    );
    page.push_str(
        "## By depth\n\n\
         200 files of 64 KiB lie in the lowest layer of an overlay with so many lower layers; *plain* is the same directory \
         without an overlay. Each figure is the median of five mounts, by a stopwatch in the program, unprofiled: all files \
         opened and read to the end, once from the disk and once from the page cache; 200 names looked up that no layer has, \
         once and again.\n\n\
         | Lower layers | read cold, ms | read cached, ms | names that are not there, ms | the same again, ms |\n\
         |---|---|---|---|---|\n",
    );
    for row in rows {
        let depth = match row.depth {
            0 => "plain".to_owned(),
            depth => depth.to_string(),
        };
        writeln!(
            page,
            "| {depth} | {} | {} | {} | {} |",
            ms(row.read_cold),
            ms(row.read_warm),
            ms(row.missing),
            ms(row.again)
        )
        .unwrap();
    }
    page.push_str(
        "\n## Copy-ups\n\n\
         A file of the lower layer is opened for writing, which copies it up. *Bytes* and *stall* are what `phasegraph layers` \
         tells of it; *open* is how long the program's own stopwatch says that its `open` took.\n\n\
         | Size | contents | bytes | stall, ms | open, ms |\n|---|---|---|---|---|\n",
    );
    for (size, cached, bytes, stall, own) in copies {
        let size = match size {
            1 => "1 B".to_owned(),
            size if *size < 1 << 20 => format!("{} KiB", size >> 10),
            size => format!("{} MiB", size >> 20),
        };
        let cached = if *cached { "in the page cache" } else { "on the disk" };
        writeln!(page, "| {size} | {cached} | {bytes} | {} | {} |", ms(*stall), ms(*own)).unwrap();
    }
    page
}

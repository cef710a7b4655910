//! Layers on other file systems than ext4, and on another overlay.

use serde_json::Value;

use crate::run::{self, Folder, in_own_mounts, needs_root, stderr};
use crate::{PAGE, number, pages, told};

/// Makes a file system at `$FOLDER/fs`, with two lower layers on it.
const MAKE: &str = r#"
cd "$FOLDER"; mkdir fs
case $1 in
tmpfs) mount -t tmpfs tmpfs fs ;;
xfs) truncate -s 400M image; mkfs.xfs -q -m reflink=1 image; mount -o loop image fs ;;
btrfs) truncate -s 200M image; mkfs.btrfs -q image; mount -o loop image fs ;;
esac
mkdir -p fs/upper fs/work fs/x/merged; cp -r lower0 lower1 fs
sync -f fs
for file in $(find fs/lower* -type f); do dd if="$file" iflag=nocache count=0 status=none; done
cd fs
"#;

/// What is done on the overlay: a file is read, one is written to. It stays until its layers have been looked at.
const DO: &str = r#"
"$PHASEGRAPH" run --force --no-summary --quiet -o "$FOLDER/x.phg" -- sh -e -c '
    mount -t overlay overlay -o "lowerdir=lower0:lower1,upperdir=upper,workdir=work" "$PWD/x/merged"
    cat x/merged/data/0 > /dev/null
    printf x >> x/merged/data/1
    sleep 0.2
    umount "$PWD/x/merged"
'
"#;

/// Profiles it on a file system of that kind: the report, and what `layers` says. `None`, with the reason printed, where
/// there is none.
fn profile(kind: &str) -> Option<(Value, String)> {
    needs(kind)?;
    let folder = crate::layers(2, &[0, 1]);
    let script = format!(
        "FOLDER='{}'; PHASEGRAPH='{}'; {MAKE}{DO}",
        folder.path("").display(),
        run::PHASEGRAPH
    );
    let output = in_own_mounts(&folder, &script, &[kind])?;
    assert!(output.status.success(), "{}", stderr(&output));
    Some(reported(&folder))
}

fn reported(folder: &Folder) -> (Value, String) {
    let shown = folder.phasegraph(["layers", "x.phg"]).output().unwrap();
    let shown = run::stdout(&shown);
    println!("{shown}");
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    (folder.report("x.phg").0, words)
}

/// Whether the kernel has the file system, and the host what makes one.
fn needs(kind: &str) -> Option<()> {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap();
    if !known.split_whitespace().any(|name| name == kind) {
        eprintln!("skipped: this kernel has no {kind} at hand");
        return None;
    }
    let program = format!("mkfs.{kind}");
    let there = ["/sbin", "/usr/sbin"]
        .iter()
        .any(|folder| std::path::Path::new(folder).join(&program).exists());
    if kind != "tmpfs" && !there {
        eprintln!("skipped: needs `{program}`");
        return None;
    }
    Some(())
}

/// Layers of the mount on [`MAKE`]'s file system: another test's containers can run meanwhile.
fn own(report: &Value) -> Vec<&Value> {
    let mut layers = told(report);
    layers.retain(|layer| layer["merged"]["text"].as_str().unwrap().ends_with("/fs/x/merged"));
    layers
}

/// The two lower layers' bytes read cold, and what was copied up: path and bytes.
fn figures(report: &Value) -> (Vec<u64>, Vec<(&str, u64)>) {
    let layers = own(report);
    let lower = layers.iter().skip(1).map(|layer| number(layer, "cold_bytes")).collect();
    let copies = report["copy_ups"].as_array().unwrap().iter();
    let copies = copies.map(|one| (one["path"]["text"].as_str().unwrap(), number(one, "bytes")));
    (lower, copies.filter(|(path, _)| path.starts_with("/data/")).collect())
}

/// Whether the overlay's functions tell of copy-ups: else by what a copy-up does.
fn hooked(report: &Value) -> bool {
    let probes = report["host"]["probes"].as_array().unwrap();
    let rung = probes.iter().find(|probe| probe["name"] == "copy_ups").unwrap();
    rung["rung"].as_str().unwrap().starts_with("kprobe")
}

/// Make sure that what can't be known of an upper layer in memory is said, and that nothing is made up.
#[test]
fn tmpfs() {
    needs_root!();
    let Some((report, words)) = profile("tmpfs") else {
        return;
    };
    let copies = if hooked(&report) { vec![("/data/1", 0)] } else { vec![] };
    // To 5.10 nothing tells what the overlay's own inode stands for: then the mount is not known at all.
    let facts = report["host"]["facts"].to_string();
    if facts.contains("which files of an overlay are opened") {
        assert_eq!(figures(&report), (vec![], copies));
        return;
    }
    // Nothing of it is on a disk.
    assert_eq!(figures(&report), (vec![0, 0], copies));
    assert!(words.contains("the upper layer is on tmpfs"), "{words}");
    assert_eq!(words.contains("no hook on copy-ups"), !hooked(&report), "{words}");
}

/// Make sure that reads of a layer on that file system are exact to the page, and that a copy-up that shares what it copies
/// is told with 0 bytes, or that it is said that such are not seen.
fn shares_extents(kind: &str) {
    let Some((report, words)) = profile(kind) else { return };
    let copies = if hooked(&report) { vec![("/data/1", 0)] } else { vec![] };
    assert_eq!(figures(&report), (vec![pages(0) * PAGE, 0], copies));
    let said = match hooked(&report) {
        true => "shares its 16.4 kB with the layer below",
        false => "the upper layer is not on ext4 and this kernel has no hook on copy-ups",
    };
    assert!(words.contains(said), "{words}");
    // The page that is written to.
    assert_eq!(number(own(&report)[0], "written_bytes"), PAGE);
}

/// Make sure of it on xfs.
#[test]
fn xfs() {
    needs_root!();
    shares_extents("xfs");
}

/// Make sure of it on btrfs, whose subvolumes have device numbers of their own.
#[test]
fn btrfs() {
    needs_root!();
    shares_extents("btrfs");
}

/// Make sure that of an overlay above another one the layers that the data lie in have the figures, to the page, and that the
/// mount that is above says so.
#[test]
fn nested() {
    needs_root!();
    let folder = crate::layers(2, &[0, 1]);
    let script = format!(
        r#"FOLDER='{}'; PHASEGRAPH='{}'; cd "$FOLDER"; mkdir -p upper work x/merged outer/merged
        sync; for file in $(find lower* -type f); do dd if="$file" iflag=nocache count=0 status=none; done
        "$PHASEGRAPH" run --force --no-summary --quiet -o x.phg -- sh -e -c '
            mount -t overlay outer -o "lowerdir=lower0:lower1" "$PWD/outer/merged"
            mount -t overlay inner -o "lowerdir=outer/merged,upperdir=upper,workdir=work" "$PWD/x/merged"
            cat x/merged/data/0 > /dev/null
            printf x >> x/merged/data/1
            sleep 0.2
            umount "$PWD/x/merged" "$PWD/outer/merged"
        '"#,
        folder.path("").display(),
        run::PHASEGRAPH
    );
    let Some(output) = in_own_mounts(&folder, &script, &[]) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let (report, words) = reported(&folder);
    let own = folder.path("");
    let own = own.to_str().unwrap();
    let cold: Vec<(&str, u64)> = told(&report)
        .iter()
        // Another test's containers can run meanwhile.
        .filter(|layer| layer["merged"]["text"].as_str().unwrap().starts_with(own))
        .map(|layer| {
            let path = layer["path"]["text"].as_str().unwrap();
            (path.rsplit_once('/').unwrap().1, number(layer, "cold_bytes"))
        })
        .collect();
    let whole = |number: usize| pages(number) * PAGE;
    assert_eq!(
        cold,
        [("upper", 0), ("merged", 0), ("lower0", whole(0)), ("lower1", whole(1))]
    );
    assert_eq!(figures(&report).1, [("/data/1", whole(1))]);
    assert!(
        words.contains("a layer of this mount lies on another overlay"),
        "{words}"
    );
}

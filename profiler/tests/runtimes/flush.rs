//! Whose dirty data the removal of a container waits for.

use std::process::Command;

use super::support::check::scenario;
use super::support::host::succeed;
use super::support::podman::{self, Podman};
use super::support::profile::Item;

/// A container writes `mib` MiB into its own layer and goes on living; another one, which did nothing, is removed, and
/// the unmounting of its overlay flushes the file system below both. What was flushed must be charged to who wrote it, and
/// `show` must say for whom the removal waited.
fn removed_over_dirty_data(mib: u64) {
    let podman = scenario!(Podman::new("runc"));
    let folder = podman.corner.folder();
    std::fs::create_dir(folder.join("signs")).unwrap();
    // What the storage's own preparations made dirty is no container's.
    succeed(Command::new("sync").arg("-f").arg(folder));
    let script = format!(
        "podman run -d --network=none --name=bystander {tiny} /bin/sleep 100 > bystander
        podman run -d --network=none --name=writer -v $PWD/signs:/signs {tiny} /bin/sh -c \
            '/bin/busybox dd if=/dev/zero of=/big bs=1048576 count={mib} 2> /dev/null; echo > /signs/done; exec /bin/sleep 100' \
            > writer
        while ! [ -e signs/done ]; do sleep 0.02; done
        podman rm -f -t 0 bystander > /dev/null
        echo writer still $(podman inspect --format '{{{{.State.Status}}}}' writer)
        podman rm -f -t 0 writer > /dev/null",
        tiny = podman::TINY
    );
    let profile = podman.profile(&["sh", "-e", "-c", &script]);
    assert!(profile.output.contains("writer still running"), "{}", profile.output);
    let bytes = mib << 20;
    let of = |item: Item, field: &str| item.0["disk"][field].as_u64().unwrap();
    let (writer, bystander) = (profile.container("writer"), profile.container("bystander"));
    let run = writer.phase("run");
    let cleanup = bystander.phase("cleanup");
    println!(
        "writer: {} dirtied, {} flushed; its run: {} and {}; bystander: {} dirtied, {} flushed; {:?}",
        of(writer, "dirtied_bytes"),
        of(writer, "written_back_bytes"),
        of(run, "dirtied_bytes"),
        of(run, "written_back_bytes"),
        of(bystander, "dirtied_bytes"),
        of(bystander, "written_back_bytes"),
        cleanup.text("label")
    );
    // `/big` to the page, and a few pages for `/signs/done` and the folders that both files are new in.
    let own = bytes..bytes + 16 * 4096;
    assert!(own.contains(&of(run, "dirtied_bytes")), "{:#}", run.0["disk"]);
    assert!(own.contains(&of(run, "written_back_bytes")), "{:#}", run.0["disk"]);
    assert!(of(bystander, "written_back_bytes") < 1 << 20);
    assert!(
        cleanup.text("label").starts_with("flush: pid "),
        "{:?}",
        cleanup.text("label")
    );
    let mut show = Command::new(env!("CARGO_BIN_EXE_phasegraph"));
    let shown = succeed(show.arg("show").arg(folder.join("profile.phg")).env("NO_COLOR", "1"));
    let shown = String::from_utf8(shown.stdout).unwrap();
    let words = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, told) = words
        .split_once(" cleanup (bystander): ")
        .unwrap_or_else(|| panic!("{shown}"));
    let told = told.split_once(';').unwrap().0;
    println!("{told}");
    assert!(told.contains("waited ") && told.contains(" flushing "), "{told}");
    let (_, by) = told.split_once(" dirtied").unwrap_or_else(|| panic!("{told}"));
    assert!(by.contains("by writer (run)"), "{told}");
}

/// Make sure that data which one container made dirty is charged to it when another one's removal flushes it, and that both
/// are named.
#[test]
fn removed_over_anothers_dirty_data() {
    removed_over_dirty_data(40);
}

/// Make sure of the same with 300 MiB.
#[test]
#[ignore = "full tier: writes 300 MiB"]
fn removed_over_300_mib() {
    removed_over_dirty_data(300);
}

//! Faults with known answers.

use std::path::Path;
use std::process::Command;

use super::support::bare::Bare;
use super::support::check::{operation, scenario};
use super::support::host::{self, Skip};
use super::support::podman::{self, Podman};
use super::support::workload;

/// Dirty data that some other program left on the file system of a container's layer, MiB.
const DIRTY_MIB: u32 = 300;
/// How long the other program holds the storage's lock from when somebody waits for it, ms.
const HELD_MS: u64 = 300;

/// Takes the write lock of a file, as containers/storage does (`fcntl`, F_OFD_SETLKW or F_SETLKW: they exclude each
/// other), says so, keeps it for some milliseconds more once `/proc/locks` shows one that waits for it, and says when it
/// let it go.
const HOLDER: &str = r#"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int waited_for(const char *inode)
{
    char line[256];
    int found = 0;
    FILE *locks = fopen("/proc/locks", "r");
    while (locks && fgets(line, sizeof line, locks))
        found |= strstr(line, "->") && strstr(line, inode);
    if (locks)
        fclose(locks);
    return found;
}

int main(int count, char **words)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    struct stat found;
    char inode[32];
    int file = open(words[1], O_RDWR | O_CREAT, 0644);
    if (count < 3 || file < 0 || fcntl(file, F_SETLKW, &lock) < 0 || fstat(file, &found) < 0)
        return 1;
    snprintf(inode, sizeof inode, ":%lu ", (unsigned long)found.st_ino);
    puts("held");
    fflush(stdout);
    while (!waited_for(inode))
        usleep(2000);
    usleep(atoi(words[2]) * 1000);
    printf("stamp lock begin %lld\n", now());
    lock.l_type = F_UNLCK;
    fcntl(file, F_SETLKW, &lock);
    printf("stamp lock end %lld\n", now());
    return 0;
}
"#;

/// Runs a container on an overlay while the file system below it is full of another program's dirty data, and unmounts
/// it. Gives the label of its cleanup, and how long waits at its flush took.
fn umount_over_dirty_data(bare: &Bare, options: &str) -> (String, u64) {
    let folder = bare.corner.folder();
    let root = folder.join("layer/merged");
    bare.bundle_on("dirty", &root, &["/bin/sh", "-c", "echo changed > /changed"]);
    let script = format!(
        "mkdir -p layer/merged layer/diff layer/work; \
         mount -t overlay overlay -o lowerdir=rootfs,upperdir=layer/diff,workdir=layer/work{options} layer/merged; \
         sync -f .; dd if=/dev/zero of=dirt bs=1M count={DIRTY_MIB} 2> /dev/null; \
         $RT run --bundle dirty phg-dirty; umount \"$PWD/layer/merged\"; rm -rf dirt layer"
    );
    let profile = bare.script(&script);
    let containers = profile.containers();
    let [container] = containers.as_slice() else {
        panic!("{containers:?}")
    };
    let cleanup = container.phase("cleanup");
    // However long it takes: it ends when the umount's thread has done what the system call left to do.
    assert!(cleanup.evidence().1.contains("umount"), "{cleanup:?}");
    let waits = profile.json["waits"].as_array().unwrap().iter();
    let flushes = waits.filter(|wait| wait["detail"] == "flush at unmount");
    let waited = flushes.map(|wait| {
        let (from, to) = (wait["from_ns"].as_u64().unwrap(), wait["to_ns"].as_u64().unwrap());
        assert!(
            cleanup.from() <= from && to <= cleanup.to(),
            "charged to the umount that caused it"
        );
        assert_eq!(wait["class"], "disk");
        to - from
    });
    (cleanup.text("label").to_owned(), waited.sum())
}

/// Make sure that an umount that has to write back another program's dirty data is charged with it, by name and with
/// who waited, and that an overlay that flushes nothing is not.
#[test]
fn dirty_data_at_umount() {
    let bare = scenario!(Bare::new("runc"));
    if !overlay_on(bare.corner.folder()) {
        eprintln!("skipped: no overlay can lie on {}", bare.corner.folder().display());
        return;
    }
    let (label, waited) = umount_over_dirty_data(&bare, "");
    println!("{label}; {waited} ns in all");
    assert!(
        label.starts_with("flush: pid ") && label.contains("umount of "),
        "{label:?}"
    );
    assert!(label.ends_with("layer/merged"), "{label:?}");
    assert!(waited > 1_000_000, "{DIRTY_MIB} MiB were written in {waited} ns");
    let (label, waited) = umount_over_dirty_data(&bare, ",volatile");
    assert_eq!((label.as_str(), waited), ("", 0));
}

/// Whether an overlay's upper directory may lie there.
fn overlay_on(folder: &Path) -> bool {
    let kind = Command::new("stat")
        .args(["--file-system", "--format=%T"])
        .arg(folder)
        .output();
    kind.is_ok_and(|kind| !kind.stdout.starts_with(b"overlay"))
}

/// Compiles the lock's holder.
fn holder(folder: &Path) -> Result<(), Skip> {
    host::require(&["gcc"])?;
    std::fs::write(folder.join("holder.c"), HOLDER).unwrap();
    host::succeed(
        Command::new("gcc")
            .args(["-o", "holder", "holder.c"])
            .current_dir(folder),
    );
    Ok(())
}

/// Make sure that a container's start that waits for a lock that a stranger holds shows the wait as one for a lock, until
/// the moment in which it was let go.
#[test]
fn lock_held_by_another() {
    let podman = scenario!(Podman::new("runc"));
    scenario!(holder(podman.corner.folder()));
    let script = format!(
        "./holder graph/overlay-layers/layers.lock {HELD_MS} > held & while ! grep -q held held; do sleep 0.01; done; \
         podman run --rm --network=none --name=late {} /bin/true; wait; cat held",
        podman::TINY
    );
    let profile = podman.profile(&["sh", "-ec", &script]);
    let podman_run = profile
        .operations()
        .iter()
        .position(|name| *name == "podman run")
        .unwrap();
    let processes = profile.json["operations"][podman_run]["processes"].as_array().unwrap();
    let waits = profile.json["waits"].as_array().unwrap().iter();
    // podman waits for locks of its own too.
    let asked = |wait: &serde_json::Value| wait["at"].as_str().is_some_and(|at| at.ends_with("/layers.lock"));
    let longest = waits
        .filter(|wait| processes.contains(&wait["process"]) && wait["detail"] == "file lock" && asked(wait))
        .max_by_key(|wait| wait["wait_ns"].as_u64());
    let longest = longest.expect("a wait for the lock");
    let time = |field: &str| longest[field].as_u64().unwrap();
    let (before, after) = workload::stamps(&profile.output, "lock");
    println!(
        "waited {} ns for the lock; woken {} ns after it was let go",
        time("wait_ns"),
        time("to_ns") as i64 - before as i64
    );
    assert!(time("wait_ns") >= HELD_MS * 1_000_000, "{longest}");
    assert!((before..=after).contains(&time("to_ns")), "{before} {after} {longest}");
    assert_eq!(operation(&profile, profile.container("late")), "podman run");
}

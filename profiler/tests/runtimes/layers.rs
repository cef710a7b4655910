//! Layers of images by real engines: which were read cold, what share, what was copied up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::support::check::scenario;
use super::support::docker::{self, Docker};
use super::support::host::succeed;
use super::support::podman::{self, Podman};
use super::support::profile::{self, Profile};

/// Bytes of the file that layer `number` of an image adds: whole pages, each layer's another number of them.
fn size_of(number: usize) -> u64 {
    (16 + number as u64) * 4096
}

/// The context of an image with `count` layers above another one, each of which adds one file of known size, `/data/N`.
fn context(folder: &Path, count: usize, base: &str) -> PathBuf {
    let folder = folder.join(format!("context-{count}"));
    fs::create_dir_all(&folder).unwrap();
    let mut file = format!("FROM {base}\n");
    for number in 0..count {
        let bytes: Vec<u8> = (0..size_of(number))
            .map(|at| (at.wrapping_mul(0x9e37_79b9) >> 11) as u8 ^ number as u8)
            .collect();
        fs::write(folder.join(number.to_string()), bytes).unwrap();
        file.push_str(&format!("COPY {number} /data/{number}\n"));
    }
    fs::write(folder.join("Dockerfile"), file).unwrap();
    folder
}

fn image(podman: &Podman, count: usize, name: &str) {
    let folder = context(podman.corner.folder(), count, podman::TINY);
    let build = ["build", "--layers", "--quiet", "-t", name];
    succeed(podman.command("podman").args(build).arg(&folder));
}

/// Takes every file of a storage's layers out of the page cache.
fn make_cold(storage: &Path) {
    let script = "find \"$0\" -path '*/diff/*' -type f -exec dd if={} iflag=nocache count=0 status=none ';'";
    succeed(Command::new("sync").arg("-f").arg(storage));
    succeed(Command::new("sh").arg("-c").arg(script).arg(storage));
}

/// Layers of that container, topmost first.
fn layers<'a>(profile: &'a Profile, name: &str) -> Vec<&'a Value> {
    let index = profile.container(name).index();
    let all = profile.json["layers"].as_array().unwrap().iter();
    all.filter(|layer| layer["container"] == index).collect()
}

fn number(layer: &Value, field: &str) -> u64 {
    layer[field].as_u64().unwrap_or_else(|| panic!("{field} in {layer}"))
}

fn run<'a>(name: &'a str, image: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    let name_word = match name {
        "one" => "--name=one",
        _ => "--name=two",
    };
    let mut all = vec!["podman", "run", "--rm", "--network=none", name_word, image];
    all.extend(words);
    all
}

/// Which file of `/data` a lower layer holds, by the storage itself.
fn holds(layer: &Value) -> Option<usize> {
    let data = Path::new(layer["path"]["text"].as_str().unwrap()).join("data");
    let names: Vec<PathBuf> = fs::read_dir(data).ok()?.map(|entry| entry.unwrap().path()).collect();
    match names.as_slice() {
        [one] => one.file_name()?.to_str()?.parse().ok(),
        _ => None,
    }
}

/// Make sure that of an image with 12 layers those that were read are told with their bytes to the page and their share,
/// and of the others that nothing was read; that the storage's own ids, digests and sizes stand beside them; and that a
/// second container finds all in the page cache.
#[test]
fn podman_twelve_layers() {
    let podman = scenario!(Podman::new("runc"));
    image(&podman, 12, "localhost/twelve");
    make_cold(&podman.corner.folder().join("graph/overlay"));
    let words = ["/bin/cat", "/data/2", "/data/7", "/data/11"];
    let cold = podman.profile(&run("one", "localhost/twelve", &words));
    // Some hosts take pages back that were not used for a while.
    for layer in layers(&cold, "one").iter().filter(|layer| holds(layer).is_some()) {
        let data = Path::new(layer["path"]["text"].as_str().unwrap()).join("data");
        for file in fs::read_dir(data).unwrap() {
            fs::read(file.unwrap().path()).unwrap();
        }
    }
    let warm = podman.profile(&run("two", "localhost/twelve", &words));
    let (of_cold, of_warm) = (layers(&cold, "one"), layers(&warm, "two"));
    // The upper one, twelve, and those of the tiny image.
    assert!(of_cold.len() >= 14, "{of_cold:#?}");
    assert_eq!(of_cold[0]["role"], "upper");
    let mut seen = Vec::new();
    for layer in &of_cold[1..] {
        assert_eq!(layer["role"], "lower");
        let Some(file) = holds(layer) else { continue };
        seen.push(file);
        let read = number(layer, "cold_bytes");
        let expected = if [2, 7, 11].contains(&file) { size_of(file) } else { 0 };
        assert_eq!(read, expected, "/data/{file}");
        assert_eq!(number(layer, "distinct_bytes"), expected);
        assert_eq!(layer["engine"], "containers/storage");
        assert!(
            layer["diff"]["text"].as_str().unwrap().starts_with("sha256:"),
            "{layer}"
        );
        // A tar archive of it: the file, its header, the folder's, and the end.
        assert!(
            (size_of(file)..size_of(file) + 16_384).contains(&number(layer, "size_bytes")),
            "{layer}"
        );
        let folder = Path::new(layer["path"]["text"].as_str().unwrap()).parent().unwrap();
        assert_eq!(folder.file_name().unwrap().to_str(), layer["id"]["text"].as_str());
    }
    // Topmost first.
    assert_eq!(seen, (0..12).rev().collect::<Vec<_>>());
    for layer in of_warm.iter().filter(|layer| holds(layer).is_some()) {
        assert_eq!(number(layer, "cold_bytes"), 0, "{layer}");
    }
}

/// Make sure that two containers that run at once share what the first has read: of a layer's file that both read, the first
/// pays each page, and their sum is the file.
#[test]
fn podman_shared_layer() {
    let podman = scenario!(Podman::new("runc"));
    image(&podman, 3, "localhost/three");
    make_cold(&podman.corner.folder().join("graph/overlay"));
    let script = "podman run -d --network=none --name=one localhost/three /bin/sh -c 'cat /data/2; sleep 5' > /dev/null
        podman exec one /bin/true
        podman run --rm --network=none --name=two localhost/three /bin/cat /data/2 > /dev/null
        podman rm -f -t 0 one > /dev/null";
    let profile = podman.profile(&["sh", "-e", "-c", script]);
    let of = |name: &str| -> u64 {
        let all = layers(&profile, name);
        let layer = all.iter().find(|layer| holds(layer) == Some(2)).unwrap();
        number(layer, "cold_bytes")
    };
    assert_eq!((of("one"), of("two")), (size_of(2), 0));
}

/// Make sure that of two containers of one image, one after the other, each has the files that it opened and the bytes that it
/// read, of the image's layers and of its own, though the second's mount mostly gets the first one's device number.
#[test]
fn podman_one_after_the_other() {
    let podman = scenario!(Podman::new("runc"));
    image(&podman, 3, "localhost/again");
    let script = "for name in one two; do
            podman run --rm --network=none --name=$name localhost/again \
                /bin/sh -c \"cat /data/0 /data/2; echo $name $name > /$name; cat /$name /$name\" > /dev/null
        done";
    let command = |program: &Path| {
        let mut command = podman.command(program);
        // Where no function of the overlay tells of opens, the end of the call does.
        command
            .env("PHASEGRAPH_DISK", "full")
            .env("PHASEGRAPH_RUNGS", "mount_calls=tracepoint");
        command
    };
    let profile = profile::profile(command, podman.corner.folder(), &["sh", "-e", "-c", script]);
    // To 5.10 nothing tells what the overlay's own inode stands for.
    let facts = profile.json["host"]["facts"].to_string();
    if facts.contains("which files of an overlay are opened") {
        return;
    }
    for name in ["one", "two"] {
        let all = layers(&profile, name);
        let mut seen = 0;
        for layer in &all {
            let Some(file) = holds(layer) else { continue };
            let expected = if file == 1 { (0, 0) } else { (1, size_of(file)) };
            assert_eq!(
                (number(layer, "opened_files"), number(layer, "read_bytes")),
                expected,
                "{name}: {layer:#}"
            );
            seen += 1;
        }
        assert_eq!(seen, 3, "{all:#?}");
        // Twice `one one`, and a newline.
        assert_eq!(number(all[0], "read_bytes"), 16, "{name}: {:#}", all[0]);
        assert_eq!(number(all[0], "opened_files"), 0, "{name}: {:#}", all[0]);
    }
}

/// Make sure that a file that a container writes to is told as copied up from its own layer, with its bytes, by that
/// container.
#[test]
fn podman_copy_up() {
    let podman = scenario!(Podman::new("runc"));
    image(&podman, 5, "localhost/five");
    // Of what is copied from the page cache a kernel without hooks on copy-ups tells no source.
    make_cold(&podman.corner.folder().join("graph/overlay"));
    let words = ["/bin/sh", "-c", "echo x >> /data/3; chown 7:7 /data/1"];
    let profile = podman.profile(&run("one", "localhost/five", &words));
    let container = profile.container("one").index();
    let copied: Vec<(&str, u64, u64)> = profile.json["copy_ups"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["path"]["text"].as_str().unwrap().starts_with("/data/"))
        .map(|one| {
            (
                one["path"]["text"].as_str().unwrap(),
                number(one, "bytes"),
                number(one, "container"),
            )
        })
        .collect();
    assert_eq!(
        copied,
        [("/data/3", size_of(3), container), ("/data/1", size_of(1), container)]
    );
    for layer in layers(&profile, "one") {
        let expected = match holds(layer) {
            Some(file @ (1 | 3)) => (1, size_of(file)),
            Some(_) => (0, 0),
            None => continue,
        };
        assert_eq!(
            (number(layer, "copy_ups"), number(layer, "copied_bytes")),
            expected,
            "{layer}"
        );
    }
}

/// Make sure that a container whose storage driver is no overlay is told with that driver's name, and what it read with it.
#[test]
fn podman_vfs() {
    let podman = scenario!(Podman::with_driver("runc", "vfs"));
    let profile = podman.profile(&run("one", podman::TINY, &["/bin/sh", "-c", "echo hello > /new"]));
    let all = layers(&profile, "one");
    let [layer] = all.as_slice() else { panic!("{all:#?}") };
    assert_eq!((&layer["driver"], &layer["role"]), (&"vfs".into(), &"upper".into()));
    assert!(layer["path"]["text"].as_str().unwrap().contains("/vfs/dir/"), "{layer}");
    assert_eq!(number(layer, "written_bytes"), 4096, "{layer}");
}

/// Make sure that docker's layers are told by their folders, with digest, chain and size, and what was read cold of each.
#[test]
fn docker_layers() {
    let docker = scenario!(Docker::new());
    let folder = context(docker.corner.folder(), 5, docker::TINY);
    succeed(
        docker
            .command("docker")
            .args(["build", "--quiet", "-t", "five"])
            .arg(&folder),
    );
    make_cold(&docker.corner.folder().join("data/overlay2"));
    let words = [
        "docker",
        "run",
        "--rm",
        "--network=none",
        "--name=one",
        "five",
        "/bin/cat",
        "/data/1",
        "/data/4",
    ];
    let profile = docker.profile(&words);
    let all = layers(&profile, "one");
    let mut seen = Vec::new();
    for layer in &all {
        let Some(file) = holds(layer) else { continue };
        seen.push(file);
        let expected = if [1, 4].contains(&file) { size_of(file) } else { 0 };
        assert_eq!(number(layer, "cold_bytes"), expected, "/data/{file}");
        assert_eq!(
            (&layer["engine"], number(layer, "size_bytes")),
            (&"docker".into(), size_of(file))
        );
        for digest in ["diff", "chain"] {
            assert!(
                layer[digest]["text"].as_str().unwrap().starts_with("sha256:"),
                "{layer}"
            );
        }
    }
    assert_eq!(seen, [4, 3, 2, 1, 0]);
}

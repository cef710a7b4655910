//! Pulls from a registry of our own: each layer's download and unpacking, with the bytes that they are known to have.

use std::time::Duration;

use super::support::check::{assert_explained, scenario};
use super::support::containerd::Containerd;
use super::support::coverage;
use super::support::docker::Docker;
use super::support::host;
use super::support::podman::Podman;
use super::support::profile::{Item, Profile};
use super::support::registry::{self, ADDRESS, Image, Registry, SLOW};

const MB: u64 = 1_000_000;
/// Twelve layers of 100 kB to 3 MB.
const TWELVE: [u64; 12] = [
    3 * MB,
    100_000,
    200_000,
    300_000,
    400_000,
    500_000,
    600_000,
    700_000,
    800_000,
    900_000,
    MB,
    2 * MB,
];
/// How far the bytes of a layer may be off, one in so many.
const TOLERANCE: u64 = 100;
const DELAY: Duration = Duration::from_millis(1_500);

/// The pull of that image.
fn pull_of<'a>(profile: &'a Profile, image: &Image) -> Item<'a> {
    let of = format!("/{}:1@{}", image.name, image.digest);
    let pulls = Item(&profile.json).phases("pull");
    let found: Vec<Item> = pulls
        .iter()
        .copied()
        .filter(|pull| pull.text("label").ends_with(&of))
        .collect();
    assert_eq!(found.len(), 1, "pulls of {of}: {pulls:#?}\n{}", profile.output);
    found[0]
}

/// The only phase of that name and label in the pull.
fn layer<'a>(pull: Item<'a>, phase: &str, label: &str) -> Item<'a> {
    let found: Vec<Item> = pull
        .phases(phase)
        .into_iter()
        .filter(|found| found.text("label") == label)
        .collect();
    assert_eq!(found.len(), 1, "{phase} of {label} in {:#}", pull.0);
    found[0]
}

fn assert_bytes(phase: Item<'_>, expected: u64) {
    let bytes = phase.0["bytes"]
        .as_u64()
        .unwrap_or_else(|| panic!("no bytes in {:#}", phase.0));
    assert!(
        bytes.abs_diff(expected) * TOLERANCE <= expected,
        "{bytes} of {expected} in {:#}",
        phase.0
    );
}

/// The pull has every layer of the image once, downloaded before it was unpacked, with its bytes, and no other.
fn assert_pull(profile: &Profile, image: &Image, contents: Option<fn(&registry::Layer) -> u64>) {
    let pull = pull_of(profile, image);
    assert_eq!(pull.phases("download").len(), image.layers.len(), "{:#}", pull.0);
    for made in &image.layers {
        let download = layer(pull, "download", &made.blob);
        assert_bytes(download, made.blob_bytes);
        let Some(contents) = contents else { continue };
        let unpack = layer(pull, "unpack", &made.blob);
        assert_bytes(unpack, contents(made));
        for phase in [download, unpack] {
            assert!(pull.from() <= phase.from() && phase.from() < phase.to() && phase.to() <= pull.to());
            assert_eq!(phase.0["open"], false);
        }
        // docker begins the child that unpacks before it reads what it hands to it.
        assert!(download.to() <= unpack.to(), "{:#}", pull.0);
    }
    if contents.is_some() {
        assert_eq!(pull.phases("unpack").len(), image.layers.len());
        let commit = pull.phase("commit");
        assert_eq!(commit.to(), pull.to());
        let last = pull.phases("unpack").iter().map(|unpack| unpack.to()).max().unwrap();
        assert!(last <= commit.from());
    }
    let client = &profile.json["operations"][pull.0["operation"].as_u64().unwrap() as usize];
    let argv = &profile.json["processes"][client["process"].as_u64().unwrap() as usize]["argv"];
    let named = argv.as_array().unwrap().iter().any(|word| {
        let word = word.as_str().or_else(|| word["text"].as_str()).unwrap_or_default();
        word.ends_with(&format!("/{}:1", image.name))
    });
    assert!(named, "{} was asked for by {argv}", image.name);
}

/// How podman and containerd count what a layer holds, and how docker does.
fn archive(layer: &registry::Layer) -> u64 {
    layer.diff_bytes
}
fn files(layer: &registry::Layer) -> u64 {
    layer.file_bytes
}

/// Pulls one image, one with twelve layers, and three at once; `pull` is the command line before an image's name.
fn scenario_of(
    pull: &str,
    contents: fn(&registry::Layer) -> u64,
    registry: &Registry,
    push: impl Fn(&Registry, &str, &[u64]) -> Image,
    run: impl Fn(&[&str]) -> Profile,
) -> Profile {
    let image = push(registry, "single", &[2 * MB]);
    let profile = run(&["sh", "-c", &format!("{pull} {ADDRESS}/single:1")]);
    assert_pull(&profile, &image, Some(contents));
    let image = push(registry, "twelve", &TWELVE);
    let profile = run(&["sh", "-c", &format!("{pull} {ADDRESS}/twelve:1")]);
    assert_pull(&profile, &image, Some(contents));
    let names = ["first", "second", "third"];
    let images: Vec<Image> = names
        .iter()
        .map(|name| push(registry, name, &[2 * MB, MB, 500_000]))
        .collect();
    let script: Vec<String> = names
        .iter()
        .map(|name| format!("{pull} {ADDRESS}/{name}:1 &"))
        .collect();
    let parallel = run(&["sh", "-c", &format!("{} wait", script.join(" "))]);
    for image in &images {
        assert_pull(&parallel, image, Some(contents));
    }
    let operations: std::collections::HashSet<u64> = images
        .iter()
        .map(|image| pull_of(&parallel, image).0["operation"].as_u64().unwrap())
        .collect();
    assert_eq!(operations.len(), images.len());
    profile
}

const PODMAN: &str = "podman pull -q --tls-verify=false --signature-policy=policy.json";

/// Make sure that podman's pulls show each layer's download and unpacking with its bytes, one image or three at once.
#[test]
fn podman_pull() {
    let podman = scenario!(Podman::new("runc"));
    let registry = scenario!(Registry::new(&podman.corner));
    let push = |registry: &Registry, name: &str, sizes: &[u64]| registry.push(&podman.corner, name, sizes).unwrap();
    let profile = scenario_of(PODMAN, archive, &registry, push, |words| podman.profile(words));
    coverage::assert("podman, runc", "podman_pull", &profile);
}

/// Make sure that buildah's own pull shows the same.
#[test]
fn buildah_pull() {
    let podman = scenario!(host::require(&["buildah"]).and_then(|()| Podman::new("runc")));
    let registry = scenario!(Registry::new(&podman.corner));
    let image = scenario!(registry.push(&podman.corner, "built", &[2 * MB, MB]));
    let name = format!("{ADDRESS}/built:1");
    let words = [
        "buildah",
        "pull",
        "-q",
        "--tls-verify=false",
        "--signature-policy=policy.json",
        &name,
    ];
    let profile = podman.profile(&words);
    assert_pull(&profile, &image, Some(archive));
    coverage::assert("buildah", "buildah_pull", &profile);
}

/// A build of one RUN from an image of the registry; its pull, with each layer.
fn build_from(docker: &Docker, buildkit: &str) -> Option<Profile> {
    let registry = match Registry::new(&docker.corner) {
        Ok(registry) => registry,
        Err(host::Skip(why)) => {
            eprintln!("skipped: {why}");
            return None;
        }
    };
    let image = registry.push(&docker.corner, "base", &[2 * MB, MB]).unwrap();
    let folder = docker.corner.folder().join("context");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("FROM {ADDRESS}/base:1\nRUN [\"/stamp\", \"one\"]\n");
    std::fs::write(folder.join("Dockerfile"), text).unwrap();
    let words = [
        "env",
        buildkit,
        "/usr/bin/docker",
        "build",
        "--network=none",
        "-t",
        "app",
        "context",
    ];
    let profile = docker.try_profile(&words)?;
    let pull = pull_of(&profile, &image);
    assert_eq!(
        profile.operations()[pull.0["operation"].as_u64().unwrap() as usize],
        "docker build"
    );
    for made in &image.layers {
        assert_bytes(layer(pull, "download", &made.blob), made.blob_bytes);
        assert_bytes(layer(pull, "unpack", &made.blob), files(made));
    }
    assert_eq!(pull.phases("unpack").len(), 2);
    Some(profile)
}

/// Make sure that the base image that docker's classic builder pulls is shown below the build that asked for it.
#[test]
fn docker_build_pull() {
    let docker = scenario!(Docker::new());
    if let Some(profile) = build_from(&docker, "DOCKER_BUILDKIT=0") {
        coverage::assert("docker build", "docker_build_pull", &profile);
    }
}

/// Make sure that the base image that BuildKit pulls is shown below the build that asked for it.
#[test]
fn buildkit_pull() {
    let docker = scenario!(Docker::new());
    if let Some(profile) = build_from(&docker, "DOCKER_BUILDKIT=1") {
        coverage::assert("docker build, BuildKit", "buildkit_pull", &profile);
    }
}

/// Make sure that a build's base image that is not there shows as a pull in its FROM.
#[test]
fn podman_build_pull() {
    let podman = scenario!(Podman::new("runc"));
    let registry = scenario!(Registry::new(&podman.corner));
    let image = scenario!(registry.push(&podman.corner, "base", &[2 * MB, MB]));
    let folder = podman.corner.folder().join("context");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!("FROM {ADDRESS}/base:1\nRUN [\"/stamp\", \"one\"]\n");
    std::fs::write(folder.join("Containerfile"), text).unwrap();
    let words = [
        "podman",
        "build",
        "--network=none",
        "--tls-verify=false",
        "--signature-policy=policy.json",
        "-t",
        "app",
        "context",
    ];
    let profile = podman.profile(&words);
    let pull = pull_of(&profile, &image);
    let steps = profile.steps();
    assert_eq!(pull.0["parent"], steps[0].index());
    assert!(steps[0].text("label").contains("FROM") && pull.to() <= steps[0].to());
    for made in &image.layers {
        assert_bytes(layer(pull, "download", &made.blob), made.blob_bytes);
        assert_bytes(layer(pull, "unpack", &made.blob), made.diff_bytes);
    }
    // What the build itself unpacks, to commit its layers, is no part of it.
    assert_eq!(pull.phases("unpack").len(), 2);
    coverage::assert("podman build", "podman_build_pull", &profile);
}

/// Make sure that skopeo's copy from a registry shows its downloads; it unpacks nothing.
#[test]
fn skopeo_copy() {
    let podman = scenario!(Podman::new("runc"));
    let registry = scenario!(Registry::new(&podman.corner));
    let image = scenario!(registry.push(&podman.corner, "copied", &[2 * MB, MB, 300_000]));
    let source = format!("docker://{ADDRESS}/copied:1");
    let words = [
        "skopeo",
        "--policy",
        "policy.json",
        "copy",
        "--src-tls-verify=false",
        &source,
        "dir:copy",
    ];
    let profile = podman.profile(&words);
    let pulls = Item(&profile.json).phases("pull");
    assert_eq!(pulls.len(), 1);
    for made in &image.layers {
        assert_bytes(layer(pulls[0], "download", &made.blob), made.blob_bytes);
    }
    assert_eq!(pulls[0].phases("unpack").len(), 0);
}

/// Make sure that docker's pulls, which dockerd carries out, show each layer's download and unpacking with its bytes
/// below the client that asked, one image or three at once.
#[test]
fn docker_pull() {
    let docker = scenario!(Docker::new());
    let registry = scenario!(Registry::new(&docker.corner));
    let push = |registry: &Registry, name: &str, sizes: &[u64]| registry.push(&docker.corner, name, sizes).unwrap();
    let profile = scenario_of("docker pull -q", files, &registry, push, |words| docker.profile(words));
    assert_explained(&profile);
    coverage::assert("docker", "docker_pull", &profile);
}

/// Make sure that ctr's pulls, which the client downloads and containerd unpacks, show both with their bytes below the
/// client that asked, one image or three at once; and that a layer's unpacking holds what containerd's own log says it
/// took.
#[test]
fn ctr_pull() {
    let containerd = scenario!(Containerd::new());
    let registry = scenario!(Registry::new(&containerd.corner));
    let push = |registry: &Registry, name: &str, sizes: &[u64]| registry.push(&containerd.corner, name, sizes).unwrap();
    let profile = scenario_of("ctr image pull --plain-http", archive, &registry, push, |words| {
        containerd.profile(words)
    });
    coverage::assert("containerd (ctr)", "ctr_pull", &profile);
    let log = containerd.log();
    // A call begins when it has been sent: whom it wakes may have begun by then, if that took the sender's CPU.
    let queued = profile.time_of(&["ctr"], "runqueue_ns");
    let mut compared = 0;
    let mut late = 0;
    for unpack in Item(&profile.json).phases("unpack") {
        let line = log
            .lines()
            .find(|line| line.contains("diff applied") && line.contains(unpack.text("label")));
        let Some(told) = line.and_then(|line| duration(line.split("d=").nth(1)?.split(' ').next()?)) else {
            continue;
        };
        let seen = unpack.to() - unpack.from();
        println!("unpack {seen} ns, of which containerd says it applied for {told} ns");
        // Its figure is cut to a few digits.
        assert!(seen + 100_000 + queued >= told, "{seen} {told} {queued}");
        late += u32::from(seen + 100_000 < told);
        compared += 1;
    }
    assert!(late <= 2, "{late} of {compared}");
    assert_eq!(compared, TWELVE.len(), "{log}");
}

/// Go's way to write a duration, in ns.
fn duration(text: &str) -> Option<u64> {
    let text = text.trim_matches('"');
    let units = [("µs", 1e3), ("us", 1e3), ("ms", 1e6), ("ns", 1.0), ("s", 1e9)];
    let (number, scale) = units
        .iter()
        .find_map(|(unit, scale)| Some((text.strip_suffix(unit)?, scale)))?;
    Some((number.parse::<f64>().ok()? * scale) as u64)
}

/// Make sure that a registry that waits before it answers shows in each layer's download, by at least what it waits, and
/// not in its unpacking.
#[test]
fn slow_registry() {
    let podman = scenario!(Podman::new("runc"));
    let registry = scenario!(Registry::new(&podman.corner));
    let image = scenario!(registry.push(&podman.corner, "slow", &[2 * MB, MB, 500_000]));
    registry::slow(&podman.corner, DELAY);
    let fast = podman.profile(&["sh", "-c", &format!("{PODMAN} {ADDRESS}/slow:1")]);
    podman.profile(&["podman", "rmi", "--all", "--force"]);
    let slow = podman.profile(&["sh", "-c", &format!("{PODMAN} {SLOW}/slow:1")]);
    // Without its time in the run queue: what else runs on the host is no property of the registry.
    let took = |profile: &Profile, phase: &str, made: &registry::Layer| {
        let phase = layer(pull_of(profile, &image), phase, &made.blob);
        (phase.to() - phase.from()) - phase.0["wall"]["runqueue_ns"].as_u64().unwrap()
    };
    let delay = DELAY.as_nanos() as u64;
    for made in &image.layers {
        let (before, after) = (took(&fast, "download", made), took(&slow, "download", made));
        println!("download {before} ns, by the slow way {after} ns");
        assert!(after >= delay && after - delay < before + delay, "{before} {after}");
        let (before, after) = (took(&fast, "unpack", made), took(&slow, "unpack", made));
        println!("unpack {before} ns, by the slow way {after} ns");
        assert!(after < before + delay, "{before} {after}");
    }
}

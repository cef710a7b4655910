//! No container is missed: many that live under 2 ms, one after the other and at once.

use std::collections::BTreeMap;

use super::support::bare::Bare;
use super::support::check::{assert_order, scenario};
use super::support::docker::{self, Docker};
use super::support::machine::emulated;
use super::support::podman::{self, Podman};
use super::support::profile::{Item, Profile};
use super::support::workload;

/// Containers one after the other in every run of the tests, natively and in an emulated machine.
fn few() -> usize {
    if emulated() { 20 } else { 60 }
}

/// Containers at once.
const AT_ONCE: usize = 50;

/// Each container that the stopwatch tells of is there once, with these phases, and its `run` around the stopwatch.
///
/// `key` gives the stopwatch's name of a container.
fn assert_all(profile: &Profile, count: usize, phases: &[&str], key: impl Fn(Item<'_>) -> String) {
    let mut found: BTreeMap<String, Item> = BTreeMap::new();
    let containers = profile.containers();
    for container in &containers {
        let before = found.insert(key(*container), *container);
        assert!(before.is_none(), "{} is there twice", key(*container));
    }
    assert_eq!(found.len(), count, "{:?}", found.keys());
    let mut lived = Vec::new();
    for (name, container) in found {
        assert_order(container, phases);
        let run = container.phase("run");
        let (begin, end) = workload::stamps(&profile.output, &name);
        assert!(run.from() <= begin && end <= run.to(), "{name}: {run:?}");
        lived.push(end - begin);
    }
    lived.sort_unstable();
    println!(
        "{count} containers; between their stamps the median lived {} ns",
        lived[count / 2]
    );
}

fn id(container: Item<'_>) -> String {
    container.text("id").to_owned()
}

fn one_after_the_other(runtime: &'static str, count: usize) {
    let bare = scenario!(Bare::new(runtime));
    // The container's name is its stopwatch's.
    let bundle = bare.bundle("short", &["/stamp", "NAME"]);
    let config = std::fs::read_to_string(bundle.join("config.json")).unwrap();
    std::fs::write(bundle.join("template"), config).unwrap();
    let profile = bare.script(&format!(
        "for run in $(seq {count}); do sed s/NAME/phg-$run/ short/template > short/config.json; \
         $RT run --bundle short phg-$run; done"
    ));
    assert_all(&profile, count, &["create", "run", "cleanup"], id);
}

/// Make sure that no short-lived container of runc is missed.
#[test]
fn runc_short() {
    one_after_the_other("runc", few());
}

/// Make sure that no short-lived container of crun is missed.
#[test]
fn crun_short() {
    one_after_the_other("crun", few());
}

/// Make sure that of a thousand containers by runc none is missed.
#[test]
#[ignore = "full tier: a thousand containers"]
fn runc_thousand() {
    one_after_the_other("runc", 1_000);
}

/// Make sure that of a hundred containers by crun none is missed.
#[test]
#[ignore = "full tier: a hundred containers"]
fn crun_hundred() {
    one_after_the_other("crun", 100);
}

/// Make sure that of containers that start all at once none is missed, and none gets another's phases.
#[test]
fn runc_at_once() {
    let bare = scenario!(Bare::new("runc"));
    for run in 1..=AT_ONCE {
        let name = format!("phg-{run}");
        bare.bundle(&name, &["/stamp", &name]);
    }
    let profile = bare.script(&format!(
        "for run in $(seq {AT_ONCE}); do $RT run --bundle phg-$run phg-$run & done; wait"
    ));
    assert_all(&profile, AT_ONCE, &["create", "run", "cleanup"], id);
    // Each runtime's process belongs to its own container's `create` only.
    let mut creators: Vec<u64> = Vec::new();
    for container in profile.containers() {
        creators.extend(
            container.phase("create").0["processes"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|ix| ix.as_u64()),
        );
    }
    let all = creators.len();
    creators.sort_unstable();
    creators.dedup();
    assert_eq!(creators.len(), all);
}

/// A hundred containers under an engine, each under the name that its stopwatch bears.
fn engine(tool: &str, image: &str, profile: impl Fn(&[&str]) -> Profile) {
    let count = if emulated() { 20 } else { 100 };
    let script = format!(
        "for run in $(seq {count}); do {tool} run --rm --network=none --name=phg-$run {image} /stamp phg-$run; done"
    );
    let profile = profile(&["sh", "-ec", &script]);
    let name = |container: Item<'_>| container.text("name").to_owned();
    assert_all(&profile, count, &["mount", "create", "start", "run", "cleanup"], name);
}

/// Make sure that of a hundred containers by podman none is missed, with runc and with crun.
#[test]
#[ignore = "full tier: a hundred containers"]
fn podman_hundred() {
    for runtime in ["runc", "crun"] {
        let podman = scenario!(Podman::new(runtime));
        engine("podman", podman::TINY, |words| podman.profile(words));
    }
}

/// Make sure that of a hundred containers by docker none is missed.
#[test]
#[ignore = "full tier: a hundred containers"]
fn docker_hundred() {
    let docker = scenario!(Docker::new());
    engine("docker", docker::TINY, |words| docker.profile(words));
}

/// Make sure that of a hundred containers without an OCI runtime, which have no cgroup of their own, none is missed.
#[test]
#[ignore = "full tier: a hundred containers"]
fn buildah_chroot_hundred() {
    let podman = scenario!(super::build::buildah());
    let count = if emulated() { 20 } else { 100 };
    let script = format!(
        "c=$(buildah from {}); for run in $(seq {count}); do \
         buildah run --isolation=chroot --network=host $c /stamp phg-$run; done; buildah rm $c",
        podman::TINY
    );
    let profile = podman.profile(&["sh", "-ec", &script]);
    let name = |container: Item<'_>| {
        let entrypoint = container.0["entrypoint"].as_u64().unwrap() as usize;
        let argv = &profile.json["processes"][entrypoint]["argv"];
        argv[1]["text"].as_str().unwrap().to_owned()
    };
    assert_all(&profile, count, &["create", "run", "cleanup"], name);
}

//! Builds: podman, buildah with and without an OCI runtime, docker's classic builder.

use std::fs;
use std::path::Path;

use super::support::check::{assert_agrees, assert_explained, assert_order, scenario};
use super::support::chromium;
use super::support::coverage;
use super::support::docker::{self, Docker};
use super::support::host::{self, Skip};
use super::support::podman::{self, Podman};
use super::support::profile::Profile;
use super::support::workload;

/// Writes the build context: the C project, the stopwatch and a file with two RUNs of both forms.
fn context(folder: &Path, name: &str, from: &str, run: &str) -> Result<(), Skip> {
    fs::create_dir_all(folder).unwrap();
    workload::stamp(&folder.join("stamp"))?;
    let text = format!(
        "FROM {from}\nCOPY . /src\nWORKDIR /src\n# compiled here\nRUN {run}\n\
         RUN exec /src/stamp shell \\\n    sleep 0.2\nENV A=1\nCMD [\"/src/app\"]\n"
    );
    fs::write(folder.join(name), text).unwrap();
    Ok(())
}

/// The steps of a build of [`context`], with the phases of its two containers in the right ones.
fn assert_build(profile: &Profile, labels: &[&str], compiles: bool) {
    let steps = profile.steps();
    let found: Vec<&str> = steps.iter().map(|step| step.text("label")).collect();
    assert_eq!(found, labels);
    let containers = profile.containers();
    assert_eq!(containers.len(), 2);
    for (container, (step, stamp)) in containers.iter().zip([(3, "exec"), (4, "shell")]) {
        assert_order(*container, &["mount", "create", "start", "run", "cleanup"]);
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, stamp));
        for name in ["mount", "create", "start", "run", "cleanup"] {
            let phase = container.phase(name);
            assert_eq!(phase.0["parent"], steps[step].index(), "{name}");
            assert!(
                steps[step].from() <= phase.from() && phase.to() <= steps[step].to(),
                "{name}"
            );
        }
    }
    for pair in steps.windows(2) {
        assert!(pair[0].to() <= pair[1].from());
    }
    if compiles {
        let programs = profile.programs(steps[3]);
        let count = |name: &str| programs.iter().filter(|program| *program == name).count();
        assert_eq!(
            (count("cc1"), count("as")),
            (workload::SOURCES, workload::SOURCES),
            "{programs:?}"
        );
        assert_eq!((count("make"), count("collect2")), (1, 1));
        assert!(!profile.programs(steps[4]).contains(&"cc1".to_owned()));
    }
}

/// Make sure that `podman build` of a C project gives its steps as the Containerfile numbers them, with each RUN's
/// container and the compiler's processes below their step.
#[test]
fn podman_build() {
    let podman = scenario!(Podman::new("runc").and_then(Podman::with_build_root));
    let folder = podman.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Containerfile",
        podman::BUILD_ROOT,
        r#"["/src/stamp", "exec", "make", "-j2"]"#
    ));
    workload::c_project(&folder);
    let words = [
        "podman",
        "build",
        "--network=none",
        "--no-cache",
        "-t",
        "app",
        "context",
    ];
    let profile = podman.profile(&words);
    assert_eq!(profile.operations(), ["podman build"]);
    let labels = [
        "1/7 FROM localhost/build-root",
        "2/7 COPY . /src",
        "3/7 WORKDIR /src",
        r#"4/7 RUN ["/src/stamp", "exec", "make", "-j2"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
        "6/7 ENV A=1",
        r#"7/7 CMD ["/src/app"]"#,
    ];
    assert_build(&profile, &labels, true);
    assert_explained(&profile);
    coverage::assert("podman build", "podman_build", &profile);
    let folder = podman.corner.folder();
    let texts = ["step 4/7 RUN", "podman build", "cc1", "cleanup"];
    chromium::opens(&folder.join("profile.phg"), folder, &texts);
}

/// A storage for buildah.
pub(crate) fn buildah() -> Result<Podman, Skip> {
    host::require(&["buildah"])?;
    Podman::new("runc")
}

/// A build with buildah, which makes one layer only, still gives its RUNs with their numbers.
fn buildah_bud(isolation: &str, runtime: &str, row: &str, test: &str) {
    let podman = scenario!(buildah());
    let folder = podman.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Containerfile",
        podman::TINY,
        r#"["/src/stamp", "exec", "/bin/sleep", "0.1"]"#
    ));
    // Without a network of its own: chroot isolation has none to set up.
    let words = [
        "buildah",
        "bud",
        isolation,
        "--network=host",
        "--runtime=runc",
        "--layers=false",
        "-t",
        "app",
        "context",
    ];
    let profile = podman.profile(&words);
    assert_eq!(profile.operations(), ["buildah bud"]);
    let steps = profile.steps();
    let labels: Vec<&str> = steps.iter().map(|step| step.text("label")).collect();
    let expected = [
        r#"4/7 RUN ["/src/stamp", "exec", "/bin/sleep", "0.1"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
    ];
    assert_eq!(labels, expected);
    let containers = profile.containers();
    for ((container, stamp), step) in containers.iter().zip(["exec", "shell"]).zip(&steps) {
        assert_eq!(
            (container.text("engine"), container.text("runtime")),
            ("buildah", runtime)
        );
        assert!(container.text("id").starts_with("buildah-buildah"));
        assert_agrees(container.phase("run"), workload::stamps(&profile.output, stamp));
        for name in ["create", "run", "cleanup"] {
            assert_eq!(container.phase(name).0["parent"], step.index(), "{name}");
        }
    }
    coverage::assert(row, test, &profile);
}

/// Make sure that buildah's builds with an OCI runtime give their RUNs' containers.
#[test]
fn buildah_build() {
    buildah_bud("--isolation=oci", "runc", "buildah", "buildah_build");
}

/// Make sure that a build without an OCI runtime, whose RUNs have no cgroup and no namespace but the mounts', gives the
/// same.
#[test]
fn buildah_chroot_build() {
    buildah_bud(
        "--isolation=chroot",
        "chroot",
        "buildah, chroot",
        "buildah_chroot_build",
    );
}

/// `buildah run` in a working container.
fn buildah_run(isolation: &str, row: &str, test: &str) {
    let podman = scenario!(buildah());
    let script = format!(
        "c=$(buildah from {}); buildah run {isolation} --runtime=runc --network=host $c /stamp one /bin/sleep 0.2; \
         buildah rm $c",
        podman::TINY
    );
    let profile = podman.profile(&["sh", "-ec", &script]);
    assert_eq!(
        profile.operations(),
        ["sh", "buildah from", "buildah run", "buildah rm"]
    );
    let container = profile.container("tiny-working-container");
    assert_order(container, &["mount", "create", "run", "cleanup"]);
    assert_agrees(container.phase("run"), workload::stamps(&profile.output, "one"));
    assert_eq!(profile.programs(container.phase("run")), ["stamp", "sleep"]);
    coverage::assert(row, test, &profile);
}

/// Make sure that `buildah run` with an OCI runtime is a container under the name of its working container.
#[test]
fn buildah_oci_run() {
    buildah_run("--isolation=oci", "buildah", "buildah_oci_run");
}

/// Make sure that `buildah run` without an OCI runtime is one too.
#[test]
fn buildah_chroot_run() {
    buildah_run("--isolation=chroot", "buildah, chroot", "buildah_chroot_run");
}

/// Make sure that docker's classic builder gives its steps as it numbers them, with each RUN's container below its own.
#[test]
fn docker_build() {
    let docker = scenario!(Docker::new());
    let folder = docker.corner.folder().join("context");
    scenario!(context(
        &folder,
        "Dockerfile",
        docker::TINY,
        r#"["/src/stamp", "exec", "/bin/sleep", "0.1"]"#
    ));
    let words = [
        "docker",
        "build",
        "--network=none",
        "--no-cache",
        "-t",
        "app",
        "context",
    ];
    let profile = docker.profile(&words);
    let labels = [
        "1/7 FROM tiny",
        "2/7 COPY . /src",
        "3/7 WORKDIR /src",
        r#"4/7 RUN ["/src/stamp", "exec", "/bin/sleep", "0.1"]"#,
        "5/7 RUN exec /src/stamp shell     sleep 0.2",
        "6/7 ENV A=1",
        r#"7/7 CMD ["/src/app"]"#,
    ];
    assert_build(&profile, &labels, false);
    coverage::assert("docker build", "docker_build", &profile);
}

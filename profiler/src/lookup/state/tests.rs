//! State files as engines write them, and as they should not be.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Host {
        Host(tempfile::tempdir().unwrap())
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn tree(&self, cwd: &str) -> Option<Tree> {
        Tree::below(self.0.path(), cwd.into())
    }

    fn created(&self, bundle: &str) -> Option<ContainerState> {
        created_by(
            &argv(&format!("/usr/bin/runc create --bundle {bundle} --pid-file /p {ID}")),
            || self.tree("/"),
        )
    }
}

fn created_by(argv: &[Text], tree: impl FnOnce() -> Option<Tree>) -> Option<ContainerState> {
    created(argv, &Daemons::default(), tree)
}

fn argv(line: &str) -> Vec<Text> {
    line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

const PODMAN: &str = "/g/overlay-containers/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef/userdata";

fn podman() -> Host {
    let host = Host::new();
    host.write(
        "/g/overlay-containers/containers.json",
        &format!(
            r#"[{{"id":"ff","names":["other"]}},{{"id":"{ID}","names":["web"],"image":"ab12","layer":"l","metadata":"{{\"image-name\":\"docker.io/library/debian:13\",\"image-id\":\"ab12\",\"name\":\"web\"}}","created":"x"}}]"#
        ),
    );
    host.write(
        "/g/overlay-images/images.json",
        r#"[{"id":"ab12","digest":"sha256:77","names":["docker.io/library/debian:13"],"layer":"l"}]"#,
    );
    host
}

/// Make sure that podman's lists give name, image and digest, also of a container that stands in the list of those that
/// go with their end.
#[test]
fn podman_lists() {
    let host = podman();
    let state = host.created(PODMAN).unwrap();
    assert_eq!((&state.id[..], &state.name[..]), (ID.as_bytes(), &b"web"[..]));
    assert_eq!(&state.image[..], b"docker.io/library/debian:13");
    assert_eq!((&state.digest[..], &state.engine[..]), (&b"sha256:77"[..], "podman"));

    let list = host.0.path().join("g/overlay-containers/containers.json");
    host.write(
        "/r/overlay-containers/volatile-containers.json",
        &fs::read_to_string(&list).unwrap(),
    );
    fs::remove_file(list).unwrap();
    assert_eq!(host.created(PODMAN), None);
    host.write(
        &format!("{PODMAN}/config.json"),
        &format!(r#"{{"mounts":[{{"source":"proc"}},{{"source":"/r/overlay-containers/{ID}/userdata/hostname"}}]}}"#),
    );
    assert_eq!(host.created(PODMAN).unwrap().name, b"web");
}

const DOCKER: &str = "/run/containerd/io.containerd.runtime.v2.task/moby/ID";

fn docker(config: &str) -> Host {
    let host = Host::new();
    host.write(
        &format!("{DOCKER}/config.json"),
        &format!(r#"{{"ociVersion":"1.0.2","mounts":[{{"source":"/d/containers/{ID}/resolv.conf"}}]}}"#),
    );
    host.write(&format!("/d/containers/{ID}/config.v2.json"), config);
    host.write(
        "/d/image/overlay2/repositories.json",
        r#"{"Repositories":{"debian":{"debian:13":"sha256:aa","debian@sha256:bb":"sha256:aa","debian@sha256:cc":"sha256:dd"}}}"#,
    );
    host
}

/// Make sure that docker's file is found by the bundle's mounts and gives name, image, digest and the healthcheck as it
/// is run.
#[test]
fn docker_file() {
    let host = docker(
        r#"{"ID":"x","Name":"/web","Image":"sha256:aa","Driver":"overlay2","Config":{"Image":"debian:13","Shell":null,"Healthcheck":{"Test":["CMD-SHELL","curl -f localhost || exit 1"]}}}"#,
    );
    let state = host.created(DOCKER).unwrap();
    assert_eq!((&state.name[..], &state.image[..]), (&b"web"[..], &b"debian:13"[..]));
    assert_eq!((&state.digest[..], &state.engine[..]), (&b"sha256:bb"[..], "docker"));
    assert_eq!(
        state.healthcheck,
        argv("/bin/sh -c x")
            .into_iter()
            .take(2)
            .chain([b"curl -f localhost || exit 1".to_vec()])
            .collect::<Vec<_>>()
    );
    let plain = docker(r#"{"Name":"/web","Config":{"Healthcheck":{"Test":["CMD","/check","a"]}}}"#);
    assert_eq!(plain.created(DOCKER).unwrap().healthcheck, argv("/check a"));
    let none = docker(r#"{"Name":"/web","Config":{"Healthcheck":{"Test":["NONE"]}}}"#);
    assert!(none.created(DOCKER).unwrap().healthcheck.is_empty());
}

/// Make sure that a docker container whose bundle is gone already is found in its daemon's folder, and one of another
/// namespace is not looked for there.
#[test]
fn docker_without_bundle() {
    let host = docker(r#"{"Name":"/web","Config":{"Image":"debian:13"}}"#);
    let create = |bundle: &str| argv(&format!("runc create --bundle {bundle} {ID}"));
    for (dockerd, found) in [
        ("/usr/bin/dockerd -H fd:// --data-root /d", true),
        ("dockerd --data-root=/d", true),
        ("dockerd", false),
        ("sh --data-root=/d", false),
    ] {
        let mut daemons = Daemons::default();
        daemons.seen(&argv(dockerd));
        let state = created(&create("/gone/moby/x"), &daemons, || host.tree("/"));
        assert_eq!(
            state.map(|state| state.name),
            found.then(|| b"web".to_vec()),
            "{dockerd}"
        );
        assert_eq!(created(&create("/gone/k8s.io/x"), &daemons, || host.tree("/")), None);
    }
}

/// Make sure that annotations of CRI engines and nerdctl give names, and a bundle without any nothing.
#[test]
fn annotations() {
    for (annotations, name, image, engine) in [
        (
            r#""io.kubernetes.cri.container-name":"app","io.kubernetes.cri.image-name":"r/app@sha256:12","io.kubernetes.cri.sandbox-name":"pod""#,
            "app",
            "r/app@sha256:12",
            "containerd",
        ),
        (r#""io.kubernetes.cri.sandbox-name":"pod""#, "pod", "", "containerd"),
        (r#""nerdctl/name":"web""#, "web", "", "containerd"),
        (
            r#""io.kubernetes.cri-o.Name":"k8s_app_pod","io.kubernetes.cri-o.ImageName":"r/app:1""#,
            "k8s_app_pod",
            "r/app:1",
            "cri-o",
        ),
    ] {
        let host = Host::new();
        host.write("/b/config.json", &format!(r#"{{"annotations":{{{annotations}}}}}"#));
        let state = host.created("/b").unwrap();
        assert_eq!((&state.name[..], &state.image[..]), (name.as_bytes(), image.as_bytes()));
        assert_eq!(state.engine, engine);
        assert_eq!(state.digest.is_empty(), !image.contains('@'));
    }
    let host = Host::new();
    host.write("/b/config.json", r#"{"annotations":{"a":"b"},"mounts":[]}"#);
    assert_eq!(host.created("/b"), None);
}

/// Make sure that files that are missing, cut off, of another type, too large, or links tell nothing.
#[test]
fn broken_files() {
    let host = podman();
    let list = host.0.path().join("g/overlay-containers/containers.json");
    let whole = fs::read(&list).unwrap();
    for length in 0..whole.len() {
        fs::write(&list, &whole[..length]).unwrap();
        let state = host.created(PODMAN);
        assert!(state.is_none_or(|state| state.name == b"web"), "{length}");
    }
    let mut large = vec![b' '; MAX_BYTES as usize];
    large.extend_from_slice(&whole);
    fs::write(&list, large).unwrap();
    assert_eq!(host.created(PODMAN), None);
    fs::remove_file(&list).unwrap();
    for target in ["containers.json", "/etc/passwd", "../overlay-images/images.json"] {
        symlink(target, &list).unwrap();
        assert_eq!(host.created(PODMAN), None, "{target}");
        fs::remove_file(&list).unwrap();
    }
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &list,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(host.created(PODMAN), None);
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    assert_eq!(host.created(PODMAN), None);
    for text in ["", "{", "[]", "null", "{\"Name\":7}", "{\"Config\":[]}", "\u{0}"] {
        assert_eq!(docker(text).created(DOCKER), None, "{text}");
    }
}

/// Make sure that an id or a bundle out of a hostile command line leads nowhere else.
#[test]
fn hostile_words() {
    let host = podman();
    host.write("/etc/config.json", r#"{"annotations":{"nerdctl/name":"stolen"}}"#);
    let tree = || host.tree("/");
    for line in [
        "runc create --bundle /etc ../../etc",
        "runc create --bundle /etc a/b",
        "runc create --bundle /etc .x",
        "runc create --bundle etc abc",
        "runc create abc",
        "runc state abc",
        "sh create --bundle /etc abc",
    ] {
        assert_eq!(created_by(&argv(line), tree), None, "{line}");
    }
    // A link to the host's own files ends below the root that the process sees.
    symlink("/../../../../etc", host.0.path().join("out")).unwrap();
    let state = created_by(&argv("runc create --bundle /out abc"), tree).unwrap();
    assert_eq!(state.name, b"stolen");
    let long = "n".repeat(10_000);
    host.write(
        "/l/config.json",
        &format!(r#"{{"annotations":{{"nerdctl/name":"{long}"}}}}"#),
    );
    assert_eq!(
        created_by(&argv("runc create --bundle /l abc"), tree)
            .unwrap()
            .name
            .len(),
        MAX_TEXT
    );
}

/// Make sure that a container that was there before is known by its monitor, and an exec session's monitor is none.
#[test]
fn monitors() {
    let host = podman();
    let tree = || host.tree("/");
    host.write("/run/pidfile", "4711\n");
    let line =
        format!("/usr/bin/conmon --api-version 1 -c {ID} -u {ID} -r /usr/bin/runc -b {PODMAN} -p /run/pidfile -n web");
    let state = monitored(&argv(&line), tree).unwrap();
    assert_eq!(
        (&state.name[..], &state.engine[..], state.pid),
        (&b"web"[..], "podman", 4711)
    );
    let session = line.replace(&format!("-u {ID}"), "-u abcd");
    assert_eq!(monitored(&argv(&session), tree), None);
    // Without its list the monitor's own arguments still tell the name.
    let elsewhere = line.replace(PODMAN, "/nowhere");
    let state = monitored(&argv(&elsewhere), tree).unwrap();
    assert_eq!((&state.name[..], &state.engine[..]), (&b"web"[..], ""));

    let host = docker(r#"{"Name":"/db","Config":{"Image":"postgres"}}"#);
    let bundle = DOCKER.replace("/ID", &format!("/{ID}"));
    let config = fs::read_to_string(
        host.0
            .path()
            .join(format!("{DOCKER}/config.json").trim_start_matches('/')),
    )
    .unwrap();
    host.write(&format!("{bundle}/config.json"), &config);
    host.write(&format!("{bundle}/init.pid"), "12");
    let line =
        format!("/usr/bin/containerd-shim-runc-v2 -namespace moby -id {ID} -address /run/containerd/containerd.sock");
    let state = monitored(&argv(&line), || host.tree(&bundle)).unwrap();
    assert_eq!(
        (&state.name[..], &state.image[..], state.pid),
        (&b"db"[..], &b"postgres"[..], 12)
    );
    assert_eq!(monitored(&argv(&line), || host.tree("/")), None);
}

//! containerd asked by a kubelet, whose calls we make by hand.

use super::support::check::{assert_order, scenario};
use super::support::containerd::Containerd;
use super::support::coverage;
use super::support::cri::{self, CONTAINER, POD, field, number};
use super::support::host;
use super::support::profile::Item;
use super::support::registry::{ADDRESS, Registry};

/// A pod's settings: its name, and the host's network, which needs no plug-ins.
fn pod() -> Vec<u8> {
    let metadata = [field(1, "pod"), field(2, "uid-1"), field(3, "space")].concat();
    let namespaces = [number(1, 2), number(2, 1)].concat();
    let security = field(1, namespaces);
    [field(1, metadata), field(8, field(2, security))].concat()
}

/// Make sure that a pod's containers, which a kubelet has containerd run, have their whole lives under the names that they
/// have in their pod, and that the pull that a kubelet asks for shows its downloads.
#[test]
fn cri_life() {
    let containerd = scenario!(host::require(&["curl"]).and_then(|()| Containerd::new()));
    let registry = scenario!(Registry::new(&containerd.corner));
    let made = scenario!(registry.push(&containerd.corner, "tiny", &[1_000_000, 500_000]));
    let image = field(1, format!("{ADDRESS}/tiny:1"));
    let command = ["/bin/sleep", "100"].map(|word| field(3, word)).concat();
    // With process ids of its own.
    let linux = field(15, field(2, field(3, number(2, 1))));
    let container = [field(1, field(1, "app")), field(2, &image), command, linux].concat();
    let echo = ["/bin/echo", "hi"].map(|word| field(2, word)).concat();
    let of_container = field(1, CONTAINER);
    let calls = [
        ("ImageService/PullImage", field(1, &image)),
        ("RuntimeService/RunPodSandbox", field(1, pod())),
        (
            "RuntimeService/CreateContainer",
            [field(1, POD), field(2, container), field(3, pod())].concat(),
        ),
        ("RuntimeService/StartContainer", of_container.clone()),
        ("RuntimeService/ExecSync", [of_container.clone(), echo].concat()),
        (
            "RuntimeService/StopContainer",
            [of_container.clone(), number(2, 1)].concat(),
        ),
        ("RuntimeService/RemoveContainer", of_container),
        ("RuntimeService/StopPodSandbox", field(1, POD)),
        ("RuntimeService/RemovePodSandbox", field(1, POD)),
    ];
    let script = cri::script(containerd.corner.folder(), &containerd.socket(), &calls);
    let profile = containerd.profile(&["sh", "-euc", &script]);
    assert_eq!(profile.containers().len(), 2, "{}", profile.output);
    for name in ["pod", "app"] {
        let container = profile.container(name);
        assert_eq!(
            (container.text("engine"), container.text("runtime")),
            ("containerd", "runc")
        );
        assert_eq!(container.text("id").len(), 64);
        assert_order(container, &["mount", "create", "start", "run", "cleanup"]);
    }
    let app = profile.container("app");
    assert_eq!(app.text("image"), format!("{ADDRESS}/tiny:1"));
    assert_eq!(app.phase("exec").text("label"), "/bin/echo hi");
    // sleep as pid 1 ignores SIGTERM: the grace period of 1 s passes.
    let (stop, run) = (app.phase("stop"), app.phase("run"));
    assert!(stop.to() - stop.from() >= 900_000_000 && stop.to() == run.to());
    let pull = Item(&profile.json).phase("pull");
    let mut downloads: Vec<&str> = pull
        .phases("download")
        .iter()
        .map(|phase| phase.text("label"))
        .collect();
    downloads.sort_unstable();
    let mut blobs: Vec<&str> = made.layers.iter().map(|layer| layer.blob.as_str()).collect();
    blobs.sort_unstable();
    assert_eq!(downloads, blobs);
    coverage::assert("containerd, kubelet", "cri_life", &profile);
}

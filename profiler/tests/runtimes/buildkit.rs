//! BuildKit within dockerd.

use super::support::check::{assert_agrees, scenario};
use super::support::coverage;
use super::support::docker::{self, Docker};
use super::support::workload;

/// Make sure that a build by BuildKit shows its RUNs as steps with their instructions and containers, below the client
/// that asked, and that they agree with a stopwatch inside.
#[test]
fn buildkit_build() {
    let docker = scenario!(Docker::new());
    let folder = docker.corner.folder().join("context");
    std::fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "FROM {}\nCOPY data /data\nRUN [\"/stamp\", \"exec\", \"/bin/sleep\", \"0.1\"]\nENV A=1\n\
         RUN exec /stamp shell /bin/sleep 0.2\n",
        docker::TINY
    );
    std::fs::write(folder.join("Dockerfile"), text).unwrap();
    std::fs::write(folder.join("data"), "data").unwrap();
    // Debian's client speaks to BuildKit by itself; newer ones leave it to a plug-in.
    let words = [
        "env",
        "DOCKER_BUILDKIT=1",
        "/usr/bin/docker",
        "build",
        "--network=none",
        "--no-cache",
        "--progress=plain",
        "-t",
        "app",
        "context",
    ];
    let Some(profile) = docker.try_profile(&words) else {
        eprintln!("skipped: /usr/bin/docker can't build by BuildKit here");
        return;
    };
    assert_eq!(profile.operations(), ["docker build"]);
    let steps = profile.steps();
    let labels: Vec<&str> = steps.iter().map(|step| step.text("label")).collect();
    assert_eq!(
        labels,
        [
            r#"3/5 RUN ["/stamp", "exec", "/bin/sleep", "0.1"]"#,
            "5/5 RUN exec /stamp shell /bin/sleep 0.2"
        ]
    );
    let containers = profile.containers();
    assert_eq!(containers.len(), 2);
    for ((container, step), stamp) in containers.iter().zip(&steps).zip(["exec", "shell"]) {
        assert_eq!(
            (container.text("engine"), container.text("runtime")),
            ("buildkit", "runc")
        );
        assert_eq!(container.text("id").len(), 25);
        assert_eq!(container.0["operation"], 0);
        let run = container.phase("run");
        // What it prints goes to the client as the step's log, with a time in front.
        let log: String = profile
            .output
            .lines()
            .filter_map(|line| Some(format!("{}\n", &line[line.find("stamp ")?..])))
            .collect();
        assert_agrees(run, workload::stamps(&log, stamp));
        assert_eq!(run.0["parent"], step.index());
        assert!(step.from() <= container.phase("create").from() && run.to() <= step.to());
    }
    coverage::assert("docker build, BuildKit", "buildkit_build", &profile);
}

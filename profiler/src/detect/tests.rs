//! Detection on real sequences (`fixtures/`), and on each of the traps of container lifecycles.

use super::fixture::{dockerfile, outline, session};

const PODMAN_RUNC: &str = include_str!("fixtures/podman_runc.txt");
const PODMAN_BUILD: &str = include_str!("fixtures/podman_build.txt");
const DOCKER: &str = include_str!("fixtures/docker.txt");

#[test]
fn print() {
    println!("{}", outline(&mut session(PODMAN_RUNC)));
    let mut s = session(PODMAN_BUILD);
    dockerfile(
        &mut s,
        "podman",
        "FROM localhost/buildroot\nENV X=1\nCOPY stamp /stamp\nRUN /stamp one && \\\n    sleep 0.1\nRUN [\"/stamp\", \"two\"]\nCMD [\"/stamp\"]\n",
    );
    println!("{}", outline(&mut s));
    let mut s = session(DOCKER);
    dockerfile(
        &mut s,
        "docker",
        "FROM bb\nENV X=1\nCOPY stamp /stamp2\nRUN /stamp2 one && \\\n  sleep 0.1\nRUN [\"/stamp2\", \"two\"]\nCMD [\"/stamp\"]\n",
    );
    println!("{}", outline(&mut s));
}

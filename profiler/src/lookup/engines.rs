//! Container engines and runtimes: which programs they are, and what version of them PATH has.

use std::{
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Engines and runtimes, all of which tell their version with `--version`.
pub const PROGRAMS: [&str; 13] = [
    "podman",
    "buildah",
    "skopeo",
    "docker",
    "dockerd",
    "containerd",
    "ctr",
    "nerdctl",
    "buildkitd",
    "crio",
    "conmon",
    "crun",
    "runc",
];
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of what it says.
const MAX_SAID: u64 = 4096;

/// The engine or runtime of this name.
pub fn known(name: &[u8]) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| program.as_bytes() == name)
}

/// Path and version of one of [`PROGRAMS`], as PATH has it and as it says itself (empty when it says nothing). What a
/// traced process was started as is never asked: anybody may call a program `podman`.
pub fn version(program: &str) -> Option<(PathBuf, String)> {
    let path = in_path(program)?;
    let version = said(&path).map_or_else(String::new, |text| version_in(&text));
    Some((path, version))
}

/// The program's absolute path: folders of PATH that are relative are passed over.
fn in_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    std::env::split_paths(&folders)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(|path| {
            path.metadata()
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

/// What a program writes on standard output with `--version`, if it ends within [`PATIENCE`].
fn said(path: &Path) -> Option<String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that what it starts ends with it.
        .process_group(0);
    let mut child = command.spawn().ok()?;
    let mut output = child.stdout.take()?;
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        // Whatever it says beyond is left in the pipe.
        _ = output.by_ref().take(MAX_SAID).read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    });
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => break false,
        }
    };
    if !ended {
        if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
            _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        _ = child.kill();
        _ = child.wait();
        // Its output is of no use, and the thread that reads it may wait for another that holds the pipe.
        return None;
    }
    reader.join().ok()
}

/// The first word that looks like a version: `podman version 4.3.1`, `Docker version 20.10.24+dfsg1, build …`.
fn version_in(text: &str) -> String {
    text.split_whitespace()
        .map(|word| word.trim_matches([',', ':', ';']).trim_start_matches('v'))
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Make sure that versions are found in what each program says.
    #[test]
    fn versions() {
        for (text, version) in [
            ("podman version 4.3.1\n", "4.3.1"),
            ("Docker version 20.10.24+dfsg1, build 297e128\n", "20.10.24+dfsg1"),
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1\n",
                "1.6.20~ds1",
            ),
            ("runc version 1.1.5+ds1\ncommit: 1.1\n", "1.1.5+ds1"),
            ("crun version v1.8.1\n", "1.8.1"),
            ("no idea\n", ""),
        ] {
            assert_eq!(version_in(text), version, "{text}");
        }
    }

    /// Make sure that a program that hangs, fails or says too much is not waited for.
    #[test]
    fn unwilling_programs() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let start = Instant::now();
        assert_eq!(said(&program("hangs", "sleep 100")), None);
        assert!(start.elapsed() < PATIENCE * 20);
        assert_eq!(said(&program("fails", "echo 1.2; exit 1")), None);
        assert_eq!(said(&folder.path().join("missing")), None);
        assert_eq!(
            said(&program("tells", "echo \"x $1 3.4\"")).as_deref(),
            Some("x --version 3.4\n")
        );
        let much = said(&program("babbles", "head -c 100000 /dev/zero; exit 0"));
        assert!(much.is_none_or(|text| text.len() <= MAX_SAID as usize));
    }
}

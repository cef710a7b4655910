//! Container engines and runtimes of this host: where they are, what version they say they are, what they store in.

use std::{
    fs,
    io::Read as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::Runtime;

/// Programs that are looked for in PATH, and with which argument each tells its version.
const PROGRAMS: [(&str, &str); 13] = [
    ("podman", "--version"),
    ("buildah", "--version"),
    ("skopeo", "--version"),
    ("docker", "--version"),
    ("dockerd", "--version"),
    ("containerd", "--version"),
    ("ctr", "--version"),
    ("nerdctl", "--version"),
    ("buildkitd", "--version"),
    ("crio", "--version"),
    ("conmon", "--version"),
    ("crun", "--version"),
    ("runc", "--version"),
];
/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of what it says.
const MAX_SAID: u64 = 4096;

/// Those that are there, in the order of [`PROGRAMS`].
pub(super) fn find() -> Vec<Runtime> {
    PROGRAMS
        .into_iter()
        .filter_map(|(program, argument)| {
            let path = in_path(program)?;
            Some(Runtime {
                program,
                version: said(&path, argument).map_or_else(String::new, |text| version_in(&text)),
                storage: storage(program),
                path: path.to_string_lossy().into_owned(),
            })
        })
        .collect()
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

/// What a program writes on standard output with one argument, if it ends within [`PATIENCE`].
fn said(path: &Path, argument: &str) -> Option<String> {
    let mut command = Command::new(path);
    command
        .arg(argument)
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

/// Storage drivers that a program's state shows. Looked at where it usually is: asking a daemon would start it.
fn storage(program: &str) -> Vec<String> {
    match program {
        "podman" | "buildah" => containers_storage(
            &fs::read_to_string("/etc/containers/storage.conf").unwrap_or_default(),
            Path::new("/var/lib/containers/storage"),
        ),
        "dockerd" => folders(
            Path::new("/var/lib/docker"),
            &[
                "overlay2",
                "fuse-overlayfs",
                "btrfs",
                "zfs",
                "vfs",
                "aufs",
                "devicemapper",
            ],
        ),
        "containerd" => snapshotters(Path::new("/var/lib/containerd")),
        _ => Vec::new(),
    }
}

/// `driver = "overlay"` of a storage.conf, or else the folders that drivers have made.
fn containers_storage(configuration: &str, root: &Path) -> Vec<String> {
    let driver = configuration.lines().find_map(|line| {
        let value = line.trim().strip_prefix("driver")?.trim_start().strip_prefix('=')?;
        Some(value.trim().trim_matches('"').to_owned())
    });
    match driver {
        Some(driver) if !driver.is_empty() => vec![driver],
        _ => folders(root, &["overlay", "vfs", "btrfs", "zfs"]),
    }
}

fn folders(root: &Path, names: &[&str]) -> Vec<String> {
    names
        .iter()
        .filter(|name| root.join(name).is_dir())
        .map(|name| (*name).to_owned())
        .collect()
}

/// `io.containerd.snapshotter.v1.overlayfs`
fn snapshotters(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_prefix("io.containerd.snapshotter.v1.")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
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
        assert_eq!(said(&program("hangs", "sleep 100"), "--version"), None);
        assert!(start.elapsed() < PATIENCE * 20);
        assert_eq!(said(&program("fails", "echo 1.2; exit 1"), "--version"), None);
        assert_eq!(said(&folder.path().join("missing"), "--version"), None);
        assert_eq!(
            said(&program("tells", "echo \"x $1 3.4\""), "-v").as_deref(),
            Some("x -v 3.4\n")
        );
        let much = said(&program("babbles", "head -c 100000 /dev/zero; exit 0"), "-v");
        assert!(much.is_none_or(|text| text.len() <= MAX_SAID as usize));
    }

    /// Make sure that a storage driver is read from the configuration, or else from what is on the disk.
    #[test]
    fn drivers() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("vfs")).unwrap();
        assert_eq!(
            containers_storage("[storage]\n# driver = \"x\"\ndriver = \"overlay\"\n", folder.path()),
            ["overlay"]
        );
        assert_eq!(containers_storage("driver = \"\"\n", folder.path()), ["vfs"]);
        fs::create_dir(folder.path().join("io.containerd.snapshotter.v1.overlayfs")).unwrap();
        assert_eq!(snapshotters(folder.path()), ["overlayfs"]);
        assert!(snapshotters(Path::new("/no/such/folder")).is_empty());
    }
}

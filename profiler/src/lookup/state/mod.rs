//! What engines' own files say of a container: name, image, digest, healthcheck.
//!
//! All starts from the bundle that a runtime was given, or the monitor of a container that was there before. Paths and
//! ids come from command lines, which any process can write: an id is checked before it becomes part of a path, and files
//! are read by [`Tree`] alone, no more than [`MAX_BYTES`] or [`MAX_ONE`] of each. A file that is missing, cut off or too
//! large tells nothing: the container is then shown by its id.

mod docker;
mod oci;
mod podman;

use crate::detect;
use crate::lookup::tree::Tree;
use crate::recording::record::{ContainerState, Text};

/// Largest list that is read: podman's of 10,000 containers.
const MAX_BYTES: u64 = 8 << 20;
/// Largest file of one container that is read; docker's and containerd's have 10 to 50 KB.
const MAX_ONE: u64 = 1 << 20;
/// Longest name, image or word of a healthcheck that is kept, bytes.
const MAX_TEXT: usize = 512;

/// Where docker's daemons keep their containers, as far as they were seen: the bundle of a container that lived for a
/// moment is gone when it is looked for, these files are not.
#[derive(Debug, Default)]
pub struct Daemons {
    docker: Vec<String>,
}

impl Daemons {
    /// Most folders remembered.
    const MAX: usize = 8;

    /// Learns from the arguments of a program, if it is a daemon.
    pub fn seen(&mut self, argv: &[Text]) {
        let program = argv.first().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
        if program != Some(b"dockerd") {
            return;
        }
        let data = docker::data_of(argv);
        if !self.docker.contains(&data) && self.docker.len() < Self::MAX {
            self.docker.push(data);
        }
    }
}

/// What is known of the container that a runtime is asked to create. `tree` is what the runtime sees.
pub fn created(argv: &[Text], daemons: &Daemons, tree: impl FnOnce() -> Option<Tree>) -> Option<ContainerState> {
    let (id, bundle) = detect::creates(argv)?;
    let tree = &tree()?;
    of_bundle(&id, &bundle, tree).or_else(|| {
        // `moby` is docker's namespace in containerd.
        let of_docker = bundle.split(|byte| *byte == b'/').any(|part| part == b"moby");
        if !of_docker || !is_id(&id) {
            return None;
        }
        let mut state = ContainerState {
            id,
            ..ContainerState::default()
        };
        let mut folders = daemons.docker.iter();
        folders
            .any(|data| docker::fill_from(&mut state, data, tree))
            .then_some(state)
    })
}

/// What is known of the container that a monitor (conmon, a containerd shim) looks after, which was there before. `tree`
/// is what the monitor sees: a shim's working directory is its container's bundle.
pub fn monitored(argv: &[Text], tree: impl FnOnce() -> Option<Tree>) -> Option<ContainerState> {
    use std::os::unix::ffi::OsStrExt as _;
    let after = |flag: &[u8]| {
        let at = argv.iter().position(|word| word == flag)?;
        argv.get(at + 1).cloned()
    };
    let program = argv.first()?.rsplit(|byte| *byte == b'/').next()?;
    if program == b"conmon" {
        let (id, bundle) = (after(b"-c")?, after(b"-b")?);
        // conmon of an exec session has another -u.
        if after(b"-u").is_some_and(|unit| unit != id) {
            return None;
        }
        let tree = tree();
        let found = tree.as_ref().and_then(|tree| of_bundle(&id, &bundle, tree));
        let mut state = found.unwrap_or_else(|| ContainerState {
            id: id.clone(),
            ..ContainerState::default()
        });
        if let (true, Some(name)) = (state.name.is_empty(), after(b"-n")) {
            state.name = kept(name);
        }
        if let (Some(tree), Some(path)) = (&tree, after(b"-p")) {
            state.pid = pid(tree, &path);
        }
        return Some(state);
    }
    if program.starts_with(b"containerd-shim") {
        let id = after(b"-id")?;
        let tree = &tree()?;
        if tree.cwd.file_name().is_none_or(|name| name.as_bytes() != id) {
            return None;
        }
        let bundle = tree.cwd.as_os_str().as_bytes();
        let mut state = of_bundle(&id, bundle, tree)?;
        state.pid = pid(tree, &[bundle, b"/init.pid"].concat());
        return Some(state);
    }
    None
}

/// Reads everything that a bundle leads to.
fn of_bundle(id: &[u8], bundle: &[u8], tree: &Tree) -> Option<ContainerState> {
    if !is_id(id) || !bundle.starts_with(b"/") {
        return None;
    }
    let bundle = bundle.strip_suffix(b"/").unwrap_or(bundle);
    let mut state = ContainerState {
        id: id.to_vec(),
        ..ContainerState::default()
    };
    if podman::fill(&mut state, bundle, None, tree) {
        return Some(state);
    }
    let spec = oci::Spec::read(bundle, tree)?;
    let found = podman::fill(&mut state, bundle, Some(&spec), tree)
        || docker::fill(&mut state, &spec, tree)
        || spec.fill(&mut state);
    found.then_some(state)
}

/// Whether the text can be a container's id and so a part of a path: letters, digits, `_`, `.`, `-`, the first of them a
/// letter or digit, as every engine and runtime asks.
fn is_id(id: &[u8]) -> bool {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    (1..=256).contains(&id.len()) && id.iter().all(word) && id[0].is_ascii_alphanumeric()
}

/// Bounded.
fn kept(text: impl Into<Text>) -> Text {
    let mut text = text.into();
    text.truncate(MAX_TEXT);
    text
}

/// A number in a file of its own; 0 when there is none.
fn pid(tree: &Tree, path: &[u8]) -> u32 {
    let text = tree.read(path, MAX_ONE).unwrap_or_default();
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;

//! docker: `DATA/containers/ID/config.v2.json`; where DATA is, the bundle's mounts of `/etc/hostname` and its like tell.

use std::collections::HashMap;

use serde::Deserialize;

use super::oci::Spec;
use super::{MAX_BYTES, MAX_ONE, kept};
use crate::lookup::tree::Tree;
use crate::recording::record::{ContainerState, Text};

/// `container.Container` of moby, what is needed of it.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Container {
    name: String,
    /// Id of the image.
    image: String,
    driver: String,
    config: Config,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Config {
    image: String,
    shell: Option<Vec<String>>,
    healthcheck: Option<Healthcheck>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Healthcheck {
    test: Option<Vec<String>>,
}

/// `DATA/image/DRIVER/repositories.json`: repository → reference → image id.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Repositories {
    repositories: HashMap<String, HashMap<String, String>>,
}

/// Most words of a healthcheck.
const MAX_WORDS: usize = 64;
/// Bytes of them all; of a program's arguments no more are recorded.
const MAX_WORDS_BYTES: usize = profiler_common::task::ARGV_LEN;

/// Where dockerd keeps its data unless it is told otherwise.
const DATA: &str = "/var/lib/docker";

/// The data folder of a dockerd with these arguments.
pub(super) fn data_of(argv: &[Text]) -> String {
    const FLAGS: [&[u8]; 4] = [b"--data-root", b"--graph", b"-g", b"-data-root"];
    let mut words = argv.iter();
    let told = words.find_map(|word| {
        let mut parts = word.splitn(2, |byte| *byte == b'=');
        parts.next().filter(|flag| FLAGS.contains(flag))?;
        Some(parts.next().map(<[u8]>::to_vec))
    });
    // Behind a `=`, or the next argument.
    let told = told.and_then(|inline| inline.or_else(|| words.next().cloned()));
    let told = told.and_then(|path| String::from_utf8(path).ok());
    told.filter(|path| path.starts_with('/'))
        .unwrap_or_else(|| DATA.to_owned())
}

/// Adds what docker's own file says; the bundle tells where it is.
pub(super) fn fill(state: &mut ContainerState, spec: &Spec, tree: &Tree) -> bool {
    let tail = format!("/containers/{}/", String::from_utf8_lossy(&state.id));
    spec.folder_before(&tail)
        .is_some_and(|data| fill_from(state, data, tree))
}

/// The same below a data folder.
pub(super) fn fill_from(state: &mut ContainerState, data: &str, tree: &Tree) -> bool {
    let Ok(id) = std::str::from_utf8(&state.id) else {
        return false;
    };
    let path = format!("{data}/containers/{id}/config.v2.json");
    let Some(container) = tree.json::<Container>(path.as_bytes(), MAX_ONE) else {
        return false;
    };
    let name = container.name.strip_prefix('/').unwrap_or(&container.name);
    if name.is_empty() {
        return false;
    }
    state.name = kept(name);
    state.image = kept(container.config.image.clone());
    state.engine = "docker".to_owned();
    state.healthcheck = test(&container.config);
    let driver = &container.driver;
    if !driver.is_empty() && driver.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let path = format!("{data}/image/{driver}/repositories.json");
        let repositories: Option<Repositories> = tree.json(path.as_bytes(), MAX_BYTES);
        state.digest = digest(&repositories.unwrap_or_default(), &container.image);
    }
    true
}

/// The healthcheck's arguments as dockerd runs them (moby `daemon/health.go`).
fn test(config: &Config) -> Vec<Text> {
    let test = config.healthcheck.as_ref().and_then(|check| check.test.as_deref());
    let words: Vec<String> = match test.unwrap_or_default() {
        [kind, words @ ..] if kind == "CMD" => words.to_vec(),
        [kind, line, ..] if kind == "CMD-SHELL" => {
            let shell = config.shell.clone().filter(|shell| !shell.is_empty());
            let mut words = shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
            words.push(line.clone());
            words
        }
        _ => Vec::new(),
    };
    if words.len() > MAX_WORDS || words.iter().map(String::len).sum::<usize>() > MAX_WORDS_BYTES {
        return Vec::new();
    }
    words.into_iter().map(String::into_bytes).collect()
}

/// Digest of the manifest that an image was pulled by, if it was.
fn digest(repositories: &Repositories, image: &str) -> Text {
    let references = repositories.repositories.values().flatten();
    let mut digests: Vec<&str> = references
        .filter(|(_, id)| !image.is_empty() && *id == image)
        .filter_map(|(reference, _)| Some(reference.split_once('@')?.1))
        .collect();
    digests.sort_unstable();
    digests.dedup();
    match digests[..] {
        [digest] => kept(digest),
        // Pulled by several, or by none.
        _ => Text::new(),
    }
}

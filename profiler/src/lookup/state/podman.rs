//! podman and buildah: containers/storage keeps lists of containers and images beside the containers' folders.
//!
//! `ROOT/DRIVER-containers/ID/userdata` is the bundle; `containers.json` beside `ID` lists containers, and
//! `ROOT/DRIVER-images/images.json` images (containers/storage `containers.go`, `images.go`). Containers of `run --rm`
//! stand in `volatile-containers.json` below the run root since podman 4.4.

use serde::Deserialize;

use super::oci::Spec;
use super::{MAX_BYTES, kept};
use crate::lookup::tree::Tree;
use crate::recording::record::ContainerState;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    names: Vec<String>,
    image: String,
    /// JSON in a string.
    metadata: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Metadata {
    name: String,
    image_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Image {
    digest: String,
    names: Vec<String>,
}

/// Adds what the storage's lists say; `spec` leads to the list below the run root.
pub(super) fn fill(state: &mut ContainerState, bundle: &[u8], spec: Option<&Spec>, tree: &Tree) -> bool {
    let Ok(id) = std::str::from_utf8(&state.id) else {
        return false;
    };
    let tail = format!("/{id}/userdata");
    let Some(folder) = bundle.strip_suffix(tail.as_bytes()) else {
        return false;
    };
    let list = match spec {
        None => [folder, b"/containers.json"].concat(),
        Some(spec) => match spec.folder_before(&tail) {
            Some(run_root) => [run_root.as_bytes(), b"/volatile-containers.json"].concat(),
            None => return false,
        },
    };
    let Some(container) = entry::<Container>(&list, id, tree) else {
        return false;
    };
    let metadata: Metadata = serde_json::from_str(&container.metadata).unwrap_or_default();
    let name = container.names.into_iter().next().unwrap_or(metadata.name);
    state.name = kept(name);
    state.image = kept(metadata.image_name);
    state.engine = "podman".to_owned();
    let images = folder.strip_suffix(b"-containers").filter(|_| is_hex(&container.image));
    if let Some(storage) = images
        && let Some(image) = entry::<Image>(&[storage, b"-images/images.json"].concat(), &container.image, tree)
    {
        state.digest = kept(image.digest);
        if state.image.is_empty() {
            state.image = kept(image.names.into_iter().next().unwrap_or_default());
        }
    }
    true
}

fn is_hex(id: &str) -> bool {
    !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The element of a list in a file whose first member is `"id":"ID"`, as Go's encoder writes it: the lists of a busy host
/// are long, and only one element is wanted.
fn entry<T: for<'a> Deserialize<'a>>(path: &[u8], id: &str, tree: &Tree) -> Option<T> {
    let bytes = tree.read(path, MAX_BYTES).ok()?;
    let text = std::str::from_utf8(&bytes).ok()?;
    let start = text.find(&format!("{{\"id\":\"{id}\""))?;
    let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<T>();
    values.next()?.ok()
}

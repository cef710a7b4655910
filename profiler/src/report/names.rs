//! What things are called in reports. All results are harmless text, but for [`program`].

use super::text;
use crate::model::layers::Layer;
use crate::model::{ContainerIx, Image, PhaseIx, PhaseKind, Session};

/// Bytes of an engine's long hexadecimal id that people know it by.
const SHORT_ID: usize = 12;

/// A program's name, as bytes: the base name of what it was started as; its comm when it inherited it or when it was
/// re-executed through `/proc` (`exe`, `fd/3`), which says nothing.
pub fn program(image: &Image) -> &[u8] {
    let started = image
        .argv
        .first()
        .filter(|_| image.exec)
        .map(|first| text::base_name(first));
    match started {
        Some(name) if !name.is_empty() && name != b"exe" && !name.iter().all(u8::is_ascii_digit) => name,
        _ if !image.comm.is_empty() => &image.comm,
        _ if !image.filename.is_empty() => text::base_name(&image.filename),
        _ => b"[no name]",
    }
}

/// `step 3/5 RUN make`, `run`, `mark NAME`.
pub fn phase(session: &Session, ix: PhaseIx) -> String {
    let Some(phase) = session.phases.get(ix.ix()) else {
        return "unknown phase".to_owned();
    };
    match phase.kind {
        PhaseKind::User => text::visible(&phase.label),
        kind if phase.label.is_empty() => kind.name().to_owned(),
        kind => format!("{} {}", kind.name(), text::visible(&phase.label)),
    }
}

/// A container's name, or its id, shortened as its engine does.
pub fn container(session: &Session, ix: ContainerIx) -> String {
    let Some(container) = session.containers.get(ix.ix()) else {
        return "unknown container".to_owned();
    };
    if !container.name.is_empty() {
        return text::visible(&container.name);
    }
    text::visible(short_id(&container.id))
}

/// A layer as its engine calls it, shortened; one that is no engine's by its directory's name.
pub fn layer(layer: &Layer) -> String {
    /// Columns of it at most.
    const LAYER: usize = 24;
    if !layer.id.is_empty() {
        let (id, init) = match layer.id.strip_suffix(b"-init") {
            Some(id) => (id, "-init"),
            None => (&layer.id[..], ""),
        };
        let kind = if layer.engine == "containerd" { "snapshot " } else { "" };
        return text::fit(&format!("{kind}{}{init}", text::visible(short_id(id))), LAYER);
    }
    let name = layer.path.rsplit(|byte| *byte == b'/').find(|part| !part.is_empty());
    text::fit(&text::visible(name.unwrap_or(b"/")), LAYER)
}

/// The first [`SHORT_ID`] bytes of a 64-digit hexadecimal id; any other id whole.
pub fn short_id(id: &[u8]) -> &[u8] {
    if id.len() == 64 && id.iter().all(u8::is_ascii_hexdigit) {
        &id[..SHORT_ID]
    } else {
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(exec: bool, comm: &str, argv0: &str) -> Image {
        Image {
            exec,
            comm: comm.into(),
            argv: vec![argv0.into()],
            ..Image::default()
        }
    }

    /// Make sure that a program is called by what it was started as, unless that says nothing.
    #[test]
    fn programs() {
        assert_eq!(program(&image(true, "cc1", "/usr/lib/gcc/cc1")), b"cc1");
        assert_eq!(program(&image(true, "exe", "storage-untar")), b"storage-untar");
        assert_eq!(
            program(&image(true, "runc:[2:INIT]", "/proc/self/exe")),
            b"runc:[2:INIT]"
        );
        assert_eq!(program(&image(true, "crun", "/dev/fd/3")), b"crun");
        assert_eq!(program(&image(false, "make", "never")), b"make");
        assert_eq!(program(&image(true, "sh", "")), b"sh");
        assert_eq!(program(&Image::default()), b"[no name]");
    }

    /// Make sure that only the engines' hexadecimal ids are shortened.
    #[test]
    fn ids() {
        assert_eq!(short_id(&[b'a'; 64]), [b'a'; 12]);
        assert_eq!(short_id(b"buildah-buildah1234567890"), b"buildah-buildah1234567890");
        assert_eq!(short_id(&[b'z'; 64]), [b'z'; 64]);
    }

    /// Make sure that a layer is called as its engine calls it, and another one by its place, harmless and bounded.
    #[test]
    fn layers() {
        let layer = |engine: &str, id: &str, path: &str| {
            super::layer(&Layer {
                engine: engine.into(),
                id: id.into(),
                path: path.into(),
                ..Layer::default()
            })
        };
        let id = "ab".repeat(32);
        assert_eq!(layer("docker", &id, "/x"), "abababababab");
        assert_eq!(layer("docker", &format!("{id}-init"), "/x"), "abababababab-init");
        assert_eq!(layer("containerd", "12", "/x"), "snapshot 12");
        assert_eq!(layer("", "", "/srv/lower1/"), "lower1");
        assert_eq!(layer("", "", "/"), "/");
        let long = layer("", "", &format!("/srv/\x1b[31m{}", "x".repeat(2_000)));
        assert_eq!(text::width(&long), 24);
        assert!(!long.contains('\x1b'));
    }
}

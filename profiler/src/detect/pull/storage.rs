//! podman, buildah, skopeo and CRI-O: layers are unpacked by children called `storage-untar`, whose last argument is the
//! layer's folder, `ROOT/overlay/ID/diff`.

use super::{Pull, Store, Unpack, is_image_file};
use crate::detect::context::{Context, Exec};
use crate::detect::operation::Requests;
use crate::model::{ProcessIx, Span};
use crate::recording::record::Text;

const ENGINE: &str = "containers/storage";

/// Adds what was unpacked to the pulls, and when their images were there.
pub(super) fn complete(context: &Context<'_>, store: &Store<'_>, requests: &Requests, pulls: &mut [Pull]) {
    for exec in &context.execs {
        let Some((layer, unpack)) = untar(context, *exec, b"storage-untar") else {
            continue;
        };
        let Some(parent) = context.process(exec.process).parent else {
            continue;
        };
        let Some(index) = owner(context, store, pulls, parent, &layer, exec.ts) else {
            continue;
        };
        let pull = &mut pulls[index];
        let blob = store.blobs_of(&layer).find(|blob| pull.has_blob(blob)).cloned();
        let facts = store.of_folder(&layer);
        let bytes = facts.iter().find_map(|layer| layer.diff_bytes).or(unpack.bytes);
        pull.unpacks.push(Unpack {
            blob: blob.unwrap_or_default(),
            bytes,
            ..unpack
        });
    }
    for index in 0..pulls.len() {
        let others = pulls.iter().enumerate().filter(|(other, _)| *other != index);
        let same = others.filter(|(_, other)| other.process == pulls[index].process);
        let next = same
            .map(|(_, other)| other.from())
            .filter(|from| *from > pulls[index].from());
        let until = next.min().unwrap_or(u64::MAX);
        commit(context, &mut pulls[index], until);
        name(context, requests, &mut pulls[index]);
    }
}

/// A layer's folder and its unpacking, if the exec is of a child that unpacks one.
pub(super) fn untar(context: &Context<'_>, exec: Exec, program: &[u8]) -> Option<(Text, Unpack)> {
    let image = context.image(exec);
    if image.argv.first()? != program {
        return None;
    }
    let mut parts = image.argv.last()?.rsplit(|byte| *byte == b'/');
    let (last, layer) = (parts.next()?, parts.next()?);
    if last != b"diff" || layer.is_empty() {
        return None;
    }
    let process = context.process(exec.process);
    let unpack = Unpack {
        span: Span {
            from: exec.ts,
            to: process.span.to.max(exec.ts),
        },
        open: process.open,
        layer: layer.to_vec(),
        blob: Text::new(),
        // All that it reads but some settings is the archive.
        bytes: process.io.map(|io| io.read),
        main: context.leader(exec.process),
        processes: context.tree(exec.process),
        evidence: (
            format!("exec of {} (pid {})", String::from_utf8_lossy(program), process.tgid),
            format!("exit of pid {}", process.tgid),
        ),
    };
    Some((layer.to_vec(), unpack))
}

/// The pull whose blob the layer came as. Without state files, the only pull that the process was at.
pub(super) fn owner(
    context: &Context<'_>,
    store: &Store<'_>,
    pulls: &[Pull],
    process: ProcessIx,
    layer: &[u8],
    ts: u64,
) -> Option<usize> {
    let own = || {
        let own = pulls.iter().enumerate().filter(|(_, pull)| pull.process == process);
        own.filter(|(_, pull)| pull.from() <= ts)
    };
    let mut blobs = store.blobs_of(layer).peekable();
    if blobs.peek().is_some() {
        let has = |pull: &Pull, blob: &Text| pull.has_blob(blob);
        // A layer that is unpacked twice came for the later.
        return blobs.find_map(|blob| own().rev().find(|(_, pull)| has(pull, blob)).map(|(index, _)| index));
    }
    let mut candidates = own().filter(|(_, pull)| !super::placed(context, pull, ts));
    match (candidates.next(), candidates.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}

/// The image is there with the last change of `images.json` before the process goes on to something else: mounts a
/// container's layer, or pulls the next image.
fn commit(context: &Context<'_>, pull: &mut Pull, until: u64) {
    let tgid = context.process(pull.process).tgid;
    let moved = pull.moved();
    let mounted = context
        .mounts_by(pull.process)
        .find(|mount| mount.span.from >= moved && mount.is_overlay() && mount.target.ends_with(b"/merged"));
    let until = mounted.map_or(until, |mount| mount.span.from.min(until));
    let last = context
        .calls_between(moved, until)
        .iter()
        .rev()
        .find(|call| call.at.task.tgid == tgid && call.result == 0 && is_image_file(&call.b));
    if let Some(call) = last.filter(|call| call.b.ends_with(b"-images/images.json")) {
        pull.committed = Some((call.at.ts, "last change of images.json"));
    }
}

/// The image's name and digest: from the state files by its layers, else from the command line and the requests.
fn name(context: &Context<'_>, requests: &Requests, pull: &mut Pull) {
    let command = pull
        .operation
        .and_then(|operation| requests[operation.ix()].command.as_ref());
    let words: Vec<&Text> = command.map_or(Vec::new(), |command| command.args.iter().collect());
    let repository = pull.repository().to_vec();
    let stored = context.session.images.iter().filter(|image| image.engine == ENGINE);
    let mut found = stored.filter(|image| {
        let fetched = pull.fetches.iter().any(|fetch| fetch.is_blob(&image.id));
        let top = image.layers.first();
        fetched || top.is_some_and(|top| pull.unpacks.iter().any(|unpack| unpack.layer == *top))
    });
    // The last is told after its names were set.
    if let Some(image) = found.next_back() {
        pull.digest.clone_from(&image.digest);
        let named = |name: &&Text| words.iter().any(|word| ends_with(name, word));
        let name = image.names.iter().find(named).or_else(|| {
            let mut of = image.names.iter().filter(|name| holds(name, &repository));
            of.next()
        });
        if let Some(name) = name {
            pull.reference.clone_from(name);
        }
    }
    if pull.reference.is_empty() {
        let word = words
            .iter()
            .find(|word| holds(word, &repository))
            .filter(|_| !repository.is_empty());
        pull.reference = word.map_or_else(|| super::fetch_name(pull), |word| (*word).clone());
    }
}

/// Whether a full name ends with what was typed (`docker.io/library/debian:13`, `debian:13`), or that without its tag.
fn ends_with(name: &[u8], word: &[u8]) -> bool {
    let word = word.strip_prefix(b"docker://").unwrap_or(word);
    let untagged = match name.iter().rposition(|byte| *byte == b':') {
        Some(at) if !name[at..].contains(&b'/') => &name[..at],
        _ => name,
    };
    !word.is_empty() && (name.ends_with(word) || untagged.ends_with(word))
}

/// Whether a name is one of that repository.
pub(super) fn holds(name: &[u8], repository: &[u8]) -> bool {
    let name = name.strip_prefix(b"docker://").unwrap_or(name);
    let end = name.iter().position(|byte| *byte == b'@').unwrap_or(name.len());
    let name = &name[..end];
    let untagged = match name.iter().rposition(|byte| *byte == b':') {
        Some(at) if !name[at..].contains(&b'/') => &name[..at],
        _ => name,
    };
    // Docker Hub's own images have `library/` before their name.
    let short = repository.strip_prefix(b"library/").unwrap_or(repository);
    [repository, short].iter().any(|repository| {
        untagged == *repository
            || (untagged.ends_with(repository) && untagged[..untagged.len() - repository.len()].ends_with(b"/"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that names and repositories meet, with and without registry, tag and digest.
    #[test]
    fn names() {
        for name in [
            "r:5000/app",
            "r:5000/app:1",
            "app",
            "docker://r/app:1",
            "app@sha256:00",
            "x/app:1@sha256:00",
        ] {
            assert!(holds(name.as_bytes(), b"app"), "{name}");
        }
        assert!(holds(b"debian:13", b"library/debian"));
        assert!(!holds(b"r:5000/wrapp", b"app"));
        assert!(!holds(b"app/x", b"app"));
        assert!(ends_with(b"docker.io/library/debian:13", b"debian"));
        assert!(!ends_with(b"docker.io/library/debian:13", b""));
    }
}

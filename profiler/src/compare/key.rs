//! What a phase is called in every run: the operation's verb, the container's place in it or the name that it was given
//! on the command line, then the kinds of phase from the outermost to its own, a build's step with its instruction.
//! Ids, pids and names that an engine made up are new with every run and say nothing.
//!
//! `podman build > step 2/3 RUN make > run`, `podman run web > create > network`

use std::collections::HashMap;

use crate::model::{ContainerIx, Operation, Phase, PhaseKind, Session};
use crate::report::text;

/// Between a key's parts.
pub const PART: &str = " > ";

/// Columns of one part.
const WIDEST: usize = 80;

/// Of a layer's digest, what people and engines tell it by: `sha256:` and twelve digits.
const DIGEST: usize = "sha256:".len() + 12;

/// Every phase's key, in the session's order; harmless text. No two are the same, unless `copies` says that the command
/// was started several times at once: then the same phases of its copies have the same key.
pub fn phases(session: &Session, copies: bool) -> Vec<String> {
    let roots = Roots::new(session, copies);
    let mut keys: Vec<String> = Vec::with_capacity(session.phases.len());
    let mut seen: HashMap<String, u32> = HashMap::new();
    for (index, phase) in session.phases.iter().enumerate() {
        // A parent comes before its children.
        let above = match phase.parent.filter(|parent| parent.ix() < index) {
            Some(parent) => keys[parent.ix()].clone(),
            None => roots.of(phase),
        };
        let mut key = if above.is_empty() {
            part(phase)
        } else {
            format!("{above}{PART}{}", part(phase))
        };
        if !copies {
            number(&mut seen, &mut key);
        }
        keys.push(key);
    }
    keys
}

/// Tells the second of a name from the first, the third from the second.
fn number(seen: &mut HashMap<String, u32>, name: &mut String) {
    let count = seen.entry(name.clone()).or_default();
    *count += 1;
    if *count > 1 {
        name.push_str(&format!(" #{count}"));
    }
}

/// A phase's own part: `create`, `step 2/3 RUN make`, `unpack sha256:0123456789ab`.
fn part(phase: &Phase) -> String {
    let label = match phase.kind {
        PhaseKind::Step | PhaseKind::User => &phase.label[..],
        // The digest is another one when the same image is built again.
        PhaseKind::Pull => match phase.label.iter().position(|byte| *byte == b'@') {
            Some(at) if at > 0 => &phase.label[..at],
            _ => &phase.label[..],
        },
        PhaseKind::Download | PhaseKind::Unpack => &phase.label[..phase.label.len().min(DIGEST)],
        // Details of this one run: how long a flush took, who waited.
        _ => b"",
    };
    let label = text::visible(label).replace(PART, " ");
    let words = match phase.kind {
        PhaseKind::User => label,
        kind if label.is_empty() => kind.name().to_owned(),
        kind => format!("{} {label}", kind.name()),
    };
    text::fit(&words, WIDEST)
}

/// Where keys begin.
struct Roots {
    operations: Vec<String>,
    containers: Vec<String>,
}

impl Roots {
    fn new(session: &Session, copies: bool) -> Roots {
        let mut seen = HashMap::new();
        let mut named = |session: &Session, operation: &Operation, container: Option<ContainerIx>| {
            let mut name = text::fit(&text::visible(operation.name.as_bytes()), WIDEST);
            if let Some(given) = container.and_then(|container| given_name(session, operation, container)) {
                name.push(' ');
                name.push_str(&given);
            }
            if !copies {
                number(&mut seen, &mut name);
            }
            name
        };
        let mut first = vec![None; session.operations.len()];
        for (index, container) in session.containers.iter().enumerate() {
            if let Some(first) = container.operation.and_then(|ix| first.get_mut(ix.ix())) {
                let index = ContainerIx(u32::try_from(index).unwrap_or(u32::MAX));
                first.get_or_insert(index);
            }
        }
        let operations: Vec<String> = session
            .operations
            .iter()
            .zip(&first)
            .map(|(operation, first)| named(session, operation, *first))
            .collect();
        let mut places: HashMap<String, u32> = HashMap::new();
        let containers = session.containers.iter().map(|container| {
            let mut name = match container.operation.and_then(|ix| operations.get(ix.ix())) {
                Some(operation) => operation.clone(),
                None if container.engine.is_empty() => text::visible(container.runtime.as_bytes()),
                None => text::visible(container.engine.as_bytes()),
            };
            let place = places.entry(name.clone()).or_default();
            *place += 1;
            if *place > 1 && !copies {
                name.push_str(&format!(" container {place}"));
            }
            name
        });
        let containers = containers.collect();
        Roots { operations, containers }
    }

    fn of(&self, phase: &Phase) -> String {
        let container = phase.container.and_then(|ix| self.containers.get(ix.ix()));
        let operation = phase.operation.and_then(|ix| self.operations.get(ix.ix()));
        container.or(operation).cloned().unwrap_or_default()
    }
}

/// A container's name, if whoever asked for it gave it: it stands on the client's command line.
fn given_name(session: &Session, operation: &Operation, container: ContainerIx) -> Option<String> {
    let name = &session.containers.get(container.ix())?.name;
    let client = session.processes.get(operation.process.ix())?;
    let stands = |word: &[u8]| {
        word == &name[..]
            || word
                .strip_suffix(&name[..])
                .is_some_and(|before| before.ends_with(b"="))
    };
    let given = client
        .images
        .iter()
        .any(|image| image.argv.iter().any(|word| stands(word)));
    (given && !name.is_empty()).then(|| text::fit(&text::visible(name), WIDEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that keys are the same whatever the container's id is and however long a flush took, that no two are
    /// alike, and that what makes a step another step makes another key.
    #[test]
    fn stable() {
        let old = fixture::session();
        let mut new = fixture::session();
        new.containers[0].id = b"other".to_vec();
        new.phases[5].label = b"flush: pid 4711 waited 3 ms".to_vec();
        let keys = phases(&old, false);
        assert_eq!(keys, phases(&new, false));
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len(), "{keys:?}");
        assert!(keys[1].starts_with("podman build > step 2/2 RUN make"), "{keys:?}");
        new.phases[1].label = b"2/2 RUN make -j4".to_vec();
        let changed = phases(&new, false);
        assert_eq!(keys[0], changed[0]);
        assert_ne!(keys[1], changed[1]);
    }

    /// Make sure that a pull is called by the image's name, however often that was built, and a layer by as much of its digest
    /// as there is room for.
    #[test]
    fn digests() {
        let part = |kind, label: &str| {
            let mut phase = fixture::session().phases[0].clone();
            phase.kind = kind;
            phase.label = label.as_bytes().to_vec();
            super::part(&phase)
        };
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(
            part(PhaseKind::Pull, &format!("r:5000/db:1@{digest}")),
            "pull r:5000/db:1"
        );
        assert_eq!(part(PhaseKind::Pull, "r:5000/db:1"), "pull r:5000/db:1");
        assert_eq!(part(PhaseKind::Unpack, &digest), "unpack sha256:0123456789ab");
        assert_eq!(part(PhaseKind::Download, "?"), "download ?");
    }

    /// Make sure that a second operation of the same name is told apart, and that copies are not.
    #[test]
    fn second_operation() {
        let mut session = fixture::session();
        session.operations.push(session.operations[0].clone());
        let mut phase = session.phases[0].clone();
        phase.operation = Some(crate::model::OperationIx(1));
        phase.container = None;
        session.phases.push(phase);
        let keys = phases(&session, false);
        assert!(keys.last().unwrap().starts_with("podman build #2 > "), "{keys:?}");
        let keys = phases(&session, true);
        assert_eq!(keys.last(), keys.first());
    }

    /// Make sure that nothing a container is called gets through as it is.
    #[test]
    fn hostile_names() {
        let mut session = fixture::session();
        session.phases[1].label = fixture::HOSTILE.as_bytes().to_vec();
        for key in phases(&session, false) {
            assert!(!key.contains('\x1b') && !key.contains('\u{202e}'), "{key}");
        }
    }
}

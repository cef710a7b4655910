//! Which phase of an earlier recording is which of this one: the same kind below the same kinds, of the same operation,
//! the first of these the first. Containers' names and ids are new with every run, so they say nothing; what a step, a
//! layer or a phase of the user's own is called does.

use std::collections::HashMap;

use crate::model::{Phase, PhaseKind, Session};

/// For each phase of `old` its number in `new`.
pub(super) fn phases(old: &Session, new: &Session) -> Vec<Option<u32>> {
    pair(phase_keys(old), phase_keys(new))
}

/// For each operation of `old` its number in `new`: by name and order.
pub(super) fn operations(old: &Session, new: &Session) -> Vec<Option<u32>> {
    let keys = |session: &Session| -> Vec<Vec<u8>> {
        let operations = session.operations.iter();
        operations
            .map(|operation| operation.name.clone().into_bytes())
            .collect()
    };
    pair(keys(old), keys(new))
}

/// Pairs what has the same key, the n-th with the n-th.
fn pair(old: Vec<Vec<u8>>, new: Vec<Vec<u8>>) -> Vec<Option<u32>> {
    let mut places: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
    for (number, key) in new.into_iter().enumerate() {
        places.entry(key).or_default().push(number as u32);
    }
    let mut used: HashMap<Vec<u8>, usize> = HashMap::new();
    old.into_iter()
        .map(|key| {
            let place = places.get(&key)?;
            let next = used.entry(key).or_default();
            *next += 1;
            place.get(*next - 1).copied()
        })
        .collect()
}

fn phase_keys(session: &Session) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = Vec::with_capacity(session.phases.len());
    for (index, phase) in session.phases.iter().enumerate() {
        let operation = phase.operation.and_then(|ix| session.operations.get(ix.ix()));
        let mut key = match phase.parent.filter(|parent| parent.ix() < index) {
            Some(parent) => keys[parent.ix()].clone(),
            None => operation
                .map(|operation| operation.name.clone().into_bytes())
                .unwrap_or_default(),
        };
        key.push(0);
        key.extend_from_slice(phase.kind.name().as_bytes());
        key.push(b' ');
        key.extend_from_slice(label(phase));
        keys.push(key);
    }
    keys
}

/// A label that is the same from run to run.
fn label(phase: &Phase) -> &[u8] {
    match phase.kind {
        PhaseKind::Step | PhaseKind::User | PhaseKind::Pull | PhaseKind::Download | PhaseKind::Unpack => &phase.label,
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    /// Make sure that a recording's phases are those of the same recording, whatever its container is called and
    /// however long its flush took, and that one that is gone or new has no partner.
    #[test]
    fn same_phases() {
        let old = fixture::session();
        let mut new = fixture::session();
        new.containers[0].id = b"other".to_vec();
        new.phases[5].label = b"flush: pid 4711 waited 3 ms".to_vec();
        let all: Vec<Option<u32>> = (0..old.phases.len() as u32).map(Some).collect();
        assert_eq!(phases(&old, &new), all);
        assert_eq!(operations(&old, &new), [Some(0)]);
        new.phases[1].label = b"2/2 RUN make -j4".to_vec();
        assert_eq!(phases(&old, &new)[1..], [None; 5]);
        let twice = vec![b"a".to_vec(), b"a".to_vec(), b"b".to_vec()];
        assert_eq!(
            pair(twice, vec![b"b".to_vec(), b"a".to_vec()]),
            [Some(1), None, Some(0)]
        );
    }
}

//! The order and depth in which the phases of an operation are shown.

use super::Sort;
use crate::attribute::resources::PhaseResources;
use crate::model::{ContainerIx, PhaseIx, Session};

/// One lane: a phase, or the container that the phases below it belong to.
pub(super) struct Row {
    pub(super) depth: usize,
    pub(super) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Container(ContainerIx),
    Phase(PhaseIx),
}

/// The phases of one operation, in the order and depth in which they are shown.
pub(super) struct Tree<'a> {
    pub(super) session: &'a Session,
    pub(super) figures: &'a [PhaseResources],
    pub(super) sort: Sort,
    pub(super) phases: Vec<PhaseIx>,
}

impl Tree<'_> {
    /// Adds the phases below `parent`, those of one container together below its name.
    pub(super) fn rows(
        &self,
        parent: Option<PhaseIx>,
        container: Option<ContainerIx>,
        depth: usize,
        rows: &mut Vec<Row>,
    ) {
        let children: Vec<PhaseIx> = self
            .phases
            .iter()
            .copied()
            .filter(|ix| self.parent(*ix) == parent)
            .collect();
        let mut nodes: Vec<(What, Vec<PhaseIx>)> = Vec::new();
        for child in children {
            let own = self.session.phases[child.ix()].container;
            let what = match own {
                Some(own) if Some(own) != container => What::Container(own),
                _ => What::Phase(child),
            };
            match nodes.iter_mut().find(|(known, _)| *known == what) {
                Some((_, members)) => members.push(child),
                None => nodes.push((what, vec![child])),
            }
        }
        nodes.sort_by_key(|(_, members)| self.key(members));
        for (what, mut members) in nodes {
            rows.push(Row { depth, what });
            match what {
                What::Phase(phase) => self.rows(Some(phase), container, depth + 1, rows),
                What::Container(own) => {
                    members.sort_by_key(|member| self.key(&[*member]));
                    for member in members {
                        let what = What::Phase(member);
                        rows.push(Row { depth: depth + 1, what });
                        self.rows(Some(member), Some(own), depth + 2, rows);
                    }
                }
            }
        }
    }

    /// The nearest phase above that is shown as well.
    fn parent(&self, ix: PhaseIx) -> Option<PhaseIx> {
        let mut above = self.session.phases[ix.ix()].parent;
        // The bound keeps a broken tree (a phase above itself) from going round for ever.
        for _ in 0..self.session.phases.len() {
            match above {
                Some(parent) if !self.phases.contains(&parent) => {
                    above = self.session.phases.get(parent.ix()).and_then(|phase| phase.parent);
                }
                _ => return above,
            }
        }
        None
    }

    fn key(&self, members: &[PhaseIx]) -> (u64, u32) {
        let of = |ix: &PhaseIx| match self.sort {
            Sort::Start => self.session.phases[ix.ix()].span.from,
            Sort::Wall => u64::MAX - self.session.phases[ix.ix()].span.len(),
            Sort::Cpu => u64::MAX - self.figures[ix.ix()].all.cpu,
        };
        let first = members.first().map_or(0, |ix| ix.0);
        (members.iter().map(of).min().unwrap_or(0), first)
    }
}

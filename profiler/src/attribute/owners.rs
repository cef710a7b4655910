//! For whom a process works at a moment: the phase, its container, its operation.

use crate::model::{ContainerIx, OperationIx, PhaseIx, ProcessIx, Session, Span, ThreadIx};

/// The phases of every process.
#[derive(Debug)]
pub struct Owners<'a> {
    session: &'a Session,
    phases: Vec<Vec<PhaseIx>>,
    depths: Vec<u32>,
    operations: Vec<Option<OperationIx>>,
}

impl<'a> Owners<'a> {
    /// Looks at all phases once.
    pub fn new(session: &'a Session) -> Owners<'a> {
        let mut phases = vec![Vec::new(); session.processes.len()];
        let mut depths: Vec<u32> = Vec::with_capacity(session.phases.len());
        for (index, phase) in session.phases.iter().enumerate() {
            let ix = PhaseIx(index as u32);
            for process in &phase.processes {
                if let Some(phases) = phases.get_mut(process.ix())
                    && phases.last() != Some(&ix)
                {
                    phases.push(ix);
                }
            }
            // Parents come before their children.
            let above = phase.parent.filter(|parent| parent.ix() < index);
            depths.push(above.map_or(0, |parent| depths[parent.ix()] + 1));
        }
        let mut operations = vec![None; session.processes.len()];
        for (index, operation) in session.operations.iter().enumerate() {
            for process in &operation.processes {
                if let Some(known) = operations.get_mut(process.ix()) {
                    *known = Some(OperationIx(index as u32));
                }
            }
        }
        Owners {
            session,
            phases,
            depths,
            operations,
        }
    }

    /// All phases that a process works for at `ts`, in the session's order.
    pub fn phases(&self, process: ProcessIx, ts: u64) -> impl Iterator<Item = PhaseIx> + '_ {
        let phases = self.of(process).iter().copied();
        phases.filter(move |ix| self.session.phases[ix.ix()].span.contains(ts))
    }

    /// All phases that a process ever works for, in the session's order.
    fn of(&self, process: ProcessIx) -> &[PhaseIx] {
        self.phases.get(process.ix()).map_or(&[], Vec::as_slice)
    }

    /// Where phases of a process begin and end.
    pub fn edges(&self, process: ProcessIx) -> impl Iterator<Item = u64> + '_ {
        let spans = self.of(process).iter().map(|ix| self.session.phases[ix.ix()].span);
        spans.flat_map(|span| [span.from, span.to])
    }

    /// The deepest of a process's phases at `ts`; of equals the one that began last.
    pub fn phase(&self, process: ProcessIx, ts: u64) -> Option<PhaseIx> {
        self.phases(process, ts)
            .max_by_key(|ix| (self.depths[ix.ix()], self.session.phases[ix.ix()].span.from, ix.0))
    }

    /// The container that a thread works for at `ts`, by its process's phase or one above it; else the one whose cgroup
    /// it is in.
    pub fn container(&self, thread: Option<ThreadIx>, cgroup: u64, ts: u64) -> Option<ContainerIx> {
        let process = thread.and_then(|ix| Some(self.session.threads.get(ix.ix())?.process));
        self.container_of(process, cgroup, ts)
    }

    /// The same of a process.
    pub fn container_of(&self, process: Option<ProcessIx>, cgroup: u64, ts: u64) -> Option<ContainerIx> {
        let mut above = process.and_then(|process| self.phase(process, ts));
        for _ in 0..=self.session.phases.len() {
            let Some(phase) = above.and_then(|ix| self.session.phases.get(ix.ix())) else {
                break;
            };
            if phase.container.is_some() {
                return phase.container;
            }
            above = phase.parent;
        }
        let mut containers = self.session.containers.iter();
        let of_cgroup = containers
            .position(|one| cgroup != 0 && one.cgroup == cgroup && one.span.from <= ts && ts <= one.span.to)?;
        Some(ContainerIx(of_cgroup as u32))
    }

    /// The operation that a process belongs to, apart from phases.
    pub fn apart(&self, process: ProcessIx) -> Option<OperationIx> {
        self.operations.get(process.ix()).copied().flatten()
    }

    /// The operation that a process works for at `ts`.
    pub fn operation(&self, process: ProcessIx, ts: u64) -> Option<OperationIx> {
        let of_phase = self
            .phase(process, ts)
            .and_then(|ix| self.session.phases[ix.ix()].operation);
        of_phase.or_else(|| self.apart(process))
    }
}

/// A span cut at those of `edges` that lie in it: its parts, none empty.
pub fn cut(span: Span, edges: impl IntoIterator<Item = u64>) -> Vec<Span> {
    let inside = edges.into_iter().filter(|edge| span.from < *edge && *edge < span.to);
    let mut edges: Vec<u64> = inside.chain([span.from, span.to]).collect();
    edges.sort_unstable();
    edges.dedup();
    edges
        .windows(2)
        .map(|edge| Span {
            from: edge[0],
            to: edge[1],
        })
        .collect()
}

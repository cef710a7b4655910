//! Interim: states of a thread within a span, until attribution is merged.

use crate::attribute::resources::Resources;
use crate::model::{Session, Span, State, ThreadIx};

pub fn thread(session: &Session, ix: ThreadIx, span: Span) -> Resources {
    let mut all = Resources::default();
    for interval in &session.threads[ix.ix()].intervals {
        let part = interval.span.clip(span).len();
        match interval.state {
            State::Cpu => all.cpu += part,
            State::Runqueue => all.runqueue += part,
            State::Lost => all.lost += part,
            State::Blocked { iowait, stack, .. } => {
                *(if iowait { &mut all.disk } else { &mut all.child }) += part;
                if stack > 0 {
                    all.with_kernel_stack += part;
                }
            }
            State::Mixed { cpu, runqueue, .. } => {
                let of = |ns: u64| (u128::from(ns) * u128::from(part) / u128::from(interval.span.len().max(1))) as u64;
                let (cpu, runqueue) = (of(cpu), of(runqueue));
                all.cpu += cpu;
                all.runqueue += runqueue;
                all.other += part - cpu - runqueue;
                if part > 0 && part < interval.span.len() {
                    all.cut += part;
                }
            }
        }
    }
    all
}

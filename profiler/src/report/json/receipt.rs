//! The receipt: all of it stands elsewhere in the recording too.

use super::schema::{Commit, EngineVersion, Escaped, Fact, Receipt, Settings};
use crate::kernel::host;
use crate::model::Session;
use crate::report::figures::{self, Cost};
use crate::session;

pub(super) fn receipt(session: &Session) -> Receipt {
    let meta = &session.meta;
    let fact = |name: &str| {
        let found = meta.facts.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.clone())
    };
    let cost = Cost::of(session);
    let commit = fact(session::COMMIT).map(|id| Commit {
        id,
        folder: fact(session::CHECKOUT).unwrap_or_default(),
    });
    Receipt {
        began_real_ns: figures::real_time(&session.clocks, session.span.from),
        phasegraph: meta.version.clone(),
        commit_unknown: fact(session::NO_COMMIT).filter(|_| commit.is_none()),
        commit,
        command: Escaped::list(&meta.command),
        exit_status: session.closed.flatten(),
        cpu_model: meta.cpu_model.clone(),
        cpus: meta.cpus,
        cores: fact(host::CORES).and_then(|cores| cores.parse().ok()),
        kernel: meta.kernel.clone(),
        machine: meta.machine.clone(),
        memory_bytes: meta.memory_bytes,
        programs: session
            .versions
            .iter()
            .map(|(name, version, path)| EngineVersion {
                name: name.clone(),
                version: version.clone(),
                path: Escaped::new(path),
            })
            .collect(),
        notes: figures::notes(session)
            .map(|(name, value)| Fact {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect(),
        settings: Settings {
            sample_hz: meta.sample_hz,
            overhead_cap: fact("overhead cap"),
            redaction: fact("redaction").map(|redaction| redaction == "on"),
            user: meta.user.clone(),
            container: fact("container"),
        },
        lost: figures::losses(session)
            .iter()
            .filter(|loss| loss.is_loss)
            .fold(0, |sum, loss| sum.saturating_add(loss.count)),
        self_cpu_ns: cost.bpf_ns.map(|bpf| bpf.saturating_add(cost.process_ns)),
        host_cpu_ns: cost.host_ns,
        self_peak_memory_bytes: session.self_cost.peak_rss_bytes,
    }
}

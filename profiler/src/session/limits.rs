//! What a recording is less than it could be, in sentences for its reader: they stand in the recording as facts named
//! [`LIMIT`] and in every report.

use crate::kernel::{host, offsets::Resolved};
use crate::load::ladder::Outcome;

/// Name of the facts.
pub const LIMIT: &str = "limit";

/// Everything that this kernel and this host leave out.
pub(super) fn limits(resolved: &Resolved, ladder: &[Outcome]) -> Vec<(String, String)> {
    let mut limits = Vec::new();
    if !resolved.absent.is_empty() {
        limits.push(format!(
            "this kernel has no {}: not recorded are {}",
            resolved.absent.join(", "),
            resolved.lost.join("; ")
        ));
    }
    limits.extend(ladder.iter().filter_map(worse));
    limits.extend(host::cgroup_limit().map(str::to_owned));
    for limit in &limits {
        tracing::debug!("{limit}");
    }
    limits.into_iter().map(|limit| (LIMIT.to_owned(), limit)).collect()
}

/// What a signal's rung loses against a better one.
fn worse(outcome: &Outcome) -> Option<String> {
    let rung = outcome.rung?;
    let better = outcome.forced || !outcome.refused.is_empty();
    (better && !rung.lost().is_empty()).then(|| format!("{} by {rung}: {}", outcome.signal, rung.lost()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::registry::Rung;

    /// Make sure that a worse rung is told with what it loses, and the best one not at all.
    #[test]
    fn rungs() {
        let best = Outcome {
            signal: "mount_calls",
            gives: "",
            required: false,
            rung: Some(Rung::Fentry),
            detail: String::new(),
            refused: Vec::new(),
            forced: false,
        };
        assert_eq!(worse(&best), None);
        let second = Outcome {
            rung: Some(Rung::Classic),
            refused: vec![(Rung::Fentry, "no".to_owned())],
            ..best
        };
        let text = worse(&second).unwrap();
        assert!(text.starts_with("mount_calls by tracepoint: "), "{text}");
        assert!(text.contains(Rung::Classic.lost()), "{text}");
    }
}

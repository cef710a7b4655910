//! Why probes can't be had, and how a kernel's refusal is put in one line.

use aya::programs::ProgramError;

use super::registry::Rung;

/// Why the probes can't be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernel's types can't be read; {VMLINUX} is needed: {0}", VMLINUX = crate::kernel::offsets::VMLINUX_BTF)]
    Btf(#[from] aya::BtfError),
    #[error(
        "the kernel refuses phasegraph's maps and programs: {0}; root (or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN) is \
         needed, and a kernel that is not locked down to confidentiality (see /sys/kernel/security/lockdown)"
    )]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the eBPF object lacks `{0}`: it is not of this program; rebuild it with `cargo xtask ebpf`")]
    Missing(&'static str),
    #[error("the required probe `{probe}` ({gives}) can't be used on this kernel: {why}")]
    Required {
        probe: &'static str,
        gives: &'static str,
        why: String,
    },
    #[error("{signal}={rung} is forced and can't be had: {why}")]
    Forced {
        signal: &'static str,
        rung: Rung,
        why: String,
    },
    #[error("map `{map}`: {why}")]
    Map { map: &'static str, why: String },
    #[error("the task iterator `{program}` failed: {why}")]
    Iterator { program: &'static str, why: String },
}

/// An error with its causes in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // A transparent error repeats its source.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Why a program was refused, in one line: of the verifier's log the last line that gives a reason. The whole log is
/// written at level debug.
pub(super) fn refusal(error: &ProgramError) -> String {
    let ProgramError::LoadError { io_error, verifier_log } = error else {
        return chain(error);
    };
    let log = verifier_log.to_string();
    tracing::debug!("the verifier: {log}");
    match verdict(&log) {
        Some(verdict) => format!("{verdict} ({io_error})"),
        None => format!("the kernel answers {io_error}"),
    }
}

/// The last line of a verifier's log that is no statistics.
fn verdict(log: &str) -> Option<&str> {
    const LONGEST: usize = 200;
    const STATISTICS: [&str; 5] = [
        "processed ",
        "insns processed",
        "verification time",
        "stack depth",
        "peak_states",
    ];
    let line = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|start| line.starts_with(start)))?;
    Some(line.char_indices().nth(LONGEST).map_or(line, |(end, _)| &line[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that of a verifier's log the line with the reason is told.
    #[test]
    fn reason_of_a_refusal() {
        let log = "0: (bf) r6 = r1\n1: (85) call bpf_task_storage_get#156\nR2 type=scalar expected=ptr_\n\
                   processed 12 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(verdict(log), Some("R2 type=scalar expected=ptr_"));
        assert_eq!(verdict("processed 12 insns\n"), None);
        assert_eq!(verdict(""), None);
        assert_eq!(verdict(&"é".repeat(300)).unwrap().chars().count(), 200);
    }
}

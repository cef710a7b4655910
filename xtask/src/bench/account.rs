//! What a profiler says itself of a run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::configuration::Configuration;
use crate::exec;

/// A profiler's account of one run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Events or stacks that it says it has lost.
    pub(crate) lost: u64,
    /// The same by cause, where it tells.
    pub(crate) losses: Vec<(String, u64)>,
    /// Samples in its file, where it tells.
    pub(crate) samples: Option<u64>,
    /// Of phasegraph only.
    pub(crate) own: Option<Own>,
    pub(crate) coverage: Option<Coverage>,
    #[serde(default)]
    pub(crate) user_stacks: Option<UserStacks>,
}

/// The parts of `phasegraph show --json` that are used here.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Shown {
    #[serde(rename = "self")]
    own: Own,
    coverage: Coverage,
    #[serde(default)]
    user_stacks: Option<UserStacks>,
    losses: Vec<Loss>,
}

/// How many user stacks of CPU samples reach the outermost frame.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct UserStacks {
    pub(crate) samples: u64,
    pub(crate) whole: u64,
    pub(crate) short: Whole,
    pub(crate) programs: Vec<ProgramStacks>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Whole {
    pub(crate) samples: u64,
    pub(crate) whole: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProgramStacks {
    pub(crate) program: Text,
    #[serde(flatten)]
    pub(crate) count: Whole,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) text: String,
}

impl UserStacks {
    /// The programs of a build with gcc, pooled.
    pub(crate) fn compilers(&self) -> Whole {
        const COMPILERS: [&str; 5] = ["cc1", "as", "ld", "make", "sh"];
        let mut all = Whole::default();
        for program in &self.programs {
            if COMPILERS.contains(&program.program.text.as_str()) {
                all.samples += program.count.samples;
                all.whole += program.count.whole;
            }
        }
        all
    }
}

/// The profiler's own account of its cost.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) bpf_ns: Option<u64>,
    pub(crate) bpf_runs: u64,
    pub(crate) bpf_missed: u64,
    pub(crate) user_ns: u64,
    pub(crate) system_ns: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) startup_ns: u64,
    pub(crate) symbolize_ns: u64,
}

/// How much of the recording has stacks.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Coverage {
    pub(crate) samples: u64,
    pub(crate) samples_with_stack: u64,
    pub(crate) blocked_ns: u64,
    pub(crate) blocked_with_kernel_stack_ns: u64,
    pub(crate) blocked_with_user_stack_ns: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Loss {
    name: String,
    count: u64,
    is_loss: bool,
}

/// The account of the run that wrote `file` and `log`.
pub(crate) fn of(configuration: Configuration, phasegraph: &Path, file: &Path, log: &Path) -> anyhow::Result<Account> {
    Ok(match configuration {
        Configuration::Unprofiled => Account::default(),
        Configuration::Phasegraph | Configuration::FramePointers => {
            let json = exec::output(Command::new(phasegraph).args(["show", "--json"]).arg(file))?;
            phasegraph_account(&json)?
        }
        Configuration::PerfRecord | Configuration::PerfDwarf | Configuration::PerfSched => {
            let text = exec::output(Command::new("perf").args(["report", "--stats", "-i"]).arg(file))?;
            let (samples, lost) = perf_statistics(&text);
            Account {
                lost,
                samples,
                ..Account::default()
            }
        }
        Configuration::Bpftrace => {
            let text = fs::read(log).with_context(|| log.display().to_string())?;
            Account {
                lost: bpftrace_losses(&String::from_utf8_lossy(&text)),
                ..Account::default()
            }
        }
    })
}

fn phasegraph_account(json: &str) -> anyhow::Result<Account> {
    let shown: Shown = serde_json::from_str(json).context("`phasegraph show --json`")?;
    let losses: Vec<_> = shown
        .losses
        .into_iter()
        .filter(|loss| loss.is_loss && loss.count > 0)
        .map(|loss| (loss.name, loss.count))
        .collect();
    Ok(Account {
        lost: losses.iter().map(|(_, count)| count).sum(),
        losses,
        samples: Some(shown.coverage.samples),
        own: Some(shown.own),
        coverage: Some(shown.coverage),
        user_stacks: shown.user_stacks,
    })
}

/// Samples and lost events of `perf report --stats`.
fn perf_statistics(text: &str) -> (Option<u64>, u64) {
    // Below the totals the same names come again for each event.
    let totals = text
        .lines()
        .take_while(|line| !line.ends_with(" stats:") || line.starts_with("Aggregated"));
    let mut samples = None;
    let mut lost = 0;
    for line in totals {
        let Some((name, rest)) = line.trim().split_once(" events:") else {
            continue;
        };
        let count = rest
            .split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok());
        match name {
            "SAMPLE" => samples = count,
            "LOST" | "LOST_SAMPLES" => lost += count.unwrap_or(0),
            _ => {}
        }
    }
    (samples, lost)
}

/// Events and stacks that bpftrace says it has lost.
fn bpftrace_losses(text: &str) -> u64 {
    text.lines()
        .map(|line| {
            if line.contains("failed to look up stack id") {
                return 1;
            }
            let lost = line.strip_prefix("Lost ").and_then(|rest| rest.split(' ').next());
            lost.and_then(|count| count.parse::<u64>().ok()).unwrap_or(0)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that perf's samples and losses are read from the totals, once.
    #[test]
    fn perf() {
        let text = "\nAggregated stats:\n           TOTAL events:        552\n            MMAP events:          1  \
                    ( 0.2%)\n            LOST events:          2  ( 0.4%)\n          SAMPLE events:        198  \
                    (35.9%)\n    LOST_SAMPLES events:          3  ( 0.5%)\n  FINISHED_ROUND events:          2  ( \
                    0.4%)\ncpu-clock:ppp stats:\n          SAMPLE events:        198\n    LOST_SAMPLES events:         \
                    3\n";
        assert_eq!(perf_statistics(text), (Some(198), 5));
        assert_eq!(perf_statistics("Error:\nThe x.data data has no samples!\n"), (None, 0));
    }

    /// Make sure that bpftrace's lost events and failed stacks are added up, and nothing else.
    #[test]
    fn bpftrace() {
        let text = "ERROR: Unknown error -1: couldn't set RLIMIT_MEMLOCK for bpftrace.\nERROR: failed to look up stack \
                    id -17 (pid -1): -2\nLost 12 events\nERROR: failed to look up stack id -17 (pid -1): -2\nLost \
                    interest\n";
        assert_eq!(bpftrace_losses(text), 14);
    }

    /// Make sure that what is needed of `show --json` is found in it, whatever else it holds, and that what is counted but
    /// no loss is left out.
    #[test]
    fn shown() {
        let json = r#"{"schema":1,"name":"","coverage":{"samples":10,"samples_with_stack":9,"samples_with_user_stack":8,
            "samples_with_kernel_stack":2,"blocked_ns":1000,"blocked_with_kernel_stack_ns":960,
            "blocked_with_user_stack_ns":900},"losses":[{"name":"ring_cycle","count":3,"text":"…","is_loss":true},
            {"name":"no_wake","count":7,"text":"…","is_loss":false}],
            "self":{"bpf_ns":123,"bpf_runs":4,"bpf_missed":0,"user_ns":5,"system_ns":6,"host_cpu_ns":7,
            "peak_memory_bytes":8,"recording_bytes":9,"startup_ns":10,"symbolize_ns":11}}"#;
        let account = phasegraph_account(json).unwrap();
        assert_eq!(account.own.unwrap().bpf_ns, Some(123));
        assert_eq!(account.coverage.unwrap().blocked_with_kernel_stack_ns, 960);
        assert_eq!(account.losses, [("ring_cycle".to_owned(), 3)]);
        assert_eq!(account.lost, 3);
    }
}

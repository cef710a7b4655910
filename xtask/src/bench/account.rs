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

/// What a build with gcc spends its time in.
const COMPILERS: [&str; 5] = ["cc1", "as", "ld", "make", "sh"];

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
    /// User frames of all.
    #[serde(default)]
    pub(crate) frames: u64,
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
        Configuration::Phasegraph | Configuration::FramePointers | Configuration::FileCalls => {
            let json = exec::output(Command::new(phasegraph).args(["show", "--json"]).arg(file))?;
            phasegraph_account(&json)?
        }
        Configuration::PerfRecord | Configuration::PerfDwarf | Configuration::PerfSched => {
            let text = exec::output(Command::new("perf").args(["report", "--stats", "-i"]).arg(file))?;
            let (samples, lost) = perf_statistics(&text);
            let user_stacks = match configuration {
                Configuration::PerfSched => None,
                _ => {
                    let fields = ["script", "-F", "comm,ip,sym,dso", "--no-inline", "-i"];
                    Some(perf_stacks(&exec::output(Command::new("perf").args(fields).arg(file))?))
                }
            };
            Account {
                lost,
                samples,
                user_stacks,
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

/// Which of the stacks that `perf script` prints are whole, of the programs of a build with gcc: the last frame lies in the
/// dynamic linker (which starts each program), or in the program itself and was called by the C library. Samples without a
/// user frame, in an exec and at a task's end are no part of it, as with phasegraph.
fn perf_stacks(text: &str) -> UserStacks {
    let mut stacks = UserStacks::default();
    for sample in text.split("\n\n") {
        let mut lines = sample.trim_start_matches('\n').lines();
        let Some(comm) = lines.next().map(str::trim) else {
            continue;
        };
        let frames: Vec<&str> = lines.map(str::trim).collect();
        let (kernel, user): (Vec<&str>, Vec<&str>) =
            frames.into_iter().partition(|frame| frame.starts_with("ffffffff"));
        let without = |frame: &&str| {
            ["sys_execve", " do_exit ", " exit_mmap "]
                .iter()
                .any(|name| frame.contains(name))
        };
        if user.is_empty() || kernel.iter().any(without) {
            continue;
        }
        let in_file = |frame: &&str, name: &str| file_of(frame).is_some_and(|file| file.starts_with(name));
        let whole = match user.as_slice() {
            [.., last] if in_file(last, "ld-linux") => true,
            [.., caller, last] => in_file(caller, "libc.so") && !in_file(last, "libc.so") && file_of(last).is_some(),
            _ => false,
        };
        stacks.samples += 1;
        stacks.whole += u64::from(whole);
        stacks.frames += user.len() as u64;
        let of = |program: &&mut ProgramStacks| program.program.text == comm;
        if let Some(program) = stacks.programs.iter_mut().find(of) {
            program.count.samples += 1;
            program.count.whole += u64::from(whole);
        } else {
            stacks.programs.push(ProgramStacks {
                program: Text { text: comm.to_owned() },
                count: Whole {
                    samples: 1,
                    whole: u64::from(whole),
                },
            });
        }
    }
    stacks
}

/// Name of the file of a frame that `perf script` prints, `None` where it knows none.
fn file_of(frame: &str) -> Option<&str> {
    let (_, file) = frame.rsplit_once('(')?;
    let name = file.strip_suffix(')')?.rsplit('/').next()?;
    (!name.starts_with('[')).then_some(name)
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

    /// Make sure that perf's whole stacks are told from those that end early, and that samples in an exec and without a
    /// user frame are left out.
    #[test]
    fn perf_whole() {
        let text = "cc1 \n\t   10 fold (/usr/lib/gcc/12/cc1)\n\t   20 main (/usr/lib/gcc/12/cc1)\n\t   30 [unknown] \
                    (/usr/lib/libc.so.6)\n\t   40 _start (/usr/lib/gcc/12/cc1)\n\ncc1 \n\t   10 fold \
                    (/usr/lib/gcc/12/cc1)\n\t   7f9015b968a8 [unknown] ([unknown])\n\nsh \n\tffffffff821c7668 \
                    __x64_sys_execve ([kernel.kallsyms])\n\t   10 a (/lib/ld-linux-x86-64.so.2)\n\nsh \n\t   10 a \
                    (/lib/ld-linux-x86-64.so.2)\n\nsh \n\tffffffff821c7668 x ([kernel.kallsyms])\n\n";
        let stacks = perf_stacks(text);
        assert_eq!((stacks.samples, stacks.whole, stacks.frames), (3, 2, 7));
        assert_eq!((stacks.compilers().samples, stacks.compilers().whole), (3, 2));
        let programs: Vec<_> = stacks
            .programs
            .iter()
            .map(|program| program.program.text.as_str())
            .collect();
        assert_eq!(programs, ["cc1", "sh"]);
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

//! `cargo xtask vm bench`: what the programs do on another kernel, by the kernel's own statistics.
//!
//! An emulated CPU's times say nothing of a real one's, so none is printed: only counts, and each program's share and price
//! beside the others of the same recording.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;

use super::Options;
use super::build;
use super::cache::Cache;
use super::exchange::Item;
use super::{kernel, test};

/// Count the runs of each eBPF program in a machine, and compare their costs with each other
///
/// Counts are exact. Emulated times mean nothing by themselves: only shares and ratios within one recording are shown.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// 5.10, 6.1, 6.12, 7.2, a Debian suite, or all
    kernel: String,
    #[command(flatten)]
    options: Options,
    /// These rungs, as phasegraph's `--rung` takes them: `mount_calls=kprobe` for example
    #[arg(long, value_name = "SIGNAL=RUNG")]
    rung: Vec<String>,
}

/// A load whose number of steps is known.
struct Workload {
    name: &'static str,
    what: &'static str,
    /// Steps that `script` takes, which counts are divided by.
    steps: u32,
    script: &'static str,
}

const WORKLOADS: [Workload; 3] = [
    Workload {
        name: "switch",
        what: "a byte there and back between two shells",
        steps: 1_000,
        script: "mkfifo there back; sh -c 'while read -r x; do echo \"$x\"; done <there >back' & \
                 exec 3>there 4<back; i=0; while [ $i -lt 1000 ]; do echo x >&3; read -r x <&4; i=$((i+1)); done; \
                 exec 3>&-; wait",
    },
    Workload {
        name: "fork",
        what: "fork, exec and exit of /bin/true",
        steps: 300,
        script: "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done",
    },
    Workload {
        name: "mount",
        what: "a mount namespace with a tmpfs mounted and unmounted",
        steps: 100,
        script: "i=0; while [ $i -lt 100 ]; do unshare -m sh -c 'mount -t tmpfs none /mnt && umount /mnt'; i=$((i+1)); done",
    },
];

/// Program that the prices of the others are compared with: every recording has it.
const UNIT: &str = "sched_switch";

/// The part of `show --json` that is read here.
#[derive(Deserialize)]
struct Report {
    #[serde(rename = "self")]
    own: Own,
}

#[derive(Deserialize)]
struct Own {
    programs: Vec<Program>,
}

#[derive(Clone, Deserialize)]
struct Program {
    name: String,
    run_ns: u64,
    runs: u64,
}

/// Runs the subcommand.
pub(super) fn run(cache: &Cache, arguments: &Arguments) -> anyhow::Result<()> {
    let programs = build::programs(&[], None)?;
    let items: Vec<Item> = WORKLOADS
        .iter()
        .map(|workload| item(workload, &arguments.rung))
        .collect();
    for name in kernel::names(&arguments.kernel)? {
        let kernel = kernel::ready(cache, name)?;
        let folder = test::logs(name, "bench")?;
        let session = arguments.options.session(cache, &kernel, &programs);
        let left = session.run(&items, Duration::from_secs(arguments.options.deadline), &folder)?;
        left.ended?;
        println!("Linux {}, emulated: counts, shares and ratios only", kernel.release);
        for (workload, outcome) in WORKLOADS.iter().zip(&left.outcomes) {
            anyhow::ensure!(
                outcome.status == Some(0),
                "{name}: {} failed: {}",
                workload.name,
                outcome.log.display()
            );
            let path = outcome.files.join("report.json");
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let report: Report = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
            print!("\n{}", table(workload, report.own.programs));
        }
    }
    Ok(())
}

fn item(workload: &Workload, rungs: &[String]) -> Item {
    let rungs: String = rungs
        .iter()
        .map(|rung| format!(" --rung {}", super::exchange::quoted(rung)))
        .collect();
    let script = super::exchange::quoted(workload.script);
    Item {
        name: workload.name.to_owned(),
        script: format!(
            "cd /tmp\nphasegraph run --quiet --no-summary --max-overhead off{rungs} -o {name}.phg -- sh -e -c {script} &&\n\
             phasegraph show --json {name}.phg >\"$OUT/report.json\"\n",
            name = workload.name
        ),
    }
}

/// Programs that ran, the dearest first.
fn table(workload: &Workload, mut programs: Vec<Program>) -> String {
    programs.retain(|program| program.runs > 0);
    programs.sort_by(|a, b| (b.run_ns, &a.name).cmp(&(a.run_ns, &b.name)));
    let all: u64 = programs.iter().map(|program| program.run_ns).sum();
    let price = |program: &Program| program.run_ns as f64 / program.runs as f64;
    let unit = programs.iter().find(|program| program.name == UNIT).map(price);
    let mut text = format!("{}: {} times {}\n", workload.name, workload.steps, workload.what);
    let _ = writeln!(
        text,
        "  {:<24} {:>9} {:>9} {:>7} {:>14}",
        "program", "runs", "a step", "share", "price of a run"
    );
    for program in &programs {
        let times = unit
            .filter(|unit| *unit > 0.0)
            .map_or_else(|| "–".to_owned(), |unit| format!("{:.2} x", price(program) / unit));
        let _ = writeln!(
            text,
            "  {:<24} {:>9} {:>9.2} {:>5.1} % {times:>14}",
            program.name,
            program.runs,
            program.runs as f64 / f64::from(workload.steps),
            100.0 * program.run_ns as f64 / all.max(1) as f64,
        );
    }
    let _ = writeln!(text, "  price: mean run time, {UNIT}'s = 1");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that counts are exact, shares add up, prices are ratios, and no time is shown.
    #[test]
    fn counts_and_ratios() {
        let program = |name: &str, run_ns, runs| Program {
            name: name.to_owned(),
            run_ns,
            runs,
        };
        let programs = vec![
            program("sched_switch", 6_000_000, 2_000),
            program("idle", 0, 0),
            program("task_newtask", 2_000_000, 250),
        ];
        let text = table(&WORKLOADS[0], programs);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[2], ["sched_switch", "2000", "2.00", "75.0", "%", "1.00", "x"]);
        assert_eq!(lines[3], ["task_newtask", "250", "0.25", "25.0", "%", "2.67", "x"]);
        assert!(!text.contains("idle") && !text.contains(" ns"), "{text}");
    }
}

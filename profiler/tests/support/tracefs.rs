//! The kernel's own trace as a witness: an instance of tracefs of our own, on the clock that phasegraph stamps with.

use std::fs;
use std::path::{Path, PathBuf};

use super::host::Skip;

/// What is traced, and how its lines read.
const EVENTS: [&str; 2] = ["sched_process_exec", "sched_process_exit"];

/// An instance, removed when it is dropped.
pub(crate) struct Trace(PathBuf);

impl Trace {
    /// Starts tracing execs and exits.
    pub(crate) fn start() -> Result<Trace, Skip> {
        let roots = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"].map(Path::new);
        let root = roots.into_iter().find(|root| root.join("instances").is_dir());
        let root = root.ok_or_else(|| Skip("needs tracefs, mounted at /sys/kernel/tracing".to_owned()))?;
        let folder = root
            .join("instances")
            .join(format!("phasegraph-test-{}", std::process::id()));
        let refused = |error: std::io::Error| Skip(format!("no tracefs instance: {error}"));
        fs::create_dir(&folder).map_err(refused)?;
        let trace = Trace(folder);
        trace.set("trace_clock", "mono").map_err(refused)?;
        trace.set("buffer_size_kb", "4096").map_err(refused)?;
        for event in EVENTS {
            trace
                .set(&format!("events/sched/{event}/enable"), "1")
                .map_err(refused)?;
        }
        Ok(trace)
    }

    fn set(&self, file: &str, value: &str) -> std::io::Result<()> {
        fs::write(self.0.join(file), value)
    }

    /// Times of the execs of that file, and of the exits of that comm, by pid, ns to the microsecond.
    pub(crate) fn lives(&self, filename: &str, comm: &str) -> Vec<(u64, u64, u64)> {
        let text = fs::read_to_string(self.0.join("trace")).unwrap();
        let mut lives: Vec<(u64, u64, u64)> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((ts, rest)) = event(line, "sched_process_exec")
                && field(rest, "filename=") == Some(filename)
            {
                lives.push((number(rest), ts, 0));
            }
            if let Some((ts, rest)) = event(line, "sched_process_exit")
                && field(rest, "comm=") == Some(comm)
            {
                let pid = number(rest);
                if let Some(life) = lives.iter_mut().rev().find(|life| life.0 == pid) {
                    life.2 = ts;
                }
            }
        }
        lives
    }
}

/// Time and fields of a line of that event: `… 12.345678: sched_process_exec: filename=…`.
fn event<'a>(line: &'a str, name: &str) -> Option<(u64, &'a str)> {
    let (head, rest) = line.split_once(&format!(": {name}: "))?;
    let (seconds, micros) = head.rsplit(' ').next()?.split_once('.')?;
    let ns = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1_000;
    Some((ns, rest))
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    fields.split(' ').find_map(|field| field.strip_prefix(name))
}

fn number(fields: &str) -> u64 {
    field(fields, "pid=").unwrap().parse().unwrap()
}

impl Drop for Trace {
    fn drop(&mut self) {
        for event in EVENTS {
            let _ = self.set(&format!("events/sched/{event}/enable"), "0");
        }
        let _ = fs::remove_dir(&self.0);
    }
}

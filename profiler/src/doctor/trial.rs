//! The trial: everything is loaded and attached as for a recording, and let go again.

use std::path::Path;

use aya::Btf;

use super::{Check, Refused, Signal, Verdict};
use crate::{
    ingest::mappings::Mappings,
    kernel::{host, offsets},
    load::{LoadError, LoadOptions, Loaded, forced::Forced, ladder::Outcome, ring_bytes},
};

/// Whether a recording would begin, and how each signal is had.
pub(super) fn run() -> (Check, Vec<Signal>) {
    match attach() {
        Ok(loaded) => {
            let signals: Vec<Signal> = loaded.ladder.iter().map(signal).collect();
            let had = signals.iter().filter(|signal| signal.rung.is_some()).count();
            let check = Check::good("signals", format!("{had} of {} attached", signals.len()));
            let lacking: Vec<&str> = signals
                .iter()
                .filter(|signal| signal.rung.is_none())
                .map(|signal| signal.gives)
                .collect();
            let check = if lacking.is_empty() {
                check
            } else {
                check.but(Verdict::Less, format!("not to be had: {}", lacking.join("; ")))
            };
            (check, signals)
        }
        Err(why) => (
            Check::good("signals", "recording can't begin").but(Verdict::Bad, why),
            Vec::new(),
        ),
    }
}

fn attach() -> Result<Loaded, String> {
    let text = |error: LoadError| error.to_string();
    let cpus = host::online_cpus().map_err(|error| format!("the list of CPUs can't be read: {error}"))?;
    drop(Mappings::open(&cpus).map_err(|error| error.to_string())?);
    let resolved = offsets::resolve(Path::new(offsets::VMLINUX_BTF)).map_err(|error| error.to_string())?;
    let btf = Btf::from_sys_fs().map_err(|error| text(error.into()))?;
    let options = LoadOptions {
        sample_hz: 99,
        ring_bytes: ring_bytes(cpus.len()),
        cpus,
        forced: Forced::from_environment().map_err(|error| error.to_string())?,
        ..LoadOptions::default()
    };
    let mut loaded = Loaded::load(&btf, &resolved, &options).map_err(text)?;
    loaded.attach(&btf).map_err(text)?;
    loaded.start_clock(&options).map_err(text)?;
    loaded.detach();
    Ok(loaded)
}

fn signal(outcome: &Outcome) -> Signal {
    Signal {
        signal: outcome.signal,
        gives: outcome.gives,
        required: outcome.required,
        rung: outcome.rung.map(|rung| rung.name()),
        // What is lost counts against a better rung of the same signal only.
        lost: match outcome.rung {
            Some(rung) if !outcome.refused.is_empty() => rung.lost(),
            _ => "",
        },
        detail: outcome.detail.clone(),
        refused: outcome
            .refused
            .iter()
            .map(|(rung, why)| Refused {
                rung: rung.name(),
                why: why.clone(),
            })
            .collect(),
    }
}

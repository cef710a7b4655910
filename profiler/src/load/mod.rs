//! From the eBPF object to attached probes, and their ownership: dropping [`Loaded`] detaches everything.
//!
//! [`registry`] says what there is, [`ladder`] which of it this kernel grants; `attach` and `calls` attach it, `maps`
//! speaks with it.

mod ahead;
mod attach;
mod calls;
mod costs;
mod error;
pub mod forced;
mod functions;
pub mod ladder;
mod maps;
pub mod object;
mod overlay;
pub mod perf;
mod preempt;
pub mod registry;
mod shed;
pub mod tracefs;
pub mod unwind;

#[cfg(test)]
mod tests;

use std::{any::Any, os::fd::OwnedFd, path::PathBuf};

use aya::{Btf, Ebpf, EbpfLoader, Pod, VerifierLogLevel};
use profiler_common::{
    kernel::{Features, Offsets},
    net::Exchange,
};

pub use costs::ProgramCost;
pub use error::LoadError;
use forced::{Choice, Forced};
use ladder::Outcome;
use registry::{Attach, PROBES, Rung};

use crate::kernel::offsets::Resolved;

/// Wraps a type of the contract for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Global<T: Copy>(T);
// SAFETY: only used for `Offsets`, `Features` and `Exchange`: repr(C), integers, no implicit padding (their layout is asserted).
unsafe impl Pod for Global<Offsets> {}
// SAFETY: as above.
unsafe impl Pod for Global<Features> {}
// SAFETY: as above.
unsafe impl Pod for Global<Exchange> {}

/// What the caller chooses.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// CPU samples a second and CPU.
    pub sample_hz: u32,
    /// CPUs that are online.
    pub cpus: Vec<u32>,
    /// Ring size in bytes, a power of two.
    pub ring_bytes: u32,
    /// Rungs that are taken whatever else there is.
    pub forced: Forced,
    /// Where tracefs is looked for, instead of where it usually is.
    pub tracefs: Option<PathBuf>,
    /// Whether calls that read, write and sync files are counted and timed, which makes every system call of the host
    /// dearer.
    pub file_calls: bool,
}

/// Ring size: room for one drain interval of a storm. 2 CPUs × 250,000 events a second × 120 bytes × 50 ms is 3 MB;
/// each further pair of CPUs adds as much, up to 64 MB.
pub fn ring_bytes(cpus: usize) -> u32 {
    const PER_CPU: usize = 2 << 20;
    (cpus * PER_CPU).next_power_of_two().clamp(4 << 20, 64 << 20) as u32
}

/// One of so many equal parts of the ring is kept for events that tell of lives. Of the smallest ring that is 1 MB: some
/// 6,000 births, execs and ends in one drain interval.
const RING_PARTS: u32 = 4;

/// Loaded programs, their links and maps.
pub struct Loaded {
    ebpf: Ebpf,
    /// Of each CPU.
    clocks: Vec<(u32, perf::Event)>,
    /// What is attached, by signal; dropping it detaches.
    links: Vec<(&'static str, Box<dyn Any>)>,
    /// Programs that are loaded once for each of several functions, for their costs.
    functions: Vec<(String, OwnedFd)>,
    /// How each signal is had.
    pub ladder: Vec<Outcome>,
    forced: Forced,
    tracefs: Option<PathBuf>,
    /// Whether a process's mappings can be found in the kernel's memory.
    can_unwind: bool,
    /// As [`LoadOptions::file_calls`].
    file_calls: bool,
    /// Whether this kernel calls a tracepoint's programs with preemption on.
    preemptible: bool,
    /// Whether a hook on a function may be taken away while threads are in it.
    trampolines_wait: bool,
    /// Once they were looked for.
    overlay_texts: Option<Result<overlay::Texts, String>>,
    /// Keeps the kernel's run-time statistics of BPF programs on.
    _statistics: Option<OwnedFd>,
}

/// The object of one of the rungs of the per-task state. `log` is how much the verifier says of what it refuses.
fn load_object(
    btf: &Btf,
    resolved: &Resolved,
    options: &LoadOptions,
    state: Rung,
    log: VerifierLogLevel,
) -> Result<Ebpf, LoadError> {
    let offsets = Global(resolved.offsets);
    let mut features = resolved.features;
    if state == Rung::HashUntyped {
        features.task_stack = 0;
        features.task_pt_regs = 0;
    }
    features.ring_bulk_bytes = options.ring_bytes / RING_PARTS * (RING_PARTS - 1);
    let features = Global(features);
    let tgid = std::process::id();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .allow_unsupported_maps()
        .verifier_log_level(log)
        .override_global("OFFSETS", &offsets, true)
        .override_global("FEATURES", &features, true)
        .override_global("SELF_TGID", &tgid, true)
        .map_max_entries("EVENTS", options.ring_bytes)
        .map_max_entries("UNWIND_BLOCKS", unwind::blocks());
    let bytes = match state {
        Rung::Storage => object::storage(),
        _ => object::hash(),
    };
    let object = preempt::patched(bytes, preempt::functions(resolved))?;
    loader
        .load(object.bytes())
        .map_err(|why| LoadError::Object(Box::new(why)))
}

impl Loaded {
    /// Loads the object in the best variant of the per-task state that this kernel takes, and every signal's program on
    /// its best rung there. What the kernel does not take shows when all required programs are loaded, not with the maps
    /// alone (5.11 and 5.12 know task storage for LSM programs only).
    ///
    /// # Errors
    ///
    /// The last variant's [`LoadError`].
    pub fn load(btf: &Btf, resolved: &Resolved, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let signal = PROBES.iter().find(|probe| probe.attach == Attach::State);
        let signal = signal.ok_or(LoadError::Missing("task_state"))?;
        let mut refused: Vec<(Rung, String)> = Vec::new();
        let mut last = LoadError::Missing("task_state");
        for state in options.forced.rungs(signal) {
            match Loaded::load_variant(btf, resolved, options, state) {
                Ok(mut loaded) => {
                    let outcome = Outcome {
                        rung: Some(state),
                        refused,
                        ..loaded.outcome(signal)
                    };
                    loaded.ladder.insert(0, outcome);
                    return Ok(loaded);
                }
                Err(error) => {
                    tracing::info!("per-task state by {state} is not to be had: {error}");
                    let why = match &error {
                        LoadError::Object(why) => error::chain(why),
                        error => error.to_string(),
                    };
                    refused.push((state, why));
                    last = error;
                }
            }
        }
        match options.forced.of(signal) {
            Some(Choice::None) => Err(LoadError::Required {
                probe: signal.program,
                gives: signal.gives,
                why: "left out by --rung".to_owned(),
            }),
            Some(Choice::Rung(rung)) if !matches!(last, LoadError::Forced { .. }) => Err(LoadError::Forced {
                signal: signal.program,
                rung,
                why: refused.pop().map_or_else(|| last.to_string(), |(_, why)| why),
            }),
            _ => Err(last),
        }
    }

    fn load_variant(btf: &Btf, resolved: &Resolved, options: &LoadOptions, state: Rung) -> Result<Loaded, LoadError> {
        let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).ok();
        let mut loaded = Loaded {
            ebpf: load_object(btf, resolved, options, state, VerifierLogLevel::default())?,
            clocks: Vec::new(),
            links: Vec::new(),
            functions: Vec::new(),
            ladder: Vec::new(),
            forced: options.forced.clone(),
            tracefs: options.tracefs.clone(),
            can_unwind: unwind::possible(&resolved.offsets),
            file_calls: options.file_calls,
            preemptible: preempt::needed(),
            trampolines_wait: resolved.trampolines_wait,
            overlay_texts: None,
            _statistics: statistics,
        };
        loaded.fill_calls()?;
        loaded.load_ahead(btf);
        loaded.load_programs(btf)?;
        Ok(loaded)
    }

    /// Each signal and how it is had, as a recording keeps it.
    pub fn probes(&self) -> Vec<(String, String)> {
        self.ladder
            .iter()
            .map(|outcome| (outcome.signal.to_owned(), outcome.text()))
            .collect()
    }
}

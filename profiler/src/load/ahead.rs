//! Programs that are loaded side by side: the verifier takes most of the time from the start to the recording, and works on
//! as many programs at a time as there are CPUs.

use std::sync::Mutex;

use aya::{Btf, programs::Program};

use super::{
    Loaded,
    ladder::{load, program_of},
    registry::{Attach, PROBES, Rung},
    unwind,
};

/// At most this many at a time: beyond it the longest program alone counts.
const MOST: usize = 4;

impl Loaded {
    /// Loads each signal's program on its best rung, as far as the kernel takes it. What it refuses is tried again, and told,
    /// when the ladder is gone through.
    pub(super) fn load_ahead(&mut self, btf: &Btf) {
        // The longest first: those that programs go on in, then as they stand in the registry.
        let chains = [unwind::CPU_CHAIN, unwind::WAIT_CHAIN];
        let mut wanted: Vec<(String, Rung, Attach)> = Vec::new();
        for (links, rung) in chains.into_iter().filter(|_| self.can_unwind) {
            wanted.extend(links.iter().map(|(name, ..)| ((*name).to_owned(), rung, unwind::TAIL)));
        }
        for probe in PROBES.iter().filter(|probe| self.is_asked(probe)) {
            if let Some(rung) = self.forced.rungs(probe).first().copied()
                && (rung != Rung::Unwind || self.can_unwind)
            {
                wanted.push((program_of(probe.program, rung), rung, probe.attach));
            }
        }
        let mut programs: Vec<(&str, &mut Program)> = self.ebpf.programs_mut().collect();
        let mut queue = Vec::new();
        for (name, rung, attach) in &wanted {
            if let Some(index) = programs.iter().position(|(known, _)| known == name) {
                queue.push((programs.swap_remove(index).1, *rung, *attach));
            }
        }
        queue.reverse();
        let queue = Mutex::new(queue);
        let next = || queue.lock().ok()?.pop();
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..cpus.min(MOST) {
                scope.spawn(|| {
                    while let Some((program, rung, attach)) = next() {
                        if let Some(Err(why)) = load(program, rung, attach, btf) {
                            tracing::debug!("tried again: {why}");
                        }
                    }
                });
            }
        });
    }
}

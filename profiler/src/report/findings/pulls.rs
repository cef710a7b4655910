//! Pulls and their unpacking.

use super::{Answered, Facts, Finding};
use crate::model::PhaseKind;
use crate::report::{names, text, units};

/// Programs that inflate layers in the engines' stead.
const INFLATERS: [&[u8]; 5] = [b"unpigz", b"pigz", b"igzip", b"gunzip", b"zstd"];
/// Share of an unpacking's length that one CPU was used for it, beyond which it is bound by one, percent.
const BOUND_PERCENT: u64 = 80;

impl Facts<'_> {
    pub(super) fn pulls(&mut self) -> Finding {
        let mut finding = Finding::new(
            "Where did this pull go: network, gunzip, tar write, fsync, locks; per layer?",
            Answered::NotSeen,
        );
        let kinds = [
            PhaseKind::Pull,
            PhaseKind::Download,
            PhaseKind::Unpack,
            PhaseKind::Commit,
        ];
        let mut phases = self.phases(&kinds);
        // A pull before its layers, those in order of time.
        phases.sort_by_key(|ix| (self.phase(*ix).span.from, *ix));
        for ix in phases {
            let phase = self.phase(ix);
            let bytes = phase
                .bytes
                .map(|bytes| format!(", {}", units::bytes(bytes)))
                .unwrap_or_default();
            let line = format!(
                "{}: {}{bytes}; {}",
                self.named(ix),
                units::time(phase.span.len()),
                self.used(ix)
            );
            finding.phase(ix, line);
        }
        finding.done()
    }

    pub(super) fn unpacking(&self) -> Finding {
        let mut finding = Finding::new(
            "Is unpacking CPU-bound on one core, and is pigz or igzip used?",
            Answered::NotSeen,
        );
        for ix in self.phases(&[PhaseKind::Unpack]) {
            let phase = self.phase(ix);
            let (cpu, length) = (self.all(ix).cpu, phase.span.len());
            let verdict = match (cpu * 100).checked_div(length.max(1)).unwrap_or(0) {
                ..BOUND_PERCENT => "not bound by a CPU",
                BOUND_PERCENT..=120 => "bound by one CPU",
                _ => "uses more than one CPU",
            };
            let line = format!(
                "{}: {} on CPUs in {} ({}): {verdict}",
                self.named(ix),
                units::time(cpu),
                units::time(length),
                units::share(cpu, length)
            );
            finding.phase(ix, line);
        }
        if finding.answered == Answered::Yes {
            let mut inflaters: Vec<String> = Vec::new();
            let images = self.session.processes.iter().flat_map(|process| &process.images);
            for image in images.filter(|image| image.exec) {
                let name = names::program(image);
                let known = INFLATERS.contains(&name).then(|| text::visible(name));
                if let Some(name) = known.filter(|name| !inflaters.contains(name)) {
                    inflaters.push(name);
                }
            }
            finding = finding.done();
            finding.lines.push(match inflaters.is_empty() {
                true => "neither pigz nor igzip ran: the engine inflates by itself".to_owned(),
                false => format!("programs that inflate: {}", inflaters.join(", ")),
            });
        }
        finding
    }
}

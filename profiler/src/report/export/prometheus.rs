//! Metrics in Prometheus' text form, for the node exporter's textfile collector: how long phases took, where their time
//! went, what was lost. One recording is one set of values; each replaces the one before.
//!
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>; names and units as
//! <https://prometheus.io/docs/practices/naming/> has them. Labels are names of phases, engines and operations, never of
//! containers or images: each value of a label is a time series for good.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use super::{Error, Request, Sink};
use crate::attribute::resources::{self, Resources};
use crate::attribute::waits::Classifier;
use crate::model::{Phase, PhaseKind, Session};
use crate::report::figures::{self, Cost};
use crate::report::text;

/// Upper edges of the histograms, ns: from a mount's length to a long build's.
const BUCKETS: [u64; 15] = [
    1_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
    60_000_000_000,
    300_000_000_000,
    1_800_000_000_000,
];

/// Most different names of operations; the rest is counted as `other`. They come from command lines.
const MAX_OPERATIONS: usize = 100;
/// Longest label, characters.
const MAX_LABEL: usize = 100;

pub(super) struct Prometheus;

impl Sink for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn about(&self) -> &'static str {
        "phases' durations and states as metrics, for the textfile collector"
    }

    fn write(&self, session: &Session, _: &Request, out: &mut dyn Write) -> Result<(), Error> {
        let mut page = Page::default();
        recording(&mut page, session);
        operations(&mut page, session);
        phases(&mut page, session);
        outcomes(&mut page, session);
        quality(&mut page, session);
        out.write_all(page.0.as_bytes())?;
        Ok(())
    }
}

/// The text as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A write to a string can't fail.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn value(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}=\"{}\"", label(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        for (edge, count) in BUCKETS.iter().zip(histogram.counts) {
            below += count;
            let edge = seconds(*edge);
            let labels: Vec<_> = labels.iter().copied().chain([("le", &edge[..])]).collect();
            self.value(&format!("{name}_bucket"), &labels, &below.to_string());
        }
        let labelled: Vec<_> = labels.iter().copied().chain([("le", "+Inf")]).collect();
        self.value(&format!("{name}_bucket"), &labelled, &histogram.count.to_string());
        self.value(&format!("{name}_sum"), labels, &seconds(histogram.sum_ns));
        self.value(&format!("{name}_count"), labels, &histogram.count.to_string());
    }
}

/// Harmless text of bounded length. Of its own result it gives the same: what is grouped by it stays apart as a label.
fn short(value: &str) -> String {
    let mut value = text::visible(value.as_bytes());
    if let Some((end, _)) = value.char_indices().nth(MAX_LABEL) {
        value.truncate(end);
        value.push('…');
    }
    value
}

/// What stands within a label's quotes.
fn label(value: &str) -> String {
    short(value).replace('\\', "\\\\").replace('"', "\\\"")
}

/// Engine of a phase's container; empty without one.
fn engine(session: &Session, phase: &Phase) -> String {
    let container = phase.container.and_then(|ix| session.containers.get(ix.ix()));
    container.map_or_else(String::new, |container| short(&container.engine))
}

/// Exact: `12.000000345`, without zeros at its end.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[derive(Default)]
struct Histogram {
    counts: [u64; BUCKETS.len()],
    count: u64,
    sum_ns: u64,
}

impl Histogram {
    fn add(&mut self, ns: u64) {
        if let Some(bucket) = BUCKETS.iter().position(|edge| ns <= *edge) {
            self.counts[bucket] += 1;
        }
        self.count += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }
}

fn recording(page: &mut Page, session: &Session) {
    let meta = &session.meta;
    page.family("phasegraph_recording_info", "gauge", "What was recorded, where.");
    let labels = [
        ("version", &meta.version[..]),
        ("name", &meta.name),
        ("host", &meta.hostname),
        ("kernel", &meta.kernel),
    ];
    page.value("phasegraph_recording_info", &labels, "1");
    if let Some(real) = figures::real_time(&session.clocks, session.span.from) {
        let name = "phasegraph_recording_start_timestamp_seconds";
        page.family(name, "gauge", "When the recording began.");
        page.value(name, &[], &seconds(real));
    }
    let name = "phasegraph_recording_duration_seconds";
    page.family(name, "gauge", "Length of the recording.");
    page.value(name, &[], &seconds(session.span.len()));
    let name = "phasegraph_recording_closed";
    page.family(
        name,
        "gauge",
        "1 when the recording was closed in order, 0 when it was cut off.",
    );
    page.value(name, &[], if session.closed.is_some() { "1" } else { "0" });
}

fn operations(page: &mut Page, session: &Session) {
    let mut histograms: BTreeMap<String, Histogram> = BTreeMap::new();
    for operation in session.operations.iter().filter(|operation| !operation.open) {
        let name = short(&operation.name);
        let known = histograms.contains_key(&name) || histograms.len() < MAX_OPERATIONS;
        let name = if known { name } else { "other".to_owned() };
        histograms.entry(name).or_default().add(operation.span.len());
    }
    let name = "phasegraph_operation_duration_seconds";
    page.family(name, "histogram", "Wall time of what people asked for that has ended.");
    for (operation, histogram) in &histograms {
        page.histogram(name, &[("operation", operation)], histogram);
    }
}

/// All phases of one kind and engine.
#[derive(Default)]
struct Group {
    ended: Histogram,
    open: u64,
    all: Resources,
    unattributed_ns: u64,
}

fn phases(page: &mut Page, session: &Session) {
    let mut groups: BTreeMap<(&str, String), Group> = BTreeMap::new();
    let mut classifier = Classifier::default();
    for phase in &session.phases {
        let group = groups.entry((phase.kind.name(), engine(session, phase))).or_default();
        if phase.open {
            group.open += 1;
        } else {
            group.ended.add(phase.span.len());
        }
        let times = resources::phase(session, phase, &mut classifier);
        group.all.add(&times.all);
        group.unattributed_ns = group.unattributed_ns.saturating_add(times.unattributed);
    }
    let name = "phasegraph_phase_duration_seconds";
    page.family(name, "histogram", "Wall time of phases that have ended.");
    for ((phase, engine), group) in &groups {
        page.histogram(name, &[("phase", phase), ("engine", engine)], &group.ended);
    }
    let name = "phasegraph_phases_open";
    page.family(name, "gauge", "Phases that had not ended when the recording did.");
    for ((phase, engine), group) in &groups {
        page.value(name, &[("phase", phase), ("engine", engine)], &group.open.to_string());
    }
    let name = "phasegraph_phase_thread_seconds";
    page.family(
        name,
        "gauge",
        "Time of all threads that worked for phases, by what they did. Phases within others count in both.",
    );
    for ((phase, engine), group) in &groups {
        let states = [("cpu", group.all.cpu), ("runqueue", group.all.runqueue)];
        let waits = figures::waits(&group.all);
        for (state, ns) in states.into_iter().chain(waits).chain([("lost", group.all.lost)]) {
            let labels = [("phase", *phase), ("engine", &engine[..]), ("state", state)];
            page.value(name, &labels, &seconds(ns));
        }
    }
    let name = "phasegraph_phase_unattributed_seconds";
    page.family(
        name,
        "gauge",
        "Wall time of phases in which their main thread did not live.",
    );
    for ((phase, engine), group) in &groups {
        let labels = [("phase", *phase), ("engine", &engine[..])];
        page.value(name, &labels, &seconds(group.unattributed_ns));
    }
}

fn outcomes(page: &mut Page, session: &Session) {
    let name = "phasegraph_containers";
    page.family(name, "gauge", "Runs of containers that were seen.");
    page.value(name, &[], &session.containers.len().to_string());
    let mut exits: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for phase in session.phases.iter().filter(|phase| phase.kind == PhaseKind::Run) {
        let outcome = match figures::exit_status(session, phase) {
            Some(0) => "success",
            Some(_) => "failure",
            None => "unknown",
        };
        *exits.entry((engine(session, phase), outcome)).or_default() += 1;
    }
    let name = "phasegraph_runs";
    page.family(name, "gauge", "How the entrypoints of containers ended.");
    for ((engine, outcome), count) in &exits {
        page.value(name, &[("engine", engine), ("outcome", outcome)], &count.to_string());
    }
}

fn quality(page: &mut Page, session: &Session) {
    let losses = figures::losses(session);
    let lost = losses.iter().filter(|loss| loss.is_loss);
    let name = "phasegraph_lost_events";
    page.family(
        name,
        "gauge",
        "What could not be recorded, by cause; no series when nothing was lost.",
    );
    for loss in lost {
        page.value(name, &[("cause", &loss.name)], &loss.count.to_string());
    }
    let cost = Cost::of(session);
    let name = "phasegraph_self_cpu_seconds";
    page.family(name, "gauge", "CPU time of the profiler itself while it recorded.");
    if let Some(bpf) = cost.bpf_ns {
        page.value(name, &[("part", "bpf")], &seconds(bpf));
    }
    page.value(name, &[("part", "process")], &seconds(cost.process_ns));
    let name = "phasegraph_self_memory_peak_bytes";
    page.family(name, "gauge", "Largest resident set of the profiler.");
    page.value(name, &[], &session.self_cost.peak_rss_bytes.to_string());
    let name = "phasegraph_host_cpu_seconds";
    page.family(
        name,
        "gauge",
        "CPU time that the host had: CPUs times the recording's length.",
    );
    page.value(name, &[], &seconds(cost.host_ns));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::export::tests::{hostile, written};
    use crate::report::fixture;

    /// Make sure that figures are exact and in seconds.
    #[test]
    fn exact_seconds() {
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(1), "0.000000001");
        assert_eq!(seconds(12_340_000_000), "12.34");
        assert_eq!(seconds(u64::MAX), "18446744073.709551615");
    }

    /// Make sure that a histogram's buckets count what is not longer, and phases that have not ended are not in it.
    #[test]
    fn histograms() {
        let mut session = fixture::session();
        session.phases[5].open = true;
        let page = String::from_utf8(written(&Prometheus, &session)).unwrap();
        for line in [
            "phasegraph_phase_duration_seconds_bucket{phase=\"step\",engine=\"\",le=\"0.5\"} 0",
            "phasegraph_phase_duration_seconds_bucket{phase=\"step\",engine=\"\",le=\"1\"} 1",
            "phasegraph_phase_duration_seconds_bucket{phase=\"step\",engine=\"\",le=\"10\"} 2",
            "phasegraph_phase_duration_seconds_bucket{phase=\"step\",engine=\"\",le=\"+Inf\"} 2",
            "phasegraph_phase_duration_seconds_sum{phase=\"step\",engine=\"\"} 9.5",
            "phasegraph_phase_duration_seconds_count{phase=\"cleanup\",engine=\"buildah\"} 0",
            "phasegraph_phases_open{phase=\"cleanup\",engine=\"buildah\"} 1",
            "phasegraph_runs{engine=\"buildah\",outcome=\"success\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }

    /// Make sure that no name ends its label or its line.
    #[test]
    fn labels_stay_labels() {
        let plain = String::from_utf8(written(&Prometheus, &fixture::session())).unwrap();
        let page = written(&Prometheus, &hostile(b"x\"} 1\nevil 2\\"));
        let page = String::from_utf8(page).unwrap();
        assert!(!page.lines().any(|line| line.starts_with("evil")), "{page}");
        assert!(page.contains(r#"operation="x\"} 1\\x0aevil 2\\","#), "{page}");
        assert!(plain.lines().count() >= 40);
    }
}

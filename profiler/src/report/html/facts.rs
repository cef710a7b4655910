//! What is told in words: what was recorded, where and how, and how far it can be trusted.

use super::collect::index;
use super::data::{Head, Loss, Trust};
use crate::model::{Session, Span};
use crate::report::figures::{self, Cost};
use crate::report::select::merge;
use crate::report::{terminal, text, units, verdict};

/// Longest text of a fact, columns.
const FACT: usize = 400;

fn clean(value: &str) -> String {
    text::fit(&text::visible(value.as_bytes()), FACT)
}

pub(super) fn head(session: &Session) -> Head {
    let meta = &session.meta;
    let command = match &meta.command[..] {
        [] => "whole host".to_owned(),
        command => text::fit(&text::argv(command), 1_000),
    };
    let title = match &meta.name[..] {
        "" => text::fit(&command, 80),
        name => text::fit(&text::visible(name.as_bytes()), 80),
    };
    let mut facts = vec![units::time(session.span.len())];
    match session.closed {
        Some(Some(code)) if code > 128 => facts.push(format!("killed by signal {}", code - 128)),
        Some(Some(code)) => facts.push(format!("exit status {code}")),
        Some(None) | None => {}
    }
    let date = figures::real_time(&session.clocks, session.span.from)
        .and_then(|real| jiff::Timestamp::from_nanosecond(i128::from(real)).ok());
    facts.push(date.map_or_else(
        || "unknown date".to_owned(),
        |date| date.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
    ));
    facts.push(text::fit(&clean(&meta.hostname), 60));
    facts.push(units::of(u64::from(meta.cpus), "CPU", "CPUs"));
    facts.push(format!("Linux {}", text::fit(&clean(&meta.kernel), 60)));
    let mut warnings = Vec::new();
    if session.closed.is_none() {
        warnings.push(
            "The recording was cut off: what follows is true up to its last whole block; what was still going on then \
             is marked open."
                .to_owned(),
        );
    }
    warnings.extend(
        session
            .damage
            .iter()
            .take(20)
            .map(|damage| format!("Damaged: {}", clean(damage))),
    );
    let verdict = verdict::of(session);
    Head {
        title,
        command,
        facts,
        span: session.span.len(),
        cpus: meta.cpus,
        hz: meta.sample_hz,
        warnings,
        phase: index(verdict.phase.map(|ix| ix.0)),
        verdict: [verdict.slowest, verdict.reason, verdict.first],
        next: verdict.next,
        version: clean(&meta.version),
    }
}

pub(super) fn trust(session: &Session) -> Trust {
    // Moments in which an operation went on and no phase of any: operations can lie in each other, as a shell's do.
    let union = |spans: &mut dyn Iterator<Item = Span>| {
        let mut spans: Vec<Span> = spans.filter(|span| !span.is_empty()).collect();
        merge(&mut spans);
        spans
    };
    let operations = union(&mut session.operations.iter().map(|operation| operation.span));
    let phases = union(&mut session.phases.iter().map(|phase| phase.span));
    let whole = figures::length(&operations);
    let first = |span: Span| phases.partition_point(|phase| phase.to <= span.from);
    let within = |span: Span| {
        phases[first(span)..]
            .iter()
            .take_while(move |phase| phase.from < span.to)
            .map(move |phase| phase.clip(span).len())
    };
    let inside = operations.iter().map(|span| within(*span).sum::<u64>()).sum();
    let outside = whole.saturating_sub(inside);
    let cost = Cost::of(session);
    let own = cost.bpf_ns.unwrap_or(0).saturating_add(cost.process_ns);
    Trust {
        unattributed: match whole {
            0 => "no operation".to_owned(),
            whole => format!("{} ({})", units::share(outside, whole), units::time(outside)),
        },
        losses: figures::losses(session)
            .into_iter()
            .map(|loss| Loss {
                count: loss.count,
                text: clean(&loss.text),
                is_loss: loss.is_loss,
            })
            .collect(),
        cost: match (session.self_cost.ts, cost.bpf_ns) {
            (0, _) => "not recorded".to_owned(),
            (_, None) => format!(
                "{} of the host's CPU, without BPF programs",
                units::share(own, cost.host_ns)
            ),
            (_, Some(_)) => format!(
                "{} of the host's CPU, {}",
                units::share(own, cost.host_ns),
                units::bytes(session.self_cost.peak_rss_bytes)
            ),
        },
        sections: terminal::trust_sections(session),
    }
}

pub(super) fn host(session: &Session) -> Vec<[String; 2]> {
    let meta = &session.meta;
    let mut facts = vec![
        ("Host", clean(&meta.hostname)),
        (
            "Kernel",
            format!("Linux {} ({})", clean(&meta.kernel), clean(&meta.machine)),
        ),
        ("CPU", clean(&meta.cpu_model)),
        ("CPUs", units::count(u64::from(meta.cpus))),
        ("Memory", units::bytes(meta.memory_bytes)),
    ];
    if let Some(cpu) = session.host_cpu {
        let all = cpu.to.saturating_sub(cpu.from).saturating_mul(u64::from(meta.cpus));
        let part = |name, ns| format!("{name} {}", units::share(ns, all));
        let parts = [
            part("user", cpu.user_ns),
            part("system", cpu.system_ns),
            part("idle", cpu.idle_ns),
            part("waiting for disks", cpu.iowait_ns),
            part("interrupts", cpu.interrupt_ns),
            part("stolen", cpu.steal_ns),
        ];
        facts.push(("CPU time of the whole host", parts.join(", ")));
    }
    pairs(facts)
}

pub(super) fn settings(session: &Session) -> Vec<[String; 2]> {
    let meta = &session.meta;
    let mut facts = vec![
        ("Command", text::fit(&text::argv(&meta.command), 1_000)),
        ("Folder", text::fit(&text::visible(&meta.cwd), FACT)),
        ("User", clean(&meta.user)),
        ("Name", clean(&meta.name)),
        ("CPU samples", format!("{} Hz", meta.sample_hz)),
        ("phasegraph", clean(&meta.version)),
    ];
    for (name, value) in meta.facts.iter().filter(|(name, _)| name != "limit") {
        facts.push(("", format!("{}: {}", clean(name), clean(value))));
    }
    for (probe, rung) in &meta.probes {
        facts.push(("", format!("probe {}: {}", clean(probe), clean(rung))));
    }
    pairs(facts)
}

/// Without those that say nothing; what has no name of its own stands below the one before.
fn pairs(facts: Vec<(&str, String)>) -> Vec<[String; 2]> {
    let told = facts.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| [name.to_owned(), value]).collect()
}

//! The most that was held in memory, and who was killed for want of it.

use super::page::{Page, Paint};
use crate::attribute::memory::{self, Kill, Peaks};
use crate::model::{ContainerIx, ProcessIx, Session};
use crate::report::select::Selection;
use crate::report::{names, text, units};

/// Columns of the figures on the left.
const LABEL: usize = 11;
/// Containers told one by one.
const CONTAINERS: usize = 10;
/// Kills told one by one.
const KILLS: usize = 10;

pub(super) fn add(page: &mut Page, session: &Session, selection: &Selection) {
    let peaks = Peaks::new(session);
    let spans = selection.spans(session);
    let processes = spans.iter().enumerate().flat_map(|(index, spans)| {
        let ix = ProcessIx(index as u32);
        spans.iter().map(move |span| (ix, *span))
    });
    let largest = processes
        .filter_map(|(ix, span)| Some((peaks.within(ix, span)?, ix)))
        .max_by_key(|(bytes, ix)| (*bytes, std::cmp::Reverse(*ix)));
    let kills = memory::kills(session);
    if largest.is_none() && kills.is_empty() {
        return;
    }
    page.heading("memory", "largest resident sets, by the kernel's own counters");
    let mut line = |bytes: u64, paint, what: &str| {
        let label = format!("{} ", text::right(&units::bytes(bytes), LABEL - 1));
        page.paragraph(&label, paint, what);
    };
    if let Some((bytes, ix)) = largest {
        line(
            bytes,
            Paint::Plain,
            &format!("largest process: {}", process(session, ix)),
        );
    }
    let all = (0..session.containers.len() as u32).map(ContainerIx);
    let mut containers: Vec<(u64, ContainerIx)> = all
        .filter(|ix| {
            let own = |phase: &crate::model::PhaseIx| session.phases[phase.ix()].container == Some(*ix);
            selection.phases.as_ref().is_none_or(|phases| phases.iter().any(own))
        })
        .filter_map(|ix| Some((peaks.container(&session.containers[ix.ix()])?, ix)))
        .collect();
    containers.sort_by_key(|(bytes, ix)| (std::cmp::Reverse(*bytes), *ix));
    for (bytes, ix) in containers.iter().take(CONTAINERS) {
        let name = names::container(session, *ix);
        line(*bytes, Paint::Plain, &format!("container {name}, with its page cache"));
    }
    for kill in kills.iter().take(KILLS) {
        line(kill.rss, Paint::Warn, &killed(session, kill));
    }
    if kills.len() > KILLS {
        let more = format!("{} more kills: see --json", units::count((kills.len() - KILLS) as u64));
        page.line(&[(Paint::Dim, &more)]);
    }
}

fn process(session: &Session, ix: ProcessIx) -> String {
    let process = &session.processes[ix.ix()];
    let name = process.image().map_or(&b"?"[..], names::program);
    format!("{} (pid {})", text::visible(name), process.tgid)
}

fn killed(session: &Session, kill: &Kill) -> String {
    let who = match kill.process {
        Some(ix) => process(session, ix),
        None => format!("pid {}, which is not profiled,", kill.pid),
    };
    let mut line = format!("killed for want of memory: {who}");
    if let Some(ix) = kill.container {
        line.push_str(&format!(" in container {}", names::container(session, ix)));
    }
    if let Some(ix) = kill.phase {
        line.push_str(&format!(", phase {}", names::phase(session, ix)));
    }
    if kill.cgroup_peak > 0 {
        line.push_str(&format!("; its cgroup held up to {}", units::bytes(kill.cgroup_peak)));
    }
    line
}

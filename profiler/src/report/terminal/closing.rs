//! How far the figures can be trusted: losses, coverage, cut sums, and what the profiler itself cost.

use super::page::{Page, Paint};
use crate::attribute::user_stacks::{self, UserStacks};
use crate::attribute::waits::Classifier;
use crate::model::Session;
use crate::report::figures::{self, Cost, Coverage};
use crate::report::select::Selection;
use crate::report::{text, units};

/// Columns of the names on the left.
const LABEL: usize = 11;

/// Every cause of loss that is not zero: how many, its machine's name and its meaning.
pub(super) fn losses(page: &mut Page, session: &Session) {
    let lines = figures::losses(session);
    let (lost, notes): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.is_loss);
    if lost.is_empty() {
        page.heading("no losses", "every event was kept");
    } else {
        page.heading("losses", "");
    }
    for line in lost.iter().chain(&notes) {
        let paint = if line.is_loss { Paint::Warn } else { Paint::Dim };
        let label = format!("{} ", text::right(&units::count(line.count), LABEL - 1));
        page.paragraph(&label, paint, &text::visible(line.text.as_bytes()));
    }
}

/// Probes that this kernel refused: what they would have told is not in the recording.
pub(super) fn unavailable(page: &mut Page, session: &Session) {
    let missing = session
        .meta
        .probes
        .iter()
        .filter(|(_, rung)| rung.starts_with("not available"));
    for (index, (probe, why)) in missing.enumerate() {
        if index == 0 {
            page.heading("not probed", "what these would have told is not in the recording");
        }
        let line = text::visible(format!("{probe}: {why}").as_bytes());
        page.paragraph(&text::left("", LABEL), Paint::Warn, &line);
    }
}

/// What share of the waiting and of the samples has stacks, and by how much the figures can be off.
pub(super) fn coverage(page: &mut Page, session: &Session, selection: &Selection) {
    let all = figures::selected(session, &selection.spans(session), &mut Classifier::default());
    let samples = Coverage::of(session);
    page.heading("evidence", &selection.title);
    let blocked = all.blocked();
    let waits = if blocked == 0 {
        "nothing was waited for".to_owned()
    } else {
        format!(
            "{} of {} blocked time has a kernel stack, {} a user stack",
            units::share(all.with_kernel_stack, blocked),
            units::time(blocked),
            units::share(all.with_user_stack, blocked)
        )
    };
    page.paragraph(&text::left("waits", LABEL), Paint::Plain, &waits);
    let cpu = if samples.samples == 0 {
        "none was taken".to_owned()
    } else {
        format!(
            "{} CPU samples, {} with a stack: {} with a user part, {} within the kernel",
            units::count(samples.samples),
            units::share(samples.samples_with_any, samples.samples),
            units::share(samples.samples_with_user, samples.samples),
            units::share(samples.samples_with_kernel, samples.samples)
        )
    };
    page.paragraph(&text::left("samples", LABEL), Paint::Plain, &cpu);
    user_stacks(page, &UserStacks::of(session));
    let cut = if all.cut == 0 {
        "no sum of short intervals is cut by an edge: all figures are exact".to_owned()
    } else {
        format!(
            "{} lies in sums of short intervals that an edge cuts; they are shared out in proportion, and no figure is \
             off by more",
            units::time(all.cut)
        )
    };
    page.paragraph(&text::left("cut", LABEL), Paint::Plain, &cut);
    if all.lost > 0 {
        let total = all.total();
        let lost = format!(
            "{} ({}) is covered by no event",
            units::time(all.lost),
            units::share(all.lost, total)
        );
        page.paragraph(&text::left("lost", LABEL), Paint::Warn, &lost);
    }
}

/// What share of the samples' user stacks is whole, and why the others are not.
fn user_stacks(page: &mut Page, stacks: &UserStacks) {
    let UserStacks {
        all,
        no_user,
        in_exec,
        unknown,
        early,
        programs: _,
        short,
    } = stacks;
    let label = text::left("stacks", LABEL);
    if *unknown > 0 {
        let line = format!(
            "{} user stacks follow frame pointers: nobody tells which are whole",
            units::count(*unknown)
        );
        page.paragraph(&label, Paint::Plain, &line);
    }
    if all.samples == 0 && no_user + in_exec == 0 {
        return;
    }
    let mut line = format!(
        "{} of {} user stacks are whole; {} more samples had none (at a task's end or in the kernel), {} hit an exec",
        units::share(all.whole, all.samples),
        units::count(all.samples),
        units::count(*no_user),
        units::count(*in_exec)
    );
    if short.samples > 0 {
        line.push_str(&format!(
            "; of processes that lived less than 10 ms: {} of {}",
            units::share(short.whole, short.samples),
            units::count(short.samples)
        ));
    }
    page.paragraph(&label, Paint::Plain, &line);
    let mut early: Vec<(u8, u64)> = early.iter().map(|(end, count)| (*end, *count)).collect();
    early.sort_by_key(|(end, count)| (std::cmp::Reverse(*count), *end));
    for (end, count) in early {
        let label = format!("{} ", text::right(&units::count(count), LABEL - 1));
        let line = format!("end early at {}", user_stacks::cause(end));
        page.paragraph(&label, Paint::Dim, &line);
    }
}

/// What the profiler took from the host.
pub(super) fn cost(page: &mut Page, session: &Session) {
    let own = &session.self_cost;
    let cost = Cost::of(session);
    if own.ts == 0 {
        page.heading("profiler's own cost", "was not recorded");
        return;
    }
    page.heading("profiler's own cost", "");
    let bpf = match cost.bpf_ns {
        None if cost.bpf_runs == 0 => "not recorded".to_owned(),
        None => format!("{} runs; their time was not measured", units::count(cost.bpf_runs)),
        Some(ns) => format!(
            "{} of the host's CPU ({}, {} runs of {} ns each)",
            units::share(ns, cost.host_ns),
            units::time(ns),
            units::count(cost.bpf_runs),
            ns.checked_div(cost.bpf_runs).unwrap_or(0)
        ),
    };
    page.paragraph(&text::left("in kernel", LABEL), Paint::Plain, &bpf);
    if cost.bpf_missed > 0 {
        let missed = format!(
            "{} runs were dropped: a program interrupted itself",
            units::count(cost.bpf_missed)
        );
        page.paragraph(&text::left("", LABEL), Paint::Warn, &missed);
    }
    let process = format!(
        "{} of the host's CPU ({} user, {} system), {} memory at its peak",
        units::share(cost.process_ns, cost.host_ns),
        units::time(own.user_ns),
        units::time(own.system_ns),
        units::bytes(own.peak_rss_bytes)
    );
    page.paragraph(&text::left("process", LABEL), Paint::Plain, &process);
    let rest = format!(
        "{} recording, {} from start to recording ({} on CPUs), {} for symbols after the end",
        units::bytes(own.recording_bytes),
        units::time(own.startup_ns),
        units::time(own.startup_cpu_ns),
        units::time(own.symbolize_ns)
    );
    page.paragraph(&text::left("besides", LABEL), Paint::Plain, &rest);
}

#[cfg(test)]
mod tests {
    use profiler_common::Counter;

    use super::*;

    /// Make sure that what is counted but no loss is not told as one.
    #[test]
    fn untracked_samples_are_no_loss() {
        let mut session = crate::report::fixture::session();
        session.losses.counters = vec![(Counter::SampleUntracked as u32, 7)];
        let lines = figures::losses(&session);
        assert_eq!(lines.len(), 1);
        assert!(!lines[0].is_loss);
    }
}

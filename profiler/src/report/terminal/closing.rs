//! How far the figures can be trusted: losses, coverage, cut sums, and what the profiler itself cost.

use super::page::{Page, Paint};
use crate::attribute::user_stacks::{self, UserStacks};
use crate::attribute::waits::Classifier;
use crate::model::Session;
use crate::report::figures::{self, Cost, Coverage};
use crate::report::select::Selection;
use crate::report::{gaps, text, units};

/// Columns of the names on the left.
const LABEL: usize = 11;
/// And of the names of what the overhead cap gives up.
const CAP_LABEL: usize = 13;

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

/// What else this kernel or this host left out.
pub(super) fn limits(page: &mut Page, session: &Session) {
    let limits = session.meta.facts.iter().filter(|(name, _)| name == "limit");
    for (index, (_, text)) in limits.enumerate() {
        if index == 0 {
            page.heading(
                "limits",
                "what this kernel or host could not give, or gave at a higher price",
            );
        }
        page.paragraph(&text::left("", LABEL), Paint::Dim, &text::visible(text.as_bytes()));
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
        frames: _,
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

/// What the overhead cap gave up, and when; nothing when it gave up nothing.
pub(super) fn cap(page: &mut Page, session: &Session) {
    let gaps = gaps::all(session);
    let Some(first) = gaps.first() else { return };
    let cap = f64::from(first.began.cap_ppm) / 1e4;
    page.heading(
        "overhead cap",
        &format!("{cap} % of the host's CPU; to keep it, less was recorded"),
    );
    for gap in &gaps {
        let since = |ts: u64| units::time(ts.saturating_sub(session.span.from));
        let dearest = if gap.began.dearest.is_empty() {
            String::new()
        } else {
            format!(", most of it {}", text::visible(gap.began.dearest.as_bytes()))
        };
        let line = format!(
            "from {} to {} ({}): {}; cost before: {}{dearest}",
            since(gap.span.from),
            since(gap.span.to),
            units::time(gap.span.len()),
            text::visible(gap.lost().as_bytes()),
            units::share(gap.cost_ppm(), 1_000_000),
        );
        let lever = text::visible(gap.began.lever.as_bytes());
        page.paragraph(&text::left(&lever, CAP_LABEL), Paint::Warn, &line);
    }
}

/// What happened to the host's CPUs: time stolen from them, and those that came and went.
pub(super) fn cpus(page: &mut Page, session: &Session) {
    if let Some(host) = session.host_cpu.filter(|host| host.steal_ns > 0) {
        let all = host
            .to
            .saturating_sub(host.from)
            .saturating_mul(u64::from(session.meta.cpus));
        let stolen = format!(
            "{} ({}) of the host's CPU time went to other guests of its hypervisor; threads that were hit show as \
             on-CPU meanwhile",
            units::time(host.steal_ns),
            units::share(host.steal_ns, all)
        );
        page.paragraph(&text::left("stolen", LABEL), Paint::Plain, &stolen);
    }
    for change in &session.cpu_changes {
        let when = units::time(change.ts.saturating_sub(session.span.from));
        let what = match (change.online, change.problem.is_empty()) {
            (true, true) => "came online and is followed since".to_owned(),
            (true, false) => format!("came online: {}", text::visible(change.problem.as_bytes())),
            (false, _) => "went offline: nothing of it is recorded since".to_owned(),
        };
        let line = format!("CPU {} {what} (noticed at {when})", change.cpu);
        page.paragraph(&text::left("CPUs", LABEL), Paint::Warn, &line);
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
    let process = format!(
        "{} of the host's CPU ({} user, {} system), {} memory at its peak",
        units::share(cost.process_ns, cost.host_ns),
        units::time(own.user_ns),
        units::time(own.system_ns),
        units::bytes(own.peak_rss_bytes)
    );
    page.paragraph(&text::left("process", LABEL), Paint::Plain, &process);
    let parsing = &session.parsing;
    if parsing.jobs > 0 {
        let parser = format!(
            "{} user, {} system, {} memory at its peak, to read {} lists of names, in a process of its own{}",
            units::time(parsing.user_ns),
            units::time(parsing.system_ns),
            units::bytes(parsing.peak_rss_bytes),
            units::count(parsing.jobs),
            match parsing.deaths {
                0 => String::new(),
                deaths => format!(", which died {} times", units::count(deaths)),
            }
        );
        page.paragraph(&text::left("symbols", LABEL), Paint::Plain, &parser);
    }
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

    /// Make sure that runs dropped by the kernel are losses, samples as what they are.
    #[test]
    fn recursion_misses_are_losses() {
        let mut session = crate::report::fixture::session();
        session.self_cost.programs = vec![("cpu_sample".into(), 1, 1, 5), ("sched_switch".into(), 1, 1, 6)];
        let lines = figures::losses(&session);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].is_loss && lines[0].count == 5 && lines[0].text.contains("CPU samples"));
        assert!(lines[1].count == 6 && lines[1].text.contains("sched_switch"));
    }

    /// Make sure that of what a program missed only that is lost which the second one did not tell.
    #[test]
    fn second_programs_are_no_losses() {
        let mut session = crate::report::fixture::session();
        let program = |name: &str, missed| (name.into(), 1, 1, missed);
        session.self_cost.programs = vec![
            program("task_newtask", 8),
            program("task_newtask_again", 2),
            program("sched_process_exit", 3),
        ];
        session.losses.counters = vec![(Counter::NewtaskAgain as u32, 8), (Counter::ExitAgain as u32, 2)];
        let lines = figures::losses(&session);
        let lost: Vec<_> = lines.iter().filter(|line| line.is_loss).collect();
        assert_eq!((lines.len(), lost.len()), (3, 1));
        assert_eq!(
            (&lost[0].name[..], lost[0].count),
            ("recursion_misses.sched_process_exit", 1)
        );
    }
}

//! Checks that a session keeps the promise of conservation.

use super::{ProcessIx, Session, Span, State, Thread};

/// Most violations told one by one.
const TOLD: usize = 20;

/// Checks that each thread's intervals tile its span exactly, that sums add up, that processes and the session cover
/// their threads, and that processes and threads name each other. Empty when all holds, else what does not, in
/// words, at most [`TOLD`] of them and a count of the rest. Names no text from traced processes.
pub fn verify(session: &Session) -> Vec<String> {
    let mut faults = Vec::new();
    let mut owners = vec![None; session.threads.len()];
    let mut parents = vec![None; session.processes.len()];
    for (index, process) in session.processes.iter().enumerate() {
        let ix = ProcessIx(index as u32);
        let mut fault = |text: &str| faults.push(format!("process {} (start {}): {text}", process.tgid, process.start));
        if process.threads.is_empty() {
            fault("has no thread");
        }
        for thread in &process.threads {
            match owners.get_mut(thread.ix()) {
                Some(owner @ None) => *owner = Some(ix),
                Some(Some(_)) => fault("has a thread twice, or one that is another's, too"),
                None => fault("has a thread that does not exist"),
            }
        }
        for child in &process.children {
            match parents.get_mut(child.ix()) {
                Some(parent @ None) => *parent = Some(ix),
                Some(Some(_)) => fault("has a child twice, or one that is another's, too"),
                None => fault("has a child that does not exist"),
            }
        }
    }
    for (process, parent) in session.processes.iter().zip(parents) {
        if process.parent != parent {
            faults.push(format!(
                "process {} (start {}): is not a child of its parent",
                process.tgid, process.start
            ));
        }
    }
    for (thread, owner) in session.threads.iter().zip(owners) {
        let misplaced = (owner != Some(thread.process)).then(|| "is not a thread of its process".to_owned());
        for text in misplaced
            .into_iter()
            .chain(cover(session, thread))
            .chain(tiling(thread))
        {
            let id = thread.id;
            faults.push(format!("thread {}/{} (start {}): {text}", id.tgid, id.tid, id.start));
        }
    }
    if faults.len() > TOLD {
        let rest = faults.len() - TOLD;
        faults.truncate(TOLD);
        faults.push(format!("and {rest} more"));
    }
    faults
}

fn cover(session: &Session, thread: &Thread) -> Option<String> {
    let process = session.processes.get(thread.process.ix())?;
    if !covers(process.span, thread.span) {
        return Some(format!(
            "its span {:?} is not within its process' {:?}",
            thread.span, process.span
        ));
    }
    (!covers(session.span, thread.span)).then(|| {
        format!(
            "its span {:?} is not within the session's {:?}",
            thread.span, session.span
        )
    })
}

fn tiling(thread: &Thread) -> Option<String> {
    let span = thread.span;
    if span.from > span.to {
        return Some(format!("its span {span:?} ends before it begins"));
    }
    let mut cursor = span.from;
    let mut total: u128 = 0;
    for interval in &thread.intervals {
        let Span { from, to } = interval.span;
        if from != cursor {
            let what = if from > cursor { "a gap" } else { "an overlap" };
            return Some(format!("{what} at {cursor}: the next interval begins at {from}"));
        }
        if to <= from {
            return Some(format!("an interval at {from} has no length"));
        }
        if let State::Mixed {
            cpu,
            runqueue,
            blocked,
            count: _,
        } = interval.state
        {
            let sum = u128::from(cpu) + u128::from(runqueue) + u128::from(blocked);
            if sum != u128::from(to - from) {
                return Some(format!("sums at {from} make {sum} ns of {} ns", to - from));
            }
        }
        total += u128::from(to - from);
        cursor = to;
    }
    if cursor != span.to || total != u128::from(span.len()) {
        return Some(format!("intervals end at {cursor}, its span at {}", span.to));
    }
    let mut last = span.from;
    for (ts, _) in &thread.samples {
        if *ts < last || !span.contains(*ts) {
            return Some(format!("a sample at {ts} is out of order or outside its span {span:?}"));
        }
        last = *ts;
    }
    None
}

fn covers(outer: Span, inner: Span) -> bool {
    outer.from <= inner.from && inner.to <= outer.to
}

//! When and what the overhead cap gave up.

use crate::model::{Session, Span};
use crate::recording::lever::Lever;
use crate::recording::record::Throttle;

/// A time in which less was recorded than was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<'a> {
    pub span: Span,
    /// What began it.
    pub began: &'a Throttle,
}

impl Gap<'_> {
    /// What the recording lacks meanwhile.
    pub fn lost(&self) -> String {
        match Lever::from_name(&self.began.lever) {
            Some(Lever::Sampling) => format!("{} CPU samples a second on each CPU", self.began.value),
            Some(lever) => lever.lost().to_owned(),
            None => format!("less of `{}`", self.began.lever),
        }
    }

    /// The cost that led to it, millionths of the host's CPU time.
    pub fn cost_ppm(&self) -> u64 {
        let Throttle {
            bpf_ns,
            process_ns,
            window_ns,
            cpus,
            ..
        } = self.began;
        let host = u128::from(*window_ns) * u128::from(*cpus);
        let cost = (u128::from(*bpf_ns) + u128::from(*process_ns)) * 1_000_000;
        u64::try_from(cost.checked_div(host).unwrap_or(0)).unwrap_or(u64::MAX)
    }
}

/// All of them, by lever in the order in which levers were first pulled.
pub fn all(session: &Session) -> Vec<Gap<'_>> {
    let mut levers: Vec<&str> = Vec::new();
    for throttle in &session.throttles {
        if !levers.contains(&throttle.lever.as_str()) {
            levers.push(&throttle.lever);
        }
    }
    let mut gaps = Vec::new();
    for lever in levers {
        let of_lever: Vec<&Throttle> = session.throttles.iter().filter(|one| one.lever == lever).collect();
        for (index, began) in of_lever.iter().enumerate().filter(|(_, one)| one.reduced) {
            let to = of_lever.get(index + 1).map_or(session.span.to, |next| next.ts);
            let span = Span { from: began.ts, to }.clip(session.span);
            gaps.push(Gap { span, began });
        }
    }
    gaps
}

/// The times in which nothing of threads' times was recorded.
pub fn without_times(session: &Session) -> Vec<Span> {
    all(session)
        .into_iter()
        .filter(|gap| gap.began.lever == Lever::Scheduling.name())
        .map(|gap| gap.span)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(ts: u64, lever: &str, value: u32, reduced: bool) -> Throttle {
        Throttle {
            ts,
            lever: lever.to_owned(),
            value,
            reduced,
            bpf_ns: 30,
            process_ns: 10,
            window_ns: 500,
            cpus: 2,
            cap_ppm: 20_000,
            dearest: String::new(),
        }
    }

    /// Make sure that a gap ends where its lever is set anew or with the recording, and tells its cost.
    #[test]
    fn gaps_end() {
        let session = Session {
            span: Span { from: 0, to: 1_000 },
            throttles: vec![
                throttle(100, "sampling", 49, true),
                throttle(200, "scheduling", 0, true),
                throttle(300, "sampling", 24, true),
                throttle(400, "sampling", 99, false),
                throttle(500, "scheduling", 1, false),
                throttle(900, "scheduling", 0, true),
                throttle(950, "something_new", 0, true),
            ],
            ..Session::default()
        };
        let spans: Vec<(&str, u64, u64)> = all(&session)
            .iter()
            .map(|gap| (gap.began.lever.as_str(), gap.span.from, gap.span.to))
            .collect();
        assert_eq!(
            spans,
            [
                ("sampling", 100, 300),
                ("sampling", 300, 400),
                ("scheduling", 200, 500),
                ("scheduling", 900, 1_000),
                ("something_new", 950, 1_000),
            ]
        );
        assert_eq!(all(&session)[0].cost_ppm(), 40_000);
        assert!(all(&session)[0].lost().starts_with("49 "));
        assert_eq!(without_times(&session).len(), 2);
        assert!(all(&Session::default()).is_empty());
    }
}

//! What the log of a test program says: libtest's lines, and the reasons that skipped tests give.

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    /// It said why, and passed.
    Skipped(String),
    /// Marked to be left out.
    Ignored,
    Failed,
}

/// The tests in the log of a program that ran them one at a time, with their output not held back.
pub(crate) fn verdicts(log: &str) -> Vec<(String, Verdict)> {
    let mut found: Vec<(String, Verdict)> = Vec::new();
    let mut reason: Option<String> = None;
    let mut open: Option<String> = None;
    for line in log.lines() {
        let mut rest = line;
        if let Some((name, after)) = line.strip_prefix("test ").and_then(|text| text.split_once(" ... ")) {
            // The one before never came to an end of its own.
            if let Some(name) = open.replace(name.to_owned()) {
                found.push((name, Verdict::Failed));
            }
            reason = None;
            rest = after;
        }
        if open.is_none() {
            continue;
        }
        if let Some((_, why)) = rest.split_once("skipped: ") {
            reason.get_or_insert_with(|| why.trim().to_owned());
        }
        let verdict = match rest.trim_end() {
            "ok" => Some(reason.take().map_or(Verdict::Passed, Verdict::Skipped)),
            "FAILED" => Some(Verdict::Failed),
            text if text == "ignored" || text.starts_with("ignored, ") => Some(Verdict::Ignored),
            _ => None,
        };
        if let Some(verdict) = verdict
            && let Some(name) = open.take()
        {
            found.push((name, verdict));
        }
    }
    if let Some(name) = open {
        found.push((name, Verdict::Failed));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each test's end is told from what it prints, and that one which never ended has failed.
    #[test]
    fn verdicts_of_a_log() {
        let log = "\nrunning 5 tests\n\
                   test a::one ... ok\n\
                   test two ... skipped: needs root\nok\n\
                   test three ... some output\nok then, not yet\nFAILED\n\
                   test four ... ignored, too long\n\
                   test five ... output\n";
        let name = |name: &str| name.to_owned();
        assert_eq!(
            verdicts(log),
            [
                (name("a::one"), Verdict::Passed),
                (name("two"), Verdict::Skipped("needs root".to_owned())),
                (name("three"), Verdict::Failed),
                (name("four"), Verdict::Ignored),
                (name("five"), Verdict::Failed),
            ]
        );
    }
}

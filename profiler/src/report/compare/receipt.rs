//! Verdicts on budgets with what they are about, as one JSON object: what a benchmark leaves to be kept. Times are in ns, sizes in
//! bytes, changes and shares parts of 1.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::compare::budget::{self, Checked, Kept};
use crate::compare::results::{Host, Results};

/// Raised when a field's meaning changes or a field goes.
const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Receipt<'a> {
    kind: &'static str,
    schema: u32,
    verdict: &'static str,
    #[serde(flatten)]
    results: About<'a>,
    /// `null` without one.
    baseline: Option<About<'a>>,
    /// What is to be known of how the figures came about.
    cautions: &'a [String],
    budgets: Vec<Verdict<'a>>,
}

#[derive(Serialize)]
struct About<'a> {
    name: &'a str,
    began_real_ns: u64,
    command: &'a [String],
    commit: Option<&'a str>,
    notes: &'a BTreeMap<String, String>,
    host: &'a Host,
    /// phasegraph's version that recorded.
    version: &'a str,
    /// Of `results.json`; empty when there was none.
    checksum: &'a str,
}

#[derive(Serialize)]
struct Verdict<'a> {
    series: &'a str,
    budget: &'a str,
    verdict: &'static str,
    /// `null` when there is none.
    value: Option<f64>,
    /// The same for people.
    shown: &'a str,
    limit: &'a str,
    why: &'a str,
}

fn about(results: &Results) -> About<'_> {
    About {
        name: &results.name,
        began_real_ns: results.began_real_ns,
        command: &results.command,
        commit: results.commit.as_deref(),
        notes: &results.notes,
        host: &results.host,
        version: &results.version,
        checksum: &results.checksum,
    }
}

/// The object's text.
///
/// # Errors
///
/// serde_json's; none that depends on the verdicts.
pub fn render(
    results: &Results,
    baseline: Option<&Results>,
    checked: &[Checked],
    cautions: &[String],
) -> serde_json::Result<Vec<u8>> {
    let receipt = Receipt {
        kind: "phasegraph receipt",
        schema: SCHEMA,
        verdict: match budget::status(checked) {
            0 => "within",
            1 => "over",
            _ => "can't tell",
        },
        results: about(results),
        baseline: baseline.map(about),
        cautions,
        budgets: checked.iter().map(verdict).collect(),
    };
    let mut json = serde_json::to_vec_pretty(&receipt)?;
    json.push(b'\n');
    Ok(json)
}

fn verdict(checked: &Checked) -> Verdict<'_> {
    Verdict {
        series: &checked.series,
        budget: &checked.name,
        verdict: match checked.kept {
            Kept::Within => "within",
            Kept::Alert => "alert",
            Kept::CantTell => "can't tell",
            Kept::Over => "over",
        },
        value: checked.figure,
        shown: &checked.value,
        limit: &checked.limit,
        why: &checked.why,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Make sure that a receipt has the verdicts as numbers and words, and what they are about.
    #[test]
    fn receipt() {
        let mut results = Results {
            name: "new".to_owned(),
            commit: Some("a".repeat(40)),
            ..Results::default()
        };
        results.host.cores = Some(2);
        results.notes.insert("toolchain".to_owned(), "rustc 1.95.0".to_owned());
        let mut checked = vec![Checked {
            series: "warm".to_owned(),
            name: "phase.start.p95 < \"1s\"".to_owned(),
            kept: Kept::Within,
            value: "300 ms".to_owned(),
            figure: Some(3e8),
            limit: "< 1.00 s".to_owned(),
            why: String::new(),
        }];
        let read = |checked: &[Checked], baseline| -> Value {
            serde_json::from_slice(&render(&results, baseline, checked, &[]).unwrap()).unwrap()
        };
        let receipt = read(&checked, None);
        for (pointer, value) in [
            ("/verdict", json!("within")),
            ("/commit", json!("a".repeat(40))),
            ("/notes/toolchain", json!("rustc 1.95.0")),
            ("/host/cores", json!(2)),
            ("/baseline", json!(null)),
            ("/budgets/0/value", json!(3e8)),
            ("/budgets/0/limit", json!("< 1.00 s")),
        ] {
            assert_eq!(receipt.pointer(pointer), Some(&value), "{pointer}");
        }
        checked[0].kept = Kept::Over;
        let base = Results {
            name: "base".to_owned(),
            ..Results::default()
        };
        let receipt = read(&checked, Some(&base));
        assert_eq!(receipt["verdict"], "over");
        assert_eq!(receipt["baseline"]["name"], "base");
    }
}

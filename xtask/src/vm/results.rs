//! What the machines gave, as data: one file a kernel, from which the tables in the documents are made.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::log::{self, Verdict};

/// What one kernel gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kernel {
    /// What one calls it: `6.1`, say.
    pub(crate) name: String,
    /// As `uname -r` tells it.
    pub(crate) release: String,
    pub(crate) distribution: String,
    /// Each signal and the rung it was taken by, as the recording of the demo says, in its order.
    pub(crate) signals: Vec<Signal>,
    /// Members of kernel structures that are not there, and other facts of that recording.
    pub(crate) facts: Vec<Fact>,
    /// Every rung there is, and what became of forcing it.
    pub(crate) rungs: Vec<Rung>,
    pub(crate) setups: Vec<Setup>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    pub(crate) name: String,
    pub(crate) rung: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rung {
    /// `SIGNAL=RUNG`.
    pub(crate) rung: String,
    /// Why the kernel lacks it; `None` when it gave a recording.
    pub(crate) refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) items: Vec<Item>,
}

/// What became of a row of the plan on one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    pub(crate) name: String,
    /// Tests that passed; 0 for what is no test program.
    pub(crate) passed: usize,
    pub(crate) skipped: Vec<Skipped>,
    /// What went wrong, in words.
    pub(crate) failures: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Skipped {
    pub(crate) test: String,
    pub(crate) why: String,
}

impl Kernel {
    /// What went wrong: set-up, item and words.
    pub(crate) fn failures(&self) -> Vec<String> {
        let items = self
            .setups
            .iter()
            .flat_map(|setup| setup.items.iter().map(move |item| (setup, item)));
        items
            .flat_map(|(setup, item)| {
                let place = format!("{}: {}: {}", self.name, setup.name, item.name);
                item.failures.iter().map(move |failure| format!("{place}: {failure}"))
            })
            .collect()
    }

    /// This, and what `before` has of rows that did not run now. Of another build of the kernel nothing is kept.
    pub(crate) fn over(mut self, before: Option<Kernel>) -> Kernel {
        let Some(before) = before.filter(|before| before.release == self.release) else {
            return self;
        };
        if self.signals.is_empty() {
            (self.signals, self.facts) = (before.signals, before.facts);
        }
        if self.rungs.is_empty() {
            self.rungs = before.rungs;
        }
        for setup in before.setups {
            match self.setups.iter_mut().find(|now| now.name == setup.name) {
                Some(now) => {
                    let lacks = |item: &Item| !now.items.iter().any(|known| known.name == item.name);
                    let more: Vec<Item> = setup.items.into_iter().filter(lacks).collect();
                    now.items.extend(more);
                }
                None => self.setups.push(setup),
            }
        }
        self
    }

    /// Takes over what the demo's recording says of the kernel, as `show --json` has it.
    ///
    /// # Errors
    ///
    /// When the text is no such JSON.
    pub(crate) fn take_recording(&mut self, json: &str) -> anyhow::Result<()> {
        let report: Report = serde_json::from_str(json).context("what `show --json` says of the demo")?;
        self.signals = report.host.probes;
        // Of the host and of how it was run, not of the kernel.
        self.facts = report
            .host
            .facts
            .into_iter()
            .filter(|fact| fact.name.contains("absent"))
            .collect();
        Ok(())
    }

    /// Takes over what became of forcing each rung: a line each, `SIGNAL=RUNG ok` or `SIGNAL=RUNG refused: WHY`.
    pub(crate) fn take_rungs(&mut self, text: &str) {
        self.rungs = text
            .lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(rung, result)| Rung {
                rung: rung.to_owned(),
                refused: result.strip_prefix("refused:").map(|why| why.trim().to_owned()),
            })
            .collect();
    }
}

/// The part of `show --json` that is read here.
#[derive(Deserialize)]
struct Report {
    host: Host,
}

#[derive(Deserialize)]
struct Host {
    probes: Vec<Signal>,
    facts: Vec<Fact>,
}

/// Judges an item: its exit status, its log if it is a test program's, and the tests that must not be skipped.
pub(crate) fn judge(name: &str, status: Option<i32>, log: Option<&str>, never_skipped: &[&str]) -> Item {
    let mut item = Item {
        name: name.to_owned(),
        passed: 0,
        skipped: Vec::new(),
        failures: Vec::new(),
    };
    let verdicts = log.map(log::verdicts).unwrap_or_default();
    for (test, verdict) in &verdicts {
        match verdict {
            Verdict::Passed => item.passed += 1,
            Verdict::Ignored => {}
            Verdict::Failed => item.failures.push(format!("{test} failed")),
            Verdict::Skipped(why) => item.skipped.push(Skipped {
                test: test.clone(),
                why: why.clone(),
            }),
        }
    }
    for wanted in never_skipped {
        match verdicts.iter().find(|(test, _)| test == wanted) {
            Some((_, Verdict::Skipped(why))) => item.failures.push(format!("{wanted} was skipped: {why}")),
            Some(_) => {}
            None => item.failures.push(format!("{wanted} did not run")),
        }
    }
    if item.failures.is_empty() {
        match status {
            Some(0) => {}
            Some(124 | 137) => item.failures.push("ended at its deadline".to_owned()),
            Some(status) => item.failures.push(format!("exit status {status}")),
            None => item.failures.push("the machine ended before it did".to_owned()),
        }
    }
    item
}

/// Where the results of a kernel are kept, in `folder`.
fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.json"))
}

/// Where the verifier's counts of a kernel are kept, in `folder`: lines of the test that reads them.
pub(crate) fn verified(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.verified"))
}

/// Writes a kernel's results into `folder`.
///
/// # Errors
///
/// When the file can't be written.
pub(crate) fn write(folder: &Path, kernel: &Kernel) -> anyhow::Result<()> {
    let path = file(folder, &kernel.name);
    let mut text = serde_json::to_string_pretty(kernel).context("can't write the results")?;
    text.push('\n');
    fs::write(&path, text).with_context(|| path.display().to_string())
}

/// Reads the results in `folder` of the kernels that have some.
///
/// # Errors
///
/// When a file is there and can't be read.
pub(crate) fn read(folder: &Path, names: &[&str]) -> anyhow::Result<Vec<Kernel>> {
    let mut found = Vec::new();
    for path in names.iter().map(|name| file(folder, name)).filter(|path| path.exists()) {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        found.push(serde_json::from_str(&text).with_context(|| path.display().to_string())?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that an item fails by its exit status, by a test, by a test that was skipped and may not be, and by one
    /// that did not run.
    #[test]
    fn judgement() {
        let log = "test a ... ok\ntest b ... skipped: no crun\nok\n";
        assert_eq!(judge("x", Some(0), Some(log), &["a"]).failures, [""; 0]);
        assert_eq!(judge("x", Some(0), Some(log), &["a"]).passed, 1);
        assert_eq!(
            judge("x", Some(0), Some(log), &["b"]).failures,
            ["b was skipped: no crun"]
        );
        assert_eq!(judge("x", Some(0), Some(log), &["c"]).failures, ["c did not run"]);
        assert_eq!(
            judge("x", Some(0), Some("test a ... FAILED\n"), &[]).failures,
            ["a failed"]
        );
        assert_eq!(judge("x", Some(137), None, &[]).failures, ["ended at its deadline"]);
        assert_eq!(
            judge("x", None, None, &[]).failures,
            ["the machine ended before it did"]
        );
    }

    /// Make sure that a run of a part replaces that part alone, and that nothing of another kernel's build is kept.
    #[test]
    fn part_of_the_rows() {
        let kernel = |release: &str, items: &[(&str, usize)], rungs: &str| {
            let item = |(name, passed): &(&str, usize)| Item {
                name: (*name).to_owned(),
                passed: *passed,
                skipped: Vec::new(),
                failures: Vec::new(),
            };
            let mut kernel = Kernel {
                release: release.to_owned(),
                setups: vec![Setup {
                    name: "normal".to_owned(),
                    items: items.iter().map(item).collect(),
                }],
                ..Kernel::default()
            };
            kernel.take_rungs(rungs);
            kernel
        };
        let before = kernel("6.1.1", &[("a", 1), ("b", 2)], "x=y ok\n");
        let now = kernel("6.1.1", &[("b", 3)], "").over(Some(before.clone()));
        assert_eq!(now, kernel("6.1.1", &[("b", 3), ("a", 1)], "x=y ok\n"));
        let newer = kernel("6.1.2", &[("b", 3)], "");
        assert_eq!(newer.clone().over(Some(before)), newer);
    }

    /// Make sure that a recording's rungs and the forced ones are taken over.
    #[test]
    fn facts() {
        let mut kernel = Kernel::default();
        kernel
            .take_recording(
                r#"{"host": {"probes": [{"name": "a", "rung": "tp_btf"}],
                    "facts": [{"name": "cgroup", "value": "v2"}, {"name": "members absent", "value": "x.y"}], "more": 1}, "self": 2}"#,
            )
            .unwrap();
        kernel.take_rungs("a=tp_btf ok\nb=kprobe refused: no such thing\n");
        assert_eq!((kernel.signals[0].rung.as_str(), kernel.facts.len()), ("tp_btf", 1));
        let refused: Vec<_> = kernel.rungs.iter().map(|rung| rung.refused.as_deref()).collect();
        assert_eq!(refused, [None, Some("no such thing")]);
    }
}

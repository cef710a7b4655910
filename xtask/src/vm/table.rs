//! The tables in the documents that are made from results.
//!
//! `docs/kernels/NAME.json` has what each kernel gave; the tables in `docs/kernel-support.md` are made from these files,
//! and a test compares them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use super::results::{self, Kernel};
use super::{kernel, plan};
use crate::{exec, workspace};

const DOCUMENT: &str = "docs/kernel-support.md";
const RESULTS: &str = "docs/kernels";

/// Takes the results in `folder` into the documents, and makes the tables anew.
///
/// # Errors
///
/// When a file can't be read or written, or the document lacks its marks.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let workspace = workspace()?;
    let kept = workspace.join(RESULTS);
    fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
    for kernel in results::read(folder, &names())? {
        results::write(&kept, &kernel)?;
    }
    let path = workspace.join(DOCUMENT);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let text = with_tables(&text, &results::read(&kept, &names())?)?;
    fs::write(&path, text).with_context(|| path.display().to_string())?;
    exec::announce(format!("wrote {}", path.display()));
    verified(folder)
}

/// Has the verifier's table made anew: the test that holds programs to their limits writes it, with this kernel's column.
fn verified(folder: &Path) -> anyhow::Result<()> {
    let files = names().into_iter().map(|name| results::verified(folder, name));
    let files: Vec<_> = files.filter(|path| path.exists()).collect();
    if files.is_empty() {
        return Ok(());
    }
    exec::run(
        exec::cargo()
            .current_dir(workspace()?)
            .args([
                "test",
                "--quiet",
                "--locked",
                "--package",
                "phasegraph",
                "--lib",
                "verified",
            ])
            .env("PHASEGRAPH_UPDATE_DOCS", "1")
            .env(
                "PHASEGRAPH_VERIFIED_IN",
                std::env::join_paths(files).context("a path with a colon")?,
            ),
    )
}

fn names() -> Vec<&'static str> {
    kernel::SUITES.iter().map(|(name, _)| *name).collect()
}

/// The document with its tables made from `kernels`.
fn with_tables(document: &str, kernels: &[Kernel]) -> anyhow::Result<String> {
    let mut text = document.to_owned();
    for (name, table) in [
        ("kernels", kernels_table(kernels)),
        ("taken rungs", rungs_table(kernels)),
        ("machines", machines_table(kernels)),
    ] {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
        let (before, rest) = text
            .split_once(&begin)
            .with_context(|| format!("{DOCUMENT} lacks {begin}"))?;
        let (_, after) = rest
            .split_once(&end)
            .with_context(|| format!("{DOCUMENT} lacks {end}"))?;
        text = format!("{before}{begin}\n{table}\n{end}{after}");
    }
    Ok(text)
}

/// Kernels, and what was found of each as a whole.
fn kernels_table(kernels: &[Kernel]) -> String {
    let mut text =
        String::from("| Kernel | From | Tests passed | Skipped | Failed | Absent |\n|---|---|---|---|---|---|\n");
    for kernel in kernels {
        let items = || kernel.setups.iter().flat_map(|setup| &setup.items);
        let passed: usize = items().map(|item| item.passed).sum();
        let skipped: usize = items().map(|item| item.skipped.len()).sum();
        let absent: Vec<_> = kernel
            .facts
            .iter()
            .map(|fact| format!("`{}`", cell(&fact.value)))
            .collect();
        let absent = if absent.is_empty() {
            "–".to_owned()
        } else {
            absent.join(", ")
        };
        let _ = writeln!(
            text,
            "| {} | {} | {passed} | {skipped} | {} | {absent} |",
            cell(&kernel.release),
            cell(&kernel.distribution),
            kernel.failures().len(),
        );
    }
    text
}

/// Signals and kernels: the rung that was taken, and which of the others can be forced.
fn rungs_table(kernels: &[Kernel]) -> String {
    let mut text = head("Signal", kernels);
    let mut signals: Vec<&str> = Vec::new();
    for signal in kernels.iter().flat_map(|kernel| &kernel.signals) {
        if !signals.contains(&signal.name.as_str()) {
            signals.push(&signal.name);
        }
    }
    for name in signals {
        let _ = write!(text, "| `{}` |", cell(name));
        for kernel in kernels {
            let taken = kernel.signals.iter().find(|signal| signal.name == name);
            let mut words = vec![taken.map_or("–".to_owned(), |signal| format!("**{}**", cell(&signal.rung)))];
            let forced = kernel
                .rungs
                .iter()
                .filter_map(|rung| Some((rung.rung.split_once('=')?, rung)));
            for ((signal, rung), outcome) in forced {
                if signal == name && taken.is_none_or(|taken| !taken.rung.starts_with(rung)) {
                    words.push(match outcome.refused {
                        None => cell(rung),
                        Some(_) => format!("~~{}~~", cell(rung)),
                    });
                }
            }
            let _ = write!(text, " {} |", words.join(", "));
        }
        text.push('\n');
    }
    text
}

/// Set-ups, items and kernels: how many tests passed.
fn machines_table(kernels: &[Kernel]) -> String {
    let mut text = head("Machine, tests", kernels);
    for setup in &plan::SETUPS {
        for row in plan::rows(setup.name, plan::Tier::Full) {
            let _ = write!(text, "| {}: {} |", setup.what, row.name);
            for kernel in kernels {
                let item = kernel
                    .setups
                    .iter()
                    .filter(|found| found.name == setup.name)
                    .flat_map(|found| &found.items)
                    .find(|item| item.name == row.name);
                let result = match item {
                    None => "not run".to_owned(),
                    Some(item) if !item.failures.is_empty() => format!("**{} failed**", item.failures.len()),
                    Some(item) if item.passed == 0 && item.skipped.is_empty() => "ok".to_owned(),
                    Some(item) if item.skipped.is_empty() => format!("{} ok", item.passed),
                    Some(item) => format!("{} ok, {} skipped", item.passed, item.skipped.len()),
                };
                let _ = write!(text, " {result} |");
            }
            text.push('\n');
        }
    }
    let reasons: BTreeSet<_> = kernels
        .iter()
        .flat_map(|kernel| &kernel.setups)
        .flat_map(|setup| &setup.items)
        .flat_map(|item| &item.skipped)
        .map(|skipped| format!("- `{}`: {}", cell(&skipped.test), cell(&skipped.why)))
        .collect();
    if !reasons.is_empty() {
        text.push_str("\nSkipped, and why:\n\n");
        for reason in reasons {
            text.push_str(&reason);
            text.push('\n');
        }
    }
    text
}

fn head(first: &str, kernels: &[Kernel]) -> String {
    let mut text = format!("| {first} |");
    for kernel in kernels {
        let _ = write!(text, " {} |", cell(&kernel.name));
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(kernels.len()));
    text.push('\n');
    text
}

/// Text for a cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the tables in the document are those of the results beside it.
    #[test]
    fn document_is_of_the_results() {
        let workspace = workspace().unwrap();
        let document = fs::read_to_string(workspace.join(DOCUMENT)).unwrap();
        let kernels = results::read(&workspace.join(RESULTS), &names()).unwrap();
        let made = with_tables(&document, &kernels).unwrap();
        assert!(
            made == document,
            "run `cargo xtask vm test --write-docs`, or `cargo xtask vm table` where only the tables changed"
        );
    }

    /// Make sure that a rung that was forced, one that was refused and the one that was taken are told apart, and that no
    /// text from a machine breaks a table.
    #[test]
    fn rungs() {
        let mut kernel = Kernel {
            name: "6.1".to_owned(),
            ..Kernel::default()
        };
        kernel
            .take_recording(r#"{"host": {"probes": [{"name": "a|b", "rung": "fentry of 10"}], "facts": []}}"#)
            .unwrap();
        kernel.take_rungs("a|b=fentry ok\na|b=kprobe ok\na|b=tracepoint refused: no\n");
        let table = rungs_table(&[kernel]);
        assert!(
            table.ends_with("| `a\\|b` | **fentry of 10**, kprobe, ~~tracepoint~~ |\n"),
            "{table}"
        );
    }
}

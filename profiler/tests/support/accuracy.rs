//! How far phases lie from other witnesses: a table that is printed, and kept in `docs/accuracy.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Differences of one kind of edge: the witness's time less phasegraph's, ns.
pub(crate) struct Edge {
    pub what: String,
    pub differences: Vec<i64>,
    /// What is asserted of them, in words.
    pub asserted: String,
}

impl Edge {
    /// Smallest, median and largest difference, ns.
    pub(crate) fn spread(&self) -> [i64; 3] {
        let mut sorted = self.differences.clone();
        sorted.sort_unstable();
        [sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]]
    }
}

/// Prints a table of the edges, and writes it into the document when `PHASEGRAPH_UPDATE_DOCS` is set.
pub(crate) fn tell(section: &str, what: &str, edges: &[Edge]) {
    let table = table(what, edges);
    println!("{section}\n{table}");
    if std::env::var_os("PHASEGRAPH_UPDATE_DOCS").is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/accuracy.md");
    let document = fs::read_to_string(&path).unwrap();
    fs::write(&path, replaced(&document, section, &table)).unwrap();
}

fn table(what: &str, edges: &[Edge]) -> String {
    let mut out = format!(
        "{what}\n\n| Edge | Number | Smallest, ms | Median, ms | Largest, ms | Asserted |\n|---|--:|--:|--:|--:|---|\n"
    );
    for edge in edges {
        let [least, median, most] = edge.spread().map(|ns| ns as f64 / 1e6);
        let number = edge.differences.len();
        writeln!(
            out,
            "| {} | {number} | {least:+.3} | {median:+.3} | {most:+.3} | {} |",
            edge.what, edge.asserted
        )
        .unwrap();
    }
    out
}

/// The document with what stands below the section's heading replaced.
fn replaced(document: &str, section: &str, table: &str) -> String {
    let heading = format!("## {section}\n");
    let start = document
        .find(&heading)
        .unwrap_or_else(|| panic!("docs/accuracy.md has no section {section:?}"));
    let body = start + heading.len();
    let end = document[body..]
        .find("\n## ")
        .map_or(document.len(), |next| body + next);
    format!("{}\n{table}{}", &document[..body], &document[end..])
}

/// Make sure that a section is replaced as a whole, and no other is touched.
#[test]
fn sections() {
    let document = "# A\n\n## one\n\nold\n\n## two\n\nkept\n";
    assert_eq!(
        replaced(document, "one", "new\n"),
        "# A\n\n## one\n\nnew\n\n## two\n\nkept\n"
    );
    assert_eq!(
        replaced(document, "two", "new\n"),
        "# A\n\n## one\n\nold\n\n## two\n\nnew\n"
    );
}

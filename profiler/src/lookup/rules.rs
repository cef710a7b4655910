//! `phasegraph.toml`: the user's own phases by what programs are started as.
//!
//! ```toml
//! [phases]
//! deps = "dnf builddep*"
//! compile = ["make *", "ninja*"]
//! ```

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use super::tree;
use crate::recording::record::{Rules, Text};

/// Where it is looked for when nobody says.
pub const FILE: &str = "phasegraph.toml";
/// The most bytes that it may have.
const MAX_BYTES: u64 = 1 << 20;
/// Most rules of a file, and patterns of a rule.
const MAX: usize = 256;
/// Longest name and pattern, bytes.
const MAX_LEN: usize = 256;

/// Why there are no rules.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}:{line}:{column}: {why}", path.display())]
    Syntax {
        path: PathBuf,
        line: usize,
        column: usize,
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    phases: BTreeMap<String, Spanned<Value>>,
}

/// The rules of `given`; without it those of [`FILE`] in the current folder, if it is there.
///
/// # Errors
///
/// A file that can't be read or makes no sense, with line and column.
pub fn find(given: Option<&Path>) -> Result<Option<Rules>, RulesError> {
    let (path, required) = match given {
        Some(path) => (path, true),
        None => (Path::new(FILE), false),
    };
    let bytes = match tree::open_regular(path).and_then(|file| tree::whole(file, MAX_BYTES)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !required => return Ok(None),
        Err(error) => {
            let path = path.to_owned();
            return Err(RulesError::Read { path, error });
        }
    };
    parse(path, &bytes).map(Some)
}

/// Reads the text of a file that is called `path`.
fn parse(path: &Path, bytes: &[u8]) -> Result<Rules, RulesError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        wrong(path, bytes, at, "this is not UTF-8".to_owned())
    })?;
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(path, bytes, at, error.message().to_owned())
    })?;
    if file.phases.len() > MAX {
        return Err(wrong(path, bytes, 0, format!("more than {MAX} phases")));
    }
    let mut phases = Vec::new();
    for (name, value) in file.phases {
        let Range { start, .. } = value.span();
        let patterns = patterns(&name, value.into_inner()).map_err(|why| wrong(path, bytes, start, why))?;
        phases.push((name, patterns));
    }
    let file = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    Ok(Rules {
        file: file.as_os_str().as_bytes().to_vec(),
        phases,
    })
}

fn patterns(name: &str, value: Value) -> Result<Vec<String>, String> {
    let fits = |text: &str| !text.trim().is_empty() && text.len() <= MAX_LEN && !text.contains(char::is_control);
    if !fits(name) {
        return Err(format!(
            "the name of a phase has 1 to {MAX_LEN} bytes without control characters"
        ));
    }
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    if values.is_empty() || values.len() > MAX {
        return Err(format!("the phase {name:?} has 1 to {MAX} patterns"));
    }
    let pattern = |value: Value| match value {
        Value::String(pattern) if fits(&pattern) => Ok(pattern),
        Value::String(_) => Err(format!(
            "a pattern of the phase {name:?} has 1 to {MAX_LEN} bytes without control characters"
        )),
        other => Err(format!(
            "the phase {name:?} takes a pattern such as \"make *\", or a list of them, not {}",
            other.type_str()
        )),
    };
    values.into_iter().map(pattern).collect()
}

fn wrong(path: &Path, bytes: &[u8], at: usize, why: String) -> RulesError {
    let before = &bytes[..at.min(bytes.len())];
    let line = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    RulesError::Syntax {
        path: path.to_owned(),
        line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
        column: 1 + String::from_utf8_lossy(line).chars().count(),
        why,
    }
}

/// The patterns of one phase.
pub struct Rule<'a>(&'a [String]);

/// Programs whose first operand is the program.
const INTERPRETERS: &[&[u8]] = &[
    b"ash", b"bash", b"dash", b"ksh", b"node", b"perl", b"php", b"ruby", b"sh", b"zsh",
];

impl<'a> Rule<'a> {
    pub fn new(patterns: &'a [String]) -> Rule<'a> {
        Rule(patterns)
    }

    /// The pattern that a program's arguments match, if one does.
    ///
    /// They are compared as one line parted by blanks, from the program's base name on: that of what it was started as,
    /// and behind an interpreter that of the script (`/usr/bin/python3 /usr/bin/dnf builddep x` is `dnf builddep x` too).
    pub fn matches(&self, argv: &[Text]) -> Option<&'a str> {
        let lines: Vec<Text> = [Some(0), script(argv)]
            .into_iter()
            .flatten()
            .filter_map(|start| line(argv.get(start..)?))
            .collect();
        let matching = |pattern: &&String| lines.iter().any(|line| glob(pattern.as_bytes(), line));
        self.0.iter().find(matching).map(String::as_str)
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Index of the script that an interpreter was started with.
fn script(argv: &[Text]) -> Option<usize> {
    let program = base(argv.first()?);
    if !INTERPRETERS.contains(&program) && !program.starts_with(b"python") {
        return None;
    }
    let operand = argv.iter().skip(1).position(|word| !word.starts_with(b"-"))? + 1;
    argv[operand].contains(&b'/').then_some(operand)
}

/// `dnf builddep x` of `/usr/bin/dnf`, `builddep`, `x`.
fn line(argv: &[Text]) -> Option<Text> {
    let (program, rest) = argv.split_first()?;
    let mut line = base(program).to_vec();
    for word in rest {
        line.push(b' ');
        line.extend_from_slice(word);
    }
    Some(line)
}

/// Whether the whole text matches: `*` is any number of bytes, `?` one. Goes back to the last `*` only, so that the time
/// is bounded by the product of the lengths whatever the text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match &mut star {
                Some((begin, taken)) => {
                    *taken += 1;
                    (at, from) = (*begin + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(line: &str) -> Vec<Text> {
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    fn rules(text: &str) -> Result<Rules, String> {
        parse(Path::new("x/phasegraph.toml"), text.as_bytes()).map_err(|error| error.to_string())
    }

    /// Make sure that one pattern and a list of them are read, and the file is named by its full path.
    #[test]
    fn file() {
        let rules =
            rules("# mine\n[phases]\n\"deps\" = \"dnf builddep*\"\ncompile = [\"make *\", 'ninja*']\n").unwrap();
        let names: Vec<&str> = rules.phases.iter().map(|(name, _)| &name[..]).collect();
        assert_eq!(names, ["compile", "deps"]);
        assert_eq!(rules.phases[0].1, ["make *", "ninja*"]);
        assert!(rules.file.starts_with(b"/") && rules.file.ends_with(b"x/phasegraph.toml"));
        assert!(rules_of("").phases.is_empty());
    }

    fn rules_of(text: &str) -> Rules {
        rules(text).unwrap()
    }

    /// Make sure that what makes no sense is an error with the file, line and column where it stands.
    #[test]
    fn errors_have_a_place() {
        for (text, place, why) in [
            ("[phases]\na = 1\n", "2:5", "not integer"),
            ("[phases]\na = [\"x\", 2]\n", "2:5", "not integer"),
            ("[phases]\nok = \"x\"\na = \"\"\n", "3:5", "1 to 256 bytes"),
            ("[phases]\na = []\n", "2:5", "patterns"),
            ("[phase]\na = \"x\"\n", "1:2", "unknown field"),
            ("[phases]\na = \"x\n", "2:", ""),
            ("[phases]\na = \"x\"\na = \"y\"\n", "3:1", "duplicate"),
        ] {
            let error = rules(text).unwrap_err();
            assert!(
                error.starts_with(&format!("x/phasegraph.toml:{place}")),
                "{text:?}: {error}"
            );
            assert!(error.contains(why), "{text:?}: {error}");
        }
        let error = parse(Path::new("p"), b"[phases]\n# \xc3\xa9\xff")
            .unwrap_err()
            .to_string();
        assert_eq!(error, "p:2:4: this is not UTF-8");
    }

    /// Make sure that a file that was asked for must be there, and the one of the folder need not.
    #[test]
    fn missing() {
        assert!(matches!(
            find(Some(Path::new("/nonexistent/x.toml"))),
            Err(RulesError::Read { .. })
        ));
        assert!(matches!(
            find(Some(Path::new("/dev/zero"))),
            Err(RulesError::Read { .. })
        ));
    }

    /// Make sure that a pattern matches the whole line, from the program's base name or its script's on.
    #[test]
    fn matching() {
        let patterns = vec!["dnf builddep*".to_owned(), "ma?e".to_owned()];
        let rule = Rule::new(&patterns);
        for (line, matches) in [
            ("dnf builddep x.spec", true),
            ("/usr/bin/dnf builddep", true),
            ("/usr/bin/python3 /usr/bin/dnf builddep x", true),
            ("/usr/bin/python3 -I -s /usr/bin/dnf builddep x", true),
            ("sh ./dnf builddep", true),
            ("make", true),
            ("make all", false),
            ("dnf install x", false),
            ("cat /usr/bin/make", false),
            ("sh -c make", false),
            ("", false),
        ] {
            assert_eq!(rule.matches(&argv(line)).is_some(), matches, "{line}");
        }
        assert_eq!(rule.matches(&[]), None);
    }

    /// Make sure that globs mean what they say, and that a hostile pair of them ends soon.
    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("*b", "abab", true),
            ("a**", "a", true),
            ("?", "", false),
            ("[a]", "a", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} {text}");
        }
        assert!(!glob("*a".repeat(100).as_bytes(), &[b'b'; 4096]));
    }
}

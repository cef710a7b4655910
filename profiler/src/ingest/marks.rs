//! Marks of the user's own: programs that do nothing, whose exec is the mark.
//!
//! `phasegraph mark …` is one. Where it is not at hand (in a container), `true`, which looks at no argument, serves:
//! `/bin/true phasegraph mark …`.

use crate::recording::record::{MarkOp, Text};

/// comm of this program, whose execs are told wherever they happen.
pub const PROGRAM: &str = "phasegraph";

/// Longest name kept, bytes.
pub const MAX_NAME: usize = 256;

/// What a program's arguments mark, if they do.
pub fn parse(argv: &[Text]) -> Option<(MarkOp, Text)> {
    let (program, rest) = argv.split_first()?;
    let words = match (base(program), rest) {
        (b"phasegraph", [verb, words @ ..]) if verb == b"mark" => words,
        (b"true", [name, verb, words @ ..]) if name == b"phasegraph" && verb == b"mark" => words,
        _ => return None,
    };
    let (mut op, mut name) = (MarkOp::Instant, None);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match &word[..] {
            b"--begin" if op == MarkOp::Instant => op = MarkOp::Begin,
            b"--end" if op == MarkOp::Instant => op = MarkOp::End,
            b"--" if op == MarkOp::Instant && words.len() > 0 => {
                op = MarkOp::Command;
                break;
            }
            word if !word.starts_with(b"-") && name.is_none() => name = Some(word),
            // Not a mark as this program makes it.
            _ => return None,
        }
    }
    let name = name.unwrap_or_default();
    if name.is_empty() && op != MarkOp::End {
        return None;
    }
    Some((op, name[..name.len().min(MAX_NAME)].to_vec()))
}

fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(line: &str) -> Option<(MarkOp, String)> {
        let argv: Vec<Text> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        parse(&argv).map(|(op, name)| (op, String::from_utf8(name).unwrap()))
    }

    /// Make sure that each way to mark is understood, by this program and by `true`.
    #[test]
    fn marks() {
        for (line, op, name) in [
            ("phasegraph mark warm", MarkOp::Instant, "warm"),
            ("/usr/bin/phasegraph mark --begin deps", MarkOp::Begin, "deps"),
            ("phasegraph mark deps --begin", MarkOp::Begin, "deps"),
            ("phasegraph mark --end deps", MarkOp::End, "deps"),
            ("phasegraph mark --end", MarkOp::End, ""),
            ("/bin/true phasegraph mark --begin deps", MarkOp::Begin, "deps"),
            ("phasegraph mark tests -- make check --end", MarkOp::Command, "tests"),
        ] {
            assert_eq!(mark(line), Some((op, name.to_owned())), "{line}");
        }
    }

    /// Make sure that nothing else is a mark.
    #[test]
    fn others() {
        for line in [
            "phasegraph",
            "phasegraph mark",
            "phasegraph mark --begin",
            "phasegraph mark --help",
            "phasegraph mark a b",
            "phasegraph run -- phasegraph mark x",
            "true",
            "true mark x",
            "echo phasegraph mark x",
            "",
        ] {
            assert_eq!(mark(line), None, "{line}");
        }
        assert_eq!(parse(&[]), None);
        let long = format!("phasegraph mark {}", "x".repeat(1000));
        assert_eq!(mark(&long).unwrap().1.len(), MAX_NAME);
    }
}

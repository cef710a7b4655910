//! Instructions of a Dockerfile as steps: how builders number them, and which `RUN` a container carries out.

use super::context::Context;
use crate::model::ProcessIx;
use crate::recording::record::{Lookup, Text};

/// An instruction with its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Instruction {
    pub text: Text,
    /// From 0.
    pub stage: usize,
    /// As the builder prints it: `2/5 RUN make`, in a build of several stages `[1/2] 2/5 RUN make`.
    pub label: Text,
}

impl Instruction {
    /// Whether its keyword is this.
    pub(super) fn is(&self, keyword: &str) -> bool {
        let end = self
            .text
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(self.text.len());
        self.text[..end].eq_ignore_ascii_case(keyword.as_bytes())
    }

    /// The image that a `FROM` begins with.
    pub(super) fn base(&self) -> Option<&[u8]> {
        let words = self.is("FROM").then(|| self.text.split(u8::is_ascii_whitespace))?;
        words.skip(1).find(|word| !word.is_empty() && !word.starts_with(b"--"))
    }

    /// Whether it is the `RUN` that a container's entrypoint carries out.
    pub(super) fn runs(&self, argv: &[Text]) -> bool {
        if !self.is("RUN") || argv.is_empty() {
            return false;
        }
        let mut text = self.text[3..].trim_ascii();
        while let Some(flag) = text.strip_prefix(b"--") {
            let end = flag.iter().position(u8::is_ascii_whitespace).unwrap_or(flag.len());
            text = flag[end..].trim_ascii_start();
        }
        if text.starts_with(b"[")
            && let Ok(words) = serde_json::from_slice::<Vec<String>>(text)
        {
            return words
                .iter()
                .map(|word| word.as_bytes())
                .eq(argv.iter().map(Vec::as_slice));
        }
        argv.last().is_some_and(|last| alike(last, text))
    }
}

/// Whether two shell texts are the same but for white space. The kernel half keeps a bounded argument vector, so a
/// long one need only begin alike.
fn alike(argument: &[u8], text: &[u8]) -> bool {
    const ENOUGH: usize = 1024;
    let mut one = argument.iter().filter(|byte| !byte.is_ascii_whitespace());
    let mut other = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    for same in 0.. {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, Some(_)) => return same >= ENOUGH,
            (a, b) if a != b => return false,
            _ => {}
        }
    }
    false
}

/// Instructions of the file that a build's client read, numbered as its builder numbers them.
///
/// Arguments before the first `FROM` are no steps for podman and buildah; docker counts them, and counts through all
/// stages.
pub(super) fn of_build(context: &Context<'_>, client: ProcessIx, docker: bool) -> Vec<Instruction> {
    let process = context.process(client);
    let found = context.session.lookups.iter().find_map(|lookup| match lookup {
        Lookup::Dockerfile {
            build, instructions, ..
        } if build.tgid == process.tgid && build.start == process.start => Some(instructions),
        _ => None,
    });
    number(found.map_or(&[], Vec::as_slice), docker)
}

fn number(texts: &[Text], docker: bool) -> Vec<Instruction> {
    let mut instructions: Vec<Instruction> = Vec::new();
    let mut stages = 0_usize;
    for text in texts {
        let instruction = Instruction {
            text: text.clone(),
            stage: 0,
            label: Text::new(),
        };
        stages += usize::from(instruction.is("FROM"));
        if stages == 0 && !docker {
            continue;
        }
        instructions.push(Instruction {
            stage: stages.saturating_sub(1),
            ..instruction
        });
    }
    if stages == 0 {
        return Vec::new();
    }
    let mut place = 0;
    for index in 0..instructions.len() {
        let stage = instructions[index].stage;
        let (total, prefix) = if docker {
            place = index + 1;
            (instructions.len(), String::new())
        } else {
            let new = index == 0 || instructions[index - 1].stage != stage;
            place = if new { 1 } else { place + 1 };
            let total = instructions
                .iter()
                .filter(|instruction| instruction.stage == stage)
                .count();
            (
                total,
                if stages > 1 {
                    format!("[{}/{stages}] ", stage + 1)
                } else {
                    String::new()
                },
            )
        };
        let mut label = format!("{prefix}{place}/{total} ").into_bytes();
        label.extend_from_slice(&instructions[index].text);
        instructions[index].label = label;
    }
    instructions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(texts: &[&str], docker: bool) -> Vec<String> {
        let texts: Vec<Text> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        number(&texts, docker)
            .into_iter()
            .map(|step| String::from_utf8(step.label).unwrap())
            .collect()
    }

    /// Make sure that steps are numbered as podman 4.3 and docker 20.10 print them.
    #[test]
    fn numbers() {
        assert_eq!(
            numbered(&["ARG V", "FROM a", "run x"], false),
            ["1/2 FROM a", "2/2 run x"]
        );
        assert_eq!(
            numbered(&["ARG V", "FROM a", "RUN x"], true),
            ["1/3 ARG V", "2/3 FROM a", "3/3 RUN x"]
        );
        assert_eq!(
            numbered(&["FROM a", "RUN x", "FROM b", "USER u", "RUN y"], false),
            [
                "[1/2] 1/2 FROM a",
                "[1/2] 2/2 RUN x",
                "[2/2] 1/3 FROM b",
                "[2/2] 2/3 USER u",
                "[2/2] 3/3 RUN y"
            ]
        );
        assert_eq!(numbered(&["ARG V"], true), [] as [&str; 0]);
    }

    /// Make sure that a RUN is told from another by its text, in both forms, with flags, and cut short.
    #[test]
    fn matches_containers() {
        let runs = |text: &str, argv: &[&str]| {
            let argv: Vec<Text> = argv.iter().map(|word| word.as_bytes().to_vec()).collect();
            Instruction {
                text: text.into(),
                stage: 0,
                label: Text::new(),
            }
            .runs(&argv)
        };
        assert!(runs("RUN make  all", &["/bin/sh", "-c", "make all"]));
        assert!(runs(
            "RUN --mount=type=cache,target=/x --network=none make",
            &["/bin/sh", "-c", "make"]
        ));
        assert!(runs("run [\"/bin/cat\", \"/out\"]", &["/bin/cat", "/out"]));
        assert!(!runs("RUN [\"/bin/cat\", \"/out\"]", &["/bin/cat", "/other"]));
        assert!(!runs("RUN make all", &["/bin/sh", "-c", "make"]));
        assert!(!runs("RUNmake", &["make"]));
        assert!(!runs("RUN make", &[]));
        let long = "x".repeat(5000);
        assert!(runs(&format!("RUN {long}"), &["/bin/sh", "-c", &long[..4000]]));
    }
}

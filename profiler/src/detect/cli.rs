//! Command lines of container clients: which tool, which verb, and the operands that can be told with certainty.
//!
//! A flag that takes a value hides the operand behind it, so a flag of neither list ends the parse with
//! [`Command::sure`] off: an operand is never guessed. The lists are in [`tools`] and [`verbs`].

mod tools;
mod verbs;

use crate::model::Image;
use crate::recording::record::Text;
use tools::{TOOLS, Tool, VERBS};
use verbs::{BUILD, CTR, GRAMMARS, Grammar};

/// A parsed command line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Command {
    /// `podman`, `docker`, …
    pub tool: &'static str,
    /// `run`, `container run`, … as written; empty when there is none.
    pub verb: String,
    /// Flags of the verb by long name without dashes, with the value where they take one.
    pub flags: Vec<(Text, Option<Text>)>,
    /// Operands; empty when [`Command::sure`] is off.
    pub args: Vec<Text>,
    pub sure: bool,
}

impl Command {
    /// The verb without its group: `run` for `container run`.
    pub(crate) fn action(&self) -> &str {
        self.verb.rsplit(' ').next().unwrap_or_default()
    }

    /// Value of the last such flag.
    pub(crate) fn flag(&self, name: &str) -> Option<&Text> {
        let found = self.flags.iter().rev().find(|(flag, _)| flag == name.as_bytes());
        found.and_then(|(_, value)| value.as_ref())
    }

    /// Whether an engine runs it by itself, so that it is nobody's request: after a container's end, as a runtime's hook,
    /// to write a container's log.
    pub(crate) fn is_internal(&self) -> bool {
        match self.tool {
            "nerdctl" => self.verb == "internal" || self.verb == "_NERDCTL_INTERNAL_LOGGING",
            _ => self.verb == "container cleanup",
        }
    }

    /// `podman build`
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.tool, self.verb).trim_end().to_owned()
    }
}

/// Last part of a path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The command line of a client, if the image is one's.
///
/// Helpers that re-execute the client's file carry another name as their first argument (`buildah-copier`), so both
/// the file (unless it is a link to itself) and the first argument must be the client's. Of a script (docker-compose of
/// version 1 is one) the kernel puts the interpreter, with one argument at most, before the file.
pub(crate) fn client(image: &Image) -> Option<Command> {
    let file = base(&image.filename);
    // What a fork inherits is its parent's command line, not its own.
    if !image.exec {
        return None;
    }
    if file != b"exe" && !file.is_empty() && tool(file).is_none() {
        return None;
    }
    let by_interpreter =
        |at: &usize| tool(file).is_some() && image.argv.get(*at).is_some_and(|word| base(word) == file);
    parse(&image.argv).or_else(|| parse(&image.argv[[1, 2].into_iter().find(by_interpreter)?..]))
}

fn tool(name: &[u8]) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name.as_bytes() == name)
}

/// The command line of a build, if it is one's.
pub(crate) fn build(argv: &[Text]) -> Option<Command> {
    parse(argv).filter(|command| command.sure && has(BUILD.verbs, command.action().as_bytes()))
}

/// Parses a client's command line; `None` when the first argument names no client.
pub(crate) fn parse(argv: &[Text]) -> Option<Command> {
    let tool = tool(base(argv.first()?))?;
    let mut rest = argv[1..].iter().peekable();
    let mut verb: Vec<String> = Vec::new();
    while let Some(word) = rest.next() {
        if let Some(flag) = word.strip_prefix(b"-") {
            let name = flag.strip_prefix(b"-").unwrap_or(flag);
            let known = has(tool.values, name);
            // Of an unknown one, what follows is its value unless it is a flag or a verb.
            let other = !name.contains(&b'=')
                && rest
                    .peek()
                    .is_some_and(|next| !next.starts_with(b"-") && !has(VERBS, next));
            if known || other {
                rest.next();
            }
            continue;
        }
        let Ok(word) = std::str::from_utf8(word) else { break };
        if word.len() > 64 || word.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
            break;
        }
        verb.push(word.to_owned());
        if verb.len() == 2 || !has(tool.groups, word.as_bytes()) {
            break;
        }
    }
    let mut command = Command {
        tool: tool.name,
        verb: verb.join(" "),
        flags: Vec::new(),
        args: Vec::new(),
        sure: false,
    };
    let action = command.action().to_owned();
    let grammars = match tool.name {
        "ctr" => CTR,
        _ => GRAMMARS,
    };
    if let Some(grammar) = grammars.iter().find(|grammar| has(grammar.verbs, action.as_bytes())) {
        operands(grammar, rest, &mut command);
        if !command.sure {
            command.args.clear();
        }
    }
    Some(command)
}

/// Whether a list of words holds this one.
fn has(list: &str, name: &[u8]) -> bool {
    list.split_ascii_whitespace().any(|word| word.as_bytes() == name)
}

fn operands<'a>(grammar: &Grammar, mut words: impl Iterator<Item = &'a Text>, command: &mut Command) {
    while let Some(word) = words.next() {
        if word == b"--" {
            command.args.extend(words.by_ref().cloned());
            break;
        }
        let long = word.strip_prefix(b"--").or_else(|| {
            let flag = word.strip_prefix(b"-").filter(|flag| flag.len() > 1)?;
            grammar.one_dash.then_some(flag)
        });
        if let Some(flag) = long {
            let mut parts = flag.splitn(2, |byte| *byte == b'=');
            let name = parts.next().unwrap_or_default().to_vec();
            let value = match parts.next() {
                Some(value) => Some(value.to_vec()),
                None if has(grammar.switches, &name) => None,
                None if has(grammar.values, &name) => match words.next() {
                    Some(value) => Some(value.clone()),
                    None => return,
                },
                None => return,
            };
            command.flags.push((name, value));
        } else if word.len() > 1 && word.starts_with(b"-") {
            let mut cluster = &word[1..];
            while let Some((letter, rest)) = cluster.split_first() {
                let Some((_, name)) = grammar.letters.iter().find(|(known, _)| known == letter) else {
                    return;
                };
                cluster = rest;
                if has(grammar.switches, name.as_bytes()) {
                    command.flags.push((name.as_bytes().to_vec(), None));
                    continue;
                }
                let value = match cluster {
                    [] => words.next().cloned(),
                    _ => Some(cluster.strip_prefix(b"=").unwrap_or(cluster).to_vec()),
                };
                let Some(value) = value else { return };
                command.flags.push((name.as_bytes().to_vec(), Some(value)));
                break;
            }
        } else {
            command.args.push(word.clone());
            if !grammar.mixed {
                command.args.extend(words.by_ref().cloned());
                break;
            }
        }
    }
    command.sure = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Command {
        parse(&text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>()).unwrap()
    }

    fn args(command: &Command) -> Vec<&str> {
        command
            .args
            .iter()
            .map(|arg| std::str::from_utf8(arg).unwrap())
            .collect()
    }

    /// Make sure that verb, flags and operands are told apart, in each way of writing a flag.
    #[test]
    fn run_command_lines() {
        let run = command("/usr/bin/podman --log-level debug container run --rm -it -eA=b -w /x --name=n img sh -c x");
        assert_eq!((run.name().as_str(), run.action()), ("podman container run", "run"));
        assert_eq!(args(&run), ["img", "sh", "-c", "x"]);
        assert_eq!(run.flag("name"), Some(&b"n".to_vec()));
        assert_eq!(run.flag("env"), Some(&b"A=b".to_vec()));
        assert_eq!(run.flag("rm"), None);
        let build = command("docker -H unix:///s build -t a --no-cache . -f F");
        assert_eq!((args(&build), build.flag("file")), (vec!["."], Some(&b"F".to_vec())));
        assert_eq!(args(&command("docker stop -t 1 a b")), ["a", "b"]);
        assert_eq!(
            command("podman --new-global x --remote --other=1 container cleanup --rm a").verb,
            "container cleanup"
        );
        assert_eq!(args(&command("docker exec -it a sh -x")), ["a", "sh", "-x"]);
        assert_eq!(
            args(&command("podman pull -q --tls-verify=false r/a r/b")),
            ["r/a", "r/b"]
        );
        let copy = command("skopeo --policy p copy --src-creds u docker://a oci:b");
        assert_eq!((copy.verb.as_str(), args(&copy)), ("copy", vec!["docker://a", "oci:b"]));
    }

    /// Make sure that ctr's own way of writing is understood: one dash or two before a long name, the image before the
    /// container's id.
    #[test]
    fn ctr_command_lines() {
        let run = command("ctr -n test run --rm -snapshotter=native --env A=b docker.io/x/y:1 one sh -c x");
        assert_eq!(
            (run.action(), args(&run)),
            ("run", vec!["docker.io/x/y:1", "one", "sh", "-c", "x"])
        );
        let pull = command("ctr --address /s image pull --plain-http -platform linux/amd64 r/a:1");
        assert_eq!((pull.verb.as_str(), args(&pull)), ("image pull", vec!["r/a:1"]));
        assert_eq!(args(&command("ctr t exec -exec-id e one true")), ["one", "true"]);
        assert!(!command("ctr run --brand-new x one").sure);
    }

    /// Make sure that behind an unknown flag nothing is taken for an operand.
    #[test]
    fn unknown_flags_end_certainty() {
        for text in [
            "podman run --brand-new img sh",
            "podman run -Z img",
            "docker run --name",
        ] {
            let command = command(text);
            assert!(!command.sure && command.args.is_empty(), "{text}");
        }
        assert!(command("podman run --brand-new=1 img").sure);
    }

    /// Make sure that helpers under the client's own file are no clients.
    #[test]
    fn helpers_are_no_clients() {
        let image = |file: &str, argv: &str| Image {
            filename: file.into(),
            argv: argv.split(' ').map(|word| word.into()).collect(),
            exec: true,
            ..Image::default()
        };
        assert!(client(&image("/proc/self/exe", "buildah-copier")).is_none());
        assert!(client(&image("/usr/bin/conmon", "podman")).is_none());
        assert!(client(&image("/usr/bin/podman", "podman ps")).is_some());
        assert!(client(&image("/proc/self/exe", "podman ps")).is_some());
    }

    /// Make sure that a client that is a script is known behind its interpreter, and a script that is given a client's
    /// name is none.
    #[test]
    fn scripts() {
        let name = |file: &str, argv: &str| {
            let image = Image {
                filename: file.into(),
                argv: argv.split(' ').map(|word| word.into()).collect(),
                exec: true,
                ..Image::default()
            };
            client(&image).map(|command| command.name())
        };
        let compose = "/usr/bin/docker-compose";
        for argv in [
            "/usr/bin/python3 /usr/bin/docker-compose -f x.yml up -d",
            "/usr/bin/python3 -s /usr/bin/docker-compose --project-name p up",
            "/usr/bin/docker-compose up",
        ] {
            assert_eq!(name(compose, argv).as_deref(), Some("docker-compose up"), "{argv}");
        }
        assert_eq!(name("/usr/bin/python3", "python3 /usr/bin/docker-compose up"), None);
        assert_eq!(name("/x/wrapper", "/bin/sh /x/wrapper docker run"), None);
        assert_eq!(name("/usr/bin/docker", "x"), None);
    }

    /// Make sure that what engines call by themselves is nobody's request.
    #[test]
    fn internal_commands() {
        for text in [
            "podman --root /r container cleanup --rm a",
            "nerdctl --data-root /d internal oci-hook createRuntime",
            "nerdctl _NERDCTL_INTERNAL_LOGGING /d",
        ] {
            assert!(command(text).is_internal(), "{text}");
        }
        assert!(!command("nerdctl --data-root /d run img").is_internal());
    }
}

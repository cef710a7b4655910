//! Command lines of OCI runtimes: runc's, which crun and others follow.

use crate::recording::record::Text;

/// What a runtime was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    /// Create and start in one.
    Run,
    Start,
    Exec,
    Kill,
    Delete,
}

/// A runtime's command line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub verb: Verb,
    pub id: Text,
    pub bundle: Text,
    /// Operands behind the id: the signal of `kill`, the command of `exec`.
    pub rest: Vec<Text>,
}

/// Flags that take a value, before the verb and behind it.
const GLOBAL_VALUES: &[&str] = &[
    "cgroup-manager",
    "criu",
    "log",
    "log-format",
    "log-level",
    "root",
    "rootless",
];
const VERB_VALUES: &[&str] = &[
    "additional-gids",
    "apparmor",
    "bundle",
    "cap",
    "cgroup",
    "config",
    "console-socket",
    "cwd",
    "env",
    "pid-file",
    "pidfd-socket",
    "preserve-fds",
    "process",
    "process-label",
    "user",
];
/// Letters of flags that take a value, and their names.
const LETTERS: &[(u8, &str)] = &[
    (b'b', "bundle"),
    (b'c', "cap"),
    (b'e', "env"),
    (b'f', "config"),
    (b'g', "additional-gids"),
    (b'p', "process"),
    (b'u', "user"),
];

/// Parses a runtime's arguments; `None` for verbs that change nothing in a container's life (`state`, `ps`, `init` …).
pub(super) fn parse(argv: &[Text]) -> Option<Call> {
    let mut words = argv.get(1..)?.iter();
    let verb = loop {
        let word = words.next()?;
        match word.strip_prefix(b"-") {
            Some(flag) => {
                let name = flag.strip_prefix(b"-").unwrap_or(flag);
                if GLOBAL_VALUES.iter().any(|value| value.as_bytes() == name) {
                    words.next()?;
                }
            }
            None => break word,
        }
    };
    let verb = match verb.as_slice() {
        b"create" => Verb::Create,
        b"run" => Verb::Run,
        b"start" => Verb::Start,
        b"exec" => Verb::Exec,
        b"kill" => Verb::Kill,
        b"delete" => Verb::Delete,
        _ => return None,
    };
    let mut bundle = Text::new();
    let id = loop {
        let word = words.next()?;
        let Some(flag) = word.strip_prefix(b"-").filter(|flag| !flag.is_empty()) else {
            break word;
        };
        let (name, inline) = match flag.strip_prefix(b"-") {
            Some(long) => {
                let mut parts = long.splitn(2, |byte| *byte == b'=');
                let name = parts.next().unwrap_or_default();
                (
                    VERB_VALUES.iter().find(|value| value.as_bytes() == name),
                    parts.next().map(<[u8]>::to_vec),
                )
            }
            None => {
                // `-f` is `--force` of delete and `--config` of crun's create and run.
                let letter = flag[0];
                let known = LETTERS
                    .iter()
                    .find(|(known, _)| *known == letter && (letter != b'f' || verb != Verb::Delete));
                let inline = (flag.len() > 1).then(|| flag[1..].to_vec());
                (known.map(|(_, name)| name), inline)
            }
        };
        if let Some(name) = name {
            let value = match inline {
                Some(value) => value,
                None => words.next()?.clone(),
            };
            if *name == "bundle" {
                bundle = value;
            }
        }
    };
    Some(Call {
        verb,
        id: id.clone(),
        bundle,
        rest: words.cloned().collect(),
    })
}

/// Whether a signal of `kill` is meant to end the container: `0`, `HUP`, `USR1` and such are not.
pub(super) fn ends(signal: &[u8]) -> bool {
    let signal = signal.strip_prefix(b"SIG").unwrap_or(signal);
    !matches!(
        signal,
        b"0" | b"1"
            | b"HUP"
            | b"10"
            | b"USR1"
            | b"12"
            | b"USR2"
            | b"17"
            | b"CHLD"
            | b"18"
            | b"CONT"
            | b"19"
            | b"STOP"
            | b"28"
            | b"WINCH"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> Option<Call> {
        parse(&text.split(' ').map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    /// Make sure that the id is found in the command lines that conmon, buildah, containerd's shim and people write.
    #[test]
    fn real_command_lines() {
        for (text, verb, id, rest) in [
            (
                "runc --log-format=json --log /l create --bundle /b --pid-file /p abc",
                Verb::Create,
                "abc",
                0,
            ),
            (
                "runc --root /r --log /l --log-format json create --bundle /b --pid-file /p abc",
                Verb::Create,
                "abc",
                0,
            ),
            (
                "/usr/bin/runc create --bundle /b --pid-file /p buildah-buildah12",
                Verb::Create,
                "buildah-buildah12",
                0,
            ),
            ("runc start abc", Verb::Start, "abc", 0),
            ("runc --root /r delete --force abc", Verb::Delete, "abc", 0),
            ("runc delete -f abc", Verb::Delete, "abc", 0),
            ("runc kill abc 15", Verb::Kill, "abc", 1),
            (
                "runc --root /r exec --process /tmp/p --detach --pid-file /p abc",
                Verb::Exec,
                "abc",
                0,
            ),
            ("runc exec -t -e A=b -u0:0 abc sh -c x", Verb::Exec, "abc", 3),
            (
                "crun --cgroup-manager cgroupfs run -d -b /b -f config.json abc",
                Verb::Run,
                "abc",
                0,
            ),
            ("crun --root=/r create --bundle=/b abc", Verb::Create, "abc", 0),
        ] {
            let call = call(text).unwrap();
            assert_eq!(
                (call.verb, call.id.as_slice(), call.rest.len()),
                (verb, id.as_bytes(), rest),
                "{text}"
            );
        }
        assert_eq!(call("crun --root=/r create --bundle=/b abc").unwrap().bundle, b"/b");
        for text in [
            "runc init",
            "runc state abc",
            "runc",
            "runc create --bundle",
            "runc --root",
            "runc start",
        ] {
            assert_eq!(call(text), None, "{text}");
        }
    }
}

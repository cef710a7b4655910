//! Command lines of container clients: which tool, which verb, and the operands that can be told with certainty.
//!
//! A flag that takes a value hides the operand behind it, so a flag of neither list ends the parse with
//! [`Command::sure`] off: an operand is never guessed.

use crate::model::Image;
use crate::recording::record::Text;

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

    /// `podman build`
    pub(crate) fn name(&self) -> String {
        format!("{} {}", self.tool, self.verb).trim_end().to_owned()
    }
}

/// A client program.
struct Tool {
    name: &'static str,
    /// Global flags that take a value, long names and letters.
    values: &'static [&'static str],
    /// Verbs that are followed by another.
    groups: &'static [&'static str],
}

const PODMAN_VALUES: &[&str] = &[
    "cgroup-manager",
    "config",
    "conmon",
    "connection",
    "c",
    "db-backend",
    "events-backend",
    "hooks-dir",
    "identity",
    "imagestore",
    "log-level",
    "module",
    "namespace",
    "network-backend",
    "network-cmd-path",
    "network-config-dir",
    "out",
    "registries-conf",
    "root",
    "runroot",
    "runtime",
    "runtime-flag",
    "ssh",
    "storage-driver",
    "storage-opt",
    "tmpdir",
    "url",
    "volumepath",
];
const PODMAN_GROUPS: &[&str] = &[
    "container",
    "generate",
    "healthcheck",
    "image",
    "kube",
    "machine",
    "manifest",
    "network",
    "play",
    "pod",
    "secret",
    "system",
    "volume",
];
const TOOLS: &[Tool] = &[
    Tool {
        name: "podman",
        values: PODMAN_VALUES,
        groups: PODMAN_GROUPS,
    },
    Tool {
        name: "podman-remote",
        values: PODMAN_VALUES,
        groups: PODMAN_GROUPS,
    },
    Tool {
        name: "buildah",
        values: &[
            "log-level",
            "registries-conf",
            "registries-conf-dir",
            "root",
            "runroot",
            "short-name-alias-conf",
            "storage-driver",
            "storage-opt",
            "userns-gid-map",
            "userns-uid-map",
        ],
        groups: &["manifest"],
    },
    Tool {
        name: "docker",
        values: &[
            "config",
            "context",
            "c",
            "host",
            "H",
            "log-level",
            "l",
            "tlscacert",
            "tlscert",
            "tlskey",
        ],
        groups: &[
            "builder",
            "buildx",
            "checkpoint",
            "compose",
            "config",
            "container",
            "context",
            "image",
            "manifest",
            "network",
            "node",
            "plugin",
            "secret",
            "service",
            "stack",
            "swarm",
            "system",
            "trust",
            "volume",
        ],
    },
    Tool {
        name: "nerdctl",
        values: &[
            "address",
            "a",
            "H",
            "host",
            "namespace",
            "n",
            "cgroup-manager",
            "cni-netconfpath",
            "cni-path",
            "data-root",
            "hosts-dir",
            "snapshotter",
            "storage-driver",
        ],
        groups: &[
            "apparmor",
            "builder",
            "compose",
            "container",
            "image",
            "namespace",
            "network",
            "system",
            "volume",
        ],
    },
    Tool {
        name: "ctr",
        values: &["address", "a", "timeout", "connect-timeout", "namespace", "n"],
        groups: &[
            "plugins",
            "plugin",
            "containers",
            "container",
            "c",
            "content",
            "events",
            "images",
            "image",
            "i",
            "leases",
            "namespaces",
            "namespace",
            "ns",
            "snapshots",
            "snapshot",
            "tasks",
            "task",
            "t",
        ],
    },
    Tool {
        name: "crictl",
        values: &[
            "config",
            "c",
            "image-endpoint",
            "i",
            "runtime-endpoint",
            "r",
            "timeout",
            "t",
        ],
        groups: &[],
    },
];

/// Verbs that show where a global flag that is in no list ends.
const VERBS: &[&str] = &[
    "add",
    "attach",
    "bud",
    "build",
    "commit",
    "compose",
    "container",
    "copy",
    "cp",
    "create",
    "exec",
    "from",
    "image",
    "images",
    "import",
    "inspect",
    "kill",
    "load",
    "logs",
    "pod",
    "ps",
    "pull",
    "push",
    "restart",
    "rm",
    "rmi",
    "run",
    "save",
    "start",
    "stop",
    "system",
    "tag",
    "unshare",
    "volume",
    "wait",
];

/// How a verb's flags are written.
struct Grammar {
    verbs: &'static [&'static str],
    /// Flags without a value.
    switches: &'static [&'static str],
    /// Flags with one.
    values: &'static [&'static str],
    /// Whether flags may stand behind operands.
    mixed: bool,
}

/// Letters and what they stand for.
const RUN_LETTERS: &[(u8, &str)] = &[
    (b'P', "publish-all"),
    (b'a', "attach"),
    (b'c', "cpu-shares"),
    (b'd', "detach"),
    (b'e', "env"),
    (b'h', "hostname"),
    (b'i', "interactive"),
    (b'l', "label"),
    (b'm', "memory"),
    (b'p', "publish"),
    (b'q', "quiet"),
    (b't', "tty"),
    (b'u', "user"),
    (b'v', "volume"),
    (b'w', "workdir"),
];
const BUILD_LETTERS: &[(u8, &str)] = &[
    (b'D', "disable-compression"),
    (b'c', "cpu-shares"),
    (b'f', "file"),
    (b'm', "memory"),
    (b'o', "output"),
    (b'q', "quiet"),
    (b't', "tag"),
    (b'v', "volume"),
];
const EXEC_LETTERS: &[(u8, &str)] = &[
    (b'd', "detach"),
    (b'e', "env"),
    (b'i', "interactive"),
    (b'l', "latest"),
    (b't', "tty"),
    (b'u', "user"),
    (b'w', "workdir"),
];
const OTHER_LETTERS: &[(u8, &str)] = &[
    (b'a', "all"),
    (b'f', "force"),
    (b'i', "interactive"),
    (b'l', "latest"),
    (b's', "signal"),
    (b't', "time"),
    (b'v', "volumes"),
];

/// From the help texts of podman 4.3 to 5.x and docker 20.10 to 28.
const GRAMMARS: &[(Grammar, &[(u8, &str)])] = &[
    (
        Grammar {
            verbs: &["run", "create"],
            switches: &[
                "detach",
                "disable-content-trust",
                "env-host",
                "help",
                "http-proxy",
                "init",
                "interactive",
                "no-healthcheck",
                "no-hostname",
                "no-hosts",
                "oom-kill-disable",
                "passwd",
                "privileged",
                "publish-all",
                "quiet",
                "read-only",
                "read-only-tmpfs",
                "replace",
                "rm",
                "rmi",
                "rootfs",
                "sig-proxy",
                "tls-verify",
                "tty",
                "unsetenv-all",
                "use-api-socket",
            ],
            values: &[
                "add-host",
                "annotation",
                "arch",
                "attach",
                "authfile",
                "blkio-weight",
                "blkio-weight-device",
                "cap-add",
                "cap-drop",
                "cgroup-conf",
                "cgroup-parent",
                "cgroupns",
                "cgroups",
                "chrootdirs",
                "cidfile",
                "conmon-pidfile",
                "cpu-count",
                "cpu-percent",
                "cpu-period",
                "cpu-quota",
                "cpu-rt-period",
                "cpu-rt-runtime",
                "cpu-shares",
                "cpus",
                "cpuset-cpus",
                "cpuset-mems",
                "decryption-key",
                "detach-keys",
                "device",
                "device-cgroup-rule",
                "device-read-bps",
                "device-read-iops",
                "device-write-bps",
                "device-write-iops",
                "dns",
                "dns-opt",
                "dns-option",
                "dns-search",
                "domainname",
                "entrypoint",
                "env",
                "env-file",
                "env-merge",
                "expose",
                "gidmap",
                "gpus",
                "group-add",
                "group-entry",
                "health-cmd",
                "health-interval",
                "health-on-failure",
                "health-retries",
                "health-start-interval",
                "health-start-period",
                "health-startup-cmd",
                "health-startup-interval",
                "health-startup-retries",
                "health-startup-success",
                "health-startup-timeout",
                "health-timeout",
                "hostname",
                "hostuser",
                "image-volume",
                "init-path",
                "io-maxbandwidth",
                "io-maxiops",
                "ip",
                "ip6",
                "ipc",
                "isolation",
                "kernel-memory",
                "label",
                "label-file",
                "link",
                "link-local-ip",
                "log-driver",
                "log-opt",
                "mac-address",
                "memory",
                "memory-reservation",
                "memory-swap",
                "memory-swappiness",
                "mount",
                "name",
                "net",
                "net-alias",
                "network",
                "network-alias",
                "oom-score-adj",
                "os",
                "passwd-entry",
                "personality",
                "pid",
                "pidfile",
                "pids-limit",
                "platform",
                "pod",
                "pod-id-file",
                "preserve-fd",
                "preserve-fds",
                "publish",
                "pull",
                "rdt-class",
                "requires",
                "restart",
                "retry",
                "retry-delay",
                "runtime",
                "sdnotify",
                "seccomp-policy",
                "secret",
                "security-opt",
                "shm-size",
                "shm-size-systemd",
                "stop-signal",
                "stop-timeout",
                "storage-opt",
                "subgidname",
                "subuidname",
                "sysctl",
                "systemd",
                "timeout",
                "tmpfs",
                "tz",
                "uidmap",
                "ulimit",
                "umask",
                "unsetenv",
                "user",
                "userns",
                "uts",
                "variant",
                "volume",
                "volume-driver",
                "volumes-from",
                "workdir",
            ],
            mixed: false,
        },
        RUN_LETTERS,
    ),
    (
        Grammar {
            verbs: &["build", "bud", "build-using-dockerfile"],
            switches: &[
                "all-platforms",
                "compress",
                "disable-compression",
                "disable-content-trust",
                "force-rm",
                "help",
                "http-proxy",
                "identity-label",
                "layers",
                "load",
                "logsplit",
                "no-cache",
                "no-hostname",
                "no-hosts",
                "omit-history",
                "push",
                "quiet",
                "rm",
                "skip-unused-stages",
                "squash",
                "squash-all",
                "stdin",
                "tls-verify",
            ],
            values: &[
                "add-host",
                "allow",
                "annotation",
                "arch",
                "attest",
                "authfile",
                "build-arg",
                "build-arg-file",
                "build-context",
                "builder",
                "cache-from",
                "cache-to",
                "cache-ttl",
                "cap-add",
                "cap-drop",
                "cert-dir",
                "cgroup-parent",
                "cgroupns",
                "cpp-flag",
                "cpu-period",
                "cpu-quota",
                "cpu-shares",
                "cpuset-cpus",
                "cpuset-mems",
                "creds",
                "cw",
                "decryption-key",
                "device",
                "dns",
                "dns-option",
                "dns-search",
                "env",
                "file",
                "format",
                "from",
                "group-add",
                "hooks-dir",
                "ignorefile",
                "iidfile",
                "ipc",
                "isolation",
                "jobs",
                "label",
                "layer-label",
                "logfile",
                "manifest",
                "memory",
                "memory-swap",
                "metadata-file",
                "network",
                "net",
                "no-cache-filter",
                "os",
                "os-feature",
                "os-version",
                "output",
                "pid",
                "platform",
                "progress",
                "provenance",
                "retry",
                "retry-delay",
                "runtime",
                "runtime-flag",
                "sbom",
                "secret",
                "security-opt",
                "shm-size",
                "sign-by",
                "signature-policy",
                "ssh",
                "tag",
                "target",
                "timestamp",
                "ulimit",
                "unsetenv",
                "unsetlabel",
                "userns",
                "userns-gid-map",
                "userns-gid-map-group",
                "userns-uid-map",
                "userns-uid-map-user",
                "uts",
                "variant",
                "volume",
            ],
            mixed: true,
        },
        BUILD_LETTERS,
    ),
    (
        Grammar {
            verbs: &["exec"],
            switches: &["detach", "help", "interactive", "latest", "privileged", "tty"],
            values: &[
                "detach-keys",
                "env",
                "env-file",
                "preserve-fd",
                "preserve-fds",
                "user",
                "workdir",
            ],
            mixed: false,
        },
        EXEC_LETTERS,
    ),
    (
        Grammar {
            verbs: &["stop", "restart", "start", "kill", "rm"],
            switches: &[
                "all",
                "attach",
                "force",
                "help",
                "ignore",
                "interactive",
                "latest",
                "link",
                "running",
                "sig-proxy",
                "volumes",
            ],
            values: &[
                "checkpoint",
                "cidfile",
                "depend",
                "detach-keys",
                "filter",
                "signal",
                "time",
                "timeout",
            ],
            mixed: true,
        },
        OTHER_LETTERS,
    ),
];

/// Last part of a path.
pub(crate) fn base(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// The command line of a client, if the image is one's.
///
/// Helpers that re-execute the client's file carry another name as their first argument (`buildah-copier`), so both
/// the file (unless it is a link to itself) and the first argument must be the client's.
pub(crate) fn client(image: &Image) -> Option<Command> {
    let file = base(&image.filename);
    // What a fork inherits is its parent's command line, not its own.
    if !image.exec {
        return None;
    }
    if file != b"exe" && !file.is_empty() && tool(file).is_none() {
        return None;
    }
    parse(&image.argv)
}

fn tool(name: &[u8]) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.name.as_bytes() == name)
}

/// The command line of a build, if it is one's.
pub(crate) fn build(argv: &[Text]) -> Option<Command> {
    parse(argv).filter(|command| command.sure && GRAMMARS[1].0.verbs.contains(&command.action()))
}

/// Parses a client's command line; `None` when the first argument names no client.
pub(crate) fn parse(argv: &[Text]) -> Option<Command> {
    let tool = tool(base(argv.first()?))?;
    let mut rest = argv[1..].iter().peekable();
    let mut verb: Vec<String> = Vec::new();
    while let Some(word) = rest.next() {
        if let Some(flag) = word.strip_prefix(b"-") {
            let name = flag.strip_prefix(b"-").unwrap_or(flag);
            let known = tool.values.iter().any(|value| value.as_bytes() == name);
            // Of an unknown one, what follows is its value unless it is a flag or a verb.
            let other = !name.contains(&b'=')
                && rest
                    .peek()
                    .is_some_and(|next| !next.starts_with(b"-") && !VERBS.iter().any(|verb| verb.as_bytes() == *next));
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
        if verb.len() == 2 || !tool.groups.contains(&word) {
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
    if let Some((grammar, letters)) = GRAMMARS
        .iter()
        .find(|(grammar, _)| grammar.verbs.contains(&action.as_str()))
    {
        operands(grammar, letters, rest, &mut command);
        if !command.sure {
            command.args.clear();
        }
    }
    Some(command)
}

fn operands<'a>(
    grammar: &Grammar,
    letters: &[(u8, &str)],
    mut words: impl Iterator<Item = &'a Text>,
    command: &mut Command,
) {
    let has = |list: &[&str], name: &[u8]| list.iter().any(|flag| flag.as_bytes() == name);
    while let Some(word) = words.next() {
        if word == b"--" {
            command.args.extend(words.by_ref().cloned());
            break;
        }
        if let Some(flag) = word.strip_prefix(b"--") {
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
                let Some((_, name)) = letters.iter().find(|(known, _)| known == letter) else {
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
}

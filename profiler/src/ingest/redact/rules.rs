//! The tables of what counts as a secret. `docs/redaction.md` lists them; a test keeps it complete.

/// What is written in place of a secret.
pub(super) const MASK: &[u8] = b"***";

/// A key that has one of these anywhere names a secret. Keys are compared in lower case, with `_` for `-` and `.` and
/// between the words of camelCase.
pub(super) const PARTS: &[&str] = &[
    "access_key",
    "accesskey",
    "api_key",
    "apikey",
    "authorization",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "private_key",
    "privatekey",
    "secret",
    "token",
];

/// A key that has one of these as a word of its own names a secret.
pub(super) const WORDS: &[&str] = &["auth", "bearer", "cred", "creds", "jwt"];

/// A key whose last word is one of these names a secret. (Compilers have `-pass-through=`, `-pass-exit-codes`.)
pub(super) const FINAL_WORDS: &[&str] = &["pass", "pwd"];

/// A key with a word that ends so names a secret: `npmauth`, `oauth`.
pub(super) const WORD_ENDS: &[&str] = &["auth"];

/// A key that ends in one of these words names something about a secret, not the secret.
pub(super) const LAST_WORDS: &[&str] = &[
    "count", "dir", "endpoint", "expiry", "fd", "helper", "host", "length", "method", "mode", "name", "path", "port",
    "provider", "scheme", "server", "size", "sock", "socket", "stdin", "store", "timeout", "ttl", "type", "uri", "url",
    "user", "username",
];

/// As [`LAST_WORDS`], also at the end of a longer word: `authfile`, `passwordfile`.
pub(super) const LAST_WORD_ENDS: &[&str] = &["file", "files"];

/// Keys that are no secret all the same.
pub(super) const NO_SECRETS: &[&str] = &["max_tokens", "oldpwd", "pwd"];

/// Words that begin so have a part from above in them and mean something else.
pub(super) const OTHER_WORDS: &[&str] = &["secretar", "tokeniz"];

/// An option that begins with one of these words, or has `no` in it, takes no value.
pub(super) const SWITCHES: &[&str] = &[
    "allow", "disable", "enable", "get", "ignore", "list", "no", "require", "show", "skip", "use", "with", "without",
];

/// Values that give nothing away.
pub(super) const HARMLESS: &[&str] = &["", "0", "1", "false", "no", "none", "null", "off", "on", "true", "yes"];

/// Headers whose value is a secret, however it is spaced: keys that end so.
pub(super) const HEADERS: &[&str] = &[
    "authorization",
    "x_api_key",
    "x_auth_token",
    "x_registry_auth",
    "x_vault_token",
    "private_token",
    "job_token",
    "deploy_token",
    "cookie",
];

/// First word of a header's value that is no secret.
pub(super) const SCHEMES: &[&str] = &["apikey", "basic", "bearer", "digest", "negotiate", "token"];

/// Programs that run another, whose name follows.
pub(super) const WRAPPERS: &[&str] = &[
    "chroot", "chrt", "command", "doas", "env", "exec", "ionice", "nice", "nohup", "nsenter", "runuser", "setpriv",
    "setsid", "ssh", "sshpass", "stdbuf", "strace", "su", "sudo", "taskset", "time", "timeout", "tini", "unshare",
    "xargs",
];

/// Container engines: their commands may end in another program's, and their `--secret` takes an id and a path.
pub(super) const ENGINES: &[&str] = &["buildah", "buildctl", "docker", "docker-buildx", "nerdctl", "podman"];

/// See [`ENGINES`].
pub(super) const ENGINE_SECRET: &[u8] = b"--secret";

/// Options of engines whose value may look like a program and is none.
pub(super) const NAMING_OPTIONS: &[&str] = &[
    "--hostname",
    "--link",
    "--name",
    "--network",
    "--network-alias",
    "--pod",
    "--volumes-from",
    "-h",
];

/// Subcommands that rules in [`OPTIONS`] ask for.
pub(super) const SUBCOMMANDS: &[&str] = &["enc", "login", "secret"];

/// Which part of a value is the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mask {
    All,
    /// `user:password`; without the colon it is a user's name only.
    AfterColon,
    /// `user%password`
    AfterPercent,
    /// `user,password`
    AfterComma,
    /// `key=secret`
    AfterEquals,
}

impl Mask {
    /// The byte behind which the secret begins.
    pub(super) fn separator(self) -> Option<u8> {
        match self {
            Mask::All => None,
            Mask::AfterColon => Some(b':'),
            Mask::AfterPercent => Some(b'%'),
            Mask::AfterComma => Some(b','),
            Mask::AfterEquals => Some(b'='),
        }
    }
}

/// An option that takes a secret in some programs and not in others.
pub(super) struct Rule {
    pub(super) programs: &'static [&'static str],
    /// Only with this subcommand before it.
    pub(super) with: Option<&'static str>,
    pub(super) option: &'static str,
    /// The value may stand in the same word (`-psecret`); a long option's after `=` always may.
    pub(super) attached: bool,
    /// The value may be the next word.
    pub(super) next: bool,
    pub(super) mask: Mask,
}

const fn rule(programs: &'static [&'static str], option: &'static str, mask: Mask) -> Rule {
    Rule {
        programs,
        with: None,
        option,
        attached: true,
        next: true,
        mask,
    }
}

const fn after(subcommand: &'static str, rule: Rule) -> Rule {
    Rule {
        with: Some(subcommand),
        ..rule
    }
}

/// For options whose value never is the next word.
const fn attached_only(rule: Rule) -> Rule {
    Rule { next: false, ..rule }
}

const LOGIN: &[&str] = &[
    "az", "buildah", "crane", "docker", "helm", "nerdctl", "oc", "oras", "podman", "regctl", "skopeo",
];
const MYSQL: &[&str] = &[
    "mariadb",
    "mariadb-admin",
    "mariadb-backup",
    "mariadb-dump",
    "mariadb-import",
    "mysql",
    "mysqladmin",
    "mysqlcheck",
    "mysqldump",
    "mysqlimport",
    "mysqlpump",
    "mysqlshow",
];
const MONGO: &[&str] = &[
    "mongo",
    "mongodump",
    "mongoexport",
    "mongoimport",
    "mongorestore",
    "mongosh",
];
const LDAP: &[&str] = &[
    "ldapadd",
    "ldapdelete",
    "ldapmodify",
    "ldappasswd",
    "ldapsearch",
    "ldapwhoami",
];

/// Options by program. The first that fits counts.
pub(super) const OPTIONS: &[Rule] = &[
    after("login", rule(LOGIN, "-p", Mask::All)),
    attached_only(rule(MYSQL, "-p", Mask::All)),
    rule(MONGO, "-p", Mask::All),
    rule(LDAP, "-w", Mask::All),
    rule(&["curl"], "-u", Mask::AfterColon),
    rule(&["curl"], "--user", Mask::AfterColon),
    rule(&["curl"], "-U", Mask::AfterColon),
    rule(&["curl"], "--proxy-user", Mask::AfterColon),
    rule(&["curl"], "-E", Mask::AfterColon),
    rule(&["curl"], "--cert", Mask::AfterColon),
    rule(&["curl"], "-b", Mask::AfterEquals),
    rule(&["curl"], "--cookie", Mask::AfterEquals),
    rule(&["http", "https", "httpie"], "-a", Mask::AfterColon),
    rule(&["useradd", "usermod"], "-p", Mask::All),
    rule(&["sshpass"], "-p", Mask::All),
    rule(&["redis-cli"], "-a", Mask::All),
    rule(&["smbclient", "rpcclient"], "-U", Mask::AfterPercent),
    rule(&["lftp"], "-u", Mask::AfterComma),
    after("enc", rule(&["openssl"], "-k", Mask::All)),
    after("enc", rule(&["openssl"], "-K", Mask::All)),
    rule(&["openssl"], "-passin", Mask::AfterColon),
    rule(&["openssl"], "-passout", Mask::AfterColon),
    rule(&["zip", "unzip"], "-P", Mask::All),
    attached_only(rule(&["7z", "7za", "7zr", "unrar", "rar"], "-p", Mask::All)),
    rule(&["sqlcmd", "bcp"], "-P", Mask::All),
    rule(&["kubectl", "oc"], "--from-literal", Mask::AfterEquals),
    after("secret", rule(&["gh"], "-b", Mask::All)),
    after("secret", rule(&["gh"], "--body", Mask::All)),
];

/// A token that is known by its look.
pub(super) struct Shape {
    /// Kept.
    pub(super) prefix: &'static str,
    /// Least bytes after the prefix.
    pub(super) least: usize,
    pub(super) body: Body,
}

/// What a token consists of after its prefix.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Letters, digits, `_` and `-`.
    Word,
    /// Capital letters and digits.
    Capitals,
    /// As `Word`, with a digit and a capital letter: the prefix alone may be that of an ordinary name.
    Mixed,
    /// As `Word`, then a dot and the same again, once or twice.
    Jwt,
}

/// Tokens by their look, from their issuers' documents.
pub(super) const SHAPES: &[Shape] = &[
    Shape {
        prefix: "ghp_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "gho_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "ghu_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "ghs_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "ghr_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "github_pat_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "glpat-",
        least: 12,
        body: Body::Word,
    },
    Shape {
        prefix: "gldt-",
        least: 12,
        body: Body::Word,
    },
    Shape {
        prefix: "glrt-",
        least: 12,
        body: Body::Word,
    },
    Shape {
        prefix: "glcbt-",
        least: 12,
        body: Body::Word,
    },
    Shape {
        prefix: "dckr_pat_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "npm_",
        least: 30,
        body: Body::Mixed,
    },
    Shape {
        prefix: "pypi-",
        least: 30,
        body: Body::Mixed,
    },
    Shape {
        prefix: "AKIA",
        least: 16,
        body: Body::Capitals,
    },
    Shape {
        prefix: "ASIA",
        least: 16,
        body: Body::Capitals,
    },
    Shape {
        prefix: "AIza",
        least: 30,
        body: Body::Word,
    },
    Shape {
        prefix: "xoxa-",
        least: 10,
        body: Body::Word,
    },
    Shape {
        prefix: "xoxb-",
        least: 10,
        body: Body::Word,
    },
    Shape {
        prefix: "xoxp-",
        least: 10,
        body: Body::Word,
    },
    Shape {
        prefix: "xoxr-",
        least: 10,
        body: Body::Word,
    },
    Shape {
        prefix: "xoxs-",
        least: 10,
        body: Body::Word,
    },
    Shape {
        prefix: "eyJ",
        least: 8,
        body: Body::Jwt,
    },
    Shape {
        prefix: "sk-",
        least: 20,
        body: Body::Mixed,
    },
    Shape {
        prefix: "sk_live_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "rk_live_",
        least: 16,
        body: Body::Word,
    },
    Shape {
        prefix: "hvs.",
        least: 20,
        body: Body::Mixed,
    },
];

//! The file that a build reads: found from the client's arguments, read once and bounded, parsed into instructions.
//!
//! The client runs as any user, and this as root: files are read by [`Tree`] alone, at most [`MAX_BYTES`] of them, and
//! only what parses as a known instruction is kept.

use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::detect::cli;
use crate::lookup::tree::{LastLink, Tree};
use crate::recording::record::Text;

/// The most that is read of a file.
pub const MAX_BYTES: u64 = 1 << 20;
/// The most instructions that are kept of a file.
pub const MAX_INSTRUCTIONS: usize = 4096;

const KEYWORDS: [&[u8]; 18] = [
    b"ADD",
    b"ARG",
    b"CMD",
    b"COPY",
    b"ENTRYPOINT",
    b"ENV",
    b"EXPOSE",
    b"FROM",
    b"HEALTHCHECK",
    b"LABEL",
    b"MAINTAINER",
    b"ONBUILD",
    b"RUN",
    b"SHELL",
    b"STOPSIGNAL",
    b"USER",
    b"VOLUME",
    b"WORKDIR",
];

/// Path and instructions of the file that the build with these arguments reads; `None` when it is no build, or its
/// file is no regular file that can be read here (standard input, a URL, a git context). `tree` is what the client sees.
pub fn look_up(argv: &[Text], tree: impl FnOnce() -> Option<Tree>) -> Option<(PathBuf, Vec<Text>)> {
    let command = cli::build(argv)?;
    let tree = tree()?;
    let found = candidates(&command, &tree.cwd).into_iter().find_map(|path| {
        let file = tree.file(path.as_os_str().as_bytes(), LastLink::Follow).ok()?;
        Some((path, file))
    });
    let (path, file) = found?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
    let instructions = parse(&bytes);
    (!instructions.is_empty()).then_some((path, instructions))
}

/// Where the file of a build may be, first the place that counts most.
fn candidates(command: &cli::Command, cwd: &Path) -> Vec<PathBuf> {
    // Without a working directory a relative path leads nowhere.
    let local = |path: &[u8]| {
        let path: PathBuf = cwd.join(os(path)).components().collect();
        path.is_absolute().then_some(path)
    };
    let context = command.args.first();
    if let Some((_, file)) = command.flags.iter().rev().find(|(name, _)| name == b"file") {
        let Some(file) = file.as_deref().filter(|file| *file != b"-" && !is_remote(file)) else {
            return Vec::new();
        };
        // podman and buildah look in the working directory first, then in the context.
        let in_context = context.and_then(|context| Some(local(context)?.join(os(file))));
        return local(file).into_iter().chain(in_context).collect();
    }
    let directory = match context {
        Some(context) if context == b"-" || is_remote(context) => None,
        Some(context) => local(context),
        None => local(b""),
    };
    // docker reads only the latter two, podman and buildah prefer the first.
    let names: &[&str] = if command.tool == "docker" {
        &["Dockerfile", "dockerfile"]
    } else {
        &["Containerfile", "Dockerfile"]
    };
    directory.map_or_else(Vec::new, |directory| {
        names.iter().map(|name| directory.join(name)).collect()
    })
}

fn os(bytes: &[u8]) -> &std::ffi::OsStr {
    std::ffi::OsStr::from_bytes(bytes)
}

fn is_remote(text: &[u8]) -> bool {
    text.windows(3).any(|window| window == b"://") || text.starts_with(b"git@") || text.starts_with(b"github.com/")
}

/// The instructions of a Dockerfile, in order, as written, with continued lines joined as the builders join them and
/// here-documents kept. Lines that are no known instruction are left out.
pub fn parse(bytes: &[u8]) -> Vec<Text> {
    let mut escape = b'\\';
    let mut lines = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .peekable();
    // Parser directives stand before everything else.
    while let Some(line) = lines.peek() {
        match directive(line) {
            Some((name, value)) => {
                if name.eq_ignore_ascii_case(b"escape") && value == b"`" {
                    escape = b'`';
                }
                lines.next();
            }
            None => break,
        }
    }
    let mut instructions = Vec::new();
    while let Some(line) = lines.next() {
        let line = line.trim_ascii_start();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let mut text = line.to_vec();
        while let Some(cut) = continuation(&text, escape) {
            text.truncate(cut);
            // Comments and empty lines within a continued instruction are skipped.
            let next = lines.by_ref().find(|line| {
                let line = line.trim_ascii_start();
                !line.is_empty() && !line.starts_with(b"#")
            });
            match next {
                Some(next) => text.extend_from_slice(next),
                None => break,
            }
        }
        text.truncate(text.trim_ascii_end().len());
        let keyword = text
            .split(u8::is_ascii_whitespace)
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        if [&b"RUN"[..], b"COPY", b"ADD"].contains(&keyword.as_slice()) {
            for (delimiter, tabs) in heredocs(&text) {
                for line in lines.by_ref() {
                    text.push(b'\n');
                    text.extend_from_slice(line);
                    let line = if tabs { trim_tabs(line) } else { line };
                    if line == delimiter {
                        break;
                    }
                }
            }
        }
        if KEYWORDS.contains(&keyword.as_slice()) && instructions.len() < MAX_INSTRUCTIONS {
            instructions.push(text);
        }
    }
    instructions
}

/// `# name=value`
fn directive(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii().strip_prefix(b"#")?;
    let at = line.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (line[..at].trim_ascii(), line[at + 1..].trim_ascii());
    (!name.is_empty() && name.iter().all(u8::is_ascii_alphabetic)).then_some((name, value))
}

/// Where to cut the text when it goes on in the next line.
fn continuation(text: &[u8], escape: u8) -> Option<usize> {
    let trimmed = text.trim_ascii_end();
    (trimmed.last() == Some(&escape)).then(|| trimmed.len() - 1)
}

/// Delimiters of the here-documents that an instruction opens, with whether leading tabs are dropped (`<<-`).
fn heredocs(text: &[u8]) -> Vec<(Text, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|window| window == b"<<") {
        rest = &rest[at + 2..];
        if rest.first() == Some(&b'<') {
            // A here-string of the shell.
            rest = &rest[1..];
            continue;
        }
        let tabs = rest.first() == Some(&b'-');
        let word = if tabs { &rest[1..] } else { rest };
        let quote = word.first().copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let word = if quote.is_some() { &word[1..] } else { word };
        let length = word
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
            .count();
        let closed = quote.is_none_or(|quote| word.get(length) == Some(&quote));
        if closed && length > 0 && !word[0].is_ascii_digit() {
            found.push((word[..length].to_vec(), tabs));
        }
    }
    found
}

fn trim_tabs(line: &[u8]) -> &[u8] {
    let tabs = line.iter().take_while(|byte| **byte == b'\t').count();
    &line[tabs..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        parse(text.as_bytes())
            .into_iter()
            .map(|text| String::from_utf8(text).unwrap())
            .collect()
    }

    fn argv(text: &str) -> Vec<Text> {
        text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// Make sure that continued lines are joined as podman and docker join them, comments within skipped.
    #[test]
    fn continued_lines() {
        let text = "FROM a\nRUN one \\\n    && two \\  \n# comment\n\n && three\ncmd [\"x\"]\n";
        assert_eq!(parsed(text), ["FROM a", "RUN one     && two  && three", "cmd [\"x\"]"]);
    }

    /// Make sure that the escape directive counts at the top only, and that CR LF files parse.
    #[test]
    fn escape_directive() {
        assert_eq!(parsed("# escape=`\r\nRUN a `\r\n b\r\n"), ["RUN a  b"]);
        assert_eq!(parsed("FROM x\n# escape=`\nRUN a \\\n b"), ["FROM x", "RUN a  b"]);
        assert_eq!(
            parsed("# syntax=docker/dockerfile:1\n# escape=`\nRUN a `\n b"),
            ["RUN a  b"]
        );
    }

    /// Make sure that here-documents stay in their instruction, and that a shift or here-string is none.
    #[test]
    fn here_documents() {
        assert_eq!(
            parsed("RUN <<EOF\nFROM inside\nEOF\nCOPY <<-\"A\" <<B /x/\n1\n\tA\n2\nB\nUSER u"),
            [
                "RUN <<EOF\nFROM inside\nEOF",
                "COPY <<-\"A\" <<B /x/\n1\n\tA\n2\nB",
                "USER u"
            ]
        );
        assert_eq!(parsed("RUN cat <<< word\nUSER u"), ["RUN cat <<< word", "USER u"]);
        assert_eq!(parsed("RUN echo $((1<<2))\nUSER u"), ["RUN echo $((1<<2))", "USER u"]);
    }

    /// Make sure that what is no instruction (another file, by mistake or on purpose) is not kept.
    #[test]
    fn foreign_text() {
        assert_eq!(
            parsed("root:$6$secret:19000:0:99999:7:::\nFROMAGE x\n"),
            [] as [&str; 0]
        );
        assert_eq!(parse(&[0xff, b'\\', b'\n', 0xfe]), [] as [Text; 0]);
        assert_eq!(parsed("RUN a \\"), ["RUN a"]);
        assert_eq!(parsed("RUN <<EOF\nnever closed"), ["RUN <<EOF\nnever closed"]);
    }

    /// Make sure that the file is found where each client looks for it, and nowhere for remote contexts.
    #[test]
    fn finds_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let cwd = folder.path();
        std::fs::create_dir(cwd.join("ctx")).unwrap();
        for name in ["ctx/Dockerfile", "ctx/Containerfile", "ctx/Other", "Here"] {
            std::fs::write(cwd.join(name), "FROM x").unwrap();
        }
        let tree = || Tree::below(folder.path(), PathBuf::from("/"));
        let at = |text: &str| {
            let (path, instructions) = look_up(&argv(text), tree)?;
            assert_eq!(instructions, [b"FROM x".to_vec()]);
            Some(path)
        };
        assert_eq!(at("podman build -t app ctx"), Some("/ctx/Containerfile".into()));
        assert_eq!(
            at("/usr/bin/buildah --root /r bud ctx"),
            Some("/ctx/Containerfile".into())
        );
        assert_eq!(at("docker build --network none ctx"), Some("/ctx/Dockerfile".into()));
        assert_eq!(
            at("docker -H unix:///x buildx build ctx"),
            Some("/ctx/Dockerfile".into())
        );
        assert_eq!(at("podman build -f Here ctx"), Some("/Here".into()));
        assert_eq!(at("podman build --file=Other ctx"), Some("/ctx/Other".into()));
        assert_eq!(at("podman image build -fHere ctx"), Some("/Here".into()));
        assert_eq!(at("podman build /ctx"), Some("/ctx/Containerfile".into()));
        for none in [
            "podman build -f - ctx",
            "podman build -",
            "podman build https://example.org/x.git",
            "podman build nowhere",
            "podman run ctx",
            "make build",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    /// Make sure that a link is followed below the client's root, and that nothing is found without a working directory.
    #[test]
    fn links_and_places() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("ctx")).unwrap();
        std::fs::write(folder.path().join("Real"), "FROM y").unwrap();
        std::os::unix::fs::symlink("/Real", folder.path().join("ctx/Dockerfile")).unwrap();
        let at = |text: &str, cwd: &str| {
            let (path, instructions) = look_up(&argv(text), || Tree::below(folder.path(), cwd.into()))?;
            assert_eq!(instructions, [b"FROM y".to_vec()]);
            Some(path)
        };
        assert_eq!(at("docker build .", "/ctx"), Some("/ctx/Dockerfile".into()));
        assert_eq!(at("docker build ctx", ""), None);
        assert_eq!(at("docker build /ctx", ""), Some("/ctx/Dockerfile".into()));
        // Not the host's file of that name.
        let outside = folder.path().join("Real");
        assert_eq!(at(&format!("docker build -f {} ctx", outside.display()), "/"), None);
    }

    /// Make sure that a FIFO neither blocks nor is read.
    #[test]
    fn refuses_a_fifo() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Dockerfile");
        let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: `name` is a NUL-terminated path that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let tree = || Tree::below(folder.path(), PathBuf::from("/"));
        assert_eq!(look_up(&argv("docker build ."), tree), None);
    }
}

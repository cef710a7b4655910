//! Running other programs, with the command line shown.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, bail};

/// Says what is being done.
pub(crate) fn announce(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// The cargo that runs this. What it builds goes to the workspace's `target`, whatever the caller's environment says: machines and
/// measurements look there.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.env_remove("CARGO_TARGET_DIR");
    cargo
}

/// Runs `command`, which must succeed, and shows it first.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    announce(line(command));
    let status = command
        .status()
        .with_context(|| format!("can't run {}", line(command)))?;
    if !status.success() {
        bail!("{}: {status}", line(command));
    }
    Ok(())
}

/// Runs `command`, shows it and what it prints, and hands on each line of its standard output.
pub(crate) fn lines(command: &mut Command, mut line_of: impl FnMut(&str)) -> anyhow::Result<ExitStatus> {
    announce(line(command));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("can't run {}", line(command)))?;
    let output = child.stdout.take().context("no pipe")?;
    let mut shown = std::io::stdout().lock();
    for text in BufReader::new(output).split(b'\n') {
        let text = text.context("can't read what it prints")?;
        shown.write_all(&text)?;
        shown.write_all(b"\n")?;
        line_of(&String::from_utf8_lossy(&text));
    }
    Ok(child.wait()?)
}

/// Standard output of `command`, which must succeed.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {}", line(command)))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", line(command), output.status, message.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// First line of what `command` prints, `None` when it can't be run or fails.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let text = output(command).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

/// Whether to install something: told so on the command line, in CI, or by the person at the terminal.
pub(crate) fn may_install(told: bool, what: &str) -> anyhow::Result<bool> {
    if told || is_ci() {
        announce(format!("installing {what}"));
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(false);
    }
    eprint!("xtask: install {what}? [y/N] ");
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("can't read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether nobody watches: `CI` is set.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|ci| !ci.is_empty() && ci != "false")
}

/// Effective user id 0.
pub(crate) fn is_root() -> bool {
    // SAFETY: no arguments, can't fail.
    unsafe { libc::geteuid() == 0 }
}

fn line(command: &Command) -> String {
    let mut words = vec![command.get_program()];
    words.extend(command.get_args());
    let words: Vec<_> = words.into_iter().map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

//! A machine: QEMU with software emulation, its console read, ended at its deadline.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::kernel::Kernel;
use crate::exec;

const QEMU: &str = "qemu-system-x86_64";
/// Lines of a console that are shown of a machine that hangs.
const SHOWN: usize = 60;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    /// More of the kernel's command line.
    pub(crate) append: String,
}

impl Default for Shape {
    fn default() -> Shape {
        Shape {
            cpus: 2,
            memory_mib: 2048,
            append: String::new(),
        }
    }
}

/// Its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disks<'a> {
    pub(crate) initramfs: &'a Path,
    /// What is written to it is thrown away.
    pub(crate) root: &'a Path,
    pub(crate) exchange: &'a Path,
}

/// The command that runs the machine, its console on standard input and output.
fn qemu(kernel: &Kernel, shape: &Shape, disks: Disks<'_>) -> anyhow::Result<Command> {
    // A machine ends with this program, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", QEMU]);
    // The kernel tests its timer against a loop of instructions, which an emulator on a busy host fails.
    let append = format!("console=ttyS0 panic=-1 quiet no_timer_check {}", shape.append);
    command
        // One thread for all CPUs. With a thread for each, one of them now and then runs translated code that the kernel
        // has just patched on another (tracepoints, jump labels), and the kernel dies of `Oops: int3`: seen
        // twice in some dozen machines that attached and detached probes. No real CPU does so.
        .args(["-accel", "tcg,thread=single"])
        // Five-level page tables make every emulated memory access dearer.
        .args(["-cpu", "max,la57=off"])
        .args(["-smp", &shape.cpus.to_string()])
        .args(["-m", &format!("{}M", shape.memory_mib)])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(disks.initramfs)
        .args(["-append", append.trim()]);
    for (file, more) in [
        (disks.root, "snapshot=on"),
        (&kernel.modules, "readonly=on"),
        (disks.exchange, "cache=unsafe"),
    ] {
        let text = file
            .to_str()
            .filter(|text| !text.contains(','))
            .with_context(|| format!("{}: QEMU takes no such path", file.display()))?;
        command.args(["-drive", &format!("file={text},format=raw,if=virtio,{more}")]);
    }
    Ok(command)
}

/// Gives the machine the terminal until it is switched off.
///
/// # Errors
///
/// When QEMU can't be run or fails.
pub(crate) fn interactive(kernel: &Kernel, shape: &Shape, disks: Disks<'_>) -> anyhow::Result<()> {
    let mut command = qemu(kernel, shape, disks)?;
    exec::run(command.args(["-chardev", "stdio,id=console,mux=on,signal=off"]).args([
        "-serial",
        "chardev:console",
        "-mon",
        "chardev=console",
    ]))
}

/// Runs a machine to its end; its console goes to `console` and, each line with the kernel's name, to standard error.
///
/// # Errors
///
/// When it is not switched off before `deadline` has passed, with the last lines of its console, or QEMU fails.
pub(crate) fn run(
    kernel: &Kernel,
    shape: &Shape,
    disks: Disks<'_>,
    console: &Path,
    deadline: Duration,
) -> anyhow::Result<()> {
    let mut command = qemu(kernel, shape, disks)?;
    command
        .args(["-serial", "stdio"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let file = File::create(console).with_context(|| console.display().to_string())?;
    let mut child = command
        .spawn()
        .with_context(|| format!("can't run {QEMU}: Debian's package qemu-system-x86 has it"))?;
    let output = child.stdout.take().context("QEMU has no standard output")?;
    let name = kernel.name;
    let reader = std::thread::spawn(move || copy(name, output, file));
    let ended = wait(&mut child, deadline);
    if !matches!(ended, Ok(Some(_))) {
        // Its console ends with it.
        child.kill().context("can't end QEMU")?;
        child.wait().context("can't wait for QEMU")?;
    }
    let last = reader.join().ok().context("the console's reader failed")??;
    match ended? {
        Some(status) if status.success() => Ok(()),
        Some(status) => bail!("QEMU: {status}; its console ended with\n{last}"),
        None => bail!(
            "ended after {} s without an answer; its console ended with\n{last}",
            deadline.as_secs()
        ),
    }
}

/// Waits for the child's end, or gives `None` after the deadline.
fn wait(child: &mut Child, deadline: Duration) -> anyhow::Result<Option<std::process::ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("can't wait for QEMU")? {
            return Ok(Some(status));
        }
        if start.elapsed() > deadline {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Copies the console; returns its last lines.
fn copy(name: &str, output: ChildStdout, mut file: File) -> anyhow::Result<String> {
    let mut last = VecDeque::new();
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).context("can't read the console")? == 0 {
            break;
        }
        file.write_all(&line).context("can't write the console's file")?;
        let text = plain(&line);
        eprintln!("{name:>4} | {text}");
        if last.len() == SHOWN {
            last.pop_front();
        }
        last.push_back(text);
    }
    Ok(Vec::from(last).join("\n"))
}

/// A line without its end and without control characters: the console of a machine is no text of ours.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim_end_matches(['\r', '\n'])
        .chars()
        .map(|character| {
            if character.is_control() && character != '\t' {
                ' '
            } else {
                character
            }
        })
        .collect()
}

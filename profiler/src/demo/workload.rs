//! What runs inside the demo's container: parts of known length and kind, one after the other on one thread.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::error::{At as _, Error};
use super::layers::{COLD_FILE, CONFIG_FILE, PROGRAM, STAMPS_FILE};
use super::stamps::{Part, part};
use super::{STAGE, sys};

/// CPU time of the busy part, ns.
pub(super) const BURN_NS: u64 = 300_000_000;
/// Length of the sleeping part.
pub(super) const SLEEP: Duration = Duration::from_millis(200);
/// CPU time of the child process, ns.
pub(super) const CHILD_BURN_NS: u64 = 50_000_000;

/// The container's first process, after its exec.
pub(super) fn entrypoint() -> Result<(), Error> {
    let parts = [
        part("burn", || {
            burn_cpu(BURN_NS);
            Ok(())
        })?
        .0,
        part("sleep", || {
            std::thread::sleep(SLEEP);
            Ok(())
        })?
        .0,
        read_cold(Path::new(COLD_FILE))?,
        copy_up(Path::new(CONFIG_FILE))?,
        child()?,
    ];
    let stamps = serde_json::to_vec(&parts).map_err(|error| Error::stage("writing the stamps", error.to_string()))?;
    std::fs::write(STAMPS_FILE, stamps).at(|| STAMPS_FILE.to_owned())
}

/// The container's second process.
pub(super) fn child_main() {
    burn_cpu(CHILD_BURN_NS);
}

/// Computes until this thread has spent `cpu_ns` on a CPU. Not inlined: flamegraphs are to show its name.
#[inline(never)]
pub(super) fn burn_cpu(cpu_ns: u64) {
    let end = sys::thread_cpu() + cpu_ns;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while sys::thread_cpu() < end {
        // The clock of a thread is a system call: about a millisecond of work between two.
        for _ in 0..400_000 {
            state = black_box(state ^ (state << 13) ^ (state >> 7));
        }
    }
}

/// Reads a file that is in no cache, as the first start of a container reads its layers.
fn read_cold(path: &Path) -> Result<Part, Error> {
    let name = || path.display().to_string();
    let mut file = File::open(path).at(name)?;
    sys::drop_cache(&file).at(name)?;
    let cached_bytes = sys::cached_bytes(&file).at(name)?;
    let mut block = vec![0; 1 << 20];
    let (part, bytes) = part("disk", || -> Result<u64, Error> {
        let mut bytes = 0;
        loop {
            match file.read(&mut block).at(name)? {
                0 => return Ok(bytes),
                read => bytes += read as u64,
            }
        }
    })?;
    Ok(Part {
        bytes,
        cached_bytes,
        ..part
    })
}

/// Opens a file of a lower layer for writing: overlayfs copies the whole of it first.
fn copy_up(path: &Path) -> Result<Part, Error> {
    let name = || path.display().to_string();
    let bytes = path.metadata().at(name)?.len();
    let (part, mut file) = part("copy-up", || OpenOptions::new().write(true).open(path).at(name))?;
    file.write_all(b"#").at(name)?;
    Ok(Part { bytes, ..part })
}

fn child() -> Result<Part, Error> {
    let (part, status) = part("child", || {
        Command::new(PROGRAM)
            .args([STAGE, "child"])
            .status()
            .at(|| PROGRAM.to_owned())
    })?;
    if !status.success() {
        return Err(Error::stage("child", status.to_string()));
    }
    Ok(part)
}

//! The parser: this program again, with nothing but a socket.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use rustix::net::RecvFlags;

use super::wire::{self, Job, Refusal, Reply, Request};
use super::{ARGUMENT, jail};
use crate::lookup::elf;
use crate::symbol::unwind::rows;
use crate::symbol::{demangle, inline, perf_map};

/// Runs the parser, if this process is to be it. Called before anything else.
pub fn dispatch() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let memory_bytes = arguments.next().and_then(|text| text.to_str()?.parse().ok());
    Some(match memory_bytes.map(serve) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn serve(memory_bytes: u64) -> io::Result<()> {
    // A panic is told by the exit status; standard error is closed.
    std::panic::set_hook(Box::new(|_| {}));
    let stdin = io::stdin();
    let socket = stdin.as_fd();
    let kept = jail::enter(memory_bytes);
    let text = kept.join("; ");
    let text = text.as_bytes().get(..1000).unwrap_or(text.as_bytes());
    wire::send(socket, &Reply::Here(text.to_vec()), &[])?;
    while let Some((request, files)) = wire::receive::<Request>(socket, RecvFlags::empty())? {
        limit_cpu(request.budget_ms);
        let files: Vec<File> = files.into_iter().map(File::from).collect();
        let result = work(&request.job, &files);
        limit_cpu(0);
        // The files are closed before the profiler hears of it: it may wait for just that.
        drop(files);
        wire::answer(socket, result)?;
    }
    Ok(())
}

/// `SIGPROF` ends the process after so much CPU time. 0: no limit.
fn limit_cpu(milliseconds: u64) {
    let value = libc::timeval {
        tv_sec: (milliseconds / 1000) as libc::time_t,
        tv_usec: (milliseconds % 1000 * 1000) as libc::suseconds_t,
    };
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 0 },
        it_value: value,
    };
    // SAFETY: reads `timer`, and writes nothing with a null pointer.
    unsafe { libc::setitimer(libc::ITIMER_PROF, &raw const timer, std::ptr::null_mut()) };
}

/// Does one job. No system calls but those that the jail lets through: files are read with `pread` and nothing is
/// opened.
pub(super) fn work(job: &Job, files: &[File]) -> Result<Vec<u8>, Refusal> {
    let file = |index: usize| files.get(index).ok_or(Refusal::Read);
    match job {
        Job::Unwind => Ok(rows::read(file(0)?)?.encode()),
        Job::Symbols => encode(&elf::read(file(0)?)?),
        Job::SymbolsWith(proof) => encode(&elf::read_with(file(0)?, file(1)?, *proof)?),
        Job::Demangle(names) => {
            let names: Vec<_> = names.iter().map(|name| demangle::demangle(name)).collect();
            encode(&names)
        }
        Job::Frames {
            build_id,
            addresses,
            inline,
        } => encode(&inline::names(file(0)?, build_id, addresses, *inline)?),
        Job::PerfMap => encode(&perf_map::read(file(0)?)?),
    }
}

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Refusal> {
    postcard::to_stdvec(value).map_err(|_| Refusal::Read)
}

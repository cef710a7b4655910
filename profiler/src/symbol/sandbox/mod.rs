//! Files that anybody may have written are parsed in a process that can do nothing else: the **parser**, this program
//! again, without files, user, capabilities and system calls, and with bounds on memory and CPU time.
//!
//! The profiler opens a file, sends the descriptor and goes on; answers are taken at the next drain. What the parser
//! says is checked like any other input. When it dies, the file that it died of has no names, that is counted by cause,
//! and a new parser goes on with the next file.

pub mod child;
mod jail;
mod wire;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

pub use wire::{Job, Refusal};
use wire::{Reply, Request};

/// First argument of the parser's process.
pub const ARGUMENT: &str = "parse-files";

/// Memory (address space) of the parser, bytes. Its own code and libraries take 40 MB of it.
const MEMORY_BYTES: u64 = 768 << 20;
/// Least CPU time for one job, ms: [`Job::budget_ms`] is halved with each parser that died, so that a host full of hostile files
/// costs seconds and not minutes.
const MIN_BUDGET_MS: u64 = 50;
/// Requests that are on their way at a time. They fit into the socket's buffer.
const WINDOW: usize = 4;
/// Requests that wait, each with its open files; beyond it the profiler waits for answers.
const MAX_WAITING: usize = 64;
/// How long one answer may take by the clock, beyond its CPU time: the parser waits for disks, and for CPUs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a job was not done. Each is counted by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Failure {
    #[error("{0:?}")]
    Refused(Refusal),
    #[error("the parser crashed")]
    Crash,
    #[error("the parser took too much CPU time")]
    Time,
    #[error("the parser took too much memory")]
    Memory,
    #[error("the parser tried what it may not do")]
    Forbidden,
    #[error("the parser's answer makes no sense")]
    Garbled,
    #[error("there is no parser")]
    NoParser,
}

/// What became of a job.
#[derive(Debug)]
pub struct Answer {
    /// As it was submitted with.
    pub ticket: u64,
    /// As the job's sentence says.
    pub result: Result<Vec<u8>, Failure>,
}

impl Answer {
    /// The answer's value.
    ///
    /// # Errors
    ///
    /// The job's, or [`Failure::Garbled`].
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        let bytes = self.result.as_ref().map_err(|failure| *failure)?;
        postcard::from_bytes(bytes).map_err(|_| Failure::Garbled)
    }
}

/// Which program the parser is.
#[derive(Clone, Debug)]
enum Program {
    /// Our own.
    Itself,
    /// For a host program that is not `phasegraph`: tests.
    At(PathBuf),
    /// No process: the library's own unit tests, which have no program.
    Here,
}

#[derive(Debug)]
struct Task {
    ticket: u64,
    job: Job,
    files: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Parser {
    process: Child,
    socket: OwnedFd,
    /// Whether it has said that it is ready.
    ready: bool,
    /// When it was last heard of, or last given work after it had none.
    heard: Instant,
}

/// What the parsers took, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub user_ns: u64,
    pub system_ns: u64,
    pub peak_rss_bytes: u64,
    /// Jobs done.
    pub jobs: u64,
    /// Parsers that died.
    pub deaths: u64,
}

/// The profiler's side.
#[derive(Debug)]
pub struct Sandbox {
    program: Program,
    memory_bytes: u64,
    parser: Option<Parser>,
    /// On their way, in the order of their answers.
    sent: VecDeque<Task>,
    waiting: VecDeque<Task>,
    done: Vec<Answer>,
    cost: Cost,
    /// What a parser could not give up.
    kept: Option<String>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox::new(if cfg!(test) { Program::Here } else { Program::Itself })
    }
}

impl Sandbox {
    /// Whose parser is the `phasegraph` at `program`.
    pub fn with_program(program: PathBuf) -> Self {
        Sandbox::new(Program::At(program))
    }

    fn new(program: Program) -> Self {
        Sandbox {
            program,
            memory_bytes: MEMORY_BYTES,
            parser: None,
            sent: VecDeque::new(),
            waiting: VecDeque::new(),
            done: Vec::new(),
            cost: Cost::default(),
            kept: None,
        }
    }

    /// With another bound on the parser's address space.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Starts the parser, without waiting for it, if there is none: while this process may still make it nobody's.
    pub fn start(&mut self) {
        if self.parser.is_none() && !matches!(self.program, Program::Here) {
            // Where it can't be, the first job tells.
            self.parser = start(&self.program, self.memory_bytes).ok();
        }
    }

    /// Hands a job over. The files are closed once they are read. The first job starts the parser.
    pub fn submit(&mut self, ticket: u64, job: Job, files: Vec<File>) {
        if matches!(self.program, Program::Here) {
            let result = child::work(&job, &files);
            let result = result.map_err(Failure::Refused);
            self.cost.jobs += 1;
            return self.done.push(Answer { ticket, result });
        }
        // Samples wait for unwind tables; names have time until the end.
        let at = match job {
            Job::Unwind => self.waiting.iter().take_while(|task| task.job == Job::Unwind).count(),
            _ => self.waiting.len(),
        };
        let files = files.into_iter().map(OwnedFd::from).collect();
        self.waiting.insert(at, Task { ticket, job, files });
        self.pump();
        while self.waiting.len() > MAX_WAITING {
            self.turn(PATIENCE);
        }
    }

    /// Has a job done next, if it is not on its way already.
    pub fn prefer(&mut self, ticket: u64) {
        let at = self.waiting.iter().position(|task| task.ticket == ticket);
        if let Some(task) = at.and_then(|at| self.waiting.remove(at)) {
            self.waiting.push_front(task);
        }
    }

    /// Whether every job has its answer.
    pub fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.waiting.is_empty() && self.done.is_empty()
    }

    /// The answers that are there.
    pub fn poll(&mut self) -> Vec<Answer> {
        if !self.sent.is_empty() {
            self.turn(Duration::ZERO);
        }
        std::mem::take(&mut self.done)
    }

    /// Waits until all jobs have their answers, which all bounds together make certain.
    pub fn finish(&mut self) -> Vec<Answer> {
        while !(self.sent.is_empty() && self.waiting.is_empty()) {
            self.turn(PATIENCE);
        }
        std::mem::take(&mut self.done)
    }

    /// Ends the parser, and says what all of them took.
    pub fn close(&mut self) -> Cost {
        if let Some(mut parser) = self.parser.take() {
            // It has nothing to save, and may not want to end.
            _ = parser.process.kill();
            drop(parser.socket);
            self.reap(parser.process);
        }
        self.cost
    }

    /// Process id of the parser, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.parser.as_ref().map(|parser| parser.process.id())
    }

    /// What the parser could not give up, as text; `None` when that was nothing.
    pub fn kept(&self) -> Option<&str> {
        self.kept.as_deref()
    }

    /// Sends what fits, and starts the parser where there is none.
    fn pump(&mut self) {
        while self.sent.len() < WINDOW && !self.waiting.is_empty() {
            if self.parser.is_none() {
                match start(&self.program, self.memory_bytes) {
                    Ok(parser) => self.parser = Some(parser),
                    Err(error) => {
                        tracing::warn!("no process could be made to read mapped files: {error}");
                        let failed = self.waiting.drain(..).map(|task| Answer {
                            ticket: task.ticket,
                            result: Err(Failure::NoParser),
                        });
                        return self.done.extend(failed);
                    }
                }
            }
            let (Some(parser), Some(task)) = (&mut self.parser, self.waiting.pop_front()) else {
                return;
            };
            let deaths = u32::try_from(self.cost.deaths).unwrap_or(u32::MAX);
            let request = Request {
                budget_ms: (task.job.budget_ms() >> deaths.min(16)).max(MIN_BUDGET_MS),
                job: task.job.clone(),
            };
            let files: Vec<_> = task.files.iter().map(AsFd::as_fd).collect();
            match wire::send(parser.socket.as_fd(), &request, &files) {
                Ok(()) => {
                    if self.sent.is_empty() {
                        parser.heard = Instant::now();
                    }
                    self.sent.push_back(task);
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.done.push(Answer {
                    ticket: task.ticket,
                    result: Err(Failure::Garbled),
                }),
                // Dead: what it died of is told when its end is read.
                Err(_) if !self.sent.is_empty() => return self.waiting.push_front(task),
                Err(_) => {
                    self.waiting.push_front(task);
                    return self.buried(None);
                }
            }
        }
    }

    /// Takes answers, waiting up to `wait` for the first.
    fn turn(&mut self, wait: Duration) {
        let mut wait = wait;
        while let Some(parser) = &mut self.parser
            && !self.sent.is_empty()
        {
            let budget = self.sent.front().map_or(0, |task| task.job.budget_ms());
            let patience = PATIENCE + Duration::from_millis(budget);
            let left = patience.saturating_sub(parser.heard.elapsed());
            let readable = readable(&parser.socket, wait.min(left));
            if !readable {
                if left.is_zero() {
                    self.buried(Some(Failure::Time));
                }
                break;
            }
            wait = Duration::ZERO;
            match wire::receive::<Reply>(parser.socket.as_fd(), RecvFlags::DONTWAIT) {
                Ok(Some((Reply::Here(text), _))) if !parser.ready => {
                    parser.ready = true;
                    if !text.is_empty() {
                        self.kept = Some(String::from_utf8_lossy(&text).into_owned());
                    }
                }
                Ok(Some((reply, files))) => {
                    parser.heard = Instant::now();
                    let Some(task) = self.sent.pop_front() else { break };
                    let result = match reply {
                        Reply::Here(bytes) => Ok(bytes),
                        Reply::Beside(len) => wire::content(len, files).map_err(|_| Failure::Garbled),
                        Reply::Refused(refusal) => Err(Failure::Refused(refusal)),
                    };
                    self.cost.jobs += 1;
                    self.done.push(Answer {
                        ticket: task.ticket,
                        result,
                    });
                }
                Ok(None) => self.buried(None),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => self.buried(None),
                Err(_) => self.buried(Some(Failure::Garbled)),
            }
        }
        self.pump();
    }

    /// The parser is dead, or is to be (`of`): the first job on its way was its last. The others are done again.
    fn buried(&mut self, of: Option<Failure>) {
        let Some(parser) = self.parser.take() else { return };
        self.cost.deaths += 1;
        let mut process = parser.process;
        // What has closed its socket need not have ended; what has ended keeps its status.
        _ = process.kill();
        drop(parser.socket);
        let cause = self.reap(process);
        let failure = of.unwrap_or(cause);
        let guilty = self.sent.pop_front().or_else(|| self.waiting.pop_front());
        if let Some(task) = guilty {
            self.done.push(Answer {
                ticket: task.ticket,
                result: Err(failure),
            });
        }
        while let Some(task) = self.sent.pop_back() {
            self.waiting.push_front(task);
        }
    }

    /// Waits for a process that has ended or is about to, and says of what.
    fn reap(&mut self, process: Child) -> Failure {
        let mut status = 0;
        // SAFETY: all zeros is a value of it.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        let pid = process.id() as libc::pid_t;
        loop {
            // SAFETY: `pid` is our child, which nobody else waits for; both places are valid for writes.
            let waited = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
            if waited != -1 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break;
            }
        }
        let nanoseconds = |time: libc::timeval| {
            let (seconds, rest) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_usec));
            seconds.unwrap_or(0) * 1_000_000_000 + rest.unwrap_or(0) * 1_000
        };
        self.cost.user_ns += nanoseconds(usage.ru_utime);
        self.cost.system_ns += nanoseconds(usage.ru_stime);
        let peak = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
        self.cost.peak_rss_bytes = self.cost.peak_rss_bytes.max(peak);
        if !libc::WIFSIGNALED(status) {
            return Failure::Crash;
        }
        match libc::WTERMSIG(status) {
            libc::SIGPROF => Failure::Time,
            // Where an allocation failed (`handle_alloc_error` aborts).
            libc::SIGABRT | libc::SIGXFSZ => Failure::Memory,
            libc::SIGSYS => Failure::Forbidden,
            _ => Failure::Crash,
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.close();
    }
}

fn start(program: &Program, memory_bytes: u64) -> io::Result<Parser> {
    let program: OsString = match program {
        Program::Itself => "/proc/self/exe".into(),
        Program::At(path) => path.into(),
        Program::Here => return Err(io::ErrorKind::Unsupported.into()),
    };
    let (socket, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let process = Command::new(program)
        .arg(ARGUMENT)
        .arg(memory_bytes.to_string())
        .env_clear()
        .stdin(theirs)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Parser {
        process,
        socket,
        ready: false,
        heard: Instant::now(),
    })
}

/// Whether a packet or the other side's end is there within `wait`.
fn readable(socket: &OwnedFd, wait: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: wait.subsec_nanos().into(),
    };
    let mut polled = [PollFd::new(socket, PollFlags::IN)];
    matches!(poll(&mut polled, Some(&timeout)), Ok(count) if count > 0)
}

//! `run` and `record`: attach, let the command go, record until it and what it left has ended (or until time is up),
//! close.

pub mod command;
mod ending;
mod error;
mod follow;
mod guard;
pub mod limits;
pub mod privilege;

use std::{
    ffi::OsString,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use aya::Btf;

use crate::{
    control::{containers::Running as RunningContainer, daemons},
    ingest::{Ingest, mappings::Mappings, marks, redact},
    kernel::{
        host, lockdown,
        offsets::{self, Resolved},
    },
    load::{LoadError, LoadOptions, Loaded, forced::Forced, ring_bytes},
    lookup::git,
    recording::{
        Writer,
        record::{Begin, Meta, Rules, SelfCost},
    },
    symbol::kernel::Kernel,
};
use command::{Held, User};
use ending::{Ending, finish};
pub use error::Error;
use guard::Guard;

/// What `record` records.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// For how long; until it is interrupted when `None`.
    pub duration: Option<Duration>,
    /// Only this container; every task of the host when `None`.
    pub container: Option<RunningContainer>,
}

/// What the caller of [`run`] wants.
#[derive(Clone, Debug)]
pub struct Options {
    pub output: PathBuf,
    /// Replace `output` if it exists.
    pub force: bool,
    /// Name for reports.
    pub name: String,
    /// What else whoever records wants to be known of it: names and values, kept as facts.
    pub notes: Vec<(String, String)>,
    /// CPU samples a second on each CPU.
    pub sample_hz: u32,
    /// Run the command as this user.
    pub user: Option<String>,
    /// Mask what looks like a secret in arguments.
    pub redact: bool,
    /// Folders of debug information, besides the host's and the containers' own.
    pub debug_folders: Vec<PathBuf>,
    /// Say nothing but errors.
    pub quiet: bool,
    /// Rules for phases of the user's own, kept in the recording.
    pub rules: Option<Rules>,
    /// Rungs that are taken whatever else there is; they count more than the environment's.
    pub forced: Forced,
    /// Count and time calls that read, write and sync files.
    pub file_calls: bool,
    /// The most that it may cost, millionths of the host's CPU time; `None` for no cap.
    pub max_overhead_ppm: Option<u32>,
    /// When the command is told to end, counted from the moment in which it is let go.
    pub timeout: Option<Duration>,
    /// The command; empty with [`Options::host`].
    pub command: Vec<OsString>,
    /// Record the host instead of a command.
    pub host: Option<Host>,
}

/// How it went.
///
/// Dropping it detaches the last probes, which takes the kernel about a second: what a person waits for comes first.
pub struct Outcome {
    pub recording: PathBuf,
    /// The command's exit status in the shell's form: 128 + signal when it was killed; 0 without a command.
    pub status: u8,
    _attached: Loaded,
}

/// Says what is missing to record anything.
///
/// # Errors
///
/// [`Error::Privilege`] when the process lacks a capability.
pub fn check_privilege() -> Result<(), Error> {
    privilege::check()
}

/// Profiles one command, or the host.
///
/// # Errors
///
/// [`Error`]. Whatever comes, nothing stays attached: all links and events are descriptors of this process.
pub fn run(options: &Options) -> Result<Outcome, Error> {
    let started = Instant::now();
    privilege::check()?;
    if lockdown::mode() == Some(lockdown::Mode::Confidentiality) {
        return Err(Error::Lockdown);
    }
    let user = options.user.as_deref().map(User::find).transpose()?;
    let writer = Writer::create(&options.output, options.force)?;
    for note in writer.notes() {
        eprintln!("phasegraph: {note}");
    }
    let path = writer.path().to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::System {
            what: "the event loop could not be made",
            error,
        })?;
    let attached = Attached::new(options, user.as_ref(), writer, started)?;
    let (status, loaded) = runtime.block_on(attached.record(options))?;
    Ok(Outcome {
        recording: path,
        status,
        _attached: loaded,
    })
}

/// Everything attached, the command held.
struct Attached {
    loaded: Loaded,
    ingest: Ingest,
    /// The command; `None` for the host.
    held: Option<Held>,
    guard: Guard,
    cost: SelfCost,
}

impl Attached {
    fn new(options: &Options, user: Option<&User>, writer: Writer, started: Instant) -> Result<Attached, Error> {
        // The slow ones side by side: the kernel's types for their members (aya hides those), and its symbols.
        let resolved = std::thread::spawn(|| offsets::resolve(Path::new(offsets::VMLINUX_BTF)));
        let cpus = host::online_cpus().map_err(|error| Error::System {
            what: "the list of CPUs can't be read",
            error,
        })?;
        let load_options = LoadOptions {
            sample_hz: options.sample_hz,
            ring_bytes: ring_bytes(cpus.len()),
            cpus,
            forced: Forced::from_environment()?.and(options.forced.clone()),
            tracefs: std::env::var_os("PHASEGRAPH_TRACEFS").map(PathBuf::from),
            file_calls: options.file_calls,
        };
        let mappings = Mappings::open(&load_options.cpus)?;
        let lap = |what| tracing::debug!("{what}, {} ms after the start", started.elapsed().as_millis());
        let symbols = Kernel::open();
        lap("kernel symbols are there");
        let resolved = joined(resolved)??;
        lap("struct offsets are there");
        let btf = Btf::from_sys_fs().map_err(LoadError::from)?;
        let mut loaded = Loaded::load(&btf, &resolved, &load_options)?;
        lap("programs are loaded");
        loaded.track_programs(daemons::DAEMONS)?;
        loaded.watch_engines(daemons::ENGINES)?;
        loaded.tell_programs(&[marks::PROGRAM])?;
        let mut ingest = Ingest::new(
            writer,
            loaded.take_ring()?,
            loaded.take_user_stacks()?,
            mappings,
            symbols,
            options.redact,
        );
        ingest.set_debug_folders(options.debug_folders.clone());
        ingest.unwind_by(loaded.take_unwind());

        let held = match options.host {
            Some(_) => None,
            None => Some(Held::spawn(&options.command, user)?),
        };
        lap("the command is held");
        match Self::attach(
            options,
            &mut loaded,
            &btf,
            &mut ingest,
            &resolved,
            &load_options,
            held.as_ref(),
        ) {
            Ok(()) => {
                let cost = SelfCost {
                    startup_ns: started.elapsed().as_nanos() as u64,
                    ..Default::default()
                };
                Ok(Attached {
                    loaded,
                    ingest,
                    held,
                    guard: Guard::new(options.max_overhead_ppm, options.sample_hz, load_options.cpus),
                    cost,
                })
            }
            Err(error) => {
                cancel(held);
                Err(error)
            }
        }
    }

    fn attach(
        options: &Options,
        loaded: &mut Loaded,
        btf: &Btf,
        ingest: &mut Ingest,
        resolved: &Resolved,
        load_options: &LoadOptions,
        held: Option<&Held>,
    ) -> Result<(), Error> {
        loaded.attach(btf)?;
        match &options.host {
            None => {
                let processes = daemons::processes();
                let mut tracked = daemons::serving(&processes, std::process::id());
                tracked.extend(held.map(Held::pid));
                for pid in &tracked {
                    ingest.seed(*pid);
                }
                loaded.adopt(&tracked)?;
            }
            Some(Host {
                container: Some(container),
                ..
            }) => {
                loaded.track_cgroups(&container.cgroups)?;
                let tracked = container.processes(&daemons::processes());
                for pid in &tracked {
                    ingest.seed(*pid);
                }
                loaded.adopt(&tracked)?;
            }
            Some(Host { container: None, .. }) => {
                // Too many to look at all their files now: at the first stack of each.
                ingest.seed_late();
                loaded.adopt_all()?;
            }
        }
        loaded.start_clock(load_options)?;

        let mut meta = Meta {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            contract: profiler_common::CONTRACT_VERSION,
            sample_hz: options.sample_hz,
            command: command::kept(&options.command),
            cwd: std::env::current_dir()
                .unwrap_or_default()
                .as_os_str()
                .as_bytes()
                .to_vec(),
            name: options.name.clone(),
            user: options.user.clone().unwrap_or_default(),
            probes: loaded.probes(),
            ..Meta::default()
        };
        host::describe(&mut meta);
        if options.redact {
            redact::redact(&mut meta.command);
        }
        let cap = match options.max_overhead_ppm {
            Some(ppm) => format!("{} % of the host's CPU", f64::from(ppm) / 1e4),
            None => "none".to_owned(),
        };
        meta.facts.push(("overhead cap".to_owned(), cap));
        if let Some(Host {
            container: Some(container),
            ..
        }) = &options.host
        {
            meta.facts.push(("container".to_owned(), container.title()));
        }
        let redaction = if options.redact { "on" } else { "off" };
        meta.facts.push(("redaction".to_owned(), redaction.to_owned()));
        let notes = options.notes.iter();
        meta.facts
            .extend(notes.map(|(name, value)| (format!("{NOTE}{name}"), value.clone())));
        if options.host.is_none() {
            meta.facts.extend(checkout(options));
        }
        meta.facts.extend(limits::limits(resolved, &loaded.ladder));
        ingest.write(meta)?;
        if let Some(rules) = &options.rules {
            ingest.write(rules.clone())?;
        }
        ingest.write(host::clock_pair())?;
        Ok(())
    }

    async fn record(self, options: &Options) -> Result<(u8, Loaded), Error> {
        let Attached {
            mut loaded,
            mut ingest,
            held,
            mut guard,
            mut cost,
        } = self;
        let mut signals = match follow::Signals::new() {
            Ok(signals) => signals,
            Err(error) => {
                cancel(held);
                return Err(Error::System {
                    what: "signals can't be handled",
                    error,
                });
            }
        };
        let pid = held.as_ref().map(Held::pid);
        // The child's own identity comes with its Adopt event.
        if let Err(error) = ingest.drain() {
            cancel(held);
            return Err(error.into());
        }
        // What follows is the cost of recording: counted from here.
        if let Ok((user_ns, system_ns, _)) = host::own_cost() {
            cost.startup_cpu_ns = user_ns + system_ns;
            (cost.user_ns, cost.system_ns) = (user_ns, system_ns);
        }
        let begin = Begin {
            mono: host::monotonic_ns(),
            command: pid.and_then(|pid| ingest.leader(pid)),
        };
        if let Err(error) = ingest.write(begin) {
            cancel(held);
            return Err(error.into());
        }
        let counts = host::counts().ok();
        if !options.quiet {
            let until = match &options.host {
                Some(Host { duration: None, .. }) => "; Ctrl-C ends it",
                _ => "",
            };
            eprintln!(
                "phasegraph: recording to {} (attached in {} ms{until})",
                options.output.display(),
                cost.startup_ns / 1_000_000
            );
        }
        ingest.start_parser();
        // The command has its privileges already; what is left to do here needs few.
        if let Err(error) = privilege::drop_unneeded() {
            tracing::warn!("privileges that are not needed any more could not be dropped: {error}");
        }
        let running = match held.map(Held::release).transpose() {
            Ok(running) => running,
            Err(error) => {
                ingest.discard();
                return Err(error);
            }
        };
        let mut failed = None;
        let following = follow::Following::new(&mut loaded, &mut ingest, &mut guard);
        let status = match &running {
            Some(running) => {
                let timeout = options.timeout;
                Some(follow::command(running, following, &mut signals, timeout, &mut failed).await)
            }
            None => {
                let duration = options.host.as_ref().and_then(|host| host.duration);
                let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
                failed = follow::host(following, &mut signals, deadline).await.err();
                None
            }
        };
        let finished = match failed {
            None => {
                let end = Ending {
                    cost,
                    status,
                    begin: begin.mono,
                    counts,
                    guard,
                };
                finish(&mut loaded, ingest, end, options)
            }
            Some(error) => Err(error.into()),
        };
        let status = u8::try_from(status.unwrap_or(0)).unwrap_or(u8::MAX);
        match finished {
            Ok(()) => Ok((status, loaded)),
            Err(source) if running.is_none() => Err(source),
            Err(source) => Err(Error::After {
                status,
                source: Box::new(source),
            }),
        }
    }
}

/// Names of the facts that tell which commit the command's working folder is of, where that checkout is, or why it is not
/// known.
pub const COMMIT: &str = "git commit";
pub const CHECKOUT: &str = "git checkout";
pub const NO_COMMIT: &str = "no git commit";

/// What the names of facts begin with that somebody noted.
pub const NOTE: &str = "note ";

/// Which commit the working folder is of, before the command can change it. Its owner may be whoever runs phasegraph, or
/// ran sudo, or the command's user.
fn checkout(options: &Options) -> Vec<(String, String)> {
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse::<u32>().ok());
    let mut owners = vec![rustix::process::getuid().as_raw()];
    owners.extend(sudo);
    owners.extend(
        options
            .user
            .as_deref()
            .and_then(|name| User::find(name).ok())
            .map(|user| user.uid()),
    );
    let folder = std::env::current_dir().unwrap_or_default();
    match git::commit(&folder, &owners) {
        Ok(commit) => {
            let folder = commit.folder.to_string_lossy().into_owned();
            vec![(COMMIT.to_owned(), commit.id), (CHECKOUT.to_owned(), folder)]
        }
        Err(why) => vec![(NO_COMMIT.to_owned(), why.to_string())],
    }
}

/// Ends a command that is still held.
fn cancel(held: Option<Held>) {
    if let Some(held) = held {
        held.cancel();
    }
}

fn joined<T>(thread: std::thread::JoinHandle<T>) -> Result<T, Error> {
    thread.join().map_err(|_| Error::System {
        what: "a start-up thread failed; please report this",
        error: io::Error::other("panic"),
    })
}

//! Loads of known size: this test program again, told by its environment what to do, stamping what it did.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::run::{Folder, Report, clock, monotonic_ns, stderr};

/// What to do; the stamps go to the file of [`STAMPS`].
const LOAD: &str = "PHASEGRAPH_TEST_LOAD";
const STAMPS: &str = "PHASEGRAPH_TEST_STAMPS";

/// Round trips between two threads, and again between two processes: each takes at least two switches.
const ROUNDS: usize = 25_000;
/// Threads of the `threads` load.
pub(crate) const WORKERS: usize = 240;
/// How many of them live at a time.
const AT_A_TIME: usize = 24;
/// What the `parts` load reads, bytes.
const COLD: usize = 64 << 20;

/// Numbers by name, of one part of a load.
pub(crate) type Stamp = BTreeMap<String, u64>;

/// Profiles one of the loads.
pub(crate) fn profile(folder: &Folder, file: &str, load: &str) -> Report {
    let program = std::env::current_exe().unwrap();
    let words = [
        program.to_str().unwrap(),
        "--exact",
        "child",
        "--ignored",
        "--nocapture",
    ];
    let output = folder
        .profile(file, words)
        .env(LOAD, load)
        .env(STAMPS, folder.path("stamps"))
        .output()
        .unwrap();
    // The load that executes another program ends with that program's status.
    assert_eq!(
        output.status.code(),
        Some(if load == "exec" { 7 } else { 0 }),
        "{}",
        stderr(&output)
    );
    folder.report(file)
}

/// What the load stamped, by part.
pub(crate) fn stamps(folder: &Folder) -> BTreeMap<String, Stamp> {
    let lines = fs::read_to_string(folder.path("stamps")).unwrap();
    let stamp = |words: &str| -> Stamp {
        words
            .split_whitespace()
            .map(|word| {
                let (name, value) = word.split_once('=').unwrap();
                (name.to_owned(), value.parse().unwrap())
            })
            .collect()
    };
    lines
        .lines()
        .map(|line| {
            let (part, words) = line.split_once(' ').unwrap();
            (part.to_owned(), stamp(words))
        })
        .collect()
}

/// Time that the hypervisor and interrupts took from the host's CPUs: `/proc/stat`.
pub(crate) struct Stolen(u64);

impl Stolen {
    pub(crate) fn now() -> Stolen {
        let stat = fs::read_to_string("/proc/stat").unwrap();
        let ticks = |column: &str| column.parse::<u64>().unwrap_or(0);
        let columns: Vec<u64> = stat
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(ticks)
            .collect();
        // user nice system idle iowait irq softirq steal
        let taken: u64 = columns.iter().skip(5).take(3).sum();
        // SAFETY: no pointers.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
        Stolen(taken * (1_000_000_000 / per_second))
    }

    /// Since then, ns, in whole ticks.
    pub(crate) fn since(&self) -> u64 {
        Stolen::now().0 - self.0
    }
}

/// Does what the environment asks for.
pub(crate) fn child() {
    let Some(load) = std::env::var_os(LOAD) else {
        eprintln!("skipped: this is a load, run by the other tests");
        return;
    };
    match load.to_str().unwrap() {
        "switches" => switches(),
        "threads" => threads(),
        "exec" => exec(),
        "parts" => parts(),
        "echo" => echo(std::io::stdin().lock(), std::io::stdout().lock()),
        other => panic!("{other}"),
    }
}

/// The running thread's id.
fn tid() -> u64 {
    // SAFETY: no arguments.
    (unsafe { libc::gettid() }) as u64
}

fn thread_cpu_ns() -> u64 {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Time that the running thread was ready and had no CPU (`/proc/PID/schedstat`: on CPU, in run queue, slices).
fn queued_ns() -> u64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace()
        .nth(1)
        .and_then(|ns| ns.parse().ok())
        .unwrap_or(0)
}

/// Appends a part's numbers.
fn stamp(part: &str, numbers: &[(&str, u64)]) {
    static FILE: Mutex<()> = Mutex::new(());
    let words: String = numbers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    let _guard = FILE.lock().unwrap();
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(std::env::var_os(STAMPS).unwrap())
        .unwrap();
    file.write_all(format!("{part}{words}\n").as_bytes()).unwrap();
}

/// Burns CPU time of the running thread.
fn burn(ns: u64) {
    let start = thread_cpu_ns();
    while thread_cpu_ns() - start < ns {
        std::hint::spin_loop();
    }
}

/// Sends each byte back.
fn echo(mut from: impl std::io::Read, mut to: impl std::io::Write) {
    let mut byte = [0];
    while from.read(&mut byte).unwrap() == 1 {
        to.write_all(&byte).unwrap();
        to.flush().unwrap();
    }
}

fn ping(mut to: impl std::io::Write, mut from: impl std::io::Read) {
    let mut byte = [0];
    for _ in 0..ROUNDS {
        to.write_all(&[1]).unwrap();
        from.read_exact(&mut byte).unwrap();
    }
}

/// A thread that writes a byte and waits for its answer, with another thread and then with another process.
fn switches() {
    let (read, write) = std::io::pipe().unwrap();
    let (answer_read, answer_write) = std::io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| echo(read, answer_write));
        scope.spawn(|| {
            ping(write, answer_read);
            stamp("thread", &[("tid", tid())]);
        });
    });
    // `cat` answers as it is asked.
    let mut other = Command::new("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (write, read) = (other.stdin.take().unwrap(), other.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            ping(write, read);
            stamp("process", &[("tid", tid())]);
        });
    });
    assert!(other.wait().unwrap().success());
}

/// Threads by the dozen that burn, sleep and wait for a lock.
fn threads() {
    let lock = Mutex::new(());
    for wave in 0..WORKERS / AT_A_TIME {
        std::thread::scope(|scope| {
            for worker in 0..AT_A_TIME {
                let lock = &lock;
                scope.spawn(move || {
                    burn(1_000_000);
                    std::thread::sleep(Duration::from_micros(300));
                    let _guard = lock.lock().unwrap();
                    burn(100_000);
                    stamp(
                        &format!("worker-{wave}-{worker}"),
                        &[("tid", tid()), ("cpu", thread_cpu_ns())],
                    );
                });
            }
        });
    }
}

/// A thread that is not the leader becomes `sh`, while others live.
fn exec() {
    for _ in 0..4 {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }
    let caller = std::thread::spawn(|| {
        burn(20_000_000);
        assert_ne!(tid(), u64::from(std::process::id()));
        stamp(
            "exec",
            &[
                ("tid", tid()),
                ("pid", std::process::id().into()),
                ("cpu", thread_cpu_ns()),
            ],
        );
        panic!("{}", Command::new("sh").args(["-c", "exit 7"]).exec());
    });
    caller.join().unwrap();
}

/// One thread a part: sleep, burn, read what is not in memory.
fn parts() {
    part("sleep", || std::thread::sleep(Duration::from_millis(200)));
    part("burn", || burn(300_000_000));
    let path = Path::new(&std::env::var_os(STAMPS).unwrap()).with_file_name("cold");
    write_cold(&path);
    let cached = cached_bytes(&path);
    part("read", || {
        let mut file = File::open(&path).unwrap();
        let mut buffer = vec![0; 1 << 20];
        while file.read(&mut buffer).unwrap() > 0 {}
    });
    // The part's line gets what only this thread knows.
    let stamps = std::env::var_os(STAMPS).unwrap();
    let text = fs::read_to_string(&stamps).unwrap();
    let text = text.replace("read ", &format!("read cached={cached} "));
    fs::write(&stamps, text).unwrap();
}

fn part(name: &'static str, work: impl FnOnce() + Send) {
    let stolen = Stolen::now();
    let numbers = std::thread::scope(|scope| {
        let part = scope.spawn(move || {
            let queued = queued_ns();
            let (wall, cpu) = (monotonic_ns(), thread_cpu_ns());
            work();
            let (cpu, wall) = (thread_cpu_ns() - cpu, monotonic_ns() - wall);
            let queued = queued_ns() - queued;
            [
                ("tid", tid()),
                ("wall", wall),
                ("cpu", cpu),
                ("queued", queued),
                ("thread_cpu", thread_cpu_ns()),
            ]
        });
        part.join().unwrap()
    });
    stamp(name, &[&numbers[..], &[("stolen", stolen.since())]].concat());
}

/// A file that is on the disk only.
fn write_cold(path: &Path) {
    let mut file = File::create(path).unwrap();
    let mut noise: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut block = vec![0u8; 1 << 20];
    for _ in 0..COLD / block.len() {
        for word in block.chunks_exact_mut(8) {
            noise ^= noise << 13;
            noise ^= noise >> 7;
            noise ^= noise << 17;
            word.copy_from_slice(&noise.to_le_bytes());
        }
        file.write_all(&block).unwrap();
    }
    file.sync_all().unwrap();
    // SAFETY: no pointers.
    let done = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
    assert_eq!(done, 0);
}

/// How much of a file is in memory.
fn cached_bytes(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    // SAFETY: a new mapping of COLD bytes, only asked about and then unmapped; one byte a page is written to `pages`.
    unsafe {
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let mut pages = vec![0u8; COLD / page];
        let map = libc::mmap(
            std::ptr::null_mut(),
            COLD,
            libc::PROT_READ,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(map, libc::MAP_FAILED);
        assert_eq!(libc::mincore(map, COLD, pages.as_mut_ptr()), 0);
        libc::munmap(map, COLD);
        pages.iter().filter(|page| *page & 1 != 0).count() as u64 * page as u64
    }
}

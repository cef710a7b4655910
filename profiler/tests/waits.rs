//! A program that waits in each known way says itself how long: its waits are reported with their reason, at what, and as
//! long as it stamped. Needs root.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use run::{Folder, Report, monotonic_ns, needs_root, stderr};
use serde_json::Value;

/// What this program does when it runs itself.
const ROLE: &str = "PHASEGRAPH_TEST_ROLE";
/// Where it stamps: `name tid from to`, `CLOCK_MONOTONIC`, ns.
const STAMP: &str = "PHASEGRAPH_TEST_STAMP";
/// How long whoever is waited for lets wait.
const WAIT: Duration = Duration::from_millis(200);
/// A wait may be so much shorter or longer than its stamps, percent. Those hold the way to the wait and back besides.
const PERCENT: u64 = 3;

/// What each wait is reported as: its name in the stamps, state, detail, and at what: the end of a path, the beginning of
/// a program's name, an address with `PORT` for any port.
const WAITS: &[(&str, &str, &str, &str)] = &[
    ("nanosleep", "sleep", "timer", ""),
    ("poll", "sleep", "poll without input", ""),
    ("signal", "sleep", "signal", ""),
    ("futex", "lock", "futex", ""),
    ("flock", "lock", "file lock", "/flock"),
    ("fcntl", "lock", "file lock", "/fcntl"),
    ("semaphore", "lock", "System V semaphore", ""),
    ("pipe-read", "ipc", "pipe read", ""),
    ("pipe-write", "ipc", "pipe write", ""),
    ("fifo", "ipc", "opening of a FIFO", ""),
    ("unix", "ipc", "unix socket", "waits-"),
    ("eventfd", "ipc", "eventfd", ""),
    ("child", "child", "wait for a child", ""),
    ("accept", "network", "accept", "own port PORT"),
    ("tcp-read", "network", "socket read", "127.0.0.1:PORT"),
    ("tcp-write", "network", "socket write", "127.0.0.1:PORT"),
    ("udp", "network", "socket read", "own udp port PORT"),
    ("stopped", "other", "stopped by a signal", ""),
];

/// This program again, in another role.
fn itself(role: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--ignored", "--nocapture", "--quiet"])
        .env(ROLE, role);
    command
}

/// Not a test: what the profiled processes do.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    match role.as_str() {
        "all" => {
            for (name, ..) in WAITS {
                one(name);
            }
        }
        "sleep" => std::thread::sleep(WAIT),
        "serve" => {
            let (mut socket, _) = UnixListener::bind(beside("socket")).unwrap().accept().unwrap();
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            std::thread::sleep(WAIT);
            socket.write_all(&byte).unwrap();
        }
        "stop" => {
            // SAFETY: the caller goes on when it is told to.
            stamped("stopped", || unsafe {
                libc::raise(libc::SIGSTOP);
            });
        }
        _ => panic!("{role}"),
    }
    // Without the test harness' own end.
    std::process::exit(0);
}

fn tid() -> i32 {
    // SAFETY: no arguments, no failure.
    unsafe { libc::gettid() }
}

fn stamped(name: &str, work: impl FnOnce()) {
    let from = monotonic_ns();
    work();
    let to = monotonic_ns();
    let file = File::options()
        .append(true)
        .create(true)
        .open(std::env::var_os(STAMP).unwrap());
    writeln!(file.unwrap(), "{name} {} {from} {to}", tid()).unwrap();
}

/// Something that is done [`WAIT`] later on another thread.
fn later(work: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(WAIT);
        work();
    })
}

fn check(result: i64) {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
}

/// A file beside the stamps.
fn beside(name: &str) -> std::path::PathBuf {
    Path::new(&std::env::var_os(STAMP).unwrap()).with_file_name(name)
}

fn write_byte(fd: RawFd, len: usize) {
    let bytes = [1u8; 8];
    // SAFETY: as many bytes as there are.
    check(unsafe { libc::write(fd, bytes.as_ptr().cast(), len.min(8)) } as i64);
}

fn one(name: &str) {
    match name {
        "nanosleep" => stamped(name, || std::thread::sleep(WAIT)),
        "poll" => stamped(name, || {
            let mut fd = libc::pollfd {
                fd: -1,
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one descriptor.
            check(unsafe { libc::poll(&raw mut fd, 1, WAIT.as_millis() as i32) }.into());
        }),
        "signal" => wait_for_signal(name),
        "futex" => {
            let lock: &'static Mutex<()> = Box::leak(Box::new(Mutex::new(())));
            let (held, holds) = std::sync::mpsc::channel();
            let holder = std::thread::spawn(move || {
                let guard = lock.lock().unwrap();
                held.send(()).unwrap();
                std::thread::sleep(WAIT);
                drop(guard);
            });
            holds.recv().unwrap();
            stamped(name, || drop(lock.lock().unwrap()));
            holder.join().unwrap();
        }
        "flock" | "fcntl" => file_lock(name),
        "semaphore" => semaphore(name),
        "pipe-read" => {
            let (mut read, write) = std::io::pipe().unwrap();
            let other = later(move || write_byte(write.as_raw_fd(), 1));
            stamped(name, || read.read_exact(&mut [0]).unwrap());
            other.join().unwrap();
        }
        "pipe-write" => {
            let (read, mut write) = std::io::pipe().unwrap();
            write.write_all(&[0; 65_536]).unwrap();
            let other = later(move || {
                let mut read = read;
                read.read_exact(&mut [0; 65_536 + 4096]).unwrap();
            });
            stamped(name, || write.write_all(&[1; 4096]).unwrap());
            other.join().unwrap();
        }
        "fifo" => {
            let path = beside("fifo");
            let text = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
            // SAFETY: a string that ends with NUL.
            check(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }.into());
            let writer = path.clone();
            let other = later(move || drop(File::options().write(true).open(writer).unwrap()));
            stamped(name, || drop(File::open(path).unwrap()));
            other.join().unwrap();
        }
        "unix" => {
            let mut server = itself("serve").stdout(Stdio::null()).spawn().unwrap();
            let mut socket = patiently(|| UnixStream::connect(beside("socket")).ok());
            stamped(name, || {
                socket.write_all(&[7]).unwrap();
                socket.read_exact(&mut [0]).unwrap();
            });
            assert!(server.wait().unwrap().success());
        }
        "eventfd" => {
            // SAFETY: no memory.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
            check(fd.into());
            let other = later(move || write_byte(fd, 8));
            let mut value = [0u8; 8];
            stamped(name, || {
                // SAFETY: eight bytes.
                let got = unsafe { libc::read(fd, value.as_mut_ptr().cast(), 8) };
                check(got as i64);
            });
            other.join().unwrap();
        }
        "child" => {
            let mut child = itself("sleep").stdout(Stdio::null()).spawn().unwrap();
            stamped(name, || assert!(child.wait().unwrap().success()));
        }
        "stopped" => stopped(),
        _ => on_network(name),
    }
}

/// Asks until there is an answer.
fn patiently<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        match ask() {
            Some(answer) => return answer,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn wait_for_signal(name: &str) {
    // SAFETY: plain system calls; the set is initialized by the first.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGUSR1);
        check(libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into());
        let (pid, tid) = (libc::getpid(), tid());
        let other = later(move || check(libc::syscall(libc::SYS_tgkill, pid, tid, libc::SIGUSR1)));
        let mut got = 0;
        stamped(name, || check(libc::sigwait(&raw const set, &raw mut got).into()));
        assert_eq!(got, libc::SIGUSR1);
        other.join().unwrap();
    }
}

/// A lock on a file that another open file holds.
fn file_lock(name: &str) {
    let path = beside(name);
    let open = |path: &Path| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.open(path).unwrap()
    };
    let (own, others) = (open(&path), open(&path));
    let lock = |file: &File, how: i32| {
        let fd = file.as_raw_fd();
        if name == "flock" {
            let op = if how == libc::F_UNLCK {
                libc::LOCK_UN
            } else {
                libc::LOCK_EX
            };
            // SAFETY: no memory.
            check(unsafe { libc::flock(fd, op) }.into());
        } else {
            // SAFETY: all zero is a value of it.
            let mut range: libc::flock = unsafe { std::mem::zeroed() };
            range.l_type = how as i16;
            // SAFETY: the structure outlives the call. Locks of open files: those of processes know no other thread.
            check(unsafe { libc::fcntl(fd, libc::F_OFD_SETLKW, &raw const range) }.into());
        }
    };
    lock(&others, libc::F_WRLCK);
    let other = std::thread::spawn(move || {
        std::thread::sleep(WAIT);
        drop(others);
    });
    stamped(name, || lock(&own, libc::F_WRLCK));
    other.join().unwrap();
}

fn semaphore(name: &str) {
    // SAFETY: a set of one; removed before the end.
    let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    check(id.into());
    let change = move |by: i16| {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: by,
            sem_flg: 0,
        };
        // SAFETY: one operation.
        check(unsafe { libc::semop(id, &raw mut operation, 1) }.into());
    };
    let other = later(move || change(1));
    stamped(name, || change(-1));
    other.join().unwrap();
    // SAFETY: no memory.
    check(unsafe { libc::semctl(id, 0, libc::IPC_RMID) }.into());
}

/// A child that stops itself, and goes on when it is told.
fn stopped() {
    let mut child = itself("stop").stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id() as i32;
    let mut status = 0;
    // SAFETY: the child is not waited for yet, so its number is its own.
    unsafe {
        check(libc::waitpid(pid, &raw mut status, libc::WUNTRACED).into());
        assert!(libc::WIFSTOPPED(status));
        std::thread::sleep(WAIT);
        check(libc::kill(pid, libc::SIGCONT).into());
    }
    assert!(child.wait().unwrap().success());
}

fn on_network(name: &str) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    match name {
        "accept" => {
            let other = later(move || drop(TcpStream::connect(address).unwrap()));
            stamped(name, || drop(listener.accept().unwrap()));
            other.join().unwrap();
        }
        "tcp-read" => {
            let mut socket = TcpStream::connect(address).unwrap();
            let (mut theirs, _) = listener.accept().unwrap();
            let other = later(move || theirs.write_all(&[7]).unwrap());
            stamped(name, || socket.read_exact(&mut [0]).unwrap());
            other.join().unwrap();
        }
        "tcp-write" => {
            let mut socket = TcpStream::connect(address).unwrap();
            let (mut theirs, _) = listener.accept().unwrap();
            // As much as there is room for, so that the next byte waits.
            socket.set_nonblocking(true).unwrap();
            let mut filled = 0;
            while let Ok(len) = socket.write(&[0; 4096]) {
                filled += len;
            }
            socket.set_nonblocking(false).unwrap();
            let other = later(move || {
                theirs.read_exact(&mut vec![0; filled]).unwrap();
            });
            stamped(name, || socket.write_all(&[1; 4096]).unwrap());
            drop(socket);
            other.join().unwrap();
        }
        "udp" => {
            let own = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let to = own.local_addr().unwrap();
            let other = later(move || {
                let theirs = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                theirs.send_to(&[7], to).unwrap();
            });
            stamped(name, || assert_eq!(own.recv(&mut [0]).unwrap(), 1));
            other.join().unwrap();
        }
        _ => panic!("{name}"),
    }
}

/// A line of the stamps.
struct Stamp {
    name: String,
    tid: u64,
    from: u64,
    to: u64,
}

fn profile(folder: &Folder) -> (Report, Vec<Stamp>) {
    let program = itself("all");
    let words = std::iter::once(program.get_program()).chain(program.get_args());
    let output = folder
        .profile("x.phg", words)
        .env(ROLE, "all")
        .env(STAMP, folder.path("stamps"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = std::fs::read_to_string(folder.path("stamps")).unwrap();
    let stamps = text
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |index: usize| words[index].parse().unwrap();
            Stamp {
                name: words[0].to_owned(),
                tid: number(1),
                from: number(2),
                to: number(3),
            }
        })
        .collect();
    (folder.report("x.phg"), stamps)
}

/// Whether `at` is what was expected; `PORT` stands for any number.
fn is_at(at: &str, expected: &str) -> bool {
    match expected.split_once("PORT") {
        Some((before, "")) => at.strip_prefix(before).is_some_and(|port| port.parse::<u16>().is_ok()),
        _ if expected.starts_with('/') => at.ends_with(expected),
        _ if expected.is_empty() => at.is_empty(),
        _ => at.starts_with(expected),
    }
}

/// Make sure that each wait is reported for what it is, at what it was, and as long as it was.
#[test]
fn each_wait_has_its_reason() {
    needs_root!();
    let folder = Folder::new();
    let (report, stamps) = profile(&folder);
    let waits = report.0["waits"].as_array().unwrap();
    let mut wrong = Vec::new();
    for (name, state, detail, at) in WAITS {
        let stamp = stamps.iter().find(|stamp| stamp.name == *name);
        let Some(stamp) = stamp else {
            panic!("{name} did not stamp");
        };
        let length = stamp.to - stamp.from;
        let number = |wait: &Value, field: &str| wait[field].as_u64().unwrap();
        let of = |wait: &&Value| {
            number(wait, "tid") == stamp.tid && number(wait, "from_ns") < stamp.to && number(wait, "to_ns") > stamp.from
        };
        let Some(wait) = waits.iter().filter(of).max_by_key(|wait| number(wait, "wait_ns")) else {
            wrong.push(format!("{name}: no wait was reported"));
            continue;
        };
        let exact = length.abs_diff(number(wait, "wait_ns")) * 100 <= length * PERCENT;
        if wait["class"] != *state || wait["detail"] != *detail || !is_at(wait["at"].as_str().unwrap(), at) || !exact {
            wrong.push(format!("{name}, {length} ns: {wait}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

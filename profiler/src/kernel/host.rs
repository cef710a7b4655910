//! Facts of the host: what a recording's reader wants to know of where it was made.

use std::collections::HashSet;
use std::path::Path;
use std::{
    fs,
    io::{self, Read as _},
};

use crate::recording::record::{Clock, Meta};

/// Name of the fact that tells the number of physical cores.
pub const CORES: &str = "cores";

/// Fills in what concerns the host.
pub fn describe(meta: &mut Meta) {
    let (system, machine, hostname) = uname();
    meta.kernel = system;
    meta.machine = machine;
    meta.hostname = hostname;
    // Not those that this process may use: shares are of the whole host.
    meta.cpus = online_cpus().map_or(0, |cpus| u32::try_from(cpus.len()).unwrap_or(0));
    meta.cpu_model = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_default();
    meta.memory_bytes = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
            line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .unwrap_or(0)
        .saturating_mul(1024);
    // SAFETY: no memory is passed.
    meta.page_size = u32::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(0);
    meta.facts.push(("cgroup".to_owned(), cgroup_version().to_owned()));
    if let Some(cores) = cores(Path::new("/sys/devices/system/cpu")) {
        meta.facts.push((CORES.to_owned(), cores.to_string()));
    }
}

/// Longest command line that is read of a process, bytes: it can make its own as long as it likes.
const COMMAND_LINE: u64 = 64 << 10;

/// A process's arguments, each with a NUL behind it; empty when there are none or it is gone.
pub fn command_line(pid: u32) -> Vec<u8> {
    let mut line = Vec::new();
    if let Ok(file) = fs::File::open(format!("/proc/{pid}/cmdline")) {
        _ = file.take(COMMAND_LINE).read_to_end(&mut line);
    }
    line
}

/// CPUs that are online, from `/sys/devices/system/cpu/online`.
///
/// # Errors
///
/// When the file can't be read or holds no such list.
pub fn online_cpus() -> io::Result<Vec<u32>> {
    const ONLINE: &str = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(ONLINE)
        .map_err(|error| io::Error::new(error.kind(), format!("{ONLINE}: {error} (is /sys mounted?)")))?;
    parse_cpus(&text).ok_or_else(|| io::Error::other(format!("{text:?} is no list of CPUs")))
}

/// Parses the kernel's list form: `0-3,8`.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        cpus.extend(from.parse::<u32>().ok()?..=to.parse::<u32>().ok()?);
    }
    Some(cpus)
}

/// Physical cores of the CPUs that are online: those with the same list of siblings are one
/// (`Documentation/ABI/stable/sysfs-devices-system-cpu`). `None` where the kernel does not tell.
fn cores(folder: &Path) -> Option<usize> {
    let cpus = fs::read_dir(folder).ok()?;
    let siblings: HashSet<String> = cpus
        .flatten()
        .filter_map(|cpu| {
            let topology = cpu.path().join("topology");
            let list = fs::read_to_string(topology.join("core_cpus_list"));
            // The name before 5.3.
            list.or_else(|_| fs::read_to_string(topology.join("thread_siblings_list")))
                .ok()
        })
        .collect();
    (!siblings.is_empty()).then_some(siblings.len())
}

/// `release`, `machine`, `nodename`.
fn uname() -> (String, String, String) {
    // SAFETY: an all-zero `utsname` is valid, and uname fills it with NUL-terminated strings.
    let names = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        if libc::uname(&mut names) != 0 {
            return Default::default();
        }
        names
    };
    let text = |bytes: &[libc::c_char]| {
        let bytes: Vec<u8> = bytes
            .iter()
            .take_while(|byte| **byte != 0)
            .map(|byte| *byte as u8)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    (text(&names.release), text(&names.machine), text(&names.nodename))
}

/// Which hierarchy the host's containers live in.
fn cgroup_version() -> &'static str {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else {
        return "unknown";
    };
    let has = |kind: &str| mounts.lines().any(|line| line.split(' ').nth(2) == Some(kind));
    match (has("cgroup"), has("cgroup2")) {
        (false, true) => "v2",
        (true, true) => "hybrid",
        (true, false) => "v1",
        (false, false) => "none mounted",
    }
}

/// What is missing where containers have no cgroup of version 2.
pub fn cgroup_limit() -> Option<&'static str> {
    match cgroup_version() {
        "v2" | "hybrid" => None,
        "v1" => Some(
            "no cgroup2 is mounted, version 1 only: containers are told apart by their runtime's calls and their process \
             tree, not by cgroup",
        ),
        _ => Some(
            "no cgroup2 is mounted: containers are told apart by their runtime's calls and their process tree, not by \
             cgroup",
        ),
    }
}

/// `CLOCK_MONOTONIC` now, ns: the clock of `bpf_ktime_get_ns()`.
pub fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Monotonic and real time, read together: the real time is read between two readings of the other, of several
/// tries the one where they lie closest.
pub fn clock_pair() -> Clock {
    let mut best = (u64::MAX, Clock { mono: 0, real: 0 });
    for _ in 0..5 {
        let before = clock_ns(libc::CLOCK_MONOTONIC);
        let real = clock_ns(libc::CLOCK_REALTIME);
        let after = clock_ns(libc::CLOCK_MONOTONIC);
        if after - before < best.0 {
            best = (
                after - before,
                Clock {
                    mono: before + (after - before) / 2,
                    real,
                },
            );
        }
    }
    best.1
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec. These clocks always exist.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Counts of the whole host since its boot, from `/proc/stat`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// CPU time, ns, in whole ticks (10 ms): user (with nice), system, idle, iowait, hard and soft interrupts, steal.
    /// Guests' time is in user time already.
    pub user_ns: u64,
    pub system_ns: u64,
    pub idle_ns: u64,
    pub iowait_ns: u64,
    pub interrupt_ns: u64,
    pub steal_ns: u64,
    /// Context switches.
    pub switches: u64,
    /// Processes and threads born.
    pub births: u64,
}

/// Reads [`HostCounts`].
pub fn counts() -> io::Result<HostCounts> {
    // SAFETY: no memory is passed.
    let hz = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100);
    Ok(parse_counts(
        &fs::read_to_string("/proc/stat")?,
        1_000_000_000 / hz.max(1),
    ))
}

fn parse_counts(text: &str, tick_ns: u64) -> HostCounts {
    let mut counts = HostCounts::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let name = words.next();
        let values: Vec<u64> = words.map(|word| word.parse().unwrap_or(0)).take(8).collect();
        match (name, values.as_slice()) {
            (Some("cpu"), [user, nice, system, idle, iowait, irq, softirq, steal]) => {
                counts.user_ns = (user + nice) * tick_ns;
                counts.system_ns = system * tick_ns;
                counts.idle_ns = idle * tick_ns;
                counts.iowait_ns = iowait * tick_ns;
                counts.interrupt_ns = (irq + softirq) * tick_ns;
                counts.steal_ns = steal * tick_ns;
            }
            (Some("ctxt"), [switches, ..]) => counts.switches = *switches,
            (Some("processes"), [births, ..]) => counts.births = *births,
            _ => {}
        }
    }
    counts
}

/// CPU time of this process (user, system), ns, and its peak resident memory, bytes.
pub fn own_cost() -> io::Result<(u64, u64, u64)> {
    // SAFETY: an all-zero rusage is valid, and getrusage fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        if libc::getrusage(libc::RUSAGE_SELF, &mut usage) != 0 {
            return Err(io::Error::last_os_error());
        }
        usage
    };
    let ns = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1_000;
    Ok((ns(usage.ru_utime), ns(usage.ru_stime), usage.ru_maxrss as u64 * 1024))
}

/// The running kernel's release; empty when it can't be had.
pub fn release() -> String {
    uname().0
}

/// `6.1.0-56-cloud-amd64` is (6, 1).
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the kernel's CPU lists are read, and others refused.
    #[test]
    fn cpu_lists() {
        assert_eq!(parse_cpus("0-2,5\n"), Some(vec![0, 1, 2, 5]));
        assert_eq!(parse_cpus("\n"), Some(vec![]));
        assert_eq!(parse_cpus("0-x"), None);
    }

    /// Make sure that the description holds what a reader needs.
    #[test]
    fn description() {
        let mut meta = Meta::default();
        describe(&mut meta);
        assert!(!meta.kernel.is_empty() && !meta.hostname.is_empty());
        assert!(meta.cpus > 0 && meta.memory_bytes > 1 << 20 && meta.page_size >= 4096);
    }

    /// Make sure that two CPUs of one core are counted as one, and that nothing is told where there is nothing.
    #[test]
    fn physical_cores() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(cores(folder.path()), None);
        for (cpu, siblings) in [("cpu0", "0,2"), ("cpu1", "1,3"), ("cpu2", "0,2"), ("cpu3", "1,3")] {
            let topology = folder.path().join(cpu).join("topology");
            fs::create_dir_all(&topology).unwrap();
            fs::write(topology.join("core_cpus_list"), siblings).unwrap();
        }
        fs::create_dir(folder.path().join("cpufreq")).unwrap();
        assert_eq!(cores(folder.path()), Some(2));
        assert_eq!(cores(Path::new("/no/such/folder")), None);
    }

    /// Make sure that the host's line is taken, not a CPU's, and that a short line counts nothing.
    #[test]
    fn host_counts() {
        let text = "cpu  10 1 5 100 7 2 3 9 4 0\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5 1\nctxt 77\nprocesses 8\n";
        let counts = parse_counts(text, 10);
        assert_eq!((counts.user_ns, counts.system_ns, counts.idle_ns), (110, 50, 1000));
        assert_eq!((counts.iowait_ns, counts.interrupt_ns, counts.steal_ns), (70, 50, 90));
        assert_eq!((counts.switches, counts.births), (77, 8));
        assert_eq!(parse_counts("cpu 1 2\nctxt\n", 10), HostCounts::default());
        assert!(super::counts().unwrap().switches > 0);
    }

    /// Make sure that a clock pair lies between two readings around it.
    #[test]
    fn pair() {
        let before = monotonic_ns();
        let pair = clock_pair();
        assert!(before <= pair.mono && pair.mono <= monotonic_ns());
        assert!(pair.real > 1_600_000_000_000_000_000);
    }
}

//! What the host tells about itself and about a process.

use std::fs;
use std::io;
use std::mem::MaybeUninit;

use anyhow::Context as _;

/// `CLOCK_MONOTONIC`, ns.
pub(crate) fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC).unwrap_or_default()
}

/// CPU time of a process with all its threads, also of one that has ended and was not yet waited for, ns.
pub(crate) fn cpu_ns(pid: u32) -> anyhow::Result<u64> {
    let mut clock = 0;
    // SAFETY: `clock` is a clock id.
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error)).with_context(|| format!("the CPU clock of process {pid}"));
    }
    Ok(clock_ns(clock)?)
}

fn clock_ns(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` has room for what is written.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: written by the call.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Peak resident memory of a process so far, bytes; `None` when it is gone.
pub(crate) fn peak_bytes(pid: u32) -> Option<u64> {
    high_water(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// CPU time that the whole host has spent on anything but idling, ns, by the kernel's ticks.
pub(crate) fn busy_ns() -> anyhow::Result<u64> {
    // SAFETY: no memory is involved.
    let hertz = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
    let ticks = busy_ticks(&text).context("/proc/stat has no line cpu")?;
    Ok(ticks * 1_000_000_000 / u64::try_from(hertz).unwrap_or(100).max(1))
}

/// user, nice, system, irq, softirq; not idle, iowait, nor what the hypervisor took (steal), and guest is in user.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = line
        .split_ascii_whitespace()
        .map_while(|field| field.parse().ok())
        .collect();
    [0, 1, 2, 5, 6].iter().map(|index| fields.get(*index).copied()).sum()
}

/// The first three fields of /proc/loadavg: mean number of runnable threads over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// CPUs that are online.
pub(crate) fn cpus() -> u32 {
    // SAFETY: no memory is involved.
    u32::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) })
        .unwrap_or(1)
        .max(1)
}

/// Kernel release, and model of the first CPU.
pub(crate) fn describe() -> (String, String) {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.trim_start().strip_prefix(": "))
        .unwrap_or("unknown CPU");
    (kernel.trim().to_owned(), model.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that idle, iowait, steal and guest time do not count as busy.
    #[test]
    fn busy() {
        let stat = "cpu  1000 200 300 99999 7777 40 5 6666 55 44\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n";
        assert_eq!(busy_ticks(stat), Some(1545));
        assert_eq!(busy_ticks("intr 5\n"), None);
        assert_eq!(busy_ticks("cpu  1 2\n"), None);
    }

    /// Make sure that the peak is read in bytes, and that a kernel thread (without one) has none.
    #[test]
    fn peak() {
        let status = "Name:\tx\nVmPeak:\t  999999 kB\nVmHWM:\t   12345 kB\nVmRSS:\t    1 kB\n";
        assert_eq!(high_water(status), Some(12345 * 1024));
        assert_eq!(high_water("Name:\tkthreadd\n"), None);
    }

    /// Make sure that a process's CPU time can be read while it is a zombie.
    #[test]
    fn zombie() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done"])
            .spawn()
            .unwrap();
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: `info` has room for what is written.
        let waited = unsafe {
            libc::waitid(
                libc::P_PID,
                child.id(),
                info.as_mut_ptr(),
                libc::WEXITED | libc::WNOWAIT,
            )
        };
        assert_eq!(waited, 0);
        assert!(cpu_ns(child.id()).unwrap() > 0);
        assert!(child.wait().unwrap().success());
        assert!(cpu_ns(child.id()).is_err());
    }
}

//! The host's kernel, privileges, cgroups, perf events, symbols and disk.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use rustix::thread::CapabilitySet;

use super::{Check, Verdict};
use crate::{
    kernel::{
        host,
        lockdown::{self, Mode},
        offsets::{self, OffsetsError},
    },
    lookup::mounts::mounts_of,
    recording::record::Meta,
    report::units,
};

/// The inode number of the first pid namespace: `PROC_PID_INIT_INO` of `include/linux/proc_ns.h` (since 3.8).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
/// A recording of an hour's builds; below this much room a recording may end early, bytes.
const LITTLE_ROOM: u64 = 200 << 20;
/// The first Linux whose BPF has all that is needed.
const OLDEST: (u32, u32) = (5, 10);
/// Every capability that recording uses.
const CAPABILITIES: [(CapabilitySet, &str); 5] = [
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN"),
    (CapabilitySet::BPF, "CAP_BPF"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"),
    (CapabilitySet::SYS_PTRACE, "CAP_SYS_PTRACE"),
];

/// Everything that is found by looking.
pub(super) fn checks() -> Vec<Check> {
    let mut meta = Meta::default();
    host::describe(&mut meta);
    vec![
        kernel(&meta),
        privileges(),
        pid_namespace(),
        lockdown(),
        btf(),
        cgroups(),
        perf_events(),
        kernel_symbols(),
        user_symbols(),
        room(),
    ]
}

fn kernel(meta: &Meta) -> Check {
    let found = format!(
        "Linux {} ({}), {} CPUs, {} memory",
        meta.kernel,
        meta.machine,
        meta.cpus,
        units::bytes(meta.memory_bytes)
    );
    let check = Check::good("kernel", found);
    match crate::kernel::host::version(&meta.kernel) {
        Some(version) if version < OLDEST => check.but(
            Verdict::Less,
            format!("older than {}.{}, which nobody tried", OLDEST.0, OLDEST.1),
        ),
        _ => check,
    }
}

fn privileges() -> Check {
    let uid = rustix::process::geteuid();
    let who = if uid.is_root() {
        "root".to_owned()
    } else {
        format!("user {}", uid.as_raw())
    };
    let Ok(sets) = rustix::thread::capabilities(None) else {
        return Check::good("privileges", who).but(Verdict::Unknown, "capabilities can't be read");
    };
    let lacking: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(capability, _)| !sets.effective.contains(*capability))
        .map(|(_, name)| *name)
        .collect();
    if lacking.is_empty() {
        return Check::good("privileges", format!("{who}, with every capability that is needed"));
    }
    let check = Check::good("privileges", format!("{who}, without {}", lacking.join(", ")));
    // CAP_SYS_ADMIN alone is as good as those that were split off it.
    if sets.effective.contains(CapabilitySet::SYS_ADMIN) {
        return check.but(
            Verdict::Less,
            "files and mappings of other users' processes may stay unread",
        );
    }
    check.but(
        Verdict::Bad,
        if uid.is_root() {
            "this root may load no eBPF programs: run it on the host, or with --privileged --pid=host"
        } else {
            "eBPF programs need root: sudo phasegraph doctor tells the rest"
        },
    )
}

fn pid_namespace() -> Check {
    let Ok(namespace) = fs::metadata("/proc/self/ns/pid") else {
        return Check::good("pid namespace", "not known").but(Verdict::Unknown, "is /proc mounted?");
    };
    if namespace.ino() == FIRST_PID_NAMESPACE {
        return Check::good("pid namespace", "the host's");
    }
    Check::good("pid namespace", "a container's").but(
        Verdict::Bad,
        "the host's is needed, to tell the kernel's process ids: start the container with --pid=host",
    )
}

fn lockdown() -> Check {
    match lockdown::mode() {
        Some(mode @ Mode::Confidentiality) => Check::good("lockdown", mode.name()).but(
            Verdict::Bad,
            "the kernel lets nobody read its memory: boot with lockdown=integrity or without",
        ),
        Some(mode) => Check::good("lockdown", mode.name()),
        None => Check::good("lockdown", "not told (no right to look, or a kernel without lockdown)"),
    }
}

fn btf() -> Check {
    let path = Path::new(offsets::VMLINUX_BTF);
    match offsets::resolve(path) {
        Ok(resolved) => {
            let size = fs::metadata(path).map_or(0, |file| file.len());
            let check = Check::good("kernel types", format!("{} of BTF", units::bytes(size)));
            if resolved.absent.is_empty() {
                return check;
            }
            let absent = resolved.absent.join(", ");
            check.but(Verdict::Less, format!("this kernel has no {absent}"))
        }
        Err(error @ OffsetsError::Btf { .. }) => {
            Check::good("kernel types", "none").but(Verdict::Bad, error.to_string())
        }
        Err(error) => Check::good("kernel types", "not this kernel's").but(Verdict::Bad, error.to_string()),
    }
}

fn cgroups() -> Check {
    let mounts = mounts_of("self");
    let second = mounts.iter().find(|mount| mount.fstype == b"cgroup2");
    let first: Vec<String> = mounts
        .iter()
        .filter(|mount| mount.fstype == b"cgroup")
        .filter_map(|mount| {
            Some(String::from_utf8_lossy(mount.point.rsplit(|byte| *byte == b'/').next()?).into_owned())
        })
        .collect();
    let controllers = second.map(|mount| {
        let folder = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
            &mount.point,
        ));
        let text = fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
        text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    });
    let of = |controllers: &str| {
        if controllers.is_empty() {
            "no controllers".to_owned()
        } else {
            controllers.to_owned()
        }
    };
    match (controllers, first.is_empty()) {
        (Some(controllers), true) => Check::good("cgroups", format!("version 2: {}", of(&controllers))),
        (Some(controllers), false) => Check::good(
            "cgroups",
            format!("versions 2 ({}) and 1 ({})", of(&controllers), first.join(" ")),
        )
        .but(
            Verdict::Less,
            "containers are told apart by version 2: those that are in version 1 only are told by their processes",
        ),
        (None, false) => Check::good("cgroups", format!("version 1 ({})", first.join(" "))).but(
            Verdict::Less,
            "containers are told by their processes only: systemd.unified_cgroup_hierarchy=1",
        ),
        (None, true) => Check::good("cgroups", "none mounted").but(
            Verdict::Less,
            "containers are told by their processes only: mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

fn perf_events() -> Check {
    let setting =
        |name: &str| fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).map(|text| text.trim().to_owned());
    match (setting("perf_event_paranoid"), setting("perf_event_mlock_kb")) {
        (Ok(paranoid), Ok(kb)) => Check::good("perf events", format!("paranoid {paranoid}, {kb} kB of ring a CPU")),
        _ => Check::good("perf events", "none").but(Verdict::Bad, "the kernel was built without CONFIG_PERF_EVENTS"),
    }
}

fn kernel_symbols() -> Check {
    let symbols = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    // Some have the address 0 in earnest (per-CPU variables before 6.15); with hidden addresses all have.
    let told = symbols
        .lines()
        .any(|line| !line.starts_with("0000000000000000") && !line.starts_with("00000000 "));
    if symbols.is_empty() {
        return Check::good("kernel symbols", "none").but(
            Verdict::Less,
            "kernel frames stay addresses: the kernel was built without CONFIG_KALLSYMS",
        );
    }
    if !told {
        let restricted = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap_or_default();
        return Check::good("kernel symbols", format!("hidden, kptr_restrict {}", restricted.trim())).but(
            Verdict::Less,
            "kernel frames stay addresses: root, and sysctl kernel.kptr_restrict at most 1",
        );
    }
    let count = u64::try_from(symbols.lines().count()).unwrap_or(0);
    Check::good("kernel symbols", format!("{} in /proc/kallsyms", units::count(count)))
}

fn user_symbols() -> Check {
    let mut sources = vec!["symbol tables of the mapped files".to_owned()];
    let debug = Path::new("/usr/lib/debug/.build-id");
    if debug.is_dir() {
        sources.push(format!("separate debug files in {}", debug.display()));
    }
    Check::good("user symbols", sources.join(", "))
}

fn room() -> Check {
    let Ok(file_system) = rustix::fs::statvfs(".") else {
        return Check::good("free space", "not known").but(Verdict::Unknown, "this folder can't be read");
    };
    let free = file_system.f_bavail.saturating_mul(file_system.f_frsize);
    let check = Check::good("free space", format!("{} in this folder", units::bytes(free)));
    if free < LITTLE_ROOM {
        return check.but(
            Verdict::Less,
            "a recording takes about 1 MB a minute of building, and ends when the disk is full",
        );
    }
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::host::version;

    /// Make sure that versions are read from releases of every distribution.
    #[test]
    fn versions() {
        assert_eq!(version("6.1.0-56-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.14.0-427.el9.x86_64"), Some((5, 14)));
        assert_eq!(version("7.2"), Some((7, 2)));
        assert_eq!(version("unknown"), None);
        assert!(version("5.9.1").unwrap() < OLDEST && version("5.10.223").unwrap() >= OLDEST);
    }
}

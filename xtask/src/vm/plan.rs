//! Which tests run in which machine: the data.

use super::exchange::Cgroups;
use super::machine::Shape;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// In CI, at every change.
    Smoke,
    /// Everything.
    Full,
}

/// A kind of machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    /// For the table in the documents.
    pub(crate) what: &'static str,
    pub(crate) cpus: u32,
    pub(crate) cgroups: Cgroups,
    /// More of the kernel's command line.
    pub(crate) append: &'static str,
}

impl Setup {
    pub(crate) fn shape(&self) -> Shape {
        Shape {
            cpus: self.cpus,
            append: self.append.to_owned(),
            ..Shape::default()
        }
    }
}

const NORMAL: Setup = Setup {
    name: "normal",
    what: "2 CPUs, cgroup v2 with all controllers",
    cpus: 2,
    cgroups: Cgroups::V2,
    append: "",
};

pub(crate) const SETUPS: [Setup; 6] = [
    NORMAL,
    Setup {
        name: "one-cpu",
        what: "1 CPU",
        cpus: 1,
        ..NORMAL
    },
    Setup {
        name: "eight-cpus",
        what: "8 CPUs",
        cpus: 8,
        ..NORMAL
    },
    Setup {
        name: "cgroup-v1",
        what: "cgroup v1 alone",
        cgroups: Cgroups::V1,
        ..NORMAL
    },
    Setup {
        name: "hybrid",
        what: "cgroup v1 with the controllers, v2 without",
        cgroups: Cgroups::Hybrid,
        ..NORMAL
    },
    Setup {
        name: "lockdown",
        what: "kernel locked down to confidentiality",
        append: "lockdown=confidentiality",
        ..NORMAL
    },
];

/// What an item runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Work {
    /// Tests of one of phasegraph's test programs: all, or those whose names contain one of these.
    Tests(&'static str, &'static [&'static str]),
    /// A line for the shell. `$OUT` is a folder whose content comes back.
    Shell(&'static str),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Letters, digits and dashes.
    pub(crate) name: &'static str,
    pub(crate) tier: Tier,
    /// Names of [`SETUPS`].
    pub(crate) setups: &'static [&'static str],
    pub(crate) work: Work,
    /// Tests that every kernel can run: one that is skipped here has failed.
    pub(crate) never_skipped: &'static [&'static str],
    /// Seconds after which the item hangs, on a machine that has the host to itself.
    pub(crate) seconds: u64,
}

/// The item whose recording tells what a kernel gives.
pub(crate) const FACTS: &str = "facts";

/// The demo, and what its recording says of the kernel.
const RECORD_FACTS: &str = "phasegraph demo -o \"$OUT/demo\" && \
                            phasegraph show --json \"$OUT/demo/demo.phg\" >\"$OUT/demo.json\"";

/// Under lockdown `run` says so, runs nothing and leaves nothing.
const REFUSED_WHEN_LOCKED: &str = "grep -F '[confidentiality]' /sys/kernel/security/lockdown || exit 1\n\
                                   ! phasegraph run -o x.phg -- touch ran 2>message || exit 2\n\
                                   cat message; grep -q 'locked down to confidentiality' message || exit 3\n\
                                   ! [ -e ran ] && ! [ -e x.phg ]";

/// Rungs that a kernel need not have; every other one must be had when it is forced.
pub(crate) const LACKING: [(&str, &str); 3] = [
    // Task storage for tracing programs came with 5.13.
    ("5.10", "task_state=storage"),
    // The tracepoint came with 6.3.
    ("5.10", "sock_send_length=tp_btf"),
    ("6.1", "sock_send_length=tp_btf"),
];

/// Forces every rung, and says of those that the kernel lacks why.
const FORCE_RUNGS: &str = include_str!("rungs.sh");

const UNLOCKED: &[&str] = &["normal", "one-cpu", "eight-cpus", "cgroup-v1", "hybrid"];

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: FACTS,
        tier: Tier::Smoke,
        setups: &["normal"],
        work: Work::Shell(RECORD_FACTS),
        never_skipped: &[],
        seconds: 60,
    },
    Row {
        name: "rungs",
        tier: Tier::Smoke,
        setups: &["normal"],
        work: Work::Shell(FORCE_RUNGS),
        never_skipped: &[],
        seconds: 400,
    },
    Row {
        name: "podman-smoke",
        tier: Tier::Smoke,
        setups: &["normal"],
        work: Work::Tests("runtimes", &["podman_crun_run"]),
        never_skipped: &["podman::podman_crun_run"],
        seconds: 120,
    },
    Row {
        name: "demo",
        tier: Tier::Full,
        setups: UNLOCKED,
        work: Work::Tests("demo", &[]),
        never_skipped: &["profile_agrees_with_the_stamps"],
        seconds: 120,
    },
    Row {
        name: "conservation",
        tier: Tier::Full,
        setups: UNLOCKED,
        work: Work::Tests("conservation", &[]),
        never_skipped: &["demo", "fork_storm", "switch_storm", "many_threads", "exec_by_a_thread"],
        seconds: 400,
    },
    Row {
        name: "own-machine",
        tier: Tier::Full,
        setups: UNLOCKED,
        work: Work::Tests("own_machine", &[]),
        never_skipped: &["cgroups_are_told"],
        seconds: 200,
    },
    Row {
        name: "leaves-nothing",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("leaves_nothing", &[]),
        never_skipped: &["good_end", "killed", "panicked", "out_of_memory"],
        seconds: 300,
    },
    Row {
        name: "hotplug",
        tier: Tier::Full,
        setups: &["normal", "eight-cpus"],
        work: Work::Tests("hotplug", &[]),
        never_skipped: &["a_cpu_goes_and_returns", "a_cpu_returns_unsampled"],
        seconds: 200,
    },
    Row {
        name: "record",
        tier: Tier::Full,
        setups: &["normal", "one-cpu"],
        work: Work::Tests("record", &[]),
        never_skipped: &["whole_host_for_a_time", "signals_end_it", "one_container"],
        seconds: 200,
    },
    Row {
        name: "bad-input",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("bad_input", &[]),
        never_skipped: &["no_btf", "no_tracefs", "disk_full"],
        seconds: 300,
    },
    Row {
        name: "symbols",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("symbols", &[]),
        never_skipped: &["short_lives_in_overlays"],
        seconds: 200,
    },
    Row {
        name: "degraded",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("degraded", &[]),
        never_skipped: &[
            "no_btf",
            "no_cgroup2",
            "no_rung_of_a_required_signal",
            "no_rung_of_an_optional_signal",
        ],
        seconds: 300,
    },
    Row {
        name: "locked-down",
        tier: Tier::Full,
        setups: &["lockdown"],
        work: Work::Shell(REFUSED_WHEN_LOCKED),
        never_skipped: &[],
        seconds: 100,
    },
    Row {
        name: "disk",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("disk", &[]),
        never_skipped: &[
            "charged::requests_and_the_kernels_account",
            "copies::copy_ups",
            "deletes::whiteouts_are_told",
        ],
        seconds: 300,
    },
    Row {
        name: "layers",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("layers", &[]),
        never_skipped: &["copy_ups", "depths", "uppers::nested", "uppers::tmpfs"],
        seconds: 300,
    },
    Row {
        name: "ladder",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("ladder", &[]),
        never_skipped: &[],
        seconds: 400,
    },
    Row {
        name: "loading",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests("lib", &["load::", "kernel::"]),
        never_skipped: &["load::registry::verified::verified_instructions"],
        seconds: 200,
    },
    Row {
        name: "containers",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests(
            "runtimes",
            &["bare::", "containerd::", "docker::", "exact::", "podman::"],
        ),
        never_skipped: &[
            "bare::crun_life",
            "bare::crun_run",
            "bare::runc_life",
            "bare::runc_run",
            "docker::docker_life",
            "docker::docker_run",
            "podman::podman_crun_life",
            "podman::podman_crun_run",
            "podman::podman_life",
            "podman::podman_run",
        ],
        seconds: 600,
    },
    Row {
        name: "scenarios",
        tier: Tier::Full,
        setups: &["normal"],
        work: Work::Tests(
            "runtimes",
            &[
                "build::",
                "buildkit::",
                "counts::",
                "cri::",
                "faults::",
                "flush::",
                "hostile::",
                "operations::",
                "pulls::",
                "ready::",
                "rootless::",
                "witness::",
            ],
        ),
        never_skipped: &[],
        seconds: 900,
    },
];

/// The rows for a machine.
pub(crate) fn rows(setup: &str, tier: Tier) -> Vec<&'static Row> {
    ROWS.iter()
        .filter(|row| row.tier <= tier && row.setups.contains(&setup))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that rows name set-ups that there are, that no name is used twice, and that the smoke tier boots one
    /// machine a kernel.
    #[test]
    fn table_is_sound() {
        for row in ROWS {
            assert!(
                row.setups
                    .iter()
                    .all(|name| SETUPS.iter().any(|setup| setup.name == *name)),
                "{}",
                row.name
            );
            assert!(
                row.name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
            );
            assert_eq!(ROWS.iter().filter(|other| other.name == row.name).count(), 1);
        }
        let smoke: Vec<_> = SETUPS
            .iter()
            .filter(|setup| !rows(setup.name, Tier::Smoke).is_empty())
            .collect();
        assert_eq!(smoke.len(), 1);
        assert!(SETUPS.iter().all(|setup| !rows(setup.name, Tier::Full).is_empty()));
    }
}

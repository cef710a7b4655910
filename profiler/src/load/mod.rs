//! From the eBPF object to attached probes, and their ownership: dropping [`Loaded`] detaches everything.

pub mod object;
pub mod perf;
pub mod registry;
pub mod tracefs;

use std::{
    collections::BTreeMap,
    io::Read as _,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    Btf, Ebpf, EbpfLoader, Pod,
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf, StackTraceMap},
    programs::{BtfTracePoint, Iter, PerfEvent, Program, TracePoint},
};
use profiler_common::{
    Counter,
    kernel::{Features, Offsets},
};
use registry::{Attach, CALLS, PROBES, Probe};

use crate::kernel::offsets::Resolved;

/// Why the probes can't be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the kernel's types can't be read; {VMLINUX} is needed: {0}", VMLINUX = crate::kernel::offsets::VMLINUX_BTF)]
    Btf(#[from] aya::BtfError),
    #[error(
        "the kernel refuses phasegraph's maps and programs: {0}; root (or CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN) is \
         needed, and a kernel that is not locked down to confidentiality (see /sys/kernel/security/lockdown)"
    )]
    Object(#[source] Box<aya::EbpfError>),
    #[error("the eBPF object lacks `{0}`: it is not of this program; rebuild it with `cargo xtask ebpf`")]
    Missing(&'static str),
    #[error("the required probe `{probe}` ({gives}) can't be used on this kernel: {why}")]
    Required {
        probe: &'static str,
        gives: &'static str,
        why: String,
    },
    #[error("map `{map}`: {why}")]
    Map { map: &'static str, why: String },
    #[error("the task iterator `{program}` failed: {why}")]
    Iterator { program: &'static str, why: String },
}

/// Wraps a type of the contract for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Global<T: Copy>(T);
// SAFETY: only used for `Offsets` and `Features`: repr(C), integers, no implicit padding (their layout is asserted).
unsafe impl Pod for Global<Offsets> {}
// SAFETY: as above.
unsafe impl Pod for Global<Features> {}

/// What the caller chooses.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// CPU samples a second and CPU.
    pub sample_hz: u32,
    /// CPUs that are online.
    pub cpus: Vec<u32>,
    /// Ring size in bytes, a power of two.
    pub ring_bytes: u32,
    /// Take the hash variant of the per-task state even where task storage is to be had.
    pub force_hash: bool,
}

/// Ring size: room for one drain interval of a storm. 2 CPUs × 250,000 events a second × 120 bytes × 50 ms is 3 MB;
/// each further pair of CPUs adds as much, up to 64 MB.
pub fn ring_bytes(cpus: usize) -> u32 {
    const PER_CPU: usize = 2 << 20;
    (cpus * PER_CPU).next_power_of_two().clamp(4 << 20, 64 << 20) as u32
}

/// Loaded programs, their links and maps.
pub struct Loaded {
    ebpf: Ebpf,
    clocks: Vec<perf::Event>,
    /// Closed with the whole: each takes the kernel some 60 ms.
    tracepoints: Vec<perf::Event>,
    /// Program and rung, or why it is not available.
    pub probes: Vec<(String, String)>,
    /// Keeps the kernel's run-time statistics of BPF programs on.
    _statistics: Option<OwnedFd>,
}

/// What a program cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgramCost {
    pub name: String,
    pub run_ns: u64,
    pub runs: u64,
    pub recursion_misses: u64,
    pub verified_instructions: u32,
}

fn load_object(bytes: &[u8], btf: &Btf, resolved: &Resolved, options: &LoadOptions) -> Result<Ebpf, aya::EbpfError> {
    let offsets = Global(resolved.offsets);
    let features = Global(resolved.features);
    let tgid = std::process::id();
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .allow_unsupported_maps()
        .override_global("OFFSETS", &offsets, true)
        .override_global("FEATURES", &features, true)
        .override_global("SELF_TGID", &tgid, true)
        .map_max_entries("EVENTS", options.ring_bytes);
    loader.load(bytes)
}

/// The variant with task storage, its dearest program loaded to see whether the kernel takes it.
fn load_storage(btf: &Btf, resolved: &Resolved, options: &LoadOptions) -> Result<Ebpf, String> {
    let mut ebpf = load_object(object::storage(), btf, resolved, options).map_err(|why| chain(&why))?;
    let switch = ebpf
        .program_mut("sched_switch")
        .ok_or("the object has no program sched_switch")?;
    <&mut BtfTracePoint>::try_from(switch)
        .and_then(|switch| switch.load("sched_switch", btf))
        .map_err(|why| chain(&why))?;
    Ok(ebpf)
}

impl Loaded {
    /// Loads the object (with task storage, or where the kernel refuses that, with the hash) and every program.
    pub fn load(btf: &Btf, resolved: &Resolved, options: &LoadOptions) -> Result<Loaded, LoadError> {
        let statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).ok();
        let mut state = "task storage";
        let attempt = if options.force_hash {
            None
        } else {
            // The maps may load and the programs not: 5.10 to 5.12 know task storage for LSM programs only.
            load_storage(btf, resolved, options)
                .inspect_err(|why| tracing::info!("task storage is not to be had, a hash serves: {why}"))
                .ok()
        };
        let ebpf = match attempt {
            Some(ebpf) => ebpf,
            None => {
                state = "hash";
                load_object(object::hash(), btf, resolved, options).map_err(|why| LoadError::Object(Box::new(why)))?
            }
        };
        let mut loaded = Loaded {
            ebpf,
            clocks: Vec::new(),
            tracepoints: Vec::new(),
            probes: vec![("per-task state".to_owned(), state.to_owned())],
            _statistics: statistics,
        };
        loaded.fill_calls()?;
        for probe in PROBES {
            if let Err(why) = loaded.load_program(probe, btf) {
                loaded.unavailable(probe, &why)?;
            }
        }
        Ok(loaded)
    }

    fn unavailable(&mut self, probe: &Probe, why: &str) -> Result<(), LoadError> {
        if probe.required {
            return Err(LoadError::Required {
                probe: probe.program,
                gives: probe.gives,
                why: why.to_owned(),
            });
        }
        tracing::warn!("probe {} is not available, so no {}: {why}", probe.program, probe.gives);
        self.probes
            .push((probe.program.to_owned(), format!("not available: {why}")));
        Ok(())
    }

    fn load_program(&mut self, probe: &Probe, btf: &Btf) -> Result<(), String> {
        let program = self
            .ebpf
            .program_mut(probe.program)
            .ok_or_else(|| format!("the object has no program {}", probe.program))?;
        if program.fd().is_ok() {
            return Ok(());
        }
        match probe.attach {
            Attach::TpBtf(tracepoint) => {
                <&mut BtfTracePoint>::try_from(program).and_then(|program| program.load(tracepoint, btf))
            }
            Attach::Syscalls(_) => <&mut TracePoint>::try_from(program).and_then(TracePoint::load),
            Attach::Clock => <&mut PerfEvent>::try_from(program).and_then(PerfEvent::load),
            Attach::TaskIterator => <&mut Iter>::try_from(program).and_then(|program| program.load("task", btf)),
        }
        .map_err(|why| chain(&why))
    }

    /// Attaches everything but the sampling clock, which [`Loaded::start_clock`] starts last.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        let tracefs = tracefs::Tracefs::open();
        for probe in PROBES {
            if self.probes.iter().any(|(name, _)| name == probe.program) {
                continue;
            }
            let rung = match probe.attach {
                Attach::TpBtf(_) => self.attach_tp_btf(probe).map(|()| "tp_btf".to_owned()),
                Attach::Syscalls(prefix) => match &tracefs {
                    Ok(tracefs) => self.attach_syscalls(probe, prefix, tracefs),
                    Err(why) => Err(format!(
                        "tracefs can't be had: {why}; `mount -t tracefs none /sys/kernel/tracing`"
                    )),
                },
                Attach::TaskIterator => Ok("task iterator".to_owned()),
                Attach::Clock => continue,
            };
            match rung {
                Ok(rung) => self.probes.push((probe.program.to_owned(), rung)),
                Err(why) => self.unavailable(probe, &why)?,
            }
        }
        Ok(())
    }

    fn attach_tp_btf(&mut self, probe: &Probe) -> Result<(), String> {
        let program = self.ebpf.program_mut(probe.program).ok_or("no such program")?;
        let program: &mut BtfTracePoint = program.try_into().map_err(|why| chain(&why))?;
        program.attach().map(|_| ()).map_err(|why| chain(&why))
    }

    fn attach_syscalls(&mut self, probe: &Probe, prefix: &str, tracefs: &tracefs::Tracefs) -> Result<String, String> {
        let program = self.ebpf.program(probe.program).ok_or("no such program")?;
        let fd = program.fd().map_err(|why| chain(&why))?;
        let mut missing = Vec::new();
        for call in CALLS {
            let event = tracefs
                .id("syscalls", &format!("{prefix}_{}", call.name))
                .and_then(|id| perf::tracepoint(id, fd.as_fd()));
            match event {
                Ok(event) => self.tracepoints.push(event),
                Err(why) => missing.push(format!("{}: {why}", call.name)),
            }
        }
        if missing.len() == CALLS.len() {
            return Err(missing.join(", "));
        }
        let mut rung = format!("classic tracepoints of {} system calls", CALLS.len() - missing.len());
        if !missing.is_empty() {
            rung.push_str(&format!(" (without {})", missing.join(", ")));
        }
        Ok(rung)
    }

    /// Starts the sampling clock on each CPU.
    pub fn start_clock(&mut self, options: &LoadOptions) -> Result<(), LoadError> {
        for probe in PROBES.iter().filter(|probe| probe.attach == Attach::Clock) {
            let required = |why: String| LoadError::Required {
                probe: probe.program,
                gives: probe.gives,
                why,
            };
            let program = self
                .ebpf
                .program(probe.program)
                .ok_or(LoadError::Missing(probe.program))?;
            let fd = program.fd().map_err(|why| required(chain(&why)))?;
            let mut started = 0;
            for cpu in &options.cpus {
                match perf::clock(*cpu, options.sample_hz, fd.as_fd()) {
                    Ok(event) => {
                        self.clocks.push(event);
                        started += 1;
                    }
                    Err(why) => tracing::warn!("CPU {cpu} is not sampled: {why}"),
                }
            }
            if started == 0 {
                return Err(required("no CPU's cpu-clock could be opened".to_owned()));
            }
            let rung = format!("cpu-clock, {} Hz on {started} CPUs", options.sample_hz);
            self.probes.push((probe.program.to_owned(), rung));
        }
        Ok(())
    }

    /// Detaches what switches and samples: from here on the per-task states stand still. The system calls'
    /// tracepoints go with the whole, since closing them takes a second in all (`docs/design/0005`).
    pub fn detach(&mut self) {
        self.clocks.clear();
        for probe in PROBES {
            if let Some(program) = self.ebpf.program_mut(probe.program)
                && let Program::BtfTracePoint(program) = program
                && let Err(why) = program.unload()
            {
                tracing::warn!("{} could not be detached: {}", probe.program, chain(&why));
            }
        }
    }

    /// Runs a task iterator to its end.
    fn iterate(&mut self, name: &'static str) -> Result<(), LoadError> {
        let error = |why: String| LoadError::Iterator { program: name, why };
        let program = self.ebpf.program_mut(name).ok_or(LoadError::Missing(name))?;
        let program: &mut Iter = program.try_into().map_err(|why| error(chain(&why)))?;
        let id = program.attach().map_err(|why| error(chain(&why)))?;
        let link = program.take_link(id).map_err(|why| error(chain(&why)))?;
        let mut file = link.into_file().map_err(|why| error(chain(&why)))?;
        let mut nothing = Vec::new();
        file.read_to_end(&mut nothing).map_err(|why| error(why.to_string()))?;
        Ok(())
    }

    /// Makes every thread of these thread groups tracked; each gives an `Adopt` event.
    pub fn adopt(&mut self, tgids: &[u32]) -> Result<(), LoadError> {
        {
            let mut map: HashMap<_, u32, u32> = self.map_mut("TRACK_TGID")?;
            for tgid in tgids {
                map.insert(tgid, profiler_common::task::TRACK, 0)
                    .map_err(|why| map_error("TRACK_TGID", &why))?;
            }
        }
        self.iterate("adopt_tasks")
    }

    /// Gives an `OPEN` cycle up to `end` for every tracked thread. Only after [`Loaded::detach`].
    pub fn flush(&mut self, end: u64) -> Result<(), LoadError> {
        {
            let mut control: Array<_, u64> = self.map_mut("CONTROL")?;
            control.set(0, end, 0).map_err(|why| map_error("CONTROL", &why))?;
        }
        self.iterate("flush_tasks")
    }

    /// Tracks programs of these names (comm) from their exec on, whoever starts them.
    pub fn track_programs(&mut self, names: &[&str]) -> Result<(), LoadError> {
        self.programs(names, profiler_common::task::TRACK)
    }

    /// Is told the execs of programs of these names (comm), whoever starts them.
    pub fn tell_programs(&mut self, names: &[&str]) -> Result<(), LoadError> {
        self.programs(names, profiler_common::task::TELL)
    }

    fn programs(&mut self, names: &[&str], how: u32) -> Result<(), LoadError> {
        let mut map: HashMap<_, [u8; 16], u32> = self.map_mut("TRACK_COMM")?;
        for name in names {
            let mut comm = [0u8; 16];
            for (to, from) in comm.iter_mut().zip(name.bytes().take(15)) {
                *to = from;
            }
            map.insert(comm, how, 0).map_err(|why| map_error("TRACK_COMM", &why))?;
        }
        Ok(())
    }

    fn fill_calls(&mut self) -> Result<(), LoadError> {
        let mut map: HashMap<_, u32, u32> = self.map_mut("CALLS")?;
        for call in CALLS {
            map.insert(call.number as u32, call.call, 0)
                .map_err(|why| map_error("CALLS", &why))?;
        }
        Ok(())
    }

    fn map_mut<'a, T>(&'a mut self, name: &'static str) -> Result<T, LoadError>
    where
        T: TryFrom<&'a mut Map, Error = aya::maps::MapError>,
    {
        let map = self.ebpf.map_mut(name).ok_or(LoadError::Missing(name))?;
        T::try_from(map).map_err(|why| map_error(name, &why))
    }

    /// The ring, once.
    pub fn take_ring(&mut self) -> Result<RingBuf<MapData>, LoadError> {
        let map = self.ebpf.take_map("EVENTS").ok_or(LoadError::Missing("EVENTS"))?;
        RingBuf::try_from(map).map_err(|why| map_error("EVENTS", &why))
    }

    /// The user stacks of waits, once.
    pub fn take_user_stacks(&mut self) -> Result<StackTraceMap<MapData>, LoadError> {
        let map = self
            .ebpf
            .take_map("USER_STACKS")
            .ok_or(LoadError::Missing("USER_STACKS"))?;
        StackTraceMap::try_from(map).map_err(|why| map_error("USER_STACKS", &why))
    }

    /// The kernel's counters so far, summed over the CPUs; those that are 0 left out.
    pub fn counters(&self) -> Result<BTreeMap<u32, u64>, LoadError> {
        let map = self.ebpf.map("COUNTERS").ok_or(LoadError::Missing("COUNTERS"))?;
        let map: PerCpuArray<_, u64> = PerCpuArray::try_from(map).map_err(|why| map_error("COUNTERS", &why))?;
        let mut counters = BTreeMap::new();
        for counter in Counter::ALL {
            let values = map
                .get(&(*counter as u32), 0)
                .map_err(|why| map_error("COUNTERS", &why))?;
            let sum: u64 = values.iter().sum();
            if sum > 0 {
                counters.insert(*counter as u32, sum);
            }
        }
        Ok(counters)
    }

    /// What each program cost so far, by the kernel's own statistics.
    pub fn costs(&self) -> Vec<ProgramCost> {
        self.ebpf
            .programs()
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                let fd = program.fd().ok()?;
                Some(ProgramCost {
                    name: name.to_owned(),
                    run_ns: info.run_time().as_nanos() as u64,
                    runs: info.run_count(),
                    recursion_misses: recursion_misses(fd.as_fd()),
                    verified_instructions: info.verified_instruction_count().unwrap_or(0),
                })
            })
            .collect()
    }
}

/// Runs of a program that the kernel dropped because they would have interrupted the program itself, as the
/// descriptor's fdinfo tells (Linux 5.12 and later); aya does not read that field.
fn recursion_misses(program: BorrowedFd<'_>) -> u64 {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
        })
        .unwrap_or(0)
}

fn map_error(map: &'static str, why: &aya::maps::MapError) -> LoadError {
    LoadError::Map { map, why: chain(why) }
}

/// An error with its causes in one line; the verifier's log is cut to its end, where the reason stands.
fn chain(error: &dyn std::error::Error) -> String {
    const LOG: usize = 1500;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    if text.len() > LOG {
        let tail: String = text
            .chars()
            .rev()
            .take(LOG)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect();
        return format!("… {tail}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::offsets;

    /// Make sure that both variants load and attach on the running kernel, and see a fork, an exec and an exit of a
    /// thread group that was adopted.
    #[test]
    fn both_variants() {
        // SAFETY: no arguments.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: loading eBPF programs needs root");
            return;
        }
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let btf = Btf::from_sys_fs().unwrap();
        let resolved = offsets::resolve(std::path::Path::new(offsets::VMLINUX_BTF)).unwrap();
        for force_hash in [false, true] {
            let options = LoadOptions {
                sample_hz: 99,
                cpus: vec![0],
                ring_bytes: 4 << 20,
                force_hash,
            };
            let mut loaded = Loaded::load(&btf, &resolved, &options).unwrap();
            loaded.attach().unwrap();
            loaded.adopt(&[std::process::id()]).unwrap();
            loaded.start_clock(&options).unwrap();
            let missing: Vec<_> = loaded
                .probes
                .iter()
                .filter(|(_, rung)| rung.contains("not available"))
                .collect();
            assert!(missing.is_empty(), "{missing:?}");
            assert_eq!(loaded.probes[0].1, if force_hash { "hash" } else { "task storage" });
            assert!(std::process::Command::new("/bin/true").status().unwrap().success());
            loaded.detach();
            let end = u64::MAX;
            loaded.flush(end).unwrap();
            let mut ring = loaded.take_ring().unwrap();
            let mut kinds = BTreeMap::new();
            while let Some(item) = ring.next() {
                let (header, _) = profiler_common::split::<profiler_common::Header>(&item).unwrap();
                *kinds.entry(header.kind).or_insert(0) += 1;
            }
            use profiler_common::kind;
            for kind in [kind::ADOPT, kind::FORK, kind::EXEC, kind::EXIT, kind::CYCLE] {
                assert!(
                    kinds.get(&kind).is_some_and(|count| *count > 0),
                    "no kind {kind} in {kinds:?}"
                );
            }
            eprintln!("{kinds:?} {:?} {:#?}", loaded.counters().unwrap(), loaded.costs());
        }
    }
}

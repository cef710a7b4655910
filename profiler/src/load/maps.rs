//! The loaded object's maps: what the probes are told, and what they tell.

use std::{collections::BTreeMap, io::Read as _};

use aya::{
    maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf, StackTraceMap},
    programs::Iter,
};
use profiler_common::{Counter, net::Exchange};

use super::{Global, LoadError, Loaded, error::chain, registry::CALLS};

impl Loaded {
    /// Runs a task iterator to its end.
    pub(super) fn iterate(&mut self, name: &'static str) -> Result<(), LoadError> {
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

    /// Makes every process of the host tracked, but for this one and the kernel's threads.
    pub fn adopt_all(&mut self) -> Result<(), LoadError> {
        {
            let mut map: HashMap<_, u32, u32> = self.map_mut("TRACK_TGID")?;
            map.insert(profiler_common::task::EVERYONE, profiler_common::task::TRACK, 0)
                .map_err(|why| map_error("TRACK_TGID", &why))?;
        }
        // The walk goes up the process ids: a child whose parent was not tracked when it was born, and whose id is one
        // that the walk has passed, is found by the second.
        self.iterate("adopt_tasks")?;
        self.iterate("adopt_tasks")
    }

    /// Tracks what enters one of these cgroups of the default hierarchy.
    pub fn track_cgroups(&mut self, ids: &[u64]) -> Result<(), LoadError> {
        let mut map: HashMap<_, u64, u32> = self.map_mut("TRACK_CGROUP")?;
        for id in ids {
            map.insert(id, 1, 0).map_err(|why| map_error("TRACK_CGROUP", &why))?;
        }
        Ok(())
    }

    /// Tells the running programs something: an index of [`profiler_common::control`].
    pub(super) fn set_control(&mut self, index: u32, value: u64) -> Result<(), LoadError> {
        let mut control: Array<_, u64> = self.map_mut("CONTROL")?;
        control.set(index, value, 0).map_err(|why| map_error("CONTROL", &why))
    }

    /// Gives an `OPEN` cycle up to `end` for every tracked thread. Only after [`Loaded::detach`].
    pub fn flush(&mut self, end: u64) -> Result<(), LoadError> {
        self.set_control(profiler_common::control::END, end)?;
        self.iterate("flush_tasks")
    }

    /// Tracks programs of these names (comm) from their exec on, whoever starts them.
    pub fn track_programs(&mut self, names: &[&str]) -> Result<(), LoadError> {
        self.fill_names("TRACK_COMM", names, profiler_common::task::TRACK)
    }

    /// Is told the execs of programs of these names (comm), whoever starts them.
    pub fn tell_programs(&mut self, names: &[&str]) -> Result<(), LoadError> {
        self.fill_names("TRACK_COMM", names, profiler_common::task::TELL)
    }

    /// Tells the programs whose work on images is watched, by comm.
    pub fn watch_engines(&mut self, names: &[&str]) -> Result<(), LoadError> {
        self.fill_names("ENGINE_COMM", names, 1)
    }

    fn fill_names(&mut self, map: &'static str, names: &[&str], value: u32) -> Result<(), LoadError> {
        let mut filled: HashMap<_, [u8; 16], u32> = self.map_mut(map)?;
        for name in names {
            let mut comm = [0u8; 16];
            for (to, from) in comm.iter_mut().zip(name.bytes().take(15)) {
                *to = from;
            }
            filled.insert(comm, value, 0).map_err(|why| map_error(map, &why))?;
        }
        Ok(())
    }

    /// Exchanges whose connection is still there.
    pub fn open_exchanges(&self) -> Result<Vec<Exchange>, LoadError> {
        let map = self.ebpf.map("EXCHANGES").ok_or(LoadError::Missing("EXCHANGES"))?;
        let map: HashMap<_, u64, Global<Exchange>> =
            HashMap::try_from(map).map_err(|why| map_error("EXCHANGES", &why))?;
        Ok(map.iter().filter_map(|entry| Some(entry.ok()?.1.0)).collect())
    }

    /// Tells the programs which system call numbers are watched.
    pub(super) fn fill_calls(&mut self) -> Result<(), LoadError> {
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
}

fn map_error(map: &'static str, why: &aya::maps::MapError) -> LoadError {
    LoadError::Map { map, why: chain(why) }
}

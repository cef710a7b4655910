//! Executable mappings and execs as they happen, from perf's own records.
//!
//! One dummy software event per CPU, system-wide, writes `PERF_RECORD_MMAP2` and `PERF_RECORD_COMM` to a ring; no
//! program is attached and nothing is sampled. With device and inode, not with build ids: the record holds one or
//! the other (`PERF_RECORD_MISC_MMAP_BUILD_ID`), and the inode is what tells files apart.
//!
//! What it needs: `CAP_PERFMON` (or `CAP_SYS_ADMIN`) or `perf_event_paranoid <= 0`, for a system-wide event. Ring
//! memory is charged to the user, `perf_event_mlock_kb` (516 by default) for each online CPU, and only then to
//! `RLIMIT_MEMLOCK`; `CAP_IPC_LOCK` or a paranoia of -1 lifts that (`perf_mmap` in `kernel/events/core.c`). One ring
//! of [`RING_BYTES`] and its head page just fit, so root without capabilities opens it, but once at a time.
//!
//! Process ids are those of the pid namespace that the event is opened in.

use std::io;

use perf_event::events::Software;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

/// Size of a CPU's ring, bytes, a power of two.
///
/// An exec and its libraries are about 10 records of about 150 bytes; a fork and exec take 0.46 ms at best, so a CPU
/// writes at most 1.5 KB × 2,200 a second = 3.3 MB/s, which is 165 KB in the 50 ms between two drains. Three times
/// that, rounded to what `perf_event_mlock_kb` allows a CPU by default (516 KB with the head page).
pub const RING_BYTES: usize = 512 * 1024;

const RECORD_LOST: u32 = 2;
const RECORD_COMM: u32 = 3;
const RECORD_MMAP2: u32 = 10;
/// `PERF_RECORD_MISC_COMM_EXEC`; the same bit as `PERF_RECORD_MISC_MMAP_DATA`.
const MISC_COMM_EXEC: u16 = 1 << 13;
/// `PERF_RECORD_MISC_MMAP_BUILD_ID`: a build id stands where device and inode would.
const MISC_BUILD_ID: u16 = 1 << 14;
const PROT_EXEC: u32 = libc::PROT_EXEC as u32;

/// Why mappings can't be recorded.
#[derive(Debug, thiserror::Error)]
pub enum MappingsError {
    #[error(
        "perf_event_open of a dummy event on CPU {cpu} failed: {source}; it needs CAP_PERFMON or CAP_SYS_ADMIN, or \
         kernel.perf_event_paranoid at most 0"
    )]
    Open { cpu: u32, source: io::Error },
    #[error(
        "mapping the {} KiB ring of CPU {cpu} failed: {source}; raise kernel.perf_event_mlock_kb or the limit on \
         locked memory (ulimit -l), or end other perf sessions of this user",
        RING_BYTES / 1024
    )]
    Ring { cpu: u32, source: io::Error },
    #[error("no CPU is online in the list {cpus:?}")]
    NoCpu { cpus: Vec<u32> },
}

/// What happened to an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingEvent<'a> {
    /// `CLOCK_MONOTONIC`, ns.
    pub ts: u64,
    pub pid: u32,
    pub tid: u32,
    pub what: What<'a>,
}

/// See [`MappingEvent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// An executable mapping appeared.
    Map(Map<'a>),
    /// The old image is gone; the new image's mappings follow.
    Exec,
}

/// An executable mapping `[start, end)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    pub start: u64,
    pub end: u64,
    /// Offset in the file, bytes.
    pub pgoff: u64,
    /// `major << 20 | minor`; 0 when there is no file. Of an overlay's file this is the overlay's own device or the
    /// backing file's: kernels differ, see [`crate::lookup::locate`].
    pub dev: u32,
    pub ino: u64,
    /// `inode->i_generation`; 0 where the file system has none (overlayfs).
    pub generation: u64,
    /// As the process sees it, or `[vdso]`, `//anon`. Hostile text.
    pub path: &'a [u8],
}

struct Ring {
    cpu: u32,
    sampler: Sampler,
    /// Time of the oldest record that was not yet taken; `None` when the ring was empty when last looked at.
    next: Option<u64>,
}

/// The rings of all CPUs.
pub struct Mappings {
    rings: Vec<Ring>,
    skipped: Vec<u32>,
    scratch: Vec<u8>,
    lost: u64,
    malformed: u64,
    taken: u64,
}

impl Mappings {
    /// Opens and starts one event on each of `cpus`. A CPU that went offline is left out, see [`Mappings::skipped`].
    ///
    /// # Errors
    ///
    /// [`MappingsError`]; nothing stays open then.
    pub fn open(cpus: &[u32]) -> Result<Self, MappingsError> {
        let mut rings = Vec::with_capacity(cpus.len());
        let mut skipped = Vec::new();
        for &cpu in cpus {
            match open_ring(cpu) {
                Ok(sampler) => rings.push(Ring {
                    cpu,
                    sampler,
                    next: None,
                }),
                // perf_event_open answers ENODEV for a CPU that is not online.
                Err(MappingsError::Open { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {
                    skipped.push(cpu);
                }
                Err(error) => return Err(error),
            }
        }
        if rings.is_empty() {
            return Err(MappingsError::NoCpu { cpus: cpus.to_vec() });
        }
        Ok(Mappings {
            rings,
            skipped,
            scratch: Vec::new(),
            lost: 0,
            malformed: 0,
            taken: 0,
        })
    }

    /// CPUs that were not online when this was opened: what they map later is not seen.
    pub fn skipped(&self) -> &[u32] {
        &self.skipped
    }

    /// Records no mappings until [`Mappings::resume`]; what the rings hold stays.
    pub fn pause(&mut self) {
        for ring in &mut self.rings {
            if let Err(why) = ring.sampler.disable() {
                tracing::warn!("mappings of CPU {} are still recorded: {why}", ring.cpu);
            }
        }
    }

    /// Records mappings again.
    pub fn resume(&mut self) {
        for ring in &mut self.rings {
            if let Err(why) = ring.sampler.enable() {
                tracing::warn!("mappings of CPU {} are not recorded any more: {why}", ring.cpu);
            }
        }
    }

    /// Opens an event on a CPU that came online.
    ///
    /// # Errors
    ///
    /// As [`Mappings::open`].
    pub fn add_cpu(&mut self, cpu: u32) -> Result<(), MappingsError> {
        self.remove_cpu(cpu);
        let sampler = open_ring(cpu)?;
        self.rings.push(Ring {
            cpu,
            sampler,
            next: None,
        });
        Ok(())
    }

    /// Forgets a CPU that went offline, with what its ring may still hold: drain before. Its event is dead, also should
    /// the CPU return.
    pub fn remove_cpu(&mut self, cpu: u32) {
        self.rings.retain(|ring| ring.cpu != cpu);
    }

    /// Gives all events up to time `until` (`CLOCK_MONOTONIC`, ns; `u64::MAX` for all) in the order of their times
    /// over all CPUs, and returns their number.
    ///
    /// A record is written some microseconds after its time, so `until` should lie a millisecond back where order
    /// matters across calls. Events are parsed where they lie: nothing is allocated.
    pub fn drain(&mut self, until: u64, mut each: impl FnMut(MappingEvent<'_>)) -> usize {
        for index in 0..self.rings.len() {
            self.peek(index);
        }
        let mut count = 0;
        while let Some(index) = self.oldest(until) {
            let Some(ring) = self.rings.get_mut(index) else { break };
            let Some(record) = ring.sampler.next_record() else {
                break;
            };
            let (kind, misc) = (record.ty(), record.misc());
            self.scratch.clear();
            for part in record.data() {
                self.scratch.extend_from_slice(part);
            }
            drop(record);
            match parse(kind, misc, &self.scratch) {
                Some(Parsed::Event(event)) => {
                    count += 1;
                    self.taken += 1;
                    each(event);
                }
                Some(Parsed::Lost(lost)) => self.lost += lost,
                Some(Parsed::Other) => {}
                None => self.malformed += 1,
            }
            self.peek(index);
        }
        count
    }

    /// Records that found their ring full so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Records that were taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Records that could not be parsed so far.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Bytes of memory that all rings take.
    pub fn ring_bytes(&self) -> usize {
        self.rings.len() * RING_BYTES
    }

    fn oldest(&self, until: u64) -> Option<usize> {
        let (index, next) = self
            .rings
            .iter()
            .enumerate()
            .filter_map(|(index, ring)| Some((index, ring.next?)))
            .min_by_key(|(_, next)| *next)?;
        (next <= until).then_some(index)
    }

    /// Learns the time of a ring's next record without taking it.
    fn peek(&mut self, index: usize) {
        let Some(ring) = self.rings.get_mut(index) else { return };
        ring.next = ring.sampler.next_record().map(|record| {
            let time = trailing_u64(record.data());
            // Dropping a record takes it from the ring.
            std::mem::forget(record);
            time
        });
    }
}

fn open_ring(cpu: u32) -> Result<Sampler, MappingsError> {
    let mut builder = Builder::new(Software::DUMMY);
    builder
        .any_pid()
        .one_cpu(cpu as usize)
        .mmap(true)
        .mmap2(true)
        .comm(true)
        .comm_exec(true)
        .sample(SampleFlag::TIME)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        // Nobody polls; the rarest wake-up there is.
        .wakeup_watermark(RING_BYTES);
    let counter = builder.build().map_err(|source| MappingsError::Open { cpu, source })?;
    let mut sampler = counter
        .sampled(RING_BYTES)
        .map_err(|source| MappingsError::Ring { cpu, source })?;
    // Enabled after the ring is there: before, records would be dropped uncounted.
    sampler.enable().map_err(|source| MappingsError::Open { cpu, source })?;
    Ok(sampler)
}

/// With `sample_id_all` and `PERF_SAMPLE_TIME` alone, each record ends with its time.
fn trailing_u64(parts: &[&[u8]]) -> u64 {
    let mut bytes = [0; 8];
    let tail = parts.iter().rev().flat_map(|part| part.iter().rev());
    for (to, from) in bytes.iter_mut().rev().zip(tail) {
        *to = *from;
    }
    u64::from_ne_bytes(bytes)
}

#[derive(Debug, PartialEq)]
enum Parsed<'a> {
    Event(MappingEvent<'a>),
    Lost(u64),
    Other,
}

fn parse(kind: u32, misc: u16, bytes: &[u8]) -> Option<Parsed<'_>> {
    let body = bytes.get(..bytes.len().checked_sub(8)?)?;
    let ts = trailing_u64(&[bytes]);
    let u32_at = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_ne_bytes(body.get(at..at + 8)?.try_into().ok()?));
    match kind {
        RECORD_LOST => Some(Parsed::Lost(u64_at(8)?)),
        RECORD_COMM if misc & MISC_COMM_EXEC != 0 => Some(Parsed::Event(MappingEvent {
            ts,
            pid: u32_at(0)?,
            tid: u32_at(4)?,
            what: What::Exec,
        })),
        // Layout: pid, tid, addr, len, pgoff, maj, min, ino, ino_generation, prot, flags, filename[].
        RECORD_MMAP2 if misc & MISC_BUILD_ID == 0 => {
            if u32_at(56)? & PROT_EXEC == 0 {
                return Some(Parsed::Other);
            }
            let name = body.get(64..)?;
            let start = u64_at(8)?;
            let map = Map {
                start,
                end: start.checked_add(u64_at(16)?)?,
                pgoff: u64_at(24)?,
                dev: (u32_at(32)? << 20) | (u32_at(36)? & 0xf_ffff),
                ino: u64_at(40)?,
                generation: u64_at(48)?,
                path: name.split(|byte| *byte == 0).next().unwrap_or_default(),
            };
            Some(Parsed::Event(MappingEvent {
                ts,
                pid: u32_at(0)?,
                tid: u32_at(4)?,
                what: What::Map(map),
            }))
        }
        _ => Some(Parsed::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mmap2(prot: u32, path: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&7u32.to_ne_bytes());
        bytes.extend_from_slice(&8u32.to_ne_bytes());
        for value in [0x40_1000u64, 0x2000, 0x1000] {
            bytes.extend_from_slice(&value.to_ne_bytes());
        }
        bytes.extend_from_slice(&254u32.to_ne_bytes());
        bytes.extend_from_slice(&3u32.to_ne_bytes());
        bytes.extend_from_slice(&99u64.to_ne_bytes());
        bytes.extend_from_slice(&5u64.to_ne_bytes());
        bytes.extend_from_slice(&prot.to_ne_bytes());
        bytes.extend_from_slice(&2u32.to_ne_bytes());
        bytes.extend_from_slice(path);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(&123u64.to_ne_bytes());
        bytes
    }

    /// Make sure that an executable mapping is parsed field by field, and others are passed over.
    #[test]
    fn mmap2_is_parsed() {
        let bytes = mmap2(5, b"/bin/x\0");
        let Some(Parsed::Event(event)) = parse(RECORD_MMAP2, 0, &bytes) else {
            panic!("no event")
        };
        assert_eq!((event.ts, event.pid, event.tid), (123, 7, 8));
        let expected = Map {
            start: 0x40_1000,
            end: 0x40_3000,
            pgoff: 0x1000,
            dev: 254 << 20 | 3,
            ino: 99,
            generation: 5,
            path: b"/bin/x",
        };
        assert_eq!(event.what, What::Map(expected));
        assert_eq!(parse(RECORD_MMAP2, 0, &mmap2(1, b"/bin/x\0")), Some(Parsed::Other));
        assert_eq!(parse(RECORD_MMAP2, MISC_BUILD_ID, &bytes), Some(Parsed::Other));
    }

    /// Make sure that a record cut anywhere is refused or read short, without a panic.
    #[test]
    fn short_records() {
        let bytes = mmap2(5, b"/bin/x\0");
        for len in 0..bytes.len() {
            for kind in [RECORD_LOST, RECORD_COMM, RECORD_MMAP2, 77] {
                let _ = parse(kind, MISC_COMM_EXEC, &bytes[..len]);
            }
        }
        assert_eq!(parse(RECORD_MMAP2, 0, &bytes[..60]), None);
    }

    /// Make sure that a record's time is found in both halves of a wrapped record.
    #[test]
    fn time_of_a_wrapped_record() {
        let bytes = mmap2(5, b"/bin/x\0");
        for cut in 0..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(trailing_u64(&[a, b]), 123);
        }
    }
}

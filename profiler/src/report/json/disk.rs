//! Disk traffic in the schema's terms.

use serde::Serialize;

use crate::attribute::disk::{Requests, Traffic, requests};
use crate::model::Session;
use crate::report::terminal::disk::operation;

/// Pages of files that were read and written, by whom.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DiskOut {
    /// Bytes of pages that were not in the page cache when they were read.
    pub cold_bytes: u64,
    /// Bytes of pages made dirty.
    pub dirtied_bytes: u64,
    /// What of these was written back while it was recorded, by whomever; of one file what was made dirty first is taken to
    /// be written first.
    pub written_back_bytes: u64,
    /// Files that an overlay copied up for it, their bytes, and how long that stalled.
    pub copy_ups: u64,
    pub copied_bytes: u64,
    pub copy_up_stall_ns: u64,
    /// Deletes of what a lower layer of its overlay has, each by a whiteout in the upper one.
    pub whiteouts: u64,
    /// Calls that read, wrote and synced files (regular ones and block devices), and the time in them; `null` without `--disk full`. A call
    /// from one file to another counts in the first two, its time in the first.
    pub read: Option<CallsOut>,
    pub written: Option<CallsOut>,
    pub synced: Option<CallsOut>,
}

/// Calls of one kind.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CallsOut {
    pub calls: u64,
    pub bytes: u64,
    pub ns: u64,
}

impl DiskOut {
    /// `full`: calls were counted.
    pub(super) fn new(traffic: &Traffic, full: bool) -> DiskOut {
        let [read, written, synced] = traffic.calls.map(|sum| {
            full.then_some(CallsOut {
                calls: sum.calls,
                bytes: sum.bytes,
                ns: sum.ns,
            })
        });
        DiskOut {
            cold_bytes: traffic.cold,
            dirtied_bytes: traffic.dirtied,
            written_back_bytes: traffic.written_back,
            copy_ups: traffic.copy_ups,
            copied_bytes: traffic.copied,
            copy_up_stall_ns: traffic.stall,
            whiteouts: traffic.whiteouts,
            read,
            written,
            synced,
        }
    }
}

/// Requests of one kind to one block device.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Device {
    pub major: u32,
    pub minor: u32,
    /// `read`, `write`, `flush`, `discard`, or its number in the kernel.
    pub operation: String,
    pub requests: u64,
    pub bytes: u64,
    pub errors: u64,
    /// How long they waited for the device's driver, and how long the device took.
    pub queued: Vec<Bucket>,
    pub device: Vec<Bucket>,
}

/// A bar of a histogram: requests that took from so long to less than twice as long.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bucket {
    /// A power of two, or 0 for less than 1 ns.
    pub from_ns: u64,
    pub requests: u64,
}

pub(super) fn devices(session: &Session) -> Vec<Device> {
    let all = requests(session).into_iter();
    all.map(|((dev, op), sum)| device(dev, op, &sum)).collect()
}

fn device(dev: u32, op: u32, sum: &Requests) -> Device {
    Device {
        major: dev >> 20,
        minor: dev & 0xf_ffff,
        operation: operation(op),
        requests: sum.count,
        bytes: sum.bytes,
        errors: sum.errors,
        queued: histogram(&sum.queued),
        device: histogram(&sum.device),
    }
}

/// Of sorted times; buckets that hold none are left out.
fn histogram(times: &[u64]) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    for time in times {
        let from_ns = time.checked_ilog2().map_or(0, |log| 1 << log);
        match buckets.last_mut().filter(|last| last.from_ns == from_ns) {
            Some(last) => last.requests += 1,
            None => buckets.push(Bucket { from_ns, requests: 1 }),
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that each time falls into the bucket of its power of two.
    #[test]
    fn buckets() {
        let told: Vec<(u64, u64)> = histogram(&[0, 1, 2, 3, 4, 1_000, u64::MAX])
            .iter()
            .map(|bucket| (bucket.from_ns, bucket.requests))
            .collect();
        assert_eq!(told, [(0, 1), (1, 1), (2, 2), (4, 1), (512, 1), (1 << 63, 1)]);
    }
}

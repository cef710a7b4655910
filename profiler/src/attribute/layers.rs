//! What each container read, wrote and copied up of each layer.
//!
//! Bytes are pages of the page cache: what a thread read cold are the pages that were not there before. The cache is
//! shared: of two containers with a layer in common, the first reads it and the second finds it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::disk::counts_calls;
use super::owners::Owners;
use crate::model::disk::{CallSum, magic};
use crate::model::layers::{LayerIx, Layers};
use crate::model::share::sum;
use crate::model::{ContainerIx, FileIx, OverlayIx, PhaseIx, PhaseKind, Session};
use crate::recording::record::{Overlay, OverlayLayer, Role, Text};

/// A layer's figures, of one container or of what none did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Files of which pages were read cold.
    pub read_files: u64,
    /// Files of the overlay that were opened for the first time and lie here.
    pub opened: u64,
    /// Bytes that were not in the page cache.
    pub cold: u64,
    /// Part of these that were read before the container was ready, or where nothing tells when that was, before its
    /// entrypoint began.
    pub cold_at_start: u64,
    /// The same without what lies beyond the ends of files, each file once: what [`Use::cold`] is of the layer's size.
    pub distinct: u64,
    /// Bytes that calls read, cold or not, where they are told.
    pub read: u64,
    /// Bytes made dirty.
    pub written: u64,
    /// Copied up from here.
    pub copy_ups: u64,
    pub copied: u64,
    /// Time that these took, ns.
    pub stall: u64,
}

impl Use {
    /// Whether anything was done to the layer.
    pub fn is_empty(&self) -> bool {
        *self == Use::default()
    }

    fn add(&mut self, other: &Use) {
        let Use {
            read_files,
            opened,
            cold,
            cold_at_start,
            distinct,
            read,
            written,
            copy_ups,
            copied,
            stall,
        } = *other;
        for (sum, part) in [
            (&mut self.read_files, read_files),
            (&mut self.opened, opened),
            (&mut self.cold, cold),
            (&mut self.cold_at_start, cold_at_start),
            (&mut self.distinct, distinct),
            (&mut self.read, read),
            (&mut self.written, written),
            (&mut self.copy_ups, copy_ups),
            (&mut self.copied, copied),
            (&mut self.stall, stall),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// A layer of a root file system, with what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub layer: LayerIx,
    pub role: Role,
    /// From 0, the topmost.
    pub depth: u32,
    pub used: Use,
}

/// A root file system's layers, topmost first.
#[derive(Clone, Debug)]
pub struct Stack {
    /// `None`: a mount that is no container's.
    pub container: Option<ContainerIx>,
    pub overlay: OverlayIx,
    pub rows: Vec<Row>,
    /// What the same container did to files of no layer of its own: volumes, the engine's files, other containers'.
    pub elsewhere: Use,
}

/// A copy-up, with its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyUp {
    /// Into [`Session::copy_ups`].
    pub ix: usize,
    /// Where the file came from, and where it went.
    pub from: Option<LayerIx>,
    pub to: Option<LayerIx>,
    pub container: Option<ContainerIx>,
    pub phase: Option<PhaseIx>,
    /// Bytes copied.
    pub bytes: u64,
}

/// A file in its layer (or none), for one container (or none).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub container: Option<ContainerIx>,
    pub layer: Option<LayerIx>,
    pub file: FileIx,
}

/// A file, and what one container (or none) did to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileUse {
    pub place: Place,
    pub cold: u64,
    pub written: u64,
}

/// A file, and the calls by which one container (or none) read, wrote and synced it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCalls {
    /// Where the caller has a file of an overlay, the one of the layer.
    pub place: Place,
    pub sums: [CallSum; 3],
}

impl FileCalls {
    /// Time in all of them, ns.
    pub fn ns(&self) -> u64 {
        sum(self.sums.iter().map(|sum| sum.ns))
    }
}

/// Everything that is told of layers.
#[derive(Debug, Default)]
pub struct Table {
    pub layers: Layers,
    /// Those of containers in their order, then those of other mounts that something was done to.
    pub stacks: Vec<Stack>,
    /// What no container did, or one whose root file system is not known, to layers that are in no stack of the above.
    pub others: Vec<(LayerIx, Use)>,
    /// In order of time.
    pub copy_ups: Vec<CopyUp>,
    /// Those with most bytes first.
    pub files: Vec<FileUse>,
    /// Deletes of what a lower layer has, by container or none.
    pub whiteouts: BTreeMap<Option<ContainerIx>, u64>,
    /// Those with most time in calls first, where these are told.
    pub calls: Vec<FileCalls>,
    /// Whether they are.
    pub full: bool,
    systems: Systems,
}

/// What file systems devices hold, as far as files of them were told.
#[derive(Debug, Default)]
struct Systems {
    /// Their [`magic`].
    known: HashMap<u32, u32>,
    /// Devices that overlays have themselves, and where they are mounted: of one that is gone before it is looked at the
    /// device is not known.
    overlays: HashSet<u32>,
    merged: HashSet<Text>,
    /// Whether no function of the overlay tells of copy-ups: [`Table::limits`].
    by_signature: bool,
}

impl Systems {
    fn new(session: &Session) -> Systems {
        let told = session.files.iter().filter(|file| file.told && file.magic != 0);
        let mounts = || session.overlays.iter().filter(|mount| mount.driver == "overlay");
        let rung = session.rung_of("copy_ups");
        Systems {
            known: told.map(|file| (file.id.dev, file.magic)).collect(),
            overlays: mounts().map(|mount| mount.dev).filter(|dev| *dev != 0).collect(),
            merged: mounts().map(|mount| mount.merged.clone()).collect(),
            by_signature: rung.is_some_and(|rung| rung.starts_with("signature")),
        }
    }

    /// Whether a layer lies on an overlay.
    fn is_on_overlay(&self, layer: &OverlayLayer) -> bool {
        let path = Path::new(OsStr::from_bytes(&layer.path));
        let mut above = path.ancestors().map(|path| path.as_os_str().as_bytes());
        self.overlays.contains(&layer.dev) || above.any(|path| self.merged.contains(path))
    }
}

/// By container (or none) and layer (or none).
type Uses = BTreeMap<(Option<ContainerIx>, Option<LayerIx>), Use>;

impl Table {
    /// Copy-ups that were done, the one that stalled longest first.
    pub fn longest(&self, session: &Session) -> Vec<&CopyUp> {
        let told = |copy: &CopyUp| &session.copy_ups[copy.ix];
        let mut longest: Vec<&CopyUp> = self.copy_ups.iter().filter(|copy| !told(copy).failed).collect();
        longest.sort_by_key(|copy| (std::cmp::Reverse(told(copy).span.len()), copy.ix));
        longest
    }

    /// Adds up a whole recording.
    pub fn new(session: &Session) -> Table {
        let layers = Layers::new(session);
        let owners = Owners::new(session);
        let mut uses = Uses::new();
        let files = files(session, &layers, &owners, &mut uses);
        for done in &files {
            let size = session.files.get(done.place.file.ix()).map_or(0, |file| file.size);
            let used = uses.entry((done.place.container, done.place.layer)).or_default();
            used.read_files += u64::from(done.cold > 0);
            used.cold = used.cold.saturating_add(done.cold);
            used.distinct = used.distinct.saturating_add(done.cold.min(size));
            used.written = used.written.saturating_add(done.written);
        }
        let mounts = Mounts::new(session);
        let mut known = HashSet::new();
        for opened in &session.overlaid {
            let container = owners.container(opened.thread, opened.cgroup, opened.ts);
            // A container has one mount. Of what is none's, the next mount's files can have the same names for good.
            let mount = match container {
                Some(_) => None,
                None => mounts.at(session, opened.overlay, opened.ts),
            };
            // What is told again, as all are after each mount, was opened for the first time before.
            if !known.insert((container, mount, opened.overlay)) {
                continue;
            }
            let file = opened.upper.or(opened.lower).unwrap_or(opened.overlay);
            let layer = layers.of_file(session, file, opened.ts);
            uses.entry((container, layer)).or_default().opened += 1;
        }
        let calls = calls(session, &layers, &owners);
        for told in &calls {
            let used = uses.entry((told.place.container, told.place.layer)).or_default();
            used.read = used.read.saturating_add(told.sums[0].bytes);
        }
        let copy_ups = copy_ups(session, &layers, &owners);
        for copy in &copy_ups {
            let told = &session.copy_ups[copy.ix];
            if !told.failed {
                let used = uses.entry((copy.container, copy.from)).or_default();
                used.copy_ups += 1;
                used.copied = used.copied.saturating_add(copy.bytes);
                used.stall = used.stall.saturating_add(told.span.len());
            }
        }
        let mut whiteouts = BTreeMap::new();
        for told in &session.whiteouts {
            let container = owners.container(told.thread, told.cgroup, told.ts);
            *whiteouts.entry(container).or_default() += 1;
        }
        let (stacks, others) = stacks(session, &layers, uses);
        Table {
            layers,
            stacks,
            others,
            copy_ups,
            files,
            calls,
            whiteouts,
            full: counts_calls(session),
            systems: Systems::new(session),
        }
    }
}

impl Table {
    /// What can't be told of a mount, because of what its layers lie on.
    pub fn limits(&self, overlay: &Overlay) -> Vec<&'static str> {
        if overlay.driver != "overlay" {
            return Vec::new();
        }
        let mut layers = overlay.layers.iter();
        let upper = layers.find(|layer| layer.role == Role::Upper);
        let system = upper.and_then(|upper| self.systems.known.get(&upper.dev));
        let mut limits = Vec::new();
        match system {
            Some(&(magic::TMPFS | magic::RAMFS)) => limits.push(match self.systems.by_signature {
                true => UPPER_IN_MEMORY,
                false => UPPER_IN_MEMORY_HOOKED,
            }),
            Some(&system) if system != magic::EXT4 && self.systems.by_signature => limits.push(UPPER_ELSEWHERE),
            _ => {}
        }
        if overlay.layers.iter().any(|layer| self.systems.is_on_overlay(layer)) {
            limits.push(NESTED);
        }
        if overlay.options.iter().any(|option| option == b"metacopy=on") {
            limits.push(METACOPY);
        }
        limits
    }

    /// Path of what was copied up, within its layer; empty when it is not known.
    pub fn path_of(&self, session: &Session, copy: &CopyUp) -> Text {
        let told = &session.copy_ups[copy.ix];
        let sides = [(told.lower, copy.from), (told.upper, copy.to), (told.overlay, None)];
        let mut paths = sides.into_iter().filter_map(|(file, layer)| {
            Some(match (file?, layer) {
                (file, Some(layer)) => self.layers.path_in(session, file, layer),
                (file, None) => session.path_on_disk(file),
            })
        });
        paths.find(|path| !path.is_empty()).unwrap_or_default()
    }
}

const UPPER_IN_MEMORY: &str = "the upper layer is on tmpfs, whose pages are in memory alone: bytes written to it are not told, \
                               nor is what is copied up to it, since this kernel has no hook on copy-ups";
const UPPER_IN_MEMORY_HOOKED: &str = "the upper layer is on tmpfs, whose pages are in memory alone: bytes written or copied up \
                                      to it are not told";
const UPPER_ELSEWHERE: &str = "the upper layer is not on ext4 and this kernel has no hook on copy-ups: those that copy no \
                               pages (reflinks, empty files, folders, links) are not seen";
const METACOPY: &str = "metacopy=on: calls on files of which the upper layer has the attributes alone are counted there, \
                        their pages where the data is";
const NESTED: &str = "a layer of this mount lies on another overlay: what is read of it is told with that one's layers";

/// Why less is known of layers than there could be; empty for a recording that tells all.
pub fn limits(session: &Session) -> Vec<String> {
    if measured(session) {
        return Vec::new();
    }
    vec![
        "this recording tells nothing of what was read and written: it was made without the signals of disks"
            .to_owned(),
    ]
}

/// Whether the recording was made with what it takes.
pub fn measured(session: &Session) -> bool {
    session.rung_of("page_added").is_some() || !session.page_runs.is_empty() || !session.copy_ups.is_empty()
}

/// Adds up the page runs by file; what was read at a container's start goes into `uses` at once.
fn files(session: &Session, layers: &Layers, owners: &Owners<'_>, uses: &mut Uses) -> Vec<FileUse> {
    let page = session.page();
    let started = starts(session);
    let mut sums: HashMap<Place, (u64, u64)> = HashMap::new();
    for run in &session.page_runs {
        let ts = run.span.from;
        let container = owners.container(run.thread, run.cgroup, ts);
        let layer = layers.of_file(session, run.file, ts);
        let (cold, written) = (u64::from(run.read()) * page, u64::from(run.written()) * page);
        let place = Place {
            container,
            layer,
            file: run.file,
        };
        let sum = sums.entry(place).or_default();
        *sum = (sum.0.saturating_add(cold), sum.1.saturating_add(written));
        if container.is_some_and(|ix| started.get(ix.ix()).is_some_and(|started| ts < *started)) {
            let used = uses.entry((container, layer)).or_default();
            used.cold_at_start = used.cold_at_start.saturating_add(cold);
        }
    }
    let mut files: Vec<FileUse> = sums
        .into_iter()
        .filter(|(_, (cold, written))| *cold > 0 || *written > 0)
        .map(|(place, (cold, written))| FileUse { place, cold, written })
        .collect();
    files.sort_unstable_by_key(|done| {
        let bytes = done.cold.saturating_add(done.written);
        (std::cmp::Reverse(bytes), done.place)
    });
    files
}

/// Which mount an overlay's device number was that of, as far as it was seen.
struct Mounts(HashMap<u32, Vec<(u64, OverlayIx)>>);

impl Mounts {
    fn new(session: &Session) -> Mounts {
        let mut mounts: HashMap<u32, Vec<(u64, OverlayIx)>> = HashMap::new();
        for (index, mount) in (0u32..).zip(&session.overlays) {
            if mount.driver == "overlay" && mount.dev != 0 {
                let from = mount.mounted.map_or(0, |at| at.ts);
                mounts.entry(mount.dev).or_default().push((from, OverlayIx(index)));
            }
        }
        for mounts in mounts.values_mut() {
            mounts.sort_unstable();
        }
        Mounts(mounts)
    }

    /// The one that a file of an overlay was of at `ts`.
    fn at(&self, session: &Session, file: FileIx, ts: u64) -> Option<OverlayIx> {
        let mounts = self.0.get(&session.files.get(file.ix())?.id.dev)?;
        let later = mounts.partition_point(|(from, _)| *from <= ts);
        mounts.get(later.checked_sub(1)?).map(|(_, mount)| *mount)
    }
}

/// Adds up the calls by file.
fn calls(session: &Session, layers: &Layers, owners: &Owners<'_>) -> Vec<FileCalls> {
    let mut sums: HashMap<Place, [CallSum; 3]> = HashMap::new();
    for told in &session.file_calls {
        let ts = told.span.from;
        let place = Place {
            container: owners.container(told.thread, told.cgroup, ts),
            layer: layers.of_file(session, told.file, ts),
            file: told.file,
        };
        let all = sums.entry(place).or_default();
        for (sum, part) in all.iter_mut().zip([told.read, told.written, told.synced]) {
            sum.add(&part);
        }
    }
    let told = sums.into_iter();
    let mut calls: Vec<FileCalls> = told.map(|(place, sums)| FileCalls { place, sums }).collect();
    calls.sort_unstable_by_key(|told| (std::cmp::Reverse(told.ns()), told.place));
    calls
}

/// When each container was ready; where nothing tells, when its entrypoint began; 0 where neither is known.
fn starts(session: &Session) -> Vec<u64> {
    let mut starts = vec![(0, 0); session.containers.len()];
    for phase in &session.phases {
        let Some((began, ready)) = phase.container.and_then(|ix| starts.get_mut(ix.ix())) else {
            continue;
        };
        match phase.kind {
            PhaseKind::Ready => *ready = phase.span.to.max(*ready),
            PhaseKind::Run => *began = phase.span.from,
            _ => {}
        }
    }
    starts
        .into_iter()
        .map(|(began, ready)| if ready > 0 { ready } else { began })
        .collect()
}

fn copy_ups(session: &Session, layers: &Layers, owners: &Owners<'_>) -> Vec<CopyUp> {
    // Of a copy whose contents were in the page cache, what an open of it tells: where it came from.
    let opens = session.overlaid.iter();
    let origins: HashMap<FileIx, FileIx> = opens.filter_map(|open| Some((open.upper?, open.lower?))).collect();
    let mut found: Vec<CopyUp> = session
        .copy_ups
        .iter()
        .enumerate()
        .map(|(ix, told)| {
            let ts = told.span.from;
            let layer = |file: Option<FileIx>| file.and_then(|file| layers.of_file(session, file, ts));
            let process = told.thread.and_then(|ix| Some(session.threads.get(ix.ix())?.process));
            CopyUp {
                ix,
                from: layer(told.lower.or_else(|| origins.get(&told.upper?).copied())),
                to: layer(told.upper),
                container: owners.container(told.thread, told.cgroup, ts),
                phase: process.and_then(|process| owners.phase(process, ts)),
                bytes: (u64::from(told.copied) * session.page()).min(told.size),
            }
        })
        .collect();
    found.sort_by_key(|copy| (session.copy_ups[copy.ix].span.from, copy.ix));
    found
}

fn stacks(session: &Session, layers: &Layers, mut uses: Uses) -> (Vec<Stack>, Vec<(LayerIx, Use)>) {
    let mut stacks = Vec::new();
    let mut of_containers: BTreeSet<OverlayIx> = BTreeSet::new();
    for (index, container) in session.containers.iter().enumerate() {
        let ix = ContainerIx(index as u32);
        let Some(overlay) = container.rootfs else { continue };
        of_containers.insert(overlay);
        stacks.push(stack(session, layers, Some(ix), overlay, &mut uses));
    }
    // What no container did, by the newest mount that has the layer it was done to.
    for index in (0..session.overlays.len() as u32).rev().map(OverlayIx) {
        if of_containers.contains(&index) {
            continue;
        }
        let one = stack(session, layers, None, index, &mut uses);
        if one.rows.iter().any(|row| !row.used.is_empty()) {
            stacks.push(one);
        }
    }
    let mut others: BTreeMap<LayerIx, Use> = BTreeMap::new();
    for ((_, layer), used) in uses {
        // Of a container whose root file system is not known, too.
        if let Some(layer) = layer {
            others.entry(layer).or_default().add(&used);
        }
    }
    (stacks, others.into_iter().collect())
}

/// Takes out of `uses` what is the stack's.
fn stack(
    session: &Session,
    layers: &Layers,
    container: Option<ContainerIx>,
    overlay: OverlayIx,
    uses: &mut Uses,
) -> Stack {
    let told = &session.overlays[overlay.ix()];
    let rows = (0u32..).zip(layers.stack(overlay)).zip(&told.layers);
    let rows = rows
        .map(|((depth, layer), one)| Row {
            layer: *layer,
            role: one.role,
            depth,
            used: uses.remove(&(container, Some(*layer))).unwrap_or_default(),
        })
        .collect();
    let mut elsewhere = Use::default();
    if container.is_some() {
        let all = (container, None)..=(container, Some(LayerIx(u32::MAX)));
        let others: Vec<_> = uses.range(all).map(|(key, _)| *key).collect();
        for key in others {
            elsewhere.add(&uses.remove(&key).unwrap_or_default());
        }
    }
    Stack {
        container,
        overlay,
        rows,
        elsewhere,
    }
}

#[cfg(test)]
mod tests;

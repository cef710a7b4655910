//! What each container read, wrote and copied up of each layer.
//!
//! Bytes are pages of the page cache: what a thread read cold are the pages that were not there before. The cache is
//! shared: of two containers with a layer in common, the first reads it and the second finds it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::owners::Owners;
use crate::model::layers::{LayerIx, Layers};
use crate::model::{ContainerIx, FileIx, OverlayIx, PhaseIx, Session, ThreadIx};
use crate::recording::record::Role;

/// A layer's figures, of one container or of what none did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Files of which pages were read cold.
    pub read_files: u64,
    /// Files of the overlay that were opened for the first time and lie here.
    pub opened: u64,
    /// Bytes that were not in the page cache.
    pub cold: u64,
    /// The same without what lies beyond the ends of files, each file once: what [`Use::cold`] is of the layer's size.
    pub distinct: u64,
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
            distinct,
            written,
            copy_ups,
            copied,
            stall,
        } = *other;
        for (sum, part) in [
            (&mut self.read_files, read_files),
            (&mut self.opened, opened),
            (&mut self.cold, cold),
            (&mut self.distinct, distinct),
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

/// A file with what was done to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    pub cold: u64,
    pub written: u64,
}

/// Everything that is told of layers.
#[derive(Debug, Default)]
pub struct Table {
    pub layers: Layers,
    /// Those of containers in their order, then those of other mounts that something was done to.
    pub stacks: Vec<Stack>,
    /// What no container did, to layers that are in no stack of the above.
    pub others: Vec<(LayerIx, Use)>,
    /// In order of time.
    pub copy_ups: Vec<CopyUp>,
}

/// Sums by container (or none) and layer (or none).
#[derive(Default)]
struct Sums {
    uses: BTreeMap<(Option<ContainerIx>, Option<LayerIx>), Use>,
    files: HashMap<(Option<ContainerIx>, Option<LayerIx>, FileIx), FileUse>,
}

impl Table {
    /// Adds up a whole recording.
    pub fn new(session: &Session) -> Table {
        let layers = Layers::new(session);
        let owners = Owners::new(session);
        let mut sums = Sums::default();
        let page = session.page();
        for run in &session.page_runs {
            let container = owners.container(run.thread, run.cgroup, run.span.from);
            let layer = layers.of_file(session, run.file, run.span.from);
            let file = sums.files.entry((container, layer, run.file)).or_default();
            file.cold = file.cold.saturating_add(u64::from(run.read()) * page);
            file.written = file.written.saturating_add(u64::from(run.written()) * page);
        }
        for opened in &session.overlaid {
            let container = owners.container(opened.thread, 0, opened.ts);
            let file = opened.upper.or(opened.lower).unwrap_or(opened.overlay);
            let layer = layers.of_file(session, file, opened.ts);
            sums.uses.entry((container, layer)).or_default().opened += 1;
        }
        let copy_ups = copy_ups(session, &layers, &owners);
        for copy in &copy_ups {
            let told = &session.copy_ups[copy.ix];
            if !told.failed {
                let used = sums.uses.entry((copy.container, copy.from)).or_default();
                used.copy_ups += 1;
                used.copied = used.copied.saturating_add(copy.bytes);
                used.stall = used.stall.saturating_add(told.span.len());
            }
        }
        for ((container, layer, file), done) in std::mem::take(&mut sums.files) {
            let size = session.files.get(file.ix()).map_or(0, |file| file.size);
            let used = sums.uses.entry((container, layer)).or_default();
            used.read_files += u64::from(done.cold > 0);
            used.cold = used.cold.saturating_add(done.cold);
            used.distinct = used.distinct.saturating_add(done.cold.min(size));
            used.written = used.written.saturating_add(done.written);
        }
        let (stacks, others) = stacks(session, &layers, sums.uses);
        Table {
            layers,
            stacks,
            others,
            copy_ups,
        }
    }
}

fn copy_ups(session: &Session, layers: &Layers, owners: &Owners<'_>) -> Vec<CopyUp> {
    let mut found: Vec<CopyUp> = session
        .copy_ups
        .iter()
        .enumerate()
        .map(|(ix, told)| {
            let ts = told.span.from;
            let layer = |file: Option<FileIx>| file.and_then(|file| layers.of_file(session, file, ts));
            let process = told
                .thread
                .and_then(|ix| Some(session.threads.get(ix.ix())?.process));
            CopyUp {
                ix,
                from: layer(told.lower),
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

type Uses = BTreeMap<(Option<ContainerIx>, Option<LayerIx>), Use>;

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
    for ((container, layer), used) in uses {
        if let (None, Some(layer)) = (container, layer) {
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
        let others: Vec<_> = uses.keys().filter(|(of, _)| *of == container).copied().collect();
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

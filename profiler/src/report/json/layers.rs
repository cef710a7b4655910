//! Layers and copy-ups in the schema's terms.

use serde::Serialize;

use super::schema::Escaped;
use crate::attribute::calls;
use crate::attribute::layers::{CopyUp, Table, Use};
use crate::model::layers::LayerIx;
use crate::model::{Session, Span};
use crate::recording::record::Role;

/// Most copy-ups told one by one, longest first.
const COPY_UPS: usize = 10_000;

/// A layer of a container's root file system, or of a mount that is no container's, and what was done to it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LayerOut {
    /// Index in `containers`; `null` for a mount that is no container's.
    pub container: Option<u32>,
    /// From 0, the topmost; `null` for what processes of no container did to a layer of no mount that is told.
    pub depth: Option<u32>,
    /// `upper`, `lower`, `data` (holds the data of files that a layer above only describes); empty without a `depth`.
    pub role: &'static str,
    /// `overlay`; `vfs` and `btrfs`, whose one layer is the whole root file system; empty without a `depth`.
    pub driver: String,
    /// Where the root file system is mounted; empty without a `depth`.
    pub merged: Escaped,
    /// Options of the mount that change how it reads, writes or flushes.
    pub options: Vec<Escaped>,
    /// What can't be told of the mount because of what its layers lie on, in words.
    pub limits: Vec<&'static str>,
    /// The layer's directory, and its inode; `null` when it was gone before it could be looked at: then nothing is known
    /// of what was done to it.
    pub path: Escaped,
    pub inode: Option<u64>,
    /// Whose storage it lies in (`containers/storage`, `docker`, `containerd`); empty when it is no engine's.
    pub engine: String,
    /// As that engine calls it.
    pub id: Escaped,
    /// `sha256:…` of its contents, of it with all below it, and of what a registry sends for it; empty when the engine
    /// does not tell.
    pub diff: Escaped,
    pub chain: Escaped,
    pub blob: Escaped,
    /// As the engine counts it; `null` when it does not tell.
    pub size_bytes: Option<u64>,
    /// Files of the mount that were opened, each once, and lie in this layer.
    pub opened_files: u64,
    /// Files of which pages were read that were not in the page cache.
    pub read_files: u64,
    /// Bytes of these pages. The page cache is shared: of two containers with a layer in common, the first reads it.
    pub cold_bytes: u64,
    /// Part of `cold_bytes` before the container was ready, or where nothing tells when that was, before its entrypoint
    /// began.
    pub cold_at_start_bytes: u64,
    /// `cold_bytes` without what lies beyond the ends of files, each file's size at most: what is a share of
    /// `size_bytes`.
    pub distinct_bytes: u64,
    /// Bytes that calls read, cold or not; 0 without `--disk full`.
    pub read_bytes: u64,
    /// Bytes of pages made dirty.
    pub written_bytes: u64,
    /// Files copied up from here, their bytes, and the time that took.
    pub copy_ups: u64,
    pub copied_bytes: u64,
    pub stall_ns: u64,
}

/// A file that an overlay copied to its upper layer.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CopyUpOut {
    pub from_ns: u64,
    pub to_ns: u64,
    /// How long the caller was held up.
    pub stall_ns: u64,
    /// Whether begin and end are those of the overlay's own function. Else they are those of what was seen of it, and the
    /// stall can be longer.
    pub exact: bool,
    /// Within its layer; empty when it is not known.
    pub path: Escaped,
    /// Directory and id of the layer that it came from; empty when they are not known.
    pub layer_path: Escaped,
    pub layer_id: Escaped,
    /// Size of the copy, bytes copied (0 of what has no contents, and where the file system shares them), and bytes that had
    /// to be read for it.
    pub size_bytes: u64,
    pub bytes: u64,
    pub read_bytes: u64,
    /// The system call that it was done for: `openat`.
    pub call: String,
    pub failed: bool,
    /// Index in `containers`, `processes`; what `--phase` takes.
    pub container: Option<u32>,
    pub phase: Option<u32>,
    pub process: Option<u32>,
    pub tid: Option<u32>,
}

/// All layers of all root file systems.
pub(super) fn layers(session: &Session, table: &Table) -> Vec<LayerOut> {
    let mut out = Vec::new();
    for stack in &table.stacks {
        let overlay = &session.overlays[stack.overlay.ix()];
        for row in &stack.rows {
            out.push(LayerOut {
                container: stack.container.map(|ix| ix.0),
                depth: Some(row.depth),
                role: match row.role {
                    Role::Upper => "upper",
                    Role::Lower => "lower",
                    Role::Data => "data",
                },
                driver: overlay.driver.clone(),
                merged: Escaped::new(&overlay.merged),
                options: Escaped::list(&overlay.options),
                limits: table.limits(overlay),
                ..layer(table, row.layer, &row.used)
            });
        }
    }
    out.extend(table.others.iter().map(|(ix, used)| layer(table, *ix, used)));
    out
}

/// A layer of no mount.
fn layer(table: &Table, ix: LayerIx, used: &Use) -> LayerOut {
    let layer = table.layers.get(ix);
    LayerOut {
        container: None,
        depth: None,
        role: "",
        driver: String::new(),
        merged: Escaped::new(&[]),
        options: Vec::new(),
        limits: Vec::new(),
        path: Escaped::new(&layer.path),
        inode: (layer.ino != 0).then_some(layer.ino),
        engine: layer.engine.clone(),
        id: Escaped::new(&layer.id),
        diff: Escaped::new(&layer.diff),
        chain: Escaped::new(&layer.chain),
        blob: Escaped::new(&layer.blob),
        size_bytes: layer.size,
        opened_files: used.opened,
        read_files: used.read_files,
        cold_bytes: used.cold,
        cold_at_start_bytes: used.cold_at_start,
        distinct_bytes: used.distinct,
        read_bytes: used.read,
        written_bytes: used.written,
        copy_ups: used.copy_ups,
        copied_bytes: used.copied,
        stall_ns: used.stall,
    }
}

/// The longest copy-ups, in order of time.
pub(super) fn copy_ups(session: &Session, table: &Table) -> Vec<CopyUpOut> {
    let span = |copy: &CopyUp| -> Span { session.copy_ups[copy.ix].span };
    let mut longest = table.longest(session);
    longest.truncate(COPY_UPS);
    longest.sort_by_key(|copy| (span(copy).from, copy.ix));
    longest.into_iter().map(|copy| copy_up(session, table, copy)).collect()
}

fn copy_up(session: &Session, table: &Table, copy: &CopyUp) -> CopyUpOut {
    let told = &session.copy_ups[copy.ix];
    let from = copy.from.map(|ix| table.layers.get(ix));
    let thread = told.thread.and_then(|ix| session.threads.get(ix.ix()));
    CopyUpOut {
        from_ns: told.span.from,
        to_ns: told.span.to,
        stall_ns: told.span.len(),
        exact: told.bracketed,
        path: Escaped::new(&table.path_of(session, copy)),
        layer_path: Escaped::new(from.map_or(&[], |layer| &layer.path)),
        layer_id: Escaped::new(from.map_or(&[], |layer| &layer.id)),
        size_bytes: told.size,
        bytes: copy.bytes,
        read_bytes: u64::from(told.read) * session.page(),
        call: calls::doing(&session.meta.machine, told.syscall),
        failed: told.failed,
        container: copy.container.map(|ix| ix.0),
        phase: copy.phase.map(|ix| ix.0),
        process: thread.map(|thread| thread.process.0),
        tid: thread.map(|thread| thread.id.tid),
    }
}

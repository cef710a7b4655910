//! What comes after a container's end: its processes' last moments, the runtime's `delete`, the removal of its cgroup,
//! umounts, and the engine's own cleanup.

use super::{Life, New};
use crate::detect::container::Piece;
use crate::detect::context::Umount;
use crate::detect::oci::Verb;
use crate::model::{PhaseKind, Span, ThreadIx};
use crate::recording::record::Text;

/// A flush at umount shorter than this, ns, is what any umount waits for its disk.
const FLUSH_NS: u64 = 1_000_000;

impl Life<'_, '_> {
    pub(super) fn cleanup(&mut self) {
        let (Some(entry), Some(exit)) = (self.draft.entry, self.draft.exit(self.context)) else {
            return;
        };
        let mut pieces: Vec<Piece> = self.draft.cleanups.clone();
        for call in self.draft.calls.iter().filter(|call| call.call.verb == Verb::Delete) {
            pieces.push(Piece {
                span: call.span,
                open: call.open,
                processes: self.context.tree(call.process),
                thread: self.context.leader(call.process),
                end: format!("exit of {} delete (pid {})", self.draft.runtime, self.pid(call.process)),
            });
        }
        // What the first process held is given back by itself, on its way out: its namespaces, with their mounts.
        let entrypoint = self.context.process(entry.process);
        if entrypoint.span.to > exit {
            pieces.push(Piece {
                span: Span {
                    from: exit,
                    to: entrypoint.span.to,
                },
                open: false,
                processes: vec![entry.process],
                thread: self.context.leader(entry.process),
                end: format!("last moment of pid {}, that gave back its namespaces", entrypoint.tgid),
            });
        }
        // A runtime that waits for its container (`run` in the foreground) removes what is left of it before it ends.
        for call in self.draft.calls.iter().filter(|call| call.call.verb == Verb::Run) {
            pieces.push(Piece {
                span: Span {
                    from: call.span.from.max(exit),
                    to: call.span.to,
                },
                open: call.open,
                processes: self.context.tree(call.process),
                thread: self.context.leader(call.process),
                end: format!("exit of {} run (pid {})", self.draft.runtime, self.pid(call.process)),
            });
        }
        pieces.extend(self.draft.removed.map(|removed| Piece {
            span: Span {
                from: removed,
                to: removed,
            },
            open: false,
            processes: Vec::new(),
            thread: None,
            end: "removal of its cgroup".to_owned(),
        }));
        let mut longest_umount: Option<(u64, Option<ThreadIx>)> = None;
        let mut longest_flush: Option<&Umount> = None;
        for umount in self.draft.umounts.iter().map(|umount| &self.context.umounts[*umount]) {
            let rootfs = self.draft.rootfs.contains(&umount.target);
            // docker rm, perhaps much later, unmounts what is left of the container's own folder.
            if !rootfs && !umount.target.ends_with(b"/shm") && !umount.target.ends_with(b"/rootfs") {
                continue;
            }
            let again = |from: u64| {
                self.context
                    .mounts_at(&umount.target)
                    .any(|(_, mount)| (exit..from).contains(&mount.span.from))
            };
            // A builder may mount the container's layer once more, to commit it.
            if umount.span.from < exit || again(umount.span.from) {
                continue;
            }
            longest_umount = longest_umount.max(Some((umount.span.len(), umount.thread)));
            let known = longest_flush.map_or(FLUSH_NS - 1, |known| known.flush);
            if umount.flush > known {
                longest_flush = Some(umount);
            }
            let what = if umount.deferred {
                "end of what the umount left to do"
            } else {
                "umount"
            };
            pieces.push(Piece {
                span: umount.span,
                open: false,
                processes: umount.process.into_iter().collect(),
                thread: umount.thread,
                end: format!("{what} ({})", if rootfs { "root file system" } else { "shm or bundle" }),
            });
        }
        let until = self.draft.until;
        pieces.retain(|piece| piece.span.to >= exit && piece.span.from < until);
        // What was there before the end (buildah's helper, that also ran the container) only tells the end.
        let Some(last) = pieces.iter().max_by_key(|piece| (piece.open, piece.span.to)) else {
            return;
        };
        let to = last.span.to.min(until);
        // A sync at umount is waited for in the thread that umounts.
        let slow_umount = longest_umount
            .filter(|(length, _)| 2 * length >= to.saturating_sub(exit))
            .and_then(|(_, thread)| thread);
        let span = Span { from: exit, to };
        let longest = pieces
            .iter()
            .filter(|piece| piece.thread.is_some())
            .max_by_key(|piece| piece.span.clip(span).len());
        let new = New {
            label: longest_flush.map(|umount| self.flush(umount)).unwrap_or_default(),
            open: last.open,
            operation: longest
                .and_then(|piece| piece.processes.first())
                .and_then(|process| self.request_at(*process, exit, &["stop", "restart", "kill", "rm"]))
                .or(self.draft.operation),
            main: slow_umount.or(longest.and_then(|piece| piece.thread)),
            processes: pieces
                .iter()
                .flat_map(|piece| piece.processes.iter().copied())
                .collect(),
            evidence: (format!("exit of pid {}", self.pid(entry.process)), last.end.clone()),
            ..self.plain(PhaseKind::Cleanup, span)
        };
        self.push(new);
    }

    /// What a flush at umount is called: who had to wait for it, for how long, and at which mount.
    fn flush(&self, umount: &Umount) -> Text {
        let pid = umount.process.map_or(0, |process| self.pid(process));
        let ms = umount.flush as f64 / 1e6;
        let what = format!("flush: pid {pid} waited {ms:.1} ms for dirty data at the umount of ");
        [what.as_bytes(), &umount.target].concat()
    }
}

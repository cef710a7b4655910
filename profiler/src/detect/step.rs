//! The steps of a build.
//!
//! podman build and buildah with layers mount one new container per instruction other than `FROM` (also for a cached
//! one) and, at the end of each stage but the last, one more of the stage's image; all are unmounted at the very end.
//! docker's classic builder mounts a new layer per instruction. So the mounts in order are the steps, and the `RUN`s,
//! whose containers say what they ran, prove it: when one contradicts, only the `RUN`s are shown.
//! Measured on podman 4.3.1, buildah 1.28 and docker 20.10.

use std::collections::HashSet;

use super::container::Draft;
use super::context::{Context, Mount};
use super::instruction::{self, Instruction};
use super::operation::Request;
use crate::model::{OperationIx, Phase, PhaseIx, PhaseKind, ProcessIx, Span, ThreadIx};
use crate::recording::record::Text;

/// Adds the steps of each build, and hangs the phases of its containers below them.
pub(super) fn phases(context: &Context<'_>, requests: &[Request], drafts: &[Draft], phases: &mut Vec<Phase>) {
    for (index, request) in requests.iter().enumerate() {
        if !matches!(request.action(), "build" | "bud" | "build-using-dockerfile") {
            continue;
        }
        let Some(command) = &request.command else { continue };
        let operation = OperationIx(index as u32);
        let docker = command.tool == "docker";
        let build = Build {
            context,
            request,
            operation,
            docker,
            instructions: instruction::of_build(context, request.operation.process, docker),
            mounts: mounts(context, request, operation, drafts, docker),
            runs: drafts
                .iter()
                .enumerate()
                .filter(|(_, draft)| draft.operation == Some(operation))
                .collect(),
        };
        let steps = build.by_mounts(phases).unwrap_or_else(|| build.by_runs(phases));
        build.hang(steps, phases);
    }
}

/// A mount of a build: of a container of one step.
struct StepMount {
    span: Span,
    process: Option<ProcessIx>,
    /// Where; of docker's, the layer.
    target: Text,
    layer: Text,
}

struct Build<'c, 'a> {
    context: &'c Context<'a>,
    request: &'c Request,
    operation: OperationIx,
    docker: bool,
    instructions: Vec<Instruction>,
    mounts: Vec<StepMount>,
    /// The build's containers.
    runs: Vec<(usize, &'c Draft)>,
}

/// A step to be.
struct Step {
    label: Text,
    span: Span,
    open: bool,
    evidence: (String, String),
}

/// Overlay mounts of containers: `<layer>/merged` with a layer's name, so that the storage driver's probes
/// (`compat123/merged`, `metacopy-check123/merged`) are none. docker first mounts `<layer>-init/merged`.
fn layer_of(mount: &Mount) -> Option<&[u8]> {
    if !mount.is_overlay() {
        return None;
    }
    let layer = mount
        .target
        .strip_suffix(b"/merged")?
        .rsplit(|byte| *byte == b'/')
        .next()?;
    let layer = layer.strip_suffix(b"-init").unwrap_or(layer);
    (layer.len() >= 32 && layer.iter().all(u8::is_ascii_alphanumeric)).then_some(layer)
}

fn mounts(
    context: &Context<'_>,
    request: &Request,
    operation: OperationIx,
    drafts: &[Draft],
    docker: bool,
) -> Vec<StepMount> {
    // Layers of containers that another operation asked the same daemon for.
    let others: HashSet<&[u8]> = drafts
        .iter()
        .filter(|draft| draft.operation != Some(operation))
        .filter_map(|draft| layer_of(&context.mounts[draft.mount?]))
        .collect();
    let mut seen: HashSet<&[u8]> = HashSet::new();
    let mut found = Vec::new();
    for mount in &context.mounts {
        let Some(layer) = layer_of(mount) else { continue };
        let own = match docker {
            true => request.alive(mount.span.from) && !others.contains(layer) && seen.insert(layer),
            false => mount.process == Some(request.operation.process),
        };
        if own {
            found.push(StepMount {
                span: mount.span,
                process: mount.process,
                target: mount.target.clone(),
                layer: layer.to_vec(),
            });
        }
    }
    found
}

impl Build<'_, '_> {
    /// Steps by the mounts in order; `None` when there is no file to name them, or it does not fit.
    fn by_mounts(&self, phases: &mut Vec<Phase>) -> Option<Vec<PhaseIx>> {
        let first = self.mounts.first()?;
        let stages = self.instructions.last()?.stage + 1;
        let steps = self.instructions.iter().filter(|step| !step.is("FROM")).count();
        // Between stages there is one more mount, unless nothing needs the stage's image.
        let between = !self.docker && self.mounts.len() != steps;
        // What each mount is for: an instruction, or the image of the stage before.
        let mut slots: Vec<Option<usize>> = Vec::new();
        for (index, step) in self.instructions.iter().enumerate() {
            match step.is("FROM") {
                true if between && step.stage > 0 => slots.push(None),
                true => {}
                false => slots.push(Some(index)),
            }
        }
        let heads = self.instructions.iter().take_while(|step| !step.is("FROM")).count();
        let fits = self.mounts.len() <= slots.len()
            && heads == 0
            // One that ended early is a failed one or one still running; else all are there.
            && (self.mounts.len() == slots.len() || self.cut_short())
            && (stages > 1 || !between || self.mounts.len() < slots.len());
        if !fits || !self.proved(&slots) {
            return None;
        }
        let end = self.end();
        let mut steps = vec![Step {
            label: self.instructions[0].label.clone(),
            span: Span {
                from: self.request.operation.span.from.max(self.client_from()),
                to: first.span.from,
            },
            open: false,
            evidence: ("exec of the client".to_owned(), "mount for the next step".to_owned()),
        }];
        for (at, (mount, slot)) in self.mounts.iter().zip(&slots).enumerate() {
            let next = self.mounts.get(at + 1).map(|mount| mount.span);
            let (to, open, last) = match (next, &end) {
                (Some(next), _) => (next.from, false, "mount for the next step".to_owned()),
                (None, (to, open, what)) => (*to, *open, what.clone()),
            };
            let (label, from) = match slot {
                Some(index) => (&self.instructions[*index].label, mount.span.from),
                // The image of the stage before is mounted, then the next stage begins.
                None => {
                    if let Some(step) = steps.last_mut() {
                        step.span.to = mount.span.to;
                    }
                    let next = slots.get(at + 1).copied().flatten()?;
                    (&self.instructions[next.checked_sub(1)?].label, mount.span.to)
                }
            };
            let evidence = ("mount for the step".to_owned(), last);
            steps.push(Step {
                label: label.clone(),
                span: Span { from, to },
                open,
                evidence,
            });
        }
        self.final_umounts(phases);
        Some(steps.into_iter().map(|step| self.push(step, phases)).collect())
    }

    /// Whether each container of the build ran what the instruction of its mount says.
    fn proved(&self, slots: &[Option<usize>]) -> bool {
        let mut used = HashSet::new();
        self.runs.iter().all(|(_, draft)| {
            let argv = draft.entry_argv(self.context);
            let place = self.mounts.iter().rposition(|mount| match self.docker {
                true => draft
                    .rootfs
                    .iter()
                    .any(|path| path.ends_with(&[b"/", mount.layer.as_slice(), b"/merged"].concat())),
                false => draft.rootfs.contains(&mount.target),
            });
            let step = place.and_then(|place| slots.get(place).copied().flatten());
            // One that never came to its entrypoint proves nothing.
            step.is_some_and(|step| used.insert(step) && (argv.is_empty() || self.instructions[step].runs(argv)))
        })
    }

    /// The client failed, was killed, or was still at it when the recording ended.
    fn cut_short(&self) -> bool {
        let client = self.context.process(self.request.operation.process);
        client.open || client.exit_code != Some(0)
    }

    fn client_from(&self) -> u64 {
        let client = self.context.exec_of(self.request.operation.process, |image| {
            super::cli::client(image).is_some()
        });
        client.map_or(0, |exec| exec.ts)
    }

    /// Umounts of the build's own mounts after the last of them was made.
    fn last_umounts(&self) -> Vec<&super::context::Umount> {
        let Some(last) = self.mounts.last().filter(|_| !self.docker) else {
            return Vec::new();
        };
        let targets: HashSet<&Text> = self.mounts.iter().map(|mount| &mount.target).collect();
        let umounts = self.context.umounts.iter();
        umounts
            .filter(|umount| umount.process == last.process && umount.span.from >= last.span.to)
            .filter(|umount| targets.contains(&umount.target))
            .collect()
    }

    /// End of the last step, whether it is open, and what tells.
    fn end(&self) -> (u64, bool, String) {
        if let Some(umount) = self.last_umounts().iter().min_by_key(|umount| umount.span.from) {
            return (
                umount.span.from,
                false,
                "first umount of the steps' containers".to_owned(),
            );
        }
        let operation = &self.request.operation;
        (operation.span.to, operation.open, "exit of the client".to_owned())
    }

    /// At the end a builder unmounts the containers of all steps: cleanup of the whole build.
    fn final_umounts(&self, phases: &mut Vec<Phase>) {
        let umounts = self.last_umounts();
        let (Some(first), Some(last)) = (
            umounts.iter().map(|umount| umount.span.from).min(),
            umounts.iter().max_by_key(|umount| umount.span.to),
        ) else {
            return;
        };
        let span = Span {
            from: first,
            to: last.span.to,
        };
        phases.push(Phase {
            kind: PhaseKind::Cleanup,
            label: Text::new(),
            span,
            open: false,
            parent: None,
            operation: Some(self.operation),
            container: None,
            main: last.thread,
            processes: self.context.alive(last.process, span),
            bytes: None,
            evidence: (
                "first umount of the steps' containers".to_owned(),
                if last.deferred {
                    "end of what the last umount left to do"
                } else {
                    "last of them"
                }
                .to_owned(),
            ),
        });
    }

    /// Only the `RUN`s, by what their containers ran.
    fn by_runs(&self, phases: &mut Vec<Phase>) -> Vec<PhaseIx> {
        let mut steps = Vec::new();
        let mut from = 0;
        let mut next = 0;
        for (index, draft) in &self.runs {
            let own = phases
                .iter()
                .filter(|phase| phase.container.is_some_and(|container| container.ix() == *index))
                // One mount serves all instructions of a stage, those before this one too.
                .filter(|phase| phase.kind != PhaseKind::Mount);
            let Some((begin, end, open)) = own.fold(None, |span: Option<(u64, u64, bool)>, phase| {
                let (begin, end, open) = span.unwrap_or((phase.span.from, phase.span.to, false));
                Some((begin.min(phase.span.from), end.max(phase.span.to), open | phase.open))
            }) else {
                continue;
            };
            let argv = draft.entry_argv(self.context);
            let found = (next..self.instructions.len()).find(|step| self.instructions[*step].runs(argv));
            let label = match found {
                Some(step) => {
                    next = step + 1;
                    self.instructions[step].label.clone()
                }
                None => [b"RUN".to_vec(), argv.join(&b' ')].join(&b' '),
            };
            let begin = self.prepared(draft, from).unwrap_or(begin).min(begin);
            from = end;
            steps.push(Step {
                label,
                span: Span { from: begin, to: end },
                open,
                evidence: (
                    "first work for the container".to_owned(),
                    "end of its last phase".to_owned(),
                ),
            });
        }
        steps.into_iter().map(|step| self.push(step, phases)).collect()
    }

    /// buildah looks the user up in the container's root (`chrootuser-open`) before it runs anything.
    fn prepared(&self, draft: &Draft, after: u64) -> Option<u64> {
        let upto = draft.from();
        let execs = self.context.execs_from(after).iter().take_while(|exec| exec.ts < upto);
        execs
            .filter(|exec| {
                let argv = &self.context.image(**exec).argv;
                argv.first().is_some_and(|word| word == b"chrootuser-open")
                    && argv.get(1).is_some_and(|root| draft.rootfs.contains(root))
            })
            .map(|exec| exec.ts)
            .next()
    }

    fn push(&self, step: Step, phases: &mut Vec<Phase>) -> PhaseIx {
        let Step {
            label,
            span,
            open,
            evidence,
        } = step;
        let main: Option<ThreadIx> = self.context.leader(self.request.operation.process);
        phases.push(Phase {
            kind: PhaseKind::Step,
            label,
            span,
            open,
            parent: None,
            operation: Some(self.operation),
            container: None,
            main,
            processes: self
                .context
                .alive(self.request.operation.processes.iter().copied(), span),
            bytes: None,
            evidence,
        });
        PhaseIx((phases.len() - 1) as u32)
    }

    /// The outermost phases of the build's containers become children of the step in which they began.
    fn hang(&self, steps: Vec<PhaseIx>, phases: &mut [Phase]) {
        let containers: HashSet<usize> = self.runs.iter().map(|(index, _)| *index).collect();
        for index in 0..phases.len() {
            let phase = &phases[index];
            if phase.parent.is_some()
                || !phase
                    .container
                    .is_some_and(|container| containers.contains(&container.ix()))
            {
                continue;
            }
            let from = phase.span.from;
            phases[index].parent = steps.iter().copied().find(|step| phases[step.ix()].span.contains(from));
        }
    }
}

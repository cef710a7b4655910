//! Processes' parents, and the programs they ran.

use std::collections::BTreeMap;

use super::lineage::{Group, ProcessKey};
use super::task::Birth;
use crate::model::{Image, Process, ProcessIx};
use crate::recording::record::Exec;

/// Finds processes by the ids that events carry.
#[derive(Debug, Default)]
pub(super) struct Ancestry {
    by_key: BTreeMap<ProcessKey, (ProcessIx, Option<u64>)>,
}

impl Ancestry {
    /// Of groups in the order of their processes.
    pub(super) fn new(groups: &[Group]) -> Ancestry {
        let indexed = groups.iter().enumerate();
        Ancestry {
            by_key: indexed
                .map(|(index, group)| (group.key, (ProcessIx(index as u32), group.death)))
                .collect(),
        }
    }

    /// The process that a thread of that tgid and start time belongs to, see [`super::lineage::group`].
    pub(super) fn of(&self, tgid: u32, start: u64) -> Option<ProcessIx> {
        let (_, (ix, death)) = self.by_key.range((tgid, 0)..=(tgid, start)).next_back()?;
        death.is_none_or(|death| start <= death).then_some(*ix)
    }

    /// Who made it: the forking process; of an adopted process, its parent then.
    pub(super) fn parent(&self, group: &Group) -> Option<ProcessIx> {
        let (tgid, start) = group.key;
        let (birth, parent_tgid, parent_start) = match group.birth()? {
            Birth::Fork(fork) => (fork.at.ts, fork.parent.tgid, fork.parent.start),
            Birth::Adopt(adopt) => (adopt.at.ts, adopt.parent_tgid, start),
        };
        let (key, (ix, death)) = self
            .by_key
            .range((parent_tgid, 0)..=(parent_tgid, parent_start))
            .next_back()?;
        // A parent is the elder; asking for it keeps broken recordings from making a circle.
        let elder = (key.1, key.0) < (start, tgid);
        let lived = death.is_none_or(|death| birth <= death);
        (elder && lived).then_some(*ix)
    }
}

/// Fills the processes' images from their births and execs.
pub(super) fn images(
    processes: &mut [Process],
    mut births: Vec<(ProcessIx, Birth)>,
    mut execs: Vec<(ProcessIx, Exec)>,
) {
    // Adoptions first: what an adopted process runs is what it ran before, too.
    births.sort_by_key(|(_, birth)| (matches!(birth, Birth::Fork(_)), birth.ts()));
    execs.sort_by_key(|(_, exec)| exec.at.ts);
    let mut execs = execs.into_iter().peekable();
    for (ix, birth) in births {
        let image = match birth {
            Birth::Adopt(adopt) => Image {
                ts: adopt.at.ts,
                comm: adopt.comm,
                filename: adopt.exe,
                argv: adopt.argv,
                exec: true,
                exe: (0, 0),
            },
            Birth::Fork(fork) => {
                while let Some((ix, exec)) = execs.next_if(|(_, exec)| exec.at.ts < fork.at.ts) {
                    processes[ix.ix()].images.push(executed(exec));
                }
                let parent = processes[ix.ix()].parent;
                let inherited = parent.and_then(|parent| processes[parent.ix()].images.last());
                Image {
                    ts: fork.at.ts,
                    comm: fork.comm,
                    filename: Vec::new(),
                    argv: inherited.map(|image| image.argv.clone()).unwrap_or_default(),
                    exec: false,
                    exe: inherited.map(|image| image.exe).unwrap_or_default(),
                }
            }
        };
        processes[ix.ix()].images.push(image);
    }
    for (ix, exec) in execs {
        processes[ix.ix()].images.push(executed(exec));
    }
    for process in processes {
        process.images.sort_by_key(|image| image.ts);
    }
}

fn executed(exec: Exec) -> Image {
    Image {
        ts: exec.at.ts,
        comm: exec.comm,
        filename: exec.filename,
        argv: exec.argv,
        exec: true,
        exe: (exec.exe_dev, exec.exe_ino),
    }
}

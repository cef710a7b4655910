//! Names of user frames, which come later than the frames: a file's symbols are read by a process of their own.

use std::collections::{HashMap, HashSet};

use crate::lookup::binaries::{Binaries, FileIx};
use crate::recording::record::{Image as ImageRecord, Record, Segment, Symbol, Text};
use crate::symbol::demangle;

/// Most mangled names, and most bytes of them, sent at a time; a packet has 32 KiB.
const MAX_NAMES: usize = 512;
const MAX_BYTES: usize = 24 * 1024;

/// A place in a file that wants a name.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    frame: u32,
    offset: u64,
}

/// A frame whose name is being made readable.
#[derive(Debug)]
struct Asked {
    frame: u32,
    within: u64,
    raw: Text,
}

/// Frames without a name, by file, and names on their way.
#[derive(Debug, Default)]
pub struct Naming {
    wanted: HashMap<FileIx, Vec<Wanted>>,
    /// Looked up without success, or with a function's start only: once more when another table comes.
    poor: HashMap<FileIx, Vec<Wanted>>,
    /// Files with frames that have not been looked up in their newest table.
    fresh: HashSet<FileIx>,
    asked: HashMap<u64, Vec<Asked>>,
    /// Files that frames lie in.
    recorded: HashSet<FileIx>,
    /// Names that stayed mangled since their reader failed.
    mangled: u64,
}

impl Naming {
    /// A frame is in a file: it will be named when that is possible.
    pub(super) fn want(&mut self, frame: u32, file: FileIx, offset: u64) {
        self.wanted.entry(file).or_default().push(Wanted { frame, offset });
        self.fresh.insert(file);
    }

    /// Whether frames of that file wait for names.
    pub fn waits_for(&self, file: FileIx) -> bool {
        self.wanted.contains_key(&file) || self.poor.contains_key(&file)
    }

    /// A file has been recorded; `true` when it had not been before.
    pub(super) fn recorded(&mut self, file: FileIx, binaries: &Binaries, out: &mut Vec<Record>) -> bool {
        let new = self.recorded.insert(file);
        if new {
            // What is known already is told right behind it, see `Frames::file`.
            out.extend(image(file, binaries));
        }
        new
    }

    /// Records what has become known since the last time.
    pub fn poll(&mut self, binaries: &mut Binaries, out: &mut Vec<Record>) {
        let arrived = binaries.poll();
        self.go_on(arrived, binaries, out);
    }

    /// Waits for everything that is on its way, and records it. For the recording's end.
    pub fn finish(&mut self, binaries: &mut Binaries, out: &mut Vec<Record>) {
        binaries.retry_missing();
        self.fresh.extend(self.wanted.keys());
        self.settle(binaries, out);
        self.name_code(binaries, out);
    }

    /// As [`Naming::finish`], without looking again for files that were not found.
    pub fn settle(&mut self, binaries: &mut Binaries, out: &mut Vec<Record>) {
        let arrived = binaries.finish();
        self.go_on(arrived, binaries, out);
        // Names are asked for by what came just now, and asked for again one by one where their reader failed.
        while !self.asked.is_empty() {
            let arrived = binaries.finish();
            self.go_on(arrived, binaries, out);
        }
    }

    /// Addresses of made code that no map names say nothing, and are as many as samples.
    fn name_code(&mut self, binaries: &Binaries, out: &mut Vec<Record>) {
        for list in [&mut self.wanted, &mut self.poor] {
            let code: Vec<FileIx> = list.keys().copied().filter(|file| binaries.is_code(*file)).collect();
            for wanted in code.iter().filter_map(|file| list.remove(file)).flatten() {
                out.push(
                    Symbol {
                        frame: wanted.frame,
                        name: b"[just-in-time code]".to_vec(),
                        offset: 0,
                    }
                    .into(),
                );
            }
        }
    }

    /// What was not named as it should be.
    pub fn losses(&self) -> Vec<(String, u64)> {
        let named = ("names left mangled: their reader failed".to_owned(), self.mangled);
        Some(named).filter(|(_, count)| *count > 0).into_iter().collect()
    }

    fn go_on(&mut self, arrived: Vec<FileIx>, binaries: &mut Binaries, out: &mut Vec<Record>) {
        for file in arrived {
            if self.recorded.contains(&file) {
                out.extend(image(file, binaries));
            }
            if let Some(poor) = self.poor.remove(&file) {
                self.wanted.entry(file).or_default().extend(poor);
            }
            if self.wanted.contains_key(&file) {
                self.fresh.insert(file);
            }
        }
        for file in std::mem::take(&mut self.fresh) {
            if binaries.user().image(file).is_some() {
                self.look_up(file, binaries, out);
            }
        }
        binaries.user().trim();
        self.take_names(binaries, out);
    }

    /// Names the frames of one file by its table. Those that the table does not have go on waiting: a file of debug
    /// information may have them.
    fn look_up(&mut self, file: FileIx, binaries: &mut Binaries, out: &mut Vec<Record>) {
        let Some(mut poor) = self.wanted.remove(&file) else {
            return;
        };
        let mut mangled = Vec::new();
        poor.retain(|wanted| {
            let Some(found) = binaries.user().find(file, wanted.offset) else {
                return true;
            };
            let (frame, within) = (wanted.frame, found.offset);
            if demangle::is_mangled(&found.name) {
                mangled.push(Asked {
                    frame,
                    within,
                    raw: found.name,
                });
                return false;
            }
            let nameless = found.name.is_empty();
            let name = if nameless {
                let path = binaries.file(file).map_or(&[][..], |binary| &binary.path);
                let mut name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
                name.extend_from_slice(format!("+{:#x}", wanted.offset.saturating_sub(within)).as_bytes());
                name
            } else {
                demangle::demangle(&found.name)
            };
            out.push(
                Symbol {
                    frame,
                    name,
                    offset: within,
                }
                .into(),
            );
            // A start may still get its name.
            nameless && !binaries.user().image(file).is_some_and(|image| image.complete)
        });
        if !poor.is_empty() {
            self.poor.entry(file).or_default().extend(poor);
        }
        // Names of one file go together: a hostile one spoils its own only.
        let mut packet: Vec<Asked> = Vec::new();
        let mut bytes = 0;
        for asked in mangled {
            if packet.len() >= MAX_NAMES || bytes + asked.raw.len() > MAX_BYTES {
                self.ask(std::mem::take(&mut packet), binaries);
                bytes = 0;
            }
            bytes += asked.raw.len();
            packet.push(asked);
        }
        self.ask(packet, binaries);
    }

    fn ask(&mut self, packet: Vec<Asked>, binaries: &mut Binaries) {
        if !packet.is_empty() {
            let names = packet.iter().map(|asked| asked.raw.clone()).collect();
            self.asked.insert(binaries.submit_names(names), packet);
        }
    }

    fn take_names(&mut self, binaries: &mut Binaries, out: &mut Vec<Record>) {
        for answer in binaries.take_names() {
            let Some(mut packet) = self.asked.remove(&answer.ticket) else {
                continue;
            };
            let names = answer
                .decode::<Vec<Text>>()
                .ok()
                .filter(|names| names.len() == packet.len());
            match names {
                Some(names) => out.extend(packet.iter().zip(names).map(|(asked, name)| symbol(asked, name))),
                None if packet.len() == 1 => {
                    self.mangled += 1;
                    out.extend(packet.iter().map(|asked| symbol(asked, asked.raw.clone())));
                }
                // Which of them it was shows by halves.
                None => {
                    let half = packet.split_off(packet.len() / 2);
                    self.ask(packet, binaries);
                    self.ask(half, binaries);
                }
            }
        }
    }
}

fn symbol(asked: &Asked, mut name: Text) -> Record {
    name.truncate(demangle::MAX_NAME);
    Symbol {
        frame: asked.frame,
        name,
        offset: asked.within,
    }
    .into()
}

/// What a later reader needs to find a file's debug information and the frames' places in it.
fn image(file: FileIx, binaries: &Binaries) -> Option<Record> {
    let image = binaries.image(file)?;
    if image.build_id.is_empty() && image.link.is_none() {
        return None;
    }
    /// Most segments kept; all executable ones come first.
    const MAX_SEGMENTS: usize = 8;
    let segments = image.segments.iter().take(MAX_SEGMENTS);
    let record = ImageRecord {
        file: file.0 + 1,
        build_id: image.build_id.clone(),
        segments: segments
            .map(|segment| Segment {
                offset: segment.offset,
                size: segment.size,
                address: segment.address,
            })
            .collect(),
        link: image.link.as_ref().map(|(name, crc)| (name.clone(), *crc)),
        complete: image.complete,
    };
    Some(record.into())
}

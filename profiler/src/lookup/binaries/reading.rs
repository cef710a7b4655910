//! Reading of mapped files by the [parser](crate::symbol::sandbox): what is asked for, and what the answers change.

use std::fs::File;

use crate::ingest::mappings::Map;
use crate::lookup::beside::{self, Root};
use crate::lookup::elf::{self, Image};
use crate::lookup::locate::{Found, Miss, Sighting, Way};
use crate::symbol::sandbox::{Answer, Cost, Job};
use crate::symbol::table::Table;
use crate::symbol::unwind::rows::UnwindError;
use crate::symbol::unwind::table as unwind;

use super::causes::Cause;
use super::{Binaries, FileIx, FileKey};

/// What an answer of the parser is for.
#[derive(Debug)]
pub(super) enum Ticket {
    /// The symbols of a file. It is kept open for the case that they lie elsewhere.
    Symbols { file: FileIx, open: File },
    /// The same with a file of debug information; the next best one where this proves to be another build's.
    Debug { file: FileIx, open: File, next: usize },
    /// The unwind table of a file.
    Unwind(FileIx),
    /// Names of code that lies in no file.
    PerfMap(FileIx),
    /// Names for people.
    Names,
}

impl Binaries {
    pub(super) fn keep(&mut self, file: FileIx, outcome: Result<Found, Miss>) {
        let Some(binary) = self.files.get_mut(file.0 as usize) else {
            return;
        };
        binary.tries = binary.tries.saturating_add(1);
        let found = match outcome {
            Ok(found) => found,
            Err(miss) => {
                binary.cause = Some(miss.into());
                return;
            }
        };
        binary.identity = Some(found.identity);
        binary.root = (found.way != Way::Handle).then_some(found.root);
        if let Some(count) = self.ways.get_mut(found.way as usize) {
            *count += 1;
        }
        let (Ok(open), Ok(again)) = (found.file.try_clone(), found.file.try_clone()) else {
            binary.cause = Some(Cause::Read);
            return;
        };
        if self.unwind.wants(file, found.written) {
            self.submit(Ticket::Unwind(file), Job::Unwind, vec![again]);
        }
        self.submit(Ticket::Symbols { file, open }, Job::Symbols, vec![found.file]);
        if found.urgent {
            self.settle();
        }
    }

    pub(super) fn submit(&mut self, ticket: Ticket, job: Job, files: Vec<File>) -> u64 {
        let number = self.next_ticket;
        self.next_ticket += 1;
        self.tickets.insert(number, ticket);
        self.sandbox.submit(number, job, files);
        number
    }

    /// Asks for names for people. The answer comes with [`Binaries::take_names`], under the number returned here.
    pub fn submit_names(&mut self, names: Vec<Vec<u8>>) -> u64 {
        self.submit(Ticket::Names, Job::Demangle(names), Vec::new())
    }

    /// Answers to [`Binaries::submit_names`] that have come.
    pub fn take_names(&mut self) -> Vec<Answer> {
        std::mem::take(&mut self.names)
    }

    /// Takes the parser's answers, and tells the files whose symbols have come.
    pub fn poll(&mut self) -> Vec<FileIx> {
        self.take_answers();
        std::mem::take(&mut self.arrived)
    }

    /// Takes the parser's answers, unwind tables among them.
    pub fn take_answers(&mut self) {
        for file in self.unwind.take_missed() {
            let ticket = self
                .tickets
                .iter()
                .find(|(_, ticket)| matches!(ticket, Ticket::Unwind(of) if *of == file));
            if let Some((ticket, _)) = ticket {
                self.sandbox.prefer(*ticket);
            }
        }
        for answer in self.sandbox.poll() {
            self.answered(answer);
        }
    }

    /// As [`Binaries::poll`], with all that is on its way.
    pub fn finish(&mut self) -> Vec<FileIx> {
        self.settle();
        std::mem::take(&mut self.arrived)
    }

    /// See [`Sandbox::start`].
    pub fn start_parser(&mut self) {
        self.sandbox.start();
    }

    /// What the parsers took. For the recording's end.
    pub fn close(&mut self) -> Cost {
        self.sandbox.close()
    }

    /// What the parser could not give up, as text.
    pub fn kept_privileges(&self) -> Option<&str> {
        self.sandbox.kept()
    }

    fn settle(&mut self) {
        while !self.sandbox.is_idle() {
            for answer in self.sandbox.finish() {
                self.answered(answer);
            }
        }
    }

    fn answered(&mut self, answer: Answer) {
        let Some(ticket) = self.tickets.remove(&answer.ticket) else {
            return;
        };
        match ticket {
            Ticket::Names => self.names.push(answer),
            Ticket::Unwind(file) => {
                let table = answer.result.map_err(UnwindError::from);
                let table = table.and_then(|bytes| unwind::Table::decode(&bytes).ok_or(UnwindError::Malformed));
                self.unwind.answer(file, table);
            }
            Ticket::Symbols { file, open } => match answer.decode::<Image>() {
                Ok(image) => {
                    let complete = image.complete;
                    self.learn(file, image);
                    if !complete {
                        self.look_beside(file, open, 0);
                    }
                }
                Err(failure) => {
                    if let Some(binary) = self.files.get_mut(file.0 as usize) {
                        binary.cause = Some(failure.into());
                    }
                }
            },
            Ticket::Debug { file, open, next } => match answer.decode::<Image>() {
                Ok(image) => {
                    self.debug_files += 1;
                    self.learn(file, image);
                }
                // Another build's, or broken: the file's own names stay.
                Err(_) => self.look_beside(file, open, next),
            },
            Ticket::PerfMap(file) => {
                if let Ok(table) = answer.decode::<Table>() {
                    // Its addresses are the process's own.
                    let whole = elf::Segment {
                        offset: 0,
                        size: u64::MAX,
                        address: 0,
                    };
                    let image = Image {
                        segments: vec![whole],
                        table,
                        ..Image::default()
                    };
                    self.learn(file, image);
                }
            }
        }
    }

    fn learn(&mut self, file: FileIx, image: Image) {
        if let Some(binary) = self.files.get_mut(file.0 as usize) {
            binary.cause = None;
        }
        self.user.insert(file, image);
        self.arrived.push(file);
    }

    /// Reads the `nth` file of debug information that there may be, together with the file itself.
    fn look_beside(&mut self, file: FileIx, open: File, nth: usize) {
        let (Some(binary), Some(image)) = (self.files.get(file.0 as usize), self.user.image(file)) else {
            return;
        };
        let root = binary.root.clone().or_else(|| {
            let FileKey { dev, ino, generation } = binary.key;
            let map = Map {
                start: 0,
                end: 0,
                pgoff: 0,
                dev,
                ino,
                generation,
                path: &binary.path,
            };
            let ts = binary.seen;
            self.locator.root_of(&Sighting {
                ts,
                pid: 0,
                mnt_ns: 0,
                map,
            })
        });
        let root = root.unwrap_or(Root::Host);
        let found = beside::debug_files(image, &root, &binary.path, &self.debug_folders, &self.locator.own).nth(nth);
        if let Some((debug, proof)) = found
            && let Ok(again) = open.try_clone()
        {
            let next = nth + 1;
            self.submit(
                Ticket::Debug { file, open, next },
                Job::SymbolsWith(proof),
                vec![again, debug],
            );
        }
    }

    /// Files whose names came from a file of debug information.
    pub fn debug_files(&self) -> u64 {
        self.debug_files
    }
}

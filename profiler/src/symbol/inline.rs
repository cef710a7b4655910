//! Names for places of a file, with the functions that the compiler put into others (DWARF). Runs in the parser only.

use std::borrow::Cow;
use std::fs::File;
use std::rc::Rc;

use addr2line::Context;
use gimli::{EndianRcSlice, RunTimeEndian};
use object::read::ReadCache;
use object::{Object, ObjectSection};
use serde::{Deserialize, Serialize};

use super::demangle::demangle;
use crate::lookup::elf::{self, ElfError};

/// Most functions put into each other at one place.
const DEEPEST: usize = 64;

/// What is at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// For people: the innermost function first; the last is the one that has code of its own. Empty: nothing is known.
    pub names: Vec<Vec<u8>>,
    /// Of the address from the last function's start.
    pub offset: u64,
}

/// Names for addresses as the file's symbols count them, in order.
///
/// # Errors
///
/// [`ElfError`]; [`ElfError::OtherBuild`] when the file has another build id.
pub fn names(file: &File, build_id: &[u8], addresses: &[u64], inline: bool) -> Result<Vec<Named>, ElfError> {
    let image = elf::read(file)?;
    if image.build_id != build_id {
        return Err(ElfError::OtherBuild);
    }
    // Without DWARF, or with some that can't be read, there are the symbols' names.
    let cache = ReadCache::new(file);
    let dwarf = if inline && image.dwarf { dwarf(&cache) } else { None };
    let named = addresses.iter().map(|address| {
        let found = image.table.find(*address).filter(|found| !found.name.is_empty());
        let mut named = Named::default();
        if let Some(dwarf) = &dwarf {
            named.names = inlined(dwarf, *address);
        }
        if let Some(found) = found {
            // The last is the same function by another spelling: that of the symbol is what other reports have.
            named.names.pop();
            named.names.push(demangle(&found.name));
            named.offset = found.offset;
        }
        named
    });
    Ok(named.collect())
}

type Slice = EndianRcSlice<RunTimeEndian>;

fn dwarf(cache: &ReadCache<&File>) -> Option<Context<Slice>> {
    let object = object::File::parse(cache).ok()?;
    let endian = if object.is_little_endian() {
        RunTimeEndian::Little
    } else {
        RunTimeEndian::Big
    };
    let section = |id: gimli::SectionId| -> Result<Slice, gimli::Error> {
        let data = object
            .section_by_name(id.name())
            .and_then(|section| section.uncompressed_data().ok())
            .unwrap_or(Cow::Borrowed(&[]));
        Ok(Slice::new(Rc::from(&*data), endian))
    };
    Context::from_dwarf(gimli::Dwarf::load(section).ok()?).ok()
}

fn inlined(dwarf: &Context<Slice>, address: u64) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    let Ok(mut frames) = dwarf.find_frames(address).skip_all_loads() else {
        return names;
    };
    while names.len() < DEEPEST
        && let Ok(Some(frame)) = frames.next()
    {
        // A frame without a function is a line without one.
        let Some(function) = frame.function else { break };
        let Ok(name) = function.raw_name() else { break };
        names.push(demangle(name.as_bytes()));
    }
    names
}

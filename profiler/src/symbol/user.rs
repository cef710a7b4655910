//! Functions of user files, from tables read while the files were there.

use std::collections::HashMap;

use crate::lookup::binaries::FileIx;
use crate::lookup::elf::Image;
use crate::symbol::table::Function;

/// Memory for all symbol tables, bytes. Beyond it the tables unused for longest are dropped; the frames seen so far
/// have their names by then.
pub const MAX_TABLE_BYTES: usize = 32 * 1024 * 1024;

/// Tables by file.
#[derive(Debug)]
pub struct User {
    images: HashMap<FileIx, Held>,
    bytes: usize,
    limit: usize,
    clock: u64,
    dropped: u64,
}

#[derive(Debug)]
struct Held {
    image: Image,
    used: u64,
}

impl Default for User {
    fn default() -> Self {
        User::with_limit(MAX_TABLE_BYTES)
    }
}

impl User {
    /// With another bound than [`MAX_TABLE_BYTES`].
    pub fn with_limit(limit: usize) -> Self {
        User {
            images: HashMap::new(),
            bytes: 0,
            limit,
            clock: 0,
            dropped: 0,
        }
    }

    /// Keeps `image` for `file`. [`User::trim`] is to follow, once the frames that waited for it have their names.
    pub fn insert(&mut self, file: FileIx, image: Image) {
        self.clock += 1;
        self.bytes += image.table.bytes();
        if let Some(old) = self.images.insert(
            file,
            Held {
                image,
                used: self.clock,
            },
        ) {
            self.bytes -= old.image.table.bytes();
        }
    }

    /// Drops the tables unused for longest where memory does not suffice.
    pub fn trim(&mut self) {
        while self.bytes > self.limit {
            let oldest = self
                .images
                .iter_mut()
                .filter(|(_, held)| !held.image.table.is_empty())
                .min_by_key(|(_, held)| held.used);
            let Some((_, held)) = oldest else { break };
            let table = std::mem::take(&mut held.image.table);
            self.bytes -= table.bytes();
            self.dropped += 1;
        }
    }

    /// The function at `offset` of `file`. `None` when no function of the file's table holds that place.
    pub fn find(&mut self, file: FileIx, offset: u64) -> Option<Function> {
        let held = self.images.get_mut(&file)?;
        self.clock += 1;
        held.used = self.clock;
        held.image.table.find(held.image.address(offset)?)
    }

    /// What was read of `file`.
    pub fn image(&self, file: FileIx) -> Option<&Image> {
        self.images.get(&file).map(|held| &held.image)
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tables dropped for want of memory.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lookup::elf::Segment;
    use crate::symbol::table::{Builder, Rank};

    fn image(name: &[u8]) -> Image {
        let mut builder = Builder::default();
        builder.add(0x40_1100, 0x10, Rank::Global, name);
        Image {
            segments: vec![Segment {
                offset: 0x1000,
                size: 0x1000,
                address: 0x40_1000,
            }],
            table: builder.finish(),
            ..Image::default()
        }
    }

    /// Make sure that a file offset is carried through the segment to the function.
    #[test]
    fn offset_to_function() {
        let mut user = User::default();
        user.insert(FileIx(1), image(b"bar"));
        let found = user.find(FileIx(1), 0x1108).unwrap();
        assert_eq!((&found.name[..], found.offset), (&b"bar"[..], 8));
        assert_eq!(user.find(FileIx(1), 0x1110), None);
        assert_eq!(user.find(FileIx(1), 0x9000), None);
        assert_eq!(user.find(FileIx(2), 0x1108), None);
    }

    /// Make sure that the table unused for longest goes first, and that it is counted.
    #[test]
    fn bounded_memory() {
        let size = image(b"a").table.bytes();
        let mut user = User::with_limit(2 * size);
        user.insert(FileIx(1), image(b"a"));
        user.insert(FileIx(2), image(b"b"));
        assert!(user.find(FileIx(1), 0x1100).is_some());
        user.insert(FileIx(3), image(b"c"));
        assert!(user.find(FileIx(1), 0x1100).is_some());
        user.trim();
        assert!(user.find(FileIx(2), 0x1100).is_none());
        assert!(user.find(FileIx(1), 0x1100).is_some());
        assert_eq!((user.dropped(), user.bytes()), (1, 2 * size));
    }
}

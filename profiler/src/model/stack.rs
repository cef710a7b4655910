//! Stacks, frames and their names.

use std::collections::HashMap;

use crate::recording::record::{File, Image, Place, Stack, Symbol, Text};

/// All stacks of a session.
#[derive(Debug, Default)]
pub struct Stacks {
    pub stacks: HashMap<u32, Stack>,
    pub frames: HashMap<u32, Place>,
    pub files: HashMap<u32, File>,
    pub symbols: HashMap<u32, Symbol>,
    /// Functions that the compiler put into a frame's, innermost first.
    pub inlined: HashMap<u32, Vec<Text>>,
    /// By file.
    pub images: HashMap<u32, Image>,
    /// Why a stack's user frames end where they do (`profiler_common::unwind::end`), where that is known.
    pub ends: HashMap<u32, u8>,
}

impl Stacks {
    /// The stack of that id; 0 and unknown ids have none.
    pub fn get(&self, id: u32) -> Option<&Stack> {
        self.stacks.get(&id)
    }

    /// A frame's name for people: its symbol, or `file+0x12ab`, or the bare address. Bytes: hostile text.
    pub fn name(&self, frame: u32) -> Text {
        if let Some(symbol) = self.symbols.get(&frame) {
            return symbol.name.clone();
        }
        match self.frames.get(&frame) {
            Some(Place::Kernel(address)) => format!("[k] {address:#x}").into_bytes(),
            Some(Place::File { file, offset }) => {
                let mut name = match self.files.get(file) {
                    Some(file) => file
                        .path
                        .rsplit(|byte| *byte == b'/')
                        .next()
                        .unwrap_or_default()
                        .to_vec(),
                    None => b"[unknown file]".to_vec(),
                };
                name.extend_from_slice(format!("+{offset:#x}").as_bytes());
                name
            }
            Some(Place::Unmapped(0)) => b"[broken]".to_vec(),
            Some(Place::Unmapped(address)) => format!("[unmapped] {address:#x}").into_bytes(),
            None => b"[unknown]".to_vec(),
        }
    }
}

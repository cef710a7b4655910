//! Every text of the page once.

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::report::text;

/// Texts by number. They are harmless ([`text::visible`]) when they come in.
#[derive(Debug, Default)]
pub(super) struct Strings {
    all: Vec<String>,
    known: HashMap<String, u32>,
}

impl Strings {
    /// A harmless text's number.
    pub(super) fn add(&mut self, text: &str) -> u32 {
        if let Some(known) = self.known.get(text) {
            return *known;
        }
        let number = self.all.len() as u32;
        self.all.push(text.to_owned());
        self.known.insert(text.to_owned(), number);
        number
    }

    /// The number of what a traced process is called, at most `columns` of it.
    pub(super) fn hostile(&mut self, bytes: &[u8], columns: usize) -> u32 {
        let text = text::escape_terminal(bytes, columns);
        self.add(&text)
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[String] {
        &self.all
    }
}

impl Serialize for Strings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.all.serialize(serializer)
    }
}

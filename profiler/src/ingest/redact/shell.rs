//! Takes a command line apart into commands and words, as a shell does, and puts it together again.

use std::ops::Range;

use super::{Word, redact_words};

/// A word's place in its line.
struct Place {
    /// Without the quotes, where one pair of them is around all of it.
    inner: Range<usize>,
    quote: Option<u8>,
}

/// Masks the secrets of a command line, or of any text with words in it; `None` when there are none.
pub(super) fn redact_line(line: &[u8], levels: u32) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(line.len());
    let mut done = 0;
    let mut changed = false;
    for command in commands(line) {
        let mut words: Vec<Word> = command
            .iter()
            .map(|place| Word {
                bytes: line[place.inner.clone()].to_vec(),
                literal: place.quote == Some(b'\''),
            })
            .collect();
        if !redact_words(&mut words, true, levels) {
            continue;
        }
        changed = true;
        for (place, word) in command.iter().zip(words) {
            out.extend_from_slice(&line[done..place.inner.start]);
            out.extend_from_slice(&word.bytes);
            done = place.inner.end;
        }
    }
    out.extend_from_slice(&line[done..]);
    changed.then_some(out)
}

/// The words of each command of `line`. A quote that is not closed goes to the end.
fn commands(line: &[u8]) -> Vec<Vec<Place>> {
    let mut commands = vec![Vec::new()];
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'`' => {
                commands.push(Vec::new());
                at += 1;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let end = word_end(line, at);
                if let Some(command) = commands.last_mut() {
                    command.push(place(line, at, end));
                }
                at = end;
            }
        }
    }
    commands.retain(|command| !command.is_empty());
    commands
}

fn word_end(line: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = line.get(at) {
        match byte {
            b'\n' | b';' | b'|' | b'&' | b'(' | b')' | b'`' => break,
            byte if byte.is_ascii_whitespace() => break,
            b'\\' => at += 2,
            b'\'' | b'"' => at = quote_end(line, at) + 1,
            _ => at += 1,
        }
    }
    at.min(line.len())
}

/// Where the quote that opens at `start` closes; the line's end when it does not.
fn quote_end(line: &[u8], start: usize) -> usize {
    let quote = line[start];
    let mut at = start + 1;
    while let Some(byte) = line.get(at) {
        match byte {
            b'\\' if quote == b'"' => at += 2,
            byte if *byte == quote => return at,
            _ => at += 1,
        }
    }
    line.len()
}

fn place(line: &[u8], start: usize, end: usize) -> Place {
    let quote = line[start];
    if matches!(quote, b'\'' | b'"') && end - start >= 2 && quote_end(line, start) + 1 == end {
        return Place {
            inner: start + 1..end - 1,
            quote: Some(quote),
        };
    }
    Place {
        inner: start..end,
        quote: None,
    }
}

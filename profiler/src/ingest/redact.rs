//! Masks secrets in argument vectors before they are recorded (`docs/redaction.md`).
//!
//! The rules are tables in [`rules`]. They are applied twice: to what stands within an argument ([`scan`]), and to
//! arguments in a row (`--password x`), be they of the vector or of a command line inside one of them ([`shell`]).
//! Arguments are bytes: what is not UTF-8 passes through.

mod names;
mod rules;
mod scan;
mod shell;
#[cfg(test)]
mod tests;

use crate::recording::record::Text;
use rules::{Mask, Rule};

/// How deep command lines within command lines are followed: `su -c "sh -c '…'"`. Each level costs one more pass.
const MOST_LEVELS: u32 = 3;

/// Masks what looks like a secret in `argv`; tells whether there was any. Takes time linear in the bytes.
pub fn redact(argv: &mut [Text]) -> bool {
    let mut words: Vec<Word> = argv
        .iter_mut()
        .map(|argument| Word {
            bytes: std::mem::take(argument),
            literal: true,
        })
        .collect();
    let changed = redact_words(&mut words, false, MOST_LEVELS);
    for (argument, word) in argv.iter_mut().zip(words) {
        *argument = word.bytes;
    }
    changed
}

/// An argument, or a word of a command line without its outer quotes.
struct Word {
    bytes: Vec<u8>,
    /// A `$` in it is a dollar sign: the shell has been, or will not be, at it.
    literal: bool,
}

/// Masks one command's words. `shell`: they stand in a command line.
fn redact_words(words: &mut [Word], shell: bool, levels: u32) -> bool {
    let mut changed = false;
    let mut command = Command::default();
    let mut pending: Option<Mask> = None;
    for at in 0..words.len() {
        let (before, rest) = words.split_at_mut(at);
        let Some(word) = rest.first_mut() else { break };
        let previous = before.last().map(|word| word.bytes.as_slice()).unwrap_or_default();
        command.sees(&word.bytes, previous);
        let is_option = word.bytes.starts_with(b"-") && word.bytes.len() > 1;
        let expected = pending.take().filter(|_| !is_option);
        if expected == Some(Mask::All) {
            changed |= word.set(masked(&word.bytes, Mask::All, !word.literal));
            continue;
        }
        if let Some(mask) = expected {
            changed |= word.set(masked(&word.bytes, mask, !word.literal));
        }
        let (attached, next) = command.rule_for(&word.bytes, previous);
        pending = next;
        if let Some((start, mask)) = attached {
            let value = masked(&word.bytes[start..], mask, !word.literal);
            changed |= word.set(value.map(|value| [&word.bytes[..start], &value].concat()));
        }
        let is_command_line = takes_command_line(previous);
        let context = scan::Context {
            shell: is_command_line || (shell && !word.literal),
            engine: command.is_engine(),
        };
        changed |= word.set(scan::scan(&word.bytes, context));
        if levels > 0 && (is_command_line || word.bytes.iter().any(u8::is_ascii_whitespace)) {
            changed |= word.set(shell::redact_line(&word.bytes, levels - 1));
        }
    }
    changed
}

impl Word {
    fn set(&mut self, bytes: Option<Vec<u8>>) -> bool {
        bytes.map(|bytes| self.bytes = bytes).is_some()
    }
}

/// Which program the words are for, as far as they have been seen.
#[derive(Default)]
struct Command {
    /// Base name.
    program: Vec<u8>,
    /// Those for its options.
    rules: Vec<&'static Rule>,
    /// A further word may name the program that matters: `sudo mysql`, `docker exec db mysql`.
    open: bool,
    /// Subcommands seen that rules ask for.
    subcommands: Vec<&'static str>,
}

impl Command {
    fn sees(&mut self, word: &[u8], previous: &[u8]) {
        let begun = !self.program.is_empty();
        if begun {
            let subcommand = rules::SUBCOMMANDS.iter().find(|name| name.as_bytes() == word);
            self.subcommands.extend(subcommand);
            if !self.open || word.starts_with(b"-") || names::is_in(rules::NAMING_OPTIONS, previous) {
                return;
            }
        }
        if is_assignment(word) {
            return;
        }
        let name = base_name(word);
        let opens = names::is_in(rules::WRAPPERS, name) || names::is_in(rules::ENGINES, name);
        let rules: Vec<&Rule> = rules::OPTIONS
            .iter()
            .filter(|rule| names::is_in(rule.programs, name))
            .collect();
        if !begun || opens || !rules.is_empty() {
            self.program = name.to_vec();
            self.rules = rules;
            self.open = opens;
        }
    }

    fn is_engine(&self) -> bool {
        names::is_in(rules::ENGINES, &self.program)
    }

    /// Where a value attached to the option `word` begins, with its mask; and the mask of the word that follows.
    fn rule_for(&self, word: &[u8], previous: &[u8]) -> (Option<(usize, Mask)>, Option<Mask>) {
        let given = |rule: &&&Rule| rule.with.is_none_or(|with| self.subcommands.contains(&with));
        for rule in self.rules.iter().filter(given) {
            let option = rule.option.as_bytes();
            let Some(value) = word.strip_prefix(option) else {
                // `-sSu user:password`: single letters in one word, the last of which takes the value.
                if rule.next && rule.mask != Mask::All && is_cluster(word, option) {
                    return (None, Some(rule.mask));
                }
                continue;
            };
            let start = match (value, option.starts_with(b"--")) {
                ([], _) if rule.next => return (None, Some(rule.mask)),
                ([b'=', ..], true) => option.len() + 1,
                ([_, ..], false) if rule.attached => option.len(),
                _ => continue,
            };
            return (Some((start, rule.mask)), None);
        }
        let names_a_secret = match word.strip_prefix(b"-") {
            Some(name) => name.len() > 1 && scan::is_key(name) && !names::is_switch(name),
            // `npm config set //registry/:_authToken x`
            None => previous == b"set" && !word.contains(&b'='),
        };
        if !names_a_secret || !names::is_secret(word) || (self.is_engine() && word == rules::ENGINE_SECRET) {
            return (None, None);
        }
        (None, Some(names::mask_of(word)))
    }
}

/// `mysql` of `/usr/bin/mysql`, and of the image `docker.io/library/mysql:8`.
fn base_name(word: &[u8]) -> &[u8] {
    let name = word.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = name
        .split(|byte| matches!(byte, b':' | b'@'))
        .next()
        .unwrap_or_default();
    name.strip_prefix(b"-").unwrap_or(name)
}

/// `NAME=value` before a command.
fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|byte| *byte == b'=').next().unwrap_or_default();
    name.len() < word.len() && !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Whether `word` is several one-letter options of which `option` is the last.
fn is_cluster(word: &[u8], option: &[u8]) -> bool {
    match (word, option) {
        ([b'-', letters @ .., last], [b'-', letter]) => last == letter && letters.iter().all(u8::is_ascii_alphabetic),
        _ => false,
    }
}

/// Whether the word after `option` is a command line: `sh -c`, `bash -lc`, `su --command`.
fn takes_command_line(option: &[u8]) -> bool {
    option == b"--command" || is_cluster(option, b"-c")
}

/// `value` with its secret part masked; `None` when there is none.
fn masked(value: &[u8], mask: Mask, shell: bool) -> Option<Vec<u8>> {
    let start = match mask.separator() {
        None => 0,
        Some(separator) => value.iter().position(|byte| *byte == separator)? + 1,
    };
    let secret = &value[start..];
    (!scan::is_harmless(secret, shell)).then(|| [&value[..start], rules::MASK].concat())
}

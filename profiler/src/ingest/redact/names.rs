//! What the name of an option, a variable, a header or a key tells of its value.

use super::rules::{
    FINAL_WORDS, LAST_WORD_ENDS, LAST_WORDS, Mask, NO_SECRETS, OTHER_WORDS, PARTS, SWITCHES, WORD_ENDS, WORDS,
};

/// Longest key looked at, bytes from its end.
const LONGEST_KEY: usize = 128;

/// Lower case, `_` for `-`, `.`, `:` and `/` and between the words of camelCase.
pub(super) fn normalized(key: &[u8]) -> Vec<u8> {
    let key = &key[key.len().saturating_sub(LONGEST_KEY)..];
    let mut out = Vec::with_capacity(key.len() + 8);
    let mut small = false;
    for byte in key {
        if small && byte.is_ascii_uppercase() {
            out.push(b'_');
        }
        small = byte.is_ascii_lowercase();
        out.push(match byte {
            b'-' | b'.' | b':' | b'/' => b'_',
            byte => byte.to_ascii_lowercase(),
        });
    }
    let dashes = out.iter().take_while(|byte| **byte == b'_').count();
    out.drain(..dashes);
    out
}

/// Whether `key` (an option with or without its dashes, a variable, a header) names a secret.
pub(super) fn is_secret(key: &[u8]) -> bool {
    let key = normalized(key);
    let begins = |list: &[&str], word: &[u8]| list.iter().any(|start| word.starts_with(start.as_bytes()));
    let ends = |list: &[&str], word: &[u8]| list.iter().any(|end| word.ends_with(end.as_bytes()));
    let words: Vec<&[u8]> = key
        .split(|byte| *byte == b'_')
        .filter(|word| !begins(OTHER_WORDS, word))
        .collect();
    let last = words.last().copied().unwrap_or_default();
    if is_in(NO_SECRETS, &key) || is_in(LAST_WORDS, last) || ends(LAST_WORD_ENDS, last) {
        return false;
    }
    let key = words.join(&b'_');
    is_in(FINAL_WORDS, last)
        || words.iter().any(|word| is_in(WORDS, word) || ends(WORD_ENDS, word))
        || PARTS
            .iter()
            .any(|part| key.windows(part.len()).any(|window| window == part.as_bytes()))
}

/// Whether `word` is one of `list`.
pub(super) fn is_in(list: &[&str], word: &[u8]) -> bool {
    list.iter().any(|other| other.as_bytes() == word)
}

/// Whether `key` is a single word that prose begins with as well: `auth: remove a check`.
pub(super) fn is_weak(key: &[u8]) -> bool {
    let key = normalized(key);
    is_in(WORDS, &key) || is_in(FINAL_WORDS, &key)
}

/// Whether the option `name` takes no value.
pub(super) fn is_switch(name: &[u8]) -> bool {
    let name = normalized(name);
    let mut words = name.split(|byte| *byte == b'_');
    words.next().is_some_and(|first| is_in(SWITCHES, first)) || words.any(|word| word == b"no")
}

/// Which part of the value of `key` is secret: `--creds` and its kin take `user:password`.
pub(super) fn mask_of(key: &[u8]) -> Mask {
    match key.ends_with(b"creds") {
        true => Mask::AfterColon,
        false => Mask::All,
    }
}

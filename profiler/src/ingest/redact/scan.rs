//! Finds secrets within one argument: `KEY=value`, `Header: value`, `"key": "value"`, credentials in URLs, tokens
//! that are known by their look, private keys.

use std::ops::Range;

use super::names;
use super::rules::{self, Body, MASK, Mask};

/// Where the argument stands.
#[derive(Clone, Copy)]
pub(super) struct Context {
    /// In a command line: a value ends at the blank.
    pub(super) shell: bool,
    /// Among a container engine's arguments.
    pub(super) engine: bool,
}

/// More than the longest of [`rules::SCHEMES`], bytes.
const LONGEST_SCHEME: usize = 16;

const PEM_BEGIN: &[u8] = b"-----BEGIN ";
const PEM_END: &[u8] = b"-----END ";

/// `bytes` with its secrets masked; `None` when there are none. One pass: what is masked is not looked at again.
pub(super) fn scan(bytes: &[u8], context: Context) -> Option<Vec<u8>> {
    let mut finder = Finder {
        bytes,
        context,
        head: 0,
        inseparable: 0,
    };
    let mut out = Vec::new();
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        let Some(secret) = finder.at(at) else {
            at += 1;
            continue;
        };
        // What lies before `done` has been masked already.
        let start = secret.start.max(done);
        at = secret.end.max(at + 1);
        if secret.end <= start || &bytes[start..secret.end] == MASK {
            continue;
        }
        out.extend_from_slice(&bytes[done..start]);
        out.extend_from_slice(MASK);
        done = secret.end;
    }
    (done > 0).then(|| {
        out.extend_from_slice(&bytes[done..]);
        out
    })
}

/// Whether a value gives nothing away: a known word, what is masked, or, in a command line, a variable.
pub(super) fn is_harmless(value: &[u8], shell: bool) -> bool {
    value == MASK
        || (shell && is_variable(value))
        || rules::HARMLESS
            .iter()
            .any(|word| value.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether `value` begins with what a shell would replace.
fn is_variable(value: &[u8]) -> bool {
    matches!(value, [b'$' | b'`', ..] | [b'"', b'$' | b'`', ..])
}

/// Whether `name` consists of what keys consist of.
pub(super) fn is_key(name: &[u8]) -> bool {
    name.iter().all(|byte| is_key_byte(*byte))
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
thread_local! {
    /// Bytes looked at by the searches below, for the test that their sum is linear.
    pub(super) static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts what a search has looked at, in tests; gives it back.
fn counted(bytes: usize) -> usize {
    #[cfg(test)]
    LOOKED_AT.set(LOOKED_AT.get() + bytes + 1);
    bytes
}

struct Finder<'a> {
    bytes: &'a [u8],
    context: Context,
    /// Where the argument's value begins: behind `--env=` of `--env=PASSWORD=x`.
    head: usize,
    /// Up to here no separator was found, so that it is not looked for again and again.
    inseparable: usize,
}

impl Finder<'_> {
    /// The secret that the byte at `at` betrays.
    fn at(&mut self, at: usize) -> Option<Range<usize>> {
        match self.bytes[at] {
            b'=' => self.assignment(at),
            b':' => self.header(at).or_else(|| self.url(at)),
            b'-' if self.bytes[at..].starts_with(PEM_BEGIN) => self.private_key(at),
            _ => self.token(at),
        }
    }

    /// The key that ends before `end`.
    fn key_before(&self, end: usize) -> Range<usize> {
        let len = self.bytes[..end]
            .iter()
            .rev()
            .take_while(|byte| is_key_byte(**byte))
            .count();
        end - counted(len)..end
    }

    /// `KEY=value`
    fn assignment(&mut self, at: usize) -> Option<Range<usize>> {
        let key = self.key_before(at);
        let is_first = key.start == self.head;
        let value = at + 1;
        let name = &self.bytes[key.clone()];
        if !names::is_secret(name) || self.is_engine_secret(name) {
            if is_first {
                self.head = value;
            }
            return None;
        }
        let mask = names::mask_of(name);
        if mask == Mask::All && self.is_variable(value) {
            return None;
        }
        let end = match (
            self.bytes.get(value),
            key.start.checked_sub(1).map(|before| self.bytes[before]),
        ) {
            _ if is_first && !self.context.shell => self.bytes.len(),
            (Some(quote @ (b'"' | b'\'')), _) => return self.quoted(value, *quote),
            (Some(b'\\'), _) if self.bytes.get(value + 1) == Some(&b'"') => return self.quoted(value + 1, b'"'),
            (_, Some(quote @ (b'"' | b'\''))) => self.until(value, &[quote]),
            (_, Some(b'?' | b'&')) => self.until(value, b"&#\"' \t\n"),
            (_, Some(separator @ (b',' | b';'))) => self.until(value, &[separator, b'"', b'\'', b' ', b'\n']),
            _ if self.context.shell => self.until(value, b" \t\n;|&)"),
            _ => self.until(value, b" \t\n"),
        };
        let Some(separator) = mask.separator() else {
            return (!is_harmless(&self.bytes[value..end], self.context.shell)).then_some(value..end);
        };
        if value < self.inseparable {
            return None;
        }
        let Some(len) = self.bytes[value..end].iter().position(|byte| *byte == separator) else {
            self.inseparable = value + counted(end - value);
            return None;
        };
        let start = value + len + 1;
        // An empty secret where there is none, so that its bytes are not looked at once more.
        match is_harmless(&self.bytes[start..end], self.context.shell) {
            true => Some(end..end),
            false => Some(start..end),
        }
    }

    /// To be asked before a value's end is looked for: what is not masked is scanned again.
    fn is_variable(&self, value: usize) -> bool {
        self.context.shell && is_variable(&self.bytes[value.min(self.bytes.len())..])
    }

    fn is_engine_secret(&self, name: &[u8]) -> bool {
        self.context.engine && name == rules::ENGINE_SECRET
    }

    /// `Header: value`, or `"key": "value"`.
    fn header(&self, at: usize) -> Option<Range<usize>> {
        let quotes = self.bytes[..at]
            .iter()
            .rev()
            .take(2)
            .take_while(|byte| matches!(byte, b'"' | b'\'' | b'\\'))
            .count();
        let key = self.key_before(at - quotes);
        let name = &self.bytes[key.clone()];
        let before = key.start.checked_sub(1).map(|before| self.bytes[before]);
        // `https://private-token:x@host` is an URL's business.
        if name.is_empty() || before == Some(b'/') {
            return None;
        }
        let blanks = self.bytes[at + 1..]
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        let mut value = at + 1 + blanks;
        if quotes > 0 {
            return if names::is_secret(name) {
                self.json_value(value)
            } else {
                None
            };
        }
        let normal = names::normalized(name);
        let is_known = rules::HEADERS.iter().any(|header| normal.ends_with(header.as_bytes()));
        let begins = matches!(before, None | Some(b'"' | b'\'' | b'=' | b'\n'));
        let names_one = || names::is_secret(name) && !names::is_weak(name);
        if !(is_known || (blanks > 0 && begins && names_one())) {
            return None;
        }
        // `Bearer x`: the scheme stays.
        let rest = &self.bytes[value..];
        let scheme = rest
            .iter()
            .take(LONGEST_SCHEME)
            .position(u8::is_ascii_whitespace)
            .unwrap_or(0);
        if names::is_in(rules::SCHEMES, &rest[..scheme].to_ascii_lowercase()) {
            value += scheme + 1;
        }
        if self.is_variable(value) {
            return None;
        }
        let end = match before {
            Some(quote @ (b'"' | b'\'')) => self.until(value, &[quote, b'\n']),
            None if !self.context.shell => self.until(value, b"\n"),
            _ => self.until(value, b"\"'\n"),
        };
        let rest = &self.bytes[value..end];
        // A scheme alone: the secret is another word, masked before.
        let is_scheme = rest.len() < LONGEST_SCHEME && names::is_in(rules::SCHEMES, &rest.to_ascii_lowercase());
        (!is_scheme && !is_harmless(rest, self.context.shell)).then_some(value..end)
    }

    fn json_value(&self, value: usize) -> Option<Range<usize>> {
        let escape = usize::from(self.bytes.get(value) == Some(&b'\\'));
        if let Some(quote @ (b'"' | b'\'')) = self.bytes.get(value + escape) {
            return self.quoted(value + escape, *quote);
        }
        if self.is_variable(value) {
            return None;
        }
        let end = self.until(value, b",}] \t\n");
        (!is_harmless(&self.bytes[value..end], self.context.shell)).then_some(value..end)
    }

    /// The inside of the quotes that open at `open`.
    fn quoted(&self, open: usize, quote: u8) -> Option<Range<usize>> {
        // Quotes that are escaped themselves close with the next escaped one.
        let end = match open > 0 && self.bytes[open - 1] == b'\\' {
            true => self.bytes[open + 1..]
                .windows(2)
                .position(|pair| pair == [b'\\', quote])
                .map_or(self.bytes.len(), |len| open + 1 + counted(len)),
            false => self.until(open + 1, &[quote]),
        };
        let inside = &self.bytes[open + 1..end];
        (!is_harmless(inside, self.context.shell && quote == b'"')).then_some(open + 1..end)
    }

    /// The password of `scheme://user:password@host`, whose colon stands at `at`.
    fn url(&self, at: usize) -> Option<Range<usize>> {
        let start = at + 3;
        let rest = self
            .bytes
            .get(start..)
            .filter(|_| self.bytes[at..].starts_with(b"://"))?;
        let authority = &rest[..rest
            .iter()
            .position(|byte| b"/?#\"'<>` \t\n".contains(byte))
            .unwrap_or(rest.len())];
        counted(authority.len());
        let host = authority.iter().rposition(|byte| *byte == b'@')?;
        let password = authority[..host].iter().position(|byte| *byte == b':')? + 1;
        let secret = start + password..start + host;
        (!is_harmless(&self.bytes[secret.clone()], self.context.shell)).then_some(secret)
    }

    /// A token known by its look, which begins at `at`.
    fn token(&self, at: usize) -> Option<Range<usize>> {
        if at > 0 && is_token_byte(self.bytes[at - 1]) {
            return None;
        }
        let rest = &self.bytes[at..];
        let shape = rules::SHAPES
            .iter()
            .find(|shape| rest.starts_with(shape.prefix.as_bytes()))?;
        let body = &rest[shape.prefix.len()..];
        let word = |bytes: &[u8]| counted(bytes.iter().take_while(|byte| is_token_byte(**byte)).count());
        let mut len = match shape.body {
            Body::Capitals => body
                .iter()
                .take_while(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
                .count(),
            _ => word(body),
        };
        let is_mixed = |part: &[u8]| part.iter().any(u8::is_ascii_digit) && part.iter().any(u8::is_ascii_uppercase);
        if len < shape.least || (shape.body == Body::Mixed && !is_mixed(&body[..len])) {
            return None;
        }
        if shape.body == Body::Jwt {
            for _ in 0..2 {
                if body.get(len) == Some(&b'.') {
                    len += 1 + word(&body[len + 1..]);
                }
            }
            // A dot and something after it, or it is just a word that begins so.
            body[..len].contains(&b'.').then_some(())?;
        }
        let start = at + counted(shape.prefix.len());
        Some(start..start + len)
    }

    /// From the line after `-----BEGIN … PRIVATE KEY-----` to the line of its end.
    fn private_key(&self, at: usize) -> Option<Range<usize>> {
        let rest = &self.bytes[at..];
        let title = PEM_BEGIN.len()
            + rest[PEM_BEGIN.len()..]
                .windows(5)
                .take(64)
                .position(|w| w == b"-----")?;
        rest[..title].ends_with(b"PRIVATE KEY").then_some(())?;
        let start = at + title + 5;
        let len = self.bytes[start..]
            .windows(PEM_END.len())
            .position(|window| window == PEM_END);
        Some(start..len.map_or(self.bytes.len(), |len| start + counted(len)))
    }

    /// The first of `ends` from `start` on, escaped ones aside; the argument's end when there is none.
    fn until(&self, start: usize, ends: &[u8]) -> usize {
        let mut at = start;
        while let Some(byte) = self.bytes.get(at) {
            match byte {
                b'\\' if self.context.shell || ends.len() == 1 => at += 2,
                byte if ends.contains(byte) => break,
                _ => at += 1,
            }
        }
        start + counted(at.min(self.bytes.len()) - start)
    }
}

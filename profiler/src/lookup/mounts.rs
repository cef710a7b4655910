//! `/proc/PID/mountinfo`, as far as files are found by it.

use std::io::{BufRead, BufReader, Read};

/// Longest mountinfo read, bytes: a host with 10,000 mounts of 400 bytes.
const MAX_MOUNTINFO: u64 = 4 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its number, while it is there.
    pub id: u64,
    /// `major << 20 | minor`
    pub dev: u32,
    /// Where it is mounted, as the namespace sees it.
    pub point: Vec<u8>,
    pub fstype: Vec<u8>,
    /// Options of the file system (not of the mount).
    pub options: Vec<u8>,
}

/// The mounts of a process' namespace; `who` is a process id or `self`. Empty when the process is gone.
pub fn mounts_of(who: &str) -> Vec<Mount> {
    let Ok(file) = std::fs::File::open(format!("/proc/{who}/mountinfo")) else {
        return Vec::new();
    };
    BufReader::new(file.take(MAX_MOUNTINFO))
        .split(b'\n')
        .map_while(Result::ok)
        .filter_map(|line| parse(&line))
        .collect()
}

/// Reads a line: `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let (major, minor) = std::str::from_utf8(fields.nth(1)?).ok()?.split_once(':')?;
    let dev = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()? & 0xf_ffff;
    let point = unescape(fields.nth(1)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fstype = fields.next()?.to_vec();
    let options = unescape(fields.nth(1)?);
    Some(Mount {
        id,
        dev,
        point,
        fstype,
        options,
    })
}

/// Undoes the kernel's `\040` (`mangle_path`).
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        match digits {
            Some(digits) if byte == b'\\' => {
                out.push(
                    digits
                        .iter()
                        .fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
                );
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a line with optional fields and escapes is read, and garbage is not.
    #[test]
    fn lines() {
        let line = b"36 35 0:39 / /a\\040b rw shared:1 master:2 - overlay overlay rw,lowerdir=/x\\134:y";
        let mount = parse(line).unwrap();
        assert_eq!((mount.id, mount.dev), (36, 39));
        assert_eq!((&mount.point[..], &mount.fstype[..]), (&b"/a b"[..], &b"overlay"[..]));
        assert_eq!(&mount.options[..], b"rw,lowerdir=/x\\:y");
        assert_eq!(parse(b"36 35 98:0 /mnt1 /mnt2 rw"), None);
        assert_eq!(parse(b""), None);
    }

    /// Make sure that this process has a root mount.
    #[test]
    fn own_mounts() {
        assert!(mounts_of("self").iter().any(|mount| mount.point == b"/"));
        assert!(mounts_of("0").is_empty());
    }
}

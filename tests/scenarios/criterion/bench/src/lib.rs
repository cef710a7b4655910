//! Fields of fixed-width records as mainframes write them: zoned decimals (`PIC S9(9) DISPLAY`, a byte a digit) and packed
//! decimals (`PIC S9(9) COMP-3`, two digits a byte).

use std::str::FromStr;

/// How a number is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Display,
    Comp3,
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        match name {
            "display" => Ok(Kind::Display),
            "comp3" => Ok(Kind::Comp3),
            _ => Err(format!("neither display nor comp3: {name:?}")),
        }
    }
}

impl Kind {
    /// Bytes of a field.
    pub fn width(self) -> usize {
        match self {
            Kind::Display => 9,
            Kind::Comp3 => 5,
        }
    }

    /// As many fields as fit into `bytes`: the same in every run.
    pub fn fields(self, bytes: usize) -> Vec<u8> {
        let mut data = Vec::with_capacity(bytes);
        let mut state = 1_u64;
        while data.len() + self.width() <= bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let digits = format!("{:09}", (state >> 33) % 1_000_000_000);
            let sign = if state >> 63 == 0 { 0xC } else { 0xD };
            let digits = digits.bytes().map(|digit| digit & 0xF);
            match self {
                Kind::Display => {
                    data.extend(digits.map(|digit| 0xF0 | digit));
                    if let Some(last) = data.last_mut() {
                        *last = sign << 4 | *last & 0xF;
                    }
                }
                Kind::Comp3 => {
                    let nibbles: Vec<u8> = digits.chain([sign]).collect();
                    data.extend(nibbles.chunks(2).map(|pair| pair[0] << 4 | pair[1]));
                }
            }
        }
        data
    }

    /// Numbers of all fields; `None` when one is no number.
    pub fn decode(self, data: &[u8], numbers: &mut Vec<i64>) -> Option<()> {
        numbers.clear();
        let number = match self {
            Kind::Display => display,
            Kind::Comp3 => comp3,
        };
        for field in data.chunks(self.width()) {
            numbers.push(number(field)?);
        }
        Some(())
    }
}

/// A zoned decimal: a digit in each byte's lower half, the sign in the last one's upper half.
#[inline(never)]
fn display(field: &[u8]) -> Option<i64> {
    let (last, front) = field.split_last()?;
    if front.iter().any(|byte| byte >> 4 != 0xF) {
        return None;
    }
    number(field.iter().map(|byte| byte & 0xF), last >> 4)
}

/// A packed decimal: a digit in each half of a byte, the sign in the last one.
#[inline(never)]
fn comp3(field: &[u8]) -> Option<i64> {
    let (last, front) = field.split_last()?;
    let digits = front.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    number(digits.chain([last >> 4]), last & 0xF)
}

/// What digits and a sign come to.
#[cfg(feature = "direct")]
fn number(digits: impl Iterator<Item = u8>, sign: u8) -> Option<i64> {
    let mut value = 0;
    for digit in digits {
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    match sign {
        0xC | 0xF => Some(value),
        0xD => Some(-value),
        _ => None,
    }
}

/// What digits and a sign come to.
#[cfg(not(feature = "direct"))]
fn number(digits: impl Iterator<Item = u8>, sign: u8) -> Option<i64> {
    let mut text = String::new();
    match sign {
        0xC | 0xF => {}
        0xD => text.push('-'),
        _ => return None,
    }
    for digit in digits {
        text.push(char::from_digit(u32::from(digit), 10)?);
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that digits and signs are read, and nothing else.
    #[test]
    fn fields() {
        assert_eq!(display(b"\xF0\xF1\xF2\xF3\xF4\xF5\xF6\xF7\xC8"), Some(12_345_678));
        assert_eq!(display(b"\xF0\xF1\xF2\xF3\xF4\xF5\xF6\xF7\xD8"), Some(-12_345_678));
        assert_eq!(display(b"\xF0\xF1\xF2\xF3\xF4\xF5\xF6\xF7\x08"), None);
        assert_eq!(display(b"\xF0\xF1\xF2\xFA\xF4\xF5\xF6\xF7\xF8"), None);
        assert_eq!(comp3(b"\x01\x23\x45\x67\x8C"), Some(12_345_678));
        assert_eq!(comp3(b"\x01\x23\x45\x67\x8D"), Some(-12_345_678));
        assert_eq!(comp3(b"\x01\xA3\x45\x67\x8D"), None);
        assert_eq!(comp3(b"\x01\x23\x45\x67\x89"), None);
    }

    /// Make sure that what is made for the benchmarks is whole, and the same numbers either way.
    #[test]
    fn made() {
        let (mut display, mut comp3) = (Vec::new(), Vec::new());
        Kind::Display
            .decode(&Kind::Display.fields(9_000), &mut display)
            .unwrap();
        Kind::Comp3.decode(&Kind::Comp3.fields(5_000), &mut comp3).unwrap();
        assert_eq!(display.len(), 1_000);
        assert_eq!(display, comp3);
        assert!(display.iter().any(|number| *number < 0));
    }
}

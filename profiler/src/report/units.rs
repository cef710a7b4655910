//! Numbers for people: times, sizes, shares and counts, each in one way only.

/// A time, ns, with three significant digits: `850 ns`, `12.3 ms`, `1.24 s`, `2 min 03 s`, `1 h 02 min`.
pub fn time(ns: u64) -> String {
    // Rounding up to the next unit is decided on the rounded figure: 999.7 µs is `1.00 ms`, not `1000 µs`.
    if ns < 1_000 {
        return format!("{ns} ns");
    }
    for (unit, size) in [("µs", 1e3), ("ms", 1e6), ("s", 1e9)] {
        let value = ns as f64 / size;
        let limit = if unit == "s" { 99.95 } else { 999.5 };
        if value < limit {
            return format!("{} {unit}", three_digits(value));
        }
    }
    let seconds = ns.saturating_add(500_000_000) / 1_000_000_000;
    match seconds {
        ..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A [`time`] in a table, where nothing is a dot: what there is stands out.
pub fn cell(ns: u64) -> String {
    if ns == 0 { "·".to_owned() } else { time(ns) }
}

/// A size in bytes, decimal units as disks and networks are sold: `512 B`, `3.4 MB`.
pub fn bytes(bytes: u64) -> String {
    if bytes < 1_000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    for unit in ["kB", "MB", "GB", "TB", "PB"] {
        value /= 1e3;
        if value < 99.95 {
            return format!("{value:.1} {unit}");
        }
        if value < 999.5 {
            return format!("{value:.0} {unit}");
        }
    }
    format!("{:.0} EB", value / 1e3)
}

/// `part` of `whole` as a share. Never rounds something to nothing nor most to all: `<0.1 %`, `>99.9 %`.
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "–".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if part == 0 {
        "0 %".to_owned()
    } else if part == whole {
        "100 %".to_owned()
    } else if percent < 0.05 {
        "<0.1 %".to_owned()
    } else if part < whole && percent >= 99.95 {
        ">99.9 %".to_owned()
    } else {
        format!("{percent:.1} %")
    }
}

/// A count with its thousands parted: `1,234,567`.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in a table, where nothing is a dot.
pub fn bytes_cell(size: u64) -> String {
    if size == 0 { "·".to_owned() } else { bytes(size) }
}

/// A count in a table, where nothing is a dot.
pub fn count_cell(number: u64) -> String {
    if number == 0 { "·".to_owned() } else { count(number) }
}

/// `1 process`, `2,000 processes`.
pub fn of(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that every time has three digits and its unit, across the edges where rounding changes the unit.
    #[test]
    fn times() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_499, "999 µs"),
            (999_700, "1.00 ms"),
            (9_994_000, "9.99 ms"),
            (9_996_000, "10.0 ms"),
            (99_960_000, "100 ms"),
            (1_240_000_000, "1.24 s"),
            (99_940_000_000, "99.9 s"),
            (99_960_000_000, "1 min 40 s"),
            (123_000_000_000, "2 min 03 s"),
            (3_599_600_000_000, "1 h 00 min"),
            (3_725_000_000_000, "1 h 02 min"),
        ] {
            assert_eq!(time(ns), text, "{ns}");
        }
        assert!(time(u64::MAX).contains(" h "));
    }

    /// Make sure that sizes are decimal and change unit before they grow a fourth digit.
    #[test]
    fn sizes() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (3_400_000, "3.4 MB"),
            (99_960, "100 kB"),
            (999_600, "1.0 MB"),
            (64 << 20, "67.1 MB"),
        ] {
            assert_eq!(bytes(size), text, "{size}");
        }
        assert_eq!(bytes(u64::MAX), "18 EB");
    }

    /// Make sure that a share is never shown as none or all unless it is.
    #[test]
    fn shares() {
        for (part, whole, text) in [
            (0, 10, "0 %"),
            (1, 100_000, "<0.1 %"),
            (973, 1000, "97.3 %"),
            (99_999, 100_000, ">99.9 %"),
            (10, 10, "100 %"),
            (3, 0, "–"),
            (250, 100, "250.0 %"),
        ] {
            assert_eq!(share(part, whole), text, "{part}/{whole}");
        }
    }

    /// Make sure that thousands are parted from the right.
    #[test]
    fn counts() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_000), "1,000");
        assert_eq!(count(12_345_678), "12,345,678");
        assert_eq!(of(1, "process", "processes"), "1 process");
        assert_eq!(of(0, "process", "processes"), "0 processes");
    }
}

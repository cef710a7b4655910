//! Engines' times: `2026-11-21T10:00:00.123456789Z`, or with an offset `+01:00`.

/// ns since 1970.
pub(crate) fn ns(text: &str) -> u64 {
    let number = |text: &str| -> u64 { text.parse().unwrap_or_else(|_| panic!("{text:?} of a time")) };
    let (date, time) = text.split_once('T').unwrap();
    let mut date = date.split('-').map(number);
    let (year, month, day) = (date.next().unwrap(), date.next().unwrap(), date.next().unwrap());
    let end = time.find(['Z', '+', '-']).unwrap();
    let (time, zone) = time.split_at(end);
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let seconds = whole.split(':').map(number).fold(0, |sum, part| 60 * sum + part);
    let offset = match zone {
        "Z" => 0,
        zone => {
            let (hours, minutes) = zone[1..].split_once(':').unwrap();
            let offset = (60 * number(hours) + number(minutes)) as i64 * 60;
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    // Howard Hinnant, "chrono-compatible low-level date algorithms", days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year % 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = year / 400 * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = (days * 86_400 + seconds) as i64 - offset;
    seconds as u64 * 1_000_000_000 + number(&format!("{fraction:0<9}"))
}

/// Make sure that times are read as `date -d` reads them.
#[test]
fn times() {
    assert_eq!(ns("1970-01-01T00:00:00Z"), 0);
    assert_eq!(ns("2000-02-29T12:34:56.5Z"), 951_827_696_500_000_000);
    assert_eq!(ns("2026-11-21T10:00:00.123456789Z"), 1_795_255_200_123_456_789);
    assert_eq!(ns("2026-11-21T11:00:00+01:00"), 1_795_255_200_000_000_000);
}

//! Two flamegraphs in one: frames are as wide as in one of two sets of stacks, red where that has more time, blue where it
//! has less. What only the other has is not drawn: each difference is to be looked at from both sides.

use std::collections::BTreeMap;
use std::io;

use super::{Empty, Flame, Kind, Unit, svg};

/// Time by stack, root first, ns, or bytes: the mean of several recordings.
#[derive(Debug)]
pub struct Stacks {
    sums: BTreeMap<Vec<String>, u64>,
    of: u64,
    unit: Unit,
}

impl Stacks {
    /// Without a recording.
    pub fn new(kind: Kind) -> Stacks {
        Stacks {
            sums: BTreeMap::new(),
            of: 0,
            unit: kind.unit(),
        }
    }

    /// Adds what was gathered of a recording. One that has none of this time counts with 0; one that has it, but no samples to
    /// tell what it went on, is left out.
    pub fn add(&mut self, gathered: &Result<Flame, Empty>) {
        let flame = match gathered {
            Ok(flame) => flame,
            Err(Empty::NoTime { .. } | Empty::NoProcess { .. }) => {
                self.of += 1;
                return;
            }
            Err(Empty::NoSamples { .. }) => return,
        };
        self.of += 1;
        for (frames, ns) in flame.stacks() {
            let frames: Vec<String> = frames.map(str::to_owned).collect();
            let sum = self.sums.entry(frames).or_default();
            *sum = sum.saturating_add(ns);
        }
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Recordings that the mean is of.
    pub fn recordings(&self) -> u64 {
        self.of
    }

    /// Mean of a stack, µs or bytes.
    fn mean(&self, frames: &[String]) -> u64 {
        let sum = self.sums.get(frames).copied().unwrap_or(0);
        let of = match self.unit {
            Unit::Time => self.of.max(1).saturating_mul(1_000),
            Unit::Bytes => self.of.max(1),
        };
        sum.saturating_add(of / 2) / of
    }
}

/// Draws `drawn`'s frames with their difference to `other`'s, which are of the same kind. `newer` tells which of the two `drawn`
/// is: red is always what the newer one has more of.
///
/// # Errors
///
/// inferno's; none that depends on the stacks, unless there are none.
pub fn draw(drawn: &Stacks, other: &Stacks, newer: bool, title: &str) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(drawn.sums.len());
    for frames in drawn.sums.keys() {
        let (own, others) = (drawn.mean(frames), other.mean(frames));
        if own > 0 {
            // inferno takes the first count for the older, and the second for the width.
            lines.push(format!("{} {others} {own}", frames.join(";")));
        }
    }
    let (old, new) = if newer { (other, drawn) } else { (drawn, other) };
    let what = match drawn.unit {
        Unit::Time => "time",
        Unit::Bytes => "bytes",
    };
    let subtitle = format!(
        "mean of {} new and {} base recordings; red: more {what} in the new ones, blue: less",
        new.of, old.of
    );
    let mut options = svg::options(title, &subtitle, drawn.unit);
    options.negate_differentials = !newer;
    svg::write(options, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::flame::{Roots, collect};
    use crate::report::select::Selection;

    /// Microseconds, or bytes, by function.
    fn stacks(kind: Kind, entries: &[(&str, u64)]) -> Stacks {
        let mut stacks = Stacks::new(kind);
        let one = if stacks.unit == Unit::Time { 1_000 } else { 1 };
        stacks.of = 1;
        for (name, amount) in entries {
            let frames = vec!["main".to_owned(), (*name).to_owned()];
            stacks.sums.insert(frames, amount * one);
        }
        stacks
    }

    /// Make sure that a frame that got slower is red from both sides, one that got faster blue, and one that is gone is
    /// drawn only from the side that has it.
    #[test]
    fn colours() {
        let old = stacks(Kind::Cpu, &[("slower", 100), ("faster", 500), ("gone", 50)]);
        let new = stacks(Kind::Cpu, &[("slower", 400), ("faster", 200)]);
        let colour = |svg: &str, name: &str| -> [u32; 3] {
            let at = svg.find(&format!("<title>{name} (")).unwrap();
            let rest = &svg[at..];
            let rest = &rest[rest.find("rgb(").unwrap() + 4..];
            let parts: Vec<u32> = rest[..rest.find(')').unwrap()]
                .split(',')
                .map(|part| part.parse().unwrap())
                .collect();
            [parts[0], parts[1], parts[2]]
        };
        for (drawn, other, newer) in [(&new, &old, true), (&old, &new, false)] {
            let svg = String::from_utf8(draw(drawn, other, newer, "t").unwrap()).unwrap();
            let [red, _, blue] = colour(&svg, "slower");
            assert!(red > blue, "slower, newer {newer}");
            let [red, _, blue] = colour(&svg, "faster");
            assert!(blue > red, "faster, newer {newer}");
            assert_eq!(svg.contains("<title>gone"), !newer);
        }
    }

    /// Make sure that the mean of several recordings is drawn, and nothing of a recording gets into the markup.
    #[test]
    fn means() {
        let session = fixture::session();
        let flame = collect(&session, &Selection::all(), Kind::Wall, Roots::default());
        assert!(flame.is_ok());
        let (mut one, mut three) = (Stacks::new(Kind::Wall), Stacks::new(Kind::Wall));
        assert!(one.is_empty());
        one.add(&flame);
        (0..3).for_each(|_| three.add(&flame));
        for frames in one.sums.keys() {
            assert_eq!(one.mean(frames), three.mean(frames));
        }
        let svg = String::from_utf8(draw(&one, &three, true, "a").unwrap()).unwrap();
        assert!(!svg.contains("<img") && !svg.contains("\x1b"));
        assert!(svg.contains("mean of 1 new and 3 base recordings"));
    }

    /// Make sure that bytes are drawn as bytes, all of them, and called so.
    #[test]
    fn bytes() {
        let old = stacks(Kind::Disk, &[("read", 4_096), ("write", 8_192)]);
        let new = stacks(Kind::Disk, &[("read", 4_096), ("write", 12_288)]);
        let svg = String::from_utf8(draw(&new, &old, true, "t").unwrap()).unwrap();
        assert!(svg.contains("<title>read (4,096 bytes, 25.00%; 0.00%)"));
        assert!(svg.contains("<title>write (12,288 bytes, 75.00%; +"));
        assert!(svg.contains("more bytes") && !svg.contains("µs"));
    }

    /// Make sure that a recording without such time counts with 0, and one whose time nobody sampled not at all.
    #[test]
    fn zeros() {
        let session = fixture::session();
        let mut stacks = Stacks::new(Kind::Wall);
        stacks.add(&collect(&session, &Selection::all(), Kind::Wall, Roots::default()));
        let means = |stacks: &Stacks| -> Vec<u64> { stacks.sums.keys().map(|frames| stacks.mean(frames)).collect() };
        let one = means(&stacks);
        stacks.add(&Err(Empty::NoSamples {
            selection: String::new(),
            cpu: String::new(),
            hz: 99,
            every: String::new(),
        }));
        assert_eq!((means(&stacks), stacks.recordings()), (one.clone(), 1));
        stacks.add(&Err(Empty::NoTime {
            kind: "",
            selection: String::new(),
        }));
        stacks.add(&Err(Empty::NoProcess {
            selection: String::new(),
        }));
        assert_eq!(stacks.recordings(), 3);
        for (mean, one) in means(&stacks).into_iter().zip(one) {
            assert!(mean.abs_diff(one / 3) <= 1, "{mean} of {one}");
        }
    }
}

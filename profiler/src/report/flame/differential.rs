//! Two flamegraphs in one: frames are as wide as in one of two sets of stacks, red where that has more time, blue where it
//! has less. What only the other has is not drawn: each difference is to be looked at from both sides.

use std::collections::BTreeMap;
use std::io;

use inferno::flamegraph::color::BackgroundColor;
use inferno::flamegraph::{Options, TextTruncateDirection, from_lines};

use super::Flame;

/// Time by stack, root first, ns: the mean of several flamegraphs.
#[derive(Debug, Default)]
pub struct Stacks {
    sums: BTreeMap<Vec<String>, u64>,
    of: u64,
}

impl Stacks {
    /// Adds one flamegraph's.
    pub fn add(&mut self, flame: &Flame) {
        self.of += 1;
        for (frames, ns) in flame.stacks() {
            let frames: Vec<String> = frames.map(str::to_owned).collect();
            let sum = self.sums.entry(frames).or_default();
            *sum = sum.saturating_add(ns);
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Mean of a stack, µs.
    fn mean(&self, frames: &[String]) -> u64 {
        let ns = self.sums.get(frames).copied().unwrap_or(0);
        (ns / self.of.max(1) + 500) / 1_000
    }
}

/// Draws `drawn`'s frames with their difference to `other`'s. `newer` tells which of the two `drawn` is: red is always what
/// the newer one has more of.
///
/// # Errors
///
/// inferno's; none that depends on the stacks, unless there are none.
pub fn draw(drawn: &Stacks, other: &Stacks, newer: bool, title: &str, subtitle: &str) -> io::Result<Vec<u8>> {
    let mut lines = Vec::with_capacity(drawn.sums.len());
    for frames in drawn.sums.keys() {
        let (own, others) = (drawn.mean(frames), other.mean(frames));
        if own > 0 {
            // inferno takes the first count for the older, and the second for the width.
            lines.push(format!("{} {others} {own}", frames.join(";")));
        }
    }
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    options.subtitle = Some(subtitle.to_owned());
    "µs".clone_into(&mut options.count_name);
    options.font_width = 0.61;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.text_truncate_direction = TextTruncateDirection::Right;
    options.negate_differentials = !newer;
    // As in `svg`: lines in the order of their frames.
    options.flame_chart = true;
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().rev().map(String::as_str), &mut svg)?;
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;
    use crate::report::flame::{Kind, Roots, collect};
    use crate::report::select::Selection;

    /// Make sure that a frame that got slower is red from both sides, one that got faster blue, and one that is gone is
    /// drawn only from the side that has it.
    #[test]
    fn colours() {
        let stacks = |entries: &[(&str, u64)]| Stacks {
            sums: entries
                .iter()
                .map(|(name, us)| (vec!["main".to_owned(), (*name).to_owned()], us * 1_000))
                .collect(),
            of: 1,
        };
        let old = stacks(&[("slower", 100), ("faster", 500), ("gone", 50)]);
        let new = stacks(&[("slower", 400), ("faster", 200)]);
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
            let svg = String::from_utf8(draw(drawn, other, newer, "t", "s").unwrap()).unwrap();
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
        let flame = collect(&session, &Selection::all(), Kind::Wall, Roots::default()).unwrap();
        let (mut one, mut three) = (Stacks::default(), Stacks::default());
        assert!(one.is_empty());
        one.add(&flame);
        (0..3).for_each(|_| three.add(&flame));
        for frames in one.sums.keys() {
            assert_eq!(one.mean(frames), three.mean(frames));
        }
        let svg = String::from_utf8(draw(&one, &three, true, "a", "b").unwrap()).unwrap();
        assert!(!svg.contains("<img") && !svg.contains("\x1b"));
    }
}

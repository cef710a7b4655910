//! The picture, by inferno. Markup in names is escaped by inferno's XML writer.

use std::io;

use inferno::flamegraph::color::{BackgroundColor, Color, PaletteMap};
use inferno::flamegraph::{Direction, Options, TextTruncateDirection, from_lines};

use super::frames::Category;
use super::{Flame, Unit};

/// Draws folded lines that are sorted by frame.
pub(super) fn draw(flame: &Flame, lines: &[String], reverse: bool) -> io::Result<Vec<u8>> {
    let mut palette = PaletteMap::default();
    for (name, category) in &flame.colors {
        palette.insert(name, color(name, *category));
    }
    // The root, which inferno adds.
    palette.insert("", Color { r: 205, g: 205, b: 205 });
    let mut options = options(&flame.title, &flame.subtitle, flame.unit);
    options.palette_map = Some(&mut palette);
    if reverse {
        options.direction = Direction::Inverted;
    }
    write(options, lines)
}

/// What all flamegraphs have in common.
pub(super) fn options<'a>(title: &str, subtitle: &str, unit: Unit) -> Options<'a> {
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    options.subtitle = Some(subtitle.to_owned());
    let unit = match unit {
        Unit::Time => "µs",
        Unit::Bytes => "bytes",
    };
    unit.clone_into(&mut options.count_name);
    "Frame:".clone_into(&mut options.name_type);
    // inferno's 0.59 em is narrower than most fixed-width fonts (DejaVu Sans Mono: 0.602), and names run out of frames.
    options.font_width = 0.61;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.text_truncate_direction = TextTruncateDirection::Right;
    // inferno sorts lines by character, which tears frames apart where one name begins another (`;` sorts after `-`),
    // and refuses lines in any other order. Its flame charts take lines as they are, backwards.
    options.flame_chart = true;
    options
}

/// The picture of folded lines that are sorted by frame.
pub(super) fn write(mut options: Options<'_>, lines: &[String]) -> io::Result<Vec<u8>> {
    let mut svg = Vec::new();
    from_lines(&mut options, lines.iter().rev().map(String::as_str), &mut svg)?;
    Ok(svg)
}

/// The category's colour, a little lighter or darker by name, always the same for a name.
fn color(name: &str, category: Category) -> Color {
    let [r, g, b] = match category {
        Category::User => [232, 118, 96],
        Category::Kernel => [240, 172, 72],
        Category::Synthetic => [196, 188, 208],
        Category::Process | Category::Thread => [126, 190, 164],
        Category::Lifecycle => [150, 178, 214],
    };
    // FNV-1a: spread is all that is asked of it.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let shift = (hash >> 16) % 31;
    let shade = |channel: u8| {
        u8::try_from(u32::from(channel) + shift)
            .unwrap_or(u8::MAX)
            .saturating_sub(12)
    };
    Color {
        r: shade(r),
        g: shade(g),
        b: shade(b),
    }
}

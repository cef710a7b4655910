//! `layers`: what each container read, wrote and copied up of each layer of its root file system.

mod lists;

pub(in crate::report) use lists::{CALLS, CALLS_DETAIL, call_cells, file};

use super::page::{Page, Paint, Style, column_widths};
use crate::attribute::layers::{CopyUp, FileCalls, FileUse, Stack, Table, Use};
use crate::attribute::{calls, layers};
use crate::model::disk::{self, magic};
use crate::model::share::sum;
use crate::model::{ContainerIx, Session};
use crate::recording::record::Role;
use crate::report::select::{self, NoMatch, Query};
use crate::report::{names, text, units};

/// Rows of a table's head, and what they mean.
const COLUMNS: [&str; 7] = ["size", "opened", "cold", "share", "written", "copied", "stall"];
/// Behind the others where calls are told, and what it means.
const READ: &str = "read";
const NOTE_READ: &str = "read: bytes that calls read, cold or not";
const NOTE: &str = "opened: files of the mount; cold: bytes read that were not in the page cache, which all containers \
                    share; share: of the layer's size, each file once; copied: files copied up from this layer, and how \
                    long that stalled";

/// Of copy-ups that no function of the overlay's brackets.
const NOT_EXACT: &str = "this kernel has no hook on copy-ups: a stall is from the first to the last that was seen of one, and \
                         can have been longer";

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Limits containers.
    pub query: Query,
    /// Copy-ups, files and directories listed.
    pub top: usize,
}

/// The page, lines no wider than the style says.
///
/// # Errors
///
/// No container is what the query asks for.
pub fn render(session: &Session, options: &Options, style: &Style) -> Result<String, NoMatch> {
    let asked = match &options.query.container {
        Some(asked) => Some(select::find_containers(session, asked)?),
        None => None,
    };
    let is_asked = |container: Option<ContainerIx>| match (&asked, container) {
        (None, _) => true,
        (Some(asked), Some(container)) => asked.contains(&container),
        (Some(_), None) => false,
    };
    let mut page = Page::new(*style);
    let table = Table::new(session);
    for why in layers::limits(session) {
        page.paragraph("", Paint::Warn, &why);
    }
    let mut any = false;
    for stack in table.stacks.iter().filter(|stack| is_asked(stack.container)) {
        any = true;
        self::stack(&mut page, session, &table, stack);
    }
    if any {
        let note = if table.full {
            format!("{NOTE}; {NOTE_READ}")
        } else {
            NOTE.to_owned()
        };
        page.paragraph("", Paint::Dim, &note);
    } else {
        page.paragraph("", Paint::Plain, "no root file system made of layers was seen");
    }
    if asked.is_none() {
        deletes(&mut page, &table, None);
        others(&mut page, &table);
    }
    let copied: Vec<&CopyUp> = table.copy_ups.iter().filter(|copy| is_asked(copy.container)).collect();
    copy_ups(&mut page, session, &table, &copied, options.top);
    let files: Vec<&FileUse> = table
        .files
        .iter()
        .filter(|file| is_asked(file.place.container))
        .collect();
    lists::files(&mut page, session, &table, &files, options.top);
    let calls: Vec<&FileCalls> = table
        .calls
        .iter()
        .filter(|calls| is_asked(calls.place.container))
        .collect();
    lists::calls(&mut page, session, &table, &calls, options.top);
    lists::directories(&mut page, session, &table, &files, options.top);
    Ok(page.finish())
}

fn stack(page: &mut Page, session: &Session, table: &Table, stack: &Stack) {
    let (title, detail) = title(session, stack);
    page.heading(&title, &detail);
    if stack.container.is_none() {
        let overlay = &session.overlays[stack.overlay.ix()];
        page.paragraph("at ", Paint::Dim, &text::visible(&overlay.merged));
    }
    let mut labels = vec![String::new()];
    let mut cells = vec![columns(table).map(str::to_owned).collect()];
    let mut paints = vec![Paint::Dim];
    for (label, figures, used) in rows_of(table, stack) {
        labels.push(label);
        cells.push(figures);
        paints.push(if used.is_empty() { Paint::Dim } else { Paint::Plain });
    }
    rows(page, &labels, &cells, &paints);
    if stack.container.is_some() {
        deletes(page, table, stack.container);
    }
    for limit in table.limits(&session.overlays[stack.overlay.ix()]) {
        page.paragraph("", Paint::Warn, limit);
    }
}

fn deletes(page: &mut Page, table: &Table, container: Option<ContainerIx>) {
    if let Some(told) = deleted(table, container) {
        page.paragraph("", Paint::Plain, &told);
    }
}

/// What a container, or none, deleted of lower layers, if anything.
pub(in crate::report) fn deleted(table: &Table, container: Option<ContainerIx>) -> Option<String> {
    let count = table.whiteouts.get(&container)?;
    let names = units::of(*count, "name", "names");
    let by = if container.is_none() {
        " by processes of no container"
    } else {
        ""
    };
    Some(format!(
        "{names} of lower layers deleted{by}: a whiteout for each in the upper layer"
    ))
}

/// Whose root file system it is, and what it is made of.
pub(in crate::report) fn title(session: &Session, stack: &Stack) -> (String, String) {
    let overlay = &session.overlays[stack.overlay.ix()];
    let title = match stack.container {
        Some(ix) => format!("container {}", names::container(session, ix)),
        None => "mount of no container".to_owned(),
    };
    let image = stack
        .container
        .map(|ix| text::visible(&session.containers[ix.ix()].image));
    let mut detail: Vec<String> = image.into_iter().filter(|image| !image.is_empty()).collect();
    detail.push(match &overlay.driver[..] {
        "overlay" => units::of(
            overlay.layers.iter().filter(|layer| layer.role != Role::Upper).count() as u64,
            "lower layer",
            "lower layers",
        ),
        driver => format!(
            "{}: a copy of its own, without layers",
            text::visible(driver.as_bytes())
        ),
    });
    detail.extend(overlay.options.iter().map(|option| text::visible(option)));
    if overlay.left_out > 0 {
        detail.push(format!("{} more layers", units::count(u64::from(overlay.left_out))));
    }
    (title, detail.join(", "))
}

/// Name and figures of each layer, topmost first, and of what lies elsewhere.
pub(in crate::report) fn rows_of(table: &Table, stack: &Stack) -> Vec<(String, Vec<String>, Use)> {
    let mut rows = Vec::with_capacity(stack.rows.len() + 1);
    for row in &stack.rows {
        let layer = table.layers.get(row.layer);
        let mark = match row.role {
            Role::Upper => "up".to_owned(),
            Role::Lower => row.depth.to_string(),
            Role::Data => format!("{} data", row.depth),
        };
        let gone = if layer.ino == 0 { " (not seen)" } else { "" };
        let label = format!("{} {}{gone}", text::right(&mark, 3), names::layer(layer));
        rows.push((label, figures(table, &row.used, layer.size), row.used));
    }
    if !stack.elsewhere.is_empty() {
        let cells = figures(table, &stack.elsewhere, None);
        rows.push(("    elsewhere".to_owned(), cells, stack.elsewhere));
    }
    rows
}

fn rows(page: &mut Page, labels: &[String], cells: &[Vec<String>], paints: &[Paint]) {
    let widths = column_widths(cells);
    let numbers: usize = widths.iter().map(|width| width + 2).sum();
    let longest = labels.iter().map(|label| text::width(label)).max().unwrap_or(0);
    let label = longest.min(page.width().saturating_sub(numbers)).max(8);
    for ((name, cells), paint) in labels.iter().zip(cells).zip(paints) {
        let mut line = text::left(name, label);
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str("  ");
            line.push_str(&text::right(cell, *width));
        }
        page.line(&[(*paint, &line)]);
    }
}

/// Heads of a table's columns.
pub(in crate::report) fn columns(table: &Table) -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().chain(table.full.then_some(READ))
}

fn figures(table: &Table, used: &Use, size: Option<u64>) -> Vec<String> {
    let mut cells = vec![
        size.map_or_else(|| "?".to_owned(), units::bytes),
        units::count_cell(used.opened),
        units::bytes_cell(used.cold),
        match size {
            Some(size) if used.distinct > 0 => units::share(used.distinct.min(size), size),
            _ => "·".to_owned(),
        },
        units::bytes_cell(used.written),
        units::count_cell(used.copy_ups),
        units::cell(used.stall),
    ];
    if table.full {
        cells.push(units::bytes_cell(used.read));
    }
    cells
}

fn others(page: &mut Page, table: &Table) {
    if table.others.is_empty() {
        return;
    }
    page.heading(
        "layers",
        "of no mount of this recording that is still to be told, by processes of no container",
    );
    let mut labels = vec![String::new()];
    let mut cells = vec![columns(table).map(str::to_owned).collect()];
    for (layer, used) in &table.others {
        let layer = table.layers.get(*layer);
        labels.push(names::layer(layer));
        cells.push(figures(table, used, layer.size));
    }
    let paints = vec![Paint::Plain; labels.len()];
    rows(page, &labels, &cells, &paints);
}

fn copy_ups(page: &mut Page, session: &Session, table: &Table, copied: &[&CopyUp], top: usize) {
    if copied.is_empty() {
        return;
    }
    let bytes = sum(copied.iter().map(|copy| copy.bytes));
    let stall = sum(copied.iter().map(|copy| session.copy_ups[copy.ix].span.len()));
    let title = format!(
        "{} of lower layers, {}, {} of stall",
        units::of(copied.len() as u64, "file", "files"),
        units::bytes(bytes),
        units::time(stall)
    );
    page.heading("copy-ups", &title);
    if copied.iter().any(|copy| !session.copy_ups[copy.ix].bracketed) {
        page.paragraph("", Paint::Dim, NOT_EXACT);
    }
    let mut longest = copied.to_vec();
    longest.sort_by_key(|copy| (std::cmp::Reverse(session.copy_ups[copy.ix].span.len()), copy.ix));
    for copy in longest.iter().take(top) {
        let told = &session.copy_ups[copy.ix];
        let label = format!(
            "{} {} ",
            text::right(&units::bytes(copy.bytes), 8),
            text::right(&units::time(told.span.len()), 8)
        );
        page.paragraph(&label, Paint::Plain, &copy_up(session, table, copy));
    }
    lists::more(page, copied.len(), top);
}

/// `/srv/config.bin from layer abababababab, by sh (pid 12): openat, in run of web`: a copy-up without its figures.
pub(in crate::report) fn copy_up(session: &Session, table: &Table, copy: &CopyUp) -> String {
    let told = &session.copy_ups[copy.ix];
    let mut line = match table.path_of(session, copy) {
        path if path.is_empty() => "a file without a name".to_owned(),
        path if told.mode & libc::S_IFMT == libc::S_IFDIR => {
            format!("folder {}", text::fit(&text::visible(&path), 100))
        }
        path => text::fit(&text::visible(&path), 100),
    };
    if let Some(from) = copy.from {
        line.push_str(&format!(" from layer {}", names::layer(table.layers.get(from))));
    }
    if let Some(thread) = told.thread.and_then(|ix| session.threads.get(ix.ix())) {
        let process = &session.processes[thread.process.ix()];
        let name = process.image_at(told.span.from).map_or(&b"?"[..], names::program);
        line.push_str(&format!(
            ", by {} (pid {})",
            text::fit(&text::visible(name), 24),
            process.tgid
        ));
    }
    line.push_str(&format!(": {}", calls::doing(&session.meta.machine, told.syscall)));
    if told.failed {
        line.push_str(", which failed");
    } else if let Some(why) = nothing_copied(session, told) {
        line.push_str(&format!(", {why}"));
    }
    let phase = copy.phase.map(|ix| text::fit(&names::phase(session, ix), 40));
    let container = copy.container.map(|ix| names::container(session, ix));
    match (phase, container) {
        (Some(phase), Some(container)) => line.push_str(&format!("; {phase} of {container}")),
        (Some(one), None) | (None, Some(one)) => line.push_str(&format!("; {one}")),
        (None, None) => {}
    }
    line
}

/// Why no bytes are told of a copy-up of a file that has some.
fn nothing_copied(session: &Session, told: &disk::CopyUp) -> Option<String> {
    // Where no function of the overlay tells of it, all that is known of it are its pages.
    if told.copied > 0 || told.size == 0 || told.mode & libc::S_IFMT != libc::S_IFREG || !told.bracketed {
        return None;
    }
    let upper = told.upper.and_then(|ix| session.files.get(ix.ix()));
    let size = units::bytes(told.size);
    Some(match upper.map(|file| file.magic) {
        Some(magic::TMPFS | magic::RAMFS) => format!("how much of {size} is not told of tmpfs"),
        _ => format!("which shares its {size} with the layer below, or copied what describes it alone"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture::disk::with_disk;

    fn page(width: usize, options: &Options) -> String {
        let style = Style {
            width,
            color: false,
            utf8: true,
        };
        render(&with_disk(), options, &style).unwrap()
    }

    /// Make sure that each layer stands there with its figures, each copy-up with who and why, and files and directories.
    #[test]
    fn figures() {
        let page = page(
            100,
            &Options {
                top: 10,
                ..Options::default()
            },
        );
        let words = page.split_whitespace().collect::<Vec<_>>().join(" ");
        for told in [
            "container buildah-buildah1234567890 docker.io/library/debian:13, 2 lower layers, volatile",
            "up up ? · · · 36.9 kB · ·",
            "1 abababababab 80.0 kB 1 41.0 kB 50.0 % · 1 20.0 ms",
            "(not seen) ? · · · · · ·",
            "copy-ups 1 file of lower layers, 40.0 kB, 20.0 ms of stall",
            "this kernel has no hook on copy-ups",
            "40.0 kB 20.0 ms /lib.so from layer abababababab, by cc1 (pid 104): openat; run of buildah-buildah1234567890",
            "41.0 kB · abababababab:/lib.so (buildah-buildah1234567890)",
            "41.0 kB · 1 abababababab:/",
        ] {
            assert!(words.contains(told), "{told} in\n{page}");
        }
    }

    /// Make sure that what an upper layer's file system keeps from being seen is said, and only where it does; and that of a
    /// copy-up without bytes it is said why.
    #[test]
    fn limits() {
        /// `XFS_SUPER_MAGIC`
        const XFS: u32 = 0x5846_5342;
        let said = |system: u32, rung: &str| {
            let mut session = with_disk();
            session.files.iter_mut().for_each(|file| file.magic = system);
            session.meta.probes.push(("copy_ups".to_owned(), rung.to_owned()));
            if rung == "kprobe" {
                let copy = &mut session.copy_ups[0];
                (copy.bracketed, copy.copied) = (true, 0);
            }
            let style = Style {
                width: 100,
                color: false,
                utf8: true,
            };
            let options = Options {
                top: 10,
                ..Options::default()
            };
            let page = render(&session, &options, &style).unwrap();
            page.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let (limit, shared) = ("the upper layer is", "which shares its 40.0 kB with the layer below");
        assert!(!said(magic::EXT4, "signature").contains(limit));
        assert!(said(XFS, "signature").contains("the upper layer is not on ext4"));
        let hooked = said(XFS, "kprobe");
        assert!(!hooked.contains(limit) && hooked.contains(shared), "{hooked}");
        assert!(said(magic::TMPFS, "signature").contains("nor is what is copied up"));
        let hooked = said(magic::TMPFS, "kprobe");
        assert!(
            hooked.contains("bytes written or copied up to it are not told"),
            "{hooked}"
        );
        assert!(
            hooked.contains("how much of 40.0 kB is not told of tmpfs") && !hooked.contains(shared),
            "{hooked}"
        );
    }

    /// Make sure that no line is wider than it may be, and that no name of a file or a layer is more than text.
    #[test]
    fn lines_fit() {
        for width in 60..=200 {
            for line in page(
                width,
                &Options {
                    top: 1,
                    ..Options::default()
                },
            )
            .lines()
            {
                assert!(text::width(line) <= width, "{width}: {line:?}");
                assert!(!line.contains('\x1b') && !line.contains('\u{202e}'), "{line:?}");
            }
        }
    }

    /// Make sure that one container can be asked for, that another is refused, and that a recording without the signals says
    /// so.
    #[test]
    fn asked_for() {
        let asked = |container: &str| Options {
            query: Query {
                container: Some(container.to_owned()),
                ..Query::default()
            },
            top: 10,
        };
        assert!(page(80, &asked("buildah-buildah1234567890")).contains("abababababab"));
        let style = Style {
            width: 80,
            color: false,
            utf8: true,
        };
        assert!(render(&with_disk(), &asked("other"), &style).is_err());
        let empty = render(&Session::default(), &Options::default(), &style).unwrap();
        let words = empty.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("made without the signals of disks"), "{empty}");
    }
}

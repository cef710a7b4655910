//! Better names for a recording that was made already: from debug information that is here and was not there.
//!
//! A recording holds for each file its build id and segments, and for each frame its place in the file: all that is
//! needed to look it up again, on another machine, years later. What is found is of the same build, or not used.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::lookup::elf::{self, Segment};
use crate::lookup::tree::open_regular;
use crate::model::Session;
use crate::model::stack::Stacks;
use crate::recording::record::{Image, Place, Symbol};
use crate::symbol::debuginfod::{self, Server};
use crate::symbol::inline::Named;
use crate::symbol::sandbox::{Failure, Job, Refusal, Sandbox};

/// Memory of the parser, bytes: whole DWARF sections are in it.
const MEMORY_BYTES: u64 = 4 << 30;
/// Places asked for at a time; a packet has 32 KiB.
const MAX_PLACES: usize = 2500;

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Laid out as `/usr/lib/debug` is, or as the root of the container's file system, or holding the files themselves.
    pub folders: Vec<PathBuf>,
    /// Show functions that the compiler put into others.
    pub inline: bool,
    /// URL of a debuginfod server.
    pub server: Option<String>,
}

impl Options {
    /// Whether the names of the recording suffice.
    pub fn is_nothing(&self) -> bool {
        self.folders.is_empty() && !self.inline && self.server.is_none()
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gain {
    /// Files whose frames were looked up again.
    pub files: usize,
    /// Files of the recording with frames that want better names, and for which nothing was found.
    pub without: usize,
    /// Frames that have another name from there, or inlined functions.
    pub frames: usize,
    /// What went wrong with one of them, in words.
    pub notes: Vec<String>,
}

/// Looks up the frames of `session` again.
///
/// # Errors
///
/// The server's URL is none. What else goes wrong is in [`Gain::notes`].
pub fn improve(session: &mut Session, options: &Options) -> Result<Gain, debuginfod::Error> {
    improve_with(
        session,
        options,
        Sandbox::default().memory(MEMORY_BYTES),
        debuginfod::cache_folder(),
    )
}

/// As [`improve`], with a parser and a folder for what is fetched.
///
/// # Errors
///
/// As [`improve`].
pub fn improve_with(
    session: &mut Session,
    options: &Options,
    mut sandbox: Sandbox,
    cache: PathBuf,
) -> Result<Gain, debuginfod::Error> {
    let mut server = match &options.server {
        Some(url) => Some(Server::new(url, cache)?),
        None => None,
    };
    let mut gain = Gain::default();
    for (id, places) in by_file(&session.stacks) {
        let Some(image) = session.stacks.images.get(&id).cloned() else {
            continue;
        };
        if image.build_id.is_empty() || (image.complete && !options.inline) {
            continue;
        }
        let path = session.stacks.files.get(&id).map(|file| file.path.clone());
        let path = path.unwrap_or_default();
        let mut found = false;
        for candidate in candidates(&image, &path, &options.folders) {
            if let Ok(open) = open_regular(&candidate)
                && look_up(
                    &mut session.stacks,
                    &image,
                    &places,
                    open,
                    options.inline,
                    &mut sandbox,
                    &mut gain,
                )
            {
                found = true;
                break;
            }
        }
        if !found && let Some(asked) = &server {
            match asked.fetch(&image.build_id) {
                Ok(Some(path)) => {
                    if let Ok(open) = File::open(&path) {
                        found = look_up(
                            &mut session.stacks,
                            &image,
                            &places,
                            open,
                            options.inline,
                            &mut sandbox,
                            &mut gain,
                        );
                    }
                }
                Ok(None) => {}
                // It is asked for no other file.
                Err(error) => {
                    gain.notes.push(error.to_string());
                    server = None;
                }
            }
        }
        gain.files += usize::from(found);
        gain.without += usize::from(!found);
    }
    Ok(gain)
}

/// Frames of each file: number and offset in the file.
fn by_file(stacks: &Stacks) -> BTreeMap<u32, Vec<(u32, u64)>> {
    let mut files: BTreeMap<u32, Vec<(u32, u64)>> = BTreeMap::new();
    for (frame, place) in &stacks.frames {
        if let Place::File { file, offset } = place {
            files.entry(*file).or_default().push((*frame, *offset));
        }
    }
    for places in files.values_mut() {
        places.sort_unstable();
    }
    files
}

/// Paths that may hold what is wanted, best first. Parts of them come from the recording: they name files below the
/// folders, of which none but one with the right build id is used, and nothing is written.
fn candidates(image: &Image, path: &[u8], folders: &[PathBuf]) -> Vec<PathBuf> {
    let Some((first, rest)) = image.build_id.split_first() else {
        return Vec::new();
    };
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    let by_id = Path::new(".build-id").join(format!("{first:02x}/{rest}.debug"));
    let debug = Path::new("usr/lib/debug");
    let plain = |path: &[u8]| -> Option<PathBuf> {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        let path = path.strip_prefix("/").unwrap_or(path);
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        inside.then(|| path.to_owned())
    };
    let mut paths = Vec::new();
    let binary = plain(path);
    for folder in folders {
        paths.extend([folder.join(&by_id), folder.join(debug).join(&by_id)]);
        let link = image.link.as_ref().and_then(|(name, _)| plain(name));
        paths.extend(link.map(|name| folder.join(name)));
        if let Some(binary) = &binary {
            paths.push(folder.join(binary));
            paths.extend(binary.file_name().map(|name| folder.join(name)));
        }
    }
    paths.push(Path::new("/").join(debug).join(&by_id));
    paths.extend(binary.map(|binary| Path::new("/").join(binary)));
    paths
}

/// Names the places by one file; whether it is of the same build and has names that are not known.
fn look_up(
    stacks: &mut Stacks,
    image: &Image,
    places: &[(u32, u64)],
    file: File,
    inline: bool,
    sandbox: &mut Sandbox,
    gain: &mut Gain,
) -> bool {
    let segments: Vec<Segment> = image
        .segments
        .iter()
        .map(|segment| Segment {
            offset: segment.offset,
            size: segment.size,
            address: segment.address,
        })
        .collect();
    let addressed: Vec<(u32, u64)> = places
        .iter()
        .filter_map(|(frame, offset)| Some((*frame, elf::address(&segments, *offset)?)))
        .collect();
    let mut named = 0;
    for chunk in addressed.chunks(MAX_PLACES) {
        let Ok(again) = file.try_clone() else { break };
        let job = Job::Frames {
            build_id: image.build_id.clone(),
            addresses: chunk.iter().map(|(_, address)| *address).collect(),
            inline,
        };
        sandbox.submit(0, job, vec![again]);
        let Some(answer) = sandbox.finish().pop() else { break };
        match answer.decode::<Vec<Named>>() {
            Ok(names) => {
                for ((frame, _), found) in chunk.iter().zip(names) {
                    named += usize::from(name(stacks, *frame, found));
                }
            }
            Err(Failure::Refused(Refusal::OtherBuild | Refusal::NotElf)) => break,
            Err(failure) => {
                gain.notes
                    .push(format!("a file of debug information can't be read: {failure}"));
                break;
            }
        }
    }
    gain.frames += named;
    named > 0
}

fn name(stacks: &mut Stacks, frame: u32, mut found: Named) -> bool {
    for name in &mut found.names {
        name.truncate(super::demangle::MAX_NAME);
    }
    let Some(name) = found.names.pop() else { return false };
    let better = stacks.symbols.get(&frame).is_none_or(|known| known.name != name) || !found.names.is_empty();
    let offset = found.offset;
    stacks.symbols.insert(frame, Symbol { frame, name, offset });
    if !found.names.is_empty() {
        stacks.inlined.insert(frame, found.names);
    }
    better
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a path from a recording never leads out of the folder that was given.
    #[test]
    fn candidates_stay_inside() {
        let mut image = Image {
            file: 1,
            build_id: vec![0xab, 0xcd],
            segments: Vec::new(),
            link: Some((b"../../etc/shadow".to_vec(), 0)),
            complete: false,
        };
        let folder = [PathBuf::from("/srv/debug")];
        let paths = candidates(&image, b"/usr/../../etc/passwd", &folder);
        assert_eq!(
            paths,
            [
                "/srv/debug/.build-id/ab/cd.debug",
                "/srv/debug/usr/lib/debug/.build-id/ab/cd.debug",
                "/usr/lib/debug/.build-id/ab/cd.debug"
            ]
            .map(PathBuf::from)
        );
        image.link = Some((b"x.debug".to_vec(), 0));
        let paths = candidates(&image, b"/usr/bin/x", &folder);
        for path in [
            "/srv/debug/x.debug",
            "/srv/debug/usr/bin/x",
            "/srv/debug/x",
            "/usr/bin/x",
        ] {
            assert!(paths.contains(&PathBuf::from(path)), "{path} {paths:?}");
        }
        image.build_id.clear();
        assert!(candidates(&image, b"/usr/bin/x", &folder).is_empty());
    }
}

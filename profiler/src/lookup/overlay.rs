//! Layers of overlay mounts: the directories that an overlay's file can be read from without touching the overlay.

mod options;
mod place;
pub mod watch;

pub use options::{Layer, Options, Role, absolute};
pub use place::{Place, Storage, place, plain_driver};

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::lookup::mounts::Mount;

/// Most mounts remembered from their system calls. Layers are looked for among the newest first.
const MAX_NOTED: usize = 64;
/// Most device numbers remembered; beyond it all are looked up anew.
const MAX_DEVICES: usize = 4096;

/// Layers of an overlay, top first, as paths of directories. Hostile text: whoever may mount gave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers(pub Vec<Vec<u8>>);

/// Overlays known so far.
#[derive(Debug, Default)]
pub struct Overlays {
    noted: VecDeque<(u32, Arc<Layers>)>,
    /// `None`: that device is no overlay.
    devices: HashMap<u32, Option<Arc<Layers>>>,
}

impl Overlays {
    /// Remembers a mount of type overlay as its system call gave it. `merged` is its target; layers given relative
    /// to a directory that the caller changed to (engines do, as options are bounded to a page) are taken below the
    /// storage's root, two levels above `merged` (`ROOT/ID/merged`).
    pub fn note(&mut self, mnt_ns: u32, merged: &[u8], options: &[u8]) {
        let Some(layers) = parse(options, merged) else { return };
        self.noted.retain(|(_, known)| **known != layers);
        self.noted.push_front((mnt_ns, Arc::new(layers)));
        self.noted.truncate(MAX_NOTED);
    }

    /// Learns the devices of `mounts`.
    pub fn learn(&mut self, mounts: &[Mount]) {
        for mount in mounts {
            // Anonymous devices only (major 0): an overlay has no other.
            if mount.dev >> 20 == 0 {
                if self.devices.len() >= MAX_DEVICES {
                    self.devices.clear();
                }
                let is_overlay = mount.fstype == b"overlay";
                let layers = if is_overlay {
                    parse(&mount.options, &mount.point)
                } else {
                    None
                };
                self.devices.insert(mount.dev, layers.map(Arc::new));
            }
        }
    }

    /// Forgets a device: its number may have passed to another mount.
    pub fn forget(&mut self, dev: u32) {
        self.devices.remove(&dev);
    }

    /// Layers of the overlay on device `dev`; the inner `None`: it is no overlay; the outer: not known.
    pub fn on(&self, dev: u32) -> Option<Option<Arc<Layers>>> {
        self.devices.get(&dev).cloned()
    }

    /// Mounts noted from system calls: those made in `mnt_ns` first, the newest first.
    pub fn noted(&self, mnt_ns: u32) -> Vec<Arc<Layers>> {
        let (mut own, others): (Vec<_>, Vec<_>) = self.noted.iter().partition(|(ns, _)| *ns == mnt_ns);
        own.extend(others);
        own.into_iter().map(|(_, layers)| Arc::clone(layers)).collect()
    }
}

/// `None` when there is no layer.
fn parse(options: &[u8], merged: &[u8]) -> Option<Layers> {
    let options = Options::parse(options);
    let base = options.base(merged);
    let layers: Vec<_> = options
        .layers()
        .filter_map(|layer| absolute(&layer.path, base.as_deref()))
        .collect();
    (!layers.is_empty()).then_some(Layers(layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(options: &[u8], merged: &[u8]) -> Vec<String> {
        let Some(layers) = parse(options, merged) else {
            return Vec::new();
        };
        layers
            .0
            .iter()
            .map(|layer| String::from_utf8_lossy(layer).into_owned())
            .collect()
    }

    /// Make sure that the upper layer stands first and the lower ones keep their order.
    #[test]
    fn order() {
        let options = b"rw,lowerdir=/a:/b,upperdir=/u,workdir=/w,volatile";
        assert_eq!(layers(options, b"/m"), ["/u", "/a", "/b"]);
        assert_eq!(layers(b"lowerdir+=/a,lowerdir+=/b:c", b"/m"), ["/a", "/b:c"]);
        assert_eq!(layers(b"rw", b"/m"), [""; 0]);
    }

    /// Make sure that escaped separators belong to the path.
    #[test]
    fn escapes() {
        assert_eq!(
            layers(br"lowerdir=/a\:b:/c\,d:/e\\:/f", b"/m"),
            ["/a:b", "/c,d", r"/e\", "/f"]
        );
        assert_eq!(layers(br"lowerdir=/a\", b"/m"), ["/a"]);
    }

    /// Make sure that relative layers are taken below the storage's root, and left out where none is known.
    #[test]
    fn relative() {
        let merged = b"/var/lib/containers/storage/overlay/ID/merged";
        let root = "/var/lib/containers/storage/overlay";
        assert_eq!(
            layers(b"lowerdir=l/A:l/B", merged),
            [format!("{root}/l/A"), format!("{root}/l/B")]
        );
        let options = b"lowerdir=l/A,upperdir=/s/overlay2/ID/diff";
        assert_eq!(
            layers(options, b"ID/merged"),
            ["/s/overlay2/ID/diff", "/s/overlay2/l/A"]
        );
        assert_eq!(layers(b"lowerdir=l/A", b"ID/merged"), [""; 0]);
    }

    /// Make sure that the newest mounts of the asker's namespace come first and the number is bounded.
    #[test]
    fn noted_mounts() {
        let mut overlays = Overlays::default();
        for index in 0..(MAX_NOTED + 5) {
            overlays.note(7, b"/m", format!("lowerdir=/{index}").as_bytes());
        }
        overlays.note(8, b"/m", b"lowerdir=/other");
        let noted = overlays.noted(7);
        assert_eq!(noted.len(), MAX_NOTED);
        assert_eq!(noted[0].0, [format!("/{}", MAX_NOTED + 4).into_bytes()]);
        assert_eq!(noted[MAX_NOTED - 1].0, [b"/other".to_vec()]);
    }
}

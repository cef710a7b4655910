//! Options of an overlay mount, as its system calls or `/proc/PID/mountinfo` give them.

/// Most lower layers kept: the kernel takes no more (`OVL_MAX_STACK`).
const MAX_LOWER: usize = 500;
/// Longest option kept beside the layers, bytes: `redirect_dir=nofollow`.
const MAX_OPTION: usize = 64;
/// What changes how an overlay reads, writes and flushes (`Documentation/filesystems/overlayfs.rst`).
const MATTER: [&[u8]; 11] = [
    b"volatile",
    b"metacopy",
    b"index",
    b"redirect_dir",
    b"userxattr",
    b"fsync",
    b"xino",
    b"nfs_export",
    b"uuid",
    b"verity",
    b"override_creds",
];

/// What a layer is to its overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes what is written.
    Upper,
    Lower,
    /// Holds the data of files that a layer above only describes (`lowerdir=a::b`, `datadir+=b`).
    Data,
}

/// A layer as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub role: Role,
    /// Hostile text, perhaps relative: see [`absolute`].
    pub path: Vec<u8>,
}

/// Options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    upper: Option<Vec<u8>>,
    pub work: Vec<u8>,
    /// Topmost first.
    lower: Vec<Layer>,
    /// Layers beyond what is kept.
    pub left_out: u32,
    /// Those of [`MATTER`], as they were given.
    pub others: Vec<Vec<u8>>,
}

impl Options {
    /// Reads `lowerdir=a:b,upperdir=c,volatile`; `\:`, `\,` and `\\` stand for themselves.
    pub fn parse(text: &[u8]) -> Options {
        let mut options = Options::default();
        for option in split(text, b',') {
            let mut parts = option.splitn(2, |byte| *byte == b'=');
            if let Some(key) = parts.next() {
                options.add(key, parts.next());
            }
        }
        options
    }

    /// What is no overlay, but one directory that takes what is written.
    pub fn one(directory: &[u8]) -> Options {
        Options {
            upper: Some(directory.to_vec()),
            ..Options::default()
        }
    }

    /// Takes one option, as `fsconfig` sets them one by one.
    pub fn add(&mut self, key: &[u8], value: Option<&[u8]>) {
        match (key, value) {
            (b"lowerdir", Some(value)) => {
                // It takes the place of all that were named before (`ovl_parse_param_lowerdir`, fs/overlayfs/params.c).
                self.lower.clear();
                self.left_out = 0;
                // A second colon before it: this one and all that follow hold data.
                let mut role = Role::Lower;
                for (index, part) in split(value, b':').enumerate() {
                    match part {
                        b"" if index > 0 => role = Role::Data,
                        b"" => {}
                        part => self.push(role, part),
                    }
                }
            }
            // One layer each (6.5 and later).
            (b"lowerdir+", Some(value)) => self.push(Role::Lower, value),
            (b"datadir+", Some(value)) => self.push(Role::Data, value),
            (b"upperdir", Some(value)) => self.upper = Some(unescape(value)),
            (b"workdir", Some(value)) => self.work = unescape(value),
            (key, value) if MATTER.contains(&key) => {
                let mut option = key.to_vec();
                if let Some(value) = value {
                    option.push(b'=');
                    option.extend_from_slice(value);
                }
                option.truncate(MAX_OPTION);
                // The last of one name holds.
                self.others.retain(|other| name(other) != key);
                self.others.push(option);
            }
            _ => {}
        }
    }

    fn push(&mut self, role: Role, path: &[u8]) {
        if self.lower.len() >= MAX_LOWER {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        self.lower.push(Layer {
            role,
            path: unescape(path),
        });
    }

    /// Its layers, topmost first.
    pub fn layers(&self) -> impl Iterator<Item = Layer> {
        let upper = self.upper.iter().map(|path| Layer {
            role: Role::Upper,
            path: path.clone(),
        });
        upper
            .chain(self.lower.iter().cloned())
            .filter(|layer| !layer.path.is_empty())
    }

    /// The folder that relative layers are taken below: the storage's root, two levels above `upperdir` or `merged`
    /// (`ROOT/ID/merged`). Engines change to it and give relative paths, as options are bounded to a page.
    pub fn base(&self, merged: &[u8]) -> Option<Vec<u8>> {
        let upper = self.upper.as_deref().and_then(storage_root);
        upper.or_else(|| storage_root(merged)).map(<[u8]>::to_vec)
    }
}

/// `index` of `index=off`.
fn name(option: &[u8]) -> &[u8] {
    option.split(|byte| *byte == b'=').next().unwrap_or_default()
}

/// A layer's path below `base`, where it is relative; `None` where that is not known.
pub fn absolute(path: &[u8], base: Option<&[u8]>) -> Option<Vec<u8>> {
    match (base, path.starts_with(b"/")) {
        (_, true) => Some(path.to_vec()),
        (Some(base), false) => Some([base, &b"/"[..], path].concat()),
        (None, false) => None,
    }
}

/// `/root` of `/root/id/diff`.
fn storage_root(path: &[u8]) -> Option<&[u8]> {
    if !path.starts_with(b"/") {
        return None;
    }
    let mut parts = path.rsplitn(3, |byte| *byte == b'/');
    parts.nth(2).filter(|root| !root.is_empty())
}

/// Splits at `at`, but not where a backslash stands before it.
fn split(text: &[u8], at: u8) -> impl Iterator<Item = &[u8]> {
    let mut escaped = false;
    text.split(move |byte| {
        let here = *byte == at && !escaped;
        escaped = *byte == b'\\' && !escaped;
        here
    })
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' => out.extend(bytes.next()),
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that layers that hold data only are told apart, and options that matter are kept as they were given.
    #[test]
    fn roles_and_options() {
        let options = Options::parse(b"rw,lowerdir=/a:/b::/c::/d,upperdir=/u,workdir=/w,volatile,index=off,pad=x");
        let roles: Vec<_> = options.layers().map(|layer| (layer.role, layer.path)).collect();
        let expected = [
            (Role::Upper, "/u"),
            (Role::Lower, "/a"),
            (Role::Lower, "/b"),
            (Role::Data, "/c"),
            (Role::Data, "/d"),
        ];
        assert_eq!(roles, expected.map(|(role, path)| (role, path.as_bytes().to_vec())));
        assert_eq!(options.work, b"/w");
        assert_eq!(options.others, [b"volatile".to_vec(), b"index=off".to_vec()]);
        let long = [b"redirect_dir=".as_slice(), &[b'x'; 1000]].concat();
        assert_eq!(Options::parse(&long).others[0].len(), MAX_OPTION);
    }

    /// Make sure that options that come one by one give the same, 500 layers of them, and that an empty one is none.
    #[test]
    fn one_by_one() {
        let mut options = Options::default();
        for index in 0..499 {
            options.add(b"lowerdir+", Some(format!("/l{index}").as_bytes()));
        }
        options.add(b"datadir+", Some(b"/data"));
        options.add(b"lowerdir+", Some(b""));
        options.add(b"volatile", None);
        let layers: Vec<_> = options.layers().collect();
        assert_eq!(layers.len(), 500);
        assert_eq!((layers[499].role, &layers[499].path[..]), (Role::Data, &b"/data"[..]));
        assert_eq!(options.others, [b"volatile".to_vec()]);
    }

    /// Make sure that an option that is given again takes the place of the first, however often, and that what the kernel
    /// would not take is counted only.
    #[test]
    fn again_and_again() {
        let mut options = Options::default();
        for index in 0..2000 {
            options.add(b"lowerdir", Some(format!("/a{index}:/b").as_bytes()));
            options.add(b"volatile", None);
            options.add(b"index", Some(if index % 2 == 0 { b"on" } else { b"off" }));
        }
        let paths: Vec<_> = options.layers().map(|layer| layer.path).collect();
        assert_eq!(paths, [b"/a1999".to_vec(), b"/b".to_vec()]);
        assert_eq!(options.others, [b"volatile".to_vec(), b"index=off".to_vec()]);
        for _ in 0..2000 {
            options.add(b"lowerdir+", Some(b"/c"));
        }
        assert_eq!((options.layers().count(), options.left_out), (500, 1502));
    }
}

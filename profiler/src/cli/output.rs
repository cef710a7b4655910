//! Where output goes: standard output, or a file that appears whole or not at all.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::Problem;
use super::problem::tell;
use crate::report::text;

/// Where to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Stdout,
    File(PathBuf),
}

impl Target {
    /// `-` is standard output, as everywhere.
    pub(crate) fn new(path: &Path) -> Target {
        match path.to_str() {
            Some("-") => Target::Stdout,
            _ => Target::File(path.to_owned()),
        }
    }

    /// Writes all of it. A new file gets mode 0600 and its name only when it is complete; one that exists is replaced
    /// only with `force`. Devices and pipes are written to as they are.
    pub(crate) fn write(&self, bytes: &[u8], force: bool) -> Result<(), Problem> {
        match self {
            Target::Stdout => stdout(bytes),
            Target::File(path) => file(path, bytes, force),
        }
    }
}

impl Target {
    /// Tells on standard error which file is written: standard output is the data's alone.
    pub(crate) fn tell(&self) {
        if let Some(words) = self.written() {
            tell(&words);
        }
    }

    /// Of standard output, whose reader has it, there is nothing to tell.
    fn written(&self) -> Option<String> {
        match self {
            Target::Stdout => None,
            Target::File(path) => {
                let path = text::visible(path.as_os_str().as_encoded_bytes());
                Some(format!("written: {path}"))
            }
        }
    }
}

/// Writes to standard output.
pub(crate) fn stdout(bytes: &[u8]) -> Result<(), Problem> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Problem::reader_gone()),
        Err(error) => Err(Problem::new("can't write to standard output").because(error)),
    }
}

/// For commands whose exit status is a verdict: a reader that has gone (`| head`) changes none.
pub(crate) fn unless_gone(written: Result<(), Problem>) -> Result<(), Problem> {
    match written {
        // Nothing else is a problem with this status.
        Err(gone) if gone.status() == 0 => Ok(()),
        written => written,
    }
}

fn file(path: &Path, bytes: &[u8], force: bool) -> Result<(), Problem> {
    let failed = |error: io::Error| Problem::new(format!("can't write {}", path.display())).because(error);
    let exists =
        || Problem::new(format!("{} exists", path.display())).next("another name with -o, or --force to replace it");
    if let Ok(old) = path.symlink_metadata() {
        // `/dev/stdout` is a link to a pipe or terminal; renaming onto a device would replace it.
        let target = path
            .metadata()
            .map_or_else(|_| old.file_type(), |target| target.file_type());
        if target.is_char_device() || target.is_fifo() {
            let mut device = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return device.write_all(bytes).map_err(failed);
        }
        if !old.is_file() {
            return Err(Problem::new(format!("{} is not a plain file", path.display()))
                .next("give the name of a file with -o, or - for standard output"));
        }
        if !force {
            return Err(exists());
        }
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::Builder::new()
        .prefix(".phasegraph-")
        .tempfile_in(folder)
        .map_err(failed)?;
    new.write_all(bytes).map_err(failed)?;
    let kept = if force {
        new.persist(path)
    } else {
        new.persist_noclobber(path)
    };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
        Err(error) => Err(failed(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// Make sure that a file is private, is replaced only when asked, and that nothing is left beside it.
    #[test]
    fn files_are_whole_private_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.svg");
        let target = Target::new(&path);
        target.write(b"one", false).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(target.write(b"two", false).unwrap_err().chain().contains("exists"));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        target.write(b"two", true).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Make sure that no link is followed or replaced, and no folder or device either.
    #[test]
    fn links_folders_and_devices() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink(folder.path().join("elsewhere"), &link).unwrap();
        for force in [false, true] {
            assert!(Target::new(&link).write(b"x", force).is_err());
            assert!(Target::new(folder.path()).write(b"x", force).is_err());
        }
        assert!(!folder.path().join("elsewhere").exists());
        Target::new(Path::new("/dev/null")).write(b"x", true).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    }

    /// Make sure that a reader that has gone is no failure of a verdict, and whatever else is stays one.
    #[test]
    fn verdicts_survive() {
        assert!(unless_gone(Err(Problem::reader_gone())).is_ok());
        assert!(unless_gone(Ok(())).is_ok());
        let full = unless_gone(Err(Problem::new("disk full"))).unwrap_err();
        assert_eq!(full.status(), 1);
    }

    /// Make sure that a folder that isn't there is an error that names the file.
    #[test]
    fn missing_folder() {
        let folder = tempfile::tempdir().unwrap();
        let problem = Target::new(&folder.path().join("none/x.svg"))
            .write(b"x", false)
            .unwrap_err();
        assert!(problem.chain().contains("none/x.svg"), "{}", problem.chain());
    }

    /// Make sure that `-` is standard output and nothing else is.
    #[test]
    fn dash() {
        assert_eq!(Target::new(Path::new("-")), Target::Stdout);
        assert_eq!(Target::new(Path::new("./-")), Target::File("./-".into()));
    }

    /// Make sure that a file is told of, harmlessly, and standard output is not.
    #[test]
    fn told() {
        assert_eq!(Target::Stdout.written(), None);
        let file = Target::new(Path::new("a\x1b[2J"));
        assert_eq!(file.written().as_deref(), Some("written: a\\x1b[2J"));
    }
}

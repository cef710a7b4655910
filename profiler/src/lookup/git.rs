//! The commit that a folder's git checkout is at, read without running git.
//!
//! Whoever may write into the folder chooses what its `.git` says. So git's own rule holds (`safe.directory`): folder and
//! repository must belong to whoever asks, or to root. Every file below a repository is opened beneath it, through no
//! symbolic link, never waited for, and read up to a bound; nothing of it is run, and nothing but the digits of a commit
//! is given back.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

/// Most folders above that are looked at.
const HIGHEST: usize = 64;
/// Longest `HEAD`, reference or `gitdir` file, bytes.
const MAX_SMALL: u64 = 4096;
/// Longest `packed-refs`, bytes: some hundred thousand references.
const MAX_PACKED: u64 = 32 << 20;
/// References that name each other.
const MAX_LINKS: usize = 5;

/// A checkout's commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// 40 or 64 hexadecimal digits.
    pub id: String,
    /// The checkout's topmost folder.
    pub folder: PathBuf,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoCommit {
    #[error("{} is in no git checkout", folder.display())]
    NoCheckout { folder: PathBuf },
    #[error("{} belongs to user {owner}, who is neither root nor the one who asked", path.display())]
    Foreign { path: PathBuf, owner: u32 },
    #[error("{} is no link to a worktree of a repository that knows it", path.display())]
    BadLink { path: PathBuf },
    #[error("{} names no commit", path.display())]
    NoHead { path: PathBuf },
    #[error("{} can't be read: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// The commit of the checkout that `folder` lies in; `owners` may own it besides root.
///
/// # Errors
///
/// [`NoCommit`]: why it is not known.
pub fn commit(folder: &Path, owners: &[u32]) -> Result<Commit, NoCommit> {
    for above in folder.ancestors().take(HIGHEST) {
        let path = above.join(".git");
        let kind = match path.symlink_metadata() {
            Ok(found) => found.file_type(),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
            Err(error) => return Err(NoCommit::Io { path, error }),
        };
        owned(above, owners)?;
        owned(&path, owners)?;
        let id = if kind.is_dir() {
            let repository = open(&path)?;
            head(&repository, &repository, &path)?
        } else if kind.is_file() {
            linked(&path, owners)?
        } else {
            return Err(NoCommit::BadLink { path });
        };
        return Ok(Commit {
            id,
            folder: above.to_owned(),
        });
    }
    Err(NoCommit::NoCheckout {
        folder: folder.to_owned(),
    })
}

fn owned(path: &Path, owners: &[u32]) -> Result<(), NoCommit> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = path
        .symlink_metadata()
        .map_err(|error| NoCommit::Io {
            path: path.to_owned(),
            error,
        })?
        .uid();
    if owner == 0 || owners.contains(&owner) {
        return Ok(());
    }
    Err(NoCommit::Foreign {
        path: path.to_owned(),
        owner,
    })
}

fn open(path: &Path) -> Result<File, NoCommit> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| NoCommit::Io {
            path: path.to_owned(),
            error,
        })
}

/// A worktree's `.git` is a file that names its folder in the repository; that folder names the file. A submodule's is
/// not followed: nothing in its repository points back.
fn linked(path: &Path, owners: &[u32]) -> Result<String, NoCommit> {
    let bad = || NoCommit::BadLink { path: path.to_owned() };
    let above = path.parent().ok_or_else(bad)?;
    let text = small(&open(above)?, Path::new(".git")).map_err(|_| bad())?;
    let named = line(&text).strip_prefix(b"gitdir: ").ok_or_else(bad)?;
    let own = above.join(Path::new(std::ffi::OsStr::from_bytes(named)));
    let own = own.canonicalize().map_err(|_| bad())?;
    owned(&own, owners)?;
    let worktree = open(&own)?;
    let back = small(&worktree, Path::new("gitdir")).map_err(|_| bad())?;
    let back = Path::new(std::ffi::OsStr::from_bytes(line(&back)));
    let same = back
        .canonicalize()
        .is_ok_and(|back| Some(back) == path.canonicalize().ok());
    if !same {
        return Err(bad());
    }
    let common = small(&worktree, Path::new("commondir")).map_err(|_| bad())?;
    let common = own.join(Path::new(std::ffi::OsStr::from_bytes(line(&common))));
    let common = common.canonicalize().map_err(|_| bad())?;
    owned(&common, owners)?;
    head(&worktree, &open(&common)?, &own)
}

/// What `HEAD` names, references looked up in the repository.
fn head(worktree: &File, repository: &File, path: &Path) -> Result<String, NoCommit> {
    let no_head = || NoCommit::NoHead {
        path: path.join("HEAD"),
    };
    let mut text = small(worktree, Path::new("HEAD")).map_err(|_| no_head())?;
    for _ in 0..MAX_LINKS {
        let value = line(&text);
        if let Some(id) = digits(value) {
            return Ok(id);
        }
        let name = value.strip_prefix(b"ref: ").ok_or_else(no_head)?;
        // git's own rule for what may stand in HEAD; RESOLVE_BENEATH keeps the rest from leading out.
        if !name.starts_with(b"refs/") {
            return Err(no_head());
        }
        match small(repository, Path::new(std::ffi::OsStr::from_bytes(name))) {
            Ok(found) => text = found,
            Err(_) => return packed(repository, name).ok_or_else(no_head),
        }
    }
    Err(no_head())
}

/// A reference of `packed-refs`: `<id> SP <name>` a line.
fn packed(repository: &File, name: &[u8]) -> Option<String> {
    let text = read(repository, Path::new("packed-refs"), MAX_PACKED).ok()?;
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let at = line.iter().position(|byte| *byte == b' ')?;
        (&line[at + 1..] == name).then(|| digits(&line[..at])).flatten()
    })
}

fn digits(text: &[u8]) -> Option<String> {
    let whole = matches!(text.len(), 40 | 64);
    let hex = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (whole && hex).then(|| String::from_utf8_lossy(text).into_owned())
}

/// Its first line.
fn line(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == b'\n').next().unwrap_or_default()
}

fn small(folder: &File, name: &Path) -> io::Result<Vec<u8>> {
    read(folder, name, MAX_SMALL)
}

/// A plain file beneath `folder`, whole.
fn read(folder: &File, name: &Path, most: u64) -> io::Result<Vec<u8>> {
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A FIFO is opened and refused without waiting for its writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file: File = loop {
        match openat2(folder, name, flags, Mode::empty(), beneath) {
            Ok(file) => break file.into(),
            // The kernel could not be sure while something was renamed.
            Err(Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, Instant};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef01234567";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffff";

    fn me() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// A checkout whose `HEAD` names a branch with a file of its own.
    fn checkout() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let git = folder.path().join(".git");
        fs::create_dir_all(git.join("refs/heads")).unwrap();
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(git.join("refs/heads/main"), format!("{ID}\n")).unwrap();
        folder
    }

    fn id(folder: &Path) -> Result<String, String> {
        commit(folder, &[me()])
            .map(|commit| commit.id)
            .map_err(|error| error.to_string())
    }

    /// Make sure that the commit is found where git has it: branch, detached, packed, from a folder below, in 64 digits.
    #[test]
    fn found() {
        let folder = checkout();
        let git = folder.path().join(".git");
        assert_eq!(id(folder.path()), Ok(ID.to_owned()));
        let below = folder.path().join("src/deep");
        fs::create_dir_all(&below).unwrap();
        let commit = commit(&below, &[me()]).unwrap();
        assert_eq!((&commit.id[..], commit.folder.as_path()), (ID, folder.path()));

        fs::remove_file(git.join("refs/heads/main")).unwrap();
        fs::write(
            git.join("packed-refs"),
            format!("# pack-refs with: peeled\n{OTHER} refs/heads/maint\n{ID} refs/heads/main\n^{OTHER}\n"),
        )
        .unwrap();
        assert_eq!(id(folder.path()), Ok(ID.to_owned()));
        fs::write(git.join("HEAD"), OTHER).unwrap();
        assert_eq!(id(folder.path()), Ok(OTHER.to_owned()));
        let long = "ab".repeat(32);
        fs::write(git.join("HEAD"), &long).unwrap();
        assert_eq!(id(folder.path()), Ok(long));
    }

    /// Make sure that the real git's answer is the same, for a branch, packed references and a worktree.
    #[test]
    fn as_git_says() {
        let folder = tempfile::tempdir().unwrap();
        let main = folder.path().join("main");
        let git = |folder: &Path, args: &[&str]| {
            let mut command = std::process::Command::new("git");
            command
                .args(["-c", "user.name=x", "-c", "user.email=x@example.com"])
                .args(args)
                .current_dir(folder)
                .env("GIT_CONFIG_GLOBAL", "/dev/null");
            let output = command.output().ok()?;
            output
                .status
                .success()
                .then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        if git(folder.path(), &["init", "-q", "main"]).is_none() {
            eprintln!("skipped: git can't be run");
            return;
        }
        git(&main, &["commit", "-q", "--allow-empty", "-m", "one"]).unwrap();
        let head = |folder: &Path| git(folder, &["rev-parse", "HEAD"]).unwrap();
        assert_eq!(id(&main), Ok(head(&main)));
        git(&main, &["pack-refs", "--all"]).unwrap();
        assert_eq!(id(&main), Ok(head(&main)));
        git(&main, &["worktree", "add", "-q", "-b", "side", "../side"]).unwrap();
        let side = folder.path().join("side");
        git(&side, &["commit", "-q", "--allow-empty", "-m", "two"]).unwrap();
        assert_eq!(id(&side), Ok(head(&side)));
        assert_ne!(head(&side), head(&main));
    }

    /// Make sure that no `.git` leads anywhere else, gives away another file's content, or makes anybody wait.
    #[test]
    fn hostile() {
        let secret = tempfile::tempdir().unwrap();
        let secret_file = secret.path().join("secret");
        fs::write(&secret_file, format!("{OTHER}\n")).unwrap();
        let start = Instant::now();
        let broken = |make: &dyn Fn(&Path)| {
            let folder = checkout();
            make(&folder.path().join(".git"));
            let error = id(folder.path()).unwrap_err();
            assert!(!error.contains(OTHER), "{error}");
        };
        broken(&|git| {
            fs::remove_file(git.join("HEAD")).unwrap();
            symlink(&secret_file, git.join("HEAD")).unwrap();
        });
        broken(&|git| {
            fs::remove_file(git.join("refs/heads/main")).unwrap();
            symlink(&secret_file, git.join("refs/heads/main")).unwrap();
        });
        let out = format!("ref: refs/../../../../../../..{}\n", secret_file.display());
        for head in [
            &out[..],
            "ref: /etc/passwd\n",
            "ref: refs/heads/none\n",
            "ref: HEAD\n",
            "root:x:0:0\n",
            "",
        ] {
            broken(&|git| fs::write(git.join("HEAD"), head).unwrap());
        }
        broken(&|git| fs::write(git.join("refs/heads/main"), "ref: refs/heads/main\n").unwrap());
        broken(&|git| {
            fs::remove_file(git.join("HEAD")).unwrap();
            let fifo = std::ffi::CString::new(git.join("HEAD").as_os_str().as_bytes()).unwrap();
            // SAFETY: a NUL-terminated path.
            assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
        });
        broken(&|git| fs::write(git.join("HEAD"), vec![b'a'; 1 << 20]).unwrap());
        // A link to another repository, which does not know of it.
        let other = checkout();
        broken(&|git| {
            fs::remove_dir_all(git).unwrap();
            fs::write(git, format!("gitdir: {}\n", other.path().join(".git").display())).unwrap();
        });
        broken(&|git| {
            fs::remove_dir_all(git).unwrap();
            symlink(other.path().join(".git"), git).unwrap();
        });
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    /// Make sure that a checkout of somebody else's is not believed, and that none is not an accident.
    #[test]
    fn owners() {
        let folder = checkout();
        if me() == 0 {
            for path in ["", ".git"] {
                std::os::unix::fs::chown(folder.path().join(path), Some(4711), None).unwrap();
                assert!(matches!(
                    commit(folder.path(), &[0, 1000]),
                    Err(NoCommit::Foreign { owner: 4711, .. })
                ));
                assert!(commit(folder.path(), &[4711]).is_ok());
                std::os::unix::fs::chown(folder.path().join(path), Some(0), None).unwrap();
            }
        }
        let none = commit(Path::new("/proc"), &[me()]);
        assert!(matches!(none, Err(NoCommit::NoCheckout { .. })), "{none:?}");
    }
}

//! The profiled command: made and held back until everything is attached, then let go.

use std::{
    ffi::{CStr, CString, OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::PathBuf,
};

use super::Error;

/// Search path of a user who has none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user to run the command as.
#[derive(Clone, Debug)]
pub struct User {
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    name: CString,
    home: CString,
    shell: CString,
}

impl User {
    /// Its id.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// Looks a user up in the host's user database.
    pub fn find(name: &str) -> Result<User, Error> {
        let unknown = |why: String| Error::User {
            name: name.to_owned(),
            why,
        };
        let c_name = CString::new(name).map_err(|_| unknown("the name holds a NUL".to_owned()))?;
        let mut buffer = vec![0 as libc::c_char; 16 * 1024];
        // SAFETY: an all-zero passwd is valid; getpwnam_r fills it with pointers into `buffer`, which outlives their
        // use here.
        let entry = unsafe {
            let mut entry: libc::passwd = std::mem::zeroed();
            let mut result = std::ptr::null_mut();
            let status = libc::getpwnam_r(
                c_name.as_ptr(),
                &mut entry,
                buffer.as_mut_ptr(),
                buffer.len(),
                &mut result,
            );
            if status != 0 {
                return Err(unknown(io::Error::from_raw_os_error(status).to_string()));
            }
            if result.is_null() {
                return Err(unknown("there is no such user".to_owned()));
            }
            entry
        };
        let mut groups = vec![0 as libc::gid_t; 1024];
        let mut count = groups.len() as libc::c_int;
        // SAFETY: `groups` has room for `count` ids.
        if unsafe { libc::getgrouplist(c_name.as_ptr(), entry.pw_gid, groups.as_mut_ptr(), &mut count) } < 0 {
            return Err(unknown("it is in more than 1,024 groups".to_owned()));
        }
        groups.truncate(count as usize);
        // SAFETY: NUL-terminated strings in `buffer`.
        let text = |pointer: *const libc::c_char| unsafe { CStr::from_ptr(pointer) }.to_owned();
        Ok(User {
            uid: entry.pw_uid,
            gid: entry.pw_gid,
            groups,
            name: c_name,
            home: text(entry.pw_dir),
            shell: text(entry.pw_shell),
        })
    }

    /// The environment of that user's session: what concerns the terminal and the language is kept.
    fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut environment: Vec<(OsString, OsString)> = std::env::vars_os()
            .filter(|(key, _)| {
                let key = key.as_bytes();
                matches!(key, b"TERM" | b"COLORTERM" | b"NO_COLOR" | b"LANG" | b"TZ" | b"PWD")
                    || key.starts_with(b"LC_")
            })
            .collect();
        let mut set = |key: &str, value: OsString| environment.push((key.into(), value));
        let text = |text: &CStr| OsStr::from_bytes(text.to_bytes()).to_owned();
        set("HOME", text(&self.home));
        set("USER", text(&self.name));
        set("LOGNAME", text(&self.name));
        set("SHELL", text(&self.shell));
        set("PATH", DEFAULT_PATH.into());
        let runtime = PathBuf::from(format!("/run/user/{}", self.uid));
        if runtime.is_dir() {
            let bus = runtime.join("bus");
            if bus.exists() {
                set(
                    "DBUS_SESSION_BUS_ADDRESS",
                    format!("unix:path={}", bus.display()).into(),
                );
            }
            set("XDG_RUNTIME_DIR", runtime.into());
        }
        environment
    }
}

/// A child that waits for [`Held::release`] before it becomes the command. Dropped before that, it ends.
#[derive(Debug)]
pub struct Held {
    pid: u32,
    /// Writing a byte lets the child go; closing it ends it.
    gate: OwnedFd,
    /// The child writes its errno here when exec fails; closed by a successful exec.
    failure: OwnedFd,
    program: OsString,
}

impl Held {
    /// Forks the child.
    pub fn spawn(command: &[OsString], user: Option<&User>) -> Result<Held, Error> {
        let program = command.first().ok_or(Error::NoCommand)?.clone();
        let environment = match user {
            Some(user) => user.environment(),
            None => std::env::vars_os().collect(),
        };
        let path = environment
            .iter()
            .find(|(key, _)| key == "PATH")
            .map_or_else(|| DEFAULT_PATH.into(), |(_, path)| path.clone());
        let c_string = |text: &[u8]| CString::new(text).map_err(|_| Error::Nul);
        // Everything that needs memory is made before the fork: the child may only make system calls.
        let mut candidates = Vec::new();
        if program.as_bytes().contains(&b'/') {
            candidates.push(c_string(program.as_bytes())?);
        } else {
            for folder in std::env::split_paths(&path) {
                candidates.push(c_string(folder.join(&program).as_os_str().as_bytes())?);
            }
        }
        let argv: Vec<CString> = command
            .iter()
            .map(|word| c_string(word.as_bytes()))
            .collect::<Result<_, _>>()?;
        let environment: Vec<CString> = environment
            .into_iter()
            .map(|(mut key, value)| {
                key.push("=");
                key.push(value);
                c_string(&key.into_vec())
            })
            .collect::<Result<_, _>>()?;
        let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
            strings
                .iter()
                .map(|string| string.as_ptr())
                .chain([std::ptr::null()])
                .collect()
        };
        let argv = (pointers(&argv), argv);
        let environment = (pointers(&environment), environment);
        let (gate_read, gate) = pipe()?;
        let (failure, failure_write) = pipe()?;
        // SAFETY: the child makes async-signal-safe calls only, on memory prepared above, and never returns.
        let pid = unsafe { libc::fork() };
        if pid < 0 {
            return Err(Error::Fork(io::Error::last_os_error()));
        }
        if pid == 0 {
            drop(gate);
            // SAFETY: as above.
            let errno = unsafe { become_command(&gate_read, &candidates, &argv.0, &environment.0, user) };
            let bytes = errno.to_ne_bytes();
            // SAFETY: as above.
            unsafe {
                libc::write(failure_write.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                libc::_exit(127);
            }
        }
        Ok(Held {
            pid: pid as u32,
            gate,
            failure,
            program,
        })
    }

    /// The child's process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child become the command; returns when it has, or could not.
    pub fn release(self) -> Result<Running, Error> {
        let Held {
            pid,
            gate,
            failure,
            program,
        } = self;
        // SAFETY: one byte from a static.
        if unsafe { libc::write(gate.as_raw_fd(), b"g".as_ptr().cast(), 1) } != 1 {
            return Err(Error::Fork(io::Error::last_os_error()));
        }
        let mut bytes = [0u8; 4];
        loop {
            // SAFETY: reads at most four bytes into four.
            let count = unsafe { libc::read(failure.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
            match count {
                4 => {
                    let running = Running { pid };
                    running.wait_blocking();
                    let error = io::Error::from_raw_os_error(i32::from_ne_bytes(bytes));
                    return Err(Error::Exec { program, error });
                }
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => return Ok(Running { pid }),
            }
        }
    }

    /// Ends the child without letting it become the command.
    pub fn cancel(self) {
        let Held { pid, gate, .. } = self;
        drop(gate);
        Running { pid }.wait_blocking();
    }
}

/// Runs in the child; returns only when it could not become the command, with the errno.
///
/// # Safety
///
/// After fork in a process with threads: nothing here may allocate or lock. The pointers are null-terminated arrays of
/// NUL-terminated strings.
unsafe fn become_command(
    gate: &OwnedFd,
    candidates: &[CString],
    argv: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    user: Option<&User>,
) -> i32 {
    let errno = || io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: plain system calls on memory owned by the caller.
    unsafe {
        let mut byte = 0u8;
        if libc::read(gate.as_raw_fd(), (&raw mut byte).cast(), 1) != 1 {
            libc::_exit(127);
        }
        // Rust ignores SIGPIPE, and an ignored signal stays ignored over exec.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        if let Some(user) = user
            && (libc::setgroups(user.groups.len(), user.groups.as_ptr()) != 0
                || libc::setresgid(user.gid, user.gid, user.gid) != 0
                || libc::setresuid(user.uid, user.uid, user.uid) != 0)
        {
            return errno();
        }
        // As execvp(3): a candidate that may not be executed is remembered while others are tried.
        let mut result = libc::ENOENT;
        for candidate in candidates {
            libc::execve(candidate.as_ptr(), argv.as_ptr(), environment.as_ptr());
            match errno() {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => result = libc::EACCES,
                other => return other,
            }
        }
        result
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let mut fds = [0; 2];
    // SAFETY: writes two descriptors, which are owned from here on.
    unsafe {
        if libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) != 0 {
            return Err(Error::Fork(io::Error::last_os_error()));
        }
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// The running command.
#[derive(Debug)]
pub struct Running {
    pid: u32,
}

impl Running {
    /// Its exit status in the shell's form (128 + signal when it was killed), if it has ended.
    pub fn try_wait(&self) -> Option<i32> {
        self.wait(libc::WNOHANG)
    }

    /// Waits for its end; its exit status as [`Running::try_wait`] has it.
    pub fn wait_blocking(&self) -> i32 {
        self.wait(0).unwrap_or(127)
    }

    fn wait(&self, flags: i32) -> Option<i32> {
        let mut status = 0;
        loop {
            // SAFETY: writes one int; the pid is our own child's, not yet waited for.
            let pid = unsafe { libc::waitpid(self.pid as libc::pid_t, &mut status, flags) };
            match pid {
                0 => return None,
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // Not to be had any more: it has ended.
                -1 => return Some(127),
                _ => break,
            }
        }
        Some(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: i32) {
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(self.pid as libc::pid_t, signal) };
    }
}

/// Longest command that a recording keeps, bytes: the kernel takes 2 MiB, a record 1 MiB.
const COMMAND: usize = 64 << 10;

/// The command's words, up to as many as are kept; what is left out is told by a last one.
pub(super) fn kept(command: &[OsString]) -> Vec<Vec<u8>> {
    let mut kept = Vec::new();
    let mut bytes = 0usize;
    for (index, word) in command.iter().enumerate() {
        bytes = bytes.saturating_add(word.len());
        if bytes > COMMAND {
            kept.push(format!("[{} more words]", command.len() - index).into_bytes());
            break;
        }
        kept.push(word.as_bytes().to_vec());
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a command of any length fits into a record, and that what is left out is told.
    #[test]
    fn long_commands() {
        let words = |count: usize| vec![OsString::from("x".repeat(1_000)); count];
        assert_eq!(kept(&words(65)).len(), 65);
        let long = kept(&words(2_000));
        assert_eq!(
            (long.len(), long.last().unwrap().as_slice()),
            (66, &b"[1935 more words]"[..])
        );
        assert_eq!(kept(&[OsString::from("x".repeat(1 << 20))]), [b"[1 more words]"]);
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    fn status(running: &Running) -> i32 {
        running.wait(0).unwrap()
    }

    /// Make sure that a held command does not run before its release, then has its status and its signals.
    #[test]
    fn held_then_run() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ran");
        let script = format!("touch {}; exit 7", file.display());
        let held = Held::spawn(&words(&["sh", "-c", &script]), None).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!file.exists());
        assert_eq!(status(&held.release().unwrap()), 7);
        assert!(file.exists());

        let running = Held::spawn(&words(&["sleep", "100"]), None).unwrap().release().unwrap();
        running.signal(libc::SIGTERM);
        assert_eq!(status(&running), 128 + libc::SIGTERM);
        Held::spawn(&words(&["sleep", "100"]), None).unwrap().cancel();
    }

    /// Make sure that a missing and a not executable program are told apart, with the shell's statuses.
    #[test]
    fn not_runnable() {
        let missing = Held::spawn(&words(&["/no/such/program"]), None)
            .unwrap()
            .release()
            .unwrap_err();
        assert_eq!(missing.exit_status(), 127, "{missing}");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plain");
        std::fs::write(&file, "not a program").unwrap();
        let refused = Held::spawn(&[file.into_os_string()], None)
            .unwrap()
            .release()
            .unwrap_err();
        assert_eq!(refused.exit_status(), 126, "{refused}");
        assert!(User::find("no-such-user-here").is_err());
    }
}

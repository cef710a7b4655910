//! A terminal to run a program on.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::run::Started;

/// A pseudo-terminal, whose output is read all the time.
pub(crate) struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    line: Option<OwnedFd>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Terminal {
    pub(crate) fn new(rows: u16, columns: u16) -> Terminal {
        let (mut master, mut line) = (0, 0);
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: writes two descriptors, which are owned from here on; the name and the settings are not asked for.
        let (master, line) = unsafe {
            let done = libc::openpty(&mut master, &mut line, std::ptr::null_mut(), std::ptr::null(), &size);
            assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
            for descriptor in [master, line] {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
            (File::from_raw_fd(master), OwnedFd::from_raw_fd(line))
        };
        let screen = Arc::new(Mutex::new(Vec::new()));
        let mut output = master.try_clone().unwrap();
        let seen = Arc::clone(&screen);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO when nobody has the line any more.
            while let Ok(count @ 1..) = output.read(&mut buffer) {
                seen.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Terminal {
            keyboard: master,
            screen,
            line: Some(line),
            reader: Some(reader),
        }
    }

    /// Runs a program in a session of its own with this as its terminal.
    pub(crate) fn start(&mut self, command: &mut Command) -> Started {
        let line = self.line.take().unwrap();
        command
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line);
        let take_terminal = || {
            // A job in the background of a shell ignores it, and so would all below it.
            // SAFETY: a signal that this process does not handle.
            unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
            // SAFETY: plain system calls.
            match unsafe { libc::setsid() == -1 || libc::ioctl(0, libc::TIOCSCTTY, 0) == -1 } {
                false => Ok(()),
                true => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: async-signal-safe: three system calls.
        unsafe { command.pre_exec(take_terminal) };
        let started = Started::new(command);
        // The command keeps descriptors of the line, and with them the reader below waiting.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        started
    }

    /// Types.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.keyboard.write_all(bytes).unwrap();
    }

    /// What was written on it, all of it once its programs have ended.
    pub(crate) fn text(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }
}

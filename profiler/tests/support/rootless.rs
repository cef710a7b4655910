//! podman by a user that is not root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::host::{self, Corner, Skip, succeed};
use super::podman::TINY;
use super::profile::{Profile, profile};
use super::workload;

/// The user and its group, who are known in the corner only.
const ID: &str = "1000";

/// podman of that user, with the tiny image.
pub(crate) struct Rootless {
    pub corner: Corner,
}

impl Rootless {
    pub(crate) fn new() -> Result<Rootless, Skip> {
        host::require(&["podman", "conmon", "crun", "newuidmap", "setpriv"])?;
        let corner = Corner::new()?;
        let folder = corner.folder().to_owned();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let home = folder.join("home");
        let settings = home.join(".config/containers");
        fs::create_dir_all(&settings).unwrap();
        // No more than this process may give away.
        let engine = "[containers]\npids_limit = 0\ncgroups = \"disabled\"\n\
                      default_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n\
                      [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\nruntime = \"crun\"\n";
        fs::write(settings.join("containers.conf"), engine).unwrap();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{}/graph\"\n",
            home.display()
        );
        fs::write(settings.join("storage.conf"), storage).unwrap();
        workload::busybox_root(&folder.join("tiny"))?;
        let set_up = format!(
            "tar -C tiny -cf home/tiny.tar . && mkdir -p /run/user/{ID} && chown -R {ID}:{ID} home /run/user/{ID} && \
             echo user:x:{ID}:{ID}::$PWD/home:/bin/sh | cat /etc/passwd - > passwd && echo user:100000:65536 > sub && \
             mount --bind passwd /etc/passwd && touch /etc/subuid /etc/subgid && \
             mount --bind sub /etc/subuid && mount --bind sub /etc/subgid"
        );
        succeed(corner.command("sh").args(["-c", &set_up]));
        let rootless = Rootless { corner };
        let run = ["podman", "run", "--rm", "--network=none", TINY, "/bin/true"];
        for words in [&["podman", "import", "home/tiny.tar", TINY][..], &run] {
            let done = rootless.command(words).output().unwrap();
            if !done.status.success() {
                let why = String::from_utf8_lossy(&done.stderr).into_owned();
                let why = why.lines().last().unwrap_or_default().to_owned();
                return Err(Skip(format!("podman runs nothing without root here: {why}")));
            }
        }
        Ok(rootless)
    }

    /// A command line by the user.
    fn by_user<'a>(&self, home: &'a str, words: &[&'a str]) -> Vec<&'a str> {
        let who = [
            "setpriv",
            "--reuid",
            ID,
            "--regid",
            ID,
            "--clear-groups",
            "--inh-caps=-all",
        ];
        let environment = [
            "env",
            "-i",
            home,
            "USER=user",
            "XDG_RUNTIME_DIR=/run/user/1000",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        ];
        [&who[..], &environment, words].concat()
    }

    fn home(&self) -> String {
        format!("HOME={}/home", self.corner.folder().display())
    }

    fn command(&self, words: &[&str]) -> Command {
        let home = self.home();
        let words = self.by_user(&home, words);
        let mut command = self.corner.command(words[0]);
        command.args(&words[1..]);
        command
    }

    /// Profiles, as root, a command of the user's.
    pub(crate) fn profile(&self, words: &[&str]) -> Profile {
        let home = self.home();
        let words = self.by_user(&home, words);
        profile(|program| self.corner.command(program), self.corner.folder(), &words)
    }
}

impl Drop for Rootless {
    fn drop(&mut self) {
        let _ = self.command(&["podman", "rm", "--all", "--force", "--time=0"]).output();
        // What holds the user's namespaces together between two commands.
        let _ = self.command(&["podman", "system", "migrate"]).output();
    }
}

//! phasegraph around a command, and what its JSON says.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::host::succeed;

/// Names a folder to keep the scenarios' recordings in: for a look at what failed, and for fixtures.
const KEEP: &str = "PHASEGRAPH_KEEP_RECORDINGS";

/// A profile as `show --json` tells it, and what the command printed.
pub(crate) struct Profile {
    pub json: Value,
    pub output: String,
}

/// Profiles a command. `command` gives a command for a program, in the scenario's corner.
pub(crate) fn profile(command: impl Fn(&Path) -> Command, folder: &Path, words: &[&str]) -> Profile {
    start(command, folder, words).end(words)
}

/// A profiled command that goes on; killed, with its command, by a test that fails meanwhile.
pub(crate) struct Started {
    run: Option<Child>,
    file: PathBuf,
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(run) = &mut self.run {
            // SAFETY: a group of processes that the child leads, which has not been waited for.
            unsafe { libc::kill(-(run.id() as i32), libc::SIGKILL) };
            let _ = run.wait();
        }
    }
}

/// Starts profiling a command.
pub(crate) fn start(command: impl Fn(&Path) -> Command, folder: &Path, words: &[&str]) -> Started {
    let file = folder.join("profile.phg");
    let run = command(Path::new(env!("CARGO_BIN_EXE_phasegraph")))
        .args(["run", "--force", "--quiet", "--no-summary", "-o"])
        .arg(&file)
        .arg("--")
        .args(words)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    Started { run: Some(run), file }
}

impl Started {
    /// Its profile, once it has ended, which must be well.
    pub(crate) fn end(mut self, words: &[&str]) -> Profile {
        let run = self.run.take().unwrap().wait_with_output().unwrap();
        keep(&self.file);
        let output = [run.stdout, run.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        let shown: String = format!("{words:?}").chars().take(1_000).collect();
        assert!(run.status.success(), "{shown}: {}\n{output:.4000}", run.status);
        let mut show = Command::new(env!("CARGO_BIN_EXE_phasegraph"));
        let shown = succeed(show.arg("show").arg(&self.file).arg("--json"));
        Profile {
            json: serde_json::from_slice(&shown.stdout).unwrap(),
            output,
        }
    }
}

/// Copies a recording into the folder of [`KEEP`], under the test's name.
fn keep(file: &Path) {
    let Some(folder) = std::env::var_os(KEEP) else { return };
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test").replace("::", "-");
    let copied = std::fs::copy(file, Path::new(&folder).join(format!("{name}.phg")));
    if let Err(error) = copied {
        eprintln!("{} is not kept: {error}", file.display());
    }
}

/// A phase, or a container: an object with `from_ns` and `to_ns`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item<'a>(pub &'a Value);

impl<'a> Item<'a> {
    pub(crate) fn from(self) -> u64 {
        self.0["from_ns"].as_u64().unwrap()
    }

    pub(crate) fn to(self) -> u64 {
        self.0["to_ns"].as_u64().unwrap()
    }

    /// A field that holds text, be it a string or an object with `text`.
    pub(crate) fn text(self, field: &str) -> &'a str {
        let value = &self.0[field];
        value.as_str().or_else(|| value["text"].as_str()).unwrap_or_default()
    }

    /// What told its start and its end.
    pub(crate) fn evidence(self) -> (&'a str, &'a str) {
        let edge = |name: &str| self.0["evidence"][name].as_str().unwrap();
        (edge("from"), edge("to"))
    }

    pub(crate) fn index(self) -> u64 {
        self.0["index"].as_u64().unwrap()
    }

    /// Its phases of that name, wherever they hang below it.
    pub(crate) fn phases(self, name: &str) -> Vec<Item<'a>> {
        let mut found = Vec::new();
        collect(self.0["phases"].as_array(), name, &mut found);
        found
    }

    /// Its only phase of that name.
    pub(crate) fn phase(self, name: &str) -> Item<'a> {
        let found = self.phases(name);
        assert_eq!(found.len(), 1, "{name} in {:#}", self.0);
        found[0]
    }
}

fn collect<'a>(phases: Option<&'a Vec<Value>>, name: &str, found: &mut Vec<Item<'a>>) {
    for phase in phases.into_iter().flatten() {
        if phase["name"] == name {
            found.push(Item(phase));
        }
        collect(phase["phases"].as_array(), name, found);
    }
}

impl Profile {
    /// What the threads of these programs spent in a state (`cpu_ns`, `runqueue_ns`) in all, ns.
    pub(crate) fn time_of(&self, programs: &[&str], state: &str) -> u64 {
        let processes = self.json["processes"].as_array().unwrap().iter();
        let those = processes.filter(|process| programs.iter().any(|name| process["comm"]["text"] == *name));
        let threads = those.flat_map(|process| process["threads"].as_array().unwrap());
        threads.map(|thread| thread["resources"][state].as_u64().unwrap()).sum()
    }

    /// Phases of the operations themselves: a build's steps.
    pub(crate) fn steps(&self) -> Vec<Item<'_>> {
        Item(&self.json).phases("step")
    }

    pub(crate) fn containers(&self) -> Vec<Item<'_>> {
        self.json["containers"].as_array().unwrap().iter().map(Item).collect()
    }

    pub(crate) fn container(&self, name: &str) -> Item<'_> {
        let found: Vec<Item> = self
            .containers()
            .into_iter()
            .filter(|container| container.text("name") == name)
            .collect();
        assert_eq!(
            found.len(),
            1,
            "containers called {name}: {:#}",
            self.json["containers"]
        );
        found[0]
    }

    pub(crate) fn operations(&self) -> Vec<&str> {
        self.json["operations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|operation| Item(operation).text("name"))
            .collect()
    }

    /// Pid of the process of that index.
    pub(crate) fn pid(&self, index: u64) -> u64 {
        self.json["processes"][index as usize]["pid"].as_u64().unwrap()
    }

    /// Last programs of the processes of a phase.
    pub(crate) fn programs(&self, phase: Item<'_>) -> Vec<String> {
        let processes = phase.0["processes"].as_array().unwrap();
        let program = |index: &Value| {
            let process = &self.json["processes"][index.as_u64().unwrap() as usize];
            let argv = &process["argv"][0];
            let name = argv.as_str().or_else(|| argv["text"].as_str()).unwrap_or_default();
            name.rsplit('/').next().unwrap_or_default().to_owned()
        };
        processes.iter().map(program).collect()
    }
}

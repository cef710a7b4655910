//! Containers that run already, found by their processes' cgroups and their monitors' command lines.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs,
    os::unix::{ffi::OsStringExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use super::daemons::Found;
use crate::kernel::host;

/// Length of an engine's container id, hexadecimal digits.
const ID_LEN: usize = 64;
/// Shortest part of an id that names a container.
const MIN_PREFIX: usize = 4;
/// Longest engine state file read, bytes.
const MAX_STATE: u64 = 1 << 20;

/// A container that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub id: String,
    /// Empty when none is known.
    pub name: String,
    /// Ids of its cgroups in the default hierarchy.
    pub cgroups: Vec<u64>,
    /// Processes in these.
    inside: BTreeSet<u32>,
    /// The engine's processes that serve it: conmon, containerd-shim.
    monitors: BTreeSet<u32>,
}

/// Why a container can't be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    #[error("no container runs that is called `{wanted}`{}", listed(running))]
    None { wanted: String, running: Vec<String> },
    #[error("`{wanted}` names several containers{}", listed(found))]
    Several { wanted: String, found: Vec<String> },
}

fn listed(names: &[String]) -> String {
    if names.is_empty() {
        "; none runs at all".to_owned()
    } else {
        format!("; there is: {}", names.join(", "))
    }
}

impl Running {
    /// For people: name and short id.
    pub fn title(&self) -> String {
        let short = self.id.get(..12).unwrap_or(&self.id);
        if self.name.is_empty() {
            short.to_owned()
        } else {
            format!("{} ({short})", self.name)
        }
    }

    /// Everything of it that runs now: its processes, its monitors and what descends from them.
    pub fn processes(&self, all: &[Found]) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for process in all {
            children.entry(process.parent).or_default().push(process.pid);
        }
        let mut queue: Vec<u32> = self.inside.iter().chain(&self.monitors).copied().collect();
        let mut found = HashSet::new();
        while let Some(pid) = queue.pop() {
            if pid != std::process::id() && found.insert(pid) {
                queue.extend(children.get(&pid).into_iter().flatten());
            }
        }
        let mut found: Vec<u32> = found.into_iter().collect();
        found.sort_unstable();
        found
    }
}

/// The running container with that name, id, or beginning of an id.
///
/// # Errors
///
/// [`Unknown`].
pub fn find(wanted: &str) -> Result<Running, Unknown> {
    choose(running(), wanted)
}

fn choose(all: Vec<Running>, wanted: &str) -> Result<Running, Unknown> {
    let titles = |found: &[Running]| found.iter().map(Running::title).collect();
    let known = titles(&all);
    let by_name = |container: &Running| container.name == wanted || container.id == wanted;
    let (named, others): (Vec<_>, Vec<_>) = all.into_iter().partition(by_name);
    let mut found = if named.is_empty() {
        let long_enough = wanted.len() >= MIN_PREFIX;
        let begins = |container: &Running| long_enough && container.id.starts_with(wanted);
        others.into_iter().filter(begins).collect()
    } else {
        named
    };
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            Err(Unknown::Several {
                wanted: wanted.to_owned(),
                found: titles(&found),
            })
        }
        (None, _) => Err(Unknown::None {
            wanted: wanted.to_owned(),
            running: known,
        }),
    }
}

/// All containers that run, by id.
pub fn running() -> Vec<Running> {
    let mut found: BTreeMap<String, Running> = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let root = cgroup_root();
    for pid in pids {
        let process = Path::new("/proc").join(pid.to_string());
        let argv = host::command_line(pid);
        let argv: Vec<String> = argv
            .split(|byte| *byte == 0)
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect();
        if let Some((id, name)) = monitored(&argv) {
            let container = entry(&mut found, &id);
            container.monitors.insert(pid);
            if !name.is_empty() {
                container.name = name;
            }
            continue;
        }
        let Ok(cgroups) = fs::read_to_string(process.join("cgroup")) else {
            continue;
        };
        let Some(id) = container_of(&cgroups) else { continue };
        let container = entry(&mut found, &id);
        container.inside.insert(pid);
        if let (Some(root), Some(path)) = (&root, default_hierarchy(&cgroups))
            && let Ok(folder) = root.join(path.trim_start_matches('/')).metadata()
            && !container.cgroups.contains(&folder.ino())
        {
            // The id of a cgroup is its folder's inode number (`kernfs_node.id`).
            container.cgroups.push(folder.ino());
        }
    }
    for container in found.values_mut().filter(|container| container.name.is_empty()) {
        container.name = docker_name(&container.id).unwrap_or_default();
    }
    // A monitor without a process inside serves one that is just coming or going.
    found.into_values().collect()
}

fn entry<'a>(found: &'a mut BTreeMap<String, Running>, id: &str) -> &'a mut Running {
    found.entry(id.to_owned()).or_insert_with(|| Running {
        id: id.to_owned(),
        ..Running::default()
    })
}

/// Where the default (version 2) hierarchy is mounted.
fn cgroup_root() -> Option<PathBuf> {
    crate::lookup::mounts::mounts_of("self")
        .into_iter()
        .find(|mount| mount.fstype == b"cgroup2")
        .map(|mount| PathBuf::from(std::ffi::OsString::from_vec(mount.point)))
}

/// Container and name that a monitor's command line tells: `conmon -c ID -n NAME …`, `containerd-shim… -id ID …`.
fn monitored(argv: &[String]) -> Option<(String, String)> {
    let program = argv.first()?.rsplit('/').next()?;
    let value = |option: &str| {
        let at = argv.iter().position(|word| word == option)?;
        argv.get(at + 1).cloned()
    };
    let (id, name) = match program {
        "conmon" => (value("-c")?, value("-n").unwrap_or_default()),
        shim if shim.starts_with("containerd-shim") => (value("-id")?, String::new()),
        _ => return None,
    };
    Some((id, name))
}

/// The container that a process is in by the lines of its `/proc/PID/cgroup`: the last 64-digit id in a path.
fn container_of(cgroups: &str) -> Option<String> {
    cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .find_map(|path| {
            path.split(['/', '-', '.', ':'])
                .rfind(|part| part.len() == ID_LEN && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
                .map(str::to_owned)
        })
}

/// Path in the default hierarchy: the line `0::PATH`.
fn default_hierarchy(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The name that docker has for a container, in its default data folder.
fn docker_name(id: &str) -> Option<String> {
    use std::io::Read as _;
    let path = Path::new("/var/lib/docker/containers").join(id).join("config.v2.json");
    let mut text = String::new();
    fs::File::open(path)
        .ok()?
        .take(MAX_STATE)
        .read_to_string(&mut text)
        .ok()?;
    let state: serde_json::Value = serde_json::from_str(&text).ok()?;
    Some(state.get("Name")?.as_str()?.trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Make sure that a container's id is found in the paths that engines and systemd make.
    #[test]
    fn ids_in_paths() {
        for path in [
            format!("0::/docker/{ID}"),
            format!("0::/system.slice/docker-{ID}.scope"),
            format!("0::/machine.slice/libpod-{ID}.scope/container"),
            format!("0::/kubepods/burstable/podabc/cri-containerd-{ID}.scope"),
            format!("12:cpu:/\n1:name=systemd:/libpod_parent/libpod-{ID}\n0::/"),
        ] {
            assert_eq!(container_of(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container_of("0::/user.slice/user-0.slice\n"), None);
        assert_eq!(container_of(&format!("0::/x{ID}")), None);
    }

    /// Make sure that monitors' command lines tell container and name.
    #[test]
    fn monitors() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let conmon = words(&format!(
            "/usr/bin/conmon --api-version 1 -c {ID} -u {ID} -r runc -n web"
        ));
        assert_eq!(monitored(&conmon), Some((ID.to_owned(), "web".to_owned())));
        let shim = words(&format!(
            "/usr/bin/containerd-shim-runc-v2 -namespace moby -id {ID} -address /x"
        ));
        assert_eq!(monitored(&shim), Some((ID.to_owned(), String::new())));
        assert_eq!(monitored(&words("sh -c -id x")), None);
        assert_eq!(monitored(&words("conmon -c")), None);
    }

    /// Make sure that a name, an id and its beginning choose one container, and that others are told what there is.
    #[test]
    fn choice() {
        let container = |id: &str, name: &str| Running {
            id: id.to_owned(),
            name: name.to_owned(),
            ..Running::default()
        };
        let all = || {
            vec![
                container("abcd1", "web"),
                container("abcd2", "db"),
                container("abcd", ""),
            ]
        };
        assert_eq!(choose(all(), "web").unwrap().id, "abcd1");
        assert_eq!(choose(all(), "abcd2").unwrap().name, "db");
        assert_eq!(choose(all(), "abcd").unwrap().id, "abcd");
        assert!(matches!(
            choose(all()[..2].to_vec(), "abcd"),
            Err(Unknown::Several { .. })
        ));
        assert!(matches!(choose(all(), "abc"), Err(Unknown::None { .. })));
        let error = choose(all(), "nothing").unwrap_err().to_string();
        assert!(error.contains("web (abcd1)"), "{error}");
        assert!(choose(Vec::new(), "x").unwrap_err().to_string().contains("none runs"));
    }

    /// Make sure that what descends from a monitor belongs to its container, and nothing else.
    #[test]
    fn descendants_of_monitors() {
        let found = |pid, parent| Found {
            pid,
            parent,
            comm: String::new(),
        };
        let container = Running {
            inside: [12].into(),
            monitors: [10].into(),
            ..Running::default()
        };
        let all = [found(10, 1), found(11, 10), found(12, 11), found(13, 12), found(20, 1)];
        assert_eq!(container.processes(&all), [10, 11, 12, 13]);
    }
}

//! Names for processes that live some milliseconds inside an overlay in a mount namespace of their own. Needs root,
//! gcc and unshare; skipped with the reason where something is missing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use phasegraph::ingest::frames::{Interner, RawStack, Sources};
use phasegraph::ingest::mappings::{Mappings, What};
use phasegraph::ingest::spaces::Spaces;
use phasegraph::kernel::host::online_cpus;
use phasegraph::lookup::binaries::Binaries;
use phasegraph::lookup::locate::{Sighting, Way};
use phasegraph::recording::record::Record;
use phasegraph::symbol::kernel::Kernel;
use phasegraph::symbol::sandbox::Sandbox;

const BURN: &str = r"
#include <stdlib.h>
#include <time.h>
static volatile unsigned long sink;
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
__attribute__((noinline)) void burn(long ns) {
    for (long end = now() + ns; now() < end;)
        for (int i = 0; i < 1000; i++) sink += i;
}
int main(int argc, char **argv) { burn(argc > 1 ? atol(argv[1]) : 1000000); return 0; }
";

/// What the lead's loop does with mappings, without its other parts.
struct Host {
    mappings: Mappings,
    spaces: Spaces,
    binaries: Binaries,
    interner: Interner,
    kernel: Kernel,
    /// The address to be named in each process that maps a file of these paths, and the names, in order.
    watched: u64,
    names: BTreeMap<Vec<u8>, Vec<Option<String>>>,
    out: Vec<Record>,
}

impl Host {
    fn open(watched: u64) -> Result<Host, String> {
        let cpus = online_cpus().map_err(|error| error.to_string())?;
        Ok(Host {
            mappings: Mappings::open(&cpus).map_err(|error| error.to_string())?,
            spaces: Spaces::default(),
            binaries: binaries(),
            interner: Interner::default(),
            kernel: Kernel::open().map_err(|error| error.to_string())?,
            watched,
            names: BTreeMap::new(),
            out: Vec::new(),
        })
    }

    fn drain(&mut self, mnt_ns: u32) {
        let Host {
            mappings,
            spaces,
            binaries,
            ..
        } = self;
        let mut mapped = Vec::new();
        mappings.drain(u64::MAX, |event| match event.what {
            What::Exec => spaces.exec(event.pid),
            What::Map(map) => {
                let file = binaries.see(&Sighting {
                    ts: event.ts,
                    pid: event.pid,
                    mnt_ns,
                    map,
                });
                spaces.map(event.pid, &map, file);
                if !map.path.starts_with(b"[") {
                    mapped.push((map.path.to_vec(), event.pid));
                }
            }
        });
        // At once: process ids return.
        for (path, tgid) in mapped {
            let name = self.name(tgid, self.watched);
            self.names.entry(path).or_default().push(name);
        }
    }

    /// Runs `script` with `sh` in a mount namespace of its own, and drains meanwhile, each time followed by `each`.
    /// Its output.
    fn run(&mut self, script: &str, mut each: impl FnMut(&Host)) -> String {
        let mnt_ns = 0;
        let child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let waiter = std::thread::spawn(move || child.wait_with_output().unwrap());
        while !waiter.is_finished() {
            self.drain(mnt_ns);
            each(self);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.drain(mnt_ns);
        let output = waiter.join().unwrap();
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The name of one user address of process `tgid`.
    fn name(&mut self, tgid: u32, address: u64) -> Option<String> {
        let mut sources = Sources {
            spaces: &self.spaces,
            binaries: &mut self.binaries,
            kernel: Some(&self.kernel),
        };
        let raw = RawStack {
            tgid,
            user: &[address],
            ..RawStack::default()
        };
        let id = self.interner.stack(&raw, &mut sources, &mut self.out);
        self.interner.naming().settle(&mut self.binaries, &mut self.out);
        let frame = self.out.iter().find_map(|record| match record {
            Record::Stack(stack) if stack.id == id => stack.frames.first().copied(),
            _ => None,
        })?;
        self.out.iter().rev().find_map(|record| match record {
            Record::Symbol(symbol) if symbol.frame == frame => Some(String::from_utf8_lossy(&symbol.name).into_owned()),
            _ => None,
        })
    }
}

/// Mapped files, read by the program's own parser.
fn binaries() -> Binaries {
    let program = env!("CARGO_BIN_EXE_phasegraph");
    Binaries::new().with_sandbox(Sandbox::with_program(program.into()))
}

/// Compiles `burn` and gives its function's address; says why when that can't be.
fn compile(dir: &Path) -> Result<u64, String> {
    // SAFETY: takes nothing and can't fail.
    if unsafe { libc::geteuid() } != 0 {
        return Err("not root".to_string());
    }
    std::fs::write(dir.join("burn.c"), BURN).unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).current_dir(dir).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))),
        }
    };
    run("gcc", &["-static", "-no-pie", "-O1", "-o", "burn", "burn.c"])?;
    run("unshare", &["--version"])?;
    let symbols = run("nm", &["burn"])?;
    let line = symbols
        .lines()
        .find_map(|line| line.strip_suffix(" T burn"))
        .ok_or("nm shows no burn")?;
    u64::from_str_radix(line, 16).map_err(|error| error.to_string())
}

macro_rules! or_skip {
    ($result:expr) => {
        match $result {
            Ok(value) => value,
            Err(reason) => return eprintln!("skipped: {reason}"),
        }
    };
}

/// `mount` of an overlay in `$B` with the program in its lower layer as `/bin/$1`, the program run below it for `$2`
/// ns, and a plain `umount` right after its end.
const SCRIPT: &str = r#"
set -u
mkdir -p "$B/lower/bin" "$B/base" "$B/upper" "$B/work" "$B/merged"
one() {
    cp "$B/burn" "$B/lower/bin/$1"
    mount -t overlay overlay -o "lowerdir=$B/lower:$B/base,upperdir=$B/upper,workdir=$B/work" "$B/merged" || exit
    chroot "$B/merged" "/bin/$1" "$2" || echo "run $1 failed"
    umount "$B/merged" || echo "umount $1 failed"
    rm -f "$B/lower/bin/$1"
}
"#;

fn script(dir: &Path, body: &str) -> String {
    format!("B='{}'\n{SCRIPT}\n{body}", dir.display())
}

/// Make sure that 200 processes of 1 ms, each a new file in a new overlay mount of another mount namespace, get their
/// function's name where the mount's options are known, and that no plain umount right after an exit finds the mount
/// busy because of us.
#[test]
fn short_lives_in_overlays() {
    let dir = tempfile::tempdir().unwrap();
    let burn = or_skip!(compile(dir.path()));
    let mut host = or_skip!(Host::open(burn + 4));
    let path = dir.path().display();
    let options = format!("lowerdir={path}/lower:{path}/base,upperdir={path}/upper,workdir={path}/work");
    host.binaries
        .note_overlay(0, format!("{path}/merged").as_bytes(), options.as_bytes());
    // The files stay until the end, so that the loop's pace decides nothing.
    let body = "rm() { :; }; i=0; while [ $i -lt 200 ]; do one burn$i 1000000; i=$((i + 1)); done";
    let said = host.run(&script(dir.path(), body), |_| {});
    assert_eq!(said, "");
    assert_eq!(host.mappings.lost(), 0);
    for index in 0..200 {
        let path = format!("/bin/burn{index}").into_bytes();
        let names = host.names.get(&path);
        assert_eq!(
            names,
            Some(&vec![Some("burn".to_string())]),
            "burn{index}: {:?}",
            host.binaries.losses()
        );
    }
    assert!(host.binaries.reached(Way::Layer) + host.binaries.reached(Way::Handle) >= 200);
}

/// Make sure that the layers are found by the mount table of a process in the namespace, for a container that was
/// there before.
#[test]
fn overlay_from_mountinfo() {
    let dir = tempfile::tempdir().unwrap();
    let burn = or_skip!(compile(dir.path()));
    let mut host = or_skip!(Host::open(burn + 4));
    let (mut ready, told) = std::io::pipe().unwrap();
    let body = r#"
        mount -t overlay overlay -o "lowerdir=$B/lower:$B/base,upperdir=$B/upper,workdir=$B/work" "$B/merged"
        cp "$B/burn" "$B/lower/burn"
        echo ready >&2
        exec sleep 60
    "#;
    let mut keeper = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", &script(dir.path(), body)])
        .stderr(told)
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    ready.read_exact(&mut said).unwrap();
    let pid = keeper.id();
    host.binaries.learn_mounts(pid);
    let merged = dir.path().join("merged");
    let inside = Command::new("nsenter")
        .args(["-m", "-t", &pid.to_string(), "chroot"])
        .arg(&merged)
        .args(["/burn", "1000000"])
        .output();
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    assert!(inside.unwrap().status.success());
    host.drain(0);
    assert_eq!(
        host.names[&b"/burn"[..]],
        [Some("burn".to_string())],
        "{:?}",
        host.binaries.losses()
    );
}

/// Make sure that a file written over while its inode number stays is another file: its own names, not the old ones.
#[test]
fn inode_reused() {
    let dir = tempfile::tempdir().unwrap();
    let burn = or_skip!(compile(dir.path()));
    let mut host = or_skip!(Host::open(burn + 4));
    let text = BURN.replace("burn(", "blaze(");
    std::fs::write(dir.path().join("blaze.c"), text).unwrap();
    let gcc = Command::new("gcc")
        .args(["-static", "-no-pie", "-O1", "-o", "blaze", "blaze.c"])
        .current_dir(dir.path())
        .status();
    assert!(gcc.unwrap().success());
    let path = dir.path().display();
    let options = format!("lowerdir={path}/lower:{path}/base,upperdir={path}/upper,workdir={path}/work");
    host.binaries
        .note_overlay(0, format!("{path}/merged").as_bytes(), options.as_bytes());
    let body = r#"
        rm() { :; }
        one same 1000000
        while [ ! -e "$B/seen" ]; do sleep 0.01; done
        inode=$(stat -c %i "$B/lower/bin/same")
        cat "$B/blaze" > "$B/burn"
        one same 1000000
        [ "$inode" = "$(stat -c %i "$B/lower/bin/same")" ] || echo "another inode"
    "#;
    let seen = dir.path().join("seen");
    let said = host.run(&script(dir.path(), body), |host| {
        if host.names.contains_key(&b"/bin/same"[..]) {
            std::fs::write(&seen, "").unwrap();
        }
    });
    assert_eq!(said, "");
    let names = [Some("burn".to_string()), Some("blaze".to_string())];
    assert_eq!(host.names[&b"/bin/same"[..]], names, "{:?}", host.binaries.losses());
}

/// Make sure that a program outside any container is found by handle or host path.
#[test]
fn host_program() {
    let dir = tempfile::tempdir().unwrap();
    let burn = or_skip!(compile(dir.path()));
    let mut host = or_skip!(Host::open(burn + 4));
    let said = host.run(&format!("'{}/burn' 200000000", dir.path().display()), |_| {});
    assert_eq!(said, "");
    let path = dir.path().join("burn");
    assert_eq!(
        host.names[path.as_os_str().as_encoded_bytes()],
        [Some("burn".to_string())],
        "{:?}",
        host.binaries.losses()
    );
}

/// Make sure that a layer with a hostile link in the place of the program does not lead out of it.
#[test]
fn hostile_layer() {
    let dir = tempfile::tempdir().unwrap();
    or_skip!(compile(dir.path()));
    let layer = dir.path().join("layer");
    std::fs::create_dir_all(layer.join("bin")).unwrap();
    let secret = dir.path().join("burn");
    std::os::unix::fs::symlink(&secret, layer.join("bin/link")).unwrap();
    std::os::unix::fs::symlink(dir.path(), layer.join("up")).unwrap();
    let ino = std::fs::metadata(&secret).unwrap().ino();
    for path in [
        &b"/bin/link"[..],
        b"/up/burn",
        b"/../burn",
        b"/bin/../../burn",
        b"burn",
        b"",
    ] {
        let map = phasegraph::ingest::mappings::Map {
            start: 0x1000,
            end: 0x2000,
            pgoff: 0,
            dev: 0xfff,
            ino,
            generation: 0,
            path,
        };
        let mut binaries = binaries();
        binaries.note_overlay(0, b"/m", format!("lowerdir={}", layer.display()).as_bytes());
        let file = binaries
            .see(&Sighting {
                ts: 0,
                pid: 0,
                mnt_ns: 0,
                map,
            })
            .unwrap();
        assert!(
            binaries.user().image(file).is_none(),
            "{}",
            String::from_utf8_lossy(path)
        );
        assert_eq!(binaries.losses().len(), 1);
    }
}

//! What is wrong with the host, the output or the command: each with a clear message and the right exit status, and
//! never at the command's cost. Most need root, and say so when they are skipped.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(dead_code, reason = "each test program uses its own part")]
#[path = "support/run.rs"]
mod run;
#[path = "support/terminal.rs"]
mod terminal;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use run::{Folder, PHASEGRAPH, Started, in_own_mounts, needs_root, shell_status, stderr, stdout, until};
use terminal::Terminal;

/// `nobody` on every distribution.
const NOBODY: u32 = 65_534;

/// Make sure that it failed with `status`, said all of `messages`, and that nothing ran or stands there by halves.
fn assert_refused(folder: &Folder, output: &Output, status: i32, messages: &[&str]) {
    assert_eq!(output.status.code(), Some(status), "{}", stderr(output));
    for message in messages {
        assert!(stderr(output).contains(message), "{message:?} in {}", stderr(output));
    }
    assert!(output.stdout.is_empty());
    let left: Vec<_> = folder
        .names()
        .into_iter()
        .filter(|name| name.starts_with("ran") || name.contains(".phg"))
        .collect();
    assert!(left.is_empty(), "{left:?} after {}", stderr(output));
}

/// Make sure that a user who is not root, and a root without the capability, are told so, and what to do.
#[test]
fn not_root() {
    let folder = Folder::new();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    let mut as_user = folder.profile("x.phg", ["touch", "ran"]);
    if root {
        // Where `nobody` can get at it.
        let open = tempfile::tempdir().unwrap();
        fs::set_permissions(open.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let program = open.path().join("phasegraph");
        fs::copy(PHASEGRAPH, &program).unwrap();
        let mut command = Command::new(&program);
        command
            .args(["run", "-o", "x.phg", "--", "touch", "ran"])
            .current_dir(open.path());
        let output = command.uid(NOBODY).gid(NOBODY).output().unwrap();
        assert_refused(&folder, &output, 1, &["needs root", "65534", "run it with sudo"]);
        assert_eq!(fs::read_dir(open.path()).unwrap().count(), 1);
        as_user = folder.profile("x.phg", ["touch", "ran"]);
        run::without_sys_admin(&mut as_user);
    }
    let expected = if root {
        "this root lacks CAP_SYS_ADMIN"
    } else {
        "CAP_SYS_ADMIN is missing"
    };
    assert_refused(
        &folder,
        &as_user.output().unwrap(),
        1,
        &["needs root", expected, "run it with sudo"],
    );
}

/// Make sure that a command that can't be run has the shell's exit status, a next step, and leaves no recording.
#[test]
fn command_that_can_not_run() {
    let folder = Folder::new();
    fs::write(folder.path("plain"), "x").unwrap();
    for (word, status, message) in [
        ("no-such-program", 127, "command not found"),
        ("./no-such-program", 127, "command not found"),
        ("./plain", 126, "can't execute"),
        ("./plain/below", 127, "command not found"),
        (".", 126, "can't execute"),
    ] {
        let output = folder.profile("x.phg", [word]).output().unwrap();
        assert_refused(&folder, &output, status, &[message, "try: "]);
    }
    let none = folder.phasegraph(["run", "-o", "x.phg"]).output().unwrap();
    assert_refused(&folder, &none, 2, &["<CMD>", "Usage"]);
    let user = folder
        .phasegraph(["run", "-o", "x.phg", "--user", "no-such-user-here", "--", "true"])
        .output()
        .unwrap();
    // Without root, that comes first.
    assert_refused(&folder, &user, 1, &["try: "]);
}

/// Make sure that an output that can't be made is told before anything runs.
#[test]
fn output_not_writable() {
    needs_root!();
    let folder = Folder::new();
    fs::write(folder.path("file"), "").unwrap();
    let long = "x".repeat(300);
    for (output, messages) in [
        ("none/x.phg", ["No such file", "make the folder first"]),
        ("file/x.phg", ["Not a directory", "correct it"]),
        ("/proc/x.phg", ["/proc/x.phg", "-o"]),
        ("-", ["standard output", "-o"]),
        ("below/", ["no file", "-o"]),
        (&long, ["too long", "shorter"]),
    ] {
        let refused = folder.profile(output, ["touch", "ran"]).output().unwrap();
        assert_refused(&folder, &refused, 1, &messages);
    }
    let read_only = "mount -t tmpfs -o ro none /mnt; exec \"$1\" run -o /mnt/x.phg -- touch ran";
    let Some(refused) = in_own_mounts(&folder, read_only, &[PHASEGRAPH]) else {
        return;
    };
    assert_refused(&folder, &refused, 1, &["Read-only file system", "-o"]);
}

/// Make sure that what exists is replaced only when that is asked for, and is kept until the new one is whole.
#[test]
fn output_exists() {
    needs_root!();
    let folder = Folder::new();
    fs::write(folder.path("x.phg"), "mine").unwrap();
    let refused = folder.profile("x.phg", ["touch", "ran"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("x.phg exists already"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(folder.names(), ["x.phg"]);
    assert_eq!(fs::read(folder.path("x.phg")).unwrap(), b"mine");

    let forced = ["run", "--force", "--no-summary", "-o", "x.phg", "--", "cat", "x.phg"];
    let replaced = folder.phasegraph(forced).output().unwrap();
    assert!(replaced.status.success(), "{}", stderr(&replaced));
    assert_eq!(stdout(&replaced), "mine", "it was gone before the new one was whole");
    assert!(folder.report("x.phg").closed());
    assert_eq!(
        fs::metadata(folder.path("x.phg")).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

/// Make sure that another user's links in a folder that anyone may write to lead nowhere.
#[test]
fn output_through_a_link() {
    needs_root!();
    let folder = Folder::new();
    fs::create_dir(folder.path("victim")).unwrap();
    fs::write(folder.path("victim/file"), "precious").unwrap();
    let open = folder.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o1777)).unwrap();
    for (link, target) in [
        ("way", "../victim"),
        ("y.phg", "../victim/file"),
        ("z.phg.partial", "../victim/file"),
    ] {
        symlink(target, open.join(link)).unwrap();
        std::os::unix::fs::lchown(open.join(link), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    for (output, message) in [
        ("open/way/x.phg", "symbolic link"),
        ("open/y.phg", "y.phg"),
        ("open/z.phg", "z.phg"),
    ] {
        for force in [false, true] {
            let mut words = vec!["run", "-o", output];
            words.extend(force.then_some("--force"));
            words.extend(["--", "touch", "ran"]);
            let refused = folder.phasegraph(words).output().unwrap();
            assert_refused(&folder, &refused, 1, &[message, "-o"]);
        }
    }
    assert_eq!(fs::read(folder.path("victim/file")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(folder.path("victim")).unwrap().count(), 1);
}

/// Make sure that a disk that fills up ends the recording and not the command, and that what was recorded is read.
#[test]
fn disk_full() {
    needs_root!();
    let folder = Folder::new();
    let script = "mount -t tmpfs -o size=160k none /mnt; \
                  \"$1\" run --no-summary -o /mnt/x.phg -- sh -c \"$2\" && status=0 || status=$?; \
                  ls /mnt > names; cp /mnt/x.phg.partial .; exit $status";
    let storm = "i=0; while [ $i -lt 6000 ]; do (exit 0); i=$((i + 1)); done; touch ran-to-its-end; exit $0";
    for (own, expected) in [("exit 5", 5), ("exit 0", 1)] {
        let command = storm.replace("exit $0", own);
        let Some(output) = in_own_mounts(&folder, script, &[PHASEGRAPH, &command]) else {
            return;
        };
        assert_eq!(output.status.code(), Some(expected), "{}", stderr(&output));
        for message in ["No space left", "make room", "the command goes on unprofiled"] {
            assert!(stderr(&output).contains(message), "{message}: {}", stderr(&output));
        }
        assert!(folder.path("ran-to-its-end").exists());
        assert_eq!(fs::read_to_string(folder.path("names")).unwrap(), "x.phg.partial\n");
        let report = folder.report("x.phg.partial");
        assert!(
            !report.closed() && report.processes().count() > 10,
            "{}",
            report.processes().count()
        );
        fs::remove_file(folder.path("ran-to-its-end")).unwrap();
        fs::remove_file(folder.path("x.phg.partial")).unwrap();
    }
}

/// Make sure that tracefs need not be mounted, and that it is not mounted for the host.
#[test]
fn no_tracefs() {
    needs_root!();
    let folder = Folder::new();
    let script = "for folder in /sys/kernel/tracing /sys/kernel/debug; do \
                  while umount -R $folder 2> /dev/null; do :; done; done; \
                  [ ! -e /sys/kernel/tracing/events ]; \
                  \"$1\" run --no-summary -o x.phg -- unshare --mount true; \
                  [ ! -e /sys/kernel/tracing/events ]";
    let Some(output) = in_own_mounts(&folder, script, &[PHASEGRAPH]) else {
        return;
    };
    assert!(output.status.success(), "{}", stderr(&output));
    let report = folder.report("x.phg");
    assert!(report.closed());
    let mounted = folder.report_of("mounted.phg", ["unshare", "--mount", "true"]);
    assert_eq!(
        report.0["host"]["probes"], mounted.0["host"]["probes"],
        "something is missing without tracefs"
    );
}

/// Make sure that a kernel without BTF is told, with what is needed, and that nothing runs.
#[test]
fn no_btf() {
    needs_root!();
    let folder = Folder::new();
    fs::write(folder.path("empty"), "").unwrap();
    for hide in [
        "mount --bind empty /sys/kernel/btf/vmlinux",
        "mount -t tmpfs none /sys/kernel/btf",
    ] {
        let script = format!("{hide}; exec \"$1\" run -o x.phg -- touch ran");
        let Some(output) = in_own_mounts(&folder, &script, &[PHASEGRAPH]) else {
            return;
        };
        assert_refused(
            &folder,
            &output,
            1,
            &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
        );
    }
}

/// Make sure that files that are no whole recording are told what they are, or read as far as they go.
#[test]
fn broken_recordings() {
    let folder = Folder::new();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/format-1.phg");
    let whole = fs::read(golden).unwrap();
    let mut newer = whole.clone();
    let header: &mut [u8; 32] = newer.first_chunk_mut().unwrap();
    let decoded = phasegraph::recording::format::FileHeader::decode(header).unwrap();
    *header = phasegraph::recording::format::FileHeader {
        major: decoded.major + 1,
        ..decoded
    }
    .encode();
    let garbage: Vec<u8> = (0..100_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    fs::create_dir(folder.path("folder")).unwrap();
    fs::write(folder.path("empty"), "").unwrap();
    fs::write(folder.path("head"), &whole[..20]).unwrap();
    fs::write(folder.path("garbage"), garbage).unwrap();
    fs::write(folder.path("newer"), newer).unwrap();
    fs::write(folder.path("whole"), &whole).unwrap();
    for (name, message) in [
        ("none", "No such file"),
        ("folder", "is a folder"),
        ("empty", "0 bytes"),
        ("head", "cut off"),
        ("garbage", "not a recording"),
        ("newer", "newer phasegraph"),
        ("/dev/null", "0 bytes"),
    ] {
        for words in [
            &["show", name][..],
            &["show", "--json", name],
            &["flame", "--folded", name],
        ] {
            let output = folder.phasegraph(words).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{words:?}");
            assert!(
                stderr(&output).contains(message) && output.stdout.is_empty(),
                "{words:?}: {}",
                stderr(&output)
            );
        }
    }
    for len in [32, 64, 96, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.path("cut"), &whole[..len]).unwrap();
        let report = folder.report("cut");
        assert!(!report.damage().is_empty(), "{len} bytes of {}", whole.len());
        let shown = folder.phasegraph(["show", "cut"]).output().unwrap();
        assert!(shown.status.success(), "{len} bytes: {}", stderr(&shown));
    }
    // One byte after the other: never a crash, never silence about it.
    for at in (32..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        fs::write(folder.path("damaged"), damaged).unwrap();
        let output = folder.phasegraph(["show", "--json", "damaged"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "byte {at}: {}", stderr(&output));
        assert!(!folder.report("damaged").damage().is_empty(), "byte {at}");
    }
}

/// Make sure that the command's exit status is passed on, that of one killed by a signal in the shell's form.
#[test]
fn exit_statuses() {
    needs_root!();
    let folder = Folder::new();
    for (script, status) in [("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137)] {
        let output = folder
            .phasegraph(["run", "--force", "--quiet", "-o", "x.phg", "--", "sh", "-c", script])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(status), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        let report = folder.report("x.phg");
        assert!(report.closed());
        assert_eq!(report.0["command"]["exit_status"], status);
        let command = report.command();
        let (exit, signal) = if status < 129 || status == 255 {
            (Some(status), None)
        } else {
            (None, Some(status - 128))
        };
        assert_eq!(command.0["exit_status"].as_i64(), exit.map(i64::from));
        assert_eq!(command.0["signal"].as_i64(), signal.map(i64::from));
    }
}

/// Make sure that what goes through the command's standard input and output is not touched, and that nothing of ours
/// is between it.
#[test]
fn streams_are_the_commands() {
    needs_root!();
    let folder = Folder::new();
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut program = Started::new(
        folder
            .phasegraph(["run", "-o", "x.phg", "--", "sh", "-c", "cat; echo own >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut stdin = program.child().stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let output = program.output();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{}", stderr(&output));
    assert!(stderr(&output).contains("own\n"), "{}", stderr(&output));
}

/// Runs in small steps, whatever signal comes, until it may end or its folder is gone.
const STUBBORN: &str = "trap '' INT TERM; touch ran; while [ -e ran ] && [ ! -e gate ]; do sleep 0.01; done; exit 6";

/// Make sure that the first Ctrl-C waits for the command, and a second one ends the recording, whole.
#[test]
fn second_interrupt() {
    needs_root!();
    let folder = Folder::new();
    let mut program = Started::new(folder.profile("x.phg", ["sh", "-c", STUBBORN]).stderr(Stdio::piped()));
    let mut lines = BufReader::new(program.child().stderr.take().unwrap()).lines();
    until("the command runs", || folder.path("ran").exists());
    let mut line_with = |text: &str| {
        let line = lines
            .by_ref()
            .map(|line| line.unwrap())
            .find(|line| line.contains(text));
        assert!(line.is_some(), "{text}");
    };
    program.signal(libc::SIGINT);
    line_with("once more ends the recording");
    assert!(program.child().try_wait().unwrap().is_none());
    program.signal(libc::SIGINT);
    line_with("the recording ends here");
    let status = shell_status(program.status());
    fs::write(folder.path("gate"), "").unwrap();
    assert_eq!(status, 128 + libc::SIGINT);
    let report = folder.report("x.phg");
    assert!(report.closed());
    assert_eq!(report.command().0["open"], true, "the command went on");
}

/// Make sure that SIGTERM reaches the command, which ends as it likes.
#[test]
fn terminate_is_passed_on() {
    needs_root!();
    let folder = Folder::new();
    let polite = "trap 'exit 9' TERM; touch ran; while [ -e ran ]; do sleep 0.01; done";
    let mut program = Started::new(folder.profile("x.phg", ["sh", "-c", polite]).stderr(Stdio::null()));
    until("the command runs", || folder.path("ran").exists());
    program.signal(libc::SIGTERM);
    assert_eq!(shell_status(program.status()), 9);
    assert!(folder.report("x.phg").closed());
}

/// Make sure that the command has the terminal: as all three streams, as its controlling one, and its Ctrl-C.
#[test]
fn terminal_is_the_commands() {
    needs_root!();
    let folder = Folder::new();
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size < /dev/tty > size && read line && echo \"$line\" > ran; \
                  read rest";
    let mut terminal = Terminal::new(33, 111);
    let mut command = folder.profile("x.phg", ["sh", "-c", script]);
    let mut program = terminal.start(&mut command);
    terminal.write(b"typed\n");
    until("the command has read its line", || {
        fs::read(folder.path("ran")).is_ok_and(|line| line == b"typed\n")
    });
    assert_eq!(fs::read_to_string(folder.path("size")).unwrap(), "33 111\n");
    terminal.write(b"\x03");
    assert_eq!(
        shell_status(program.status()),
        128 + libc::SIGINT,
        "{}",
        terminal.text()
    );
    let report = folder.report("x.phg");
    assert!(report.closed());
    assert_eq!(report.command().0["signal"], libc::SIGINT);
}

/// Make sure that colour is for a terminal only, and not with NO_COLOR.
#[test]
fn colour() {
    let folder = Folder::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/format-1.phg");
    let shown = |no_color: bool| {
        let mut terminal = Terminal::new(24, 80);
        let mut command = folder.phasegraph(["show", golden]);
        command.env("TERM", "xterm");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        assert_eq!(shell_status(terminal.start(&mut command).status()), 0);
        terminal.text()
    };
    assert!(shown(false).contains('\x1b'));
    assert!(!shown(true).contains('\x1b'));
    let piped = folder
        .phasegraph(["show", golden])
        .env("TERM", "xterm")
        .output()
        .unwrap();
    assert!(!stdout(&piped).contains('\x1b'));
}

/// Make sure that hostile names and arguments come out escaped everywhere, and that a reader that goes away in the
/// middle is no failure.
#[test]
fn hostile_names() {
    needs_root!();
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let folder = Folder::new();
    // Its first 15 bytes are the process's name.
    let name = OsStr::from_bytes(b"a;\n\x1b]0;x\x07 <i>\xff\xc3\" 1");
    fs::copy("/bin/sleep", folder.path(name)).unwrap();
    let script = "\"./$1\" 0.02; \"./$1\" 0.02 \"$2\" \"$3\"; i=0; while [ $i -lt 300 ]; do (exit 0); i=$((i + 1)); done; exit 0";
    let long = "<script>&\"'\n\x1b[2J".repeat(7_000);
    let mut command = folder.profile("x.phg", ["sh", "-c", script, "sh"]);
    command
        .arg(name)
        .arg(OsStr::from_bytes(b"\xff\xfe\n--\x1b[31m\xe2\x80\xae"))
        .arg(&long);
    assert!(command.stderr(Stdio::null()).status().unwrap().success());

    let clean = |text: &str| {
        text.chars()
            .all(|char| char == '\n' || !(char.is_control() || ('\u{202a}'..='\u{202e}').contains(&char)))
    };
    let shown = stdout(&folder.phasegraph(["show", "--top", "100", "x.phg"]).output().unwrap());
    assert!(clean(&shown) && shown.contains(r"\x1b]0;"), "{shown}");

    let report = folder.report("x.phg");
    let hostile: Vec<_> = report
        .processes()
        .filter(|process| {
            process.0["comm"]["text"]
                .as_str()
                .is_some_and(|comm| comm.starts_with("a;"))
        })
        .collect();
    assert_eq!(hostile.len(), 2);
    let exact = hostile[0].0["argv"][0]
        .as_object()
        .unwrap()
        .values()
        .filter_map(|value| value.as_str())
        .any(|text| text.ends_with("ffc3222031"));
    assert!(exact, "no exact bytes: {:#}", hostile[0].0["argv"]);

    let folded = folder
        .phasegraph(["flame", "--folded", "--kind", "wall", "x.phg"])
        .output()
        .unwrap();
    let folded = stdout(&folded);
    assert!(clean(&folded) && !folded.is_empty());
    for line in folded.lines() {
        let (stack, count) = line.rsplit_once(' ').unwrap();
        assert!(!stack.is_empty() && count.parse::<u64>().is_ok(), "{line}");
    }

    for kind in ["cpu", "offcpu", "wall"] {
        let made = folder
            .phasegraph(["flame", "--kind", kind, "-o", "x.svg", "--force", "x.phg"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", stderr(&made));
        let svg = fs::read_to_string(folder.path("x.svg")).unwrap();
        let mut reader = quick_xml::Reader::from_str(&svg);
        let mut elements = 0;
        loop {
            match reader.read_event().unwrap() {
                quick_xml::events::Event::Eof => break,
                quick_xml::events::Event::Start(element) | quick_xml::events::Event::Empty(element) => {
                    assert_ne!(element.name().as_ref(), b"i", "markup of a name");
                    elements += 1;
                }
                _ => {}
            }
        }
        assert!(elements > 10 && !svg.contains('\x1b'), "{elements} elements");
    }

    // More than a pipe holds, so that the reader's leaving is met.
    let mut program = Started::new(
        folder
            .phasegraph(["show", "--json", "x.phg"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    );
    let mut start = [0; 10];
    std::io::Read::read_exact(program.child().stdout.as_mut().unwrap(), &mut start).unwrap();
    drop(program.child().stdout.take());
    let output = program.output();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

//! What the containers run: a stopwatch, a small C project, and images to run them in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{self, Skip};

/// Stamps `CLOCK_MONOTONIC` at `main()` and before its exit, and runs a command in between. Static, so that it runs in
/// any image and starts at once.
const STAMP: &str = r#"
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void stamp(const char *name, const char *edge)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("stamp %s %s %lld\n", name, edge, now.tv_sec * 1000000000LL + now.tv_nsec);
    fflush(stdout);
}

int main(int count, char **words)
{
    int status = 0;
    if (count < 2)
        return 2;
    stamp(words[1], "begin");
    if (count > 2) {
        pid_t child = fork();
        if (child == 0) {
            execvp(words[2], words + 2);
            _exit(127);
        }
        waitpid(child, &status, 0);
    }
    stamp(words[1], "end");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
"#;

/// Files in the C project, and functions in each: a file takes a compiler some 100 to 300 ms.
pub(crate) const SOURCES: usize = 8;
const FUNCTIONS: usize = 24;

/// Makes the stopwatch at `path`.
pub(crate) fn stamp(path: &Path) -> Result<(), Skip> {
    host::require(&["gcc"])?;
    let source = path.with_extension("c");
    fs::write(&source, STAMP).unwrap();
    let status = Command::new("gcc")
        .args(["-O2", "-static", "-o"])
        .args([path, &source])
        .status()
        .unwrap();
    fs::remove_file(source).unwrap();
    if status.success() {
        Ok(())
    } else {
        Err(Skip("needs a gcc that links statically (libc6-dev)".to_owned()))
    }
}

/// When the stopwatch of that name began and ended, ns, according to what it printed.
pub(crate) fn stamps(output: &str, name: &str) -> (u64, u64) {
    let edge = |edge: &str| -> u64 {
        let line = output
            .lines()
            .find_map(|line| line.strip_prefix(&format!("stamp {name} {edge} ")));
        line.unwrap_or_else(|| panic!("no stamp {name} {edge} in\n{output}"))
            .trim()
            .parse()
            .unwrap()
    };
    (edge("begin"), edge("end"))
}

/// All stopwatches of that name, in order of time.
pub(crate) fn all_stamps(output: &str, name: &str) -> Vec<(u64, u64)> {
    let times = |edge: &str| -> Vec<u64> {
        let prefix = format!("stamp {name} {edge} ");
        let lines = output.lines().filter_map(|line| line.strip_prefix(&prefix));
        lines.map(|time| time.trim().parse().unwrap()).collect()
    };
    times("begin").into_iter().zip(times("end")).collect()
}

/// Writes a C project with a makefile, the same each time.
pub(crate) fn c_project(folder: &Path) {
    for file in 0..SOURCES {
        let mut text = String::from("#include <stdio.h>\n#include <string.h>\n");
        for function in 0..FUNCTIONS {
            let factor = function + 1;
            text.push_str(&format!(
                "int u{file}_{function}(int a, int b, const char *s)\n{{\n    int r = 0;\n    \
                 for (int i = 0; i < a; i++) {{\n        switch ((a ^ i) & 7) {{\n        \
                 case 0: r += i * {factor}; break;\n        case 1: r ^= b + i; break;\n        \
                 case 2: r -= a % (i + 1); break;\n        case 3: r += (int)strlen(s + (i & 3)); break;\n        \
                 default: r = r * 31 + b / (i + {factor});\n        }}\n        \
                 if (r > 10{function:02})\n            r = r % 9{factor:02};\n    }}\n    return r;\n}}\n"
            ));
        }
        if file == 0 {
            text.push_str("int main(void)\n{\n    printf(\"%d\\n\", u0_1(3, 4, \"hello\"));\n    return 0;\n}\n");
        }
        fs::write(folder.join(format!("u{file}.c")), text).unwrap();
    }
    fs::write(
        folder.join("Makefile"),
        "app: $(patsubst %.c,%.o,$(wildcard *.c))\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -O2 -c -o $@ $<\n",
    )
    .unwrap();
}

/// A Debian root file system with a compiler, as a tar archive; made once, and kept between runs.
pub(crate) fn build_root() -> Result<PathBuf, Skip> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-root-bookworm.tar");
    if path.exists() {
        return Ok(path);
    }
    host::require(&["mmdebstrap"])?;
    let partial = path.with_extension(format!("{}.tar", std::process::id()));
    eprintln!("making {} (once, about a minute)", path.display());
    let output = Command::new("mmdebstrap")
        .args(["--variant=minbase", "--include=gcc,libc6-dev,make", "bookworm"])
        .arg(&partial)
        .output()
        .unwrap();
    if !output.status.success() {
        let _ = fs::remove_file(&partial);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Skip(format!(
            "mmdebstrap makes no build root here: {}",
            error.lines().last().unwrap_or_default()
        )));
    }
    fs::rename(partial, &path).unwrap();
    Ok(path)
}

/// A tiny root file system in a folder: busybox and the stopwatch.
pub(crate) fn busybox_root(folder: &Path) -> Result<(), Skip> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).is_file());
    let busybox = busybox.ok_or_else(|| Skip("needs busybox (busybox-static)".to_owned()))?;
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::copy(busybox, bin.join("busybox")).unwrap();
    for applet in ["cat", "echo", "ls", "sh", "sleep", "true"] {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    fs::create_dir_all(folder.join("etc")).unwrap();
    fs::write(folder.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
    fs::write(folder.join("etc/group"), "root:x:0:\n").unwrap();
    stamp(&folder.join("stamp"))
}

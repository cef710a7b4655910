//! The build workload's input: a root filesystem with a compiler, and a generated C project.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::exec;

/// Name of the image that holds the compiler.
const BASE: &str = "localhost/phasegraph-bench-base";
/// Name of the image that is built.
const BUILT: &str = "localhost/phasegraph-bench-built";

/// podman and conmon want to see a host with nothing but cgroup2.
const NAMESPACE: &str = "mount --make-rprivate /; umount -R /sys/fs/cgroup 2>/dev/null; \
                         mount -t cgroup2 none /sys/fs/cgroup || exit 1; exec \"$@\"";

/// A podman store of its own with the compiler's image, and a project to build.
pub(crate) struct Project {
    folder: PathBuf,
}

impl Project {
    /// Makes what is missing of it below `folder`.
    pub(crate) fn prepare(folder: &Path, files: u32) -> anyhow::Result<Project> {
        let root = folder.join("rootfs.tar");
        if !root.exists() {
            let unfinished = folder.join("rootfs.unfinished.tar");
            exec::run(
                Command::new("mmdebstrap")
                    .args([
                        "--variant=minbase",
                        "--include=gcc,libc6-dev,make",
                        "--quiet",
                        "bookworm",
                    ])
                    .arg(&unfinished),
            )
            .context("a Debian root filesystem with gcc is needed")?;
            fs::rename(&unfinished, &root).with_context(|| root.display().to_string())?;
        }
        let project = Project {
            folder: folder.to_owned(),
        };
        project.write(files)?;
        fs::create_dir_all(folder.join("tmp"))?;
        if project
            .podman(&["image", "exists", BASE])
            .status()
            .is_ok_and(|status| status.success())
        {
            return Ok(project);
        }
        exec::run(project.podman(&["import", "--quiet"]).arg(&root).arg(BASE))?;
        Ok(project)
    }

    fn write(&self, files: u32) -> anyhow::Result<()> {
        let context = self.context();
        if context.exists() {
            fs::remove_dir_all(&context)?;
        }
        fs::create_dir_all(&context)?;
        let mut texts = vec![
            ("Containerfile".to_owned(), containerfile()),
            ("Makefile".to_owned(), MAKEFILE.to_owned()),
            ("main.c".to_owned(), main_source(files)),
        ];
        texts.extend((0..files).map(|index| (format!("part{index}.c"), source(index))));
        for (name, text) in texts {
            let path = context.join(name);
            fs::write(&path, text).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }

    fn context(&self) -> PathBuf {
        self.folder.join("context")
    }

    /// podman on the bench's own store, in a mount namespace of its own.
    fn podman(&self, words: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", NAMESPACE, "sh", "podman"]);
        command.arg("--root").arg(self.folder.join("store"));
        command.arg("--runroot").arg(self.folder.join("run"));
        command
            .args(["--runtime", "runc", "--storage-driver", "overlay"])
            .args(words);
        command.env("TMPDIR", self.folder.join("tmp"));
        command
    }

    /// The workload's command.
    pub(crate) fn build(&self) -> Command {
        let mut command = self.podman(&["build", "--no-cache", "--network=none", "--quiet", "--tag", BUILT]);
        command.arg(self.context());
        command
    }

    /// Removes what a build has made.
    pub(crate) fn clean(&self) -> anyhow::Result<()> {
        exec::output(&mut self.podman(&["image", "rm", "--force", BUILT]))?;
        exec::output(&mut self.podman(&["image", "prune", "--force"]))?;
        Ok(())
    }
}

fn containerfile() -> String {
    format!("FROM {BASE}\nCOPY . /src\nWORKDIR /src\nRUN make -j2\nRUN ./program\n")
}

const MAKEFILE: &str = "\
objects = $(patsubst %.c,%.o,$(wildcard *.c))
program: $(objects)
\tgcc -o $@ $^
%.o: %.c
\tgcc -O2 -Wall -c -o $@ $<
";

fn main_source(files: u32) -> String {
    let mut text = String::from("#include <stdio.h>\n");
    for index in 0..files {
        _ = writeln!(text, "unsigned part{index}(const char *text, unsigned seed);");
    }
    text.push_str("int main(void)\n{\n    unsigned sum = 1;\n");
    for index in 0..files {
        _ = writeln!(text, "    sum = part{index}(\"phase\", sum);");
    }
    text.push_str("    printf(\"%u\\n\", sum);\n    return 0;\n}\n");
    text
}

/// Functions in each file: about a third of a second of gcc -O2 in all.
const FUNCTIONS: u32 = 36;

/// One file of the project: parsers, tables and arithmetic in C's everyday style; each file differs a little, so that no
/// compiler cache can help.
fn source(index: u32) -> String {
    let mut text = String::from(
        "#include <ctype.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\n\
         struct entry { struct entry *next; unsigned key; char name[24]; double weight; };\n\
         static struct entry *table[64];\n\n",
    );
    for function in 0..FUNCTIONS {
        let odd = index * 2 + function * 4 + 3;
        let shift = function % 13 + 1;
        let body = match function % 3 {
            0 => format!(
                "static unsigned step{function}(const char *text, unsigned seed)\n{{\n    unsigned sum = seed;\n    \
                 for (; *text; text++) {{\n        switch ((*text + sum) % 7) {{\n        case 0: sum += *text * \
                 {odd}u; break;\n        case 1: sum ^= sum << {shift}; break;\n        case 2: sum = (sum >> 3) | (sum \
                 << 29); break;\n        case 3: if (isdigit((unsigned char)*text)) sum += 10; else sum -= {odd}u; \
                 break;\n        case 4: sum = sum / (1u + *text % 5) + {function}u; break;\n        default: sum += \
                 {shift}u;\n        }}\n    }}\n    return sum;\n}}\n\n"
            ),
            1 => format!(
                "static unsigned step{function}(const char *text, unsigned seed)\n{{\n    unsigned key = seed * {odd}u \
                 % 64;\n    struct entry *entry;\n    for (entry = table[key]; entry; entry = entry->next)\n        if \
                 (entry->key == seed && strncmp(entry->name, text, sizeof entry->name - 1) == 0)\n            return \
                 (unsigned)(entry->weight * {shift}.5);\n    entry = calloc(1, sizeof *entry);\n    if (!entry)\n        \
                 return 0;\n    entry->key = seed;\n    snprintf(entry->name, sizeof entry->name, \"%s%u\", text, seed \
                 % 100);\n    entry->weight = seed / {odd}.0;\n    entry->next = table[key];\n    table[key] = \
                 entry;\n    return key + step{previous}(text, seed);\n}}\n\n",
                previous = function - 1,
            ),
            _ => format!(
                "static unsigned step{function}(const char *text, unsigned seed)\n{{\n    unsigned grid[8][8], sum = \
                 0;\n    for (unsigned row = 0; row < 8; row++)\n        for (unsigned column = 0; column < 8; \
                 column++)\n            grid[row][column] = (row * {odd}u + column) ^ seed;\n    for (unsigned row = 1; \
                 row < 7; row++)\n        for (unsigned column = 1; column < 7; column++)\n            sum += \
                 grid[row - 1][column] * grid[row][column - 1] + (grid[row + 1][column] >> {shift});\n    return sum + \
                 step{previous}(text, sum);\n}}\n\n",
                previous = function - 1,
            ),
        };
        text.push_str(&body);
    }
    _ = writeln!(text, "unsigned part{index}(const char *text, unsigned seed)\n{{");
    for function in 0..FUNCTIONS {
        _ = writeln!(text, "    seed += step{function}(text, seed);");
    }
    text.push_str("    return seed;\n}\n");
    text
}

/// Writes a static program that does nothing: 132 bytes at most, nothing to link or to load.
pub(crate) fn write_nothing(path: &Path) -> anyhow::Result<()> {
    fs::write(path, nothing()).with_context(|| path.display().to_string())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}

/// An ELF file (`elf(5)`): its header, one loadable segment, and `exit(0)`.
fn nothing() -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    // mov eax, 60 (exit); xor edi, edi; syscall. 62 is EM_X86_64.
    const PROGRAM: (u16, &[u8]) = (62, &[0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]);
    #[cfg(target_arch = "aarch64")]
    // mov x8, #93 (exit); mov x0, #0; svc #0. 183 is EM_AARCH64.
    const PROGRAM: (u16, &[u8]) = (183, &[0xa8, 0x0b, 0x80, 0xd2, 0, 0, 0x80, 0xd2, 1, 0, 0, 0xd4]);
    const BASE: u64 = 0x40_0000;
    const HEADER: u16 = 64;
    const SEGMENT: u16 = 56;
    let (machine, code) = PROGRAM;
    let start = u64::from(HEADER + SEGMENT);
    let length = start + code.len() as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let put16 = |file: &mut Vec<u8>, value: u16| file.extend(value.to_le_bytes());
    let put32 = |file: &mut Vec<u8>, value: u32| file.extend(value.to_le_bytes());
    let put64 = |file: &mut Vec<u8>, value: u64| file.extend(value.to_le_bytes());
    put16(&mut file, 2); // ET_EXEC
    put16(&mut file, machine);
    put32(&mut file, 1); // EV_CURRENT
    put64(&mut file, BASE + start);
    put64(&mut file, u64::from(HEADER)); // of the segments' table
    put64(&mut file, 0); // no sections
    put32(&mut file, 0); // flags
    put16(&mut file, HEADER);
    put16(&mut file, SEGMENT);
    put16(&mut file, 1); // one segment
    put16(&mut file, 64); // a section's size
    put16(&mut file, 0);
    put16(&mut file, 0);
    put32(&mut file, 1); // PT_LOAD
    put32(&mut file, 5); // readable, executable
    put64(&mut file, 0);
    put64(&mut file, BASE);
    put64(&mut file, BASE);
    put64(&mut file, length);
    put64(&mut file, length);
    put64(&mut file, 0x1000);
    file.extend(code);
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the kernel runs the program that does nothing, and that it ends with 0.
    #[test]
    fn does_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("nothing");
        write_nothing(&path).unwrap();
        // Another thread of this test program may just be forking with the file open for writing.
        let status = loop {
            match Command::new(&path).status() {
                Err(error) if error.raw_os_error() == Some(libc::ETXTBSY) => continue,
                status => break status.unwrap(),
            }
        };
        assert!(status.success(), "{status}");
    }

    /// Make sure that the generated files differ from each other, that each is the same every time, and that main
    /// calls every one.
    #[test]
    fn sources() {
        assert_ne!(source(0), source(1));
        assert_eq!(source(7), source(7));
        let main = main_source(3);
        for index in 0..3 {
            assert!(main.contains(&format!("sum = part{index}(")));
            assert!(source(index).contains(&format!("unsigned part{index}(const char *text")));
        }
    }

    /// Make sure that a C compiler takes the project, where there is one.
    #[test]
    fn compiles() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("part0.c");
        fs::write(&file, source(0)).unwrap();
        let Ok(output) = Command::new("gcc")
            .args(["-fsyntax-only", "-Wall", "-Werror"])
            .arg(&file)
            .output()
        else {
            eprintln!("skipped: no gcc");
            return;
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

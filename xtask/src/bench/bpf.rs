//! BPF programs by the kernel's own account, and an empty one to compare with: a few raw calls of bpf(2).
//!
//! Layouts: `include/uapi/linux/bpf.h`. A longer structure than the kernel knows is fine as long as the rest is 0.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use btfparse::{Error, ErrorKind, Readable, TypeInformation};
use serde::{Deserialize, Serialize};

const PROG_LOAD: libc::c_int = 5;
const PROG_GET_NEXT_ID: libc::c_int = 11;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const ENABLE_STATS: libc::c_int = 32;

const TYPE_TRACING: u32 = 26;
const ATTACH_TRACE_RAW_TP: u32 = 23;

/// What a program has cost since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) id: u32,
    pub(crate) name: String,
    /// 0 while the kernel's statistics are off.
    pub(crate) run_ns: u64,
    pub(crate) runs: u64,
    /// Runs that the kernel left out because the program, or another tracing program, was running on that CPU.
    pub(crate) missed: u64,
}

/// Keeps the kernel's run-time statistics on for as long as it lives.
pub(crate) struct Statistics(#[expect(dead_code, reason = "held for its Drop")] OwnedFd);

impl Statistics {
    pub(crate) fn on() -> anyhow::Result<Statistics> {
        const RUN_TIME: u32 = 0;
        let fd = call(ENABLE_STATS, &mut [RUN_TIME; 1]).context("BPF_ENABLE_STATS (Linux 5.8 and later)")?;
        Ok(Statistics(fd))
    }
}

/// A program at sched_switch that does nothing: two instructions.
pub(crate) struct Empty {
    program: OwnedFd,
    _link: OwnedFd,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttributes {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
}
const _: () = assert!(std::mem::offset_of!(LoadAttributes, attach_btf_id) == 108);

impl Empty {
    /// Loads and attaches it.
    pub(crate) fn attach() -> anyhow::Result<Empty> {
        // r0 = 0; exit. Both as in bpf_insn: code, registers, offset, immediate value.
        let instructions: [u64; 2] = [0xb7, 0x95];
        let mut attributes = LoadAttributes {
            prog_type: TYPE_TRACING,
            insn_cnt: instructions.len() as u32,
            insns: instructions.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            prog_name: *b"bench_empty\0\0\0\0\0",
            expected_attach_type: ATTACH_TRACE_RAW_TP,
            attach_btf_id: type_id("btf_trace_sched_switch")?,
            ..LoadAttributes::default()
        };
        let program = call(PROG_LOAD, &mut attributes).context("an empty program for sched_switch can't be loaded")?;
        #[repr(C)]
        struct OpenAttributes {
            name: u64,
            prog_fd: u32,
            padding: u32,
        }
        let mut open = OpenAttributes {
            name: 0,
            prog_fd: program.as_raw_fd() as u32,
            padding: 0,
        };
        let link = call(RAW_TRACEPOINT_OPEN, &mut open).context("the empty program can't be attached")?;
        Ok(Empty { program, _link: link })
    }

    /// Its id.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        Ok(info(&self.program)?.id)
    }
}

/// The program with this id.
pub(crate) fn by_id(id: u32) -> anyhow::Result<Program> {
    let fd = call(PROG_GET_FD_BY_ID, &mut [id, 0, 0]).with_context(|| format!("BPF program {id}"))?;
    info(&fd)
}

/// The programs that a process holds open.
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Vec<Program>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let mut ids = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
        // Descriptors come and go while this reads.
        let Ok(text) = entry.and_then(|entry| fs::read_to_string(entry.path())) else {
            continue;
        };
        ids.extend(program_id(&text));
    }
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(by_id).collect()
}

/// Number of programs that are loaded on this host.
pub(crate) fn loaded() -> usize {
    let mut count = 0;
    let mut attributes = [0u32; 3];
    // Answers with ENOENT behind the last one.
    while raw(PROG_GET_NEXT_ID, &mut attributes).is_ok() {
        count += 1;
        attributes = [attributes[1], 0, 0];
    }
    count
}

/// What was run between two looks at the same programs, in the order of `after`.
pub(crate) fn between(before: &[Program], after: &[Program]) -> Vec<Program> {
    after
        .iter()
        .map(|after| {
            let nothing = Program::default();
            let before = before.iter().find(|before| before.id == after.id).unwrap_or(&nothing);
            Program {
                id: after.id,
                name: after.name.clone(),
                run_ns: after.run_ns.saturating_sub(before.run_ns),
                runs: after.runs.saturating_sub(before.runs),
                missed: after.missed.saturating_sub(before.missed),
            }
        })
        .collect()
}

/// The id in the fdinfo of a program's descriptor; links have one too, but their own as well.
fn program_id(fdinfo: &str) -> Option<u32> {
    let field = |name: &str| {
        fdinfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    field("prog_type")?;
    field("prog_id")?.parse().ok()
}

/// `struct bpf_prog_info`, the parts before and between what is read here as bytes.
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    before_name: [u8; 56],
    name: [u8; 16],
    before_run_time: [u8; 112],
    run_time_ns: u64,
    run_cnt: u64,
    recursion_misses: u64,
}
const _: () = assert!(std::mem::offset_of!(ProgramInfo, name) == 64);
const _: () = assert!(std::mem::offset_of!(ProgramInfo, run_time_ns) == 192);

fn info(fd: &OwnedFd) -> anyhow::Result<Program> {
    // SAFETY: integers and bytes only: all zeros are a value.
    let mut info: ProgramInfo = unsafe { std::mem::zeroed() };
    #[repr(C)]
    struct InfoAttributes {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut attributes = InfoAttributes {
        bpf_fd: fd.as_raw_fd() as u32,
        info_len: size_of::<ProgramInfo>() as u32,
        info: (&raw mut info) as u64,
    };
    raw(OBJ_GET_INFO_BY_FD, &mut attributes).context("BPF_OBJ_GET_INFO_BY_FD")?;
    let name = info.name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Program {
        id: info.id,
        name: String::from_utf8_lossy(name).into_owned(),
        run_ns: info.run_time_ns,
        runs: info.run_cnt,
        missed: info.recursion_misses,
    })
}

/// bpf(2) for the commands that answer with a descriptor.
fn call<T>(command: libc::c_int, attributes: &mut T) -> anyhow::Result<OwnedFd> {
    let fd = raw(command, attributes)?;
    let fd = i32::try_from(fd).context("no descriptor")?;
    ensure!(fd >= 0, "descriptor {fd}");
    // SAFETY: the kernel has just made it for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a layout of `union bpf_attr` of the length given; pointers in it outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>() as libc::c_uint,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Id of one of the kernel's types.
fn type_id(name: &str) -> anyhow::Result<u32> {
    const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
    struct Bytes(Vec<u8>);
    impl Readable for Bytes {
        fn read(&self, offset: u64, buffer: &mut [u8]) -> btfparse::Result<()> {
            let bytes = usize::try_from(offset)
                .ok()
                .and_then(|offset| self.0.get(offset..offset.checked_add(buffer.len())?))
                .ok_or_else(|| Error::new(ErrorKind::EOF, "it ends too early"))?;
            buffer.copy_from_slice(bytes);
            Ok(())
        }
    }
    let bytes = Bytes(fs::read(VMLINUX).context(VMLINUX)?);
    let types = TypeInformation::new(&bytes).map_err(|why| anyhow::anyhow!("{VMLINUX} can't be parsed: {why:?}"))?;
    types.id_of(name).with_context(|| format!("{VMLINUX} has no {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that a program's descriptor is told from a link's and from a file's.
    #[test]
    fn fdinfo() {
        let program = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t29\nprog_type:\t26\nprog_jited:\t1\n\
                       prog_tag:\tbbf1ec5c8be9b9f0\nmemlock:\t4096\nprog_id:\t1234\nrun_time_ns:\t0\nrun_cnt:\t0\n";
        let link = "pos:\t0\nlink_type:\ttracing\nlink_id:\t7\nprog_tag:\tbbf1ec5c8be9b9f0\nprog_id:\t1234\n";
        assert_eq!(program_id(program), Some(1234));
        assert_eq!(program_id(link), None);
        assert_eq!(program_id("pos:\t0\nflags:\t0100002\n"), None);
    }

    /// Make sure that what ran between two looks is their difference, and that a program that came in between counts
    /// whole.
    #[test]
    fn differences() {
        let program = |id, run_ns, runs| Program {
            id,
            name: format!("p{id}"),
            run_ns,
            runs,
            missed: 0,
        };
        let before = [program(1, 100, 10)];
        let after = [program(1, 350, 15), program(2, 40, 4)];
        assert_eq!(between(&before, &after), [program(1, 250, 5), program(2, 40, 4)]);
    }

    /// Make sure that the empty program loads, runs at every switch and is counted.
    #[test]
    fn empty() {
        if !crate::exec::is_root() {
            eprintln!("skipped: loading BPF programs needs root");
            return;
        }
        let _statistics = Statistics::on().unwrap();
        let empty = Empty::attach().unwrap();
        let id = empty.id().unwrap();
        let runs = || by_id(id).unwrap().runs;
        let before = runs();
        let mut switches = 0;
        while runs() == before && switches < 1_000 {
            std::thread::sleep(std::time::Duration::from_millis(1));
            switches += 1;
        }
        assert!(runs() > before);
        assert!(by_id(id).unwrap().run_ns > 0);
        assert_eq!(by_id(id).unwrap().name, "bench_empty");
        assert!(loaded() > 0);
        let own = of_process(std::process::id()).unwrap();
        assert!(own.iter().any(|program| program.id == id), "{own:?}");
    }
}

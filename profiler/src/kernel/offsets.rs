//! Struct offsets from the running kernel's BTF, with the names that members had across versions.

use std::path::Path;

use btfparse::{Error, ErrorKind, Offset, Readable, TypeInformation, TypeVariant};
use profiler_common::kernel::{ABSENT, Features, Offsets};

/// Where the kernel shows its own types.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel's types can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OffsetsError {
    #[error(
        "{path} can't be read ({why}); phasegraph needs a kernel built with CONFIG_DEBUG_INFO_BTF \
         (Linux 5.10 or later of every larger distribution has it) and sysfs mounted"
    )]
    Btf { path: String, why: String },
    #[error(
        "this kernel's BTF has no `{member}`, without which tasks can't be told apart; please report the kernel's version"
    )]
    Required { member: &'static str },
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub offsets: Offsets,
    pub features: Features,
    /// Members that this kernel lacks, `struct.member`: what needs them is switched off.
    pub absent: Vec<&'static str>,
}

/// The whole file in memory: the parser reads a few bytes at a time.
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

struct Types(TypeInformation);

impl Types {
    /// Offset in bits of the first of the alternatives `(struct, path)` that this kernel has.
    fn bits(&self, alternatives: &[(&str, &str)]) -> Option<u32> {
        alternatives.iter().find_map(|(name, path)| {
            let id = self.0.id_of(name)?;
            match self.0.offset_of(id, path).ok()?.1 {
                Offset::ByteOffset(bytes) => bytes.checked_mul(8),
                Offset::BitOffsetAndSize(bits, _) => Some(bits),
            }
        })
    }

    fn size(&self, name: &str) -> Option<u32> {
        u32::try_from(self.0.size_of(self.0.id_of(name)?).ok()?).ok()
    }

    /// Number of arguments of a tracepoint, without the leading `void *`.
    fn tracepoint_args(&self, tracepoint: &str) -> Option<usize> {
        let typedef = self.0.id_of(&format!("btf_trace_{tracepoint}"))?;
        let pointer = match self.0.from_id(typedef)? {
            TypeVariant::Typedef(typedef) => *typedef.tid(),
            _ => return None,
        };
        let prototype = self.0.pointee_tid(pointer).ok()?;
        match self.0.from_id(prototype)? {
            TypeVariant::FuncProto(prototype) => prototype.parameter_list().len().checked_sub(1),
            _ => None,
        }
    }

    fn has_function(&self, name: &str) -> bool {
        self.0.id_of(name).is_some()
    }
}

/// Resolves everything from the BTF file at `path` (normally [`VMLINUX_BTF`]).
pub fn resolve(path: &Path) -> Result<Resolved, OffsetsError> {
    let error = |why: String| OffsetsError::Btf {
        path: path.display().to_string(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|io| error(io.to_string()))?;
    let types = Types(TypeInformation::new(&Bytes(bytes)).map_err(|why| error(why.message().to_owned()))?);
    let mut absent = Vec::new();
    let mut offsets = Offsets::NONE;

    macro_rules! resolve {
        ($( $field:ident = $first:literal :: $path:literal $( | $other:literal :: $other_path:literal )* ; )+) => { $(
            match types.bits(&[($first, $path) $(, ($other, $other_path))*]) {
                Some(bits) => offsets.$field = bits / 8,
                None => absent.push(concat!($first, ".", $path)),
            }
        )+ };
    }
    resolve! {
        task_pid = "task_struct"::"pid";
        task_tgid = "task_struct"::"tgid";
        task_start_time = "task_struct"::"start_time";
        task_real_parent = "task_struct"::"real_parent";
        task_group_leader = "task_struct"::"group_leader";
        task_comm = "task_struct"::"comm";
        task_state = "task_struct"::"__state" | "task_struct"::"state";
        task_on_cpu = "task_struct"::"on_cpu";
        task_flags = "task_struct"::"flags";
        task_exit_code = "task_struct"::"exit_code";
        task_utime = "task_struct"::"utime";
        task_stime = "task_struct"::"stime";
        task_sum_exec_runtime = "task_struct"::"se.sum_exec_runtime";
        task_mm = "task_struct"::"mm";
        task_nsproxy = "task_struct"::"nsproxy";
        task_cgroups = "task_struct"::"cgroups";
        task_thread_pid = "task_struct"::"thread_pid";
        task_stack = "task_struct"::"stack";
        css_set_dfl_cgrp = "css_set"::"dfl_cgrp";
        cgroup_kn = "cgroup"::"kn";
        cgroup_level = "cgroup"::"level";
        cgroup_root = "cgroup"::"root";
        cgroup_root_hierarchy_id = "cgroup_root"::"hierarchy_id";
        kernfs_node_id = "kernfs_node"::"id";
        nsproxy_mnt_ns = "nsproxy"::"mnt_ns";
        mnt_namespace_inum = "mnt_namespace"::"ns.inum";
        pid_level = "pid"::"level";
        pid_numbers = "pid"::"numbers";
        upid_nr = "upid"::"nr";
        upid_ns = "upid"::"ns";
        pid_namespace_inum = "pid_namespace"::"ns.inum";
        mm_arg_start = "mm_struct"::"arg_start";
        mm_arg_end = "mm_struct"::"arg_end";
        binprm_filename = "linux_binprm"::"filename";
        binprm_file = "linux_binprm"::"file";
        file_inode = "file"::"f_inode";
        inode_ino = "inode"::"i_ino";
        inode_sb = "inode"::"i_sb";
        super_block_dev = "super_block"::"s_dev";
        pt_regs_orig_ax = "pt_regs"::"orig_ax";
    }
    match types.bits(&[("task_struct", "in_iowait")]) {
        Some(bits) => {
            offsets.task_in_iowait = bits / 8;
            offsets.task_in_iowait_bit = bits % 8;
        }
        None => absent.push("task_struct.in_iowait"),
    }
    offsets.upid_size = types.size("upid").unwrap_or(ABSENT);
    offsets.pt_regs_size = types.size("pt_regs").unwrap_or(ABSENT);

    for (offset, member) in [
        (offsets.task_pid, "task_struct.pid"),
        (offsets.task_tgid, "task_struct.tgid"),
        (offsets.task_start_time, "task_struct.start_time"),
        (offsets.task_state, "task_struct.__state"),
    ] {
        if offset == ABSENT {
            return Err(OffsetsError::Required { member });
        }
    }
    let features = Features {
        switch_has_prev_state: u32::from(types.tracepoint_args("sched_switch").is_some_and(|args| args >= 4)),
        task_stack: 1,
        task_pt_regs: u32::from(types.has_function("bpf_task_pt_regs")),
        exit_has_group_dead: u32::from(
            types
                .tracepoint_args("sched_process_exit")
                .is_some_and(|args| args >= 2),
        ),
        // THREAD_SIZE of x86-64 without KASAN: arch/x86/include/asm/page_64_types.h
        kernel_stack_size: if cfg!(target_arch = "x86_64") { 16 * 1024 } else { 0 },
        pad: 0,
    };
    Ok(Resolved {
        offsets,
        features,
        absent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that the running kernel's types give every offset that the programs need.
    #[test]
    fn running_kernel() {
        let path = Path::new(VMLINUX_BTF);
        if !path.exists() {
            eprintln!("skipped: {VMLINUX_BTF} is not there");
            return;
        }
        let resolved = resolve(path).unwrap();
        assert_eq!(resolved.absent, Vec::<&str>::new());
        assert!(resolved.offsets.upid_size >= 16);
    }

    /// Make sure that a missing or broken file is an error that names it.
    #[test]
    fn no_btf() {
        let missing = resolve(Path::new("/nonexistent/vmlinux")).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/vmlinux"), "{missing}");
        let broken = resolve(Path::new("/bin/sh")).unwrap_err().to_string();
        assert!(broken.contains("/bin/sh"), "{broken}");
    }
}

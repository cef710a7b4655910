//! Struct offsets from the running kernel's BTF, with the names that members had across versions.

use std::{collections::HashMap, path::Path};

use super::{calls, host};
use btfparse::{Error, ErrorKind, Integer32Value, Offset, Readable, TypeInformation, TypeVariant};
use profiler_common::kernel::{ABSENT, Features, Offsets};

/// Where the kernel shows its own types.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// `THREAD_SIZE` of x86-64 without KASAN: arch/x86/include/asm/page_64_types.h. 0 when unknown.
const KERNEL_STACK_SIZE: u32 = if cfg!(target_arch = "x86_64") { 16 * 1024 } else { 0 };

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

/// A member of a kernel struct that the programs read.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// `(struct, member)`, and what the pair was called in other versions.
    pub names: &'static [(&'static str, &'static str)],
    /// How many of its bytes the programs read, 0 when that does not matter: one that is smaller is as good as absent.
    pub bytes: u32,
    /// What is missing where the kernel does not have it.
    pub lost: &'static str,
    set: fn(&mut Offsets, u32),
}

const REQUIRED: &str = "everything: nothing is recorded";
const PARENT: &str = "parents of threads that were there before the recording";
const NAME: &str = "names of threads; daemons that start meanwhile are not noticed";
const ADOPTED: &str = "whether a thread that was there before was on a CPU";
const EXIT: &str = "exit codes";
const ACCOUNT: &str = "the kernel's own account of a thread's CPU time at its end";
const ARGUMENTS: &str = "arguments of programs";
const MOUNTS: &str = "mount namespaces";
const CGROUP: &str = "cgroup ids: processes are not told apart by cgroup";
const LEVEL: &str = "the depth of a cgroup";
const HIERARCHY: &str = "which hierarchy a cgroup belongs to: version 1 passes for version 2";
const INSIDE: &str = "process ids inside a container";
const INTERRUPT: &str = "whether a wake came from an interrupt on top of another task";
const PROGRAM: &str = "name and identity of a program's file";
const CALL: &str = "the system call that a thread waits in";
const UNWIND: &str = "user stacks by unwind tables: frame pointers serve";
const NETWORK: &str = "requests to engines, and downloads of layers";
const PEER: &str = "which engine a request went to";
const SYNCED: &str = "names of files that engines sync";
const BYTES: &str = "bytes that ended threads read and wrote";
const MEMORY: &str = "what processes hold in memory";
const CGROUP_MEMORY: &str = "the most that a container's cgroup held in memory";
const SOCKET: &str = "the address of a socket that begins to listen";
const KEPT: &str = "mappings kept from one sample to the next: each unwound stack looks its own up anew";
const PAGES: &str = "which files' pages are read and written, and by whom";
const LARGE: &str = "how large folios are: each counts as one page";
const NAMES_OF_FILES: &str = "paths of files that are read and written, and so their layers";
const WRITE_BACK: &str = "write-back: who flushes what";
const BLOCK: &str = "requests to block devices";
const QUEUE: &str = "how long requests wait before a block device is given them";
const BLOCK_CGROUP: &str = "the cgroup that a request to a block device is charged to";
const BLOCK_FILE: &str = "the file that a request to a block device is for";
const OVERLAY: &str =
    "which files of an overlay are opened; what was copied up when it was in the page cache or has no contents";
const AWAITED: &str = "which file or socket a wait was for";
const IOWAIT: &str = "whether a wait is for disk, by the kernel's own flag";

macro_rules! members {
    ($( $field:ident = $first:literal :: $path:literal $( | $other:literal :: $other_path:literal )* $( [ $bytes:literal ] )?, $lost:ident ; )+) => {
        /// Every member that is looked for as a whole byte offset.
        pub const MEMBERS: &[Member] = &[ $( Member {
            names: &[($first, $path) $(, ($other, $other_path))*],
            bytes: 0 $( + $bytes )?,
            lost: $lost,
            set: |offsets, bytes| offsets.$field = bytes,
        }, )+ ];

        /// As [`Resolved::absent`] names them, in the order of [`MEMBERS`].
        const NAMES: &[&str] = &[ $( concat!($first, ".", $path), )+ ];
    };
}
members! {
    task_pid = "task_struct"::"pid" [4], REQUIRED;
    task_tgid = "task_struct"::"tgid" [4], REQUIRED;
    task_start_time = "task_struct"::"start_time" [8], REQUIRED;
    task_real_parent = "task_struct"::"real_parent" [8], PARENT;
    task_comm = "task_struct"::"comm" [16], NAME;
    task_state = "task_struct"::"__state" | "task_struct"::"state" [4], REQUIRED;
    task_on_cpu = "task_struct"::"on_cpu" [1], ADOPTED;
    task_exit_code = "task_struct"::"exit_code" [4], EXIT;
    task_utime = "task_struct"::"utime" [8], ACCOUNT;
    task_stime = "task_struct"::"stime" [8], ACCOUNT;
    task_sum_exec_runtime = "task_struct"::"se.sum_exec_runtime" [8], ACCOUNT;
    task_mm = "task_struct"::"mm" [8], ARGUMENTS;
    task_nsproxy = "task_struct"::"nsproxy" [8], MOUNTS;
    task_cgroups = "task_struct"::"cgroups" [8], CGROUP;
    task_thread_pid = "task_struct"::"thread_pid" [8], INSIDE;
    task_stack = "task_struct"::"stack" [8], INTERRUPT;
    css_set_dfl_cgrp = "css_set"::"dfl_cgrp" [8], CGROUP;
    cgroup_kn = "cgroup"::"kn" [8], CGROUP;
    cgroup_level = "cgroup"::"level" [4], LEVEL;
    cgroup_root = "cgroup"::"root" [8], HIERARCHY;
    cgroup_root_hierarchy_id = "cgroup_root"::"hierarchy_id" [4], HIERARCHY;
    kernfs_node_id = "kernfs_node"::"id" [8], CGROUP;
    nsproxy_mnt_ns = "nsproxy"::"mnt_ns" [8], MOUNTS;
    mnt_namespace_inum = "mnt_namespace"::"ns.inum" [4], MOUNTS;
    pid_level = "pid"::"level" [4], INSIDE;
    pid_numbers = "pid"::"numbers", INSIDE;
    upid_nr = "upid"::"nr" [4], INSIDE;
    upid_ns = "upid"::"ns" [8], INSIDE;
    pid_namespace_inum = "pid_namespace"::"ns.inum" [4], INSIDE;
    mm_arg_start = "mm_struct"::"arg_start" [8], ARGUMENTS;
    mm_arg_end = "mm_struct"::"arg_end" [8], ARGUMENTS;
    binprm_filename = "linux_binprm"::"filename" [8], PROGRAM;
    binprm_file = "linux_binprm"::"file" [8], PROGRAM;
    file_inode = "file"::"f_inode" [8], PROGRAM;
    inode_ino = "inode"::"i_ino" [8], PROGRAM;
    inode_sb = "inode"::"i_sb" [8], PROGRAM;
    super_block_dev = "super_block"::"s_dev" [4], PROGRAM;
    pt_regs_orig_ax = "pt_regs"::"orig_ax" [4], CALL;
    mm_mt_root = "mm_struct"::"mm_mt.ma_root" [8], UNWIND;
    mm_rb = "mm_struct"::"mm_rb.rb_node" [8], UNWIND;
    mm_vdso = "mm_struct"::"context.vdso" [8], UNWIND;
    vma_start = "vm_area_struct"::"vm_start" [8], UNWIND;
    vma_end = "vm_area_struct"::"vm_end" [8], UNWIND;
    vma_rb = "vm_area_struct"::"vm_rb", UNWIND;
    vma_flags = "vm_area_struct"::"vm_flags" [8], UNWIND;
    vma_pgoff = "vm_area_struct"::"vm_pgoff" [8], UNWIND;
    vma_file = "vm_area_struct"::"vm_file" [8], UNWIND;
    rb_left = "rb_node"::"rb_left" [8], UNWIND;
    rb_right = "rb_node"::"rb_right" [8], UNWIND;
    inode_generation = "inode"::"i_generation" [4], UNWIND;
    inode_mtime = "inode"::"i_mtime_sec" | "inode"::"__i_mtime.tv_sec" | "inode"::"i_mtime.tv_sec" [8], UNWIND;
    inode_mtime_nsec = "inode"::"i_mtime_nsec" | "inode"::"__i_mtime.tv_nsec" | "inode"::"i_mtime.tv_nsec" [4], UNWIND;
    task_flags = "task_struct"::"flags" [4], UNWIND;
    sock_family = "sock"::"__sk_common.skc_family" [2], NETWORK;
    sock_dport = "sock"::"__sk_common.skc_dport" [2], NETWORK;
    sock_daddr = "sock"::"__sk_common.skc_daddr" [4], NETWORK;
    sock_v6_daddr = "sock"::"__sk_common.skc_v6_daddr" [16], NETWORK;
    sock_peer_pid = "sock"::"sk_peer_pid" [8], PEER;
    tcp_sock_copied_seq = "tcp_sock"::"copied_seq" [4], NETWORK;
    pt_regs_si = "pt_regs"::"si" [8], NETWORK;
    task_files = "task_struct"::"files" [8], SYNCED;
    files_fdt = "files_struct"::"fdt" [8], SYNCED;
    fdtable_fd = "fdtable"::"fd" [8], SYNCED;
    file_dentry = "file"::"f_path.dentry" [8], SYNCED;
    dentry_name = "dentry"::"d_name.name" [8], SYNCED;
    task_rchar = "task_struct"::"ioac.rchar" [8], BYTES;
    task_wchar = "task_struct"::"ioac.wchar" [8], BYTES;
    task_read_bytes = "task_struct"::"ioac.read_bytes" [8], BYTES;
    task_write_bytes = "task_struct"::"ioac.write_bytes" [8], BYTES;
    task_signal = "task_struct"::"signal" [8], MEMORY;
    signal_maxrss = "signal_struct"::"maxrss" [8], MEMORY;
    signal_live = "signal_struct"::"live" [4], MEMORY;
    mm_hiwater_rss = "mm_struct"::"hiwater_rss" [8], MEMORY;
    css_cgroup = "cgroup_subsys_state"::"cgroup" [8], CGROUP_MEMORY;
    mem_cgroup_watermark = "mem_cgroup"::"memory.watermark" [8], CGROUP_MEMORY;
    fdtable_max_fds = "fdtable"::"max_fds" [4], SOCKET;
    file_private_data = "file"::"private_data" [8], SOCKET;
    socket_sk = "socket"::"sk" [8], SOCKET;
    sock_type = "sock"::"sk_type" [2], SOCKET;
    sock_protocol = "sock"::"sk_protocol" [2], SOCKET;
    sock_num = "sock"::"__sk_common.skc_num" [2], SOCKET;
    sock_rcv_saddr = "sock"::"__sk_common.skc_rcv_saddr" [4], SOCKET;
    sock_v6_rcv_saddr = "sock"::"__sk_common.skc_v6_rcv_saddr" [16], SOCKET;
    unix_sock_addr = "unix_sock"::"addr" [8], SOCKET;
    unix_address_len = "unix_address"::"len" [4], SOCKET;
    unix_address_name = "unix_address"::"name", SOCKET;
    mm_lock_seq = "mm_struct"::"mm_lock_seq.sequence" | "mm_struct"::"mm_lock_seq" [4], KEPT;
    task_exec_id = "task_struct"::"self_exec_id" [8], KEPT;
    folio_mapping = "folio"::"mapping" | "page"::"mapping" [8], PAGES;
    folio_flags = "folio"::"flags.f" | "folio"::"flags" | "page"::"flags" [8], PAGES;
    folio_order = "folio"::"_folio_order" | "folio"::"_flags_1" [1], LARGE;
    mapping_host = "address_space"::"host" [8], PAGES;
    inode_size = "inode"::"i_size" [8], PAGES;
    inode_nlink = "inode"::"i_nlink" [4], NAMES_OF_FILES;
    inode_mode = "inode"::"i_mode" [2], NAMES_OF_FILES;
    inode_rdev = "inode"::"i_rdev" [4], NAMES_OF_FILES;
    inode_dentries = "inode"::"i_dentry.first" [8], NAMES_OF_FILES;
    inode_wb = "inode"::"i_wb" [8], WRITE_BACK;
    dentry_alias = "dentry"::"d_u.d_alias" | "dentry"::"d_alias" [8], NAMES_OF_FILES;
    dentry_parent = "dentry"::"d_parent" [8], NAMES_OF_FILES;
    dentry_inode = "dentry"::"d_inode" [8], NAMES_OF_FILES;
    super_block_magic = "super_block"::"s_magic" [8], NAMES_OF_FILES;
    task_syscr = "task_struct"::"ioac.syscr" [8], BYTES;
    task_syscw = "task_struct"::"ioac.syscw" [8], BYTES;
    task_cancelled = "task_struct"::"ioac.cancelled_write_bytes" [8], BYTES;
    request_cmd_flags = "request"::"cmd_flags" [4], BLOCK;
    request_data_len = "request"::"__data_len" [4], BLOCK;
    request_sector = "request"::"__sector" [8], BLOCK;
    request_bio = "request"::"bio" [8], BLOCK;
    request_start_time = "request"::"start_time_ns" [8], QUEUE;
    request_queue = "request"::"q" [8], BLOCK;
    request_disk = "request"::"rq_disk" [8], BLOCK;
    queue_disk = "request_queue"::"disk" [8], BLOCK;
    gendisk_major = "gendisk"::"major" [4], BLOCK;
    gendisk_first_minor = "gendisk"::"first_minor" [4], BLOCK;
    bio_blkg = "bio"::"bi_blkg" [8], BLOCK_CGROUP;
    bio_vec = "bio"::"bi_io_vec" [8], BLOCK_FILE;
    bio_vec_page = "bio_vec"::"bv_page" [8], BLOCK_FILE;
    page_compound_head = "page"::"compound_head" | "page"::"compound_info" [8], BLOCK_FILE;
    blkg_blkcg = "blkcg_gq"::"blkcg" [8], BLOCK_CGROUP;
    blkcg_cgroup = "blkcg"::"css.cgroup" [8], BLOCK_CGROUP;
    wbc_nr_to_write = "writeback_control"::"nr_to_write" [8], WRITE_BACK;
    wbc_sync_mode = "writeback_control"::"sync_mode" [4], WRITE_BACK;
    wb_memcg = "bdi_writeback"::"memcg_css" [8], WRITE_BACK;
    ovl_inode_vfs = "ovl_inode"::"vfs_inode", OVERLAY;
    ovl_inode_upper = "ovl_inode"::"__upperdentry" [8], OVERLAY;
    ovl_inode_oe = "ovl_inode"::"oe" [8], OVERLAY;
    ovl_entry_count = "ovl_entry"::"__numlower" | "ovl_entry"::"numlower" [4], OVERLAY;
    ovl_entry_stack = "ovl_entry"::"__lowerstack" | "ovl_entry"::"lowerstack", OVERLAY;
    ovl_path_dentry = "ovl_path"::"dentry" [8], OVERLAY;
    dentry_fsdata = "dentry"::"d_fsdata" [8], OVERLAY;
    pt_regs_di = "pt_regs"::"di" [8], AWAITED;
    folio_index = "folio"::"index" | "page"::"index" [8], PAGES;
}
/// The one bit field that is read.
pub const IN_IOWAIT: Member = Member {
    names: &[("task_struct", "in_iowait")],
    bytes: 0,
    lost: IOWAIT,
    set: |offsets, bytes| offsets.task_in_iowait = bytes,
};
/// The count of an overlay's lower layers where it is not with the inode.
const NUMLOWER: Member = Member {
    names: &[("ovl_entry", "numlower")],
    bytes: 4,
    lost: OVERLAY,
    set: |_, _| {},
};

/// What was found.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub offsets: Offsets,
    pub features: Features,
    /// Members that this kernel lacks, `struct.member`: what needs them is switched off.
    pub absent: Vec<&'static str>,
    /// What is missing for it, each once.
    pub lost: Vec<&'static str>,
    /// Ids of `bpf_preempt_disable` and `bpf_preempt_enable`, since 6.10.
    pub preempt: Option<[u32; 2]>,
    /// Whether hooks on functions wait for threads that sleep there before they are freed: e21aa341785c of 5.12, which stable
    /// kernels have before that, and its struct with it.
    pub trampolines_wait: bool,
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

/// The kernel's types, by kind and name. A name alone is not enough: of the types of one name the parser's own index has
/// the last, and that can be a forward declaration (`pt_regs` in 5.10), or a function that is called like a struct.
struct Types {
    types: TypeInformation,
    structs: HashMap<String, u32>,
    typedefs: HashMap<String, u32>,
    functions: HashMap<String, u32>,
}

impl Types {
    fn new(types: TypeInformation) -> Types {
        let (mut structs, mut typedefs, mut functions) = (HashMap::new(), HashMap::new(), HashMap::new());
        for (id, variant) in types.get() {
            let Some(name) = types.name_of(*id) else { continue };
            match variant {
                TypeVariant::Struct(_) => _ = structs.entry(name).or_insert(*id),
                TypeVariant::Typedef(_) => _ = typedefs.entry(name).or_insert(*id),
                TypeVariant::Func(_) => _ = functions.entry(name).or_insert(*id),
                _ => {}
            }
        }
        Types {
            types,
            structs,
            typedefs,
            functions,
        }
    }

    /// Offset in bits of the member by the first of its names that this kernel has, if it is as large as is read.
    fn bits(&self, member: &Member) -> Option<u32> {
        member.names.iter().find_map(|(name, path)| {
            let id = *self.structs.get(*name)?;
            let (of, offset) = self.types.offset_of(id, path).ok()?;
            if self.types.size_of(of).is_ok_and(|size| size < member.bytes as usize) {
                return None;
            }
            match offset {
                Offset::ByteOffset(bytes) => bytes.checked_mul(8),
                Offset::BitOffsetAndSize(bits, _) => Some(bits),
            }
        })
    }

    fn size(&self, name: &str) -> Option<u32> {
        u32::try_from(self.types.size_of(*self.structs.get(name)?).ok()?).ok()
    }

    /// Number of arguments of a tracepoint, without the leading `void *`.
    fn tracepoint_args(&self, tracepoint: &str) -> Option<usize> {
        let typedef = *self.typedefs.get(&format!("btf_trace_{tracepoint}"))?;
        let pointer = match self.types.from_id(typedef)? {
            TypeVariant::Typedef(typedef) => *typedef.tid(),
            _ => return None,
        };
        let prototype = self.types.pointee_tid(pointer).ok()?;
        match self.types.from_id(prototype)? {
            TypeVariant::FuncProto(prototype) => prototype.parameter_list().len().checked_sub(1),
            _ => None,
        }
    }

    /// Offset of a member that is no bit field.
    fn bytes(&self, name: &str, path: &str) -> Option<u32> {
        match self.types.offset_of(*self.structs.get(name)?, path).ok()?.1 {
            Offset::ByteOffset(bytes) => Some(bytes),
            Offset::BitOffsetAndSize(..) => None,
        }
    }

    /// Value of a constant of an enumeration.
    fn constant(&self, name: &str, constant: &str) -> Option<u32> {
        let TypeVariant::Enum(found) = self.types.from_id(self.types.id_of(name)?)? else {
            return None;
        };
        let values = found.named_value_list().iter();
        values
            .filter(|value| value.name == constant)
            .find_map(|value| match value.value {
                Integer32Value::Unsigned(value) => Some(value),
                Integer32Value::Signed(value) => u32::try_from(value).ok(),
            })
    }

    /// Number of a bit of a request's flags.
    fn request_bit(&self, name: &str) -> u32 {
        self.constant("req_flag_bits", name).unwrap_or(ABSENT)
    }

    /// The element of `css_set.subsys` that is the memory controller's, bytes.
    fn memory_controller(&self) -> Option<u32> {
        const POINTER: u32 = 8;
        let controller = self.constant("cgroup_subsys_id", "memory_cgrp_id")?;
        Some(self.bytes("css_set", "subsys")? + controller * POINTER)
    }

    /// The counters of file, anonymous and shared memory pages in `mm_struct`, bytes: `MM_FILEPAGES`, `MM_ANONPAGES` and
    /// `MM_SHMEMPAGES` of `include/linux/mm_types_task.h`.
    fn resident(&self) -> Option<[u32; 3]> {
        const KINDS: [u32; 3] = [0, 1, 3];
        const LONG: u32 = 8;
        let first = self.bytes("mm_struct", "rss_stat")?;
        // To 6.1 a struct around an array of numbers; since 6.2 an array of per-CPU counters.
        let (within, each) = match self.bytes("mm_rss_stat", "count") {
            Some(within) => (within, LONG),
            None => (self.bytes("percpu_counter", "count")?, self.size("percpu_counter")?),
        };
        Some(KINDS.map(|kind| first + within + kind * each))
    }

    /// Where on a kernel stack the saved user registers lie: `task_pt_regs`, arch/x86/include/asm/processor.h. Where the
    /// kernel can deliver events by FRED (6.9), it keeps 16 bytes free above them: `TOP_OF_KERNEL_STACK_PADDING`,
    /// arch/x86/include/asm/thread_info.h.
    fn saved_regs(&self) -> Option<u32> {
        let padding = if self.has_function("cpu_init_fred_exceptions") {
            16
        } else {
            0
        };
        KERNEL_STACK_SIZE.checked_sub(self.size("pt_regs")? + padding)
    }

    fn has_function(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }
}

/// The kernel's types and a module's, which count on from them, as one: `Documentation/bpf/btf.rst`, `struct btf_header`
/// (magic, version, flags, length of the header, offset and length of the types, offset and length of the strings).
fn joined(kernel: &[u8], module: &[u8]) -> Option<Vec<u8>> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    let part = |bytes: &[u8], which: usize| -> Option<Vec<u8>> {
        let from = word(bytes, 4)? + word(bytes, which)?;
        Some(bytes.get(from..from.checked_add(word(bytes, which + 4)?)?)?.to_vec())
    };
    const TYPES: usize = 8;
    const STRINGS: usize = 16;
    const HEADER: usize = 24;
    let types = [part(kernel, TYPES)?, part(module, TYPES)?].concat();
    let strings = [part(kernel, STRINGS)?, part(module, STRINGS)?].concat();
    let mut whole = kernel.get(..8)?.to_vec();
    *whole.get_mut(4..)?.first_chunk_mut()? = (HEADER as u32).to_le_bytes();
    for number in [0, types.len(), types.len(), strings.len()] {
        whole.extend(u32::try_from(number).ok()?.to_le_bytes());
    }
    whole.extend(types);
    whole.extend(strings);
    Some(whole)
}

/// Resolves everything from the BTF file at `path` (normally [`VMLINUX_BTF`]).
pub fn resolve(path: &Path) -> Result<Resolved, OffsetsError> {
    let error = |why: String| OffsetsError::Btf {
        path: path.display().to_string(),
        why,
    };
    let mut bytes = std::fs::read(path).map_err(|io| error(io.to_string()))?;
    // Where the overlay is a module, its own types are told apart.
    if let Ok(module) = std::fs::read(path.with_file_name("overlay"))
        && let Some(both) = joined(&bytes, &module)
    {
        bytes = both;
    }
    let types = TypeInformation::new(&Bytes(bytes)).map_err(|why| error(why.message().to_owned()))?;
    let types = Types::new(types);
    let mut missing = Vec::new();
    let mut offsets = Offsets::NONE;

    for (member, name) in MEMBERS.iter().zip(NAMES) {
        match types.bits(member) {
            Some(bits) => (member.set)(&mut offsets, bits / 8),
            None => missing.push((*name, member.lost)),
        }
    }
    // A kernel has one tree of mappings or the other.
    if offsets.mm_mt_root != ABSENT {
        missing.retain(|(name, _)| !matches!(*name, "mm_struct.mm_rb.rb_node" | "vm_area_struct.vm_rb"));
    } else if offsets.mm_rb != ABSENT {
        missing.retain(|(name, _)| *name != "mm_struct.mm_mt.ma_root");
    }
    // A request knows its device, or its queue does.
    if offsets.request_disk != ABSENT || offsets.queue_disk != ABSENT {
        missing.retain(|(name, _)| !matches!(*name, "request.rq_disk" | "request_queue.disk"));
    }
    // With the inode, or, until 6.5, with the name (0af950f57fef); the count had another name then.
    if types.bits(&NUMLOWER).is_some() || offsets.ovl_inode_vfs == ABSENT {
        missing.retain(|(name, _)| *name != "ovl_inode.oe");
    }
    // Before folios there were none that were large.
    if types.size("folio").is_none() {
        missing.retain(|(name, _)| *name != "folio._folio_order");
    }
    match types.bits(&IN_IOWAIT) {
        Some(bits) => {
            (IN_IOWAIT.set)(&mut offsets, bits / 8);
            offsets.task_in_iowait_bit = bits % 8;
        }
        None => missing.push(("task_struct.in_iowait", IN_IOWAIT.lost)),
    }
    offsets.upid_size = types.size("upid").unwrap_or(ABSENT);
    match types.resident() {
        Some(resident) => [offsets.mm_rss_file, offsets.mm_rss_anon, offsets.mm_rss_shmem] = resident,
        None => missing.push(("mm_struct.rss_stat", MEMORY)),
    }
    match types.memory_controller() {
        Some(element) => offsets.css_set_memory = element,
        None => missing.push(("css_set.subsys[memory_cgrp_id]", CGROUP_MEMORY)),
    }

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
    let (absent, mut lost): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    lost.dedup();
    let features = Features {
        switch_has_prev_state: u32::from(types.tracepoint_args("sched_switch").is_some_and(|args| args >= 4)),
        task_stack: 1,
        task_pt_regs: u32::from(types.has_function("bpf_task_pt_regs")),
        exit_has_group_dead: u32::from(
            types
                .tracepoint_args("sched_process_exit")
                .is_some_and(|args| args >= 2),
        ),
        kernel_stack_size: KERNEL_STACK_SIZE,
        saved_regs: types.saved_regs().unwrap_or(0),
        victim_is_task: u32::from(types.tracepoint_args("mark_victim").is_some_and(|args| args >= 2)),
        issue_has_queue: u32::from(types.tracepoint_args("block_rq_issue").is_some_and(|args| args >= 2)),
        head_bit: types.constant("pageflags", "PG_head").unwrap_or(ABSENT),
        req_sync_bit: types.request_bit("__REQ_SYNC"),
        req_meta_bit: types.request_bit("__REQ_META"),
        req_rahead_bit: types.request_bit("__REQ_RAHEAD"),
        req_preflush_bit: types.request_bit("__REQ_PREFLUSH"),
        req_fua_bit: types.request_bit("__REQ_FUA"),
        // Known when the ring is made.
        ring_bulk_bytes: u32::MAX,
        pad: 0,
        descriptor_calls: calls::at_descriptor(),
    };
    let function = |name: &str| types.functions.get(name).copied();
    let preempt = function("bpf_preempt_disable").zip(function("bpf_preempt_enable"));
    Ok(Resolved {
        preempt: preempt.map(|(disable, enable)| [disable, enable]),
        trampolines_wait: types.structs.contains_key("bpf_tramp_image")
            || host::version(&host::release()).is_some_and(|version| version >= (5, 12)),
        offsets,
        features,
        absent,
        lost,
    })
}

#[cfg(test)]
mod tests;

//! Calls of kernel functions (kfuncs) by which programs stay on their CPU.
//!
//! The object has calls of helpers by these numbers, which the kernel has not. Before it is loaded user space makes of each
//! a call of the kernel's function by its id in the kernel's BTF (`BPF_PSEUDO_KFUNC_CALL` of `include/uapi/linux/bpf.h`), or
//! takes it out.

/// `bpf_preempt_disable`, since 6.10.
pub const DISABLE: u32 = 0x7068_6701;
/// `bpf_preempt_enable`
pub const ENABLE: u32 = 0x7068_6702;

//! Resource states of a set of threads within a span: what `show`, the JSON and the flamegraphs count.

/// Why a thread was blocked: product vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wait {
    Disk,
    Network,
    Lock,
    Ipc,
    Child,
    Sleep,
    Other,
}

/// Time by resource state, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: u64,
    pub runqueue: u64,
    pub disk: u64,
    pub network: u64,
    pub lock: u64,
    pub ipc: u64,
    pub child: u64,
    pub sleep: u64,
    pub other: u64,
    /// No event covers it.
    pub lost: u64,
    /// Part of the above that comes from sums which the span's edges cut, so it is shared out in proportion: the
    /// most by which any of the figures can be off.
    pub cut: u64,
    /// Part of the blocked time whose wait has a kernel stack, and a user stack.
    pub with_kernel_stack: u64,
    pub with_user_stack: u64,
}

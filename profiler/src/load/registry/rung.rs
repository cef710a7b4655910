//! The rungs: the ways in which a signal can be had from a kernel.

/// One way to have a signal. Forced and recorded by its [`name`](Rung::name).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// Per-task state that hangs on the task.
    Storage,
    /// Per-task state in a hash by thread id.
    Hash,
    /// The same, and no program calls what takes a task by its type: raw tracepoints may not.
    HashUntyped,
    /// `fentry` and `fexit` on a function: a patched call, with arguments and result.
    Fentry,
    /// `kprobe` and `kretprobe` on a function.
    Kprobe,
    /// A BTF-typed raw tracepoint: the verifier knows the arguments' types.
    TpBtf,
    /// A raw tracepoint: the same arguments as mere numbers.
    RawTp,
    /// A classic tracepoint, with the record that its format file describes.
    Classic,
    /// The `cpu-clock` of each CPU, user stacks by unwind tables.
    Unwind,
    /// The `cpu-clock` of each CPU, user stacks by frame pointers.
    Clock,
    /// An iterator over all tasks.
    TaskIterator,
    /// By its traces: what it does, and the kernel stack it does it with.
    Signature,
    /// By the renames of the file system that it is done with.
    Rename,
}

/// What is to be known of a rung; [`Rung`]'s methods give it.
struct Facts {
    name: &'static str,
    since: &'static str,
    needs: &'static str,
    lost: &'static str,
}

impl Rung {
    pub const ALL: &'static [Rung] = &[
        Rung::Storage,
        Rung::Hash,
        Rung::HashUntyped,
        Rung::Fentry,
        Rung::Kprobe,
        Rung::TpBtf,
        Rung::RawTp,
        Rung::Classic,
        Rung::Unwind,
        Rung::Clock,
        Rung::TaskIterator,
        Rung::Signature,
        Rung::Rename,
    ];

    const fn facts(self) -> Facts {
        match self {
            Rung::Storage => Facts {
                name: "storage",
                since: "5.13",
                needs: "task storage for tracing programs (a10787e6d58c)",
                lost: "",
            },
            Rung::Hash => Facts {
                name: "hash",
                since: "5.9",
                needs: "nothing more",
                lost: "at most 32,768 threads at a time; each switch of the host costs a hash look-up more",
            },
            Rung::HashUntyped => Facts {
                name: "hash-untyped",
                since: "5.8",
                needs: "nothing more",
                lost: "the kernel stacks of waits, which are named by their system call alone; otherwise as `hash`",
            },
            Rung::Fentry => Facts {
                name: "fentry",
                since: "5.5",
                needs: "BTF, `CONFIG_FUNCTION_TRACER` with direct calls",
                lost: "",
            },
            Rung::Kprobe => Facts {
                name: "kprobe",
                since: "4.17",
                needs: "`CONFIG_KPROBES`, sysfs",
                lost: "the ends of calls beyond max(10, 2 × CPUs) that are under way at once (counted)",
            },
            Rung::TpBtf => Facts {
                name: "tp_btf",
                since: "5.5",
                needs: "BTF",
                lost: "",
            },
            Rung::RawTp => Facts {
                name: "raw_tp",
                since: "4.17",
                needs: "for what is about tasks, the state in a hash; for switches `hash-untyped`",
                lost: "",
            },
            Rung::Classic => Facts {
                name: "tracepoint",
                since: "4.7",
                needs: "tracefs, `CONFIG_FTRACE_SYSCALLS`",
                lost: "nothing, but every system call of the host is some 60 ns dearer while it is recorded",
            },
            Rung::Unwind => Facts {
                name: "unwind",
                since: "5.8",
                needs: "perf events; user stacks by unwind tables, x86-64",
                lost: "",
            },
            Rung::Clock => Facts {
                name: "cpu-clock",
                since: "4.9",
                needs: "perf events",
                lost: "user stacks of code that keeps no frame pointers are broken",
            },
            Rung::TaskIterator => Facts {
                name: "iter",
                since: "5.8",
                needs: "BTF",
                lost: "",
            },
            Rung::Signature => Facts {
                name: "signature",
                since: "5.8",
                needs: "`page_added`, `page_dirtied`; /proc/kallsyms with addresses",
                lost: "the file that was copied when it was in the page cache; a copy-up's last moments on a CPU; where \
                       the upper layer is not on ext4, copy-ups of directories, links and empty files",
            },
            Rung::Rename => Facts {
                name: "rename",
                since: "5.8",
                needs: "BTF of ext4; /proc/kallsyms with addresses",
                lost: "deletes where the upper layer is not on ext4",
            },
        }
    }

    /// Its name in a recording, in reports and for forcing it.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// First Linux that has it for programs such as these.
    pub const fn since(self) -> &'static str {
        self.facts().since
    }

    /// What of the kernel it needs beside eBPF.
    pub const fn needs(self) -> &'static str {
        self.facts().needs
    }

    /// What is lost against the best rung of the signal; empty for the best.
    pub const fn lost(self) -> &'static str {
        self.facts().lost
    }

    /// The rung of that name.
    pub fn of(name: &str) -> Option<Rung> {
        Rung::ALL.iter().copied().find(|rung| rung.name() == name)
    }
}

impl std::fmt::Display for Rung {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Make sure that every rung is found by its name, and that no two share one.
    #[test]
    fn names() {
        for rung in Rung::ALL {
            assert_eq!(Rung::of(rung.name()), Some(*rung));
        }
        assert_eq!(Rung::of("uprobe"), None);
    }
}

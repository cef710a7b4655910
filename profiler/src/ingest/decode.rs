//! From the kernel's bytes to records.

mod awaited;
mod disk;
mod life;

use profiler_common::{
    Header, Plain, container, cpu, kind, net,
    sched::{self, NO_USER_STACK, USER_STACK_STREAMED},
    split,
    task::{self, COMM_LEN},
    unwind::{self, FileKey},
};

use super::requests;
use crate::recording::record::{
    Account, Adopt, At, Cgroup, CgroupOp, Cycle, Exchange, Exec, Exit, Fork, PageRun, Record, Sample, Syscall, TaskId,
    Text,
};
use crate::symbol::unwind::walk::Piece;

/// Bytes from the ring that are no event of this contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event of kind {kind} with {len} bytes is none of this contract")]
pub struct Undecodable {
    pub kind: u16,
    pub len: usize,
}

/// A decoded event; stacks are still addresses.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Ready to be recorded.
    Whole(Record),
    /// `stack` of the record is to be filled in from these.
    Cycle {
        record: Cycle,
        kernel: Vec<u64>,
        user_stack: UserStack,
    },
    /// As above.
    Sample {
        record: Sample,
        kernel: Vec<u64>,
        user: Vec<u64>,
        user_error: i16,
    },
    /// As above, with a user stack that was unwound.
    Unwound {
        record: Sample,
        kernel: Vec<u64>,
        user: Unwound,
    },
    /// The user stack of a wait that begins now.
    Wait { at: At, user: Unwound },
    /// As above, with a kernel stack only.
    PageRun { record: PageRun, kernel: Vec<u64> },
    /// What the walk of the event of the same time and thread goes on with.
    Copied(Box<Piece>),
}

/// Where the user stack of a wait is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserStack {
    None,
    /// In the stack map, under that id.
    Map(u32),
    /// It came as an [`Event::Wait`] of the wait's begin.
    Streamed,
}

/// A user stack as the kernel unwound it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unwound {
    /// Leaf first.
    pub frames: Vec<u64>,
    /// [`unwind::end`]
    pub end: u8,
    /// [`unwind::flag`]
    pub flags: u8,
    /// The file without a table at which it ended.
    pub missing: FileKey,
}

fn at(header: &Header) -> At {
    At {
        ts: header.ts,
        task: TaskId {
            tgid: header.tgid,
            tid: header.tid,
            start: header.start,
        },
        cgroup: header.cgroup,
        mnt_ns: header.mnt_ns,
        cpu: header.cpu,
    }
}

fn comm(bytes: &[u8; COMM_LEN]) -> Text {
    bytes.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Takes `count` addresses from the front of `bytes`.
fn addresses(bytes: &[u8], count: u16) -> Option<(Vec<u64>, &[u8])> {
    let (taken, rest) = bytes.split_at_checked(usize::from(count) * 8)?;
    let addresses = taken
        .as_chunks::<8>()
        .0
        .iter()
        .map(|bytes| u64::from_ne_bytes(*bytes))
        .collect();
    Some((addresses, rest))
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

/// Parts arguments at their NULs. A last one without NUL was cut.
pub(super) fn arguments(bytes: &[u8]) -> Vec<Text> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        Vec::new()
    } else {
        bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    }
}

/// Decodes one item of the ring.
pub fn decode(bytes: &[u8]) -> Result<Event, Undecodable> {
    let Some((header, _)) = split::<Header>(bytes) else {
        return Err(Undecodable {
            kind: 0,
            len: bytes.len(),
        });
    };
    event(header.kind, bytes).ok_or(Undecodable {
        kind: header.kind,
        len: bytes.len(),
    })
}

fn event(kind: u16, bytes: &[u8]) -> Option<Event> {
    Some(match kind {
        kind::FORK => {
            let task::Fork {
                header,
                parent_start,
                clone_flags,
                parent_tgid,
                parent_tid,
                pid_ns,
                ns_tid,
                comm: name,
            } = whole(bytes)?;
            Event::Whole(Record::Fork(Fork {
                at: at(&header),
                parent: TaskId {
                    tgid: parent_tgid,
                    tid: parent_tid,
                    start: parent_start,
                },
                clone_flags,
                pid_ns,
                ns_tid,
                comm: comm(&name),
            }))
        }
        kind::EXEC => {
            let (exec, mut tail) = split::<task::Exec>(bytes)?;
            let filename = take(&mut tail, exec.filename_len.into())?.to_vec();
            let argv = arguments(take(&mut tail, exec.argv_len.into())?);
            Event::Whole(Record::Exec(Exec {
                at: at(&exec.header),
                old_tid: exec.old_tid,
                pid_ns: exec.pid_ns,
                ns_tid: exec.ns_tid,
                exe_dev: exec.exe_dev,
                exe_ino: exec.exe_ino,
                comm: comm(&exec.comm),
                filename,
                argv,
                argv_cut: exec.argv_full.saturating_sub(exec.argv_len.into()),
            }))
        }
        kind::EXIT => {
            let task::Exit {
                header,
                utime,
                stime,
                exit_code,
                group_dead,
            } = whole(bytes)?;
            Event::Whole(Record::Exit(Exit {
                at: at(&header),
                code: exit_code,
                group_dead: match group_dead {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                },
                utime,
                stime,
            }))
        }
        kind::ACCOUNT => {
            let task::Account {
                header,
                sum_exec_runtime,
            } = whole(bytes)?;
            Event::Whole(Record::Account(Account {
                at: at(&header),
                sum_exec: sum_exec_runtime,
            }))
        }
        kind::ADOPT => {
            let task::Adopt {
                header,
                parent_tgid,
                parent_tid: _,
                pid_ns,
                ns_tid,
                state,
                on_cpu,
                comm: name,
            } = whole(bytes)?;
            Event::Whole(Record::Adopt(Adopt {
                at: at(&header),
                parent_tgid,
                pid_ns,
                ns_tid,
                state,
                on_cpu: on_cpu != 0,
                comm: comm(&name),
                argv: Vec::new(),
                exe: Vec::new(),
            }))
        }
        kind::CYCLE => {
            let (cycle, tail) = split::<sched::Cycle>(bytes)?;
            let (kernel, _) = addresses(tail, cycle.kernel_frames)?;
            let user_stack = match cycle.user_stack {
                NO_USER_STACK => UserStack::None,
                USER_STACK_STREAMED => UserStack::Streamed,
                id => u32::try_from(id).map_or(UserStack::None, UserStack::Map),
            };
            Event::Cycle {
                record: Cycle {
                    at: at(&cycle.header),
                    from: cycle.from,
                    on_start: cycle.on_start,
                    off: cycle.off,
                    wake: cycle.wake,
                    sum_cpu: cycle.sum_cpu,
                    sum_runqueue: cycle.sum_runqueue,
                    sum_blocked: cycle.sum_blocked,
                    sum_count: cycle.sum_count,
                    waker_tgid: cycle.waker_tgid,
                    waker_tid: cycle.waker_tid,
                    state: cycle.state,
                    syscall: cycle.syscall,
                    flags: cycle.flags,
                    stack: 0,
                },
                kernel,
                user_stack,
            }
        }
        kind::SAMPLE => {
            let (sample, tail) = split::<cpu::Sample>(bytes)?;
            let (user, tail) = addresses(tail, sample.user_frames)?;
            let (kernel, _) = addresses(tail, sample.kernel_frames)?;
            Event::Sample {
                record: Sample {
                    at: at(&sample.header),
                    stack: 0,
                },
                kernel,
                user,
                user_error: sample.user_error,
            }
        }
        kind::UNWOUND_SAMPLE => {
            let (sample, kernel, user) = unwound(bytes)?;
            let record = Sample {
                at: at(&sample.header),
                stack: 0,
            };
            Event::Unwound { record, kernel, user }
        }
        kind::UNWOUND_WAIT => {
            let (wait, _, user) = unwound(bytes)?;
            let at = at(&wait.header);
            Event::Wait { at, user }
        }
        kind::COPIED_STACK => {
            let (head, mut tail) = split::<unwind::Copied>(bytes)?;
            // Room was reserved for more than there was.
            let bytes = take(&mut tail, usize::try_from(head.bytes).ok()?)?.to_vec();
            Event::Copied(Box::new(Piece { head, bytes }))
        }
        kind::CGROUP => {
            let (cgroup, mut tail) = split::<container::Cgroup>(bytes)?;
            let path = take(&mut tail, cgroup.path_len.try_into().ok()?)?.to_vec();
            let op = match cgroup.op {
                container::cgroup_op::MKDIR => CgroupOp::Mkdir,
                container::cgroup_op::RMDIR => CgroupOp::Rmdir,
                container::cgroup_op::RELEASE => CgroupOp::Release,
                container::cgroup_op::ATTACH => CgroupOp::Attach(TaskId {
                    tgid: cgroup.task_tgid,
                    tid: cgroup.task_tid,
                    start: cgroup.task_start,
                }),
                container::cgroup_op::POPULATED => CgroupOp::Populated(cgroup.populated != 0),
                _ => return None,
            };
            Event::Whole(Record::Cgroup(Cgroup {
                at: at(&cgroup.header),
                op,
                id: cgroup.id,
                hierarchy: cgroup.hierarchy,
                level: cgroup.level,
                path,
            }))
        }
        kind::SYSCALL => {
            let (call, mut tail) = split::<container::Syscall>(bytes)?;
            let mut text = |len: u16| take(&mut tail, len.into()).map(<[u8]>::to_vec);
            Event::Whole(Record::Syscall(Syscall {
                at: at(&call.header),
                enter: call.enter,
                result: call.result,
                args: call.args,
                call: call.call,
                a: text(call.a_len)?,
                b: text(call.b_len)?,
                c: text(call.c_len)?,
                d: text(call.d_len)?,
            }))
        }
        kind::AWAITED => awaited::event(bytes)?,
        kind::EXCHANGE => Event::Whole(exchange(&whole(bytes)?).into()),
        kind::REQUEST => {
            let (request, mut tail) = split::<net::Request>(bytes)?;
            let text = take(&mut tail, request.text_len.into())?;
            Event::Whole(requests::read(at(&request.header), request.peer, text).into())
        }
        kind::LISTEN => life::listen(bytes)?,
        kind::MEMORY => life::memory(bytes)?,
        kind::OOM => life::oom(bytes)?,
        kind::INODE => disk::inode(bytes)?,
        kind::PAGE_RUN => disk::page_run(bytes)?,
        kind::IO_TOTALS => disk::io_totals(bytes)?,
        kind::BLOCK_IO => disk::block_io(bytes)?,
        kind::WRITE_BACK => disk::write_back(bytes)?,
        kind::COPY_UP => disk::copy_up(bytes)?,
        kind::WHITEOUT => disk::whiteout(bytes)?,
        kind::FILE_CALLS => disk::file_calls(bytes)?,
        kind::OVERLAID => disk::overlaid(bytes)?,
        _ => return None,
    })
}

fn unwound(bytes: &[u8]) -> Option<(unwind::Sample, Vec<u64>, Unwound)> {
    let (sample, tail) = split::<unwind::Sample>(bytes)?;
    let (kernel, tail) = addresses(tail, sample.kernel_frames)?;
    let (frames, _) = addresses(tail, sample.user_frames)?;
    let user = Unwound {
        frames,
        end: sample.end,
        flags: sample.flags,
        missing: sample.missing,
    };
    Some((sample, kernel, user))
}

/// An exchange as the kernel keeps it.
pub(super) fn exchange(exchange: &net::Exchange) -> Exchange {
    let length = match exchange.family {
        net::AF_INET => 4,
        _ => 16,
    };
    Exchange {
        at: at(&exchange.header),
        connect: exchange.connect,
        begin: exchange.begin,
        last: exchange.last,
        sent: exchange.sent,
        received: exchange.received,
        address: exchange.address[..length].to_vec(),
        port: exchange.port,
    }
}

/// An event without a tail.
fn whole<T: Plain>(bytes: &[u8]) -> Option<T> {
    split::<T>(bytes).map(|(value, _)| value)
}

impl Event {
    /// When it happened, ns.
    pub fn ts(&self) -> u64 {
        match self {
            Event::Cycle { record, .. } => record.at.ts,
            Event::Sample { record, .. } | Event::Unwound { record, .. } => record.at.ts,
            Event::Wait { at, .. } => at.ts,
            Event::PageRun { record, .. } => record.at.ts,
            Event::Copied(piece) => piece.head.header.ts,
            Event::Whole(record) => match record {
                Record::Fork(record) => record.at.ts,
                Record::Exec(record) => record.at.ts,
                Record::Exit(record) => record.at.ts,
                Record::Account(record) => record.at.ts,
                Record::Adopt(record) => record.at.ts,
                Record::Awaited(record) => record.at.ts,
                Record::Cgroup(record) => record.at.ts,
                Record::Syscall(record) => record.at.ts,
                Record::Exchange(record) => record.at.ts,
                Record::Request(record) => record.at.ts,
                Record::Listen(record) => record.at.ts,
                Record::Memory(record) => record.at.ts,
                Record::Oom(record) => record.at.ts,
                Record::Inode(record) => record.at.ts,
                Record::IoTotals(record) => record.at.ts,
                Record::BlockIo(record) => record.at.ts,
                Record::WriteBack(record) => record.at.ts,
                Record::CopyUp(record) => record.at.ts,
                Record::Whiteout(record) => record.at.ts,
                Record::FileCalls(record) => record.at.ts,
                Record::Overlaid(record) => record.at.ts,
                _ => 0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn bytes<T: Plain>(value: &T) -> Vec<u8> {
        // SAFETY: `Plain` types have no padding and are valid as bytes.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }.to_vec()
    }

    fn header(kind: u16) -> Header {
        Header {
            ts: 5,
            start: 1,
            cgroup: 9,
            tgid: 10,
            tid: 11,
            mnt_ns: 12,
            kind,
            cpu: 1,
        }
    }

    /// Make sure that an exec's file name and arguments are parted where the kernel says, and what was cut is told.
    #[test]
    fn exec() {
        let exec = task::Exec {
            header: header(kind::EXEC),
            filename_len: 7,
            argv_len: 9,
            argv_full: 20,
            comm: *b"true\0\0\0\0\0\0\0\0\0\0\0\0",
            ..Default::default()
        };
        let mut item = bytes(&exec);
        item.extend_from_slice(b"/bin/tt");
        item.extend_from_slice(b"true\0-x\0\xff");
        let Ok(Event::Whole(Record::Exec(exec))) = decode(&item) else {
            panic!()
        };
        assert_eq!(exec.filename, b"/bin/tt");
        assert_eq!(exec.argv, [b"true".to_vec(), b"-x".to_vec(), b"\xff".to_vec()]);
        assert_eq!(exec.argv_cut, 11);
        assert_eq!(exec.comm, b"true");
        // The ring rounds nothing up, but a shorter item is refused.
        assert!(decode(&item[..item.len() - 1]).is_err());
    }

    /// Make sure that no prefix of an item makes the decoder panic, and that foreign kinds are refused.
    #[test]
    fn hostile() {
        let sample = cpu::Sample {
            header: header(kind::SAMPLE),
            user_frames: 2,
            kernel_frames: 1,
            ..Default::default()
        };
        let mut item = bytes(&sample);
        for address in [1u64, 2, 3] {
            item.extend_from_slice(&address.to_ne_bytes());
        }
        for len in 0..item.len() {
            assert!(decode(&item[..len]).is_err());
        }
        let Ok(Event::Sample { user, kernel, .. }) = decode(&item) else {
            panic!()
        };
        assert_eq!((user, kernel), (vec![1, 2], vec![3]));
        assert_eq!(decode(&bytes(&header(99))), Err(Undecodable { kind: 99, len: 40 }));
    }
}

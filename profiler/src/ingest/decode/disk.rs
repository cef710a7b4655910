//! Files, their pages, and block devices.

use profiler_common::{disk, split};

use super::{Event, at, take, whole};
use crate::recording::record::{
    BlockIo, CallSum, CopyUp, FileCalls, Inode, InodeId, IoTotals, Overlaid, PageRun, Record, Whiteout, WriteBack,
};

fn id(id: disk::InodeId) -> InodeId {
    InodeId {
        ino: id.ino,
        dev: id.dev,
        generation: id.generation,
    }
}

/// `None` of none.
fn known(inode: disk::InodeId) -> Option<InodeId> {
    (inode != disk::InodeId::NONE).then(|| id(inode))
}

pub(super) fn inode(bytes: &[u8]) -> Option<Event> {
    let (inode, mut tail) = split::<disk::Inode>(bytes)?;
    let name = take(&mut tail, inode.name_len.try_into().ok()?)?;
    Some(Event::Whole(Record::Inode(Inode {
        at: at(&inode.header),
        id: id(inode.id),
        parent: known(inode.parent),
        name: name.to_vec(),
        size: inode.size,
        nlink: inode.nlink,
        mode: inode.mode,
        magic: inode.magic,
        rdev: inode.rdev,
    })))
}

pub(super) fn page_run(bytes: &[u8]) -> Option<Event> {
    let (run, tail) = split::<disk::PageRun>(bytes)?;
    let (kernel, _) = super::addresses(tail, run.kernel_frames)?;
    Some(Event::PageRun {
        record: PageRun {
            at: at(&run.header),
            from: run.from,
            to: run.to,
            inode: id(run.inode),
            size: run.size,
            added: run.added,
            dirtied: run.dirtied,
            syscall: run.syscall,
            flags: run.flags,
            stack: 0,
        },
        kernel,
    })
}

pub(super) fn io_totals(bytes: &[u8]) -> Option<Event> {
    let disk::IoTotals {
        header,
        rchar,
        wchar,
        syscr,
        syscw,
        read_bytes,
        write_bytes,
        cancelled_write_bytes,
    } = whole(bytes)?;
    Some(Event::Whole(Record::IoTotals(IoTotals {
        at: at(&header),
        rchar,
        wchar,
        syscr,
        syscw,
        read_bytes,
        write_bytes,
        cancelled_write_bytes,
    })))
}

pub(super) fn block_io(bytes: &[u8]) -> Option<Event> {
    let disk::BlockIo {
        header,
        queued,
        issued,
        sector,
        cgroup,
        inode,
        bytes: length,
        dev,
        op,
        flags,
        hierarchy,
        error,
    } = whole(bytes)?;
    Some(Event::Whole(Record::BlockIo(BlockIo {
        at: at(&header),
        queued,
        issued,
        sector,
        cgroup,
        hierarchy,
        inode: known(inode),
        bytes: length,
        dev,
        op,
        flags,
        error,
    })))
}

pub(super) fn write_back(bytes: &[u8]) -> Option<Event> {
    let disk::WriteBack {
        header,
        from,
        inode,
        pages,
        cgroup,
        sync,
        kernel,
    } = whole(bytes)?;
    Some(Event::Whole(Record::WriteBack(WriteBack {
        at: at(&header),
        from,
        inode: id(inode),
        pages,
        cgroup,
        sync: sync != 0,
        kernel: kernel != 0,
    })))
}

pub(super) fn copy_up(bytes: &[u8]) -> Option<Event> {
    let disk::CopyUp {
        header,
        from,
        lower,
        upper,
        overlay,
        size,
        read,
        copied,
        mode,
        syscall,
        flags,
        pad: _,
    } = whole(bytes)?;
    Some(Event::Whole(Record::CopyUp(CopyUp {
        at: at(&header),
        from,
        lower: known(lower),
        upper: known(upper),
        overlay: known(overlay),
        size,
        read,
        copied,
        mode,
        syscall,
        flags,
    })))
}

pub(super) fn overlaid(bytes: &[u8]) -> Option<Event> {
    let disk::Overlaid {
        header,
        overlay,
        lower,
        upper,
    } = whole(bytes)?;
    Some(Event::Whole(Record::Overlaid(Overlaid {
        at: at(&header),
        overlay: id(overlay),
        lower: known(lower),
        upper: known(upper),
    })))
}

pub(super) fn whiteout(bytes: &[u8]) -> Option<Event> {
    let disk::Whiteout {
        header,
        syscall,
        pad: _,
    } = whole(bytes)?;
    Some(Event::Whole(Record::Whiteout(Whiteout {
        at: at(&header),
        syscall,
    })))
}

pub(super) fn file_calls(bytes: &[u8]) -> Option<Event> {
    let disk::FileCalls {
        header,
        from,
        to,
        inode,
        sums: [read, written, synced],
    } = whole(bytes)?;
    let sum = |sum: disk::CallSum| CallSum {
        calls: sum.calls,
        bytes: sum.bytes,
        ns: sum.ns,
    };
    Some(Event::Whole(Record::FileCalls(FileCalls {
        at: at(&header),
        from,
        to,
        inode: id(inode),
        read: sum(read),
        written: sum(written),
        synced: sum(synced),
    })))
}

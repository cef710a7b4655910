//! What profiler and parser say to each other: one packet each, with open files beside it. Both are the same program, so
//! nothing is versioned. A large answer lies in a file in memory, so that neither ever waits for the other to read.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, fstat, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::lookup::elf::{ElfError, Proof};

/// Longest packet, bytes. A socket's buffer (`net.core.wmem_default`, 208 KiB) takes several.
pub(super) const MAX_PACKET: usize = 32 * 1024;
/// Longest answer within the packet, bytes.
const MAX_INLINE: usize = 8 * 1024;
/// Longest answer, bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Most files beside a packet.
pub(super) const MAX_FILES: usize = 2;

/// Work for the parser. What comes back is encoded as the job's own sentence says, by postcard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Job {
    /// [`Image`](crate::lookup::elf::Image) of the file.
    Symbols,
    /// The same of the first file, with the names of the second, its debug information.
    SymbolsWith(Proof),
    /// The names for people of mangled ones, in order: `Vec<Vec<u8>>`.
    Demangle(Vec<Vec<u8>>),
    /// [`Table`](crate::symbol::unwind::table::Table) of a file, in its own form.
    Unwind,
    /// [`Table`](crate::symbol::table::Table) of a perf map.
    PerfMap,
    /// Names of these addresses, as the file's symbols count them, with those of inlined functions:
    /// `Vec<`[`Named`](crate::symbol::inline::Named)`>`.
    Frames {
        /// The file's; another one is refused.
        build_id: Vec<u8>,
        addresses: Vec<u64>,
        inline: bool,
    },
}

impl Job {
    /// CPU time that it may take, ms.
    pub(super) fn budget_ms(&self) -> u64 {
        match self {
            // cc1 (30 MB) takes 10, the largest browsers' symbols 400, a CRC of 1 GB 300.
            // LLVM's library (12 MB of unwind information) takes 700.
            Job::Unwind => 4_000,
            Job::Symbols | Job::SymbolsWith(_) | Job::PerfMap => 2_000,
            Job::Demangle(_) => 500,
            // DWARF of hundreds of megabytes, when a person asks for it.
            Job::Frames { .. } => 60_000,
        }
    }
}

/// Profiler to parser.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// CPU time it may take, ms.
    pub budget_ms: u64,
    pub job: Job,
}

/// Parser to profiler, in the order of the requests. The first comes by itself: `Here`, with what of its privileges it
/// could not give up, as text.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Here(Vec<u8>),
    /// In the file beside it, so many bytes.
    Beside(u64),
    Refused(Refusal),
}

/// Why there is no answer: [`ElfError`] without what can't be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    NotElf,
    Malformed,
    TooLarge,
    TooMany,
    OtherBuild,
    /// There is none of what was asked for.
    Nothing,
    Read,
}

impl From<ElfError> for Refusal {
    fn from(error: ElfError) -> Refusal {
        match error {
            ElfError::NotElf => Refusal::NotElf,
            ElfError::Malformed => Refusal::Malformed,
            ElfError::TooLarge => Refusal::TooLarge,
            ElfError::TooMany => Refusal::TooMany,
            ElfError::OtherBuild => Refusal::OtherBuild,
            ElfError::Read(_) => Refusal::Read,
        }
    }
}

/// Sends without waiting.
pub(super) fn send<T: Serialize>(socket: BorrowedFd<'_>, message: &T, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if bytes.len() > MAX_PACKET {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            result => return result.map(|_| ()).map_err(io::Error::from),
        }
    }
}

/// Receives one packet; `None` at the other side's end.
pub(super) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let files = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .collect();
    let message = postcard::from_bytes(bytes.get(..received.bytes).unwrap_or_default()).map_err(io::Error::other)?;
    Ok(Some((message, files)))
}

/// The parser's answer, small or large.
pub(super) fn answer(socket: BorrowedFd<'_>, result: Result<Vec<u8>, Refusal>) -> io::Result<()> {
    let bytes = match result {
        Ok(bytes) if bytes.len() <= MAX_INLINE => return send(socket, &Reply::Here(bytes), &[]),
        Ok(bytes) => bytes,
        Err(refusal) => return send(socket, &Reply::Refused(refusal), &[]),
    };
    let mut file = File::from(memfd_create("answer", MemfdFlags::CLOEXEC)?);
    file.write_all(&bytes)?;
    send(socket, &Reply::Beside(bytes.len() as u64), &[file.as_fd()])
}

/// Content of an answer that lies in a file. It is copied: the parser may still write to it.
pub(super) fn content(len: u64, files: Vec<OwnedFd>) -> io::Result<Vec<u8>> {
    let file = File::from(files.into_iter().next().ok_or(io::ErrorKind::InvalidData)?);
    // What is there, not what is claimed, is allocated.
    if len > MAX_ANSWER || u64::try_from(fstat(&file)?.st_size) != Ok(len) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

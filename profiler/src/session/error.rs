//! What can go wrong, and what to do about it.

use std::{ffi::OsString, io};

use crate::{
    ingest::{IngestError, mappings::MappingsError},
    kernel::{lockdown, offsets::OffsetsError},
    load::{LoadError, forced::ForceError},
    recording::WriteError,
};

/// Why there is no recording, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no command was given")]
    NoCommand,
    #[error("the command holds a NUL byte")]
    Nul,
    #[error("user `{name}`: {why}")]
    User { name: String, why: String },
    #[error("{} can't be executed: {error}", program.display())]
    Exec { program: OsString, error: io::Error },
    #[error("no process could be made for the command: {0}")]
    Fork(#[source] io::Error),
    #[error("phasegraph needs root: {0}")]
    Privilege(String),
    #[error(
        "this is a container with a pid namespace of its own: the kernel tells of processes by the host's numbers, which \
         mean nothing in here"
    )]
    PidNamespace,
    #[error(
        "this kernel is locked down to confidentiality: no eBPF program may read its memory ({})",
        lockdown::FILE
    )]
    Lockdown,
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Forced(#[from] ForceError),
    #[error(transparent)]
    Mappings(#[from] MappingsError),
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("{what}: {error}")]
    System { what: &'static str, error: io::Error },
    /// The command ran, but its recording is not whole.
    #[error("{source}")]
    After {
        /// The command's exit status.
        status: u8,
        source: Box<Error>,
    },
}

impl Error {
    /// Exit status of the program: the shell's for a command that could not be run, the command's own once it ran
    /// and failed, else 1.
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Exec { error, .. } if error.raw_os_error() == Some(libc::ENOENT) => 127,
            Error::Exec { .. } => 126,
            Error::After { status, source } => {
                if *status == 0 {
                    source.exit_status()
                } else {
                    *status
                }
            }
            _ => 1,
        }
    }

    /// What to do about it.
    pub fn next_step(&self) -> Option<String> {
        Some(match self {
            Error::Exec { error, .. } if error.raw_os_error() == Some(libc::ENOENT) => {
                "check the spelling and PATH (sudo has its own), or give the program's full path".to_owned()
            }
            Error::Exec { error, .. } if error.raw_os_error() == Some(libc::ENOEXEC) => {
                "a program or a script that begins with #!; a shell's own command needs `sh -c`".to_owned()
            }
            Error::Exec { .. } => "a program with execute permission".to_owned(),
            Error::User { .. } => "name a user of this host, as `getent passwd` lists them".to_owned(),
            Error::Privilege(_) => "run it with sudo, or as root of the host".to_owned(),
            Error::PidNamespace => {
                "run it on the host, or start the container with --privileged --pid=host (kubernetes: hostPID)"
                    .to_owned()
            }
            Error::Lockdown => {
                "boot with lockdown=integrity (or without secure boot's stricter setting) on the kernel's command line"
                    .to_owned()
            }
            Error::Offsets(OffsetsError::Btf { .. }) => {
                "mount sysfs, or run a kernel built with CONFIG_DEBUG_INFO_BTF".to_owned()
            }
            Error::After { source, .. } => return source.next_step(),
            _ => return None,
        })
    }
}

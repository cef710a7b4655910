//! This program as cargo's rustc wrapper, so that the same sources give the same bytes wherever they lie.
//!
//! Cargo derives `-C metadata` of a path dependency outside the workspace root (`profiler-common`) from its absolute
//! path, and rustc puts that into symbol names
//! (`SourceId::stable_hash`, <https://doc.rust-lang.org/nightly/nightly-rustc/cargo/core/struct.SourceId.html>).
//! The wrapper gives the two crates of this repository a constant instead; `--remap-path-prefix` does the rest.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

/// Set for cargo when this program is to be the wrapper.
pub(super) const WRAPPER: &str = "PHASEGRAPH_XTASK_RUSTC";

/// The crates whose metadata depends on where the repository lies.
const LOCAL_CRATES: [&str; 2] = ["phasegraph", "profiler_common"];

/// Runs rustc when cargo started this program as its wrapper: does not return then, except on failure.
pub(crate) fn as_wrapper() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let mut arguments = std::env::args_os().skip(1);
    let rustc = arguments.next()?;
    let error = Command::new(&rustc).args(portable(arguments.collect())).exec();
    eprintln!("error: can't run {}: {error}", rustc.display());
    Some(ExitCode::FAILURE)
}

/// rustc's arguments, with a constant in place of `-C metadata` for [`LOCAL_CRATES`].
fn portable(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments
        .iter()
        .position(|argument| argument == "--crate-name")
        .and_then(|at| arguments.get(at + 1))
        .and_then(|name| LOCAL_CRATES.into_iter().find(|local| OsStr::new(local) == name));
    if let Some(name) = name {
        for argument in &mut arguments {
            if argument.as_encoded_bytes().starts_with(b"metadata=") {
                *argument = format!("metadata={name}").into();
            }
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(arguments: &[&str]) -> Vec<OsString> {
        portable(arguments.iter().map(OsString::from).collect())
    }

    /// Make sure that our crates' metadata is replaced, and nothing else of their command line.
    #[test]
    fn local_crates_get_constant_metadata() {
        assert_eq!(
            given(&[
                "--crate-name",
                "profiler_common",
                "-C",
                "metadata=1f",
                "-C",
                "opt-level=3"
            ]),
            [
                "--crate-name",
                "profiler_common",
                "-C",
                "metadata=profiler_common",
                "-C",
                "opt-level=3"
            ]
        );
    }

    /// Make sure that two versions of a foreign crate keep their different metadata.
    #[test]
    fn foreign_crates_keep_theirs() {
        let arguments = ["--crate-name", "aya_ebpf", "-C", "metadata=1f"];
        assert_eq!(given(&arguments), arguments);
        assert_eq!(given(&["-vV"]), ["-vV"]);
    }
}

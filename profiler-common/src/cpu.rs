//! CPU samples.

use crate::{Header, layout};

/// A tick of the sampling clock that hit a profiled thread on its CPU.
///
/// Followed by `user_frames` and then `kernel_frames` addresses (`u64`), each leaf first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    pub header: Header,
    /// 0 to 127.
    pub user_frames: u16,
    /// 0 to 127.
    pub kernel_frames: u16,
    /// Negative errno of the user stack, or 0.
    pub user_error: i16,
    /// Negative errno of the kernel stack, or 0.
    pub kernel_error: i16,
}
layout!(
    Sample,
    size = 48,
    header = 0,
    user_frames = 40,
    kernel_frames = 42,
    user_error = 44,
    kernel_error = 46
);

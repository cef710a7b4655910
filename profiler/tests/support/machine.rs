//! What kind of machine the tests run on.

/// Whether the CPU is one that QEMU emulates (`docs/design/0010-machines.md`). Its times mean nothing.
pub(crate) fn emulated() -> bool {
    std::fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("QEMU"))
}

/// How many times longer a load goes on that is to show a number of events: an emulated CPU is several times slower than a
/// real one, and its host has other work.
pub(crate) fn slowness() -> u32 {
    if emulated() { 10 } else { 1 }
}

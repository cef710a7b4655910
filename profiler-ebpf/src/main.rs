//! phasegraph's kernel half: one file per subject in `probes/`, what they share beside it, once.
//!
//! Entry functions are a few lines: they call `try_…() -> Result<(), Counter>` and count the failure, so that
//! nothing is lost without a name.
#![no_std]
#![no_main]

mod calls;
mod emit;
mod globals;
mod preempt;
mod probes;
mod stack;
mod task;
mod unwind;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    // Unreachable: the programs have no panicking path, and the verifier refuses an object that had one.
    loop {}
}

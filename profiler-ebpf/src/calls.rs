//! Sets of system calls by their numbers on x86-64 (`arch/x86/entry/syscalls/syscall_64.tbl`).

/// One bit for each number: a comparison for each would be a way for the verifier to follow.
pub struct Calls([u64; 8]);

/// What stands for no system call (-1).
pub const NONE: usize = 511;

impl Calls {
    /// Of the first and the last number of each row.
    pub const fn of(rows: &[(usize, usize)]) -> Calls {
        let mut bits = [0; 8];
        let mut row = 0;
        while row < rows.len() {
            let (mut number, last) = rows[row];
            while number <= last {
                bits[number / 64] |= 1 << (number % 64);
                number += 1;
            }
            row += 1;
        }
        Calls(bits)
    }

    /// With those of another set.
    pub const fn and(mut self, other: &Calls) -> Calls {
        let mut index = 0;
        while index < self.0.len() {
            self.0[index] |= other.0[index];
            index += 1;
        }
        self
    }

    /// Whether a call is one of them. Numbers repeat after 512, of which there are none but those of x32.
    #[inline(always)]
    pub fn holds(&'static self, number: i32) -> bool {
        let number = number as usize & 511;
        // SAFETY: within the array; volatile so that it stays one.
        let bits = unsafe { core::ptr::read_volatile(self.0.as_ptr().add(number / 64)) };
        bits >> (number % 64) & 1 != 0
    }
}

//! What every image here has: an entry, a panic handler, and registers that are the outside world.
//!
//! To the compiler a register may hold anything and may be watched by anyone, so nothing that goes
//! in or comes out is optimised away.

#![no_std]

#[cfg(feature = "line")]
pub mod line;

use core::{cell::UnsafeCell, mem::MaybeUninit, panic::PanicInfo, ptr};

const REGISTERS: usize = 0x4000_0000;

fn read(register: usize) -> u32 {
    // SAFETY: the addresses are those of peripherals, where no memory is.
    unsafe { ptr::read_volatile((REGISTERS + 4 * register) as *const u32) }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile((REGISTERS + 4 * register) as *mut u32, value) }
}

/// Milliseconds since the start.
pub fn clock() -> u64 {
    read(0).into()
}

/// A decision that is made elsewhere.
pub fn choice() -> u32 {
    read(1)
}

/// Fills the front of `buffer` with what has been received and gives its length.
pub fn receive(buffer: &mut [u8]) -> usize {
    let mut received = 0;
    while read(2) != 0
        && let Some(byte) = buffer.get_mut(received)
    {
        *byte = read(3) as u8;
        received += 1;
    }
    received
}

/// Sends bytes to the peer.
pub fn send(bytes: &[u8]) {
    bytes.iter().for_each(|byte| write(4, (*byte).into()));
}

/// Moves what is at the end of the first `len` bytes to the front, and gives its length.
pub fn keep_last(buffer: &mut [u8], len: usize, last: usize) -> usize {
    let last = last.min(len);
    if len <= buffer.len() {
        buffer.copy_within(len - last..len, 0);
    }
    last
}

/// Shows bytes to whoever watches.
pub fn show(bytes: &[u8]) {
    bytes.iter().for_each(|byte| write(5, (*byte).into()));
}

/// Sleeps until something happens, or until that moment.
pub fn sleep(until: Option<u64>) {
    write(6, until.unwrap_or(u64::MAX) as u32);
}

/// Room for the one value that lives as long as the program: counted in `bss`, not initialised
/// from a copy in flash.
pub struct Place<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: there is one thread and no interrupt.
unsafe impl<T> Sync for Place<T> {}

impl<T> Place<T> {
    /// Room.
    #[allow(clippy::new_without_default, reason = "used in statics")]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Puts the value there.
    ///
    /// # Safety
    ///
    /// To be called once.
    #[allow(clippy::mut_from_ref, reason = "called once")]
    pub unsafe fn put(&self, value: T) -> &mut T {
        // SAFETY: this is the only reference.
        unsafe { (*self.0.get()).write(value) }
    }
}

unsafe extern "Rust" {
    /// The image's program.
    safe fn program() -> !;
}

#[unsafe(no_mangle)]
extern "C" fn reset() -> ! {
    program()
}

#[used]
#[unsafe(link_section = ".vectors")]
static RESET: extern "C" fn() -> ! = reset;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

//! Everything but MQTT: received bytes are kept until they are asked for, shown, and sent back.
//!
//! Like any program it clears, copies and moves memory, so that those three functions, which are
//! the compiler's, are not counted as MQTT's.

#![no_std]
#![no_main]

use size::{Place, choice, clock, keep_last, receive, send, show, sleep};

struct Device {
    out: [u8; 512],
    received: [u8; 1024],
    len: usize,
}

static DEVICE: Place<Device> = Place::new();

#[unsafe(no_mangle)]
fn program() -> ! {
    // SAFETY: the program is started once.
    let device = unsafe { DEVICE.put(Device { out: [0; 512], received: [0; 1024], len: 0 }) };
    loop {
        let Device { out, received, len } = device;
        *len += receive(received.get_mut(*len..).unwrap_or_default());
        let taken = (*len).min(choice() as usize).min(out.len());
        if let (Some(from), Some(to)) = (received.get(..taken), out.get_mut(..taken)) {
            show(from);
            to.copy_from_slice(from);
            send(to);
        }
        *len = keep_last(received, *len, *len - taken);
        sleep((choice() == 0).then(|| clock() + 1_000));
    }
}

//! Everything but MQTT: received bytes are shown and sent back.

#![no_std]
#![no_main]

use size::{Place, choice, clock, receive, send, show, sleep};

static RECEIVED: Place<[u8; 1024]> = Place::new();

#[unsafe(no_mangle)]
fn program() -> ! {
    // SAFETY: the program is started once.
    let received = unsafe { RECEIVED.put([0; 1024]) };
    loop {
        let len = receive(received);
        let bytes = received.get(..len).unwrap_or_default();
        show(bytes);
        send(bytes);
        sleep((choice() == 0).then(|| clock() + 1_000));
    }
}

//! What the images have in common: the machine's clock and its Ethernet controller, and how they say how
//! it went.

#![no_std]

mod clock;
pub mod ethernet;

use core::fmt;

use cortex_m_semihosting::{debug, hio, nr, syscall1};
use embassy_executor::Spawner;
use embassy_net::{Config, Ipv4Address, Runner, Stack, StackResources};
use panic_semihosting as _;
use static_cell::StaticCell;

use ethernet::Ethernet;

/// How many sockets an image has, DHCP's and DNS's included.
pub const SOCKETS: usize = 12;

/// Starts the clock and the network, and waits for an address.
pub async fn start(spawner: Spawner, seed: u64) -> Stack<'static> {
    static RESOURCES: StaticCell<StackResources<SOCKETS>> = StaticCell::new();
    clock::start();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(Ethernet::start(), Config::dhcpv4(Default::default()), resources, seed);
    match net(runner) {
        Ok(task) => spawner.spawn(task),
        Err(error) => fail(format_args!("no task for the network: {error:?}")),
    }
    stack.wait_config_up().await;
    stack
}

#[embassy_executor::task]
async fn net(mut runner: Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

/// Writes a line to the host's standard output.
pub fn say(line: fmt::Arguments<'_>) {
    use fmt::Write;
    if let Ok(mut out) = hio::hstdout() {
        let _ = out.write_fmt(line).and_then(|()| out.write_str("\n"));
    }
}

/// Ends the machine: all went well.
pub fn succeed() -> ! {
    loop {
        debug::exit(debug::EXIT_SUCCESS);
    }
}

/// Ends the machine: something did not.
pub fn fail(why: fmt::Arguments<'_>) -> ! {
    say(why);
    loop {
        debug::exit(debug::EXIT_FAILURE);
    }
}

/// The host, as the machine's network shows it.
pub const HOST: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);

/// A number on the machine's command line.
pub fn argument(index: usize) -> u32 {
    let mut line = [0_u8; 80];
    let mut block = [line.as_mut_ptr() as usize, line.len()];
    // SAFETY: the host writes into the line, no more than so many bytes, and how many.
    let result = unsafe { syscall1(nr::GET_CMDLINE, &raw mut block as usize) };
    let written = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let line = core::str::from_utf8(written).unwrap_or_default();
    let word = line.split_ascii_whitespace().nth(index);
    match word.and_then(|word| word.parse().ok()) {
        Some(number) if result == 0 => number,
        _ => fail(format_args!("there is no argument {index}: {line}")),
    }
}

//! The LAN9118 Ethernet controller, whole frames at a time.
//!
//! Received frames wait in its memory, and are copied out when the network stack takes them.

use core::{cell::RefCell, marker::PhantomData, ptr, task::Context};

use cortex_m::{interrupt::InterruptNumber, peripheral::NVIC};
use cortex_m_rt::exception;
use critical_section::Mutex;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::WakerRegistration;

const BASE: usize = 0x4020_0000;

/// Which interrupt it raises.
#[derive(Clone, Copy)]
struct Irq;

const IRQ: u16 = 13;

// SAFETY: it is the number of the controller's interrupt.
unsafe impl InterruptNumber for Irq {
    fn number(self) -> u16 {
        IRQ
    }
}

/// Registers, by their offset.
const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const FIFO_INT: usize = 0x68;
const TX_CFG: usize = 0x70;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;

/// A frame has come.
const RSFL: u32 = 1 << 3;

/// Registers of its other half, which are read and written through two of the above.
const MAC_CR: u32 = 1;
const MAC_ADDRH: u32 = 2;
const MAC_ADDRL: u32 = 3;
const MAC_BUSY: u32 = 1 << 31;
const MAC_READ: u32 = 1 << 30;

/// The longest frame, with its header and without its check sequence.
const FRAME: usize = 1514;

static WAKER: Mutex<RefCell<WakerRegistration>> =
    Mutex::new(RefCell::new(WakerRegistration::new()));

fn read(register: usize) -> u32 {
    // SAFETY: the controller's registers are there, and nobody but its driver uses them.
    unsafe { ptr::read_volatile((BASE + register) as *const u32) }
}

fn write(register: usize, value: u32) {
    // SAFETY: as above.
    unsafe { ptr::write_volatile((BASE + register) as *mut u32, value) }
}

fn mac_read(register: u32) -> u32 {
    write(MAC_CSR_CMD, MAC_BUSY | MAC_READ | register);
    while read(MAC_CSR_CMD) & MAC_BUSY != 0 {}
    read(MAC_CSR_DATA)
}

fn mac_write(register: u32, value: u32) {
    write(MAC_CSR_DATA, value);
    write(MAC_CSR_CMD, MAC_BUSY | register);
    while read(MAC_CSR_CMD) & MAC_BUSY != 0 {}
}

/// The controller, started.
pub struct Ethernet {
    address: [u8; 6],
}

impl Ethernet {
    pub(crate) fn start() -> Self {
        let [low, high] = [MAC_ADDRL, MAC_ADDRH].map(|part| mac_read(part).to_le_bytes());
        let [a, b, c, d] = low;
        let address = [a, b, c, d, high[0], high[1]];

        mac_write(MAC_CR, 1 << 2 | 1 << 3); // receive and transmit
        write(TX_CFG, 1 << 1); // on
        write(FIFO_INT, 0xff << 24); // any received frame counts; room to transmit does not
        write(IRQ_CFG, 1 << 8 | 1 << 4 | 1); // on, active high, driven
        write(INT_STS, u32::MAX);
        write(INT_EN, RSFL);
        // SAFETY: the handler is there.
        unsafe { NVIC::unmask(Irq) };
        Self { address }
    }
}

#[exception]
unsafe fn DefaultHandler(irq: i16) {
    if irq == IRQ as i16 {
        // Until the frames that woke it have been taken.
        write(INT_EN, 0);
        critical_section::with(|cs| WAKER.borrow_ref_mut(cs).wake());
    }
}

impl Driver for Ethernet {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received<'_>, Room<'_>)> {
        if read(RX_FIFO_INF) >> 16 & 0xff == 0 {
            critical_section::with(|cs| WAKER.borrow_ref_mut(cs).register(cx.waker()));
            write(INT_STS, RSFL);
            write(INT_EN, RSFL);
            return None;
        }
        Some((Received(PhantomData), Room(PhantomData)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Room<'_>> {
        while read(TX_FIFO_INF) >> 16 & 0xff != 0 {
            read(TX_STATUS); // nobody asks how it went
        }
        if (read(TX_FIFO_INF) & 0xffff) as usize >= FRAME + 16 {
            return Some(Room(PhantomData));
        }
        cx.waker().wake_by_ref();
        None
    }

    fn link_state(&mut self, _: &mut Context<'_>) -> LinkState {
        LinkState::Up
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.address)
    }
}

/// A frame that has come.
pub struct Received<'a>(PhantomData<&'a mut Ethernet>);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, take: F) -> R {
        let len = (read(RX_STATUS) >> 16 & 0x3fff) as usize;
        let mut frame = [0; FRAME + 6];
        for index in 0..len.div_ceil(4) {
            let word = read(RX_DATA).to_le_bytes();
            if let Some(part) = frame.get_mut(4 * index..4 * index + 4) {
                part.copy_from_slice(&word);
            }
        }
        // Behind it comes its check sequence.
        let len = len.saturating_sub(4).min(FRAME);
        take(frame.get_mut(..len).unwrap_or_default())
    }
}

/// Room for a frame.
pub struct Room<'a>(PhantomData<&'a mut Ethernet>);

impl TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, fill: F) -> R {
        let mut frame = [0; FRAME + 2];
        let len = len.min(FRAME);
        let result = fill(frame.get_mut(..len).unwrap_or_default());
        write(TX_DATA, 1 << 13 | 1 << 12 | len as u32); // first and last part
        write(TX_DATA, (len as u32) << 16 | len as u32);
        for word in frame.chunks_exact(4).take(len.div_ceil(4)) {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(word);
            write(TX_DATA, u32::from_le_bytes(bytes));
        }
        result
    }
}

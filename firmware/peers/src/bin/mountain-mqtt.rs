//! mountain-mqtt, 5.0: it has no QoS 2, no credentials, and resumes no session.

#![no_std]
#![no_main]

use core::convert::Infallible;

use embedded_io_async::{Read, Write};
use mountain_mqtt::{
    client::{
        Client, ClientNoQueue, ClientReceivedEvent, ConnectionSettings, Delay, EventHandler,
        EventHandlerError,
    },
    data::quality_of_service::QualityOfService,
    error::{PacketReadError, PacketWriteError},
    packet_client::Connection,
    packets::connect::Will,
};
use peers::{Line, run};
use size::{Place, choice, show};

static BUFFER: Place<[u8; 1536]> = Place::new();

struct Wire(Line);

impl Connection for Wire {
    async fn send(&mut self, bytes: &[u8]) -> Result<(), PacketWriteError> {
        let sent: Result<(), Infallible> = self.0.write_all(bytes).await;
        sent.map_err(|never| match never {})
    }

    async fn receive(&mut self, buffer: &mut [u8]) -> Result<(), PacketReadError> {
        self.0.read_exact(buffer).await.map_err(|_| PacketReadError::ConnectionReceive)
    }

    async fn receive_if_ready(&mut self, buffer: &mut [u8]) -> Result<bool, PacketReadError> {
        if choice() == 0 {
            return Ok(false);
        }
        self.receive(buffer).await.map(|()| true)
    }
}

struct Pause;

impl Delay for Pause {
    async fn delay_us(&mut self, us: u32) {
        embassy_time::Timer::after_micros(us.into()).await;
    }
}

struct Shower;

impl EventHandler<0> for Shower {
    async fn handle_event(
        &mut self,
        event: ClientReceivedEvent<'_, 0>,
    ) -> Result<(), EventHandlerError> {
        match event {
            ClientReceivedEvent::ApplicationMessage(message) => {
                show(message.topic_name.as_bytes());
                show(message.payload);
            }
            _ => show(b"."),
        }
        Ok(())
    }
}

#[unsafe(no_mangle)]
fn program() -> ! {
    run(device())
}

async fn device() {
    // SAFETY: the program is started once.
    let buffer = unsafe { BUFFER.put([0; 1536]) };
    loop {
        let mut client = ClientNoQueue::<_, _, _, 0>::new(Wire(Line), buffer, Pause, 5_000, Shower);
        let settings = ConnectionSettings::unauthenticated("device-7");
        let properties = heapless::Vec::new();
        let will =
            Will::<0>::new(QualityOfService::Qos0, true, "device/7/status", b"lost", properties);
        if client.connect_with_will(&settings, Some(will)).await.is_err()
            || client.subscribe("device/7/commands/#", QualityOfService::Qos1).await.is_err()
        {
            continue;
        }
        while client.poll(choice() == 0).await.is_ok() {
            let reading = choice().to_le_bytes();
            let topic = "device/7/readings";
            let sent = match choice() {
                0 => client.publish(topic, &reading, QualityOfService::Qos0, false).await,
                1 => client.publish(topic, &reading, QualityOfService::Qos1, false).await,
                2 => client.send_ping().await,
                _ => {
                    let _ = client.disconnect().await;
                    break;
                }
            };
            if sent.is_err() {
                break;
            }
        }
    }
}

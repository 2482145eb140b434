//! rust-mqtt, 5.0.

#![no_std]
#![no_main]

use core::num::NonZero;

use embassy_time::{Duration, with_timeout};
use peers::{Line, run};
use rust_mqtt::{
    Bytes,
    buffer::BumpBuffer,
    client::{
        Client,
        event::Event,
        options::{
            ConnectOptions, DisconnectOptions, PublicationOptions, SubscriptionOptions,
            TopicReference, WillOptions,
        },
    },
    config::{KeepAlive, SessionExpiryInterval},
    types::{MqttBinary, MqttString, TopicFilter, TopicName},
};
use size::{Place, choice, show};

static BUFFER: Place<[u8; 2560]> = Place::new();

#[unsafe(no_mangle)]
fn program() -> ! {
    run(async {
        let _ = device().await;
    })
}

async fn device() -> Result<(), ()> {
    // SAFETY: the program is started once.
    let buffer = unsafe { BUFFER.put([0; 2560]) };
    let mut buffer = BumpBuffer::new(buffer);
    let text = |text| MqttString::try_from(text).map_err(drop);
    let name = |name| TopicName::new(text(name)?).ok_or(());
    let bytes = |bytes| MqttBinary::try_from(bytes).map_err(drop);
    let hour = NonZero::new(3_600).ok_or(())?;
    let mut client = Client::<'_, '_, Line, _, 1, 8, 8, 1, 0, 0, 0>::new(&mut buffer);
    loop {
        let will = WillOptions::new(name("device/7/status")?, bytes("lost")?).retain();
        let options = ConnectOptions::new()
            .session_expiry_interval(SessionExpiryInterval::Seconds(hour))
            .keep_alive(KeepAlive::Seconds(NonZero::new(60).ok_or(())?))
            .user_name(text("user")?)
            .password(bytes("secret")?)
            .will(will);
        let Ok(connected) = client.connect(Line, &options, Some(text("device-7")?)).await else {
            continue;
        };
        if !connected.session_present {
            let filter = TopicFilter::new(text("device/7/commands/#")?).ok_or(())?;
            let options = SubscriptionOptions::new().exactly_once();
            if client.subscribe(filter, &options).await.is_err() {
                continue;
            }
        }
        loop {
            let header = with_timeout(Duration::from_secs(30), client.poll_header()).await;
            let event = match header {
                Ok(Ok(header)) => client.poll_body(header).await,
                Ok(Err(_)) => break,
                Err(_) => {
                    if client.ping().await.is_err() {
                        break;
                    }
                    continue;
                }
            };
            match event {
                Ok(Event::Publish(message)) => {
                    if let TopicReference::Name(topic) = &message.topic {
                        show(topic.as_ref().as_ref().as_bytes());
                    }
                    show(&message.message);
                }
                Ok(Event::PublishAcknowledged(ack) | Event::PublishComplete(ack)) => {
                    show(&ack.packet_identifier.get().get().to_le_bytes());
                }
                Ok(_) => {}
                Err(_) => break,
            }
            let options = PublicationOptions::new(TopicReference::Name(name("device/7/readings")?));
            let options = match choice() {
                0 => options,
                1 => options.at_least_once(),
                2 => options.exactly_once(),
                _ => {
                    let _ = client.disconnect(&DisconnectOptions::new()).await;
                    break;
                }
            };
            let reading = choice().to_le_bytes();
            let _ = client.publish(&options, Bytes::from(&reading[..])).await;
        }
        let _ = client.abort().await;
        // What was borrowed from the buffer is gone.
        unsafe { client.buffer_mut().reset() };
    }
}

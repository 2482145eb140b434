//! minimq, 5.0.

#![no_std]
#![no_main]

use minimq::{
    ConfigBuilder, ConnectEvent, Publication, QoS, Session, SubscriptionOptions, TopicFilter, Will,
};
use peers::{Line, run};
use size::{Place, choice, show};

static BUFFER: Place<[u8; 2560]> = Place::new();

#[unsafe(no_mangle)]
fn program() -> ! {
    run(device())
}

async fn device() {
    // SAFETY: the program is started once.
    let buffer = unsafe { BUFFER.put([0; 2560]) };
    let Ok(will) = Will::new("device/7/status", b"lost", &[]) else { return };
    let Ok(config) = ConfigBuilder::from_buffer(buffer, 1024)
        .and_then(|config| config.client_id("device-7"))
        .and_then(|config| config.auth("user", b"secret"))
        .and_then(|config| config.will(will.retained()))
    else {
        return;
    };
    let mut session = Session::new(config.session_expiry_interval(3_600));
    loop {
        let Ok(mut connection) = session.connect(Line).await else { continue };
        if connection.connect_event() != ConnectEvent::Reconnected {
            let options = SubscriptionOptions::default().maximum_qos(QoS::ExactlyOnce);
            let wanted = [TopicFilter::new("device/7/commands/#").options(options)];
            if connection.subscribe(&wanted, &[]).await.is_err() {
                continue;
            }
        }
        loop {
            match connection.poll().await {
                Ok(Some(message)) => {
                    show(message.topic().as_bytes());
                    show(message.payload());
                }
                Ok(None) => {}
                Err(_) => break,
            }
            let qos = match choice() {
                0 => QoS::AtMostOnce,
                1 => QoS::AtLeastOnce,
                2 => QoS::ExactlyOnce,
                _ => {
                    let _ = connection.disconnect().await;
                    break;
                }
            };
            let reading = choice().to_le_bytes();
            if connection.can_publish(qos) {
                let reading = Publication::bytes("device/7/readings", &reading).qos(qos);
                if let Ok(Some(operation)) = connection.publish(reading).await {
                    show(&[connection.is_complete(&operation).into()]);
                }
            }
        }
    }
}

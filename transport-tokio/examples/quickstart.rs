//! A broker in this program, and two clients that talk by way of it:
//! `cargo run -p transport-tokio --example quickstart`

use transport_tokio::{Client, Farewell, Messages, Options, QoS, ReasonCode, Will, broker::Broker};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::builder().listen("mqtt://127.0.0.1:0").serve().await?;
    let url = &broker.urls()[0];
    println!("a broker listens at {url}");

    let panel = Client::connect(url, named("panel")).await?;
    let mut house = panel.subscribe("house/+/temperature", QoS::ExactlyOnce).await?;
    println!("panel subscribes to house/+/temperature");

    let will = Will { qos: QoS::AtLeastOnce, ..Will::new("house/sensor", "lost") };
    let sensor = Client::connect(url, Options { will: Some(will), ..named("sensor") }).await?;
    for (room, qos) in
        [("hall", QoS::AtMostOnce), ("attic", QoS::AtLeastOnce), ("cellar", QoS::ExactlyOnce)]
    {
        sensor.publish(format!("house/{room}/temperature"), "21.5").qos(qos).await?;
        show("panel", &mut house).await;
    }

    sensor.publish("house/sensor", "alive").qos(QoS::AtLeastOnce).retain(true).await?;
    let mut state = panel.subscribe("house/sensor", QoS::AtLeastOnce).await?;
    println!("panel subscribes to house/sensor, where a message is retained");
    show("panel", &mut state).await;

    println!("sensor goes, and leaves its will");
    let reason = ReasonCode::DisconnectWithWillMessage;
    sensor.disconnect_with(Farewell { reason, ..Farewell::default() }).await?;
    show("panel", &mut state).await;

    panel.disconnect().await?;
    let statistics = broker.statistics().await.ok_or("the broker has ended")?;
    println!(
        "{} messages received, {} sent",
        statistics.messages.received, statistics.messages.sent
    );
    broker.shutdown(std::time::Duration::from_secs(1)).await;
    Ok(())
}

fn named(client_id: &str) -> Options {
    Options { client_id: client_id.into(), ..Options::default() }
}

async fn show(who: &str, messages: &mut Messages) {
    if let Some(message) = messages.next().await {
        let text = String::from_utf8_lossy(&message.payload);
        println!("{who}: {} = {text} ({:?})", message.topic, message.qos);
    }
}

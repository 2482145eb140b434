//! Publishes at each QoS and tells what became of it:
//! `cargo run -p transport-tokio --example publish -- [URL]`

use transport_tokio::{Client, Options, PublishError, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());
    let client = Client::connect(&url, Options::default()).await?;

    // Resolves when the server has it; at QoS 0, when it is on its way.
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let published = client.publish("example/publish", "hello").qos(qos).await?;
        println!("{qos:?}: {:?}", published.reason);
    }

    // Many at once: accepted in order, awaited afterwards.
    let mut deliveries = Vec::new();
    for number in 0..100 {
        let message = client.publish("example/numbers", number.to_string());
        deliveries.push(message.qos(QoS::AtLeastOnce).accepted().await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }

    // Now or not at all.
    match client.publish("example/publish", "now").try_publish() {
        Ok(_) => println!("accepted"),
        Err(PublishError::Full) => println!("too much waits already"),
        Err(error) => return Err(error.into()),
    }
    client.disconnect().await?;
    Ok(())
}

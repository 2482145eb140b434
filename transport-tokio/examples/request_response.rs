//! A lamp that answers, and a panel that asks:
//! `cargo run -p transport-tokio --example request_response -- [URL]`

use std::time::Duration;

use transport_tokio::{Client, Options, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());

    let lamp = Client::connect(&url, Options::default()).await?;
    let mut requests = lamp.subscribe("lamps/7/state", QoS::AtLeastOnce).await?;
    let answering = tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(response) = lamp.respond(&request, "on")
                && let Err(error) = response.qos(QoS::AtLeastOnce).await
            {
                eprintln!("the answer was not delivered: {error}");
            }
        }
    });

    let panel = Client::connect(&url, Options::default()).await?;
    let requester = panel.requester("panels/1/responses").await?;
    for _ in 0..3 {
        let request = panel.publish("lamps/7/state", "?").qos(QoS::AtLeastOnce);
        let answer = tokio::time::timeout(Duration::from_secs(5), requester.request(request));
        println!("the lamp is {:?}", answer.await??.payload);
    }
    answering.abort();
    drop(requester);
    panel.disconnect().await?;
    Ok(())
}

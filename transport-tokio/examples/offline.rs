//! Publishes whether there is a network or not, keeps what could not be sent yet in a file, and tells how
//! the connection stands. Stop it, stop the server, start them again:
//! `cargo run -p transport-tokio --features persistence --example offline -- [URL] [FILE]`

use std::time::Duration;

use transport_tokio::{Client, Options, QoS, SessionFile};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());
    let file = arguments.next().unwrap_or_else(|| "offline.session".into());

    let options = Options {
        client_id: "offline-example".into(),
        session_expiry_interval: 3600,
        session_file: Some(SessionFile::new(file)),
        retry_first: true,
        ..Options::default()
    };
    let (client, driver) = Client::new(&url, options)?;
    tokio::spawn(driver);

    let mut status = client.status();
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            println!("{:?}", *status.borrow_and_update());
        }
    });

    for number in 0..30 {
        let reading = client.publish("example/offline", number.to_string());
        // It is in the file when this resolves, and not forgotten before the server has it.
        reading.qos(QoS::AtLeastOnce).accepted().await?;
        println!("{number}: {} wait", client.counters().queued);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    client.disconnect().await?;
    Ok(())
}

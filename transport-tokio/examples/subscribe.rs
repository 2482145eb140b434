//! Reads streams side by side until Ctrl-C:
//! `cargo run -p transport-tokio --example subscribe -- [URL]`

use transport_tokio::{Client, Options, QoS, ReasonCode, Status};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());
    let client = Client::connect(&url, Options::default()).await?;
    let mut example = client.subscribe("example/#", QoS::AtLeastOnce).await?;
    let mut jobs = client.subscribe("jobs/+", QoS::ExactlyOnce).await?;
    let mut status = client.status();

    loop {
        tokio::select! {
            Some(message) = example.next() => println!("{} {:?}", message.topic, message.payload),
            Some((job, ack)) = jobs.next_unacknowledged() => {
                // The server keeps a job until one of these is called.
                if job.payload.is_empty() {
                    ack.refuse(ReasonCode::PayloadFormatInvalid);
                } else {
                    println!("done: {:?}", job.payload);
                    ack.accept();
                }
            }
            Ok(()) = status.changed() => match &*status.borrow_and_update() {
                Status::Reconnecting { cause, delay, .. } => println!("{cause}; again in {delay:?}"),
                last if last.is_final() => {
                    println!("{last:?}");
                    break;
                }
                other => println!("{other:?}"),
            },
            result = tokio::signal::ctrl_c() => {
                result?;
                break;
            }
        }
    }
    client.disconnect().await?;
    Ok(())
}

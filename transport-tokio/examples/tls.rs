//! Connects with TLS, with given roots and a certificate of its own if there are any:
//! `cargo run -p transport-tokio --example tls -- mqtts://localhost:8883 [CA [CERTIFICATE KEY]]`

use transport_tokio::transport::{Identity, Roots, Source, TlsOptions};
use transport_tokio::{Client, Options, QoS};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "mqtts://localhost:8883".into());
    let mut tls = TlsOptions::default(); // trusts what the system trusts
    if let Some(roots) = arguments.next() {
        tls.roots = Roots::Only(vec![Source::file(roots)]);
    }
    if let (Some(certificates), Some(key)) = (arguments.next(), arguments.next()) {
        tls.identity =
            Some(Identity { certificates: Source::file(certificates), key: Source::file(key) });
    }
    let client = Client::connect(&url, Options { tls, ..Options::default() }).await?;
    let mut messages = client.subscribe("example/tls", QoS::AtLeastOnce).await?;
    client.publish("example/tls", "nobody else reads this").qos(QoS::AtLeastOnce).await?;
    println!("{:?}", messages.next().await);
    client.disconnect().await?;
    Ok(())
}

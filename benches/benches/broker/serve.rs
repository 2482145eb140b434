//! Our broker, in a process of its own.

use std::{io, time::Duration};

use tokio::{net::TcpListener, runtime::Builder};
use transport_tokio::broker::{Broker, Config};

/// The argument that makes the program a broker.
pub(crate) const ARGUMENT: &str = "serve";

/// What follows it if connections are only to be accepted.
pub(crate) const BARE: &str = "bare";

/// Prints the port, and serves until it is killed.
pub(crate) fn run(how: Option<&str>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if how == Some(BARE) {
            return accept().await;
        }
        // As many to a client that cannot tell as the others are told.
        let config = Config { assumed_receive_maximum: 100, ..Config::default() };
        let builder = Broker::builder().config(config).max_connections(20_000);
        let broker =
            builder.listen("mqtt://127.0.0.1:0").serve().await.map_err(io::Error::other)?;
        let url = &broker.urls()[0];
        println!("{}", url.rsplit(':').next().unwrap_or_default());
        loop {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
        }
    })
}

/// What a connection costs before there is any broker.
async fn accept() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let mut streams = Vec::new();
    loop {
        streams.push(Box::new(listener.accept().await?.0));
    }
}

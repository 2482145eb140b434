//! Our broker, in a process of its own.

use std::{io, time::Duration};

use tokio::runtime::Builder;
use transport_tokio::broker::{Broker, Config};

/// The argument that makes the program a broker.
pub(crate) const ARGUMENT: &str = "serve";

/// Prints the port, and serves until it is killed.
pub(crate) fn run() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
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

//! A broker on a port that is free, and clients of it.

use std::time::Duration;

pub(crate) use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
pub(crate) use transport_tokio::{
    Client, Messages, Options, QoS, ReasonCode, Status, Streams, Version, Will,
    broker::{Broker, Builder, Config, Login, Statistics},
};

pub(crate) use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};

pub(crate) const LEVELS: [QoS; 3] = [AtMostOnce, AtLeastOnce, ExactlyOnce];
pub(crate) const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

/// What ends a test that would not end by itself.
const FOR_EVER: Duration = Duration::from_secs(120);

/// A broker that listens.
pub(crate) async fn broker() -> Broker {
    serve(Broker::builder()).await
}

pub(crate) async fn serve(builder: Builder) -> Broker {
    builder.listen("mqtt://127.0.0.1:0").serve().await.expect("a free port")
}

/// A 5.0 client with this name that connects once.
pub(crate) fn named(client_id: &str) -> Options {
    Options { client_id: client_id.into(), ..Options::default() }
}

pub(crate) async fn connect(broker: &Broker, options: Options) -> Client {
    Client::connect(&broker.urls()[0], options).await.expect("a connection")
}

/// A bare socket.
pub(crate) async fn socket(broker: &Broker) -> TcpStream {
    let address = broker.urls()[0].trim_start_matches("mqtt://").to_owned();
    TcpStream::connect(address).await.expect("a connection")
}

/// The beginning of a 3.1.1 connection with a clean session and without keep alive.
pub(crate) async fn hello(broker: &Broker, name: u8) -> TcpStream {
    let mut socket = socket(broker).await;
    let connect = [b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01".as_slice(), &[name]].concat();
    socket.write_all(&connect).await.expect("to write CONNECT");
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(answer, *b"\x20\x02\0\0");
    socket
}

/// Whatever comes until the broker closes the connection.
pub(crate) async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    match socket.read_to_end(&mut rest).await {
        Ok(_) => rest,
        Err(error) => panic!("{error} after {rest:02x?}"),
    }
}

/// The next message, as text.
pub(crate) async fn next(messages: &mut Messages) -> String {
    let message = messages.next().await.expect("a message");
    String::from_utf8(message.payload.to_vec()).expect("text")
}

pub(crate) async fn statistics(broker: &Broker) -> Statistics {
    broker.statistics().await.expect("a broker")
}

/// Waits until the broker says so of itself.
pub(crate) async fn until(broker: &Broker, so: impl Fn(&Statistics) -> bool) {
    while !so(&statistics(broker).await) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A story that comes to its end.
pub(crate) async fn bounded<T>(story: impl Future<Output = T>) -> T {
    tokio::time::timeout(FOR_EVER, story).await.expect("the story comes to its end")
}

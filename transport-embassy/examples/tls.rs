//! The embassy client by TLS, against a real server: `tls 127.0.0.1:8883 ca.der localhost`.
//!
//! What runs on the device is in `device`. Below it there is no board here: two network stacks in memory, and a relay
//! from the second to the server.

use std::{
    env,
    error::Error,
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    thread,
    time::{Duration, SystemTime},
};

use embassy_net::{Stack, tcp::TcpSocket};
use embassy_time::Timer;
use embedded_io_async::Write as _;
use mqtt_core::{Connect, Filter, Publish, QoS, Text, Topic, Version, store::Fixed};
use rand_core::OsRng;
use transport_embassy::{
    Options,
    net::Host,
    tls::{
        Buffers, Tls,
        embedded_tls::{
            Aes128GcmSha256, Certificate, CryptoProvider, CryptoRngCore, TlsConfig, TlsError,
            TlsVerifier, webpki::CertVerifier,
        },
    },
};

#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/client/world.rs"]
mod world;

use world::{Resources, World, leak, task};

/// Random numbers, and who checks the server's certificate: against an authority, and the clock.
struct Provider(OsRng, CertVerifier<Aes128GcmSha256, SystemTime, 4096>);

impl CryptoProvider for Provider {
    type CipherSuite = Aes128GcmSha256;
    type Signature = [u8; 0];

    fn rng(&mut self) -> impl CryptoRngCore {
        &mut self.0
    }

    fn verifier(&mut self) -> Result<&mut impl TlsVerifier<Aes128GcmSha256>, TlsError> {
        Ok(&mut self.1)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let [server, authority, name] = env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: tls ADDRESS:PORT AUTHORITY.der NAME")?;
    let authority = fs::read(authority)?;
    let world = World::new(1);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let connect = Connect { client_id: Text::new("device")?, ..Connect::default() };
    let options = Options { connect, retry_first: false, ..Options::default() };
    let (client, mut runner) = resources.split(options);

    let buffers =
        Buffers { rx: leak(4096), tx: leak(4096), received: leak(16_640), sent: leak(4096) };
    let config =
        TlsConfig::new().with_server_name(&name).with_ca(Certificate::X509(&authority[..]));
    let host = Host::Address(embassy_net::IpAddress::v4(10, 0, 0, 2));
    let provider = || Provider(OsRng, CertVerifier::new());
    let tls = Tls::new(world.client, host, 8883, buffers, config, provider);

    let relay = relay(world.server, server);
    let running = async move {
        if let Err(error) = runner.run(tls).await {
            eprintln!("{error}");
        }
    };
    let done = world.run([task(relay), task(running)], async {
        client.subscribe(Filter::new("device/tls").ok()?, QoS::ExactlyOnce).await.ok()?;
        for number in 0..20_u8 {
            let payload = [number; 700];
            let topic = Topic::new("device/tls").ok()?;
            let message = Publish { qos: QoS::ExactlyOnce, ..Publish::new(topic, &payload[..]) };
            client.publish(&message).await.ok()?;
            let received = client.receive().await?;
            (received.payload() == payload).then_some(())?;
        }
        client.disconnect().await;
        Some(())
    });
    done.ok_or("it did not work")?;
    println!("20 messages by TLS, there and back");
    Ok(())
}

/// Carries bytes between a socket of the second stack and the server, in real time.
async fn relay(stack: Stack<'static>, server: String) {
    let mut socket = TcpSocket::new(stack, leak(4096), leak(4096));
    socket.accept(8883).await.expect("a connection");
    let mut stream = TcpStream::connect(server).expect("a server");
    stream.set_nonblocking(true).expect("a socket that does not block");
    let mut buffer = [0; 4096];
    loop {
        while socket.can_recv() {
            let count = socket.read(&mut buffer).await.unwrap_or(0);
            stream.write_all(&buffer[..count]).expect("few bytes");
        }
        match stream.read(&mut buffer) {
            Ok(0) => return socket.close(),
            Ok(count) => socket.write_all(&buffer[..count]).await.expect("a client"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(1));
                Timer::after_millis(1).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

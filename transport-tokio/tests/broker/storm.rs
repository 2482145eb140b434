//! Those who behave get everything, and in order, whatever others do: over TCP, Unix sockets and pipes within
//! the process, written to and read from by odd pieces.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    sync::Barrier,
    task::{JoinSet, yield_now},
    time,
};
use transport_tokio::transport::{BoxedTransport, Connector};

use crate::support::*;

const PUBLISHERS: usize = 4;
const SUBSCRIBERS: usize = 3;
const EACH: u16 = 300;
const ROWDIES: usize = 6;

/// A connection of any kind.
async fn open(broker: &Broker) -> BoxedTransport {
    match fastrand::u8(..3) {
        0 => Box::new(socket(broker).await),
        1 => {
            let path = broker.urls()[1].trim_start_matches("unix://");
            Box::new(UnixStream::connect(path).await.unwrap())
        }
        _ => broker.connector().connect().await.unwrap(),
    }
}

/// A packet with a body of less than 16 KiB.
fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    match body.len() {
        len @ ..0x80 => [&[first, len as u8], &*body].concat(),
        len => [&[first, len as u8 | 0x80, (len >> 7) as u8], &*body].concat(),
    }
}

fn connect_as(name: &[u8; 2]) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x04\x02\0\0\0\x02", name])
}

/// What is read, packet by packet.
struct Packets<R> {
    io: R,
    read: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Packets<R> {
    const fn of(io: R) -> Self {
        Self { io, read: Vec::new() }
    }

    /// The first byte of the next, and its body. `None` at the end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let long = usize::from(self.read.get(1).is_some_and(|byte| byte & 0x80 != 0));
            if let Some(header) = self.read.get(..2 + long) {
                let more = header.get(2).map_or(0, |byte| usize::from(*byte) << 7);
                let end = header.len() + usize::from(header[1] & 0x7f) + more;
                if self.read.len() >= end {
                    let packet: Vec<u8> = self.read.drain(..end).collect();
                    return Some((packet[0], packet[2 + long..].to_vec()));
                }
            }
            let mut piece = vec![0; fastrand::usize(1..6_000)];
            match self.io.read(&mut piece).await {
                Ok(0) | Err(_) => return None,
                Ok(len) => self.read.extend_from_slice(&piece[..len]),
            }
        }
    }
}

async fn write(io: &mut (impl AsyncWrite + Unpin), mut all: &[u8]) -> io::Result<()> {
    while !all.is_empty() {
        let most = if fastrand::bool() { 40_000 } else { 20 };
        let (now, rest) = all.split_at(fastrand::usize(1..most).min(all.len()));
        io.write_all(now).await?;
        all = rest;
        match fastrand::u8(..8) {
            0 => time::sleep(Duration::from_millis(1)).await,
            1 => yield_now().await,
            _ => {}
        }
    }
    Ok(())
}

/// Publishes all at once at QoS 1, and says nothing more: every answer comes still.
async fn publisher(io: BoxedTransport, number: u8) {
    let (reads, mut writes) = tokio::io::split(io);
    let mut all = connect_as(&[b'p', number]);
    for count in 1..=EACH {
        let most = *fastrand::choice(&[40, 40, 40, 2_000, 16_000]).unwrap();
        let filler = vec![0; fastrand::usize(..most)];
        let count = count.to_be_bytes();
        all.extend(packet(0x32, &[&[0, 3, b't', b'/', number], &count, &count, &filler]));
    }
    let said = async {
        write(&mut writes, &all).await.unwrap();
        writes.shutdown().await.unwrap();
    };
    let heard = async {
        let mut packets = Packets::of(reads);
        assert_eq!(packets.next().await, Some((0x20, vec![0, 0])));
        for count in 1..=EACH {
            assert_eq!(packets.next().await, Some((0x40, count.to_be_bytes().to_vec())));
        }
        assert_eq!(packets.next().await, None);
    };
    tokio::join!(said, heard);
}

/// Gets all of it.
async fn subscriber(io: BoxedTransport, number: u8, ready: Arc<Barrier>) {
    let (reads, mut writes) = tokio::io::split(io);
    let mut packets = Packets::of(reads);
    let subscribe = packet(0x82, &[b"\0\x01\0\x03t/#\x01"]);
    write(&mut writes, &[connect_as(&[b's', number]), subscribe].concat()).await.unwrap();
    assert_eq!(packets.next().await, Some((0x20, vec![0, 0])));
    assert_eq!(packets.next().await, Some((0x90, vec![0, 1, 1])));
    ready.wait().await;
    let (mut got, mut acks) = ([0; PUBLISHERS], Vec::new());
    while got != [EACH; PUBLISHERS] {
        let (first, body) = packets.next().await.expect("a message");
        let [0, 3, b't', b'/', from, a, b, high, low] = body[..9] else {
            panic!("{body:02x?}");
        };
        let from = &mut got[usize::from(from - b'0')];
        *from += 1;
        assert_eq!((first, u16::from_be_bytes([high, low])), (0x32, *from));
        acks.extend(packet(0x40, &[&[a, b]]));
        if fastrand::u8(..4) == 0 || acks.len() > 50 {
            write(&mut writes, &acks).await.unwrap();
            acks.clear();
        }
    }
    writes.write_all(&[acks.as_slice(), b"\xe0\0"].concat()).await.unwrap();
}

/// Does some of what is not done: takes over another's name, connects twice, floods, ends within a packet,
/// reads nothing, says that nothing more comes, hangs up or breaks off.
async fn rowdy(broker: &Broker) {
    let connect = connect_as(&[b'r', fastrand::u8(b'0'..b'4')]);
    let mut all = connect.clone();
    match fastrand::u8(..6) {
        0 => all.extend(packet(0x82, &[b"\0\x01\0\x03t/#\0"])),
        1 => all.extend(packet(0x82, &[b"\0\x01\0\x01#\x01"])),
        2 => all.extend(connect),
        _ => {}
    }
    for _ in 0..fastrand::usize(..2_000) {
        all.extend(packet(0x30, &[b"\0\x05noise", &vec![0; fastrand::usize(..60)]]));
    }
    if fastrand::bool() {
        all.truncate(fastrand::usize(..all.len()));
    }
    let mut io = if fastrand::bool() {
        open(broker).await
    } else {
        let socket = socket(broker).await;
        socket.set_zero_linger().unwrap();
        Box::new(socket)
    };
    // That it cannot do as it pleases is as it should be.
    let _ = time::timeout(Duration::from_millis(50), write(&mut io, &all)).await;
    if fastrand::bool() {
        let _ = io.shutdown().await;
    }
    match fastrand::u8(..3) {
        0 => time::sleep(Duration::from_millis(fastrand::u64(..30))).await,
        1 => drop(time::timeout(Duration::from_millis(20), io.read(&mut [0; 60_000])).await),
        _ => {}
    }
}

async fn storm() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("unix://{}", directory.path().join("broker").display());
    // So much that nothing is dropped, should a subscriber have nothing to run on for long.
    let all = PUBLISHERS * usize::from(EACH);
    let config =
        Config { queue_messages: 2 * all, queue_bytes: 2 * all * 16_384, ..Config::default() };
    let builder = Broker::builder().config(config).kept_bytes(8 * all * 16_384);
    let builder = builder.outgoing_bytes(8 * all * 16_384).listen("mqtt://127.0.0.1:0");
    let broker = Arc::new(builder.listen(url).serve().await.unwrap());
    let ready = Arc::new(Barrier::new(SUBSCRIBERS + 1));
    let mut good = JoinSet::new();
    for number in (b'0'..).take(SUBSCRIBERS) {
        good.spawn(subscriber(open(&broker).await, number, Arc::clone(&ready)));
    }
    ready.wait().await;
    for number in (b'0'..).take(PUBLISHERS) {
        good.spawn(publisher(open(&broker).await, number));
    }
    let mut bad = JoinSet::new();
    for _ in 0..ROWDIES {
        let broker = Arc::clone(&broker);
        bad.spawn(async move {
            loop {
                rowdy(&broker).await;
            }
        });
    }
    while let Some(done) = good.join_next().await {
        done.unwrap();
    }
    bad.shutdown().await;
    until(&broker, |now| now.connections == 0 && now.outgoing_bytes == 0).await;
}

#[tokio::test]
async fn everything_comes_in_a_storm() {
    bounded(storm()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn everything_comes_in_a_storm_on_several_threads() {
    bounded(storm()).await;
}

use embassy_futures::{join::join, select::select};
use embassy_net::tcp::TcpSocket;
use embedded_io_async::Write;
use mqtt_core::{Connect, Filter, Publish, QoS, Topic, Version, Will, store::Fixed};
use transport_embassy::{ConnectionError, Options, Status};

use crate::{
    publishing::options,
    world::{Client, Resources, World, leak, server, sleep, task},
};

fn message<'a>(topic: &'a str, qos: QoS, payload: &'a [u8]) -> Publish<'a> {
    Publish { qos, ..Publish::new(Topic::new(topic).unwrap(), payload) }
}

async fn subscribe(client: &Client<'_>, filter: &str) {
    client.subscribe(Filter::new(filter).unwrap(), QoS::ExactlyOnce).await.unwrap();
}

async fn expect(client: &Client<'_>, topic: &str, payload: &[u8]) {
    let message = client.receive().await.unwrap();
    assert_eq!((message.topic(), message.payload()), (topic, payload));
}

#[test]
fn clients_of_both_versions_talk_to_each_other() {
    let world = World::new(1);
    let mut server = server();
    let mut old = Resources::new(Version::V3_1_1, Fixed::new());
    let mut new = Resources::new(Version::V5, Fixed::new());
    let (alice, mut alice_runner) = old.split(options("alice"));
    let (bob, mut bob_runner) = new.split(options("bob"));
    let (tcp, other, listeners) = (world.tcp(), world.tcp(), world.listeners());
    let tasks =
        [task(server.serve(listeners)), task(alice_runner.run(tcp)), task(bob_runner.run(other))];
    world.run(tasks, async {
        join(subscribe(&alice, "to/alice"), subscribe(&bob, "to/+")).await;
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            bob.publish(&message("to/alice", qos, b"hello")).await.unwrap();
            join(expect(&alice, "to/alice", b"hello"), expect(&bob, "to/alice", b"hello")).await;
            alice.publish(&message("to/bob", qos, b"hello")).await.unwrap();
            expect(&bob, "to/bob", b"hello").await;
        }
    });
}

#[test]
fn what_is_retained_is_there_for_those_who_come_later() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 2].map(|()| Resources::new(Version::V5, Fixed::new()));
    let [first, second] = &mut resources;
    let (alice, mut alice_runner) = first.split(options("alice"));
    let (bob, mut bob_runner) = second.split(options("bob"));
    let (tcp, other, listeners) = (world.tcp(), world.tcp(), world.listeners());
    let tasks =
        [task(server.serve(listeners)), task(alice_runner.run(tcp)), task(bob_runner.run(other))];
    world.run(tasks, async {
        for number in 0..10_u8 {
            let name = format!("state/{number}");
            let kept = message(&name, QoS::AtLeastOnce, &[1; 100]);
            alice.publish(&Publish { retain: true, ..kept }).await.unwrap();
        }
        subscribe(&bob, "state/+").await;
        for _ in 0..10 {
            let message = bob.receive().await.unwrap();
            assert!(message.retain() && message.topic().starts_with("state/"));
        }
    });
}

#[test]
fn the_will_of_a_client_that_is_lost_is_published() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 2].map(|()| Resources::new(Version::V5, Fixed::new()));
    let [first, second] = &mut resources;
    let topic = Topic::new("alice/state").unwrap();
    let will = Will { topic, payload: b"lost", qos: QoS::AtLeastOnce, ..Will::default() };
    let connect = Connect { will: Some(will), keep_alive: 5, ..Connect::default() };
    let (alice, mut alice_runner) = first.split(Options { connect, ..Options::default() });
    let (bob, mut bob_runner) = second.split(options("bob"));
    let (tcp, other, listeners) = (world.tcp(), world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(bob_runner.run(other))], async {
        subscribe(&bob, "alice/state").await;
        select(alice_runner.run(tcp), async {
            assert!(alice.connected().await);
            sleep(60_000).await; // nothing happens
        })
        .await;
        assert_eq!(alice.status(), Status::Idle, "it has been dropped, and said nothing");
        expect(&bob, "alice/state", b"lost").await;
    });
}

#[test]
fn who_talks_nonsense_or_nothing_harms_nobody_else() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (alice, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let stack = world.client;
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        subscribe(&alice, "t").await;
        let address = embassy_net::IpAddress::v4(10, 0, 0, 2);
        let mut silent = TcpSocket::new(stack, leak(512), leak(512));
        silent.connect((address, 1883)).await.unwrap();
        for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x10\xff\xff\xff\xff", b"\x30\x00"] {
            let mut hostile = TcpSocket::new(stack, leak(512), leak(512));
            hostile.connect((address, 1883)).await.unwrap();
            hostile.write_all(nonsense).await.unwrap();
            let mut rest = [0; 64];
            while !matches!(hostile.read(&mut rest).await, Ok(0) | Err(_)) {}
            alice.publish(&message("t", QoS::ExactlyOnce, b"!")).await.unwrap();
            expect(&alice, "t", b"!").await;
        }
        let mut rest = [0; 64];
        assert!(matches!(silent.read(&mut rest).await, Ok(0) | Err(_)), "its time was up");
    });
}

#[test]
fn a_client_for_which_there_is_no_place_gets_one_when_another_leaves() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 5].map(|()| Resources::new(Version::V5, Fixed::new()));
    let names = ["a", "b", "c", "d", "e"];
    let each_for_himself = |name| {
        let connect = Connect { session_expiry_interval: 0, ..options(name).connect };
        Options { connect, ..options(name) }
    };
    let mut clients = Vec::new();
    let mut tasks = vec![];
    for (resources, name) in resources.iter_mut().zip(names) {
        let (client, mut runner) = resources.split(each_for_himself(name));
        let tcp = world.tcp();
        clients.push(client);
        tasks.push(task(async move { runner.run(tcp).await }));
    }
    tasks.push(task(server.serve(world.listeners())));
    world.run(tasks, async {
        sleep(20_000).await;
        let is_in = |client: &&Client<'_>| matches!(client.status(), Status::Connected { .. });
        assert_eq!(clients.iter().filter(is_in).count(), 4);
        let waits = clients.iter().find(|client| !is_in(client)).unwrap();
        assert!(matches!(
            waits.status(),
            Status::Connecting | Status::Waiting { cause: ConnectionError::Transport(_), .. }
        ));
        clients.iter().find(|client| is_in(client)).unwrap().disconnect().await;
        assert!(waits.connected().await);
    });
}

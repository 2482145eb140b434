use std::collections::BTreeSet;

use embassy_futures::{join::join3, select::select};
use embassy_time::{Duration, Instant};
use mqtt_core::{Connect, Filter, Publish, QoS, Topic, Version, store::Fixed};
use transport_embassy::{Options, Reconnect, Status};

use crate::{
    publishing::options,
    world::{Client, Dice, Resources, World, server, sleep, task},
};

fn impatient(client_id: &str) -> Options<'_> {
    let options = options(client_id);
    Options {
        connect: Connect { keep_alive: 4, ..options.connect },
        connect_timeout: Duration::from_secs(3),
        reconnect: Reconnect { longest: Duration::from_secs(2), ..Reconnect::default() },
        ..options
    }
}

async fn publish(client: &Client<'_>, qos: QoS, number: u32) {
    let name = if qos == QoS::AtLeastOnce { "n/1" } else { "n/2" };
    let payload = number.to_be_bytes();
    let message = Publish { qos, ..Publish::new(Topic::new(name).unwrap(), &payload) };
    client.publish(&message).await.unwrap();
}

/// How many messages there are at each QoS.
const COUNT: u32 = 400;

/// Cuts the connection 200 times at random moments, in every way there is.
fn survives_cuts(version: Version, seed: u64) {
    let world = World::new(seed);
    let mut server = server();
    let mut resources = Resources::new(version, Fixed::new());
    let (client, mut runner) = resources.split(impatient("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let wire = world.wire.clone();
    wire.borrow_mut().delay = 3;
    wire.borrow_mut().loss = 5;
    let cuts = async {
        let mut dice = Dice(seed);
        for _ in 0..200 {
            sleep(dice.below(300)).await;
            match dice.below(3) {
                0 => wire.borrow_mut().up = false,
                1 => wire.borrow_mut().mute = true,
                _ => wire.borrow_mut().loss = 400,
            }
            sleep(500 + dice.below(9_000)).await;
            let mut wire = wire.borrow_mut();
            (wire.up, wire.mute, wire.loss) = (true, false, 5);
        }
    };
    let (mut least, mut exact) = (BTreeSet::new(), Vec::new());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        let filter = Filter::new("n/+").unwrap();
        assert_eq!(client.subscribe(filter, QoS::ExactlyOnce).await, Ok(QoS::ExactlyOnce));
        let publishing = async {
            let done = async {
                for number in 0..COUNT {
                    join3(
                        publish(&client, QoS::AtLeastOnce, number),
                        publish(&client, QoS::ExactlyOnce, number),
                        sleep(600),
                    )
                    .await;
                }
            };
            done.await;
        };
        let receiving = async {
            while least.len() < COUNT as usize || exact.len() < COUNT as usize {
                let message = client.receive().await.unwrap();
                let number = u32::from_be_bytes(message.payload().try_into().unwrap());
                match message.topic() {
                    "n/1" => drop(least.insert(number)),
                    _ => exact.push(number),
                }
            }
        };
        join3(cuts, publishing, receiving).await;
        // What would come twice comes soon.
        select(sleep(30_000), async {
            loop {
                let message = client.receive().await.unwrap();
                assert_eq!(message.topic(), "n/1", "nothing more at QoS 2");
            }
        })
        .await;
    });
    assert_eq!(least, (0..COUNT).collect());
    assert_eq!(exact, (0..COUNT).collect::<Vec<_>>(), "each once, and in order");
}

#[test]
fn two_hundred_cuts_lose_nothing_on_3_1_1() {
    survives_cuts(Version::V3_1_1, 3);
}

#[test]
fn two_hundred_cuts_lose_nothing_on_5_0() {
    survives_cuts(Version::V5, 5);
}

#[test]
fn a_dead_link_is_noticed_while_the_application_is_busy() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(impatient("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let wire = world.wire.clone();
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        client.subscribe(Filter::new("t").unwrap(), QoS::AtMostOnce).await.unwrap();
        client.publish(&Publish::new(Topic::new("t").unwrap(), "kept")).await.unwrap();
        let kept = client.receive().await.unwrap(); // and not given back
        let mut watch = client.watch();
        assert_eq!(watch.next().await, Status::Connected { session_present: false });
        wire.borrow_mut().mute = true;
        let since = Instant::now();
        let status = watch.next().await;
        assert!(matches!(status, Status::Waiting { attempt: 1, .. }), "{status:?}");
        assert!(since.elapsed() <= Duration::from_millis(6_100), "one and a half keep alives");
        wire.borrow_mut().mute = false;
        assert!(client.connected().await);
        assert_eq!(client.status(), Status::Connected { session_present: true });
        assert_eq!(kept.payload(), b"kept");
    });
}

#[test]
fn a_link_that_goes_down_is_noticed_before_the_keep_alive() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let wire = world.wire.clone();
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        assert!(client.connected().await);
        wire.borrow_mut().up = false;
        let since = Instant::now();
        let mut watch = client.watch();
        while !matches!(watch.next().await, Status::Waiting { .. }) {}
        assert!(since.elapsed() <= Duration::from_secs(2));
        wire.borrow_mut().up = true;
        assert!(client.connected().await);
    });
}

#[test]
fn an_idle_connection_lasts() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(impatient("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners)), task(runner.run(tcp))], async {
        assert!(client.connected().await);
        let mut watch = client.watch();
        watch.next().await;
        select(sleep(600_000), async { panic!("{:?}", watch.next().await) }).await;
    });
}

use embassy_sync::{
    blocking_mutex::raw::NoopRawMutex,
    pipe::{Pipe, Reader, Writer},
};
use embassy_time::Duration;
use mqtt_core::{Filter, Publish, QoS, Topic, Version, store::Fixed};
use transport_embassy::{
    Options, Reconnect, Status,
    serial::{Line, bridge},
};

use crate::{
    publishing::options,
    world::{Dice, Resources, World, server, sleep, task},
};

/// A wire of a serial line, 64 bytes long.
type Wire = Pipe<NoopRawMutex, 64>;

fn halves<'p>(
    to: &'p mut Wire,
    from: &'p mut Wire,
) -> [(Reader<'p, NoopRawMutex, 64>, Writer<'p, NoopRawMutex, 64>); 2] {
    let ((board_rx, bridge_tx), (bridge_rx, board_tx)) = (to.split(), from.split());
    [(board_rx, board_tx), (bridge_rx, bridge_tx)]
}

fn patient() -> Options<'static> {
    Options {
        connect_timeout: Duration::from_secs(3),
        reconnect: Reconnect { longest: Duration::from_secs(2), ..Reconnect::default() },
        ..options("board")
    }
}

#[test]
fn a_board_without_a_network_has_mqtt_by_its_serial_line() {
    let world = World::new(1);
    let mut server = server();
    let (mut to, mut from) = (Wire::new(), Wire::new());
    let [(rx, tx), (bridge_rx, bridge_tx)] = halves(&mut to, &mut from);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(patient());
    let bridged = bridge(bridge_rx, bridge_tx, world.tcp());
    let listeners = world.listeners();
    let wire = world.wire.clone();
    let tasks = [task(server.serve(listeners)), task(bridged), task(runner.run(Line::new(rx, tx)))];
    world.run(tasks, async {
        client.subscribe(Filter::new("t").unwrap(), QoS::ExactlyOnce).await.unwrap();
        let payload: Vec<u8> = (0..=255).chain([0xdb; 10]).collect(); // all bytes there are
        let message = Publish {
            qos: QoS::ExactlyOnce,
            ..Publish::new(Topic::new("t").unwrap(), &payload[..])
        };
        let mut dice = Dice(7);
        for round in 0..30 {
            client.publish(&message).await.unwrap();
            assert_eq!(client.receive().await.unwrap().payload(), payload);
            if round % 3 == 0 {
                // The bridge loses the server, and finds it again.
                wire.borrow_mut().up = false;
                sleep(2_000 + dice.below(1_000)).await;
                wire.borrow_mut().up = true;
            }
        }
        assert_eq!(client.status(), Status::Connected { session_present: true });
    });
}

#[test]
fn both_ends_of_the_line_may_be_reset_at_any_time() {
    let world = World::new(1);
    let mut server = server();
    let (mut to, mut from) = (Wire::new(), Wire::new());
    let [(mut rx, mut tx), (mut bridge_rx, mut bridge_tx)] = halves(&mut to, &mut from);
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(patient());
    let (tcp, listeners) = (world.tcp(), world.listeners());
    let bridging = async move {
        let (mut tcp, mut dice) = (tcp, Dice(3));
        loop {
            let bridged = bridge(&mut bridge_rx, &mut bridge_tx, &mut tcp);
            embassy_futures::select::select(bridged, sleep(3_000 + dice.below(3_000))).await;
        }
    };
    let running = async move {
        let mut dice = Dice(4);
        loop {
            let run = runner.run(Line::new(&mut rx, &mut tx));
            embassy_futures::select::select(run, sleep(3_000 + dice.below(3_000))).await;
        }
    };
    world.run([task(server.serve(listeners)), task(bridging), task(running)], async {
        client.subscribe(Filter::new("t").unwrap(), QoS::ExactlyOnce).await.unwrap();
        for number in 0..100_u8 {
            let payload = [number, 0xdb, b'O', 0xdb];
            let topic = Topic::new("t").unwrap();
            let message = Publish { qos: QoS::ExactlyOnce, ..Publish::new(topic, &payload[..]) };
            let both = embassy_futures::join::join(client.publish(&message), client.receive());
            let (published, received) = both.await;
            published.unwrap();
            assert_eq!(received.unwrap().payload(), payload);
            sleep(150).await;
        }
    });
}

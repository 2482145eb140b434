//! Full sinks, small sinks, slow peers: everything waits, nothing is lost, and no gate stays closed.

use mqtt_core::{Config, ConnAck, Connect, wire::Packet};
use simulation::story::*;

/// The sink was full for a moment, just when a PINGREQ was due.
#[test]
fn a_ping_that_finds_no_room_leaves_when_there_is_some() {
    for version in BOTH {
        let connect = Connect { keep_alive: 10, ..persistent(version) };
        let (config, terms) = (Config::default(), ConnAck::default());
        let mut pair = talk_on(version, Small::new(), config, &connect, terms);
        pair.clock.advance(10_000);
        let now = pair.clock.now();
        pair.client.out.squeezed = Some(1);
        pair.client.call(|client, out| assert_eq!(client.poll(now, &mut &[][..], out), Ok(None)));
        assert!(pair.client.out.is_empty());
        pair.client.out.squeezed = None;
        pair.drive();
        assert_eq!(pair.server.packet(), Packet::PingReq);
        pair.server.send(&Packet::PingResp);
        pair.run(9_999);
        assert_eq!(pair.client.error, None);
        assert!(pair.server.is_quiet());
    }
}

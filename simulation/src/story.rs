//! Openings that many stories share.

use mqtt_core::{
    Client, Config, ConnAck, Connect, Event, Filter, Publish, QoS, Subscribe, Subscription, Text,
    Topic, Version,
    store::{Fixed, Store},
};

use crate::{App, Manners, Pair, Script, Server};

/// Both versions.
pub const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// The store of most stories.
pub type Small = Fixed<8, 1024>;

/// A client and a server that does what it is told.
pub type Talk<S = Small> = Pair<App<S>, Script>;

/// A client and a server that follows the protocol.
pub type Meeting<S = Small> = Pair<App<S>, Server>;

/// What a client asks for that wants to keep its session.
pub fn persistent(version: Version) -> Connect<'static> {
    Connect {
        client_id: Text::new("storyteller").expect("text"),
        clean_start: false,
        keep_alive: 0,
        session_expiry_interval: if version.is_v5() { 3_600 } else { 0 },
        ..Connect::default()
    }
}

/// A message.
///
/// # Panics
///
/// If the topic is none.
pub fn message<'a>(topic: &'a str, payload: &'a str, qos: QoS) -> Publish<'a> {
    Publish { qos, ..Publish::new(Topic::new(topic).expect("a topic"), payload) }
}

/// A client with this store that has not connected yet.
pub fn unconnected<S: Store>(version: Version, store: S, config: Config) -> Talk<S> {
    let client = Client::with_config(version, store, config);
    let mut app = App::new(client);
    app.buffer = config.whole;
    Pair::new(app, Script::new(version, ConnAck::default()))
}

/// A client that is connected to a script, on these terms.
///
/// # Panics
///
/// If it is not.
pub fn talk_on<S: Store>(
    version: Version,
    store: S,
    config: Config,
    connect: &Connect<'_>,
    terms: ConnAck<'static>,
) -> Talk<S> {
    let mut pair = unconnected(version, store, config);
    pair.server.greeting = Some(terms);
    pair.connect(connect).expect("a connection");
    assert!(matches!(pair.event(), Event::Connected(_)));
    pair
}

/// A client that is connected to a script, on default terms, without keep alive.
pub fn talk(version: Version) -> Talk {
    let connect = persistent(version);
    talk_on(version, Small::new(), Config::default(), &connect, ConnAck::default())
}

/// A client that is connected to a server, persistently and without keep alive.
///
/// # Panics
///
/// If it is not.
pub fn meet_on<S: Store>(
    version: Version,
    store: S,
    config: Config,
    manners: Manners,
) -> Meeting<S> {
    let mut app = App::new(Client::with_config(version, store, config));
    app.buffer = config.whole;
    let mut pair = Pair::new(app, Server::new(0, manners));
    pair.connect(&persistent(version)).expect("a connection");
    assert!(matches!(pair.event(), Event::Connected(_)));
    pair
}

/// A client that is connected to a server with the best manners.
pub fn meet(version: Version) -> Meeting {
    meet_on(version, Small::new(), Config::default(), Manners::default())
}

/// Subscribes to everything, and waits until that is granted.
///
/// # Panics
///
/// If it is not.
pub fn subscribe_to_all<S: Store>(pair: &mut Meeting<S>) {
    let all = [Subscription::new(Filter::new("#").expect("a filter"), QoS::ExactlyOnce)];
    let id = pair.subscribe(&Subscribe::from(&all)).expect("a subscription");
    assert!(matches!(pair.event(), Event::Subscribed(subscribed, _) if subscribed == id));
}

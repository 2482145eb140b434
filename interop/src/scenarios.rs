//! What is played, in the order of this table; several at a time.

use mqtt_core::{QoS, Version};

use crate::{Result, Setup};

mod access;
mod cuts;
mod delivery;
mod keep_alive;
mod limits;
mod payloads;
mod properties;
mod restart;
mod retained;
mod session;
mod subscriptions;
mod volume;
mod will;

pub(crate) type Versions = &'static [(Version, &'static str)];

const EVERY: Versions = &[(Version::V3_1, "3.1"), (Version::V3_1_1, "3.1.1"), (Version::V5, "5.0")];
pub(crate) const BOTH: Versions = &[(Version::V3_1_1, "3.1.1"), (Version::V5, "5.0")];
const V5: Versions = &[(Version::V5, "5.0")];

pub(crate) type Scenario = (&'static str, Versions, fn(&Setup) -> Result<()>);

/// The long ones first.
pub(crate) const ALL: &[Scenario] = &[
    ("connection cut after every byte", BOTH, cuts::every_byte),
    ("10,000 messages at QoS 0", BOTH, volume::qos_0),
    ("10,000 messages at QoS 1", BOTH, volume::qos_1),
    ("10,000 messages at QoS 2", BOTH, volume::qos_2),
    ("10,000 messages at QoS 2 from mosquitto_pub", BOTH, volume::from_tool),
    ("10,000 messages at QoS 1 to mosquitto_sub", BOTH, volume::to_tool),
    ("frozen broker noticed when idle", BOTH, keep_alive::frozen_idle),
    ("frozen broker noticed by a QoS 0 publisher", BOTH, keep_alive::frozen_publisher),
    ("idle connection kept alive", BOTH, keep_alive::idle),
    ("session expiry", V5, session::expiry),
    ("message expiry", V5, properties::message_expiry),
    ("will delay", V5, will::delay),
    ("broker restarted in mid-traffic, session kept", BOTH, restart::session_kept),
    ("broker killed in mid-traffic, session lost", BOTH, restart::session_lost),
    ("payloads of 0 B to 1 MB", BOTH, payloads::whole),
    ("payloads of 0 B to 1 MB through 2 KB", BOTH, payloads::streamed),
    ("1 MB with mosquitto's tools through 2 KB", BOTH, payloads::with_tools),
    ("streamed publish sent again after a cut", BOTH, payloads::again),
    ("long message skipped", BOTH, payloads::skipped),
    ("QoS 0, 1, 2 to itself", EVERY, delivery::to_itself),
    ("QoS 0, 1, 2 to mosquitto_sub", EVERY, delivery::to_tool),
    ("QoS 0, 1, 2 from mosquitto_pub", EVERY, delivery::from_tool),
    ("acknowledged by the application", BOTH, delivery::manual),
    ("retained: set, replaced, cleared", EVERY, retained::life),
    ("retain handling, retain as published, no local", V5, retained::options),
    ("will on abrupt close", EVERY, will::abrupt),
    ("no will after DISCONNECT", EVERY, will::graceful),
    ("will after DISCONNECT 0x04", V5, will::on_request),
    ("queued while away", EVERY, session::queued),
    ("sent again on resume", BOTH, session::sent_again),
    ("clean start ends the session", EVERY, session::clean),
    ("session expiry changed at DISCONNECT", V5, session::expiry_at_disconnect),
    ("wildcards and unsubscribing", EVERY, subscriptions::wildcards),
    ("shared subscription of two", BOTH, subscriptions::shared),
    ("user name, password, access control", EVERY, access::password),
    ("unknown authentication method", V5, access::method),
    ("takeover", BOTH, access::takeover),
    ("properties of a message", V5, properties::of_a_message),
    ("properties with mosquitto's tools", V5, properties::with_tools),
    ("subscription identifiers", V5, properties::subscription_identifiers),
    ("topic aliases", V5, properties::aliases),
    ("assigned client identifier", BOTH, properties::assigned_identifier),
    ("reason codes", V5, properties::reasons),
    ("the broker's limits", V5, limits::theirs),
    ("our Maximum Packet Size", V5, limits::our_packet_size),
    ("our Receive Maximum", V5, limits::our_receive_maximum),
    ("server keep alive", V5, limits::server_keep_alive),
];

pub(crate) const EACH: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

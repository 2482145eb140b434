//! What 5.0 says besides.

use std::thread::sleep;
use std::time::Duration;

use mqtt_core::store::{Aliased, Fixed, Heap, Limits};
use mqtt_core::{
    Config, Connect, Filter, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    Subscription, Text, Topic, UserProperty,
};

use crate::peer::{Kept, Peer};
use crate::tools::{self, Subscriber};
use crate::{Result, Setup, ensure};

fn all<'a>() -> Result<[Property<'a>; 7]> {
    Ok([
        Property::PayloadFormatIndicator(true),
        Property::ContentType(Text::new("text/plain")?),
        Property::ResponseTopic(Topic::new("answers/7")?),
        Property::CorrelationData(b"\0\xff"),
        Property::UserProperty(UserProperty::new("a", "1")?),
        Property::UserProperty(UserProperty::new("", "")?),
        Property::UserProperty(UserProperty::new("a", "\u{e9}")?),
    ])
}

fn printed(properties: &[Property<'_>]) -> Vec<String> {
    properties.iter().map(|property| format!("{property:?}")).collect()
}

pub(super) fn of_a_message(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("a"), setup.topic("properties"));
    let mut peer = Peer::join(setup, "a")?;
    let client_id = Text::new(&id)?;
    let names = [UserProperty::new("client", "interop")?];
    peer.connect(&Connect { client_id, user_properties: (&names).into(), ..Connect::default() })?;
    let subscriptions = [Subscription::new(Filter::new(&topic)?, QoS::ExactlyOnce)];
    let properties = [Property::UserProperty(names[0])];
    peer.request(&Subscribe {
        properties: (&properties).into(),
        ..Subscribe::from(&subscriptions)
    })?;
    let all = all()?;
    let message = Publish {
        qos: QoS::ExactlyOnce,
        properties: Properties::from(&all),
        ..Publish::new(Topic::new(&topic)?, "text")
    };
    peer.send(&message)?;
    let mut got = peer.expect(b"text")?.properties;
    let mut expected = printed(&all);
    // User properties keep their order [MQTT-3.3.2-17]; the others may come in any.
    got.sort_by_key(|property| property.starts_with("UserProperty"));
    got[..4].sort();
    expected[..4].sort();
    ensure(got == expected, || format!("{got:?} instead of {expected:?}"))
}

pub(super) fn with_tools(setup: &Setup) -> Result<()> {
    let topic = setup.topic("properties");
    let mut peer = Peer::join(setup, "a")?;
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    let options = "-D publish content-type text/plain -D publish response-topic answers/7 \
                   -D publish correlation-data 0f -D publish user-property a 1 \
                   -D publish payload-format-indicator 1";
    let options: Vec<_> = options.split_whitespace().collect();
    tools::publish(setup, &topic, QoS::AtLeastOnce, b"text", &options)?;
    let got = peer.expect(b"text")?.properties;
    let expected = printed(&[
        Property::PayloadFormatIndicator(true),
        Property::ContentType(Text::new("text/plain")?),
        Property::ResponseTopic(Topic::new("answers/7")?),
        Property::CorrelationData(b"0f"),
        Property::UserProperty(UserProperty::new("a", "1")?),
    ]);
    ensure(got.len() == 5 && expected.iter().all(|property| got.contains(property)), || {
        format!("{got:?}")
    })?;

    let format = "%p C=%C R=%R D=%D P=%P F=%F";
    let subscriber = Subscriber::start(setup, &topic, QoS::AtLeastOnce, 1, format)?;
    let properties = [
        Property::PayloadFormatIndicator(true),
        Property::ContentType(Text::new("text/plain")?),
        Property::ResponseTopic(Topic::new("answers/7")?),
        Property::CorrelationData(b"abc"),
        Property::UserProperty(UserProperty::new("a", "1")?),
    ];
    let message = Publish::new(Topic::new(&topic)?, "text");
    peer.send(&Publish { properties: (&properties).into(), ..message })?;
    peer.step(10)?;
    let lines = subscriber.lines()?;
    ensure(lines == ["text C=text/plain R=answers/7 D=abc P=a:1 F=1"], || format!("{lines:?}"))
}

pub(super) fn subscription_identifiers(setup: &Setup) -> Result<()> {
    let mut peer = Peer::join(setup, "a")?;
    let filters = [(setup.topic("ids/+"), 1), (setup.topic("ids/7"), 268_435_455)];
    for (filter, number) in &filters {
        let subscriptions = [Subscription::new(Filter::new(filter)?, QoS::AtLeastOnce)];
        let properties = [Property::SubscriptionIdentifier(*number)];
        peer.request(&Subscribe {
            properties: (&properties).into(),
            ..Subscribe::from(&subscriptions)
        })?;
    }
    peer.publish(&setup.topic("ids/8"), QoS::AtLeastOnce, b"one")?;
    let got = peer.expect(b"one")?.properties;
    ensure(got == ["SubscriptionIdentifier(1)"], || format!("{got:?}"))?;
    // The broker may send one copy with both or a copy for each [MQTT-3.3.4-3] to [MQTT-3.3.4-5].
    peer.publish(&setup.topic("ids/7"), QoS::AtLeastOnce, b"two")?;
    peer.settle()?;
    peer.drain(100)?;
    let mut got: Vec<_> =
        peer.seen.messages.drain(..).flat_map(|message| message.properties).collect();
    got.sort();
    ensure(got == ["SubscriptionIdentifier(1)", "SubscriptionIdentifier(268435455)"], || {
        format!("{got:?}")
    })
}

pub(super) fn message_expiry(setup: &Setup) -> Result<()> {
    let (id, topic) = (setup.id("away"), setup.topic("expiry"));
    let lasting = setup.lasting(&id)?;
    let mut peer = Peer::<65_536>::new(setup);
    peer.connect(&lasting)?;
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    peer.leave(&Default::default())?;
    let mut other = Peer::join(setup, "other")?;
    for (seconds, payload) in [(1, "short"), (60, "long")] {
        let properties = [Property::MessageExpiryInterval(seconds)];
        let message = Publish {
            qos: QoS::AtLeastOnce,
            properties: Properties::from(&properties),
            ..Publish::new(Topic::new(&topic)?, payload)
        };
        other.send(&message)?;
    }
    other.settle()?;
    sleep(Duration::from_millis(2_500));
    peer.connect(&lasting)?;
    let message = peer.expect(b"long")?;
    let left: Option<u32> = message.properties.first().and_then(|property| {
        property.strip_prefix("MessageExpiryInterval(")?.strip_suffix(')')?.parse().ok()
    });
    ensure(left.is_some_and(|left| (50..60).contains(&left)), || {
        format!("{:?}", message.properties)
    })?;
    peer.expect_nothing(50)
}

fn store_with_aliases(setup: &Setup) -> Kept {
    if setup.heap {
        let limits = Limits { inbound_aliases: 8, outbound_aliases: 8, ..Limits::default() };
        Box::leak(Box::new(Heap::with_limits(limits)))
    } else {
        Box::leak(Box::new(Aliased::<_, 8, 64>::new(Fixed::<64, 8192>::new())))
    }
}

/// More topics than aliases, at every QoS, before and after a reconnect.
pub(super) fn aliases(setup: &Setup) -> Result<()> {
    let config = Config { topic_aliases: true, ..Config::DEFAULT };
    let mut peer = Peer::<65_536>::with(setup, store_with_aliases(setup), config);
    let id = setup.id("a");
    let connect = Connect { topic_alias_maximum: u16::MAX, ..setup.lasting(&id)? };
    peer.connect(&connect)?;
    let maximum = peer.terms()?.topic_alias_maximum;
    ensure(maximum > 0, || "the broker takes no aliases".to_owned())?;
    peer.subscribe(&setup.topic("alias/#"), QoS::ExactlyOnce)?;
    let topics: Vec<_> = (0..12).map(|number| setup.topic(&format!("alias/{number}"))).collect();
    for _ in 0..2 {
        let mut lens = Vec::new();
        for _ in 0..2 {
            peer.step(1)?;
            let before = peer.driver.out.len();
            peer.queue(&topics[0], QoS::AtMostOnce, b"0")?;
            lens.push(peer.driver.out.len() - before);
            peer.expect(b"0")?;
        }
        let saved = lens[0] - lens[1];
        ensure(saved == topics[0].len(), || format!("no alias: {lens:?}"))?;
        for round in 0..60 {
            let topic = &topics[round * 7 % (4 + round / 8)];
            let qos = QoS::from_u8((round % 3) as u8).unwrap_or_default();
            peer.publish(topic, qos, topic.as_bytes())?;
        }
        peer.settle()?;
        for message in peer.take(60)? {
            let right = message.payload == message.topic.as_bytes();
            ensure(right, || format!("{:?}", message))?;
        }
        // Stored with their topics: the aliases are gone when they are sent again.
        peer.queue(&topics[0], QoS::AtLeastOnce, topics[0].as_bytes())?;
        peer.queue(&topics[0], QoS::ExactlyOnce, topics[0].as_bytes())?;
        peer.connect(&connect)?;
        for message in peer.take(2)? {
            ensure(message.topic == topics[0], || format!("{message:?}"))?;
        }
        peer.settle()?;
    }
    Ok(())
}

pub(super) fn assigned_identifier(setup: &Setup) -> Result<()> {
    let mut peer = Peer::<65_536>::new(setup);
    peer.connect(&Connect::default())?;
    let assigned = peer.terms()?.assigned.clone();
    let told = assigned.as_ref().is_some_and(|id| !id.is_empty());
    ensure(told == setup.version.is_v5(), || format!("{assigned:?}"))?;
    let topic = setup.topic("assigned");
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    peer.publish(&topic, QoS::AtLeastOnce, b"anonymous")?;
    peer.expect(b"anonymous").map(drop)
}

pub(super) fn reasons(setup: &Setup) -> Result<()> {
    let mut peer = Peer::join(setup, "a")?;
    let topic = setup.topic("nobody");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let id = peer.publish(&topic, qos, b"?")?;
        peer.settle()?;
        let outcome = peer.seen.outcomes.pop();
        let good = outcome.map(|(id, _)| id) == id;
        ensure(good, || format!("{outcome:?}"))?;
        // At QoS 2 the outcome is that of PUBCOMP.
        let expected = match qos {
            QoS::AtLeastOnce => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        };
        ensure(outcome.map(|(_, reason)| reason) == Some(expected), || format!("{outcome:?}"))?;
    }
    let reasons = peer.unsubscribe(&topic)?;
    ensure(reasons == [ReasonCode::NoSubscriptionExisted], || format!("{reasons:?}"))?;
    peer.subscribe(&topic, QoS::AtLeastOnce)?;
    let reasons = peer.unsubscribe(&topic)?;
    ensure(reasons == [ReasonCode::Success], || format!("{reasons:?}"))
}

//! Connections: the first, the next, and what is told about them.

use std::{io, time::Duration};

use bytes::Bytes;
use mqtt_core::{Connect, Error, Property, Text, wire::Packet};
use tokio::time::Instant;

use crate::support::*;

/// A status in short.
fn short(status: &Status) -> String {
    match status {
        Status::Connected { session_present: true } => "connected, session present".into(),
        Status::Connected { .. } => "connected".into(),
        Status::Reconnecting { attempt, cause, .. } => format!("reconnecting {attempt}: {cause}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Every status there is, in short.
fn watch(client: &Client) -> tokio::task::JoinHandle<Vec<String>> {
    let mut status = client.status();
    tokio::spawn(async move {
        let mut seen = vec![short(&status.borrow_and_update())];
        while status.changed().await.is_ok() {
            let now = status.borrow_and_update().clone();
            seen.push(short(&now));
            if now.is_final() {
                break;
            }
        }
        seen
    })
}

fn refused() -> Plan {
    Plan::Refuse(io::ErrorKind::ConnectionRefused)
}

#[tokio::test(start_paused = true)]
async fn every_change_can_be_watched() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        let (client, driver) = net.client(options(version));
        let seen = watch(&client);
        settle().await;
        tokio::spawn(driver);
        client.connected().await.unwrap();
        settle().await;
        net.plan(refused());
        net.plan(refused());
        for forget in [false, true] {
            net.cut();
            if forget {
                net.with(|server| server.forget());
            }
            settle().await;
            client.connected().await.unwrap();
            settle().await;
        }
        client.disconnect().await.unwrap();
        let expected = [
            "connecting",
            "connected",
            "reconnecting 1: transport: connection reset",
            "reconnecting 2: transport: connection refused",
            "reconnecting 3: transport: connection refused",
            "connected, session present",
            "reconnecting 1: transport: connection reset",
            "connected",
            "closed",
        ];
        assert_eq!(seen.await.unwrap(), expected);
        assert_eq!(client.counters().connections, 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_first_failure_is_the_callers() {
    both(async |version| {
        let started = Instant::now();
        let failure = async |net: &Net<Script>, options| match net.connect(options).await {
            Err(ConnectError::Connection(error)) => error,
            other => panic!("{other:?}"),
        };
        let net = Net::script(ConnAck::default(), version);
        net.plan(refused());
        let error = failure(&net, options(version)).await;
        assert!(matches!(&error, ConnectionError::Transport(error)
            if error.kind() == io::ErrorKind::ConnectionRefused));
        net.plan(Plan::Cut(Direction::Down, 3));
        let error = failure(&net, options(version)).await;
        assert!(matches!(error, ConnectionError::Transport(_)), "{error}");
        let greeting = net.with(|script| {
            script.close();
            script.greeting.take()
        });
        let error = failure(&net, options(version)).await;
        assert!(matches!(error, ConnectionError::Closed), "{error}");
        net.with(|script| script.greeting = greeting);
        net.with(|script| script.send_bytes(&[0xff; 4]));
        let error = failure(&net, options(version)).await;
        assert!(matches!(error, ConnectionError::Protocol(Error::Malformed(_))), "{error}");
        assert!(started.elapsed().as_secs() < 10, "none of these takes time");

        net.plan(Plan::Hang);
        let error = failure(&net, options(version)).await;
        assert!(matches!(error, ConnectionError::Timeout), "{error}");
        net.with(|script| script.greeting = None);
        let error = failure(&net, options(version)).await;
        assert!(matches!(error, ConnectionError::Protocol(Error::HandshakeTimeout)), "{error}");
        let elapsed = started.elapsed().as_secs();
        assert!((20..=30).contains(&elapsed), "{elapsed} s, with 10 s for each");
        assert_eq!(net.attempts(), 6, "once each");
        let senseless = Options { client_id: "\0".into(), ..options(version) };
        assert!(matches!(failure(&net, senseless).await, ConnectionError::Options(_)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_says_why() {
    both(async |version| {
        let reason = ReasonCode::NotAuthorized;
        let text = version.is_v5().then(|| Text::new("go away").unwrap());
        let terms = ConnAck { reason, reason_string: text, ..ConnAck::default() };
        let net = Net::script(terms, version);
        net.with(|script| script.greeting = Some(terms));
        let error = net.connect(options(version)).await.unwrap_err();
        let ConnectError::Connection(ConnectionError::Refused(refusal)) = error else {
            panic!("{error}")
        };
        assert_eq!(refusal.reason, reason);
        assert_eq!(refusal.explanation.as_deref(), text.map(|_| "go away"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_first_connection_is_tried_again_if_asked_for() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        net.plan(refused());
        net.plan(Plan::Hang);
        let options = || Options { retry_first: true, ..options(version) };
        let (client, driver) = net.client(options());
        tokio::spawn(driver);
        let early = client.publish("a", "early").qos(AtLeastOnce);
        let (outcome, connected) = tokio::join!(early.into_future(), client.connected());
        outcome.unwrap();
        connected.unwrap();
        assert_eq!((net.attempts(), net.accepted()), (3, vec!["early".to_string()]));

        let reason = ReasonCode::BadUserNameOrPassword;
        net.with(|server| server.manners.terms.reason = reason);
        let before = net.attempts();
        let error = net.connect(options()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::Refused(_))), "{error}");
        assert_eq!(net.attempts(), before + 1, "it would be refused again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn enough_failures_are_the_end() {
    both(async |version| {
        for attempts in [0, 1, 3] {
            let reconnect = Reconnect { attempts: Some(attempts), ..Reconnect::default() };
            let (net, client) =
                meet_on(Manners::default(), Options { reconnect, ..options(version) }).await;
            let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
            net.usual(refused());
            net.with(|server| server.manners.frozen = true);
            let delivery = client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap();
            net.cut();
            assert_eq!(delivery.await, Err(PublishError::Closed));
            let status = client.status().borrow().clone();
            assert!(matches!(status, Status::Failed(ConnectionError::Transport(_))), "{status:?}");
            assert_eq!(net.attempts(), 1 + u64::from(attempts));
            assert!(client.connected().await.is_err());
            assert_eq!(messages.next().await, None);
            assert_eq!(messages.error(), Some(SubscribeError::Closed));
            pass(3_600).await;
            assert_eq!(net.attempts(), 1 + u64::from(attempts));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_busy_is_asked_again_one_that_bans_is_not() {
    both(async |version| {
        let (net, client) = meet(version).await;
        net.with(|server| server.manners.terms.reason = ReasonCode::ServerUnavailable);
        net.cut();
        while net.attempts() < 4 {
            pass(1).await;
        }
        assert!(!client.status().borrow().is_final());
        if version.is_v5() {
            net.with(|server| server.manners.terms.reason = ReasonCode::Banned);
            let error = client.connected().await.unwrap_err();
            let banned = |refusal: &Refusal| refusal.reason == ReasonCode::Banned;
            assert!(matches!(&error, ConnectionError::Refused(refusal) if banned(refusal)));
            let status = client.status().borrow().clone();
            assert!(matches!(status, Status::Failed(ConnectionError::Refused(_))), "{status:?}");
        } else {
            net.with(|server| server.manners.terms.reason = ReasonCode::Success);
            client.connected().await.unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_client_with_the_same_name_is_not_fought() {
    bounded(async {
        let (net, client) = meet(Version::V5).await;
        let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
        net.with(|server| server.kick(ReasonCode::SessionTakenOver));
        assert_eq!(messages.next().await, None);
        assert!(matches!(*client.status().borrow(), Status::TakenOver));
        let error = client.connected().await.unwrap_err();
        assert!(
            matches!(&error, ConnectionError::Disconnected(refusal)
            if refusal.reason == ReasonCode::SessionTakenOver),
            "{error}"
        );
        assert_eq!(client.publish("a", "1").await, Err(PublishError::Closed));
        pass(3_600).await;
        assert_eq!(net.attempts(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_goodbye_is_connected_to_again() {
    bounded(async {
        let (net, client) = meet(Version::V5).await;
        net.with(|server| server.kick(ReasonCode::ServerShuttingDown));
        let cause = lost(&client).await;
        assert!(
            matches!(&cause, ConnectionError::Disconnected(refusal)
            if refusal.reason == ReasonCode::ServerShuttingDown),
            "{cause}"
        );
        client.connected().await.unwrap();
        net.with(|server| server.kick(ReasonCode::ServerMoved));
        settle().await;
        assert!(client.connected().await.is_err());
        assert!(matches!(*client.status().borrow(), Status::Failed(_)));
    })
    .await;
}

/// How long a client waited before each attempt, from the first on.
async fn delays(reconnect: Reconnect, attempts: usize) -> Vec<Duration> {
    let (net, client) =
        meet_on(Manners::default(), Options { reconnect, ..options(Version::V5) }).await;
    net.usual(refused());
    let mut status = client.status();
    status.mark_unchanged();
    net.cut();
    let mut delays = Vec::new();
    while delays.len() < attempts {
        status.changed().await.unwrap();
        let Status::Reconnecting { attempt, delay, .. } = status.borrow_and_update().clone() else {
            continue;
        };
        let told = Instant::now();
        assert_eq!(attempt as usize, delays.len() + 1);
        delays.push(delay);
        let before = net.attempts();
        while net.attempts() == before {
            settle().await;
        }
        let waited = told.elapsed();
        assert!(waited >= delay && waited <= delay + Duration::from_millis(2), "as it was told");
    }
    delays
}

#[tokio::test(start_paused = true)]
async fn attempts_become_rarer_by_chance() {
    bounded(async {
        fastrand::seed(1);
        let [first, longest] = [100, 1_000].map(Duration::from_millis);
        let reconnect = Reconnect { first, longest, ..Reconnect::default() };
        let mut shares = Vec::new();
        for _ in 0..20 {
            for (number, delay) in delays(reconnect, 8).await.into_iter().enumerate() {
                let most = (first * (1 << number)).min(longest);
                assert!(delay <= most, "{delay:?} before attempt {number}");
                shares.push(delay.div_duration_f64(most));
            }
        }
        for tenth in 0..10 {
            let share = f64::from(tenth) / 10.0;
            let count = shares.iter().filter(|&&chance| chance >= share && chance < share + 0.1);
            assert!(count.count() >= 4, "full jitter: {shares:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_last_is_no_success() {
    bounded(async {
        fastrand::seed(1);
        let [first, longest] = [1, 100].map(Duration::from_secs);
        let reconnect = Reconnect { first, longest, ..Reconnect::default() };
        let (net, client) =
            meet_on(Manners::default(), Options { reconnect, ..options(Version::V5) }).await;
        let mut delays = Vec::new();
        for lasts in [200, 1, 1, 1, 1, 1, 1, 200] {
            pass(lasts).await;
            net.cut();
            settle().await;
            let Status::Reconnecting { attempt, delay, .. } = client.status().borrow().clone()
            else {
                panic!("the connection is lost")
            };
            assert_eq!(attempt, 1, "since there was a connection");
            delays.push(delay);
            client.connected().await.unwrap();
        }
        let (again, others) = delays.split_last().unwrap();
        assert!(delays[0] <= first && *again <= first, "{delays:?}");
        assert!(others.iter().any(|delay| *delay > 4 * first), "{delays:?}");
        assert!(others.iter().zip(0..).all(|(delay, number)| *delay <= first * (1 << number)));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn everything_that_the_options_say_is_in_connect() {
    both(async |version| {
        let net = Net::script(ConnAck::default(), version);
        net.with(|script| script.greeting = None);
        let v5 = version.is_v5();
        let mut will = Will { qos: AtLeastOnce, retain: true, ..Will::new("will", "lost") };
        let mut options = Options {
            keep_alive: 17,
            user_name: Some("user".into()),
            password: Some(Bytes::from_static(b"secret")),
            receive_maximum: 7,
            maximum_packet_size: 70_000,
            topic_alias_maximum: 3,
            session_expiry_interval: 77,
            ..options(version)
        };
        if v5 {
            will.delay_interval = 5;
            will.properties.content_type = Some("text".into());
            options.user_properties = vec![("name".into(), "value".into())];
        }
        options.will = Some(will);
        assert!(!format!("{options:?}").contains("secret"));
        let (_client, driver) = net.client(options);
        let _driver = tokio::spawn(driver);
        settle().await;
        let Packet::Connect(said, connect) = net.with(|script| script.packet()) else { panic!() };
        assert_eq!(said, version);
        let will = connect.will.expect("a will");
        assert_eq!((will.topic.as_str(), will.payload), ("will", &b"lost"[..]));
        assert_eq!((will.qos, will.retain), (AtLeastOnce, true));
        let properties = will.properties.iter().collect::<Vec<_>>();
        let content_type = Property::ContentType(Text::new("text").unwrap());
        let expected: &[_] = if v5 { &[content_type, Property::WillDelayInterval(5)] } else { &[] };
        assert_eq!(properties, expected);
        assert_eq!(connect.user_properties.iter().count(), usize::from(v5));
        let expected = Connect {
            client_id: Text::new("teller").unwrap(),
            clean_start: false,
            keep_alive: 17,
            will: connect.will,
            user_name: Some(Text::new("user").unwrap()),
            password: Some(b"secret"),
            user_properties: connect.user_properties,
            ..Connect::default()
        };
        let expected = if v5 {
            Connect {
                session_expiry_interval: 77,
                receive_maximum: 7,
                maximum_packet_size: Some(70_000),
                topic_alias_maximum: 3,
                request_response_information: true,
                ..expected
            }
        } else {
            expected
        };
        assert_eq!(connect, expected);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn credentials_are_asked_for_before_each_connection() {
    both(async |version| {
        let net = Net::script(ConnAck::default(), version);
        net.with(|script| script.greeting = None);
        let mut count = 0;
        let credentials = move || {
            count += 1;
            let password = Some(Bytes::from(format!("token {count}")));
            Credentials { user_name: Some("user".into()), password }
        };
        let options = Options { credentials: Some(Box::new(credentials)), ..options(version) };
        let (_client, driver) = net.client(Options { retry_first: true, ..options });
        let _driver = tokio::spawn(driver);
        for count in 1..=3 {
            pass(5).await;
            let Packet::Connect(_, connect) = net.with(|script| script.packet()) else { panic!() };
            assert_eq!(connect.user_name.unwrap().as_str(), "user");
            assert_eq!(connect.password.unwrap(), format!("token {count}").as_bytes());
            net.cut();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_the_server_takes_can_be_asked_for() {
    bounded(async {
        let terms = ConnAck {
            receive_maximum: 7,
            maximum_packet_size: Some(500),
            server_keep_alive: Some(40),
            ..ConnAck::default()
        };
        let (_net, client) = talk_on(terms, options(Version::V5)).await;
        let limits = client.limits();
        assert_eq!((limits.receive_maximum, limits.maximum_packet_size), (7, 500));
        assert_eq!(client.keep_alive(), 40);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn sessions_begin_and_go_on_as_asked_for() {
    both(async |version| {
        for (clean_start, expiry) in [(true, 300), (true, 0), (false, 300)] {
            let options =
                Options { clean_start, session_expiry_interval: expiry, ..options(version) };
            let net = Net::server(Manners::default(), version);
            let client = net.connect(options).await.unwrap();
            for _ in 0..2 {
                net.cut();
                settle().await;
                client.connected().await.unwrap();
                settle().await;
            }
            let connects = net.sent();
            let resumes = version.is_v5() && expiry > 0;
            let expected = match (clean_start, resumes) {
                (false, _) => ["CONNECT"; 3],
                (true, true) => ["CONNECT clean", "CONNECT", "CONNECT"],
                (true, false) => ["CONNECT clean"; 3],
            };
            assert_eq!(connects, expected);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clean_start_is_asked_for_until_it_is_answered() {
    bounded(async {
        let net = Net::script(ConnAck::default(), Version::V5);
        net.with(|script| script.greeting = None);
        let options = Options { clean_start: true, retry_first: true, ..options(Version::V5) };
        let longest = Duration::from_secs(1);
        let reconnect = Reconnect { longest, ..Reconnect::default() };
        let options = Options { session_expiry_interval: 300, reconnect, ..options };
        let (_client, driver) = net.client(options);
        let _driver = tokio::spawn(driver);
        for (clean, is_answered) in [(true, false), (true, true), (false, false), (false, true)] {
            pass(5).await;
            let Packet::Connect(_, connect) = net.with(|script| script.packet()) else { panic!() };
            assert_eq!(connect.clean_start, clean);
            if is_answered {
                net.with(|script| script.send(&Packet::ConnAck(ConnAck::default())));
                settle().await;
            }
            net.cut();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_the_server_has_chosen_is_kept() {
    bounded(async {
        let options = Options { client_id: String::new(), ..options(Version::V5) };
        let (net, client) = meet_on(Manners::default(), options).await;
        let mut status = client.status();
        net.cut();
        settle().await;
        client.connected().await.unwrap();
        assert!(matches!(*status.borrow_and_update(), Status::Connected { session_present: true }));
        assert_eq!(client.assigned_client_identifier().as_deref(), Some("assigned-1"));
        assert!(
            net.with(|server| server.remembers("assigned-1") && !server.remembers("assigned-2"))
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_can_be_polled_beside_other_work() {
    both(async |version| {
        let net = Net::server(Manners::default(), version);
        let (client, driver) = net.client(options(version));
        let work = async {
            let mut messages = client.subscribe("a", AtLeastOnce).await.unwrap();
            client.publish("b", "1").qos(ExactlyOnce).await.unwrap();
            net.publish("a", "2", AtLeastOnce);
            assert_eq!(text(&messages.next().await.unwrap()), "2");
            client.disconnect().await
        };
        let (end, result) = tokio::join!(driver, work);
        end.expect("closed by its own side");
        result.unwrap();
        assert_eq!(net.accepted(), ["1"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_is_dropped_tells_those_who_wait() {
    both(async |version| {
        let (net, client) = {
            let net = Net::server(Manners::default(), version);
            net.with(|server| server.manners.frozen = true);
            let (client, driver) = net.client(options(version));
            let waits = tokio::time::timeout(Duration::from_secs(5), driver);
            assert!(waits.await.is_err(), "the driver is dropped half-way");
            (net, client)
        };
        assert!(matches!(*client.status().borrow(), Status::Closed));
        assert!(client.connected().await.is_err());
        assert_eq!(client.publish("a", "1").await, Err(PublishError::Closed));
        client.disconnect().await.unwrap();
        settle().await;
        assert!(!net.is_open());

        let net = Net::script(ConnAck::default(), version);
        let (client, driver) = net.client(options(version));
        let driver = tokio::spawn(driver);
        client.connected().await.unwrap();
        let mut messages = client.listen("#").unwrap();
        let delivery = client.publish("a", "1").qos(AtLeastOnce).accepted().await.unwrap();
        let subscribe = client.subscribe("a", AtLeastOnce).into_future();
        settle().await;
        driver.abort();
        assert_eq!(delivery.await, Err(PublishError::Closed));
        assert_eq!(subscribe.await.unwrap_err(), SubscribeError::Closed);
        assert_eq!(messages.next().await, None);
    })
    .await;
}

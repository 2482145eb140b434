//! Enhanced authentication.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mqtt_core::{Auth, Authentication, Connect, Properties, Property, Text, wire::Packet};

use crate::support::*;

/// Says what it is told to, and notes what it hears.
struct Parrot {
    heard: Arc<Mutex<Vec<String>>>,
    steps: usize,
    trusts: bool,
}

impl Parrot {
    fn hear(&self, data: &[u8]) {
        self.heard.lock().unwrap().push(String::from_utf8_lossy(data).into());
    }
}

impl Authenticator for Parrot {
    fn method(&self) -> &str {
        "parrot"
    }

    fn start(&mut self) -> Option<Bytes> {
        Some("hello".into())
    }

    fn step(&mut self, data: &[u8]) -> Option<Bytes> {
        self.hear(data);
        self.steps = self.steps.checked_sub(1)?;
        Some([data, b" yourself"].concat().into())
    }

    fn finish(&mut self, data: &[u8]) -> bool {
        self.hear(data);
        self.trusts
    }
}

fn parrot(steps: usize, trusts: bool) -> (Options, Arc<Mutex<Vec<String>>>) {
    let heard = Arc::default();
    let authenticator = Parrot { heard: Arc::clone(&heard), steps, trusts };
    let authenticator = Some(Box::new(authenticator) as Box<dyn Authenticator>);
    (Options { authenticator, ..options(Version::V5) }, heard)
}

/// Takes a packet that must be the client's word in the exchange. What it says.
fn word(net: &Net<Script>) -> String {
    let data = match net.with(|script| script.packet()) {
        Packet::Connect(
            _,
            Connect { authentication: Some(Authentication { method, data }), .. },
        ) => {
            assert_eq!(method.as_str(), "parrot");
            data
        }
        Packet::Auth(auth) => {
            assert_eq!(auth.properties.authentication_method().unwrap().as_str(), "parrot");
            auth.properties.authentication_data()
        }
        other => panic!("{other:?}"),
    };
    String::from_utf8(data.unwrap().into()).unwrap()
}

fn challenge(net: &Net<Script>, data: &str) {
    let method = Text::new("parrot").unwrap();
    let list =
        [Property::AuthenticationMethod(method), Property::AuthenticationData(data.as_bytes())];
    let properties = Properties::from(&list);
    net.send(&Packet::Auth(Auth { reason: ReasonCode::ContinueAuthentication, properties }));
}

fn welcome(net: &Net<Script>, data: &'static str) {
    let method = Text::new("parrot").unwrap();
    let authentication = Some(Authentication { method, data: Some(data.as_bytes()) });
    net.send(&Packet::ConnAck(ConnAck { authentication, ..ConnAck::default() }));
}

fn mute() -> Net<Script> {
    let net = Net::script(ConnAck::default(), Version::V5);
    net.with(|script| script.greeting = None);
    net
}

#[tokio::test(start_paused = true)]
async fn step_by_step() {
    bounded(async {
        let net = mute();
        let (options, heard) = parrot(4, true);
        let serve = async {
            settle().await;
            assert_eq!(word(&net), "hello");
            for data in ["one", "two"] {
                challenge(&net, data);
                settle().await;
                assert_eq!(word(&net), format!("{data} yourself"));
            }
            welcome(&net, "come in");
        };
        let (client, ()) = tokio::join!(net.connect(options), serve);
        assert_eq!(*heard.lock().unwrap(), ["one", "two", "come in"]);

        net.cut();
        pass(1).await;
        assert_eq!(word(&net), "hello", "every connection begins anew");
        welcome(&net, "again");
        client.unwrap().connected().await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_trust_there_is_no_connection() {
    bounded(async {
        for (steps, trusts) in [(0, true), (1, false)] {
            let net = mute();
            let (options, heard) = parrot(steps, trusts);
            let options = Options { retry_first: true, ..options };
            let serve = async {
                settle().await;
                challenge(&net, "who?");
                settle().await;
                if steps > 0 {
                    welcome(&net, "trust me");
                }
            };
            let (client, ()) = tokio::join!(net.connect(options), serve);
            let error = client.unwrap_err();
            assert!(matches!(error, ConnectError::Connection(ConnectionError::NotTrusted)));
            assert_eq!(heard.lock().unwrap().len(), 1 + steps);
            assert_eq!(net.attempts(), 1, "it is for good");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_server_does_not_trust_the_client() {
    bounded(async {
        let net = mute();
        let (options, _) = parrot(1, true);
        let serve = async {
            settle().await;
            let reason = ReasonCode::NotAuthorized;
            net.send(&Packet::ConnAck(ConnAck { reason, ..ConnAck::default() }));
        };
        let (client, ()) = tokio::join!(net.connect(options), serve);
        let error = client.unwrap_err();
        assert!(matches!(error, ConnectError::Connection(ConnectionError::Refused(_))), "{error}");
    })
    .await;
}

//! TLS, WebSocket, and both.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair,
    generate_simple_self_signed,
};
use transport_tokio::{
    broker::{Access, Authenticated, Wish},
    transport::{
        Dialer, Identity, Roots, Source, TlsOptions, WebSocketOptions,
        rustls::{
            RootCertStore, ServerConfig,
            crypto::ring,
            pki_types::{CertificateDer, PrivateKeyDer},
            server::WebPkiClientVerifier,
        },
    },
};

use crate::support::*;

/// A server's configuration, and what a client trusts who believes it.
fn certified() -> (ServerConfig, TlsOptions) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![CertificateDer::from(cert.der().to_vec())], key)
        .unwrap();
    let roots = Roots::Only(vec![Source::bytes(cert.pem())]);
    (config, TlsOptions { roots, ..TlsOptions::default() })
}

/// As many as there may be at once, and they have an hour.
#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out() {
    bounded(async {
        let config = Config { connect_timeout: 3_600_000, ..Config::default() };
        let builder = Broker::builder().config(config).listen("ws://127.0.0.1:0/mqtt");
        let broker = serve(builder).await;
        let url = &broker.urls()[0];
        let address = url.strip_prefix("ws://").unwrap().strip_suffix("/mqtt").unwrap();
        let mut silent = Vec::new();
        for _ in 0..300 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let client = Client::connect(url, named("one")).await.unwrap();
        client.disconnect().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_client_over_each() {
    bounded(async {
        let (config, trust) = certified();
        let builder = Broker::builder()
            .tls(Arc::new(config))
            .listen("mqtts://127.0.0.1:0")
            .listen("ws://127.0.0.1:0/mqtt")
            .listen("wss://127.0.0.1:0/mqtt");
        let broker = serve(builder).await;
        let watcher = connect_to(&broker.urls()[3], &trust, "watcher").await;
        let mut messages = watcher.subscribe("a", AtLeastOnce).await.unwrap();
        for url in broker.urls() {
            let client = connect_to(url, &trust, url).await;
            let large = vec![b'x'; 300_000];
            for payload in [url.as_bytes(), &large] {
                client.publish("a", payload.to_vec()).qos(ExactlyOnce).await.unwrap();
                assert!(messages.next().await.unwrap().payload == payload, "{url}");
            }
            client.disconnect().await.unwrap();
        }
        until(&broker, |now| now.connections == 1).await;
    })
    .await;
}

async fn connect_to(url: &str, trust: &TlsOptions, name: &str) -> Client {
    let dialer = Dialer::new(url.parse().unwrap()).tls(trust.clone());
    Client::connect_with(dialer, named(name)).await.unwrap()
}

#[tokio::test]
async fn a_websocket_for_something_else() {
    bounded(async {
        let broker = Broker::builder().listen("ws://127.0.0.1:0/mqtt").serve().await.unwrap();
        let other = broker.urls()[0].replace("/mqtt", "/chat");
        let dialer = Dialer::new(other.parse().unwrap()).websocket(WebSocketOptions::default());
        assert!(Client::connect_with(dialer, named("lost")).await.is_err());
        assert_eq!(statistics(&broker).await.connections_accepted, 0);
        connect(&broker, named("found")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come() {
    let (config, _) = certified();
    let builder = Broker::builder().tls(Arc::new(config)).listen("mqtts://127.0.0.1:0");
    let broker = builder.serve().await.unwrap();
    let address = broker.urls()[0].trim_start_matches("mqtts://").to_owned();
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(rest(&mut silent).await, b"");
}

#[tokio::test]
async fn a_client_is_who_its_certificate_says() {
    bounded(async {
        // An authority, and a client that it certifies.
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["sensor-7".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let leaf = certificate.der().to_vec();

        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![cert.der().clone()],
                PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
            )
            .unwrap();
        let builder = Broker::builder()
            .tls(Arc::new(config))
            .listen("mqtts://127.0.0.1:0")
            .listen("wss://127.0.0.1:0/mqtt")
            .authenticate(move |login: Login| {
                let known = login.certificates.first() == Some(&leaf);
                let listener = login.listener.unwrap();
                async move {
                    // Who comes without TLS has nothing to show.
                    match known {
                        true => Ok(Authenticated::user("sensor-7")),
                        false if listener.starts_with("mqtt:") => Ok(Authenticated::default()),
                        false => Err(ReasonCode::NotAuthorized),
                    }
                }
            })
            .authorize(|access: &Access<'_>| match access.wish {
                Wish::Publish { .. } => access.user_name == Some("sensor-7"),
                _ => true,
            });
        let broker = serve(builder).await;
        let identity = Identity {
            certificates: Source::bytes(certificate.pem()),
            key: Source::bytes(key.serialize_pem()),
        };
        let trust = TlsOptions {
            roots: Roots::Only(vec![Source::bytes(cert.pem())]),
            ..TlsOptions::default()
        };
        let shows = TlsOptions { identity: Some(identity), ..trust.clone() };
        for url in &broker.urls()[..2] {
            let client = connect_to(url, &shows, "shows").await;
            client.publish("a", "b").qos(AtLeastOnce).await.unwrap();
            let dialer = Dialer::new(url.parse().unwrap()).tls(trust.clone());
            assert!(Client::connect_with(dialer, named("hides")).await.is_err());
        }
        let plain = connect_to(&broker.urls()[2], &trust, "plain").await;
        assert!(plain.publish("a", "b").qos(AtLeastOnce).await.is_err());
    })
    .await;
}

//! Server addresses, and connections over TCP, Unix sockets and whatever is handed in.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpSocket};
use transport_tokio::transport::{
    BoxedTransport, Connector, Dialer, Endpoint, EndpointError, Scheme, Transport,
};

/// What a URL says: scheme, host, port, path, user name, password.
type Parts<'a> = (Scheme, &'a str, u16, &'a str, Option<&'a str>, Option<&'a [u8]>);

fn parts(endpoint: &Endpoint) -> Parts<'_> {
    (
        endpoint.scheme(),
        endpoint.host(),
        endpoint.port(),
        endpoint.path(),
        endpoint.user_name(),
        endpoint.password(),
    )
}

#[track_caller]
fn means(table: &[(&str, Parts<'_>)]) {
    for (url, expected) in table {
        let endpoint: Endpoint = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!(parts(&endpoint), *expected, "{url}");
    }
}

#[track_caller]
fn refused(table: &[(&str, EndpointError)]) {
    for (url, expected) in table {
        assert_eq!(Endpoint::try_from(*url), Err(*expected), "{url}");
        assert!(!expected.to_string().is_empty());
    }
}

#[test]
fn urls() {
    use Scheme::Mqtt;
    means(&[
        ("mqtt://broker", (Mqtt, "broker", 1883, "", None, None)),
        ("mqtt://broker/", (Mqtt, "broker", 1883, "", None, None)),
        ("MQTT://Broker.Example.:65535", (Mqtt, "Broker.Example.", 65535, "", None, None)),
        ("tcp://127.0.0.1:1", (Mqtt, "127.0.0.1", 1, "", None, None)),
        ("mqtt://[::1]", (Mqtt, "::1", 1883, "", None, None)),
        ("mqtt://[2001:db8::7]:1884", (Mqtt, "2001:db8::7", 1884, "", None, None)),
        ("mqtt://sensor@broker", (Mqtt, "broker", 1883, "", Some("sensor"), None)),
        ("mqtt://sensor:@broker", (Mqtt, "broker", 1883, "", Some("sensor"), Some(b""))),
        ("mqtt://:secret@broker", (Mqtt, "broker", 1883, "", None, Some(b"secret"))),
        ("mqtt://a%40b:c:%2F%ff@broker:1", (Mqtt, "broker", 1, "", Some("a@b"), Some(b"c:/\xff"))),
        ("mqtt://a@b:c@d@broker", (Mqtt, "broker", 1883, "", Some("a@b"), Some(b"c@d"))),
    ]);
}

#[test]
fn not_urls() {
    use EndpointError::{Escape, Host, NoHost, NoScheme, Path, Port, UnknownScheme, Utf8};
    refused(&[
        ("", NoScheme),
        ("broker:1883", NoScheme),
        ("mqtt:broker", NoScheme),
        ("http://broker", UnknownScheme),
        ("://broker", UnknownScheme),
        ("mqtt://", NoHost),
        ("mqtt://:1883", NoHost),
        ("mqtt://sensor:secret@", NoHost),
        ("mqtt://bröker", Host),
        ("mqtt://bro ker", Host),
        ("mqtt://::1", NoHost),
        ("mqtt://[::1", Host),
        ("mqtt://[127.0.0.1]", Host),
        ("mqtt://[]", Host),
        ("mqtt://broker:", Port),
        ("mqtt://broker:0", Port),
        ("mqtt://broker:65536", Port),
        ("mqtt://broker:+1", Port),
        ("mqtt://broker:18x", Port),
        ("mqtt://[::1]1883", Port),
        ("mqtt://broker/topic", Path),
        ("mqtt://broker?client_id=me", Path),
        ("mqtt://broker#", Path),
        ("mqtt://%4@broker", Escape),
        ("mqtt://a:%+1@broker", Escape),
        ("mqtt://a:%e@broker", Escape),
        ("mqtt://%ff@broker", Utf8),
    ]);
}

#[cfg(unix)]
#[test]
fn unix_urls() {
    use Scheme::Unix;
    means(&[
        ("unix:///run/broker.sock", (Unix, "", 0, "/run/broker.sock", None, None)),
        ("unix:///a%20b%3f", (Unix, "", 0, "/a b?", None, None)),
        ("unix://sensor:secret@/s", (Unix, "", 0, "/s", Some("sensor"), Some(b"secret"))),
    ]);
    refused(&[
        ("unix://", EndpointError::Path),
        ("unix:///", EndpointError::Path),
        ("unix://run/broker.sock", EndpointError::Path),
        ("unix:///s?", EndpointError::Path),
        ("unix:///%ff", EndpointError::Utf8),
    ]);
}

#[cfg(not(unix))]
#[test]
fn unix_urls() {
    refused(&[("unix:///run/broker.sock", EndpointError::Platform)]);
}

#[cfg(feature = "tls")]
#[test]
fn tls_urls() {
    use Scheme::Mqtts;
    means(&[
        ("mqtts://broker", (Mqtts, "broker", 8883, "", None, None)),
        ("ssl://broker:443", (Mqtts, "broker", 443, "", None, None)),
        ("tls://broker", (Mqtts, "broker", 8883, "", None, None)),
    ]);
}

#[cfg(feature = "websocket")]
#[test]
fn websocket_urls() {
    use Scheme::Ws;
    means(&[
        ("ws://broker", (Ws, "broker", 80, "/mqtt", None, None)),
        ("ws://broker:8080/", (Ws, "broker", 8080, "/", None, None)),
        ("ws://broker/a%2Fb?c=/d", (Ws, "broker", 80, "/a%2Fb?c=/d", None, None)),
        ("ws://broker?c", (Ws, "broker", 80, "/mqtt?c", None, None)),
    ]);
    refused(&[
        ("ws://broker/a b", EndpointError::Path),
        ("ws://broker/ä", EndpointError::Path),
        ("ws://broker/\r\nHost:", EndpointError::Path),
        ("ws://broker/a#b", EndpointError::Path),
        ("ws://broker/%zz", EndpointError::Escape),
    ]);
}

#[cfg(all(feature = "tls", feature = "websocket"))]
#[test]
fn websocket_over_tls_urls() {
    means(&[("wss://broker", (Scheme::Wss, "broker", 443, "/mqtt", None, None))]);
}

/// A feature that is off is named.
#[test]
fn features() {
    let (tls, websocket) = (cfg!(feature = "tls"), cfg!(feature = "websocket"));
    for (url, expected) in [
        ("mqtts://broker", [("tls", tls)].as_slice()),
        ("ws://broker", &[("websocket", websocket)]),
        ("wss://broker", &[("tls", tls), ("websocket", websocket)]),
    ] {
        let missing = expected.iter().find(|(_, on)| !on);
        let expected = missing.map(|(feature, _)| EndpointError::Feature(feature));
        assert_eq!(Endpoint::try_from(url).err(), expected, "{url}");
    }
    assert!(EndpointError::Feature("tls").to_string().contains("`tls`"));
}

#[test]
fn secrets_are_not_shown() {
    let shown = |url: &str| {
        let endpoint: Endpoint = url.parse().unwrap();
        assert_eq!(format!("{endpoint:?}"), format!("Endpoint({endpoint})"));
        endpoint.to_string()
    };
    assert_eq!(shown("mqtt://sensor:secret@[::1]:1"), "mqtt://[::1]:1");
    assert_eq!(shown("tcp://sensor:secret@broker:1883"), "mqtt://broker");
    #[cfg(feature = "websocket")]
    assert_eq!(shown("ws://broker/mqtt?signature=secret"), "ws://broker/mqtt");
}

/// Sends and receives a few bytes.
async fn echo(mut transport: impl Transport) {
    transport.write_all(b"\xc0\0").await.unwrap();
    transport.flush().await.unwrap();
    let mut answer = [0; 2];
    transport.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, *b"\xc0\0");
    transport.shutdown().await.unwrap();
    assert_eq!(transport.read(&mut answer).await.unwrap(), 0);
}

async fn answer(mut transport: impl Transport) {
    let (mut read, mut write) = tokio::io::split(&mut transport);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

fn dialer(url: &str) -> Dialer {
    Dialer::new(url.parse().unwrap())
}

/// `localhost` may be an IPv6 address first.
#[tokio::test]
async fn tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        for _ in 0..4 {
            answer(listener.accept().await.unwrap().0).await;
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let mut dialer = dialer(&format!("mqtt://{host}:{port}"));
        // Again and again.
        echo(dialer.connect().await.unwrap()).await;
        echo(dialer.connect().await.unwrap()).await;
    }
    server.await.unwrap();
}

#[tokio::test]
async fn tcp_refused() {
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("mqtt://{}", taken.local_addr().unwrap());
    let error = dialer(&url).connect().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(error.raw_os_error().is_some());
}

#[cfg(unix)]
#[tokio::test]
async fn unix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a socket");
    let mut dialer = dialer(&format!("unix://{}/a%20socket", folder.path().display()));
    let error = dialer.connect().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);

    let listener = tokio::net::UnixListener::bind(path).unwrap();
    let server = tokio::spawn(async move { answer(listener.accept().await.unwrap().0).await });
    echo(dialer.connect().await.unwrap()).await;
    server.await.unwrap();
}

#[tokio::test]
async fn whatever_is_handed_in() {
    let mut attempts = 0;
    let connector = move || {
        attempts += 1;
        let attempt = attempts;
        async move {
            if attempt == 1 {
                return Err(io::ErrorKind::HostUnreachable.into());
            }
            let (near, far) = duplex(16);
            tokio::spawn(answer(far));
            Ok(near)
        }
    };
    let mut connector: Box<dyn Connector> = Box::new(connector);
    let error = connector.connect().await.err().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::HostUnreachable);
    // What was boxed can be handed on.
    let mut connector = Some(connector);
    let mut once = move || {
        let mut connector = connector.take().unwrap();
        async move { connector.connect().await }
    };
    let transport: BoxedTransport = once.connect().await.unwrap();
    echo(transport).await;
}

//! Opening a WebSocket, and bytes through it. How frames are cut is looked at beside the code.

#![expect(clippy::result_large_err, reason = "the callback that the library wants")]

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::{Error, Message, accept_hdr};
use transport_tokio::transport::{
    BoxedTransport, Connector, Dialer, Endpoint, Transport, WebSocketOptions,
};

/// Listens for one connection, which `serve` is given.
fn listen<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// Sends back what it is sent, asked as `expect` wants it. Returns how many messages there were.
fn echo(
    stream: impl Read + Write,
    answer: impl FnOnce(&Request, Response) -> Result<Response, ErrorResponse>,
) -> usize {
    let mut socket = accept_hdr(stream, answer).unwrap();
    let mut messages = 0;
    loop {
        match socket.read() {
            Ok(message @ Message::Binary(_)) => {
                messages += 1;
                socket.send(message).unwrap();
            }
            Ok(Message::Close(_)) => {}
            Err(Error::ConnectionClosed) => return messages,
            other => panic!("{other:?}"),
        }
    }
}

/// Agrees to the sub-protocol `mqtt`.
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get("sec-websocket-protocol").unwrap();
    response.headers_mut().insert("sec-websocket-protocol", offered.clone());
    Ok(response)
}

fn dialer(url: &str) -> Dialer {
    Dialer::new(url.parse().unwrap())
}

/// Sends and receives at the same time, and closes.
async fn exchange(mut transport: impl Transport, bytes: &[u8]) {
    let (mut read, mut write) = tokio::io::split(&mut transport);
    let mut received = vec![0; bytes.len()];
    let send = async {
        write.write_all(bytes).await?;
        write.flush().await
    };
    tokio::try_join!(send, read.read_exact(&mut received)).unwrap();
    assert!(received == bytes);
    transport.shutdown().await.unwrap();
    assert_eq!(transport.read(&mut received).await.unwrap(), 0);
}

/// More than the sockets hold, in several frames.
fn much() -> Vec<u8> {
    (0..8 << 20).map(|index: u32| index.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

#[tokio::test]
async fn bytes_both_ways() {
    let (port, server) = listen(|tcp| echo(tcp, agree));
    let transport = dialer(&format!("ws://127.0.0.1:{port}")).connect().await.unwrap();
    exchange(transport, b"\xc0\0").await;
    assert_eq!(server.join().unwrap(), 1);

    let (port, server) = listen(|tcp| echo(tcp, agree));
    let transport = dialer(&format!("ws://127.0.0.1:{port}")).connect().await.unwrap();
    exchange(transport, &much()).await;
    assert!(server.join().unwrap() > 1);
}

/// What a server is asked: its path and the headers.
async fn asked(url: &str, headers: &[(&str, &str)]) -> (String, HeaderMap) {
    let (tell, told) = std::sync::mpsc::channel();
    let (port, server) = listen(move |tcp| {
        echo(tcp, move |request, response| {
            tell.send((request.uri().to_string(), request.headers().clone())).unwrap();
            agree(request, response)
        })
    });
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    let options = WebSocketOptions { headers: headers.collect(), ..WebSocketOptions::default() };
    let mut dialer = dialer(&url.replace("PORT", &port.to_string())).websocket(options);
    exchange(dialer.connect().await.unwrap(), b"\xc0\0").await;
    server.join().unwrap();
    let (path, mut headers) = told.recv().unwrap();
    if let Some(host) = headers.get_mut("host") {
        *host = host.to_str().unwrap().replace(&port.to_string(), "PORT").parse().unwrap();
    }
    (path, headers)
}

#[tokio::test]
async fn what_is_asked() {
    let (path, headers) = asked("ws://sensor:secret@127.0.0.1:PORT", &[]).await;
    assert_eq!(path, "/mqtt");
    assert_eq!(headers["host"], "127.0.0.1:PORT");
    // [MQTT-6.0.0-3]
    assert_eq!(headers["sec-websocket-protocol"], "mqtt");
    // The user is MQTT's.
    assert!(!headers.contains_key("authorization"));

    let given = [("Cookie", "a=b"), ("x-Of", "1"), ("X-OF", "2"), ("Host", "broker.example")];
    let (path, headers) = asked("ws://127.0.0.1:PORT/a%20b?Signature=%2B&c", &given).await;
    assert_eq!(path, "/a%20b?Signature=%2B&c");
    assert_eq!(headers["cookie"], "a=b");
    assert_eq!(headers.get_all("x-of").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(headers.get_all("host").iter().collect::<Vec<_>>(), ["broker.example"]);
}

#[tokio::test]
async fn headers_that_make_no_sense() {
    // Reached, and told nothing.
    for (name, value) in [
        ("two words", ""),
        ("", ""),
        ("cookie", "a\r\nhost: b"),
        ("Upgrade", "h2c"),
        ("connection", "close"),
        ("Sec-WebSocket-Protocol", "mqttv3.1"),
        ("sec-websocket-key", "mine"),
    ] {
        let (port, server) = listen(|mut tcp| tcp.read(&mut [0]).unwrap());
        let headers = vec![(name.to_owned(), value.to_owned())];
        let options = WebSocketOptions { headers, ..WebSocketOptions::default() };
        let mut dialer = dialer(&format!("ws://127.0.0.1:{port}")).websocket(options);
        let error = dialer.connect().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("{name:?}")), "{error}");
        assert_eq!(server.join().unwrap(), 0);
    }
}

/// Why the attempt fails when the server answers so.
async fn refused(
    answer: impl FnOnce(&Request, Response) -> Result<Response, ErrorResponse> + Send + 'static,
) -> (io::ErrorKind, Error) {
    let (port, server) = listen(move |tcp| drop(accept_hdr(tcp, answer)));
    let error = dialer(&format!("ws://127.0.0.1:{port}")).connect().await.err().unwrap();
    server.join().unwrap();
    (error.kind(), *error.into_inner().unwrap().downcast().unwrap())
}

/// [MQTT-6.0.0-4]
#[tokio::test]
async fn the_sub_protocol_is_confirmed() {
    fn wrong(error: &Error) -> SubProtocolError {
        match error {
            Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(wrong)) => *wrong,
            other => panic!("{other:?}"),
        }
    }
    let (kind, error) = refused(|_, response| Ok(response)).await;
    assert_eq!(
        (kind, wrong(&error)),
        (io::ErrorKind::InvalidData, SubProtocolError::NoSubProtocol)
    );

    for other in ["mqttv3.1", "mqtt, mqttv3.1", "MQTT", ""] {
        let (_, error) = refused(move |_, mut response| {
            response.headers_mut().insert("sec-websocket-protocol", other.parse().unwrap());
            Ok(response)
        })
        .await;
        assert_eq!(wrong(&error), SubProtocolError::InvalidSubProtocol, "{other:?}");
    }
}

#[tokio::test]
async fn the_server_says_no() {
    for (status, expected) in [
        (StatusCode::UNAUTHORIZED, io::ErrorKind::PermissionDenied),
        (StatusCode::FORBIDDEN, io::ErrorKind::PermissionDenied),
        (StatusCode::NOT_FOUND, io::ErrorKind::InvalidData),
        (StatusCode::MOVED_PERMANENTLY, io::ErrorKind::InvalidData),
        (StatusCode::SERVICE_UNAVAILABLE, io::ErrorKind::InvalidData),
    ] {
        let (kind, error) = refused(move |_, _| {
            let mut response = ErrorResponse::new(None);
            *response.status_mut() = status;
            Err(response)
        })
        .await;
        let Error::Http(response) = error else { panic!("{error:?}") };
        assert_eq!((kind, response.status()), (expected, status));
    }
}

/// Not a web server: MQTT, an end, an endless answer.
#[tokio::test]
async fn something_else_answers() {
    for (answer, times) in
        [(b"\x20\x02\0\0".as_slice(), 1), (b"", 0), (b"HTTP/1.1 ", 1), (b"a", 1 << 24)]
    {
        let (port, server) = listen(move |mut tcp| {
            let mut last = [0; 4];
            while last != *b"\r\n\r\n" {
                last.rotate_left(1);
                tcp.read_exact(&mut last[3..]).unwrap();
            }
            for _ in 0..times {
                if tcp.write_all(answer).is_err() {
                    break;
                }
            }
        });
        let error = dialer(&format!("ws://127.0.0.1:{port}")).connect().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
        server.join().unwrap();
    }
}

/// A longer message than was agreed to is not kept.
#[tokio::test]
async fn a_bound_for_messages() {
    let (port, server) = listen(|tcp| {
        let mut socket = accept_hdr(tcp, agree).unwrap();
        socket.send(Message::Binary(vec![0; 1000].into())).unwrap();
        let _ = socket.send(Message::Binary(vec![0; 1001].into()));
        while socket.read().is_ok() {}
    });
    let options = WebSocketOptions { max_message_size: 1000, ..WebSocketOptions::default() };
    let mut dialer = dialer(&format!("ws://127.0.0.1:{port}")).websocket(options);
    let mut transport = dialer.connect().await.unwrap();
    transport.read_exact(&mut [1; 1000]).await.unwrap();
    let error = transport.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    drop(transport);
    server.join().unwrap();
}

/// A URL that is made for each connection, as a closure.
#[tokio::test]
async fn signed_urls() {
    let (first, second) = (listen(|tcp| echo(tcp, agree)), listen(|tcp| echo(tcp, agree)));
    let mut ports = [first.0, second.0].into_iter();
    let mut connector = || {
        let url = format!("ws://127.0.0.1:{}/mqtt?signature", ports.next().unwrap());
        async move {
            let endpoint: Endpoint = url.parse().map_err(io::Error::other)?;
            Dialer::new(endpoint).connect().await
        }
    };
    for server in [first.1, second.1] {
        let transport: BoxedTransport = connector.connect().await.unwrap();
        exchange(transport, b"\xc0\0").await;
        server.join().unwrap();
    }
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn over_tls() {
    use std::sync::Arc;

    use transport_tokio::transport::rustls::crypto::ring;
    use transport_tokio::transport::rustls::pki_types::PrivateKeyDer;
    use transport_tokio::transport::rustls::{ServerConfig, ServerConnection, StreamOwned};
    use transport_tokio::transport::{Roots, Source, TlsOptions};

    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.cert.der().clone()],
            PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (port, server) = listen(|tcp| {
        let tls = ServerConnection::new(Arc::new(config)).unwrap();
        echo(StreamOwned::new(tls, tcp), agree)
    });
    // A certificate that certifies itself is its own root.
    let roots = Roots::Only(vec![Source::bytes(own.cert.pem())]);
    let mut dialer = dialer(&format!("wss://localhost:{port}/mqtt"))
        .tls(TlsOptions { roots, ..TlsOptions::default() });
    exchange(dialer.connect().await.unwrap(), &much()).await;
    assert!(server.join().unwrap() > 1);
}

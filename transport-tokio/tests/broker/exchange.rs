//! Enhanced authentication, and who a client is by its certificate.

use std::sync::Arc;

use transport_tokio::broker::{Access, Authenticated, Exchange, Wish};

use crate::support::*;

/// CONNECT of a 5.0 client `a` with this method and data.
fn connect_with(method: &str, data: &str) -> Vec<u8> {
    let mut properties = vec![0x15];
    push(&mut properties, method);
    properties.push(0x16);
    push(&mut properties, data);
    let mut body = b"\0\x04MQTT\x05\x02\0\0".to_vec();
    body.push(properties.len() as u8);
    body.extend(properties);
    push(&mut body, "a");
    packet(0x10, body)
}

/// AUTH with this reason, method and data.
fn auth(reason: u8, method: &str, data: &str) -> Vec<u8> {
    let mut properties = vec![0x15];
    push(&mut properties, method);
    properties.push(0x16);
    push(&mut properties, data);
    let mut body = vec![reason, properties.len() as u8];
    body.extend(properties);
    packet(0xf0, body)
}

fn push(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u16).to_be_bytes());
    to.extend(text.as_bytes());
}

fn packet(first: u8, body: Vec<u8>) -> Vec<u8> {
    [&[first, body.len() as u8], &body[..]].concat()
}

/// The next packet.
async fn receive(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut header = [0; 2];
    socket.read_exact(&mut header).await.unwrap();
    let mut body = vec![0; header[1].into()];
    socket.read_exact(&mut body).await.unwrap();
    (header[0], body)
}

fn has(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The client says its name, is given two numbers one after the other, and says them back; the broker
/// proves that it knows the name.
async fn toy(mut with: Exchange) -> Result<Authenticated, ReasonCode> {
    let name = String::from_utf8(with.data().unwrap_or_default().to_vec()).unwrap();
    assert_eq!((with.login().client_id.as_str(), &with.login().password), ("a", &None));
    for number in ["17", "4"] {
        if with.challenge(number).await? != Some(number.as_bytes()) {
            return Err(ReasonCode::NotAuthorized);
        }
    }
    let again = if with.is_again() { " again" } else { "" };
    Ok(Authenticated::user(&*name).data(format!("hello {name}{again}")))
}

#[tokio::test]
async fn a_method_of_several_steps() {
    bounded(async {
        let builder = Broker::builder()
            .authentication_method("TOY", toy)
            .authenticate(async |_| Err::<(), _>(ReasonCode::Banned))
            .authorize(|access: &Access<'_>| match access.wish {
                Wish::Publish { .. } => access.user_name == Some("alice"),
                _ => true,
            });
        let broker = serve(builder).await;
        let mut socket = socket(&broker).await;
        socket.write_all(&connect_with("TOY", "alice")).await.unwrap();
        for number in ["17", "4"] {
            let (first, body) = receive(&mut socket).await;
            assert!(first == 0xf0 && body[0] == 0x18 && has(&body, number), "{body:?}");
            socket.write_all(&auth(0x18, "TOY", number)).await.unwrap();
        }
        let (first, body) = receive(&mut socket).await;
        assert!(first == 0x20 && body[1] == 0 && has(&body, "hello alice"), "{body:?}");
        // Who it is now decides what it may do: PUBLISH, QoS 1.
        let publish = b"\x32\x07\0\x01t\0\x01\0x";
        socket.write_all(publish).await.unwrap();
        assert_eq!(receive(&mut socket).await, (0x40, vec![0, 1, 0x10]));
        // And once more, as somebody else.
        socket.write_all(&auth(0x19, "TOY", "bob")).await.unwrap();
        for number in ["17", "4"] {
            let (first, body) = receive(&mut socket).await;
            assert!(first == 0xf0 && body[0] == 0x18 && has(&body, number), "{body:?}");
            socket.write_all(&auth(0x18, "TOY", number)).await.unwrap();
        }
        let (first, body) = receive(&mut socket).await;
        assert!(first == 0xf0 && body[0] == 0 && has(&body, "hello bob again"), "{body:?}");
        socket.write_all(publish).await.unwrap();
        assert_eq!(receive(&mut socket).await, (0x40, vec![0, 1, 0x87]));
    })
    .await;
}

#[tokio::test]
async fn a_method_that_fails_is_unknown_or_panics() {
    bounded(async {
        let builder = Broker::builder()
            .authentication_method("TOY", toy)
            .authentication_method("PANIC", async |_| -> Result<(), _> { panic!("for the test") });
        let broker = serve(builder).await;
        for (method, reason) in [("PANIC", 0x80), ("OTHER", 0x8c)] {
            let mut socket = socket(&broker).await;
            socket.write_all(&connect_with(method, "x")).await.unwrap();
            assert_eq!(rest(&mut socket).await[3], reason, "{method}");
        }
        let mut socket = socket(&broker).await;
        socket.write_all(&connect_with("TOY", "alice")).await.unwrap();
        receive(&mut socket).await;
        socket.write_all(&auth(0x18, "TOY", "wrong")).await.unwrap();
        assert_eq!(rest(&mut socket).await[3], 0x87);
    })
    .await;
}

#[tokio::test]
async fn who_hangs_up_in_the_middle_ends_the_exchange() {
    bounded(async {
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let ended = Arc::new(ended);
        let builder = Broker::builder().authentication_method("TOY", move |mut with: Exchange| {
            let ended = ended.clone();
            async move {
                let result = with.challenge("?").await.map(|_| ());
                ended.send(result).unwrap();
                result
            }
        });
        let broker = serve(builder).await;
        let mut socket = socket(&broker).await;
        socket.write_all(&connect_with("TOY", "x")).await.unwrap();
        receive(&mut socket).await;
        drop(socket);
        until(&broker, |now| now.connections == 0).await;
        // It is dropped, or told; it is not let in.
        drop(broker);
        assert_ne!(ends.recv().await, Some(Ok(())));
    })
    .await;
}

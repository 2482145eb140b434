//! What becomes of others while some have much to say.

use crate::support::*;

/// A message of 10 bytes.
const MESSAGE: &[u8; 10] = b"\x30\x08\0\x05flood!";

/// Has so much to say that others have their turn before it is through.
fn speak(socket: &TcpStream) {
    let all = MESSAGE.repeat(SPEECH);
    assert_eq!(socket.try_write(&all).unwrap(), all.len());
}

/// How many messages these are.
const SPEECH: usize = 1_600;

#[tokio::test]
async fn who_is_sent_away_meanwhile_is_not_cut_off() {
    bounded(async {
        let broker = broker().await;
        let speakers = [hello(&broker, b'a').await, hello(&broker, b'b').await];
        let mut gone = hello(&broker, b'g').await;
        // All is there before the broker, which runs on this thread, has its turn. Another CONNECT ends a
        // connection, and more has been sent by then than is read of it at once.
        speakers.iter().for_each(speak);
        let wrong = [b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01g".as_slice(), &[0; 40_000]].concat();
        assert_eq!(gone.try_write(&wrong).unwrap(), wrong.len());
        assert_eq!(rest(&mut gone).await, b"");
        until(&broker, |now| now.packets_received as usize >= speakers.len() * SPEECH).await;
        // What it sent without knowing was read, or this would not be taken.
        gone.write_all(b"more").await.expect("a connection that ends in order");
    })
    .await;
}

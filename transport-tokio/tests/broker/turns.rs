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

/// What one has sent by halves is kept until the packet is whole, and not while it speaks of something else.
#[tokio::test]
async fn what_has_come_whole_is_not_kept_while_others_have_their_turn() {
    bounded(async {
        let broker = serve(Broker::builder().incoming_bytes(100_000)).await;
        let mut large = hello(&broker, b'l').await;
        let mut other = hello(&broker, b'o').await;
        let before = statistics(&broker).await.bytes_received as usize;
        // Both begin a packet of 90,004 bytes, and nearly as much is kept as may be.
        let begin = |len: usize| {
            [b"\x30\x90\xbf\x05\0\x05large".as_slice(), &vec![0_u8; len - 11]].concat()
        };
        large.write_all(&begin(89_000)).await.unwrap();
        other.write_all(&begin(10_000)).await.unwrap();
        until(&broker, |now| now.bytes_received as usize == before + 99_000).await;
        // Both are there before the broker, which runs on this thread, has its turn.
        let end = [[0; 1_004].as_slice(), &MESSAGE.repeat(SPEECH / 2)].concat();
        assert_eq!(large.try_write(&end).unwrap(), end.len());
        assert_eq!(other.try_write(&[0; 2_000]).unwrap(), 2_000);
        until(&broker, |now| now.packets_received as usize == 2 + 1 + SPEECH / 2).await;
        assert_eq!(statistics(&broker).await.connections, 2);
    })
    .await;
}

//! Frames as bytes, over a pipe, polled by hand: nothing here waits.

use std::task::Waker;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::*;

/// Enough for all that these tests leave unread.
const PIPE: usize = 1 << 20;

/// The client's end, and the raw bytes of the server's.
async fn pair(pipe: usize) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (near, far) = duplex(pipe);
    let options = WebSocketOptions { max_message_size: 300, ..WebSocketOptions::default() };
    let config = Some(options.config());
    let frames = WebSocketStream::from_raw_socket(near, Role::Client, config).await;
    (WebSocket { frames, unread: Bytes::new(), state: State::Open }, far)
}

/// A frame as servers send it, unmasked. `first` is the FIN bit and the operation code.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len();
    let mut frame = match u8::try_from(len) {
        Ok(len) if len < 126 => vec![first, len],
        _ => {
            let len = u16::try_from(len).unwrap().to_be_bytes();
            vec![first, 126, len[0], len[1]]
        }
    };
    frame.extend_from_slice(payload);
    frame
}

/// A frame's first byte and payload.
type Frame = (u8, Vec<u8>);

/// The client's frames, unmasked.
fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let (frame, rest) = split_frame(bytes).expect("a whole frame");
        frames.push(frame);
        bytes = rest;
    }
    frames
}

fn split_frame(bytes: &[u8]) -> Option<(Frame, &[u8])> {
    let (&[first, len], rest) = bytes.split_first_chunk()?;
    assert_eq!(len & 0x80, 0x80, "a client masks");
    let (len, rest) = match len & 0x7f {
        126 => rest
            .split_first_chunk()
            .map(|(len, rest)| (u64::from(u16::from_be_bytes(*len)), rest))?,
        127 => rest.split_first_chunk().map(|(len, rest)| (u64::from_be_bytes(*len), rest))?,
        len => (u64::from(len), rest),
    };
    let (mask, rest) = rest.split_first_chunk::<4>()?;
    let (payload, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    Some(((first, payload.collect()), rest))
}

/// Reads until there is nothing, in small portions. `Ok(true)` at the end of the stream.
async fn read(socket: &mut WebSocket<DuplexStream>, into: &mut Vec<u8>) -> io::Result<bool> {
    // A task that has polled much is told `Pending` whatever there is, until it has yielded.
    tokio::task::yield_now().await;
    let mut context = Context::from_waker(Waker::noop());
    loop {
        let mut buffer = [0; 7];
        let mut buffer = ReadBuf::new(&mut buffer);
        match Pin::new(&mut *socket).poll_read(&mut context, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Ok(true),
            Poll::Ready(Ok(())) => into.extend_from_slice(buffer.filled()),
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => return Ok(false),
        }
    }
}

/// What the server finds in the pipe now.
async fn written(far: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = vec![0; PIPE];
    let mut buffer = ReadBuf::new(&mut bytes);
    let mut context = Context::from_waker(Waker::noop());
    let _ = Pin::new(far).poll_read(&mut context, &mut buffer);
    buffer.filled().to_vec()
}

/// A packet in a frame, two in one, one in three with a ping between, an empty frame, a long one.
fn exchange() -> (Vec<u8>, Vec<u8>) {
    let long: Vec<u8> = (0..200).collect();
    let wire = [
        frame(0x82, b"\x20\x02\0\0"),
        frame(0x82, b"\xd0\0\x40\x02\0\x01"),
        frame(0x02, b"\x30"),
        frame(0x00, b"\x05\0\x01"),
        frame(0x89, b"still there?"),
        frame(0x80, b"ahi"),
        frame(0x82, b""),
        frame(0x82, &long),
    ];
    let bytes = [b"\x20\x02\0\0\xd0\0\x40\x02\0\x01\x30\x05\0\x01ahi".as_slice(), &long];
    (wire.concat(), bytes.concat())
}

#[tokio::test]
async fn frames_split_anywhere() {
    let (wire, bytes) = exchange();
    for split in 0..=wire.len() {
        let (mut socket, mut far) = pair(PIPE).await;
        let mut received = Vec::new();
        for part in [&wire[..split], &wire[split..]] {
            far.write_all(part).await.unwrap();
            assert!(!read(&mut socket, &mut received).await.unwrap());
        }
        assert_eq!(received, bytes, "split at {split}");
        let pong = (0x8a, b"still there?".to_vec());
        assert_eq!(frames(&written(&mut far).await), [pong], "split at {split}");
    }
}

#[tokio::test]
async fn frames_byte_by_byte() {
    let (wire, bytes) = exchange();
    let (mut socket, mut far) = pair(PIPE).await;
    let mut received = Vec::new();
    for byte in wire {
        far.write_u8(byte).await.unwrap();
        assert!(!read(&mut socket, &mut received).await.unwrap());
    }
    assert_eq!(received, bytes);
}

#[tokio::test]
async fn a_write_is_a_frame() {
    let (mut socket, mut far) = pair(PIPE).await;
    socket.write_all(b"\xc0\0").await.unwrap();
    let slices = [IoSlice::new(b"\x30\x05"), IoSlice::new(b""), IoSlice::new(b"\0\x01ahi")];
    assert_eq!(socket.write_vectored(&slices).await.unwrap(), 7);
    assert_eq!(socket.write(b"").await.unwrap(), 0);
    socket.flush().await.unwrap();
    let sent = [(0x82, b"\xc0\0".to_vec()), (0x82, b"\x30\x05\0\x01ahi".to_vec())];
    assert_eq!(frames(&written(&mut far).await), sent);
}

#[tokio::test]
async fn a_long_write_is_cut_into_frames() {
    let (mut socket, mut far) = pair(PIPE).await;
    let long = vec![7; FRAME + 1];
    assert_eq!(socket.write(&long).await.unwrap(), FRAME);
    let slices = [IoSlice::new(&long[..FRAME - 1]), IoSlice::new(b"ab")];
    assert_eq!(socket.write_vectored(&slices).await.unwrap(), FRAME);
    let sent = frames(&written(&mut far).await);
    assert_eq!(sent.iter().map(|(_, payload)| payload.len()).collect::<Vec<_>>(), [FRAME; 2]);
}

/// Who cannot write is told so, with at most one frame taken; flushing waits for it.
#[tokio::test]
async fn writing_waits_for_the_server() {
    let (mut socket, mut far) = pair(16).await;
    let mut context = Context::from_waker(Waker::noop());
    let first = Pin::new(&mut socket).poll_write(&mut context, &[1; 100]);
    assert!(matches!(first, Poll::Ready(Ok(100))));
    assert!(Pin::new(&mut socket).poll_write(&mut context, &[2; 100]).is_pending());
    assert!(Pin::new(&mut socket).poll_flush(&mut context).is_pending());

    let mut wire = Vec::new();
    let flushed = loop {
        wire.extend(written(&mut far).await);
        if let Poll::Ready(flushed) = Pin::new(&mut socket).poll_flush(&mut context) {
            break flushed;
        }
    };
    flushed.unwrap();
    wire.extend(written(&mut far).await);
    assert_eq!(frames(&wire), [(0x82, vec![1; 100])]);
}

/// A server that pings and does not read does not fill our memory, nor end the connection.
#[tokio::test]
async fn pings_without_end() {
    let (mut socket, mut far) = pair(4096).await;
    let mut received = Vec::new();
    let pings = 4 * 2 * FRAME / 100;
    for _ in 0..pings {
        far.write_all(&frame(0x89, &[9; 100])).await.unwrap();
        assert!(!read(&mut socket, &mut received).await.unwrap());
    }
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut socket).poll_write(&mut context, &[1; FRAME]).is_pending());

    let write = tokio::spawn(async move {
        socket.write_all(&[1; FRAME]).await.unwrap();
        socket.flush().await.unwrap();
    });
    let mut wire = Vec::new();
    far.read_to_end(&mut wire).await.unwrap();
    write.await.unwrap();
    let sent = frames(&wire);
    assert_eq!(sent.last(), Some(&(0x82, vec![1; FRAME])));
    // What the pipe held, what the client held, and the frame.
    assert!(sent.len() > 1 && wire.len() < 4096 + 2 * FRAME + 2 * FRAME, "{}", wire.len());
}

#[tokio::test]
async fn text_is_refused() {
    let (mut socket, mut far) = pair(PIPE).await;
    far.write_all(&[frame(0x82, b"\xd0\0"), frame(0x81, b"hello")].concat()).await.unwrap();
    let mut received = Vec::new();
    let error = read(&mut socket, &mut received).await.unwrap_err();
    assert_eq!((received.as_slice(), error.kind()), (&b"\xd0\0"[..], io::ErrorKind::InvalidData));
    // Nothing comes after it.
    assert!(read(&mut socket, &mut received).await.unwrap());
    let [(0x88, close)] = &frames(&written(&mut far).await)[..] else { panic!("no close frame") };
    assert_eq!(close[..2], 1003_u16.to_be_bytes());
}

#[tokio::test]
async fn too_long_a_message_is_refused() {
    for wire in [
        frame(0x82, &[0; 301]),
        [frame(0x02, &[0; 200]), frame(0x80, &[0; 101])].concat(),
        // Its length is enough.
        frame(0x82, &[0; 301])[..4].to_vec(),
    ] {
        let (mut socket, mut far) = pair(PIPE).await;
        far.write_all(&wire).await.unwrap();
        let error = read(&mut socket, &mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

/// The server closes: the bytes before it, the end, and the cause if there is one.
#[tokio::test]
async fn the_server_closes() {
    let reason = [&1008_u16.to_be_bytes()[..], b"go away"].concat();
    for (close, expected) in [
        (frame(0x88, b""), None),
        (frame(0x88, &1000_u16.to_be_bytes()), None),
        (frame(0x88, &reason), Some("the server closed the WebSocket: 1008 go away")),
    ] {
        let (mut socket, mut far) = pair(PIPE).await;
        far.write_all(&[frame(0x82, b"\xd0\0"), close].concat()).await.unwrap();
        let mut received = Vec::new();
        let end = read(&mut socket, &mut received).await;
        assert_eq!(received, b"\xd0\0");
        match expected {
            None => assert!(end.unwrap()),
            Some(text) => assert_eq!(end.unwrap_err().to_string(), text),
        }
        let answer = frames(&written(&mut far).await);
        assert!(matches!(answer[..], [(0x88, _)]), "{answer:?}");
        let error = socket.write(b"\xc0\0").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}

/// A connection cut without a close frame ends as a TCP connection would, in a frame or between.
#[tokio::test]
async fn the_connection_is_cut() {
    let (wire, _) = exchange();
    for cut in 0..wire.len() {
        let (mut socket, mut far) = pair(PIPE).await;
        far.write_all(&wire[..cut]).await.unwrap();
        drop(far);
        // The answer to the ping may have failed instead.
        match read(&mut socket, &mut Vec::new()).await {
            Ok(end) => assert!(end),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
        }
    }
}

#[tokio::test]
async fn shutting_down_waits_for_the_server() {
    let (mut socket, mut far) = pair(PIPE).await;
    socket.write_all(b"\xe0\0").await.unwrap();
    let mut context = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut socket).poll_shutdown(&mut context).is_pending());
    let sent = frames(&written(&mut far).await);
    assert_eq!(sent, [(0x82, b"\xe0\0".to_vec()), (0x88, Vec::new())]);

    // Something was on its way; then the answer.
    far.write_all(&frame(0x82, b"\xd0\0")).await.unwrap();
    assert!(Pin::new(&mut socket).poll_shutdown(&mut context).is_pending());
    far.write_all(&frame(0x88, b"")).await.unwrap();
    socket.shutdown().await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "the end of the stream");
}

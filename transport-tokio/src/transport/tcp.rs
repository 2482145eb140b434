//! TCP, to whichever address of the host answers.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address may keep the next one waiting (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// A connection whose small segments wait for nothing.
///
/// MQTT packets are small and answered. On our side `TCP_NODELAY` sends them at once. A server that does not
/// set it sends the second only when we have acknowledged the first, which takes 40 ms unless there is
/// something to send; so on Linux a short read, which is what that looks like, is acknowledged at once.
#[derive(Debug)]
pub(super) struct Tcp(TcpStream);

/// The longest read, in bytes, that is taken for a lone packet.
#[cfg(any(target_os = "linux", target_os = "android"))]
const SHORT: usize = 512;

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buffer))?;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if (1..=SHORT).contains(&(buffer.filled().len() - before)) {
            let _ = self.0.set_quickack(true); // it is only a hint
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Connects to `host`, a name or an address without brackets.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<Tcp> {
    let stream = race(alternate(lookup_host((host, port)).await?)).await?;
    stream.set_nodelay(true)?;
    Ok(Tcp(stream))
}

/// Alternates between the address families, beginning with the resolver's favourite: the whole of IPv6
/// may be unreachable.
fn alternate(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (favourite, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut other = other.into_iter();
    let mut order: VecDeque<_> =
        favourite.into_iter().flat_map(|address| [Some(address), other.next()]).flatten().collect();
    order.extend(other);
    order
}

/// Tries addresses in order. The next starts when one has failed or had its head start; the first
/// connection wins. If none does, the last failure is told.
async fn race(mut addresses: VecDeque<SocketAddr>) -> io::Result<TcpStream> {
    // Dropping the set gives up what is under way.
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.spawn(TcpStream::connect(address));
        }
        let ended = if addresses.is_empty() {
            attempts.join_next().await
        } else {
            match timeout(HEAD_START, attempts.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(error))) => failure = error,
            Some(Err(error)) => failure = error.into(),
            None => return Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// An address that is taken, but not listened at.
    fn refusing() -> (TcpSocket, SocketAddr) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn nothing_waits_to_fill_a_segment() {
        let (_listener, address) = listener().await;
        let stream = connect("127.0.0.1", address.port()).await.unwrap();
        assert!(stream.0.nodelay().unwrap());
    }

    #[test]
    fn families_alternate() {
        let order = |addresses: &[&str]| -> Vec<String> {
            let addresses = addresses.iter().map(|text| text.parse().unwrap());
            alternate(addresses).iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "127.0.0.1:1", "127.0.0.2:1"]),
            ["[::1]:1", "127.0.0.1:1", "[::2]:1", "127.0.0.2:1", "[::3]:1"]
        );
        assert_eq!(
            order(&["127.0.0.1:1", "[::1]:1", "[::2]:1"]),
            ["127.0.0.1:1", "[::1]:1", "[::2]:1"]
        );
        assert!(order(&[]).is_empty());
    }

    #[tokio::test]
    async fn the_next_address_after_a_refusal() {
        let (_listener, open) = listener().await;
        let (_taken, refusing) = refusing();
        let stream = race([refusing, open].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }

    #[tokio::test]
    async fn every_address_refuses() {
        let (_taken, refusing) = refusing();
        let error = race([refusing, refusing].into()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(VecDeque::new()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// An address that says nothing, as behind a firewall: on Linux a listener whose queue is full.
    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn the_next_address_after_silence() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let silent = socket.listen(1).unwrap();
        let address = silent.local_addr().unwrap();
        // Attempts that stay pending take whatever place becomes free.
        let mut held = JoinSet::new();
        for _ in 0..16 {
            held.spawn(TcpStream::connect(address));
            let _ = timeout(HEAD_START, std::future::pending::<()>()).await;
        }

        let (_listener, open) = listener().await;
        let stream = race([address, open].into()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
    }
}

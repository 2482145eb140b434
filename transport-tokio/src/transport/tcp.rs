//! TCP, to whichever address of the host answers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an address may keep the next one waiting (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connects to `host`, a name or an address without brackets.
pub(super) async fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let stream = race(alternate(lookup_host((host, port)).await?)).await?;
    // MQTT packets are small and answered: waiting to fill a segment costs a delayed acknowledgement each.
    stream.set_nodelay(true)?;
    Ok(stream)
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

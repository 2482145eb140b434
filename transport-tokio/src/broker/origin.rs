//! Where connections come from.

use std::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    sync::Arc,
};

/// Where a connection comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    /// The other end, if that is on a network.
    pub(super) address: Option<SocketAddr>,
    /// The URL that it has come by; none within the process.
    pub(super) listener: Option<Arc<Arc<str>>>,
    /// The certificates that the client has shown, its own first.
    pub(super) certificates: Vec<Vec<u8>>,
}

/// An address of a network, if there is one: as few bytes as most have need of.
#[derive(Clone, Debug)]
pub(super) enum Address {
    None,
    V4(SocketAddrV4),
    V6(Ipv6Addr, u16),
    /// One that is an interface's.
    Scoped(Box<SocketAddrV6>),
}

impl Address {
    pub(super) fn new(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::None,
            Some(SocketAddr::V4(address)) => Self::V4(address),
            Some(SocketAddr::V6(address)) if (address.flowinfo(), address.scope_id()) == (0, 0) => {
                Self::V6(*address.ip(), address.port())
            }
            Some(SocketAddr::V6(address)) => Self::Scoped(Box::new(address)),
        }
    }

    pub(super) fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::V4(address) => Some(SocketAddr::V4(*address)),
            Self::V6(ip, port) => Some(SocketAddr::from((*ip, *port))),
            Self::Scoped(address) => Some(SocketAddr::V6(**address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_what_it_was() {
        assert!(size_of::<Address>() <= 24, "{} bytes", size_of::<Address>());
        assert_eq!(Address::new(None).get(), None);
        for address in ["127.0.0.1:1883", "[::1]:1883", "[fe80::1%2]:1883"] {
            let address = address.parse().ok();
            assert!(address.is_some());
            assert_eq!(Address::new(address).get(), address);
        }
        let flowing = Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 1883, 7, 0)));
        assert_eq!(Address::new(flowing).get(), flowing);
    }
}

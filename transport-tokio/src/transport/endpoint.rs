//! Server addresses as URLs.
//!
//! Parsed by hand: the crates that know every URL bring the tables of internationalized names with them.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// What a connection to an [`Endpoint`] runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scheme {
    /// TCP.
    Mqtt,
    /// TLS over TCP. Needs the cargo feature `tls`.
    Mqtts,
    /// WebSocket over TCP. Needs the cargo feature `websocket`.
    Ws,
    /// WebSocket over TLS. Needs the cargo features `tls` and `websocket`.
    Wss,
    /// A Unix domain socket.
    Unix,
}

impl Scheme {
    fn parse(name: &str) -> Result<Self, EndpointError> {
        let scheme = match name.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => Self::Mqtt,
            "mqtts" | "ssl" | "tls" => Self::Mqtts,
            "ws" => Self::Ws,
            "wss" => Self::Wss,
            "unix" => Self::Unix,
            _ => return Err(EndpointError::UnknownScheme),
        };
        if scheme == Self::Unix && cfg!(not(unix)) {
            return Err(EndpointError::Platform);
        }
        if scheme.encrypts() && cfg!(not(feature = "tls")) {
            return Err(EndpointError::Feature("tls"));
        }
        if scheme.frames() && cfg!(not(feature = "websocket")) {
            return Err(EndpointError::Feature("websocket"));
        }
        Ok(scheme)
    }

    /// As it is written in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::Unix => "unix",
        }
    }

    /// The port that a URL without one means, 0 for Unix sockets.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Mqtt => 1883,
            Self::Mqtts => 8883,
            Self::Ws => 80,
            Self::Wss => 443,
            Self::Unix => 0,
        }
    }

    fn encrypts(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    fn frames(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// A server address, parsed from a URL: `mqtt://broker.example`, `wss://user:password@[2001:db8::1]:8443/mqtt`,
/// `unix:///run/broker.sock`. The [module](super) lists the schemes.
///
/// - User name and password are for MQTT, not for HTTP. In them and in the path of a Unix socket, `%2F` and
///   the like stand for the byte they name; `:`, `@`, `/`, `?`, `#` and `%` themselves are written so.
/// - An internationalized host name is written in its ASCII form (`xn--...`).
/// - The path of a WebSocket, with its query, is sent as written. Without one it is `/mqtt`.
///
/// `Display` and `Debug` show neither the password nor a query, which may be a signature.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
    user_name: Option<String>,
    password: Option<Vec<u8>>,
}

impl Endpoint {
    /// What a connection to it runs over.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host's name or address, without brackets. Empty for Unix sockets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port; 0 for Unix sockets.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and query of a WebSocket, the path of a Unix socket; otherwise empty.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The user name in the URL.
    pub fn user_name(&self) -> Option<&str> {
        self.user_name.as_deref()
    }

    /// The password in the URL.
    pub fn password(&self) -> Option<&[u8]> {
        self.password.as_deref()
    }

    /// Host and port as URLs and HTTP have them: with brackets, without the scheme's own port.
    fn authority(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            if self.host.contains(':') {
                write!(f, "[{}]", self.host)?;
            } else {
                f.write_str(&self.host)?;
            }
            if self.port != self.scheme.default_port() {
                write!(f, ":{}", self.port)?;
            }
            Ok(())
        })
    }

    /// The whole URL of a WebSocket, less user name and password.
    #[cfg(feature = "websocket")]
    pub(super) fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.authority(), self.path)
    }

    fn parse_user(&mut self, user: &str) -> Result<(), EndpointError> {
        let (name, password) = match user.split_once(':') {
            Some((name, password)) => (name, Some(password)),
            None => (user, None),
        };
        let name = decode_text(name)?;
        self.user_name = (!name.is_empty()).then_some(name);
        self.password = password.map(decode).transpose()?;
        Ok(())
    }

    fn parse_host(&mut self, text: &str) -> Result<(), EndpointError> {
        let (host, port) = if let Some(text) = text.strip_prefix('[') {
            let (address, port) = text.split_once(']').ok_or(EndpointError::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| EndpointError::Host)?;
            (address, port)
        } else {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            if !name.bytes().all(known) {
                return Err(EndpointError::Host);
            }
            (name, port)
        };
        if host.is_empty() {
            return Err(EndpointError::NoHost);
        }
        host.clone_into(&mut self.host);
        if !port.is_empty() {
            // `parse` would take a sign.
            let digits = port.strip_prefix(':').filter(|port| !port.starts_with('+'));
            let port = digits.and_then(|port| port.parse().ok());
            self.port = port.ok_or(EndpointError::Port)?;
        }
        Ok(())
    }

    fn parse_path(&mut self, text: &str) -> Result<(), EndpointError> {
        self.path = match self.scheme {
            Scheme::Ws | Scheme::Wss => {
                decode(text)?;
                let allowed =
                    |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
                if !text.bytes().all(allowed) {
                    return Err(EndpointError::Path);
                }
                if text.starts_with('/') { text.to_owned() } else { format!("/mqtt{text}") }
            }
            Scheme::Unix if text.len() > 1 && !text.contains(['?', '#']) => decode_text(text)?,
            Scheme::Mqtt | Scheme::Mqtts if text.is_empty() || text == "/" => String::new(),
            _ => return Err(EndpointError::Path),
        };
        Ok(())
    }

    /// An address to listen at: as one to connect to, or with port 0 for any that is free.
    ///
    /// ```
    /// # use transport_tokio::transport::Endpoint;
    /// assert_eq!(Endpoint::to_listen("mqtt://127.0.0.1:0")?.port(), 0);
    /// assert!("mqtt://127.0.0.1:0".parse::<Endpoint>().is_err());
    /// # Ok::<(), transport_tokio::transport::EndpointError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`EndpointError`] if it is none.
    pub fn to_listen(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointError::NoScheme)?;
        let scheme = Scheme::parse(scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let mut endpoint = Self {
            scheme,
            host: String::new(),
            port: scheme.default_port(),
            path: String::new(),
            user_name: None,
            password: None,
        };
        let host = match authority.rsplit_once('@') {
            Some((user, host)) => {
                endpoint.parse_user(user)?;
                host
            }
            None => authority,
        };
        match scheme {
            Scheme::Unix if host.is_empty() => {}
            Scheme::Unix => return Err(EndpointError::Path),
            _ => endpoint.parse_host(host)?,
        }
        endpoint.parse_path(path)?;
        Ok(endpoint)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(url: &str) -> Result<Self, EndpointError> {
        let endpoint = Self::to_listen(url)?;
        match endpoint.port {
            0 if endpoint.scheme != Scheme::Unix => Err(EndpointError::Port),
            _ => Ok(endpoint),
        }
    }
}

impl TryFrom<&str> for Endpoint {
    type Error = EndpointError;

    fn try_from(url: &str) -> Result<Self, EndpointError> {
        url.parse()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = EndpointError;

    fn try_from(url: String) -> Result<Self, EndpointError> {
        url.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match self.scheme {
            Scheme::Unix => &self.path,
            _ => self.path.split('?').next().unwrap_or_default(),
        };
        write!(f, "{}://{}{path}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// Why a URL is not an [`Endpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointError {
    /// It does not begin with a scheme.
    NoScheme,
    /// None of the schemes known.
    UnknownScheme,
    /// The scheme needs a cargo feature of this crate, named here, that is off.
    Feature(&'static str),
    /// The scheme is not for this platform.
    Platform,
    /// The host is missing.
    NoHost,
    /// The host is neither a name in ASCII nor an address; an IPv6 address is in brackets.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// There is a path where there can be none, a path with something in it that has to be escaped, or
    /// the path of a Unix socket is missing or not absolute.
    Path,
    /// A `%` is not followed by two hexadecimal digits.
    Escape,
    /// The user name, or the path of a Unix socket, is not UTF-8 once unescaped.
    Utf8,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "no scheme: write mqtt://host",
            Self::UnknownScheme => "unknown scheme: known are mqtt, mqtts, ws, wss and unix",
            Self::Feature(feature) => {
                return write!(f, "this scheme needs the cargo feature `{feature}`");
            }
            Self::Platform => "no Unix sockets on this platform",
            Self::NoHost => "no host",
            Self::Host => {
                "bad host: not a name in ASCII, an IPv4 address or an IPv6 address in brackets"
            }
            Self::Port => "bad port: not a number from 1 to 65535",
            Self::Path => {
                "bad path: mqtt:// and mqtts:// have none, unix:/// an absolute one, and special \
                 characters are escaped"
            }
            Self::Escape => "bad escape: % without two hexadecimal digits",
            Self::Utf8 => "the user name or path is not UTF-8",
        })
    }
}

impl std::error::Error for EndpointError {}

fn decode(text: &str) -> Result<Vec<u8>, EndpointError> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            let escaped =
                digit().zip(digit()).and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
            escaped.ok_or(EndpointError::Escape)?
        } else {
            byte
        });
    }
    Ok(decoded)
}

fn decode_text(text: &str) -> Result<String, EndpointError> {
    String::from_utf8(decode(text)?).map_err(|_| EndpointError::Utf8)
}

//! Reason codes, one set for every packet and both protocol versions.

use crate::wire::PacketType;

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal: $($packet:ident)|+;)+) => {
        /// The outcome of an operation, as one byte in the packet that answers it.
        ///
        /// Codes below 0x80 are successes. MQTT 3.1.1's CONNACK return codes and SUBACK failure
        /// are mapped to these, so that an application sees one set.
        ///
        /// ```
        /// use mqtt_core::ReasonCode;
        ///
        /// assert_eq!(ReasonCode::from_u8(0x97), Some(ReasonCode::QuotaExceeded));
        /// assert!(ReasonCode::QuotaExceeded.is_error());
        /// assert_eq!(ReasonCode::from_u8(0x7f), None);
        /// ```
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$doc])* $name = $code,)+
        }

        impl ReasonCode {
            /// The reason code with this value, if the specification has one.
            pub const fn from_u8(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Whether `packet` may carry this code: [MQTT-3.2.2-8], [MQTT-3.4.2-1],
            /// [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2],
            /// [MQTT-3.14.2-1], [MQTT-3.15.2-1].
            pub const fn is_legal_in(self, packet: PacketType) -> bool {
                let packets = match self {
                    $(Self::$name => $(PacketType::$packet.bit())|+,)+
                };
                packets & packet.bit() != 0
            }
        }
    };
}

reason_codes! {
    /// Done. Also *normal disconnection* in DISCONNECT and *granted QoS 0* in SUBACK.
    #[default]
    Success = 0x00: ConnAck | PubAck | PubRec | PubRel | PubComp | SubAck | UnsubAck | Disconnect | Auth;
    /// The subscription was accepted at QoS 1.
    GrantedQoS1 = 0x01: SubAck;
    /// The subscription was accepted at QoS 2.
    GrantedQoS2 = 0x02: SubAck;
    /// The client leaves and wants its Will Message published.
    DisconnectWithWillMessage = 0x04: Disconnect;
    /// The message was accepted; nobody subscribes to its topic.
    NoMatchingSubscribers = 0x10: PubAck | PubRec;
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11: UnsubAck;
    /// Another step of the authentication exchange follows.
    ContinueAuthentication = 0x18: Auth;
    /// The client starts a new authentication on the open connection.
    ReAuthenticate = 0x19: Auth;
    /// No reason is told.
    UnspecifiedError = 0x80: ConnAck | PubAck | PubRec | SubAck | UnsubAck | Disconnect;
    /// A packet could not be parsed.
    MalformedPacket = 0x81: ConnAck | Disconnect;
    /// A packet was well formed but not allowed there and then.
    ProtocolError = 0x82: ConnAck | Disconnect;
    /// Valid, but this receiver does not accept it.
    ImplementationSpecificError = 0x83: ConnAck | PubAck | PubRec | SubAck | UnsubAck | Disconnect;
    /// The server does not speak the requested protocol version. 3.1.1: return code 1.
    UnsupportedProtocolVersion = 0x84: ConnAck;
    /// The client identifier is not accepted. 3.1.1: return code 2.
    ClientIdentifierNotValid = 0x85: ConnAck;
    /// User name or password are wrong. 3.1.1: return code 4.
    BadUserNameOrPassword = 0x86: ConnAck;
    /// Not allowed. 3.1.1: return code 5.
    NotAuthorized = 0x87: ConnAck | PubAck | PubRec | SubAck | UnsubAck | Disconnect;
    /// The server cannot serve now. 3.1.1: return code 3.
    ServerUnavailable = 0x88: ConnAck;
    /// The server is busy; try again later.
    ServerBusy = 0x89: ConnAck | Disconnect;
    /// The client has been banned.
    Banned = 0x8a: ConnAck;
    /// The server is shutting down.
    ServerShuttingDown = 0x8b: Disconnect;
    /// The authentication method is not supported, or not the current one.
    BadAuthenticationMethod = 0x8c: ConnAck | Disconnect;
    /// Nothing was received for one and a half times the keep alive.
    KeepAliveTimeout = 0x8d: Disconnect;
    /// Another connection uses the same client identifier.
    SessionTakenOver = 0x8e: Disconnect;
    /// The topic filter is well formed but not accepted.
    TopicFilterInvalid = 0x8f: SubAck | UnsubAck | Disconnect;
    /// The topic name is well formed but not accepted.
    TopicNameInvalid = 0x90: ConnAck | PubAck | PubRec | Disconnect;
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91: PubAck | PubRec | SubAck | UnsubAck;
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92: PubRel | PubComp;
    /// More than Receive Maximum publishes were in flight.
    ReceiveMaximumExceeded = 0x93: Disconnect;
    /// The topic alias is 0 or above the maximum, or was never set.
    TopicAliasInvalid = 0x94: Disconnect;
    /// The packet is larger than the receiver's Maximum Packet Size.
    PacketTooLarge = 0x95: ConnAck | Disconnect;
    /// Messages come too fast.
    MessageRateTooHigh = 0x96: Disconnect;
    /// A limit set by the implementation or an administrator was reached.
    QuotaExceeded = 0x97: ConnAck | PubAck | PubRec | SubAck | Disconnect;
    /// An administrator closed the connection.
    AdministrativeAction = 0x98: Disconnect;
    /// The payload does not match the Payload Format Indicator.
    PayloadFormatInvalid = 0x99: ConnAck | PubAck | PubRec | Disconnect;
    /// The server does not keep retained messages.
    RetainNotSupported = 0x9a: ConnAck | Disconnect;
    /// The QoS is higher than the server's Maximum QoS.
    QoSNotSupported = 0x9b: ConnAck | Disconnect;
    /// Use another server for now; see Server Reference.
    UseAnotherServer = 0x9c: ConnAck | Disconnect;
    /// The server has moved for good; see Server Reference.
    ServerMoved = 0x9d: ConnAck | Disconnect;
    /// The server does not support shared subscriptions.
    SharedSubscriptionsNotSupported = 0x9e: SubAck | Disconnect;
    /// Connections are opened too fast.
    ConnectionRateExceeded = 0x9f: ConnAck | Disconnect;
    /// The connection has lasted as long as it was allowed to.
    MaximumConnectTime = 0xa0: Disconnect;
    /// The server does not support subscription identifiers.
    SubscriptionIdentifiersNotSupported = 0xa1: SubAck | Disconnect;
    /// The server does not support wildcards in subscriptions.
    WildcardSubscriptionsNotSupported = 0xa2: SubAck | Disconnect;
}

impl ReasonCode {
    /// The code as the byte on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether the code tells of a failure (0x80 and above).
    pub const fn is_error(self) -> bool {
        self.as_u8() >= 0x80
    }

    /// The code for one of MQTT 3.1.1's CONNACK return codes.
    pub(crate) const fn from_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }

    /// The CONNACK return code for this code, `None` where 3.1.1 has none [MQTT-3.2.2-6].
    pub(crate) const fn as_return_code(self) -> Option<u8> {
        Some(match self {
            Self::Success => 0,
            Self::UnsupportedProtocolVersion => 1,
            Self::ClientIdentifierNotValid => 2,
            Self::ServerUnavailable | Self::ServerBusy | Self::QuotaExceeded => 3,
            Self::BadUserNameOrPassword => 4,
            Self::NotAuthorized | Self::Banned => 5,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_its_byte() {
        let codes = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
        assert_eq!(codes.clone().count(), 43);
        assert!(codes.into_iter().all(|code| ReasonCode::from_u8(code.as_u8()) == Some(code)));
    }

    #[test]
    fn legality_follows_the_packet() {
        assert!(ReasonCode::PacketIdentifierNotFound.is_legal_in(PacketType::PubRel));
        assert!(!ReasonCode::PacketIdentifierNotFound.is_legal_in(PacketType::PubAck));
        assert!(ReasonCode::GrantedQoS2.is_legal_in(PacketType::SubAck));
        assert!(!ReasonCode::GrantedQoS2.is_legal_in(PacketType::UnsubAck));
        assert!(ReasonCode::Banned.is_legal_in(PacketType::ConnAck));
        assert!(!ReasonCode::Banned.is_legal_in(PacketType::Disconnect));
    }

    #[test]
    fn return_codes_map_both_ways() {
        for code in 0..=5 {
            let reason = ReasonCode::from_return_code(code).map(ReasonCode::as_return_code);
            assert_eq!(reason, Some(Some(code)));
        }
        assert_eq!(ReasonCode::from_return_code(6), None);
        assert_eq!(ReasonCode::ServerMoved.as_return_code(), None);
    }
}

//! DISCONNECT and AUTH: a reason and properties.

use super::{
    DecodeError, Encode, EncodeError, PacketType, Properties, Version, Writer,
    ack::{
        reason_and_properties, reason_and_properties_len, reason_code, write_reason_and_properties,
    },
    leaf,
    properties::{self, Context},
};
use crate::reason::ReasonCode;

/// The last packet of a connection, and why.
///
/// ```
/// use mqtt_core::{Disconnect, ReasonCode, wire::Packet, Version};
///
/// let disconnect = Disconnect::from(ReasonCode::DisconnectWithWillMessage);
/// assert_eq!(Packet::Disconnect(disconnect).encoded_len(Version::V5), Ok(3));
/// # #[cfg(feature = "v3")]
/// assert!(Packet::Disconnect(disconnect).encoded_len(Version::V3_1_1).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Disconnect<'a> {
    /// Why; always normal before 5.0.
    pub reason: ReasonCode,
    /// 5.0 only.
    pub properties: Properties<'a>,
}

impl From<ReasonCode> for Disconnect<'_> {
    fn from(reason: ReasonCode) -> Self {
        Self { reason, properties: Properties::EMPTY }
    }
}

impl<'a> Disconnect<'a> {
    pub(crate) fn read(version: Version, body: &'a [u8]) -> Result<Self, DecodeError> {
        if !version.is_v5() && !body.is_empty() {
            return Err(DecodeError::TrailingBytes);
        }
        let (reason, properties) =
            leaf::complete(reason_and_properties(body, PacketType::Disconnect))?;
        Ok(Self { reason, properties })
    }
}

impl Encode for Disconnect<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Disconnect.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        reason_and_properties_len(version, PacketType::Disconnect, self.reason, self.properties)
    }

    fn write(&self, _: Version, to: &mut Writer<'_>) {
        write_reason_and_properties(self.reason, self.properties, to);
    }
}

/// One step of enhanced authentication; 5.0 only.
///
/// The properties must have the authentication method that CONNECT had [MQTT-4.12.0-5].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Auth<'a> {
    /// Success (from a server), continue, or re-authenticate (from a client).
    pub reason: ReasonCode,
    /// The method, the data, and perhaps a reason string and user properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    pub(crate) fn read(version: Version, body: &'a [u8]) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            return Err(DecodeError::PacketType);
        }
        if body.is_empty() {
            return Ok(Self::default());
        }
        // Unlike elsewhere, the properties cannot be left out alone (section 3.15.2.1).
        let parsed = reason_code(body, PacketType::Auth).and_then(|(input, reason)| {
            let (input, properties) = properties::read(input, Context::Auth)?;
            Ok((input, Self { reason, properties }))
        });
        let auth = leaf::complete(parsed)?;
        if auth.is_complete() { Ok(auth) } else { Err(DecodeError::AuthenticationMethod) }
    }

    /// Only a success that says nothing more may leave out the method.
    fn is_complete(&self) -> bool {
        self.reason == ReasonCode::Success && self.properties.is_empty()
            || self.properties.authentication_method().is_some()
    }
}

impl Encode for Auth<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::Auth.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        if !version.is_v5() {
            return Err(EncodeError::Version);
        }
        if !self.is_complete() {
            return Err(EncodeError::Property);
        }
        reason_and_properties_len(version, PacketType::Auth, self.reason, self.properties)
    }

    fn write(&self, _: Version, to: &mut Writer<'_>) {
        write_reason_and_properties(self.reason, self.properties, to);
    }
}

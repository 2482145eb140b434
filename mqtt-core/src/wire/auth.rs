//! DISCONNECT and AUTH: a reason and properties.

use super::{
    DecodeError, Encode, EncodeError, List, PacketType, Properties, Text, UserProperty, Version,
    Writer,
    ack::{
        reason_and_properties, reason_and_properties_len, reason_code, write_reason_and_properties,
    },
    connect::{Authentication, ConnAck},
    leaf,
    properties::{self, Context, Field, Measure, id},
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
        Ok(Self { reason, properties: Properties::encoded(properties) })
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
            Ok((input, Self { reason, properties: Properties::encoded(properties) }))
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

/// What a server says besides the reason in a CONNACK, an AUTH or a DISCONNECT; 5.0 only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Answer<'a> {
    /// The server's next or last step of enhanced authentication, in CONNACK and AUTH to a client that
    /// has named a method.
    pub authentication_data: Option<&'a [u8]>,
    /// An explanation for people.
    pub reason_string: Option<Text<'a>>,
    /// Another server to use, for a client that is not let in or is sent away.
    pub server_reference: Option<Text<'a>>,
    /// What else is said.
    pub user_properties: List<'a, UserProperty<'a>>,
}

impl<'a> Answer<'a> {
    /// Without what only explains.
    pub(crate) const fn brief(self) -> Self {
        Self { reason_string: None, user_properties: List::EMPTY, ..self }
    }

    /// This, in a CONNACK that says the rest.
    pub(crate) fn complete(self, ack: &ConnAck<'a>) -> ConnAck<'a> {
        let step =
            |authentication| Authentication { data: self.authentication_data, ..authentication };
        ConnAck {
            authentication: ack.authentication.map(step),
            reason_string: self.reason_string,
            server_reference: self.server_reference.filter(|_| ack.reason.is_error()),
            user_properties: self.user_properties,
            ..*ack
        }
    }
}

/// An AUTH, or a DISCONNECT, that says this.
#[derive(Clone, Copy)]
pub(crate) struct Reply<'a> {
    packet_type: PacketType,
    pub(crate) reason: ReasonCode,
    method: Option<Text<'a>>,
    answer: Answer<'a>,
}

impl<'a> Reply<'a> {
    pub(crate) fn auth(reason: ReasonCode, method: Text<'a>, answer: &Answer<'a>) -> Self {
        let answer = Answer { server_reference: None, ..*answer };
        Self { packet_type: PacketType::Auth, reason, method: Some(method), answer }
    }

    pub(crate) fn disconnect(reason: ReasonCode, answer: &Answer<'a>) -> Self {
        let answer = Answer { authentication_data: None, ..*answer };
        Self { packet_type: PacketType::Disconnect, reason, method: None, answer }
    }

    /// Without what only explains.
    pub(crate) const fn brief(self) -> Self {
        Self { answer: self.answer.brief(), ..self }
    }

    fn each_field(&self, each: &mut dyn FnMut(&Field<'a>)) {
        let Answer { authentication_data, reason_string, server_reference, user_properties } =
            self.answer;
        let texts = [
            (id::AuthenticationMethod, self.method),
            (id::ReasonString, reason_string),
            (id::ServerReference, server_reference),
        ];
        properties::each_given(&texts, each);
        properties::each_given(&[(id::AuthenticationData, authentication_data)], each);
        properties::each_user_property(user_properties, each);
    }
}

impl Encode for Reply<'_> {
    fn first_byte(&self) -> u8 {
        self.packet_type.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        if !version.is_v5() {
            return Err(EncodeError::Version);
        }
        let mut measure = Measure::new(Context::of(self.packet_type));
        self.each_field(&mut |field| measure.add(field));
        Ok(1 + measure.len_with_prefix()?)
    }

    fn write(&self, _: Version, to: &mut Writer<'_>) {
        let mut len = 0;
        self.each_field(&mut |field| len += field.encoded_len());
        to.u8(self.reason.as_u8());
        to.varint(len as u32);
        self.each_field(&mut |field| field.write(to));
    }
}

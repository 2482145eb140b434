//! CONNECT and CONNACK: every negotiated value a plain field.

use super::{
    DecodeError, Encode, EncodeError, List, PacketType, Properties, QoS, Text, UserProperty,
    Version, Writer,
    ack::reason_code,
    leaf::{self, Parsed, be_u8, be_u16},
    properties::{self, Context, Field, Measure, id},
};
use crate::{reason::ReasonCode, topic::Topic};

/// What a client asks for when it connects.
///
/// The defaults ask for a new session that ends with the connection, a keep alive of a minute, and
/// no limits.
///
/// ```
/// use mqtt_core::{Connect, Text};
///
/// let connect = Connect {
///     client_id: Text::new("sensor-7")?,
///     keep_alive: 30,
///     ..Connect::default()
/// };
/// assert!(connect.clean_start);
/// # Ok::<(), mqtt_core::TextError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Connect<'a> {
    /// What identifies the session. If empty, the server chooses one (and 3.1.1 requires
    /// `clean_start` [MQTT-3.1.3-7]).
    pub client_id: Text<'a>,
    /// Begin a new session and end the old one, if there is one (3.1.1: Clean Session).
    pub clean_start: bool,
    /// Seconds between packets at the most; 0 is no keep alive.
    pub keep_alive: u16,
    /// What the server publishes when the connection is lost.
    pub will: Option<Will<'a>>,
    /// The user, if the server asks for one.
    pub user_name: Option<Text<'a>>,
    /// The user's password, at most 65,535 bytes.
    pub password: Option<&'a [u8]>,
    /// Seconds that the session outlives the connection; `u32::MAX` is for ever. 5.0 only.
    pub session_expiry_interval: u32,
    /// How many QoS 1 and 2 messages may be on their way to the client unacknowledged, at least 1.
    /// Advertised on 5.0, enforced on both.
    pub receive_maximum: u16,
    /// The largest packet the client accepts, in bytes, at least 1. Advertised on 5.0, enforced on
    /// both.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias the client accepts. Ignored before 5.0.
    pub topic_alias_maximum: u16,
    /// Whether the server should return Response Information. 5.0 only.
    pub request_response_information: bool,
    /// Whether the server may explain failures. Ignored before 5.0.
    pub request_problem_information: bool,
    /// Enhanced authentication. 5.0 only.
    pub authentication: Option<Authentication<'a>>,
    /// 5.0 only.
    pub user_properties: List<'a, UserProperty<'a>>,
}

/// A method of enhanced authentication, and its first step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Authentication<'a> {
    /// The method's name.
    pub method: Text<'a>,
    /// The step's data, at most 65,535 bytes.
    pub data: Option<&'a [u8]>,
}

/// The message a server publishes for a client that is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: Topic<'a>,
    /// The message, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// How hard the server tries.
    pub qos: QoS,
    /// Whether the server keeps it for future subscribers.
    pub retain: bool,
    /// Those of a PUBLISH, and the Will Delay Interval. 5.0 only.
    pub properties: Properties<'a>,
}

impl Default for Connect<'_> {
    fn default() -> Self {
        Self {
            client_id: Text::default(),
            clean_start: true,
            keep_alive: 60,
            will: None,
            user_name: None,
            password: None,
            session_expiry_interval: 0,
            receive_maximum: u16::MAX,
            maximum_packet_size: None,
            topic_alias_maximum: 0,
            request_response_information: false,
            request_problem_information: true,
            authentication: None,
            user_properties: List::EMPTY,
        }
    }
}

const USER_NAME: u8 = 1 << 7;
const PASSWORD: u8 = 1 << 6;
const WILL_RETAIN: u8 = 1 << 5;
const WILL: u8 = 1 << 2;
const CLEAN_START: u8 = 1 << 1;

impl<'a> Connect<'a> {
    pub(crate) fn read(body: &'a [u8]) -> Result<(Version, Self), DecodeError> {
        leaf::complete(Self::parse(body))
    }

    fn parse(input: &'a [u8]) -> Parsed<'a, (Version, Self)> {
        let (input, version) = version(input)?;
        let (input, flags) = be_u8(input)?;
        check_flags(version, flags).map_err(nom::Err::Error)?;
        let (input, keep_alive) = be_u16(input)?;
        let mut connect =
            Self { clean_start: flags & CLEAN_START != 0, keep_alive, ..Self::default() };
        let (mut input, properties) = optional_properties(version, input, Context::Connect)?;
        connect.accept(properties).map_err(nom::Err::Error)?;
        (input, connect.client_id) = leaf::string(input)?;
        if flags & WILL != 0 {
            let will;
            (input, will) = Will::parse(version, flags, input)?;
            connect.will = Some(will);
        }
        if flags & USER_NAME != 0 {
            let user_name;
            (input, user_name) = leaf::string(input)?;
            connect.user_name = Some(user_name);
        }
        if flags & PASSWORD != 0 {
            let password;
            (input, password) = leaf::binary(input)?;
            connect.password = Some(password);
        }
        Ok((input, (version, connect)))
    }

    fn accept(&mut self, properties: Properties<'a>) -> Result<(), DecodeError> {
        let mut authentication = AuthenticationParts::default();
        for field in properties.fields() {
            match field.identifier {
                id::SessionExpiryInterval => self.session_expiry_interval = field.get(),
                id::ReceiveMaximum => self.receive_maximum = field.get(),
                id::MaximumPacketSize => self.maximum_packet_size = Some(field.get()),
                id::TopicAliasMaximum => self.topic_alias_maximum = field.get(),
                id::RequestResponseInformation => self.request_response_information = field.get(),
                id::RequestProblemInformation => self.request_problem_information = field.get(),
                _ => authentication.accept(&field),
            }
        }
        self.authentication = authentication.join()?;
        self.user_properties = user_properties(properties);
        Ok(())
    }

    /// What stands in a 5.0 packet: that which is not at its default.
    fn each_field(&self, each: &mut dyn FnMut(&Field<'a>)) {
        let numbers = [
            (id::SessionExpiryInterval, unless(0, self.session_expiry_interval)),
            (id::ReceiveMaximum, unless(u16::MAX, self.receive_maximum)),
            (id::MaximumPacketSize, self.maximum_packet_size),
            (id::TopicAliasMaximum, unless(0, self.topic_alias_maximum)),
            (id::RequestResponseInformation, unless(false, self.request_response_information)),
            (id::RequestProblemInformation, unless(true, self.request_problem_information)),
        ];
        properties::each_given(&numbers, each);
        each_authentication_field(self.authentication, each);
        properties::each_user_property(self.user_properties, each);
    }

    fn flags(&self) -> u8 {
        let will = self.will.map_or(0, |will| {
            WILL | (will.qos as u8) << 3 | if will.retain { WILL_RETAIN } else { 0 }
        });
        will | if self.clean_start { CLEAN_START } else { 0 }
            | if self.user_name.is_some() { USER_NAME } else { 0 }
            | if self.password.is_some() { PASSWORD } else { 0 }
    }

    /// What a version before 5.0 cannot express.
    fn check_v3(&self) -> Result<(), EncodeError> {
        if self.session_expiry_interval != 0
            || self.request_response_information
            || self.authentication.is_some()
            || !self.user_properties.is_empty()
            || self.will.is_some_and(|will| !will.properties.is_empty())
        {
            return Err(EncodeError::Version);
        }
        let nameless = self.client_id.is_empty() && !self.clean_start;
        if nameless || self.password.is_some() && self.user_name.is_none() {
            return Err(EncodeError::Credentials);
        }
        Ok(())
    }
}

/// Protocol name and level.
fn version(input: &[u8]) -> Parsed<'_, Version> {
    let (input, name) = leaf::binary(input)?;
    if !matches!(name, b"MQTT" | b"MQIsdp") {
        return leaf::fail(DecodeError::ProtocolName);
    }
    let (input, level) = be_u8(input)?;
    match (name, level) {
        #[cfg(feature = "v3")]
        (b"MQIsdp", 3) => Ok((input, Version::V3_1)),
        #[cfg(feature = "v3")]
        (b"MQTT", 4) => Ok((input, Version::V3_1_1)),
        #[cfg(feature = "v5")]
        (b"MQTT", 5) => Ok((input, Version::V5)),
        _ => leaf::fail(DecodeError::ProtocolVersion),
    }
}

fn check_flags(version: Version, flags: u8) -> Result<(), DecodeError> {
    let will_qos = flags >> 3 & 0b11;
    if will_qos == 3 {
        return Err(DecodeError::QoS);
    }
    let orphans = flags & WILL == 0 && (will_qos != 0 || flags & WILL_RETAIN != 0);
    let secret = flags & PASSWORD != 0 && flags & USER_NAME == 0 && !version.is_v5();
    if flags & 1 != 0 || orphans || secret {
        return Err(DecodeError::ConnectFlags);
    }
    Ok(())
}

fn optional_properties(
    version: Version,
    input: &[u8],
    context: Context,
) -> Parsed<'_, Properties<'_>> {
    if !version.is_v5() {
        return Ok((input, Properties::EMPTY));
    }
    let (input, properties) = properties::read(input, context)?;
    Ok((input, Properties::encoded(properties)))
}

/// The user properties among `properties`, which were decoded.
fn user_properties<'a>(properties: Properties<'a>) -> List<'a, UserProperty<'a>> {
    List::encoded(properties.as_encoded())
}

/// The two properties of an [`Authentication`] while they are being collected.
#[derive(Default)]
struct AuthenticationParts<'a> {
    method: Option<Text<'a>>,
    data: Option<&'a [u8]>,
}

impl<'a> AuthenticationParts<'a> {
    fn accept(&mut self, field: &Field<'a>) {
        match field.identifier {
            id::AuthenticationMethod => self.method = Some(field.get()),
            id::AuthenticationData => self.data = Some(field.get()),
            _ => {}
        }
    }

    fn join(self) -> Result<Option<Authentication<'a>>, DecodeError> {
        match (self.method, self.data) {
            (None, Some(_)) => Err(DecodeError::AuthenticationMethod),
            (method, data) => Ok(method.map(|method| Authentication { method, data })),
        }
    }
}

/// A value that is to be told because it is not the default.
fn unless<T: PartialEq + Into<u32>>(default: T, value: T) -> Option<u32> {
    (value != default).then(|| value.into())
}

fn each_authentication_field<'a>(
    authentication: Option<Authentication<'a>>,
    each: &mut dyn FnMut(&Field<'a>),
) {
    if let Some(Authentication { method, data }) = authentication {
        each(&Field::new(id::AuthenticationMethod, method));
        if let Some(data) = data {
            each(&Field::new(id::AuthenticationData, data));
        }
    }
}

fn optional_len(bytes: Option<&[u8]>) -> Result<usize, EncodeError> {
    match bytes {
        None => Ok(0),
        Some(bytes) if bytes.len() > u16::MAX.into() => Err(EncodeError::TooLong),
        Some(bytes) => Ok(2 + bytes.len()),
    }
}

impl Encode for (Version, &Connect<'_>) {
    fn first_byte(&self) -> u8 {
        PacketType::Connect.first_byte()
    }

    fn remaining_length(&self, _: Version) -> Result<usize, EncodeError> {
        let (version, connect) = *self;
        let mut len = if version.is_v3_1() { 12 } else { 10 };
        if version.is_v5() {
            let mut measure = Measure::new(Context::Connect);
            connect.each_field(&mut |field| measure.add(field));
            len += measure.len_with_prefix()?;
        } else {
            connect.check_v3()?;
        }
        if let Some(will) = &connect.will {
            len += will.encoded_len(version)?;
        }
        len += optional_len(Some(connect.client_id.as_bytes()))?;
        len += optional_len(connect.user_name.map(|name| name.as_bytes()))?;
        Ok(len + optional_len(connect.password)?)
    }

    fn write(&self, _: Version, to: &mut Writer<'_>) {
        let (version, connect) = *self;
        let (name, level): (&[u8], u8) = match version {
            #[cfg(feature = "v3")]
            Version::V3_1 => (b"MQIsdp", 3),
            #[cfg(feature = "v3")]
            Version::V3_1_1 => (b"MQTT", 4),
            #[cfg(feature = "v5")]
            Version::V5 => (b"MQTT", 5),
        };
        to.binary(name);
        to.u8(level);
        to.u8(connect.flags());
        to.u16(connect.keep_alive);
        if version.is_v5() {
            let mut len = 0;
            connect.each_field(&mut |field| len += field.encoded_len());
            to.varint(len as u32);
            connect.each_field(&mut |field| field.write(to));
        }
        to.string(connect.client_id);
        if let Some(will) = &connect.will {
            if version.is_v5() {
                properties::write(will.properties, to);
            }
            to.binary(will.topic.as_bytes());
            to.binary(will.payload);
        }
        if let Some(user_name) = connect.user_name {
            to.string(user_name);
        }
        if let Some(password) = connect.password {
            to.binary(password);
        }
    }
}

impl<'a> Will<'a> {
    fn parse(version: Version, flags: u8, input: &'a [u8]) -> Parsed<'a, Self> {
        let (input, properties) = optional_properties(version, input, Context::Will)?;
        let (input, topic) = leaf::topic(input)?;
        let (input, payload) = leaf::binary(input)?;
        let qos = QoS::from_u8(flags >> 3 & 0b11).unwrap_or_default();
        let retain = flags & WILL_RETAIN != 0;
        Ok((input, Self { topic, payload, qos, retain, properties }))
    }

    fn encoded_len(&self, version: Version) -> Result<usize, EncodeError> {
        if self.topic.is_empty() {
            return Err(EncodeError::TopicName);
        }
        let properties = if version.is_v5() {
            properties::encoded_len(self.properties, Context::Will)?
        } else {
            0
        };
        Ok(properties + 2 + self.topic.len() + optional_len(Some(self.payload))?)
    }
}

/// The server's answer to a CONNECT: whether, and on which terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ConnAck<'a> {
    /// Whether the server still has the session. 3.1 cannot tell: false when decoded, not sent.
    pub session_present: bool,
    /// Success, or why not; 3.1.1's return codes are mapped.
    pub reason: ReasonCode,
    /// Seconds that the session outlives the connection, if not as asked for.
    pub session_expiry_interval: Option<u32>,
    /// How many QoS 1 and 2 messages may be on their way to the server unacknowledged.
    pub receive_maximum: u16,
    /// The highest QoS the server takes.
    pub maximum_qos: QoS,
    /// Whether the server keeps retained messages.
    pub retain_available: bool,
    /// The largest packet the server accepts, in bytes.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server chose, if it was left to it.
    pub assigned_client_identifier: Option<Text<'a>>,
    /// The highest topic alias the server accepts.
    pub topic_alias_maximum: u16,
    /// An explanation for people.
    pub reason_string: Option<Text<'a>>,
    /// Whether the server supports wildcards in subscriptions.
    pub wildcard_subscription_available: bool,
    /// Whether the server supports subscription identifiers.
    pub subscription_identifier_available: bool,
    /// Whether the server supports shared subscriptions.
    pub shared_subscription_available: bool,
    /// Seconds of keep alive to use instead of the client's [MQTT-3.2.2-21].
    pub server_keep_alive: Option<u16>,
    /// The basis for response topics.
    pub response_information: Option<Text<'a>>,
    /// Another server to use.
    pub server_reference: Option<Text<'a>>,
    /// The last step of enhanced authentication.
    pub authentication: Option<Authentication<'a>>,
    /// What else the server says.
    pub user_properties: List<'a, UserProperty<'a>>,
}

impl Default for ConnAck<'_> {
    /// Success, no session, and no limits.
    fn default() -> Self {
        Self {
            session_present: false,
            reason: ReasonCode::Success,
            session_expiry_interval: None,
            receive_maximum: u16::MAX,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_identifier: None,
            topic_alias_maximum: 0,
            reason_string: None,
            wildcard_subscription_available: true,
            subscription_identifier_available: true,
            shared_subscription_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication: None,
            user_properties: List::EMPTY,
        }
    }
}

impl<'a> ConnAck<'a> {
    pub(crate) fn read(version: Version, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut ack = Self::default();
        ack.fill(version, body)?;
        Ok(ack)
    }

    /// Reads into the default: it is long, and would be copied on its way back.
    #[inline(never)]
    pub(crate) fn fill(&mut self, version: Version, body: &'a [u8]) -> Result<(), DecodeError> {
        leaf::complete(self.parse(version, body))
    }

    fn parse(&mut self, version: Version, input: &'a [u8]) -> Parsed<'a, ()> {
        let (input, flags) = be_u8(input)?;
        // In 3.1 the byte means nothing, whatever it is.
        let flags = if version.is_v3_1() { 0 } else { flags };
        if flags > 1 {
            return leaf::fail(DecodeError::ConnAckFlags);
        }
        let (input, reason) = if version.is_v5() {
            reason_code(input, PacketType::ConnAck)?
        } else {
            let (input, code) = be_u8(input)?;
            match ReasonCode::from_return_code(code) {
                Some(reason) => (input, reason),
                None => return leaf::fail(DecodeError::ReasonCode),
            }
        };
        (self.session_present, self.reason) = (flags != 0, reason);
        if self.session_present && reason != ReasonCode::Success {
            return leaf::fail(DecodeError::SessionPresent);
        }
        let (input, properties) = optional_properties(version, input, Context::ConnAck)?;
        leaf::check(self.accept(properties))?;
        Ok((input, ()))
    }

    fn accept(&mut self, properties: Properties<'a>) -> Result<(), DecodeError> {
        let mut authentication = AuthenticationParts::default();
        for field in properties.fields() {
            match field.identifier {
                id::SessionExpiryInterval => self.session_expiry_interval = Some(field.get()),
                id::ReceiveMaximum => self.receive_maximum = field.get(),
                id::MaximumQoS => self.maximum_qos = field.get(),
                id::RetainAvailable => self.retain_available = field.get(),
                id::MaximumPacketSize => self.maximum_packet_size = Some(field.get()),
                id::AssignedClientIdentifier => self.assigned_client_identifier = Some(field.get()),
                id::TopicAliasMaximum => self.topic_alias_maximum = field.get(),
                id::ReasonString => self.reason_string = Some(field.get()),
                id::WildcardSubscriptionAvailable => {
                    self.wildcard_subscription_available = field.get();
                }
                id::SubscriptionIdentifierAvailable => {
                    self.subscription_identifier_available = field.get();
                }
                id::SharedSubscriptionAvailable => self.shared_subscription_available = field.get(),
                id::ServerKeepAlive => self.server_keep_alive = Some(field.get()),
                id::ResponseInformation => self.response_information = Some(field.get()),
                id::ServerReference => self.server_reference = Some(field.get()),
                _ => authentication.accept(&field),
            }
        }
        self.authentication = authentication.join()?;
        self.user_properties = user_properties(properties);
        Ok(())
    }

    fn each_field(&self, each: &mut dyn FnMut(&Field<'a>)) {
        let wildcards = unless(true, self.wildcard_subscription_available);
        let identifiers = unless(true, self.subscription_identifier_available);
        let shared = unless(true, self.shared_subscription_available);
        let numbers = [
            (id::ReceiveMaximum, unless(u16::MAX, self.receive_maximum)),
            (id::MaximumQoS, unless(QoS::ExactlyOnce as u8, self.maximum_qos as u8)),
            (id::RetainAvailable, unless(true, self.retain_available)),
            (id::TopicAliasMaximum, unless(0, self.topic_alias_maximum)),
            (id::WildcardSubscriptionAvailable, wildcards),
            (id::SubscriptionIdentifierAvailable, identifiers),
            (id::SharedSubscriptionAvailable, shared),
            (id::SessionExpiryInterval, self.session_expiry_interval),
            (id::MaximumPacketSize, self.maximum_packet_size),
        ];
        let texts = [
            (id::AssignedClientIdentifier, self.assigned_client_identifier),
            (id::ReasonString, self.reason_string),
        ];
        let more_texts = [
            (id::ResponseInformation, self.response_information),
            (id::ServerReference, self.server_reference),
        ];
        properties::each_given(&numbers, each);
        properties::each_given(&texts, each);
        properties::each_given(&[(id::ServerKeepAlive, self.server_keep_alive)], each);
        properties::each_given(&more_texts, each);
        each_authentication_field(self.authentication, each);
        properties::each_user_property(self.user_properties, each);
    }

    fn has_properties(&self) -> bool {
        let mut any = false;
        self.each_field(&mut |_| any = true);
        any
    }
}

impl Encode for ConnAck<'_> {
    fn first_byte(&self) -> u8 {
        PacketType::ConnAck.first_byte()
    }

    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        if self.session_present && self.reason != ReasonCode::Success {
            return Err(EncodeError::ReasonCode);
        }
        if version.is_v5() {
            if !self.reason.is_legal_in(PacketType::ConnAck) {
                return Err(EncodeError::ReasonCode);
            }
            let mut measure = Measure::new(Context::ConnAck);
            self.each_field(&mut |field| measure.add(field));
            return Ok(2 + measure.len_with_prefix()?);
        }
        if self.has_properties() {
            return Err(EncodeError::Version);
        }
        match self.reason.as_return_code() {
            Some(_) => Ok(2),
            None => Err(EncodeError::ReasonCode),
        }
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        to.u8(u8::from(self.session_present && !version.is_v3_1()));
        if version.is_v5() {
            to.u8(self.reason.as_u8());
            let mut len = 0;
            self.each_field(&mut |field| len += field.encoded_len());
            to.varint(len as u32);
            self.each_field(&mut |field| field.write(to));
        } else {
            to.u8(self.reason.as_return_code().unwrap_or_default());
        }
    }
}

//! A PUBLISH on its way to a subscriber.

use super::{
    Encode, EncodeError, Head, Naming, Properties, Publish, Version, Writer,
    properties::{Context, Field, Measure, id},
};
use crate::sink::Payload;

/// A message as it is relayed: with the properties that it was published with but for those that
/// hold for one connection, and with those that hold for the receiver alone.
#[derive(Clone, Copy)]
pub(crate) struct Relay<'p> {
    pub(crate) head: Head<'p>,
    /// What is left of the Message Expiry Interval [MQTT-3.3.2-6].
    pub(crate) expiry: Option<u32>,
    pub(crate) identifiers: Identifiers<'p>,
}

/// Calls its argument with each of some numbers.
type Each<'p> = dyn Fn(&mut dyn FnMut(u32)) + 'p;

/// The identifiers of the subscriptions that a message is sent for [MQTT-3.3.4-3].
#[derive(Clone, Copy)]
pub(crate) enum Identifiers<'p> {
    /// None, or 0 for none.
    One(u32),
    /// Those that the function calls its argument with.
    Many(&'p Each<'p>),
}

impl Identifiers<'_> {
    pub(crate) const NONE: Self = Self::One(0);

    fn each(&self, each: &mut dyn FnMut(u32)) {
        match self {
            Self::One(0) => {}
            Self::One(identifier) => each(*identifier),
            Self::Many(all) => all(each),
        }
    }
}

/// The properties that go with a message wherever it goes [MQTT-3.3.2-4] [MQTT-3.3.2-15]
/// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20].
fn lasting<'a>(properties: Properties<'a>) -> impl Iterator<Item = Field<'a>> {
    const FLEETING: [u8; 3] = [id::TopicAlias, id::MessageExpiryInterval, id::WillDelayInterval];
    properties.fields().filter(|field| !FLEETING.contains(&field.identifier))
}

/// The number of bytes that [`write_lasting`] takes.
pub(crate) fn lasting_len(properties: Properties<'_>, identifiers: Identifiers<'_>) -> usize {
    let mut len = lasting(properties).map(|field| field.encoded_len()).sum();
    identifiers.each(&mut |identifier| len += identified(identifier).encoded_len());
    len
}

/// Writes the properties that go with a message, to be kept: [`kept`] reads them.
pub(crate) fn write_lasting(
    properties: Properties<'_>,
    identifiers: Identifiers<'_>,
    span: &mut [u8],
) {
    let mut to = Writer::new(span);
    lasting(properties).for_each(|field| field.write(&mut to));
    identifiers.each(&mut |identifier| identified(identifier).write(&mut to));
}

/// The properties in bytes that were written by [`write_lasting`].
pub(crate) fn kept(bytes: &[u8]) -> Properties<'_> {
    Properties::encoded(bytes)
}

/// The same of bytes that may be anything.
#[cfg(feature = "alloc")]
pub(crate) fn kept_checked(bytes: &[u8]) -> Option<Properties<'_>> {
    super::properties::validate(bytes, Context::Publish).ok()?;
    Some(kept(bytes))
}

fn identified(identifier: u32) -> Field<'static> {
    Field::new(id::SubscriptionIdentifier, identifier)
}

impl Relay<'_> {
    fn publish(&self) -> &Publish<'_> {
        self.head.publish
    }

    /// What is in the packet, in order.
    fn each_field(&self, each: &mut dyn FnMut(&Field<'_>)) {
        lasting(self.publish().properties).for_each(|field| each(&field));
        if let Some(expiry) = self.expiry {
            each(&Field::new(id::MessageExpiryInterval, expiry));
        }
        self.identifiers.each(&mut |identifier| each(&identified(identifier)));
        if let Naming::Set(alias) | Naming::Alias(alias) = self.head.naming {
            each(&Field::new(id::TopicAlias, alias));
        }
    }

    #[inline(never)]
    fn measure(&self) -> Result<usize, EncodeError> {
        let mut measure = Measure::new(Context::Publish);
        self.each_field(&mut |field| measure.add(field));
        measure.len_with_prefix()
    }

    /// Whether nothing but the head's own properties is to be written, and of these none.
    #[inline(always)]
    fn is_bare(&self) -> bool {
        self.head.is_plain()
            && self.expiry.is_none()
            && matches!(self.identifiers, Identifiers::One(0))
    }
}

impl Encode for Relay<'_> {
    #[inline(always)]
    fn first_byte(&self) -> u8 {
        self.head.first_byte()
    }

    #[inline(always)]
    fn remaining_length(&self, version: Version) -> Result<usize, EncodeError> {
        if !version.is_v5() || self.is_bare() {
            return self.head.bare_length(version);
        }
        Ok(self.head.bare_length(version)? - 1 + self.measure()?)
    }

    fn write(&self, version: Version, to: &mut Writer<'_>) {
        self.head.write_topic_and_id(to);
        if version.is_v5() {
            to.len_of_rest();
            self.each_field(&mut |field| field.write(to));
        }
    }

    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.is_bare()
    }

    #[inline(always)]
    fn write_plain<'s>(
        &self,
        version: Version,
        remaining_length: usize,
        span: &'s mut [u8],
    ) -> Option<&'s mut [u8]> {
        self.head.write_plain(version, remaining_length, span)
    }

    #[inline(always)]
    fn payload(&self) -> Payload<'_> {
        self.publish().payload
    }
}

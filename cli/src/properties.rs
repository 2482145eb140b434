//! `-D`: properties of MQTT 5.0 by the names that mosquitto gives them.

use bytes::Bytes;
use transport_tokio::{Options, PublishProperties};

use crate::failure::Failure;

/// What was asked for by `-D`.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    pub(crate) publish: PublishProperties,
    pub(crate) disconnect_session_expiry: Option<u32>,
    will: PublishProperties,
    will_delay: Option<u32>,
    connect: Connect,
    any: bool,
}

#[derive(Debug, Default)]
struct Connect {
    session_expiry_interval: Option<u32>,
    receive_maximum: Option<u16>,
    maximum_packet_size: Option<u32>,
    topic_alias_maximum: Option<u16>,
    user_properties: Vec<(String, String)>,
}

impl Properties {
    /// Reads the words behind all the `-D`, one after the other.
    pub(crate) fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut properties = Self { any: !words.is_empty(), ..Self::default() };
        let mut words = words.iter();
        while let Some(command) = words.next() {
            let mut next = |what: &str| {
                let missing = || Failure::other(format!("-D {command}: the {what} is missing"));
                words.next().cloned().ok_or_else(missing)
            };
            let name = next("property")?;
            let value = next("value")?;
            let pair = match name.as_str() {
                "user-property" => Some(next("value of the user property")?),
                _ => None,
            };
            properties.add(command, &name, value, pair)?;
        }
        Ok(properties)
    }

    /// Whether there are any.
    pub(crate) const fn any(&self) -> bool {
        self.any
    }

    fn add(
        &mut self,
        command: &str,
        name: &str,
        value: String,
        pair: Option<String>,
    ) -> Result<(), Failure> {
        match (command, name, pair) {
            ("connect", "user-property", Some(pair)) => {
                self.connect.user_properties.push((value, pair));
            }
            ("connect", "session-expiry-interval", _) => {
                self.connect.session_expiry_interval = Some(number(command, name, &value)?);
            }
            ("connect", "receive-maximum", _) => {
                self.connect.receive_maximum = Some(number(command, name, &value)?);
            }
            ("connect", "maximum-packet-size", _) => {
                self.connect.maximum_packet_size = Some(number(command, name, &value)?);
            }
            ("connect", "topic-alias-maximum", _) => {
                self.connect.topic_alias_maximum = Some(number(command, name, &value)?);
            }
            ("publish", name, pair) => message(&mut self.publish, command, name, value, pair)?,
            ("will", "will-delay-interval", _) => {
                self.will_delay = Some(number(command, name, &value)?);
            }
            ("will", name, pair) => message(&mut self.will, command, name, value, pair)?,
            ("disconnect", "session-expiry-interval", _) => {
                self.disconnect_session_expiry = Some(number(command, name, &value)?);
            }
            _ => return Err(unknown(command, name)),
        }
        Ok(())
    }

    /// Lets a client connect with what is said about that and about its will.
    pub(crate) fn apply(&self, options: &mut Options) -> Result<(), Failure> {
        let Connect {
            session_expiry_interval,
            receive_maximum,
            maximum_packet_size,
            topic_alias_maximum,
            user_properties,
        } = &self.connect;
        set(&mut options.session_expiry_interval, *session_expiry_interval);
        set(&mut options.receive_maximum, *receive_maximum);
        set(&mut options.maximum_packet_size, *maximum_packet_size);
        set(&mut options.topic_alias_maximum, *topic_alias_maximum);
        options.user_properties.clone_from(user_properties);
        match &mut options.will {
            Some(will) => {
                will.properties = self.will.clone();
                set(&mut will.delay_interval, self.will_delay);
            }
            None if self.will != PublishProperties::default() || self.will_delay.is_some() => {
                return Err(Failure::other("-D will: there is no will: --will-topic"));
            }
            None => {}
        }
        Ok(())
    }
}

/// What can be said about a message, be it a will.
fn message(
    properties: &mut PublishProperties,
    command: &str,
    name: &str,
    value: String,
    pair: Option<String>,
) -> Result<(), Failure> {
    match (name, pair) {
        ("user-property", Some(pair)) => properties.user_properties.push((value, pair)),
        ("payload-format-indicator", _) => {
            properties.payload_format_indicator = match value.as_str() {
                "0" => Some(false),
                "1" => Some(true),
                _ => return Err(Failure::other(format!("-D {command} {name}: not 0 or 1"))),
            };
        }
        ("message-expiry-interval", _) => {
            properties.message_expiry_interval = Some(number(command, name, &value)?);
        }
        ("content-type", _) => properties.content_type = Some(value),
        ("response-topic", _) => properties.response_topic = Some(value),
        ("correlation-data", _) => properties.correlation_data = Some(Bytes::from(value)),
        _ => return Err(unknown(command, name)),
    }
    Ok(())
}

fn number<N: std::str::FromStr>(command: &str, name: &str, value: &str) -> Result<N, Failure> {
    let wrong = || Failure::other(format!("-D {command} {name}: no such number: {value}"));
    value.parse().map_err(|_| wrong())
}

fn unknown(command: &str, name: &str) -> Failure {
    Failure::other(format!("-D {command} {name}: no such property, or not one that can be set"))
}

fn set<T>(option: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *option = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Properties, Failure> {
        let words: Vec<_> = words.split_whitespace().map(String::from).collect();
        Properties::parse(&words)
    }

    #[test]
    fn properties_have_the_names_that_mosquitto_gives_them() {
        let words = "publish user-property a b publish content-type text publish user-property c d \
                     connect receive-maximum 7 will will-delay-interval 3 publish correlation-data xy";
        let properties = parse(words).expect("properties");
        let user_properties = [("a", "b"), ("c", "d")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(properties.publish.user_properties, user_properties);
        assert_eq!(properties.publish.content_type.as_deref(), Some("text"));
        assert_eq!(properties.publish.correlation_data.as_deref(), Some(&b"xy"[..]));
        assert_eq!(properties.connect.receive_maximum, Some(7));
        assert_eq!(properties.will_delay, Some(3));
        let mut options = Options::default();
        assert!(properties.apply(&mut options).is_err(), "there is no will");
        assert_eq!(options.receive_maximum, 7);
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for words in [
            "publish",
            "publish content-type",
            "publish user-property a",
            "publish message-expiry-interval soon",
            "publish payload-format-indicator 2",
            "publish receive-maximum 3",
            "connect receive-maximum 70000",
            "subscribe user-property a b",
            "publish user-property a publish content-type b",
        ] {
            let error = parse(words).expect_err(words).message;
            assert!(error.starts_with("-D "), "{words}: {error}");
        }
    }
}

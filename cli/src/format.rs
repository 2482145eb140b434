//! `-F`: how messages are written, in the words of `mosquitto_sub`.

use std::io::{self, Write};

use jiff::ZonedDateTime;
use serde_json::{Map, Value, json};
use transport_tokio::{Message, PublishProperties};

/// What `--help` says about it.
pub(crate) const HELP: &str = "\
Formats (-F):
  %t topic  %p payload  %x %X payload in hexadecimal  %l its length in bytes
  %q QoS  %r 1 if it was retained, else 0
  %j message and properties as JSON, payload as text  %J the same, payload as the JSON that it is
  %I time of arrival, ISO 8601  %U the same in seconds since 1970  @Y @m ... the same as strftime has it
  %C content type  %D correlation data  %E seconds until it expires  %F 1 if it is text
  %P user properties  %R response topic  (5.0; empty if the message has none)
  %m %A %S packet identifier, topic alias, subscription identifiers: always empty, the client keeps them
  %% @@ \\\\ these characters  \\n \\t \\r \\0 \\e \\a \\v
  %-20t %020l %.3p between % and the letter: to the left, with zeros, at least, at most so many characters";

/// How messages are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The payload, and the topic in front of it if `verbose`; an empty one only then, as `(null)`.
    Plain { verbose: bool, newline: bool },
    /// As `-F` has it.
    Pieces(Pieces),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pieces(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// As `strftime` has it.
    Time(String),
    Field(Field, Layout),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Topic,
    Payload,
    LowerHex,
    UpperHex,
    Length,
    QoS,
    Retain,
    /// With the payload as text, or as JSON.
    Json {
        parsed: bool,
    },
    Iso8601,
    UnixTime,
    ContentType,
    CorrelationData,
    Expiry,
    FormatIndicator,
    UserProperties,
    ResponseTopic,
    /// What the client does not tell.
    Nothing,
}

/// How a field is laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Layout {
    left: bool,
    zeros: bool,
    least: usize,
    most: Option<usize>,
}

/// The widest that a field can be asked to be.
const WIDEST: usize = 10_000;

impl Format {
    /// Reads a format as `-F` has it. A line ends after each message, if `newline`.
    pub(crate) fn parse(text: &str, newline: bool) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            let piece = match char {
                '\\' => {
                    literal.push(escape(chars.next())?);
                    continue;
                }
                '%' => match field(&mut chars)? {
                    Some((field, layout)) => Piece::Field(field, layout),
                    None => {
                        literal.push(b'%');
                        continue;
                    }
                },
                '@' => match chars.next() {
                    Some('@') => {
                        literal.push(b'@');
                        continue;
                    }
                    Some('N') => Piece::Time("%9f".into()),
                    Some(letter) => time(letter)?,
                    None => return Err("nothing after @".into()),
                },
                other => {
                    literal.extend(other.encode_utf8(&mut [0; 4]).bytes());
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if newline {
            literal.push(b'\n');
        }
        pieces.push(Piece::Text(literal));
        Ok(Self::Pieces(Pieces(pieces)))
    }

    /// Writes a message that has arrived at that time.
    pub(crate) fn write(
        &self,
        message: &Message,
        at: &ZonedDateTime,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let (verbose, newline) = match self {
            Self::Pieces(pieces) => return pieces.write(message, at, out),
            Self::Plain { verbose, newline } => (*verbose, *newline),
        };
        if message.payload.is_empty() && !verbose {
            return Ok(());
        }
        if verbose {
            write!(out, "{} ", message.topic)?;
        }
        out.write_all(if message.payload.is_empty() { b"(null)" } else { &message.payload })?;
        if newline { out.write_all(b"\n") } else { Ok(()) }
    }
}

impl Pieces {
    fn write(&self, message: &Message, at: &ZonedDateTime, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text)?,
                Piece::Time(format) => write!(out, "{}", at.strftime(format))?,
                // What is usual, and long, is not copied.
                Piece::Field(Field::Payload, layout) if *layout == Layout::default() => {
                    out.write_all(&message.payload)?;
                }
                Piece::Field(field, layout) => layout.write(&field.of(message, at)?, out)?,
            }
        }
        Ok(())
    }
}

impl Layout {
    fn write(self, value: &[u8], out: &mut impl Write) -> io::Result<()> {
        let value = self.most.map_or(value, |most| &value[..most.min(value.len())]);
        let padding = self.least.saturating_sub(value.len());
        let filling = vec![if self.zeros && !self.left { b'0' } else { b' ' }; padding];
        let (before, after) = if self.left { (&[][..], &*filling) } else { (&*filling, &[][..]) };
        out.write_all(before)?;
        out.write_all(value)?;
        out.write_all(after)
    }
}

impl Field {
    fn of(self, message: &Message, at: &ZonedDateTime) -> io::Result<Vec<u8>> {
        let properties = message.properties();
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
        Ok(match self {
            Self::Topic => message.topic.as_bytes().into(),
            Self::Payload => message.payload.to_vec(),
            Self::LowerHex => {
                message.payload.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
            }
            Self::UpperHex => {
                message.payload.iter().map(|byte| format!("{byte:02X}")).collect::<String>().into()
            }
            Self::Length => message.payload.len().to_string().into(),
            Self::QoS => (message.qos as u8).to_string().into(),
            Self::Retain => u8::from(message.retain).to_string().into(),
            Self::Json { parsed } => json(message, at, parsed)?,
            Self::Iso8601 => at.strftime("%Y-%m-%dT%H:%M:%S%z").to_string().into(),
            Self::UnixTime => at.strftime("%s.%9f").to_string().into(),
            Self::ContentType => text(&properties.content_type),
            Self::CorrelationData => {
                properties.correlation_data.as_deref().unwrap_or_default().into()
            }
            Self::Expiry => {
                properties.message_expiry_interval.map(|s| s.to_string()).unwrap_or_default().into()
            }
            Self::FormatIndicator => properties
                .payload_format_indicator
                .map(|is| u8::from(is).to_string())
                .unwrap_or_default()
                .into(),
            Self::UserProperties => {
                let pairs = properties.user_properties.iter();
                pairs
                    .map(|(name, value)| format!("{name}:{value}"))
                    .collect::<Vec<_>>()
                    .join(" ")
                    .into()
            }
            Self::ResponseTopic => text(&properties.response_topic),
            Self::Nothing => Vec::new(),
        })
    }
}

/// What follows a `%`; nothing if that is another.
fn field(chars: &mut std::str::Chars<'_>) -> Result<Option<(Field, Layout)>, String> {
    let mut layout = Layout::default();
    let mut digits = String::new();
    let mut precise = false;
    let letter = loop {
        match chars.next() {
            Some('-') if digits.is_empty() && !precise => layout.left = true,
            Some('0') if digits.is_empty() && !precise => layout.zeros = true,
            Some(digit) if digit.is_ascii_digit() => digits.push(digit),
            Some('.') if !precise => {
                layout.least = width(&std::mem::take(&mut digits))?;
                precise = true;
            }
            Some(letter) => break letter,
            None => return Err("nothing after %".into()),
        }
    };
    match precise {
        true => layout.most = Some(width(&digits)?),
        false => layout.least = width(&digits)?,
    }
    Ok(Some((
        match letter {
            '%' => return Ok(None),
            't' => Field::Topic,
            'p' => Field::Payload,
            'x' => Field::LowerHex,
            'X' => Field::UpperHex,
            'l' => Field::Length,
            'q' => Field::QoS,
            'r' => Field::Retain,
            'j' => Field::Json { parsed: false },
            'J' => Field::Json { parsed: true },
            'I' => Field::Iso8601,
            'U' => Field::UnixTime,
            'C' => Field::ContentType,
            'D' => Field::CorrelationData,
            'E' => Field::Expiry,
            'F' => Field::FormatIndicator,
            'P' => Field::UserProperties,
            'R' => Field::ResponseTopic,
            'm' | 'A' | 'S' => Field::Nothing,
            other => return Err(format!("no such field: %{other}")),
        },
        layout,
    )))
}

fn width(digits: &str) -> Result<usize, String> {
    match digits.parse() {
        _ if digits.is_empty() => Ok(0),
        Ok(width) if width <= WIDEST => Ok(width),
        _ => Err(format!("wider than {WIDEST}: {digits}")),
    }
}

fn escape(char: Option<char>) -> Result<u8, String> {
    Ok(match char {
        Some('\\') => b'\\',
        Some('n') => b'\n',
        Some('r') => b'\r',
        Some('t') => b'\t',
        Some('v') => 0x0b,
        Some('a') => 0x07,
        Some('e') => 0x1b,
        Some('0') => 0,
        Some(other) => return Err(format!("no such escape: \\{other}")),
        None => return Err("nothing after \\".into()),
    })
}

/// A piece of time, if there is one of this letter.
fn time(letter: char) -> Result<Piece, String> {
    let format = format!("%{letter}");
    let known = jiff::fmt::strtime::format(&format, &ZonedDateTime::default()).is_ok();
    known
        .then_some(Piece::Time(format))
        .ok_or_else(|| format!("no such part of the time: @{letter}"))
}

fn json(message: &Message, at: &ZonedDateTime, parsed: bool) -> io::Result<Vec<u8>> {
    let mut object = Map::new();
    object.insert("tst".into(), at.strftime("%Y-%m-%dT%H:%M:%S%.6f%z").to_string().into());
    object.insert("topic".into(), message.topic.as_ref().into());
    object.insert("qos".into(), (message.qos as u8).into());
    object.insert("retain".into(), u8::from(message.retain).into());
    object.insert("payloadlen".into(), message.payload.len().into());
    let properties = properties(message.properties());
    if !properties.is_empty() {
        object.insert("properties".into(), properties.into());
    }
    let payload = match parsed {
        true => serde_json::from_slice(&message.payload).map_err(|error| {
            let message = format!("the payload on {} is no JSON: {error}", message.topic);
            io::Error::new(io::ErrorKind::InvalidData, message)
        })?,
        false => Value::from(String::from_utf8_lossy(&message.payload).into_owned()),
    };
    object.insert("payload".into(), payload);
    Ok(Value::from(object).to_string().into())
}

fn properties(properties: &PublishProperties) -> Map<String, Value> {
    let PublishProperties {
        payload_format_indicator,
        message_expiry_interval,
        content_type,
        response_topic,
        correlation_data,
        user_properties,
    } = properties;
    let mut object = Map::new();
    let mut insert = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            object.insert(name.into(), value);
        }
    };
    insert("payload-format-indicator", payload_format_indicator.map(|is| u8::from(is).into()));
    insert("message-expiry-interval", message_expiry_interval.map(Into::into));
    insert("content-type", content_type.clone().map(Into::into));
    insert("response-topic", response_topic.clone().map(Into::into));
    let data = correlation_data.as_deref().map(|data| String::from_utf8_lossy(data).into_owned());
    insert("correlation-data", data.map(Into::into));
    let pairs = || user_properties.iter().map(|(name, value)| json!({ name: value })).collect();
    insert("user-properties", (!user_properties.is_empty()).then(|| Value::Array(pairs())));
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: &str) -> String {
        let properties = PublishProperties {
            content_type: Some("text".into()),
            correlation_data: Some((&b"c7"[..]).into()),
            message_expiry_interval: Some(60),
            user_properties: vec![("a".into(), "b".into()), ("a".into(), "c".into())],
            ..PublishProperties::default()
        };
        let message = Message::new("sensors/7", "[1, \"\u{fc}\"]", properties);
        let at: ZonedDateTime = "2024-02-03T04:05:06.789+01:00[+01:00]".parse().expect("a time");
        let format = Format::parse(format, false).expect(format);
        let mut out = Vec::new();
        format.write(&message, &at, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn fields_are_written() {
        for (format, expected) in [
            ("%t|%p|%l", "sensors/7|[1, \"\u{fc}\"]|9"),
            ("%x %X", "5b312c2022c3bc225d 5B312C2022C3BC225D"),
            ("%q%r", "00"),
            ("%C,%D,%E,%F,%R", "text,c7,60,,"),
            ("%P", "a:b a:c"),
            ("<%m%A%S>", "<>"),
            ("%%t @@ \\\\ \\t.\\n", "%t @ \\ \t.\n"),
            ("%I", "2024-02-03T04:05:06+0100"),
            ("%U", "1706929506.789000000"),
            ("@Y-@m-@d @H:@M:@S.@N", "2024-02-03 04:05:06.789000000"),
            ("%12t|%-12t|%.3t|%6.3t", "   sensors/7|sensors/7   |sen|   sen"),
            ("%04l|%-04l|", "0009|9   |"),
        ] {
            assert_eq!(written(format), expected, "{format}");
        }
    }

    #[test]
    fn without_a_format_the_payload_is_written() {
        let full = Message::new("a", "x", PublishProperties::default());
        let empty = Message::new("a", "", PublishProperties::default());
        for (message, verbose, newline, expected) in [
            (&full, false, true, "x\n"),
            (&full, true, true, "a x\n"),
            (&full, true, false, "a x"),
            (&empty, false, true, ""),
            (&empty, true, true, "a (null)\n"),
        ] {
            let mut out = Vec::new();
            let format = Format::Plain { verbose, newline };
            format.write(message, &ZonedDateTime::default(), &mut out).expect("written");
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn json_is_written() {
        let whole: Value = serde_json::from_str(&written("%j")).expect("JSON");
        let expected = json!({
            "tst": "2024-02-03T04:05:06.789000+0100", "topic": "sensors/7", "qos": 0, "retain": 0,
            "payloadlen": 9, "payload": "[1, \"\u{fc}\"]",
            "properties": {
                "content-type": "text", "correlation-data": "c7", "message-expiry-interval": 60,
                "user-properties": [{"a": "b"}, {"a": "c"}],
            },
        });
        assert_eq!(whole, expected);
        let whole: Value = serde_json::from_str(&written("%J")).expect("JSON");
        assert_eq!(whole["payload"], json!([1, "\u{fc}"]));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for format in ["%", "%k", "\\q", "\\", "@", "@\u{fc}", "%99999t", "%-", "%.t%.."] {
            assert!(Format::parse(format, false).is_err(), "{format}");
        }
    }
}

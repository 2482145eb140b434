//! A client of other people's in a process of its own, told what to do by lines.
//!
//! A line is a verb and fields, `name=value`, separated by tabs; payloads are hexadecimal. Each is
//! answered by one line:
//!
//! | verb and fields | answers |
//! |---|---|
//! | `connect` url version id clean expiry \[user password\] \[will will_payload will_delay\] \[ca\] \[cert key\] | `ok` present; `refused` reason |
//! | `subscribe` filter qos \[identifier\] | `ok` reason |
//! | `publish` topic payload qos retain \[alias\] | `ok`, when it is acknowledged |
//! | `next` within, in seconds | `message` topic qos retain payload identifiers; `nothing` |
//! | `disconnect` | `ok` |
//!
//! or by `error` and what happened. A will is at QoS 1 and not retained. Who is killed says nothing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::{Login, Message, Outcome, Peer};
use crate::{Error, Result, hex};

/// One that runs. It is killed with its value.
pub(super) struct Driver {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// The fields of an answer.
struct Fields(HashMap<String, String>);

impl Fields {
    fn text(&self, name: &str) -> Result<&str> {
        Ok(self.0.get(name).ok_or_else(|| format!("no {name} in {:?}", self.0))?)
    }

    fn number<N: std::str::FromStr<Err: Into<Error>>>(&self, name: &str) -> Result<N> {
        self.text(name)?.parse::<N>().map_err(Into::into)
    }
}

impl Driver {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take().ok_or("no input")?;
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        Ok(Self { process, input, output })
    }

    /// Says a line; gives the answer's verb and fields.
    fn say(&mut self, line: &str) -> Result<(String, Fields)> {
        writeln!(self.input, "{line}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        let mut parts = answer.trim_end_matches('\n').split('\t');
        match parts.next() {
            Some("error") => Err(parts.collect::<Vec<_>>().join(" ").into()),
            Some("") | None => Err("it has ended".into()),
            Some(verb) => {
                let fields = parts.filter_map(|part| part.split_once('='));
                let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
                Ok((verb.to_owned(), Fields(fields.collect())))
            }
        }
    }
}

impl Peer for Driver {
    fn connect(&mut self, login: &Login) -> Result<Outcome> {
        let mut line = format!(
            "connect\turl={}\tversion={}\tid={}\tclean={}\texpiry={}",
            login.url,
            login.version,
            login.id,
            u8::from(login.clean),
            login.expiry
        );
        if let Some((user, password)) = login.user {
            write!(line, "\tuser={user}\tpassword={password}")?;
        }
        if let Some((topic, payload, delay)) = &login.will {
            let payload = hex(payload.as_bytes());
            write!(line, "\twill={topic}\twill_payload={payload}\twill_delay={delay}")?;
        }
        if let Some(tls) = &login.tls {
            write!(line, "\tca={}", tls.join("authority").display())?;
            if login.shows_certificate {
                let (cert, key) = (tls.join("client"), tls.join("client-key"));
                write!(line, "\tcert={}\tkey={}", cert.display(), key.display())?;
            }
        }
        let (verb, fields) = self.say(&line)?;
        match &verb[..] {
            "ok" => Ok(Outcome::Connected { present: Some(fields.text("present")? == "1") }),
            "refused" => Ok(Outcome::Refused { reason: fields.number("reason")? }),
            other => Err(format!("{other}?").into()),
        }
    }

    fn subscribe(&mut self, filter: &str, qos: u8, identifier: Option<u32>) -> Result<()> {
        let mut line = format!("subscribe\tfilter={filter}\tqos={qos}");
        if let Some(identifier) = identifier {
            write!(line, "\tidentifier={identifier}")?;
        }
        let reason: u8 = self.say(&line)?.1.number("reason")?;
        if reason == qos { Ok(()) } else { Err(format!("granted {reason}").into()) }
    }

    fn publish(&mut self, message: &Message, alias: Option<u16>) -> Result<()> {
        let Message { topic, payload, qos, retain, .. } = message;
        let (payload, retain) = (hex(payload), u8::from(*retain));
        let mut line =
            format!("publish\ttopic={topic}\tpayload={payload}\tqos={qos}\tretain={retain}");
        if let Some(alias) = alias {
            write!(line, "\talias={alias}")?;
        }
        self.say(&line).map(drop)
    }

    fn next(&mut self, within: f32) -> Result<Option<Message>> {
        let (verb, fields) = self.say(&format!("next\twithin={within}"))?;
        if verb == "nothing" {
            return Ok(None);
        }
        let identifiers = fields.text("identifiers")?.split(',').filter(|text| !text.is_empty());
        let message = Message {
            topic: fields.text("topic")?.to_owned(),
            payload: super::unhex(fields.text("payload")?)?,
            qos: fields.number("qos")?,
            retain: fields.text("retain")? == "1",
            identifiers: identifiers.map(str::parse).collect::<std::result::Result<_, _>>()?,
        };
        Ok(Some(message))
    }

    fn disconnect(&mut self) -> Result<()> {
        self.say("disconnect").map(drop)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

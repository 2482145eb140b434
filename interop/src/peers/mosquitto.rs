//! mosquitto_pub and mosquitto_sub: a process for every publish and one for what is subscribed to.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use super::{Login, Message, Outcome, Peer, unhex};
use crate::{Result, ensure};

/// Both tools with the same options.
#[derive(Default)]
pub(super) struct Tools {
    login: Login,
    subscriber: Option<(Child, Receiver<String>)>,
    /// Messages that came before it had subscribed: its session was resumed.
    early: VecDeque<String>,
}

/// How the subscriber prints a message.
const FORMAT: &str = "message\t%t\t%q\t%r\t%x\t%S";

impl Tools {
    fn command(&self, tool: &str) -> Result<Command> {
        let login = &self.login;
        let (_, address) = login.url.split_once("://").ok_or("a URL")?;
        let (host, port) = address.rsplit_once(':').ok_or("a port")?;
        // Line by line, although it is no terminal.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", tool, "-h", host, "-p", port]);
        command.args(["-V", if login.version == 5 { "mqttv5" } else { "mqttv311" }]);
        if let Some((user, password)) = login.user {
            command.args(["-u", user, "-P", password]);
        }
        if let Some(tls) = &login.tls {
            command.arg("--cafile").arg(tls.join("authority"));
            if login.shows_certificate {
                command.arg("--cert").arg(tls.join("client"));
                command.arg("--key").arg(tls.join("client-key"));
            }
        }
        Ok(command)
    }

    /// Publishes; gives the reason of a refused connection.
    fn publish_once(&self, message: &Message, alias: Option<u16>) -> Result<Outcome> {
        let mut command = self.command("mosquitto_pub")?;
        let Message { topic, qos, retain, payload, .. } = message;
        command.args(["-t", topic, "-q", &qos.to_string()]);
        command.arg(if payload.is_empty() { "-n" } else { "-s" });
        if *retain {
            command.arg("-r");
        }
        if let Some(alias) = alias {
            command.args(["-D", "publish", "topic-alias", &alias.to_string()]);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        process.stdin.take().ok_or("no input")?.write_all(payload)?;
        let output = process.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        if said.contains("bad user name or password") {
            return Ok(Outcome::Refused { reason: 134 });
        }
        ensure(output.status.success(), || format!("mosquitto_pub: {} {said}", output.status))?;
        Ok(Outcome::Connected { present: None })
    }

    fn line(&mut self, within: f32) -> Option<String> {
        let (_, lines) = self.subscriber.as_ref()?;
        lines.recv_timeout(Duration::from_secs_f32(within)).ok()
    }

    /// Ends the subscriber.
    fn stop(&mut self, signal: &str) {
        if let Some((mut process, _)) = self.subscriber.take() {
            // It may have gone already.
            let _ = Command::new("kill").args(["-s", signal, &process.id().to_string()]).status();
            let _ = process.wait();
        }
    }
}

impl Peer for Tools {
    /// Finds out whether one may connect; the tools connect when there is something to do.
    fn connect(&mut self, login: &Login) -> Result<Outcome> {
        self.login = login.clone();
        let probe = Message { topic: format!("{}/probe", login.id), ..Message::default() };
        self.publish_once(&probe, None)
    }

    fn subscribe(&mut self, filter: &str, qos: u8, identifier: Option<u32>) -> Result<()> {
        let mut command = self.command("mosquitto_sub")?;
        let Login { id, clean, expiry, version, will, .. } = &self.login;
        command.args(["-d", "-F", FORMAT, "-i", id, "-t", filter, "-q", &qos.to_string()]);
        if !clean {
            command.arg("-c");
        }
        if *version == 5 {
            command.args(["-x", &expiry.to_string()]);
        }
        if let Some((topic, payload, delay)) = will {
            command.args(["--will-topic", topic, "--will-payload", payload, "--will-qos", "1"]);
            if *version == 5 {
                command.args(["-D", "will", "will-delay-interval", &delay.to_string()]);
            }
        }
        if let Some(identifier) = identifier {
            let identifier = identifier.to_string();
            command.args(["-D", "subscribe", "subscription-identifier", &identifier]);
        }
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            output.lines().map_while(|line| line.ok()).try_for_each(|line| sender.send(line))
        });
        self.subscriber = Some((process, lines));
        let granted = loop {
            let line = self.line(10.0).ok_or("it does not subscribe")?;
            if line.starts_with("message\t") {
                self.early.push_back(line);
            } else if let Some((_, granted)) =
                line.strip_prefix("Subscribed").and_then(|line| line.rsplit_once(' '))
            {
                break granted.to_owned();
            }
        };
        ensure(granted == qos.to_string(), || format!("granted {granted}"))
    }

    fn publish(&mut self, message: &Message, alias: Option<u16>) -> Result<()> {
        self.publish_once(message, alias).map(drop)
    }

    fn next(&mut self, within: f32) -> Result<Option<Message>> {
        loop {
            let line = self.early.pop_front().or_else(|| self.line(within));
            let Some(line) = line else { return Ok(None) };
            let Some(fields) = line.strip_prefix("message\t") else { continue };
            let fields: Vec<&str> = fields.split('\t').collect();
            let [topic, qos, retain, payload, identifiers] = fields[..] else {
                return Err(format!("{line}?").into());
            };
            let identifiers = identifiers.split(',').filter(|text| !text.is_empty());
            return Ok(Some(Message {
                topic: topic.to_owned(),
                payload: unhex(payload)?,
                qos: qos.parse()?,
                retain: retain == "1",
                identifiers: identifiers.map(str::parse).collect::<std::result::Result<_, _>>()?,
            }));
        }
    }

    fn disconnect(&mut self) -> Result<()> {
        self.stop("TERM");
        Ok(())
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        self.stop("KILL");
    }
}

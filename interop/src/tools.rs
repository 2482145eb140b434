//! mosquitto's own clients.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use mqtt_core::{QoS, Version};

use crate::{Result, Setup, ensure, hex};

const fn version(version: Version) -> &'static str {
    match version {
        Version::V3_1 => "mqttv31",
        Version::V3_1_1 => "mqttv311",
        Version::V5 => "mqttv5",
    }
}

fn command(name: &str, setup: &Setup) -> Result<Command> {
    let (host, port) = setup.address.rsplit_once(':').ok_or("an address is HOST:PORT")?;
    let mut command = Command::new(name);
    command.args(["-h", host, "-p", port, "-V", version(setup.version)]);
    command.stderr(Stdio::null());
    Ok(command)
}

/// Publishes one message by `mosquitto_pub`, with these options in addition.
pub(crate) fn publish(
    setup: &Setup,
    topic: &str,
    qos: QoS,
    payload: &[u8],
    options: &[&str],
) -> Result<()> {
    publish_input(setup, topic, qos, payload, options, "-s")
}

/// Publishes each line of `lines` as a message.
pub(crate) fn publish_lines(setup: &Setup, topic: &str, qos: QoS, lines: &str) -> Result<()> {
    publish_input(setup, topic, qos, lines.as_bytes(), &[], "-l")
}

fn publish_input(
    setup: &Setup,
    topic: &str,
    qos: QoS,
    input: &[u8],
    options: &[&str],
    mode: &str,
) -> Result<()> {
    let mut command = command("mosquitto_pub", setup)?;
    command.args(["-t", topic, "-q", &(qos as u8).to_string()]).args(options);
    // An empty standard input is no message.
    command.arg(if input.is_empty() { "-n" } else { mode });
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take()
        && !input.is_empty()
    {
        stdin.write_all(input)?;
    }
    let status = child.wait()?;
    ensure(status.success(), || format!("mosquitto_pub: {status}"))
}

/// A `mosquitto_sub` that has subscribed.
pub(crate) struct Subscriber {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Retained messages that came before it was known to have subscribed.
    first: Vec<String>,
}

const READY: &str = "ready?";

impl Subscriber {
    /// One that ends after `count` messages, of each of which it prints a line in `format`.
    pub(crate) fn start(
        setup: &Setup,
        filter: &str,
        qos: QoS,
        count: usize,
        format: &str,
    ) -> Result<Self> {
        // One SUBSCRIBE has both: once the retained message is there, so is the other subscription.
        let ready = format!("ready/{}", setup.topic(""));
        publish(setup, &ready, QoS::AtMostOnce, READY.as_bytes(), &["-r"])?;
        let mut command = command("mosquitto_sub", setup)?;
        command.args(["-t", filter, "-t", &ready, "-q", &(qos as u8).to_string()]);
        command.args(["-C", &(count + 1).to_string(), "-W", "30", "-F", format]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut subscriber = Self { child, output, first: Vec::new() };
        loop {
            let line = subscriber.line()?;
            if line.contains(READY) || line.contains(&hex(READY.as_bytes())) {
                return Ok(subscriber);
            }
            subscriber.first.push(line);
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure(line.ends_with('\n'), || "mosquitto_sub ended early".to_owned())?;
        line.pop();
        Ok(line)
    }

    /// All lines.
    pub(crate) fn lines(mut self) -> Result<Vec<String>> {
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let status = self.child.wait()?;
        ensure(status.success(), || format!("mosquitto_sub: {status}"))?;
        let mut lines = std::mem::take(&mut self.first);
        lines.extend(text.lines().map(str::to_owned));
        Ok(lines)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a line of `%t %q %r %x` looks like.
pub(crate) fn line(topic: &str, qos: QoS, retain: bool, payload: &[u8]) -> String {
    format!("{topic} {} {} {}", qos as u8, u8::from(retain), hex(payload))
}

/// Makes a password file for one user.
pub(crate) fn add_user(passwords: &Path, user: &str, password: &str) -> Result<()> {
    File::create(passwords)?;
    let mut command = Command::new("mosquitto_passwd");
    command.arg("-b").arg(passwords).args([user, password]).stderr(Stdio::null());
    let status = command.status()?;
    ensure(status.success(), || format!("mosquitto_passwd: {status}"))
}

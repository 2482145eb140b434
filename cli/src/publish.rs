//! `mqtt pub`: publishes messages.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use tokio::{runtime, sync::mpsc, time};
use transport_tokio::{
    Client, Delivery, Farewell, PublishError, PublishProperties, QoS, Reconnect, Status, Version,
};

use crate::{
    connection::{Connection, Quality, Session, Talk, connect},
    failure::{CODES, Failure},
};

/// Publish messages
///
/// One message (-m, -f, -n, -s), or one for each line of standard input (-l). At QoS 1 and 2 it ends when the server has taken them all.
#[derive(Debug, Args)]
#[command(disable_help_flag = true, after_help = format!("{EXAMPLES}\n\n{CODES}"))]
pub(crate) struct Arguments {
    /// Where to, unless the URL says it
    #[arg(short, long, value_name = "TOPIC")]
    topic: Option<String>,
    #[command(flatten)]
    source: Source,
    /// How hard to try: 0 once, 1 until it is there, 2 exactly once
    #[arg(short, long, value_name = "QOS", default_value = "0")]
    qos: Quality,
    /// The server keeps the message for subscribers to come
    #[arg(short, long)]
    retain: bool,
    /// Publish the same so many times
    #[arg(long, value_name = "TIMES", default_value_t = 1, conflicts_with = "stdin_line")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,
    /// Seconds in between
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    repeat_delay: Duration,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    talk: Talk,
}

/// What is published.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// This message
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    message: Option<String>,
    /// What is in this file, as one message
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line of standard input, as a message
    #[arg(short = 'l', long)]
    stdin_line: bool,
    /// All of standard input, as one message
    #[arg(short, long)]
    stdin_file: bool,
    /// An empty message; with -r it takes back what is retained
    #[arg(short, long)]
    null_message: bool,
}

const EXAMPLES: &str = "\
Examples:
  mqtt pub -t sensors/1 -m 21.5
  mqtt pub -L mqtt://alice:secret@broker.example/valves/3 -m open -q 2
  mqtt pub -t sensors/1 -n -r                    take a retained message back
  tail -F log | mqtt pub -t log -l -q 1          a message for each line
  mqtt pub -t jobs -m print -D publish response-topic answers/7
  mqtt pub --cafile ca.pem --cert me.pem --key me.key -h broker.example -t a -f photo.jpg";

/// The longest message that can be in a packet, roughly: 256 MiB.
const LONGEST: u64 = 268_435_455;

/// How many bytes of lines are given to the client at once, unless one is longer.
const BATCH: usize = 64 * 1024;

/// How many messages of `-l` have no outcome at a time.
const WINDOW: usize = 1_000;

/// How long to wait for outcomes in the end. What is wrong with the connection is noticed before.
const PATIENCE: Duration = Duration::from_secs(24 * 60 * 60);

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

impl Arguments {
    pub(crate) const fn is_quiet(&self) -> bool {
        self.talk.quiet
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.talk.begin();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::other)?.block_on(publish(arguments))
}

/// Messages that are all to be published in the same way.
struct Publisher {
    client: Client,
    topic: String,
    qos: QoS,
    retain: bool,
    properties: PublishProperties,
    version: Version,
    /// Those that have no outcome yet, in order.
    pending: VecDeque<Delivery>,
}

async fn publish(arguments: Arguments) -> Result<(), Failure> {
    let target = arguments.connection.target();
    let topic = arguments.topic.or_else(|| target.topic.clone());
    let topic = topic.ok_or_else(|| Failure::other("no topic: -t TOPIC"))?;
    let (mut options, properties) = arguments.session.options(&arguments.connection)?;
    let source = arguments.source;
    let message = if source.stdin_line { None } else { Some(read(&source)?) };
    if message.is_some() {
        // Whoever has one message to publish tries again by himself.
        options.reconnect = Reconnect { attempts: Some(0), ..Reconnect::default() };
    }
    let version = options.version;
    let client = connect(&target, options).await?;
    let mut publisher = Publisher {
        client,
        topic,
        qos: arguments.qos.0,
        retain: arguments.retain,
        properties: properties.publish,
        version,
        pending: VecDeque::new(),
    };
    match message {
        Some(message) => {
            for time in 0..arguments.repeat {
                if time > 0 && !arguments.repeat_delay.is_zero() {
                    time::sleep(arguments.repeat_delay).await;
                }
                publisher.publish(message.clone()).await?;
            }
        }
        None => publisher.publish_lines().await?,
    }
    publisher.finish(properties.disconnect_session_expiry).await
}

impl Publisher {
    /// Publishes one more message, as soon as there is room for it. One that has failed before is the end.
    async fn publish(&mut self, message: Bytes) -> Result<(), Failure> {
        let accepted = self
            .client
            .publish(self.topic.as_str(), message)
            .qos(self.qos)
            .retain(self.retain)
            .properties(self.properties.clone())
            .accepted();
        match accepted.await {
            Ok(delivery) if self.qos > QoS::AtMostOnce => self.pending.push_back(delivery),
            Ok(_) => {}
            Err(error) => return Err(self.failure(&error)),
        }
        if self.pending.len() >= WINDOW {
            self.settle_one().await?;
        }
        Ok(())
    }

    async fn publish_lines(&mut self) -> Result<(), Failure> {
        let (sender, mut batches) = mpsc::channel(1);
        thread::spawn(move || read_lines(&sender));
        while let Some(lines) = batches.recv().await {
            for line in lines? {
                self.publish(line).await?;
            }
        }
        Ok(())
    }

    /// Waits for the outcome that has been awaited for longest. Whether there was one to come.
    async fn settle_one(&mut self) -> Result<bool, Failure> {
        let Some(delivery) = self.pending.pop_front() else { return Ok(false) };
        match delivery.await {
            Ok(_) => Ok(true),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Waits for all outcomes, and parts.
    async fn finish(mut self, session_expiry_interval: Option<u32>) -> Result<(), Failure> {
        while self.settle_one().await? {}
        let farewell =
            Farewell { session_expiry_interval, patience: PATIENCE, ..Farewell::default() };
        let parted = self.client.disconnect_with(farewell).await;
        self.check_connection()?;
        parted.map_err(Failure::other)
    }

    /// Why a message was not published. If there is no connection, why not.
    fn failure(&self, error: &PublishError) -> Failure {
        match (error, self.check_connection()) {
            (PublishError::Closed, Err(failure)) => failure,
            _ => Failure::publish(error),
        }
    }

    fn check_connection(&self) -> Result<(), Failure> {
        match &*self.client.status().borrow() {
            Status::Failed(error) => Err(Failure::connection(error, self.version)),
            _ => Ok(()),
        }
    }
}

/// The one message there is.
fn read(source: &Source) -> Result<Bytes, Failure> {
    if let Some(message) = &source.message {
        return Ok(Bytes::from(message.clone()));
    }
    if let Some(path) = &source.file {
        let file = File::open(path).map_err(|error| cannot_read(path, &error))?;
        return read_whole(path, file);
    }
    match source.stdin_file {
        true => read_whole(Path::new("standard input"), io::stdin().lock()),
        false => Ok(Bytes::new()),
    }
}

fn read_whole(name: &Path, from: impl Read) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let read = from.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| cannot_read(name, &error))?;
    match bytes.len() as u64 > LONGEST {
        true => Err(Failure::other(format!("{}: longer than a message can be", name.display()))),
        false => Ok(bytes.into()),
    }
}

fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("{}: {error}", path.display()))
}

/// Gives the lines of standard input away, those that are there at once, as fast as they are taken.
fn read_lines(batches: &mpsc::Sender<Result<Vec<Bytes>, Failure>>) {
    let mut input = BufReader::with_capacity(BATCH, io::stdin().lock());
    loop {
        let batch = read_batch(&mut input);
        let is_over = batch.as_ref().map_or(true, Vec::is_empty);
        if batches.blocking_send(batch).is_err() || is_over {
            return;
        }
    }
}

/// The next lines; none at the end.
fn read_batch(input: &mut BufReader<impl Read>) -> Result<Vec<Bytes>, Failure> {
    let mut lines = Vec::new();
    while let Some(line) = read_line(input)? {
        lines.push(line);
        // Only what needs no waiting.
        if !input.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(lines)
}

/// The next line, without its end.
fn read_line(input: &mut impl BufRead) -> Result<Option<Bytes>, Failure> {
    let mut line = Vec::new();
    let read = input.take(LONGEST + 1).read_until(b'\n', &mut line);
    let read = read.map_err(|error| cannot_read(Path::new("standard input"), &error))?;
    if read == 0 {
        return Ok(None);
    }
    if line.pop_if(|last| *last == b'\n').is_none() && read as u64 > LONGEST {
        return Err(Failure::other("standard input: a line is longer than a message can be"));
    }
    line.pop_if(|last| *last == b'\r');
    Ok(Some(line.into()))
}

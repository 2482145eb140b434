//! `mqtt sub`: subscribes, and writes what arrives.

use std::{
    future::{Future, pending},
    io::{self, BufWriter, StdoutLock, Write},
    pin::{Pin, pin},
    process,
    time::Duration,
};

use clap::Args;
use jiff::ZonedDateTime;
use tokio::{runtime, select, time};
use transport_tokio::{
    Ack, Client, Farewell, Message, Messages, QoS, ReasonCode, Status, StreamLimits, Streams,
    SubscribeError, Version,
    mqtt_core::{Filter, Topic},
};

use crate::{
    connection::{Connection, Quality, Session, Talk, connect},
    failure::{CODES, Failure, TIMEOUT},
    format::{self, Format},
};

/// Subscribe, and write what arrives
///
/// Messages are acknowledged when they have been written. After the connection is lost it is made again, for as long as it takes.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
#[command(after_help = format!("{EXAMPLES}\n\n{}\n\n{CODES}", format::HELP))]
pub(crate) struct Arguments {
    /// To what; may be given again
    #[arg(short, long, value_name = "FILTER")]
    topic: Vec<String>,
    /// The highest QoS wanted
    #[arg(short, long, value_name = "QOS", default_value = "0")]
    qos: Quality,
    #[command(flatten)]
    choice: Choice,
    #[command(flatten)]
    layout: Layout,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    session: Session,
    #[command(flatten)]
    talk: Talk,
}

/// What is written of what arrives, and for how long.
#[derive(Debug, Args)]
struct Choice {
    /// End after so many messages
    #[arg(short = 'C', long, value_name = "MESSAGES", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds, with exit code 27
    #[arg(short = 'W', long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// End when the server has granted the subscriptions
    #[arg(short = 'E', long)]
    exit_after_subscribe: bool,
    /// Leave out what matches this; may be given again
    #[arg(short = 'T', long, value_name = "FILTER")]
    filter_out: Vec<String>,
    /// End this subscription of the session's first; may be given again
    #[arg(short = 'U', long, value_name = "FILTER")]
    unsubscribe: Vec<String>,
    /// Leave out what was retained
    #[arg(short = 'R', long, conflicts_with = "retained_only")]
    no_retained: bool,
    /// Leave out what was not retained, and end at the first such
    #[arg(long)]
    retained_only: bool,
}

/// How it is written.
#[derive(Debug, Args)]
struct Layout {
    /// With the topic in front
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
    /// In this format, see below
    #[arg(short = 'F', long, value_name = "FORMAT")]
    format: Option<String>,
    /// Without ending the line
    #[arg(short = 'N', long)]
    no_newline: bool,
}

const EXAMPLES: &str = "\
Examples:
  mqtt sub -t 'sensors/+/temperature' -v
  mqtt sub -L 'mqtt://broker.example/sensors/#' -q 1 -C 10
  mqtt sub -t '#' -F '@H:@M:@S %t %p'
  mqtt sub -t 'jobs/#' -F %J | jq .payload
  mqtt sub -i worker-1 -c -q 2 -t 'jobs/#'       what comes meanwhile is kept
  mqtt sub -t status -C 1 -W 5                   exit code 27 if nothing comes";

/// How much waits for standard output at QoS 0. Above, the server is held back.
const LIMITS: StreamLimits = StreamLimits { messages: 10_000, bytes: 16 << 20 };

/// How many messages are written before they are acknowledged.
const BATCH: usize = 100;

/// How long after its end what has come may be written.
const GRACE: Duration = Duration::from_secs(5);

impl Arguments {
    pub(crate) const fn is_quiet(&self) -> bool {
        self.talk.quiet
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    arguments.talk.begin();
    // The connection is driven on another thread than the one that may have to wait for standard output.
    let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(Failure::other)?;
    let result = runtime.block_on(async {
        let timeout = arguments.choice.timeout.map(Duration::from_secs);
        let over = async {
            match timeout {
                Some(timeout) => time::sleep(timeout).await,
                None => pending().await,
            }
        };
        let mut over = pin!(over);
        subscribe(arguments, over.as_mut()).await
    });
    // What the system resolves, or is read, may take its time.
    runtime.shutdown_background();
    result
}

/// Why it is over.
enum End {
    Done,
    Timeout,
}

async fn subscribe(
    arguments: Arguments,
    mut over: Pin<&mut impl Future<Output = ()>>,
) -> Result<(), Failure> {
    let Arguments { topic, qos, choice, layout, connection, session, .. } = arguments;
    let target = connection.target();
    let filters: Vec<_> = topic.into_iter().chain(target.topic.clone()).collect();
    if filters.is_empty() && choice.unsubscribe.is_empty() {
        return Err(Failure::other("no topic: -t TOPIC"));
    }
    check(filters.iter().chain(&choice.filter_out).chain(&choice.unsubscribe))?;
    let format = layout.format()?;
    let (mut options, properties) = session.options(&connection)?;
    let mut streams = Streams::default();
    let mut session = streams.unclaimed();
    session.set_limits(LIMITS);
    options.streams = streams;
    let version = options.version;
    tokio::spawn(insist(signals()?, choice.timeout.map(Duration::from_secs)));
    let signals = signals()?;
    let client = select! {
        client = connect(&target, options) => client?,
        () = &mut over => return Err(timed_out()),
    };
    let mut reader = Reader { client, version, session, messages: None };
    let mut writer = Writer { choice, format, written: 0, acks: Vec::new(), out: None };
    let end = select! {
        end = reader.read(&filters, qos.0, &mut writer) => end?,
        () = &mut over => End::Timeout,
        () = signals => End::Done,
    };
    // What cannot be written stays unacknowledged.
    let written = writer.settle();
    let session_expiry_interval = properties.disconnect_session_expiry;
    let farewell = Farewell { session_expiry_interval, ..Farewell::default() };
    // Nothing was published of which there could be no outcome.
    let _ = reader.client.disconnect_with(farewell).await;
    reader.tell_dropped();
    match (end, written) {
        (End::Done, Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::other(format!("standard output: {error}")))
        }
        (End::Done, _) => Ok(()),
        (End::Timeout, _) => Err(timed_out()),
    }
}

/// Ends the process though it waits for whoever should read what it writes: what is not written stays
/// unacknowledged.
async fn insist(signals: impl Future<Output = ()>, timeout: Option<Duration>) {
    let over = async {
        match timeout {
            Some(timeout) => time::sleep(timeout).await,
            None => pending().await,
        }
    };
    let code = select! {
        () = signals => 0,
        () = over => TIMEOUT,
    };
    time::sleep(GRACE).await;
    process::exit(code.into())
}

fn timed_out() -> Failure {
    Failure::new(TIMEOUT, "timed out")
}

fn check<'a>(filters: impl Iterator<Item = &'a String>) -> Result<(), Failure> {
    for filter in filters {
        Filter::new(filter).map_err(|error| Failure::other(format!("{filter}: {error}")))?;
    }
    Ok(())
}

impl Layout {
    fn format(&self) -> Result<Format, Failure> {
        match &self.format {
            Some(format) => {
                let parsed = Format::parse(format, !self.no_newline);
                parsed.map_err(|error| Failure::other(format!("-F: {error}")))
            }
            None => Ok(Format::Plain { verbose: self.verbose, newline: !self.no_newline }),
        }
    }
}

/// Resolves when the process is asked to end.
pub(crate) fn signals() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::other)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::other)?;
        Ok(async move {
            select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    })
}

/// Receives messages.
struct Reader {
    client: Client,
    version: Version,
    /// What comes before anything is subscribed to: a session's that is resumed.
    session: Messages,
    /// While the client is connected they must not be dropped: that would end the subscriptions.
    messages: Option<Messages>,
}

impl Reader {
    /// Subscribes, and has what comes written until that is over.
    async fn read(
        &mut self,
        filters: &[String],
        qos: QoS,
        writer: &mut Writer,
    ) -> Result<End, Failure> {
        for filter in &writer.choice.unsubscribe {
            // The client ends what it has; by subscribing, the session's becomes its own.
            let taken = self.client.subscribe(filter, QoS::AtMostOnce).await;
            let taken = taken.map_err(|error| Failure::subscribe(&error))?;
            taken.unsubscribe().await.map_err(|error| Failure::subscribe(&error))?;
        }
        let Some((first, rest)) = filters.split_first() else { return Ok(End::Done) };
        let mut wanted = self.client.subscribe(first, qos).limits(LIMITS);
        for filter in rest {
            wanted = wanted.and(filter, qos);
        }
        let subscribed = wanted.await;
        let messages = subscribed.map_err(|error| self.failure(Failure::subscribe(&error)))?;
        tracing::debug!(granted = ?messages.granted(), "subscribed");
        let messages = self.messages.insert(messages);
        if writer.choice.exit_after_subscribe {
            return Ok(End::Done);
        }
        loop {
            let next = select! {
                biased;
                next = self.session.next_unacknowledged() => next,
                next = messages.next_unacknowledged() => next,
            };
            let Some((message, ack)) = next else {
                let error = messages.error().or_else(|| self.session.error());
                let error = error.unwrap_or(SubscribeError::Closed);
                return Err(self.failure(Failure::subscribe(&error)));
            };
            let is_last = messages.is_empty() && self.session.is_empty();
            match writer.take(&message, ack, is_last) {
                Ok(true) => {}
                Ok(false) => return Ok(End::Done),
                // Whoever reads has read enough.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Done),
                Err(error) => return Err(Failure::other(format!("standard output: {error}"))),
            }
        }
    }

    fn tell_dropped(&self) {
        let dropped = self.session.dropped() + self.messages.as_ref().map_or(0, Messages::dropped);
        if dropped > 0 {
            tracing::warn!(dropped, "messages at QoS 0 came faster than they could be written");
        }
    }

    /// If the client has come to its end, that is why.
    fn failure(&self, failure: Failure) -> Failure {
        match &*self.client.status().borrow() {
            Status::Failed(error) => Failure::connection(error, self.version),
            Status::TakenOver => {
                let code = ReasonCode::SessionTakenOver.as_u8();
                Failure::new(code, "another client has the same identifier")
            }
            _ => failure,
        }
    }
}

/// Writes messages.
struct Writer {
    choice: Choice,
    format: Format,
    written: u64,
    /// Of messages that are written, and perhaps not flushed.
    acks: Vec<Ack>,
    out: Option<BufWriter<StdoutLock<'static>>>,
}

/// Whether there is to be more.
type More = bool;

impl Writer {
    /// Writes a message, if it is wanted.
    fn take(&mut self, message: &Message, ack: Ack, is_last: bool) -> io::Result<More> {
        if self.choice.retained_only && !message.retain {
            ack.accept();
            return Ok(false);
        }
        if self.is_wanted(message) {
            let out = self.out.get_or_insert_with(|| BufWriter::new(io::stdout().lock()));
            match self.format.write(message, &ZonedDateTime::now(), out) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tracing::warn!("{error}");
                }
                written => written?,
            }
            self.written += 1;
        }
        self.acks.push(ack);
        let is_over = self.choice.count == Some(self.written);
        if is_last || is_over || self.acks.len() >= BATCH {
            self.settle()?;
        }
        Ok(!is_over)
    }

    fn is_wanted(&self, message: &Message) -> bool {
        let Ok(topic) = Topic::new(&message.topic) else { return false };
        let left_out = |filter: &String| Filter::new(filter).is_ok_and(|f| f.matches(topic));
        let is_stale = self.choice.no_retained && message.retain;
        !is_stale && !self.choice.filter_out.iter().any(left_out)
    }

    /// What has been written is where it belongs, and need not come again.
    fn settle(&mut self) -> io::Result<()> {
        if let Some(out) = &mut self.out {
            out.flush()?;
        }
        self.acks.drain(..).for_each(Ack::accept);
        Ok(())
    }
}

//! `mqtt broker`: serves.

mod acl;
mod document;
mod guard;
pub(crate) mod passwords;
mod settings;
mod tls;

use std::{path::PathBuf, sync::Arc, time::Duration};

use clap::Args;
use tokio::{runtime, select, time::sleep};
use transport_tokio::broker::{Broker, Builder};

use crate::{
    failure::{Failure, say},
    subscribe::signals,
};
use guard::Guard;
use settings::{Plan, Settings};

/// Serve a broker
///
/// What is given here comes before what the file says. Without either it listens on 127.0.0.1:1883 and lets in whoever is on this machine.
///
/// SIGHUP reads the password file and the ACL file again, for whoever connects, publishes and subscribes from then on; one that makes no sense is reported, and changes nothing. SIGINT and SIGTERM shut the broker down.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The settings, TOML: keys are the options' names, and [tls]
    #[arg(short = 'f', long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

const EXAMPLES: &str = "\
Examples:
  mqtt broker
  mqtt broker --listen 127.0.0.1:1883 --listen ws://127.0.0.1:8080/mqtt
  mqtt broker --listen 0.0.0.0:1883 --password-file passwords --acl-file acl
  mqtt broker --config broker.toml

A file of settings; other files are looked for beside it:
  listen = [\"mqtt://127.0.0.1:1883\", \"mqtts://0.0.0.0:8883\", \"unix:///run/mqtt.sock\"]
  password-file = \"passwords\"        # made by `mqtt passwd`
  acl-file = \"acl\"
  takeover = \"owner\"                 # or anybody, who knows the client identifier
  max-queued-messages = 10000
  persistence = \"/var/lib/mqtt\"
  metrics = \"127.0.0.1:9641\"
  [tls]
  certificate = \"server.pem\"
  key = \"server.key\"
  client-ca = \"clients.pem\"          # demands certificates of clients

An ACL file; who is not mentioned may do nothing, and `deny` comes before all else:
  topic read news/#                  # clients without a name, until the first `user`
  user alice
  topic readwrite alice/#            # or read, write, deny; without a word, readwrite
  pattern write sensors/%u/%c/+      # all clients; %u is the user, %c the client identifier

A name that begins with $, or has +, # or / in it, stands in no pattern: to its client a pattern that
denies denies everything.";

/// How often it is seen whether the broker is there.
const GLANCE: Duration = Duration::from_secs(10);

/// How long clients may take note that the broker shuts down.
const FAREWELL: Duration = Duration::from_secs(5);

pub(crate) fn run(arguments: Arguments) -> Result<(), Failure> {
    let plan = Plan::new(arguments.config, arguments.settings)?;
    let log = tracing_subscriber::fmt().with_max_level(plan.log_level).with_ansi(false);
    // What cannot be written there is not worth a panic.
    log.log_internal_errors(false).with_writer(std::io::stderr).init();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::other)?.block_on(serve(plan))
}

async fn serve(plan: Plan) -> Result<(), Failure> {
    let mut ends = Box::pin(signals()?);
    let mut reloads = Reloads::new()?;
    let guard = Arc::new(Guard::new(&plan)?);
    let builder = watched(plan.builder(), &guard);
    let broker = builder.serve().await.map_err(|error| plan.not_served(&error))?;
    let metrics = broker.metrics_url();
    for url in broker.urls().iter().map(String::as_str).chain(metrics) {
        // Serving is worth more than to say so.
        if let Err(error) = say(format!("listening on {url}\n").as_bytes()) {
            tracing::warn!("{}", error.message);
        }
    }
    loop {
        select! {
            () = &mut ends => break,
            () = reloads.next() => guard.reload(),
            () = ended(&broker) => return Err(Failure::other("the broker has ended by itself")),
        }
    }
    tracing::info!("shutting down");
    shut_down(&broker).await
}

/// Resolves when a broker has ended that was not told to: whoever watches this process is to know.
async fn ended(broker: &Broker) {
    while broker.statistics().await.is_some() {
        sleep(GLANCE).await;
    }
}

/// Lets a guard decide who may do what.
fn watched(builder: Builder, guard: &Arc<Guard>) -> Builder {
    let mut builder = builder;
    if guard.asks_who() {
        let guard = Arc::clone(guard);
        builder = builder.authenticate(move |login| {
            let guard = Arc::clone(&guard);
            async move { guard.admit(login).await }
        });
    }
    if guard.asks_what() {
        let guard = Arc::clone(guard);
        builder = builder.authorize(move |access| guard.allows(access));
    }
    builder
}

async fn shut_down(broker: &Broker) -> Result<(), Failure> {
    let again = signals()?;
    select! {
        () = broker.shutdown(FAREWELL) => {}
        () = again => {} // somebody is in a hurry
    }
    Ok(())
}

/// The signals that ask for files to be read again.
struct Reloads {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Reloads {
    fn new() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self { hangup: signal(SignalKind::hangup()).map_err(Failure::other)? })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        self.hangup.recv().await;
        #[cfg(not(unix))]
        std::future::pending::<()>().await;
    }
}

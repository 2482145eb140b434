//! The client of `transport-tokio`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use transport_tokio::{Client, Options, Reconnect, Status, Version};

use crate::scenarios::{BOTH, Scenario};
use crate::{Result, Setup, ensure};

mod certificates;
mod cuts;
mod frozen;
mod kills;
mod load;
mod numbered;
mod restart;
mod slow;
mod transports;

pub(crate) use certificates::Authority;

/// For a broker that has many messages for one client. By default, mosquitto 2.0.11 has more than 20 wait,
/// lets newer ones overtake them, and sends more than the Receive Maximum when it catches up; or it
/// drops them.
const UNHURRIED: &str = "max_queued_messages 0\nmax_inflight_messages 1000\n";

/// The long ones first.
pub(crate) const ALL: &[Scenario] = &[
    ("killed again and again while publishing", BOTH, kills::publisher),
    ("killed again and again while receiving", BOTH, kills::receiver),
    ("connection cut at random", BOTH, cuts::at_random),
    ("stream that is not read for a while", BOTH, slow::reader),
    ("frozen broker noticed by a listener", BOTH, frozen::listener),
    ("frozen broker noticed by a QoS 0 publisher", BOTH, frozen::publisher),
    ("broker restarted in mid-traffic, session kept", BOTH, restart::session_kept),
    ("broker killed in mid-traffic, session lost", BOTH, restart::session_lost),
    ("lost with the session, QoS 1 published again", BOTH, restart::published_again),
    ("100 tasks publish through one client", BOTH, load::hundred_tasks),
    ("1 MB at each QoS", BOTH, load::megabytes),
    ("TCP", BOTH, transports::tcp),
    ("TLS with client certificate", BOTH, transports::tls),
    ("WebSocket", BOTH, transports::websocket),
    ("WebSocket over TLS", BOTH, transports::websocket_tls),
    ("Unix socket", BOTH, transports::unix),
    ("certificates and passwords refused", BOTH, transports::refused),
];

/// A program to be killed. What it has to say goes to its standard output.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["publish", ref rest @ ..] => kills::child_publishes(rest),
        ["receive", ref rest @ ..] => kills::child_receives(rest),
        ["slow", ref rest @ ..] => slow::child(rest),
        _ => Err("unknown child".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("child {arguments:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario, which may not take for ever.
fn block_on(scenario: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let result = runtime.block_on(async {
        let limited = tokio::time::timeout(Duration::from_secs(150), scenario).await;
        limited.map_err(|_| "it does not end")?
    });
    runtime.shutdown_background(); // nothing is to wait for a file
    result
}

/// A session that outlives its connections, and connections that come back at once. On 5.0 it begins
/// with a clean start, as by default.
fn options(version: Version, client_id: String) -> Options {
    Options {
        version,
        client_id,
        clean_start: version.is_v5(),
        reconnect: Reconnect {
            first: Duration::from_millis(2),
            longest: Duration::from_millis(50),
            ..Reconnect::default()
        },
        ..Options::default()
    }
}

impl Setup {
    fn options(&self, name: &str) -> Options {
        options(self.version, self.id(name))
    }

    /// A client at this address.
    async fn client(&self, name: &str) -> Result<Client> {
        Ok(Client::connect(&format!("mqtt://{}", self.address), self.options(name)).await?)
    }

    /// Random numbers, others for each `purpose`.
    fn random(&self, purpose: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ purpose << 32 ^ u64::from(self.version.is_v5()))
    }
}

/// Waits until it is so.
async fn eventually(what: &str, so: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !so() {
        ensure(start.elapsed() < Duration::from_secs(30), || format!("waited in vain for {what}"))?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Waits until the connection is such, and tells how it is then.
async fn status(client: &Client, so: impl FnMut(&Status) -> bool) -> Result<Status> {
    let mut status = client.status();
    let wait = tokio::time::timeout(Duration::from_secs(30), status.wait_for(so));
    Ok(wait.await.map_err(|_| format!("{:?} for too long", client.status().borrow()))??.clone())
}

/// Every publish at QoS 1 and 2 has been acknowledged, and none twice.
fn all_acknowledged(client: &Client) -> Result<()> {
    let counters = client.counters();
    let published = counters.published[1] + counters.published[2];
    let so = (counters.acknowledged, counters.undelivered) == (published, 0)
        && (counters.in_flight, counters.queued) == (0, 0);
    ensure(so, || format!("{counters:?}"))
}

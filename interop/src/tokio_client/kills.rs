//! A program that is killed, with the session on disk.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;
use transport_tokio::{Client, Durability, Messages, Options, QoS, SessionFile, Streams, Version};

use super::numbered::{RELIABLE, Tally, check, number, payload};
use super::{UNHURRIED, block_on, eventually, options};
use crate::broker::Broker;
use crate::{Result, Setup, ensure};

/// How often it is killed.
const KILLS: u32 = 31;

/// How many messages the receiver has unacknowledged at most: as many as the broker sends, or mosquitto
/// 2.0.11 would exceed it when it catches up.
const RECEIVE_MAXIMUM: u16 = 1_000;

/// What a child is told, as arguments.
struct Orders {
    version: Version,
    address: String,
    /// The client identifier, and the first level of its topics.
    id: String,
    /// Where its files are.
    directory: PathBuf,
    /// The number of this child.
    run: u32,
    /// Whether it is to finish, instead of being killed.
    last: bool,
}

impl Orders {
    fn parse(arguments: &[&str]) -> Result<Self> {
        let &[version, address, id, directory, run, last] = arguments else {
            return Err("VERSION ADDRESS ID DIRECTORY RUN LAST".into());
        };
        Ok(Self {
            version: if version == "5" { Version::V5 } else { Version::V3_1_1 },
            address: address.to_owned(),
            id: id.to_owned(),
            directory: directory.into(),
            run: run.parse()?,
            last: last.parse()?,
        })
    }

    fn start(&self, what: &str) -> Result<Running> {
        let version = if self.version.is_v5() { "5" } else { "3" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", what, version, &self.address, &self.id]).arg(&self.directory);
        command.args([self.run.to_string(), self.last.to_string()]).stdin(Stdio::null());
        Ok(Running(command.spawn()?))
    }

    fn topic(&self, qos: QoS) -> String {
        format!("{}/{}", self.id, qos as u8)
    }

    fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// One kill is like another: what a commit waits for makes no difference.
    fn options(&self) -> Options {
        let path = self.directory.join("session");
        let durability =
            if self.run.is_multiple_of(2) { Durability::Power } else { Durability::Process };
        Options {
            session_file: Some(SessionFile { path, durability }),
            retry_first: true,
            receive_maximum: RECEIVE_MAXIMUM,
            ..options(self.version, self.id.clone())
        }
    }
}

/// A child, killed with its value.
struct Running(std::process::Child);

impl Running {
    /// Kills it in the middle of its work.
    fn kill(mut self) -> Result<()> {
        let ended = self.0.try_wait()?;
        ensure(ended.is_none(), || format!("the child ended by itself: {ended:?}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What children write, a line each: three words.
struct Log(File);

impl Log {
    fn open(path: &Path) -> Result<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// In one piece.
    fn note(&mut self, first: impl std::fmt::Display, qos: QoS, number: u32) -> Result<()> {
        Ok(self.0.write_all(format!("{first} {} {number}\n", qos as u8).as_bytes())?)
    }

    /// First words and numbers of the lines of one QoS.
    fn read(path: &Path, qos: QoS) -> Result<Vec<(String, u32)>> {
        let mut entries = Vec::new();
        for line in fs::read_to_string(path).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let &[first, of, number] = &words[..] else { return Err(line.into()) };
            if of == (qos as u8).to_string() {
                entries.push((first.to_owned(), number.parse()?));
            }
        }
        Ok(entries)
    }
}

const TRIED: &str = "tried";
const ACCEPTED: &str = "accepted";

/// Publishes numbers, notes those that were accepted, and goes on where an earlier one ended.
pub(super) fn child_publishes(arguments: &[&str]) -> Result<()> {
    let orders = Orders::parse(arguments)?;
    block_on(async {
        let (client, driver) = Client::new(&orders.url(), orders.options())?;
        tokio::spawn(driver);
        if orders.last {
            return Ok(client.disconnect().await?);
        }
        let [first, second] = RELIABLE.map(|qos| publish_numbers(&client, &orders, qos));
        tokio::try_join!(first, second).map(drop)
    })
}

async fn publish_numbers(client: &Client, orders: &Orders, qos: QoS) -> Result<()> {
    let path = orders.log();
    let mut log = Log::open(&path)?;
    let next = Log::read(&path, qos)?.last().map_or(0, |(_, number)| number + 1);
    for number in next.. {
        log.note(TRIED, qos, number)?;
        let publish = client.publish(orders.topic(qos), payload(number, 20)).qos(qos);
        publish.accepted().await?; // the outcome is for whoever lives
        log.note(ACCEPTED, qos, number)?;
    }
    Ok(())
}

/// What was accepted arrives, whoever is killed: at QoS 2 once.
pub(super) fn publisher(setup: &Setup) -> Result<()> {
    block_on(async {
        let (broker, directory) = (Broker::start(UNHURRIED)?, tempfile::tempdir()?);
        let mut orders = orders(setup, &broker, directory.path());
        let observer = setup.at(&broker.address).client("observer").await?;
        let mut tallies = Vec::new();
        for qos in RELIABLE {
            tallies.push(Tally::of(observer.subscribe(&orders.topic(qos), qos).await?));
        }
        let mut random = setup.random(1);
        while orders.run < KILLS {
            let child = orders.start("publish")?;
            sleep(Duration::from_millis(random.u64(5..350))).await;
            child.kill()?;
            orders.run += 1;
        }
        orders.last = true;
        let mut last = orders.start("publish")?;
        let status = tokio::task::spawn_blocking(move || last.0.wait()).await??;
        ensure(status.success(), || format!("the last child: {status}"))?;
        for (qos, tally) in RELIABLE.into_iter().zip(tallies) {
            let entries = Log::read(&orders.log(), qos)?;
            let count = entries.last().map_or(0, |(_, number)| number + 1);
            let accepted: HashSet<u32> = entries
                .iter()
                .filter_map(|(state, number)| (state == ACCEPTED).then_some(*number))
                .collect();
            // What is missing is named below.
            let _ = eventually("all", || tally.set().is_superset(&accepted)).await;
            sleep(Duration::from_millis(100)).await; // for what comes twice
            let doubled = tally.count() - tally.set().len();
            println!(
                "       {KILLS} kills, {qos:?}: {count} tried, {} accepted, {} arrived, {doubled} again",
                accepted.len(),
                tally.set().len(),
            );
            tally.check(qos, count, |number| accepted.contains(&number))?;
            ensure(accepted.len() > KILLS as usize, || "hardly anything accepted".to_owned())?;
        }
        Ok(())
    })
}

fn orders(setup: &Setup, broker: &Broker, directory: &Path) -> Orders {
    Orders {
        version: setup.version,
        address: broker.address.clone(),
        id: setup.id("killed"),
        directory: directory.to_owned(),
        run: 0,
        last: false,
    }
}

/// Acknowledges what has been noted.
pub(super) fn child_receives(arguments: &[&str]) -> Result<()> {
    let orders = Orders::parse(arguments)?;
    block_on(async {
        let mut streams = Streams::default();
        let [first, second] = RELIABLE.map(|qos| streams.subscribe(&orders.topic(qos), qos));
        let options = Options { streams, ..orders.options() };
        let _client = Client::connect(&orders.url(), options).await?;
        tokio::try_join!(receive_numbers(first?, &orders), receive_numbers(second?, &orders))
            .map(drop)
    })
}

async fn receive_numbers(mut messages: Messages, orders: &Orders) -> Result<()> {
    let mut log = Log::open(&orders.log())?;
    while let Some((message, ack)) = messages.next_unacknowledged().await {
        log.note(orders.run, message.qos, number(&message.payload)?)?;
        ack.accept();
    }
    Err("the stream has ended".into())
}

/// What arrives is acknowledged when it is in a file, whoever is killed: nothing is missing there.
pub(super) fn receiver(setup: &Setup) -> Result<()> {
    block_on(async {
        let (broker, directory) = (Broker::start(UNHURRIED)?, tempfile::tempdir()?);
        let mut orders = orders(setup, &broker, directory.path());
        subscribe_first(&orders).await?;
        let publisher = setup.at(&broker.address).client("steady").await?;
        let over = Arc::new(AtomicBool::new(false));
        let [first, second] = RELIABLE.map(|qos| {
            let publishing = publish(publisher.clone(), orders.topic(qos), qos, Arc::clone(&over));
            tokio::spawn(publishing)
        });
        let mut random = setup.random(2);
        while orders.run < KILLS {
            let child = orders.start("receive")?;
            sleep(Duration::from_millis(random.u64(5..350))).await;
            child.kill()?;
            orders.run += 1;
        }
        over.store(true, Ordering::Relaxed);
        let counts = [first.await??, second.await??];
        let last = orders.start("receive")?;
        let path = orders.log();
        let noted = |qos| Log::read(&path, qos).unwrap_or_default();
        for (qos, count) in RELIABLE.into_iter().zip(counts) {
            // What is missing is named below.
            let _ = eventually("all", || distinct(&noted(qos)) == count as usize).await;
        }
        sleep(Duration::from_millis(100)).await; // for what comes twice
        last.kill()?;
        for (qos, count) in RELIABLE.into_iter().zip(counts) {
            let entries = noted(qos);
            let again = entries.len() - distinct(&entries);
            println!("       {KILLS} kills, {qos:?}: {count} published, {again} again");
            let mut numbers: Vec<u32> = entries.iter().map(|(_, number)| *number).collect();
            // While the child is away, messages wait, and the broker does not keep their order. Whether
            // what came again might do so is looked at below.
            numbers.sort_unstable();
            check(&numbers, QoS::AtLeastOnce, count, |_| true)
                .map_err(|error| format!("{qos:?}: {error}"))?;
            only_unconfirmed_again(&entries, qos)?;
        }
        Ok(())
    })
}

async fn publish(client: Client, topic: String, qos: QoS, over: Arc<AtomicBool>) -> Result<u32> {
    let mut count = 0;
    while !over.load(Ordering::Relaxed) {
        client.publish(&topic, payload(count, 20)).qos(qos).await?;
        count += 1;
        sleep(Duration::from_millis(1)).await;
    }
    Ok(count)
}

fn distinct(entries: &[(String, u32)]) -> usize {
    entries.iter().map(|(_, number)| number).collect::<HashSet<_>>().len()
}

/// A message comes again only in another run. At QoS 2 it was still unconfirmed then: less than
/// the Receive Maximum came after it, for acknowledgements are in order.
fn only_unconfirmed_again(entries: &[(String, u32)], qos: QoS) -> Result<()> {
    for (index, (run, number)) in entries.iter().enumerate() {
        let Some(before) = entries[..index].iter().rposition(|(_, other)| other == number) else {
            continue;
        };
        ensure(entries[before].0 != *run, || format!("{qos:?}: {number} twice in run {run}"))?;
        let after = distinct(&entries[before..index]);
        ensure(qos != QoS::ExactlyOnce || after <= usize::from(RECEIVE_MAXIMUM), || {
            format!("{number} again after {after} others")
        })?;
    }
    Ok(())
}

/// Makes the session, so that nothing is published before.
async fn subscribe_first(orders: &Orders) -> Result<()> {
    let options = Options { clean_start: false, ..options(orders.version, orders.id.clone()) };
    let client = Client::connect(&orders.url(), options).await?;
    let mut streams = Vec::new();
    for qos in RELIABLE {
        streams.push(client.subscribe(&orders.topic(qos), qos).await?);
    }
    // The streams would unsubscribe.
    client.disconnect().await?;
    Ok(())
}

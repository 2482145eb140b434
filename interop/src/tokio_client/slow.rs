//! A stream that is not read.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use transport_tokio::{Client, Messages, Options, QoS, StreamLimits};

use super::numbered::{check, number, payload};
use super::{block_on, options};
use crate::broker::Broker;
use crate::scenarios::EACH;
use crate::{Result, Setup, Version, ensure};

/// How many messages of each QoS arrive meanwhile, and their size: short enough to be copied out of the
/// read buffer, and together far more than may be kept.
const COUNT: u32 = 3_000;
const SIZE: usize = 4_000;

/// More than there is to a message besides its payload.
const OVERHEAD: usize = 512;

/// What the allocator and the runtime may take in addition.
const SLACK: usize = 4 << 20;

/// A child of its own, so that its memory can be told apart.
pub(super) fn reader(setup: &Setup) -> Result<()> {
    block_on(async {
        let broker = Broker::start("max_queued_messages 0")?;
        let setup = setup.at(&broker.address);
        let full = std::env::var("INTEROP_FULL").is_ok_and(|full| full == "1");
        let seconds = if full { "60" } else { "5" };
        let version = if setup.version.is_v5() { "5" } else { "3" };
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", "slow", version, &broker.address, &setup.id("slow"), seconds]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let ready = output.next().ok_or("the child has ended")??;
        ensure(ready == "ready", || ready)?;
        let (flood, topic) = (setup.client("flood").await?, format!("{}/slow", setup.id("slow")));
        let [zero, one, two] = EACH.map(|qos| publish(&flood, &topic, qos));
        tokio::try_join!(zero, one, two)?;
        let status = tokio::task::spawn_blocking(move || child.wait()).await??;
        for line in output {
            println!("       {}", line?);
        }
        ensure(status.success(), || format!("the child: {status}"))
    })
}

async fn publish(client: &Client, topic: &str, qos: QoS) -> Result<()> {
    for number in 0..COUNT {
        let payload = payload(number, SIZE - 10);
        client.publish(topic, payload).qos(qos).accepted().await?;
    }
    Ok(())
}

pub(super) fn child(arguments: &[&str]) -> Result<()> {
    let &[version, address, id, seconds] = arguments else {
        return Err("VERSION ADDRESS ID SECONDS".into());
    };
    let version = if version == "5" { Version::V5 } else { Version::V3_1_1 };
    let pause = Duration::from_secs(seconds.parse()?);
    block_on(async {
        let options = options(version, id.to_owned());
        let kept = most_kept(&options);
        let client = Client::connect(&format!("mqtt://{address}"), options).await?;
        let mut slow = client.subscribe(&format!("{id}/slow"), QoS::ExactlyOnce).await?;
        let topic = format!("{id}/other");
        let mut other = client.subscribe(&topic, QoS::AtMostOnce).await?;
        for _ in 0..100 {
            round_trip(&client, &topic, &mut other).await?;
        }
        let before = memory("VmRSS")?;
        println!("ready");
        let (start, mut trips) = (Instant::now(), 0);
        while start.elapsed() < pause {
            round_trip(&client, &topic, &mut other).await?;
            trips += 1;
            sleep(Duration::from_millis(10)).await;
        }
        let growth = memory("VmHWM")?.saturating_sub(before);
        let (unread, dropped) = (slow.len(), slow.dropped());
        println!(
            "{unread} unread, {dropped} dropped, {growth} bytes of at most {kept}, {trips} trips"
        );
        ensure(dropped > 0, || "nothing was dropped".to_owned())?;
        ensure(growth < kept, || format!("grown by {growth} bytes"))?;
        read(&mut slow).await
    })
}

/// The most that a stream keeps, in bytes, and the buffers of a connection.
fn most_kept(options: &Options) -> usize {
    let limits = StreamLimits::default();
    usize::from(options.receive_maximum) * (SIZE + OVERHEAD)
        + limits.bytes
        + limits.messages * OVERHEAD
        + 4 * 64 * 1024
        + SLACK
}

/// Another stream of the same client goes on, and so do publishes.
async fn round_trip(client: &Client, topic: &str, other: &mut Messages) -> Result<()> {
    let patience = Duration::from_secs(10);
    client.publish(topic, payload(0, SIZE - 10)).await?;
    timeout(patience, other.next()).await?.ok_or("the other stream has ended")?;
    let publish = client.publish(format!("{topic}/unread"), "").qos(QoS::AtLeastOnce);
    timeout(patience, publish.into_future()).await??;
    Ok(())
}

/// Reads at last: nothing at QoS 1 and 2 is missing.
async fn read(slow: &mut Messages) -> Result<()> {
    let mut arrived = EACH.map(|_| Vec::new());
    let complete = |arrived: &[Vec<u32>; 3]| {
        arrived[1..].iter().all(|numbers| numbers.len() >= COUNT as usize)
    };
    let patience = |complete| Duration::from_millis(if complete { 200 } else { 10_000 });
    while let Ok(message) = timeout(patience(complete(&arrived)), slow.next()).await {
        let message = message.ok_or("the stream has ended")?;
        arrived[message.qos as usize].push(number(&message.payload)?);
    }
    for (qos, numbers) in EACH.into_iter().zip(arrived) {
        check(&numbers, qos, COUNT, |_| qos != QoS::AtMostOnce)?;
    }
    Ok(())
}

/// Bytes of this process.
fn memory(what: &str) -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with(what)).ok_or("no such line")?;
    let kilobytes: usize = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

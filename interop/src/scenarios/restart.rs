//! A broker that goes away in the middle.

use std::collections::HashMap;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use mqtt_core::{Connect, PacketId, QoS};

use crate::broker::Broker;
use crate::peer::Peer;
use crate::{Result, Setup, ensure};

const COUNT: usize = 10_000;

/// A publisher that connects again for as long as it takes.
struct Publisher<'a> {
    peer: Peer,
    connect: Connect<'a>,
    topic: String,
    qos: QoS,
    next: usize,
    /// Numbers without an outcome, by identifier.
    pending: HashMap<PacketId, usize>,
    reconnects: usize,
}

impl Publisher<'_> {
    /// Publishes to the end, whatever happens in between.
    fn run(&mut self, subscribe: bool) -> Result<()> {
        let start = Instant::now();
        loop {
            ensure(start.elapsed() < Duration::from_secs(30), || "it takes too long".to_owned())?;
            let result = self.connection(subscribe);
            self.note_outcomes();
            match result {
                Ok(()) => return Ok(()),
                Err(_) => sleep(Duration::from_millis(20)),
            }
            self.reconnects += 1;
        }
    }

    /// One connection.
    fn connection(&mut self, subscribe: bool) -> Result<()> {
        let present = self.peer.connect(&self.connect)?;
        if subscribe && !present {
            self.peer.subscribe(&self.topic, self.qos)?;
        }
        if !present {
            // Lost with the session: published anew.
            let mut lost: Vec<usize> = self.pending.drain().map(|(_, number)| number).collect();
            lost.sort_unstable();
            for number in lost {
                self.publish(number)?;
            }
        }
        while self.next < COUNT {
            let number = self.next;
            self.publish(number)?;
            self.next += 1;
        }
        self.peer.settle()
    }

    fn publish(&mut self, number: usize) -> Result<()> {
        let id = self.peer.queue(&self.topic, self.qos, number.to_string().as_bytes())?;
        self.note_outcomes();
        self.pending.extend(id.map(|id| (id, number)));
        Ok(())
    }

    fn note_outcomes(&mut self) {
        for (id, _) in self.peer.seen.outcomes.drain(..) {
            self.pending.remove(&id);
        }
    }
}

fn play(setup: &Setup, lines: &str, orderly: bool, qos: QoS) -> Result<(Vec<usize>, usize)> {
    let mut broker = Broker::start(lines)?;
    let setup = setup.at(&broker.address);
    let id = setup.id("restart");
    let mut publisher = Publisher {
        peer: Peer::new(&setup),
        connect: setup.lasting(&id)?,
        topic: setup.topic("restart"),
        qos,
        next: 0,
        pending: HashMap::new(),
        reconnects: 0,
    };
    thread::scope(|scope| {
        let control = scope.spawn(move || {
            for _ in 0..2 {
                sleep(Duration::from_millis(60));
                broker.stop(orderly).map_err(|error| error.to_string())?;
                sleep(Duration::from_millis(60));
                broker.restart().map_err(|error| error.to_string())?;
            }
            Ok::<_, String>(broker)
        });
        let result = publisher.run(true);
        let broker = control.join().map_err(|_| "panicked")??;
        result?;
        // The last restart may have come after the last outcome.
        if publisher.peer.step(50).is_err() {
            publisher.peer.connect(&publisher.connect)?;
        }
        publisher.peer.drain(200)?;
        drop(broker);
        ensure(publisher.pending.is_empty(), || "without outcome".to_owned())?;
        let payloads = publisher.peer.seen.messages.iter().map(|message| &message.payload);
        let numbers = payloads.map(|payload| String::from_utf8_lossy(payload).parse());
        Ok((numbers.collect::<std::result::Result<_, _>>()?, publisher.reconnects))
    })
}

/// The broker keeps its sessions on disk: nothing is lost, and at QoS 2 nothing doubled.
pub(super) fn session_kept(setup: &Setup) -> Result<()> {
    let lines = "max_queued_messages 0\npersistence true\npersistence_location DIRECTORY/";
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut numbers, reconnects) = play(setup, lines, true, qos)?;
        ensure(reconnects > 0, || "it was over before the restart".to_owned())?;
        let count = numbers.len();
        let ordered = numbers.is_sorted();
        numbers.sort_unstable();
        numbers.dedup();
        ensure(numbers.iter().copied().eq(0..COUNT), || {
            format!("{qos:?}: {} arrived", numbers.len())
        })?;
        if qos == QoS::ExactlyOnce {
            ensure(count == COUNT && ordered, || format!("{count} instead of {COUNT}, {ordered}"))?;
        }
    }
    Ok(())
}

/// The broker forgets everything: the client is told, and what had no outcome is published anew.
pub(super) fn session_lost(setup: &Setup) -> Result<()> {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (numbers, reconnects) = play(setup, "max_queued_messages 0", false, qos)?;
        ensure(reconnects > 0, || "it was over before the broker was killed".to_owned())?;
        // What had reached the broker and was acknowledged may have died with it.
        let count = numbers.len();
        ensure(count > COUNT / 2, || format!("only {count} arrived"))?;
    }
    Ok(())
}

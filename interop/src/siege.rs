//! Clients that do not behave, many at once, against the tokio broker in a process of its own: its
//! memory stays within bounds, its descriptors come back, and others are served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::peers::Served;
use crate::{Result, ensure};

/// What they do, and by how many MB the broker may grow meanwhile.
type Siege = (&'static str, fn(&str) -> Result<()>, usize);

const SIEGES: [Siege; 7] = [
    ("1,000 times half a CONNECT, byte by byte", half_connects, 8),
    // All halves together may have 64 MiB.
    ("1,000 times half a PUBLISH of 200 KB", half_publishes, 80),
    ("100 clients with 1,000 subscriptions each", subscriptions, 24),
    ("the same again", subscriptions, 24),
    ("1,000 packets that claim to be giant", giants, 8),
    ("8,000 connections that come and go", storm, 8),
    // Each may have 256 KiB and a packet waiting; what waits in the sessions, they share.
    ("10 subscribers that never read, 40 MB", deaf, 16),
];

/// Somebody else, who is answered all the time.
fn witness(address: &str, is_over: &AtomicBool) -> Result<usize> {
    let mut stream = admitted(address, "witness")?;
    subscribe(&mut stream, "witness", 1)?;
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        // At QoS 1: the message and its acknowledgement come in either order.
        stream.write_all(b"\x32\x0c\0\x07witness\0\x01!")?;
        let mut answers = [0; 18];
        stream.read_exact(&mut answers).map_err(|error| format!("the witness: {error}"))?;
        let publish = answers.windows(2).position(|two| two == b"\x32\x0c").ok_or("no message")?;
        let identifier = [answers[publish + 11], answers[publish + 12]];
        stream.write_all(&[0x40, 2, identifier[0], identifier[1]])?;
        count += 1;
        thread::sleep(Duration::from_millis(2));
    }
    Ok(count)
}

/// All of them, one after the other, of one broker.
pub(crate) fn main() -> ExitCode {
    let mut passed = 0;
    match Served::start().and_then(|served| Ok((visited(&served)?, served))) {
        Ok((before, served)) => {
            println!("\n{:<44} {:>10} {:>8} {:>12}", "siege", "grown, MB", "may", "others' trips");
            for siege in &SIEGES {
                match one(&served, before, siege) {
                    Ok((grown, trips)) => {
                        println!("{:<44} {grown:>10.1} {:>8} {trips:>12}", siege.0, siege.2);
                        passed += 1;
                    }
                    Err(error) => println!("{:<44} FAILED: {error}", siege.0),
                }
            }
        }
        Err(error) => eprintln!("the broker does not start: {error}"),
    }
    println!("\n{passed} passed, {} failed", SIEGES.len() - passed);
    if passed == SIEGES.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How large it is, with what it opens for its first connection, which has come and gone.
fn visited(served: &Served) -> Result<usize> {
    witness(served.tcp.trim_start_matches("mqtt://"), &AtomicBool::new(true))?;
    thread::sleep(Duration::from_millis(500));
    served.resident()
}

/// By how much it is larger than before all of them, at most, and how often somebody else was served.
fn one(served: &Served, before: usize, (_, besiege, most): &Siege) -> Result<(f64, usize)> {
    let address = served.tcp.trim_start_matches("mqtt://");
    let descriptors = served.descriptors()?;
    let is_over = AtomicBool::new(false);
    let (largest, trips) = thread::scope(|scope| {
        let witness = scope.spawn(|| witness(address, &is_over));
        let watch = scope.spawn(|| {
            let mut largest = before;
            while !is_over.load(Ordering::Relaxed) {
                largest = largest.max(served.resident()?);
                thread::sleep(Duration::from_millis(10));
            }
            Ok(largest)
        });
        let result = besiege(address);
        is_over.store(true, Ordering::Relaxed);
        let trips = witness.join().map_err(|_| "the witness panicked")?;
        let largest: Result<usize> = watch.join().map_err(|_| "the watch panicked")?;
        result.and(Ok((largest?, trips?)))
    })?;
    let start = Instant::now();
    while served.descriptors()? != descriptors {
        ensure(start.elapsed() < Duration::from_secs(20), || {
            format!("{:?} descriptors, before {descriptors}", served.descriptors())
        })?;
        thread::sleep(Duration::from_millis(20));
    }
    let grown = largest.saturating_sub(before);
    ensure(grown <= most * 1_000_000, || format!("grown by {grown} bytes"))?;
    ensure(trips > 0, || "nobody else was served".to_owned())?;
    Ok((grown as f64 / 1e6, trips))
}

/// A connection on which nothing is waited for longer than half a minute.
fn open(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_write_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

/// CONNECT at 3.1.1 with a clean session and without keep alive.
fn connect(name: &str) -> Vec<u8> {
    let len = name.len() as u8;
    [b"\x10", &[12 + len][..], b"\0\x04MQTT\x04\x02\0\0\0", &[len], name.as_bytes()].concat()
}

fn admitted(address: &str, name: &str) -> Result<TcpStream> {
    let mut stream = open(address)?;
    stream.write_all(&connect(name))?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    ensure(answer == *b"\x20\x02\0\0", || format!("{name}: {answer:02x?}"))?;
    Ok(stream)
}

fn subscribe(stream: &mut TcpStream, filter: &str, qos: u8) -> Result<()> {
    let len = filter.len() as u8;
    let packet = [&[0x82, 5 + len, 0, 1, 0, len], filter.as_bytes(), &[qos]].concat();
    stream.write_all(&packet)?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    ensure(answer == [0x90, 3, 0, 1, qos], || format!("{filter}: {answer:02x?}"))
}

/// Waits until the broker has ended the connection, one way or the other.
fn ended(stream: &mut TcpStream) -> Result<()> {
    let mut rest = [0; 64];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(format!("the connection has not ended: {error}").into()),
        }
    }
}

/// They are waited for no longer than CONNECT may take, however often a byte comes.
fn half_connects(address: &str) -> Result<()> {
    let streams: Result<Vec<_>> = (0..1_000).map(|_| open(address)).collect();
    let mut streams = streams?;
    for byte in &connect("never comes to its end")[..20] {
        for stream in &mut streams {
            // It may have been closed already.
            let _ = stream.write_all(&[*byte]);
        }
        thread::sleep(Duration::from_millis(100));
    }
    streams.iter_mut().try_for_each(ended)
}

/// They stay until there are too many of them; then those go that have sent most.
fn half_publishes(address: &str) -> Result<()> {
    let mut streams = Vec::new();
    let half = vec![b'x'; 100_000];
    for number in 0..1_000 {
        let mut stream = admitted(address, &format!("half{number}"))?;
        // 200,000 bytes. It may be closed before all of the half is there.
        stream.write_all(b"\x30\xc0\x9a\x0c\0\x01t")?;
        let _ = stream.write_all(&half);
        streams.push(stream);
    }
    thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// 100,000 in all, with wildcards among them, which are found all the same.
fn subscriptions(address: &str) -> Result<()> {
    let mut streams = Vec::new();
    for client in 0..100 {
        let mut stream = admitted(address, &format!("many{client}"))?;
        for number in 0..1_000 {
            let filter = match number % 10 {
                0 => format!("s/{client}/{number}/#"),
                1 => format!("s/{client}/+/{number}"),
                _ => format!("s/{client}/{number}/exact"),
            };
            subscribe(&mut stream, &filter, 0)?;
        }
        // One of them matches.
        let topic = format!("s/{client}/10/x");
        let (len, name) = (topic.len() as u8, topic.as_bytes());
        let packet = [&[0x30, 2 + len, 0, len], name].concat();
        stream.write_all(&packet)?;
        let mut message = vec![0; packet.len()];
        stream.read_exact(&mut message)?;
        ensure(message == packet, || format!("{message:02x?}"))?;
        streams.push(stream);
    }
    Ok(())
}

/// What nobody will ever send is not waited for.
fn giants(address: &str) -> Result<()> {
    for number in 0..500 {
        let mut stream = open(address)?;
        stream.write_all(b"\x10\xff\xff\xff\x7f\0\x04MQTT\x04")?;
        ended(&mut stream)?;
        let mut stream = admitted(address, &format!("giant{number}"))?;
        stream.write_all(b"\x30\xff\xff\xff\x7f\0\x01t")?;
        ended(&mut stream)?;
    }
    Ok(())
}

/// Some take their leave, some do not, some have nothing sensible to say.
fn storm(address: &str) -> Result<()> {
    let number = AtomicUsize::new(0);
    let visitor = || -> Result<()> {
        loop {
            let number = number.fetch_add(1, Ordering::Relaxed);
            if number >= 8_000 {
                return Ok(());
            }
            match number % 4 {
                0 => admitted(address, &format!("polite{number}"))?.write_all(b"\xe0\0")?,
                1 => drop(admitted(address, &format!("rude{number}"))?),
                2 => open(address)?.write_all(b"\x10\x0d\0\x04MQ")?,
                _ => {
                    let mut stream = open(address)?;
                    stream.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
                    ended(&mut stream)?;
                }
            }
        }
    };
    thread::scope(|scope| {
        let visitors: Vec<_> = (0..8).map(|_| scope.spawn(visitor)).collect();
        visitors.into_iter().try_for_each(|visitor| visitor.join().map_err(|_| "a panic")?)
    })
}

/// One who reads gets everything, although others do not.
fn deaf(address: &str) -> Result<()> {
    const COUNT: usize = 5_000;
    let mut streams = Vec::new();
    for number in 0..10 {
        let mut stream = admitted(address, &format!("deaf{number}"))?;
        subscribe(&mut stream, "flood", number % 2)?;
        streams.push(stream);
    }
    let mut reader = admitted(address, "reader")?;
    subscribe(&mut reader, "flood", 0)?;
    let mut publisher = admitted(address, "publisher")?;
    // At QoS 1, one after the other: 8,000 bytes each.
    let head = b"\x32\xcb\x3e\0\x05flood\0\x01";
    let packet = [&head[..], &[b'x'; 8_002]].concat();
    let mut message = vec![0; packet.len() - 2];
    for number in 0..COUNT {
        publisher.write_all(&packet)?;
        reader.read_exact(&mut message).map_err(|error| format!("message {number}: {error}"))?;
        ensure(message[0] == 0x30, || format!("{:02x?}", &message[..4]))?;
        let mut answer = [0; 4];
        publisher.read_exact(&mut answer)?;
        ensure(answer == *b"\x40\x02\0\x01", || format!("{answer:02x?}"))?;
    }
    reader.shutdown(Shutdown::Both)?;
    Ok(())
}

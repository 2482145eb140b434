//! `mqtt broker`: settings, and what is wrong with them; its end.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use nix::sys::signal::Signal;

use crate::support::{Broker, full, mqtt};

/// A directory with a file of settings in it.
fn settings(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("broker.toml");
    fs::write(&path, text).expect("a file");
    let path = path.to_str().expect("a name").to_owned();
    (directory, path)
}

#[test]
fn settings_that_make_no_sense_are_told_with_file_line_and_key() {
    for (text, line, key, what) in [
        ("\nreceive-maximum = 0\n", 2, "receive-maximum", "nonzero"),
        ("receive-maximum = 70000", 1, "receive-maximum", "70000"),
        ("# a comment\n\nmax-qos = 3", 3, "max-qos", "not 0, 1 or 2"),
        ("max-packet-size = \"large\"", 1, "max-packet-size", "invalid type"),
        ("max-packet-size = 10", 1, "max-packet-size", "less than"),
        ("colour = 'red'", 1, "colour", "unknown field"),
        ("[tls]\ncertificate = 'a'\nkey = 'b'\ncolour = 'red'", 4, "tls.colour", "unknown field"),
        ("\n[tls]\ncertificate = 'a'", 2, "tls", "missing field `key`"),
        ("[tls]\ncertificate = 'nowhere.pem'\nkey = 'b'", 2, "tls.certificate", "nowhere.pem"),
        ("listen = ['127.0.0.1:0',\n  'http://127.0.0.1']", 2, "listen.1", "unknown scheme"),
        ("listen = ['127.0.0.1:0',\n'mqtts://127.0.0.1:0']", 2, "listen.1", "no certificate"),
        ("listen = ['0.0.0.0:0']", 1, "listen.0", "a public address"),
        ("listen = 7", 1, "listen", "invalid type"),
        ("\n\npassword-file = 'nowhere'", 3, "password-file", "nowhere: "),
        ("acl-file = 'nowhere'", 1, "acl-file", "nowhere: "),
        ("log-level = 'loud'", 1, "log-level", "unknown variant"),
        ("\nallow-anonymous = false", 2, "allow-anonymous", "nobody could connect"),
        ("durability = 'power'", 1, "durability", "no persistence"),
        ("persistence = '/dev/null'", 1, "persistence", "/dev/null"),
        ("\nmetrics = 'here'", 2, "metrics", "socket address"),
        ("\nmax-qos = \nlisten = []", 2, "max-qos", "expected"),
        ("max-qos = 1\nmax-qos = 2", 2, "max-qos", "duplicate"),
    ] {
        let (_directory, path) = settings(text);
        let error = mqtt(&["broker", "--config", &path]).fails(1);
        let place = format!("mqtt: {path}:{line}: {key}: ");
        assert!(error.starts_with(&place) && error.contains(what), "{text:?}: {error}");
    }
    let error = mqtt(&["broker", "--config", "/nowhere"]).fails(1);
    assert!(error.contains("/nowhere: "), "{error}");
}

/// Where that comes from the command line, the option is named.
#[test]
fn options_that_make_no_sense_are_named() {
    for arguments in [
        &["--listen", "0.0.0.0:0"][..],
        &["--listen", "[::]:0"],
        &["--listen", "ws://0.0.0.0:0/mqtt"],
        &["--listen", "127.0.0.1:0", "--listen", "mqtts://127.0.0.1:0"],
        &["--password-file", "/nowhere"],
        &["--max-packet-size", "1"],
        &["--max-qos", "3"],
        &["--receive-maximum", "0"],
    ] {
        let error = mqtt(&[&["broker"], arguments].concat()).fails(1);
        assert!(error.contains(arguments[arguments.len() - 2]), "{error}");
    }
    let taken = Broker::with(&[]);
    let error = mqtt(&["broker", "--listen", &taken.urls[0]]).fails(1);
    assert!(error.contains("--listen: ") && error.contains(&taken.urls[0]), "{error}");
    let (_directory, path) = settings(&format!("listen = ['{}']", taken.urls[0]));
    let error = mqtt(&["broker", "--config", &path]).fails(1);
    assert!(error.contains(":1: listen.0: "), "{error}");
}

#[test]
fn whoever_wants_everybody_says_so() {
    for arguments in [&["--allow-anonymous"][..], &["--allow-anonymous=true"]] {
        let broker = Broker::start(&[&["--listen", "0.0.0.0:0"], arguments].concat(), 1);
        let port = broker.urls[0].rsplit(':').next().expect("a port");
        mqtt(&["pub", "-h", "127.0.0.1", "-p", port, "-t", "a", "-m", "x", "-q", "1"]).ok();
    }
    mqtt(&["broker", "--listen", "127.0.0.1:0", "--allow-anonymous=false"]).fails(1);
    let (_directory, path) = settings("listen = ['0.0.0.0:0']\nallow-anonymous = true");
    Broker::start(&["--config", &path], 1);
}

/// The command line comes before the file.
#[test]
fn limits_are_those_that_were_given() {
    let text = "listen = ['127.0.0.1:0']\nmax-qos = 1\nmax-connections = 1\nlog-level = 'warn'";
    let (_directory, path) = settings(text);
    let broker = Broker::start(&["--config", &path], 1);
    broker.run("pub", &["-t", "a", "-m", "x", "-q", "2"]).fails(0x9b);
    let listener = broker.listen(&["-t", "a"]);
    broker.run("pub", &["-t", "a", "-m", "x"]).fails(7);
    drop(listener);

    let broker = Broker::start(&["--config", &path, "--max-qos", "2"], 1);
    broker.run("pub", &["-t", "a", "-m", "x", "-q", "2"]).ok();

    let broker = Broker::with(&["--max-queued-messages", "2"]);
    let session = ["-i", "one", "-c", "-q", "1", "-t", "a"];
    broker.run("sub", &[&session[..], &["-E"]].concat()).ok();
    for text in ["1", "2", "3"] {
        broker.run("pub", &["-t", "a", "-m", text, "-q", "1"]).ok();
    }
    let listener = broker.listen(&[&session[..], &["-C", "3"]].concat());
    broker.run("pub", &["-t", "a", "-m", "4", "-q", "1"]).ok();
    assert_eq!(listener.ok(), "1\n2\n4\n");
}

#[test]
fn what_is_kept_survives_the_broker() {
    let text = "listen = ['127.0.0.1:0']\npersistence = 'kept'\ndurability = 'process'";
    let (_directory, path) = settings(text);
    let session = ["-i", "worker", "-c", "-q", "1", "-t", "jobs/#"];
    let mut broker = Broker::start(&["--config", &path], 1);
    broker.run("sub", &[&session[..], &["-E"]].concat()).ok();
    broker.run("pub", &["-t", "jobs/1", "-m", "waits", "-q", "1"]).ok();
    broker.run("pub", &["-t", "state", "-m", "retained", "-r", "-q", "1"]).ok();
    broker.process.signal(Signal::SIGKILL);
    broker.process.wait();

    let broker = Broker::start(&["--config", &path], 1);
    assert_eq!(broker.run("sub", &[&session[..], &["-C", "1"]].concat()).ok(), "waits\n");
    assert_eq!(broker.run("sub", &["-t", "state", "-C", "1"]).ok(), "retained\n");
}

#[test]
fn the_brokers_numbers_can_be_had() {
    let broker = Broker::start(
        &["--listen", "127.0.0.1:0", "--sys-interval", "1", "--metrics", "127.0.0.1:0"],
        2,
    );
    let topic = "$SYS/broker/clients/connected";
    let connected = broker.run("sub", &["-t", topic, "-C", "1"]).ok();
    assert!(connected.trim().parse::<u32>().is_ok(), "{connected}");

    let url = broker.urls[1].strip_prefix("http://").expect("an address");
    let address = url.strip_suffix("/metrics").expect("a path");
    let mut connection = TcpStream::connect(address).expect("a connection");
    connection
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        .expect("a question");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\n# TYPE "), "{answer}");

    let error = mqtt(&["broker", "--listen", "127.0.0.1:0", "--metrics", address]).fails(1);
    assert!(error.contains("--metrics: ") && error.contains(address), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_broker_that_cannot_say_so_serves() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("mqtt.sock");
    let url = format!("unix://{}", socket.to_str().expect("a name"));
    let mut broker = full(&["broker", "--listen", &url, "--log-level", "debug"]);
    while !socket.exists() {
        assert_eq!(broker.try_wait(), None, "it serves");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    mqtt(&["pub", "-L", &url, "-t", "a", "-m", "x", "-q", "1"]).ok();
    broker.signal(Signal::SIGTERM);
    assert_eq!(broker.wait(), 0);
}

#[test]
fn a_broker_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("mqtt.sock");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let url = format!("unix://{}", socket.to_str().expect("a name"));
        let mut broker = Broker::with(&["--listen", &url]);
        let listener = broker.listen(&["-t", "a"]);
        assert!(Path::new(&socket).exists());
        broker.process.signal(signal);
        assert_eq!(broker.process.wait(), 0);
        assert!(!Path::new(&socket).exists(), "its name goes with it");
        listener.log.until("ServerShuttingDown");
    }
}

//! `mqtt pub`, `mqtt sub`, `mqtt bench`.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Broker, Process, mqtt};

const VERSIONS: [&str; 3] = ["31", "311", "5"];

#[test]
fn messages_make_the_round_at_each_qos_and_version() {
    let broker = Broker::with(&[]);
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let to = ["-V", version, "-q", qos, "-t", "rooms/+", "-C", "2", "-F", "%t %p %q"];
            let listener = broker.listen(&to);
            for text in ["one", "two"] {
                let message = ["-V", version, "-q", qos, "-t", "rooms/7", "-m", text];
                broker.run("pub", &message).ok();
            }
            let expected = format!("rooms/7 one {qos}\nrooms/7 two {qos}\n");
            assert_eq!(listener.ok(), expected, "{version} {qos}");
        }
    }
}

#[test]
fn a_retained_message_is_there_until_it_is_taken_back() {
    let broker = Broker::with(&[]);
    broker.run("pub", &["-t", "a", "-m", "kept", "-r"]).ok();
    broker.run("pub", &["-t", "b", "-m", "kept, too", "-r"]).ok();
    let kept = broker.run("sub", &["-t", "a", "-C", "1", "-F", "%p %r"]).ok();
    assert_eq!(kept, "kept 1\n");
    broker.run("pub", &["-t", "a", "-n", "-r"]).ok();

    let listener = broker.listen(&["-t", "+", "--retained-only", "-v"]);
    broker.run("pub", &["-t", "c", "-m", "new"]).ok();
    assert_eq!(listener.ok(), "b kept, too\n");

    let listener = broker.listen(&["-t", "+", "-R", "-T", "d", "-C", "1", "-v"]);
    broker.run("pub", &["-t", "d", "-m", "left out"]).ok();
    broker.run("pub", &["-t", "c", "-m", "new"]).ok();
    assert_eq!(listener.ok(), "c new\n");
}

#[test]
fn the_will_of_a_killed_client_is_published() {
    let broker = Broker::with(&[]);
    for version in VERSIONS {
        let will = ["--will-topic", "wills", "--will-payload", "gone", "--will-qos", "1"];
        let arguments = [&["-V", version, "-t", "a"], &will[..]].concat();
        let dying = broker.listen(&arguments);
        let listener = broker.listen(&["-t", "wills", "-C", "1", "-q", "1", "-F", "%p %q"]);
        dying.process.signal(Signal::SIGKILL);
        assert_eq!(listener.ok(), "gone 1\n");
    }
}

/// Asked to end, a client parts as it should: its will is nobody's business.
#[test]
fn a_subscriber_ends_when_it_is_told_to() {
    let broker = Broker::with(&[]);
    let listener = broker.listen(&["-t", "wills", "-C", "1"]);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let subscriber =
            broker.listen(&["-t", "a", "--will-topic", "wills", "--will-payload", "gone"]);
        subscriber.process.signal(signal);
        assert_eq!(subscriber.ok(), "");
    }
    broker.run("pub", &["-t", "wills", "-m", "the first"]).ok();
    assert_eq!(listener.ok(), "the first\n");
}

/// More than a pipe holds, of which nobody reads more than the beginning.
#[test]
fn a_subscriber_that_cannot_write_ends_as_well() {
    let broker = Broker::with(&[]);
    broker.feed("pub", &["-t", "a", "-r", "-s", "-q", "1"], &vec![b'x'; 900_000]).ok();
    for (arguments, code) in [(&["-t", "a"][..], 0), (&["-t", "a", "-W", "2"], 27)] {
        let mut subscriber = broker.listen(arguments);
        subscriber.begin();
        if code == 0 {
            subscriber.process.signal(Signal::SIGTERM);
        }
        assert_eq!(subscriber.process.wait(), code);
    }
}

#[test]
fn nothing_comes_in_time() {
    let broker = Broker::with(&[]);
    let error = broker.run("sub", &["-t", "a", "-C", "1", "-W", "1"]).fails(27);
    assert!(error.contains("timed out"), "{error}");
    assert_eq!(broker.run("sub", &["-t", "a", "-W", "1", "--quiet"]).fails(27), "");
    broker.run("pub", &["-t", "a", "-m", "x", "-r"]).ok();
    let ran = broker.run("sub", &["-t", "a", "-C", "2", "-W", "1"]);
    assert_eq!((ran.code, &*ran.stdout), (27, "x\n"), "what has come is there");
}

#[test]
fn properties_are_sent_and_shown() {
    let broker = Broker::with(&[]);
    let properties = [
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "user-property",
        "a",
        "b",
        "-D",
        "publish",
        "response-topic",
        "answers",
        "-D",
        "publish",
        "correlation-data",
        "c7",
        "-D",
        "publish",
        "message-expiry-interval",
        "60",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
    ];
    let listener = broker.listen(&["-t", "q", "-C", "1", "-N", "-F", "%C|%P|%R|%D|%F|%l|%x"]);
    broker.run("pub", &[&["-t", "q", "-m", "hi"], &properties[..]].concat()).ok();
    assert_eq!(listener.ok(), "text/plain|a:b|answers|c7|1|2|6869");

    let listener = broker.listen(&["-t", "q", "-C", "1", "-F", "%J"]);
    broker.run("pub", &[&["-t", "q", "-m", "{\"n\":1}"], &properties[..]].concat()).ok();
    let told: Value = serde_json::from_str(&listener.ok()).expect("JSON");
    assert_eq!(told["payload"], json!({"n": 1}));
    assert_eq!(told["properties"]["user-properties"], json!([{"a": "b"}]));
}

#[test]
fn each_line_is_a_message() {
    let broker = Broker::with(&["--max-queued-messages", "3000"]);
    let lines: String = (0..3_000).map(|number| format!("line {number}\n")).collect();
    for qos in ["1", "2"] {
        let listener = broker.listen(&["-t", "log", "-q", qos, "-C", "3000"]);
        broker.feed("pub", &["-t", "log", "-l", "-q", qos], lines.as_bytes()).ok();
        assert_eq!(listener.ok(), lines);
    }
    let listener = broker.listen(&["-t", "log", "-C", "2", "-F", "<%p>"]);
    broker.feed("pub", &["-t", "log", "-l"], b"with a return\r\nwithout an end").ok();
    assert_eq!(listener.ok(), "<with a return>\n<without an end>\n");
    broker.feed("pub", &["-t", "log", "-l"], b"").ok();
}

/// Standard input waits for a server that takes nothing.
#[test]
fn lines_are_not_gathered_without_bound() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let port = server.local_addr().expect("an address").port().to_string();
    let most = 256 << 20;
    for qos in ["0", "1"] {
        let publisher =
            Process::client(&["pub", "-h", "127.0.0.1", "-p", &port, "-t", "a", "-l", "-q", qos]);
        let (mut connection, _) = server.accept().expect("a client");
        assert!(connection.read(&mut [0; 1_000]).expect("CONNECT") > 0);
        connection.write_all(&[0x20, 3, 0, 0, 0]).expect("CONNACK");
        let taken = publisher.flood(&[&[b'x'; 9_999][..], b"\n"].concat(), most);
        // The queue, what is in flight, and the system's buffers.
        assert!(taken > 1 << 20 && taken < 100 << 20, "{taken}");
    }
}

#[test]
fn a_message_may_be_a_file() {
    let broker = Broker::with(&[]);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("message");
    std::fs::write(&path, "two\nlines").expect("a file");
    let path = path.to_str().expect("a name");
    let listener = broker.listen(&["-t", "f", "-C", "4", "-F", "<%p>"]);
    broker.run("pub", &["-t", "f", "-f", path]).ok();
    broker.feed("pub", &["-t", "f", "-s"], b"two\nlines").ok();
    broker.run("pub", &["-t", "f", "-m", "-5", "--repeat", "2"]).ok();
    assert_eq!(listener.ok(), "<two\nlines>\n<two\nlines>\n<-5>\n<-5>\n");
    let error = broker.run("pub", &["-t", "f", "-f", "/nowhere"]).fails(1);
    assert!(error.contains("/nowhere"), "{error}");
}

#[test]
fn a_session_keeps_what_comes_meanwhile() {
    let broker = Broker::with(&[]);
    for version in ["311", "5"] {
        let session = ["-V", version, "-i", "worker", "-c", "-q", "1"];
        broker.run("sub", &[&session[..], &["-t", "jobs/#", "-E"]].concat()).ok();
        for job in ["one", "two", "three"] {
            broker.run("pub", &["-t", "jobs/1", "-m", job, "-q", "1"]).ok();
        }
        for (count, expected) in [("1", "one\n"), ("2", "two\nthree\n")] {
            let came = broker.run("sub", &[&session[..], &["-t", "jobs/#", "-C", count]].concat());
            assert_eq!(came.ok(), expected, "{version}");
        }
        broker.run("sub", &[&session[..], &["-U", "jobs/#"]].concat()).ok();
        broker.run("pub", &["-t", "jobs/1", "-m", "for nobody", "-q", "1"]).ok();
        broker.run("sub", &[&session[..], &["-t", "other", "-W", "1"]].concat()).fails(27);
    }
}

#[test]
fn the_url_may_name_the_topic() {
    let broker = Broker::with(&[]);
    let url = format!("{}/rooms/7", broker.urls[0]);
    mqtt(&["pub", "-L", &url, "-m", "x", "-r"]).ok();
    assert_eq!(mqtt(&["sub", "-L", &url, "-C", "1"]).ok(), "x\n");
    let port = broker.urls[0].rsplit(':').next().expect("a port");
    for host in ["127.0.0.1", "localhost"] {
        let server = ["sub", "-h", host, "-p", port, "-t", "rooms/7", "-C", "1"];
        assert_eq!(mqtt(&server).ok(), "x\n");
    }
}

#[test]
fn a_reader_that_has_enough_is_no_error() {
    let broker = Broker::with(&[]);
    let mut listener = broker.listen(&["-t", "a"]);
    listener.hang_up();
    let mut code = None;
    while code.is_none() {
        broker.run("pub", &["-t", "a", "-m", "x"]).ok();
        code = listener.process.try_wait();
    }
    assert_eq!(code, Some(0));
}

#[test]
fn exit_codes_say_what_was_wrong() {
    // Nobody listens at port 1.
    for arguments in [&["pub", "-t", "a", "-m", "x"][..], &["sub", "-t", "a"], &["bench"]] {
        let error = mqtt(&[arguments, &["-p", "1"]].concat()).fails(14);
        assert!(error.contains(":1: "), "{error}");
    }
    for arguments in [
        &["pub", "-t", "a"][..],
        &["pub", "-t", "a", "-m", "x", "-n"],
        &["pub", "-m", "x"],
        &["pub", "-t", "a", "-m", "x", "-q", "3"],
        &["pub", "-t", "a", "-m", "x", "-V", "4"],
        &["pub", "-t", "a", "-m", "x", "-V", "311", "-D", "publish", "content-type", "x"],
        &["pub", "-t", "a", "-m", "x", "-D", "publish", "colour", "red"],
        &["sub"],
        &["sub", "-t", "a/#/b"],
        &["sub", "-t", "a", "-c"],
        &["sub", "-t", "a", "-F", "%k"],
        &["sub", "-L", "http://example", "-t", "a"],
        &["nothing"],
    ] {
        let error = mqtt(arguments).fails(1);
        assert!(!error.is_empty(), "{arguments:?}");
    }
    let broker = Broker::with(&["--max-qos", "1", "--max-packet-size", "1000"]);
    broker.run("pub", &["-t", "a", "-m", "x", "-q", "2"]).fails(0x9b);
    broker.run("pub", &["-t", "a", "-m", &"x".repeat(2_000)]).fails(0x95);
    broker.run("pub", &["-t", "a/+", "-m", "x"]).fails(1);
    broker.run("sub", &["-i", "\u{7}", "-t", "a"]).fails(0x85);
    broker.run("sub", &["-i", "\u{7}", "-t", "a", "-V", "311"]).fails(2);
}

#[test]
fn a_bench_ends_with_a_summary() {
    let broker = Broker::with(&[]);
    for qos in ["0", "1", "2"] {
        let load = ["--publishers", "2", "--subscribers", "3", "--idle", "2", "--messages", "50"];
        let arguments = [&["--json", "-q", qos, "--rate", "1000"], &load[..]].concat();
        let report = broker.run("bench", &arguments).ok();
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["connections"], 7);
        assert_eq!(report["published"], 100);
        assert_eq!(report["received"], 300);
        assert_eq!(report["lost"], 0);
        assert!(report["latency_us"]["p99"].as_u64() > Some(0), "{report}");
        assert_eq!(report["acknowledgement_us"].is_null(), qos == "0");
    }
    let pairs = ["--publishers", "3", "--subscribers", "4", "--pairs", "--messages", "10"];
    let report = broker.run("bench", &[&pairs[..], &["--json", "-q", "1"]].concat()).ok();
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!((&report["published"], &report["received"]), (&json!(30), &json!(40)));
    let summary = broker.run("bench", &["--messages", "10"]).ok();
    for word in ["connections", "published", "received", "p99.9", "delivered"] {
        assert!(summary.contains(word), "{summary}");
    }
}

//! Passwords and ACL.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::support::{Broker, feed, mqtt};

/// A directory with a password file in it, in which alice's is `secret` and bob's `hidden`.
struct Files {
    directory: TempDir,
    passwords: PathBuf,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let passwords = directory.path().join("passwords");
        let files = Self { directory, passwords };
        mqtt(&["passwd", "-c", "-b", files.passwords(), "alice", "secret"]).ok();
        feed(&["passwd", files.passwords(), "bob"], b"hidden\n").ok();
        files
    }

    fn passwords(&self) -> &str {
        self.passwords.to_str().expect("a name")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a name").to_owned()
    }
}

const ALICE: [&str; 4] = ["-u", "alice", "-P", "secret"];
const BOB: [&str; 4] = ["-u", "bob", "-P", "hidden"];

#[test]
fn only_who_knows_a_password_is_let_in() {
    let files = Files::new();
    let broker = Broker::with(&["--password-file", files.passwords()]);
    let hello = |arguments: &[&str]| {
        broker.run("pub", &[&["-t", "a", "-m", "x", "-q", "1"], arguments].concat())
    };
    for version in ["311", "5"] {
        hello(&[&ALICE[..], &["-V", version]].concat()).ok();
        hello(&[&BOB[..], &["-V", version]].concat()).ok();
    }
    for wrong in [&["-u", "alice", "-P", "hidden"][..], &["-u", "eve", "-P", ""], &["-u", "bob"]] {
        hello(wrong).fails(0x86);
        hello(&[wrong, &["-V", "311"]].concat()).fails(4);
    }
    hello(&[]).fails(0x87);
    hello(&["-V", "311"]).fails(5);

    let open = Broker::with(&["--password-file", files.passwords(), "--allow-anonymous"]);
    open.run("pub", &["-t", "a", "-m", "x", "-q", "1"]).ok();
    open.run("pub", &["-t", "a", "-m", "x", "-u", "alice", "-P", "wrong"]).fails(0x86);
}

/// A session is the user's who made it, or nobody's, unless it is to be for anybody.
#[test]
fn a_session_is_not_for_other_users() {
    let files = Files::new();
    let passwords = ["--password-file", files.passwords(), "--allow-anonymous"];
    let broker = Broker::with(&passwords);
    let keep = ["-t", "a", "-q", "1", "-i", "one", "-c", "-E"];
    let hello = ["-t", "b", "-m", "x", "-i", "one"];
    let waits = ["-t", "a", "-m", "waits", "-q", "1"];
    broker.run("sub", &[&keep[..], &ALICE].concat()).ok();
    broker.run("pub", &[&waits[..], &BOB].concat()).ok();
    for other in [&BOB[..], &[]] {
        broker.run("pub", &[&hello[..], other].concat()).fails(0x85);
        broker.run("pub", &[&hello[..], other, &["-V", "311"]].concat()).fails(2);
        broker.run("sub", &[&keep[..], other].concat()).fails(0x85);
    }
    let rest = ["-t", "a", "-q", "1", "-i", "one", "-c", "-C", "1"];
    assert_eq!(broker.run("sub", &[&rest[..], &ALICE].concat()).ok(), "waits\n");

    let file = files.write("broker.toml", "takeover = \"anybody\"\n");
    let broker = Broker::with(&[&["--config", &file], &passwords[..]].concat());
    broker.run("sub", &[&keep[..], &ALICE].concat()).ok();
    broker.run("pub", &[&waits[..], &BOB].concat()).ok();
    assert_eq!(broker.run("sub", &[&rest[..], &BOB].concat()).ok(), "waits\n");
    let error = mqtt(&["broker", "--takeover", "nobody"]).fails(1);
    assert!(error.contains("owner, anybody"), "{error}");
}

#[test]
fn passwords_are_read_again() {
    let files = Files::new();
    let broker = Broker::with(&["--password-file", files.passwords()]);
    let carol = ["-t", "a", "-m", "x", "-q", "1", "-u", "carol", "-P", "new"];
    broker.run("pub", &carol).fails(0x86);
    feed(&["passwd", files.passwords(), "carol"], b"new").ok();
    mqtt(&["passwd", "-D", files.passwords(), "bob"]).ok();
    broker.process.signal(Signal::SIGHUP);
    broker.log.until("read again");
    broker.run("pub", &carol).ok();
    broker.run("pub", &[&["-t", "a", "-m", "x"], &BOB[..]].concat()).fails(0x86);

    files.write("passwords", "# not even\nalice:secret\n");
    broker.process.signal(Signal::SIGHUP);
    let told = broker.log.until("stay as they were");
    assert!(told.contains(&format!("{}:2: ", files.passwords())), "{told}");
    broker.run("pub", &carol).ok();
    broker.process.signal(Signal::SIGTERM);
    let next = broker.log.next();
    assert!(next.contains("shutting down"), "not that they have been read: {next}");
}

#[test]
fn password_files_are_made_with_care() {
    let files = Files::new();
    let text = fs::read_to_string(&files.passwords).expect("a file");
    assert!(text.starts_with("alice:$argon2id$") && text.contains("\nbob:$argon2id$"), "{text}");
    assert!(!text.contains("secret") && !text.contains("hidden"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode_of(&files.passwords));
    assert_eq!(mode & 0o777, 0o600);

    mqtt(&["passwd", "-b", files.passwords(), "alice", "other"]).ok();
    let again = fs::read_to_string(&files.passwords).expect("a file");
    assert_eq!(again.matches("alice:").count(), 1);
    assert!(!again.contains(text.lines().next().expect("a line")));
    for (arguments, input) in [
        (&["-D", files.passwords(), "eve"][..], &b""[..]),
        (&[files.passwords(), "eve"], b""),
        (&[files.passwords(), "a:b"], b"x"),
        (&[files.passwords(), "#a"], b"x"),
        (&["/nowhere/passwords", "eve"], b"x"),
        (&[files.passwords(), "eve", "unasked for"], b""),
    ] {
        feed(&[&["passwd"], arguments].concat(), input).fails(1);
    }
    assert_eq!(fs::read_to_string(&files.passwords).expect("a file"), again);
    assert_eq!(files.directory.path().read_dir().expect("a directory").count(), 1);
}

fn mode_of(path: &Path) -> fs::Permissions {
    fs::metadata(path).expect("a file").permissions()
}

#[test]
fn what_makes_no_sense_is_told_with_file_and_line() {
    let files = Files::new();
    let hash = fs::read_to_string(&files.passwords).expect("a file");
    let alice = hash.lines().next().expect("a line");
    for (text, line) in [
        ("alice", 1),
        ("\n# a comment\nalice:", 3),
        ("alice:$7$101$abc$def", 1),
        ("alice:$pbkdf2-sha256$i=1000$c29tZXNhbHQ$aGFzaGhhc2hoYXNo", 1),
        (&format!("{alice}\n{alice}"), 2),
        (":x", 1),
    ] {
        let path = files.write("wrong", text);
        let error = mqtt(&["broker", "--password-file", &path]).fails(1);
        assert!(error.contains(&format!("{path}:{line}: ")), "{text:?}: {error}");
    }
    for (text, line) in [
        ("user", 1),
        ("\n\nuser alice\ntopic", 4),
        ("topic a/#/b", 1),
        ("topic read $share/g/a", 1),
        ("colour red", 1),
    ] {
        let path = files.write("wrong", text);
        let arguments = ["--password-file", files.passwords(), "--acl-file", &path];
        let error = mqtt(&[&["broker"], &arguments[..]].concat()).fails(1);
        assert!(error.contains(&format!("{path}:{line}: ")), "{text:?}: {error}");
    }
    for text in ["user alice\ntopic a", "pattern write %u/#"] {
        let path = files.write("wrong", text);
        let error = mqtt(&["broker", "--acl-file", &path]).fails(1);
        assert!(error.contains(":1: ") && error.contains("password file"), "{error}");
    }
}

const ACL: &str = "\
topic read news/#
user alice
topic readwrite alice/#
topic write news/+
topic deny alice/secrets/#
user bob
topic read #
pattern write sensors/%u/%c/+
pattern read sensors/%u/%c/#
";

/// A broker with that, where anybody may connect.
fn guarded(files: &Files, acl: &str) -> Broker {
    let acl = files.write("acl", acl);
    Broker::with(&["--password-file", files.passwords(), "--acl-file", &acl, "--allow-anonymous"])
}

#[test]
fn an_acl_says_who_may_publish_and_subscribe_to_what() {
    let files = Files::new();
    let broker = guarded(&files, ACL);
    let publish = |topic: &str, who: &[&str]| {
        broker.run("pub", &[&["-q", "1", "-m", "x", "-t", topic], who].concat()).code
    };
    let subscribe =
        |filter: &str, who: &[&str]| broker.run("sub", &[&["-E", "-t", filter], who].concat()).code;
    let seven = |who: &[&'static str]| [who, &["-i", "seven"]].concat();
    for (topic, who, expected) in [
        ("alice/a", ALICE.to_vec(), 0),
        ("news/a", ALICE.to_vec(), 0),
        ("news/a/b", ALICE.to_vec(), 0x87),
        ("alice/secrets/a", ALICE.to_vec(), 0x87),
        ("alice/a", BOB.to_vec(), 0x87),
        ("news/a", BOB.to_vec(), 0x87),
        ("news/a", vec![], 0x87),
        ("sensors/alice/seven/t", seven(&ALICE), 0),
        ("sensors/bob/seven/t", seven(&BOB), 0),
        ("sensors/alice/seven/t", seven(&BOB), 0x87),
        ("sensors/alice/eight/t", seven(&ALICE), 0x87),
        ("sensors/alice/seven/t", [&ALICE[..], &["-i", "+"]].concat(), 0x87),
        ("sensors//seven/t", seven(&[]), 0x87),
    ] {
        assert_eq!(publish(topic, &who), expected, "{topic} {who:?}");
    }
    for (filter, who, expected) in [
        ("news/#", vec![], 0),
        ("news/+/a", vec![], 0),
        ("$share/group/news/a", vec![], 0),
        ("#", vec![], 0x87),
        ("alice/a", ALICE.to_vec(), 0),
        ("alice/+", ALICE.to_vec(), 0x87), // alice/secrets would come with it
        ("alice/#", ALICE.to_vec(), 0x87),
        ("news/#", ALICE.to_vec(), 0x87),
        ("#", BOB.to_vec(), 0),
        ("sensors/alice/seven/#", seven(&ALICE), 0),
        ("sensors/+/seven/#", seven(&ALICE), 0x87),
    ] {
        assert_eq!(subscribe(filter, &who), expected, "{filter} {who:?}");
    }
    let will = ["--will-topic", "news/a", "-t", "#", "-E"];
    broker.run("sub", &[&will[..], &BOB].concat()).fails(0x87);
}

/// A name that no pattern can have in its place does not lead past one that denies.
#[test]
fn what_is_denied_by_a_pattern_is_denied_to_odd_names() {
    let files = Files::new();
    let broker = guarded(&files, "user bob\ntopic readwrite #\npattern deny private/%c/#\n");
    let publish = |topic: &str, name: &str| {
        let message = ["-q", "1", "-m", "x", "-t", topic, "-i", name];
        broker.run("pub", &[&message[..], &BOB].concat()).code
    };
    assert_eq!(publish("private/seven/a", "seven"), 0x87);
    assert_eq!(publish("private/eight/a", "seven"), 0);
    assert_eq!(publish("private/seven/a", "+"), 0x87);
    assert_eq!(publish("private/a/b/c", "a/b"), 0x87);
}

#[test]
fn an_acl_is_read_again() {
    let files = Files::new();
    let broker = guarded(&files, ACL);
    let bob = [&["-q", "1", "-t", "news/a", "-m", "x"], &BOB[..]].concat();
    broker.run("pub", &bob).fails(0x87);
    files.write("acl", "user bob\ntopic write news/#\n");
    broker.process.signal(Signal::SIGHUP);
    broker.log.until("ACL has been read again");
    broker.run("pub", &bob).ok();
    files.write("acl", "nonsense\n");
    broker.process.signal(Signal::SIGHUP);
    let told = broker.log.until("stays as it was");
    assert!(told.contains("acl:1: "), "{told}");
    broker.run("pub", &bob).ok();

    files.write("passwords", "nonsense\n");
    files.write("acl", "user bob\n");
    broker.process.signal(Signal::SIGHUP);
    broker.log.until("the passwords stay as they were");
    let next = broker.log.next();
    assert!(next.contains("the ACL has been read again"), "{next}");
    broker.run("pub", &bob).fails(0x87);
}

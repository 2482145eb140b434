//! Files that are cut off, damaged, somebody else's; programs that are killed.

use mqtt_core::store::Heap;
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tempfile::TempDir;

use super::*;
use crate::kept::tests::{self as kept, LIMITS, Observed, Op, Scene, VERSION};
use memory::Memory;

mod memory;
mod process;

const CLIENT: &str = "sensor-7";

/// Opens a copy of the bytes.
fn open(image: Vec<u8>) -> Result<Observed, SessionFileError> {
    let (_, restored) = Disk::with_backend(Memory::new(image), CLIENT, VERSION)?;
    Ok(kept::restored(restored))
}

/// The same operations for the same seed.
fn scenario(seed: u64, length: usize) -> Vec<Op> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    vec(kept::op(), length).new_tree(&mut runner).unwrap().current()
}

/// Runs a scenario: `commit` is called with what has changed, if anything, and what is kept then.
fn play(ops: &[Op], mut commit: impl FnMut(&Changes, Observed)) {
    let (mut scene, mut heap) = (Scene::new(), Heap::with_limits(LIMITS));
    for op in ops {
        if scene.apply(&mut heap, op)
            && let Some(changes) = scene.kept.take_changes()
        {
            commit(&changes, scene.observe());
        }
    }
}

/// What is kept after each commit of a scenario, beginning with none.
fn states(ops: &[Op]) -> Vec<Observed> {
    let mut states = vec![Observed::default()];
    play(ops, |_, state| states.push(state));
    states
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After every commit the file has what is kept, whether or not it was closed.
    #[test]
    fn what_is_committed_is_restored(ops in vec(kept::op(), 0..80)) {
        let file = Memory::new(Vec::new());
        let (mut disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
        play(&ops, |changes, state| {
            disk.commit(changes).unwrap();
            assert_eq!(open(file.image()).unwrap(), state);
        });
        drop(disk);
        assert_eq!(open(file.image()).unwrap(), states(&ops).pop().unwrap());
    }
}

/// Power is lost before every single write to a file, from its creation on. Of what was written
/// since the last sync, anything may have come to the disk.
#[test]
fn power_cuts() {
    for seed in 0..3 {
        println!("seed {seed}");
        let ops = scenario(seed, 150);
        let states = states(&ops);
        let file = Memory::new(Vec::new());
        let (mut disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
        let mut commits = vec![file.log().len()];
        play(&ops, |changes, _| {
            disk.commit(changes).unwrap();
            commits.push(file.log().len());
        });
        drop(disk);
        let log = file.log();
        assert!(commits.len() > 5 && log.len() > 50, "{} {}", commits.len(), log.len());
        for cut in 0..=log.len() {
            // What has been promised, or what was just being written.
            let done = commits.iter().filter(|end| **end <= cut).count().saturating_sub(1);
            for (kind, image) in memory::cuts(&log[..cut], seed) {
                let restored = open(image).unwrap_or_else(|error| {
                    panic!("seed {seed}, cut {cut} {kind}: {error}");
                });
                let expected = &states[done..states.len().min(done + 2)];
                assert!(expected.contains(&restored), "seed {seed}, cut {cut} {kind}");
            }
        }
    }
}

/// What a commit costs.
#[test]
fn a_commit_waits_for_the_disk_once() {
    let file = Memory::new(Vec::new());
    let (mut disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
    play(&scenario(2, 150), |changes, _| {
        let before = file.log().len();
        disk.commit(changes).unwrap();
        let syncs = file.log()[before..].iter().filter(|io| matches!(io, memory::Io::Sync)).count();
        assert_eq!(syncs, 1);
    });
}

/// A disk that fails at any write: the commit is an error, and so is every other.
#[test]
fn a_disk_that_fails() {
    let ops = scenario(1, 40);
    let states = states(&ops);
    for writes in 0.. {
        let file = Memory::new(Vec::new());
        let (mut disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
        file.fail_after(writes);
        let (mut done, mut failed) = (0, false);
        play(&ops, |changes, _| match disk.commit(changes) {
            Ok(()) => {
                assert!(!failed);
                done += 1;
            }
            Err(error) => {
                assert!(matches!(error, SessionFileError::Io(_) | SessionFileError::Damaged(_)));
                failed = true;
            }
        });
        drop(disk);
        let restored = open(file.image()).unwrap();
        assert!(states[done..states.len().min(done + 2)].contains(&restored), "{writes} writes");
        if !failed {
            return;
        }
    }
}

/// A file with some of everything, and what it has had in it, the latest last.
fn example() -> (Vec<u8>, Vec<Observed>) {
    let ops = (0..).map(|seed| scenario(seed, 150)).find(|ops| {
        let last = states(ops).pop().unwrap();
        last.sending.len() > 1 && !last.arrivals.is_empty() && !last.queue.is_empty()
    });
    let ops = ops.unwrap();
    let file = Memory::new(Vec::new());
    let (mut disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
    play(&ops, |changes, _| disk.commit(changes).unwrap());
    drop(disk);
    (file.image(), states(&ops))
}

/// Every byte of the header and many others are changed, pages are lost, the end is cut off: the
/// file is refused, or has what it had at some time.
#[test]
fn damage_is_noticed() {
    let (image, states) = example();
    let mut images = Vec::new();
    for at in 0..512 {
        images.push(changed(&image, at..at + 1, |byte| byte ^ 1 << (at % 8)));
        images.push(changed(&image, at..at + 1, |_| 0xff));
    }
    for page in (0..image.len()).step_by(4096) {
        if image[page..page + 4096].iter().any(|byte| *byte != 0) {
            images.push(changed(&image, page..page + 4096, |_| 0));
            images.push(changed(&image, page..page + 2048, |_| 0xa5));
            for at in [0, 1, 2, 4, 8, 16, 40, 100, 200, 400, 800, 1600, 4095] {
                images.push(changed(&image, page + at..page + at + 1, |byte| byte ^ 0x10));
            }
        }
    }
    for len in (0..image.len()).step_by(16 * 1024) {
        images.push(image[..len + 7].to_vec());
    }
    let (mut refused, mut older, mut same) = (0, 0, 0);
    for image in images {
        match open(image) {
            Err(_) => refused += 1,
            Ok(restored) if Some(&restored) == states.last() => same += 1,
            Ok(restored) => {
                assert!(states.contains(&restored));
                older += 1;
            }
        }
    }
    println!("{refused} refused, {older} older, {same} the same");
    assert!(refused > 100 && same > 100);
}

fn changed(image: &[u8], range: std::ops::Range<usize>, with: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut image = image.to_vec();
    image[range].iter_mut().for_each(|byte| *byte = with(*byte));
    image
}

/// Writes a record behind the crate's back and opens the file again.
fn with_record<K: Key>(
    table: TableDefinition<'_, K, &[u8]>,
    key: K::SelfType<'_>,
    value: &[u8],
) -> Option<SessionFileError> {
    let file = Memory::new(Vec::new());
    let (disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
    let transaction = disk.database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert(key, value).unwrap();
    transaction.commit().unwrap();
    drop(disk);
    open(file.image()).err()
}

#[test]
fn nothing_is_believed_that_cannot_have_been_written() {
    let order = [0; 8];
    let sending = |key, rest: &[u8]| with_record(SENDING, key, &[&order[..], rest].concat());
    let at_least_once = b"\x32\x07\0\x01t\0\x07\0!";
    let exactly_once = b"\x34\x07\0\x01t\0\x07\0!";
    assert!(sending(7, &[b"\x01\0", &at_least_once[..]].concat()).is_none());
    assert!(sending(7, &[b"\x02\0", &exactly_once[..]].concat()).is_none());
    assert!(sending(7, b"\x01\0").is_none());
    assert!(sending(7, b"\x03\0").is_none());
    assert!(sending(7, b"\x04\x95").is_none());
    let bad: &[(u16, &[u8])] = &[
        (7, b"\x01\0\x32\x07\0\x01t\0\x08\0!"),  // another identifier
        (0, b"\x01\0\x32\x07\0\x01t\0\0\0!"),    // none
        (7, b"\x02\0\x32\x07\0\x01t\0\x07\0!"),  // another QoS
        (7, b"\x01\0\x32\x07\0\x01t\0\x07\0"),   // cut off
        (7, b"\x01\0\x32\x07\0\x01t\0\x07\0!!"), // too long
        (7, b"\x01\0\x32\x07\0\x01#\0\x07\0!"),  // a wildcard
        (7, b"\x01\0\x32\x0a\0\x01t\0\x07\x03\x23\0\x01!"), // a topic alias
        (7, b"\x01\0\x52\x07\0\x01t\0\x07\0!"),  // not a PUBLISH
        (7, b"\x01\x01"),
        (7, b"\x03\0\x34\x07\0\x01t\0\x07\0!"),
        (7, b"\x04\x03"),
        (7, b"\x05\0"),
        (7, b"\x01"),
        (7, b""),
    ];
    for (key, rest) in bad {
        let error = sending(*key, rest);
        let matches = matches!(
            error,
            Some(SessionFileError::Record { table: "sending", key: at, .. }) if at == u64::from(*key)
        );
        assert!(matches, "{key} {rest:02x?}: {error:?}");
    }
    let error = with_record(SENDING, 7, &[0xff, 0, 0, 0, 0, 0, 0, 0, 3, 0]);
    assert!(matches!(error, Some(SessionFileError::Record { .. })), "{error:?}");

    assert!(with_record(ARRIVALS, 7, b"\x02\0").is_none());
    assert!(with_record(ARRIVALS, 7, b"\x01\x97").is_none());
    for (key, value) in
        [(0, &b"\x02\0"[..]), (7, b"\x02\x01"), (7, b"\x01\x92"), (7, b"\x03\0"), (7, b"")]
    {
        let error = with_record(ARRIVALS, key, value);
        let matches = matches!(error, Some(SessionFileError::Record { table: "arrivals", .. }));
        assert!(matches, "{key} {value:02x?}: {error:?}");
    }

    assert!(with_record(QUEUE, 9, b"\x32\x07\0\x01t\0\x01\0!").is_none());
    for (key, value) in [
        (9, &b"\x32\x07\0\x01t\0\x02\0!"[..]),
        (9, b"\x30\x05\0\x01t\0!"),
        (9, b"\x36\x07\0\x01t\0\x01\0!"),
        (u64::MAX, b"\x32\x07\0\x01t\0\x01\0!"),
        (9, b""),
    ] {
        let error = with_record(QUEUE, key, value);
        let matches = matches!(
            error,
            Some(SessionFileError::Record { table: "queue", key: at, .. }) if at == key
        );
        assert!(matches, "{key} {value:02x?}: {error:?}");
    }
}

#[test]
fn two_publishes_have_not_the_same_order() {
    let file = Memory::new(Vec::new());
    let (disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
    let transaction = disk.database.begin_write().unwrap();
    let mut table = transaction.open_table(SENDING).unwrap();
    for key in [5, 6] {
        table.insert(key, &b"\0\0\0\0\0\0\0\x01\x03\0"[..]).unwrap();
    }
    drop(table);
    transaction.commit().unwrap();
    drop(disk);
    let error = open(file.image()).unwrap_err();
    assert!(matches!(error, SessionFileError::Record { table: "sending", key: 6, .. }), "{error}");
}

#[test]
fn a_file_belongs_to_one_client() {
    let (image, _) = example();
    let open = |client, version| {
        Disk::with_backend(Memory::new(image.clone()), client, version).map(|_| ())
    };
    open(CLIENT, VERSION).unwrap();
    let error = open("sensor-8", VERSION).unwrap_err();
    assert!(matches!(error, SessionFileError::OtherClient(id) if id == CLIENT));
    let error = open(CLIENT, Version::V3_1_1).unwrap_err();
    assert!(matches!(error, SessionFileError::OtherVersion));
    let error = with_record(ARRIVALS, 7, b"\x02\0");
    assert!(error.is_none());

    let file = Memory::new(Vec::new());
    let (disk, _) = Disk::with_backend(file.clone(), CLIENT, VERSION).unwrap();
    let transaction = disk.database.begin_write().unwrap();
    transaction.open_table(IDENTITY).unwrap().insert("format", &[0, 0, 0, 2][..]).unwrap();
    transaction.commit().unwrap();
    drop(disk);
    let error = Disk::with_backend(file, CLIENT, VERSION).map(|_| ()).unwrap_err();
    assert!(matches!(error, SessionFileError::Format(2)));
}

#[test]
fn other_files_are_refused_and_not_touched() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("session");
    let file = SessionFile::new(&path);
    let open = || Disk::open(&file, CLIENT, VERSION).map(|_| ());
    for content in [&b"Dear diary"[..], &[1; 5000], &[0, 0, 1], &b"\0".repeat(20 << 20)] {
        fs::write(&path, content).unwrap();
        assert!(matches!(open(), Err(SessionFileError::Foreign)));
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    fs::remove_file(&path).unwrap();
    let other = Database::create(&path).unwrap();
    let transaction = other.begin_write().unwrap();
    transaction.open_table(QUEUE).unwrap();
    transaction.commit().unwrap();
    assert!(matches!(open(), Err(SessionFileError::InUse)));
    drop(other);
    assert!(matches!(open(), Err(SessionFileError::Foreign)));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(open(), Err(SessionFileError::Io(_))));
    let nowhere = SessionFile::new(directory.path().join("nowhere/session"));
    let error = Disk::open(&nowhere, CLIENT, VERSION).map(|_| ());
    assert!(matches!(error, Err(SessionFileError::Io(_))));
    let error = Disk::open(&nowhere, "", VERSION).map(|_| ());
    assert!(matches!(error, Err(SessionFileError::NoClientId)));
}

#[test]
fn one_program_at_a_time() {
    let directory = TempDir::new().unwrap();
    for durability in [Durability::Power, Durability::Process] {
        let path = directory.path().join(format!("{durability:?}"));
        let file = SessionFile { path, durability };
        let (disk, _) = Disk::open(&file, CLIENT, VERSION).unwrap();
        let again = || Disk::open(&file, CLIENT, VERSION).map(|_| ());
        assert!(matches!(again(), Err(SessionFileError::InUse)));
        drop(disk);
        again().unwrap();
    }
}

#[cfg(unix)]
#[test]
fn messages_are_nobody_elses_business() {
    use std::os::unix::fs::PermissionsExt;
    let directory = TempDir::new().unwrap();
    let file = SessionFile::new(directory.path().join("session"));
    Disk::open(&file, CLIENT, VERSION).unwrap();
    let mode = fs::metadata(&file.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

/// A file that has been full does not stay large, nor does it grow while messages come and go.
#[test]
fn a_file_that_has_been_full() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("session");
    let file = SessionFile { path: path.clone(), durability: Durability::Process };
    let (mut disk, _) = Disk::open(&file, CLIENT, VERSION).unwrap();
    let mut queue = process::Queue::new();
    for _ in 0..300 {
        disk.commit(&queue.push(100_000)).unwrap();
    }
    let full = fs::metadata(&path).unwrap().len();
    assert!(full > 30_000_000);
    for _ in 0..300 {
        let mut changes = queue.push(100_000);
        disk.commit(&changes).unwrap();
        changes = queue.pop();
        disk.commit(&changes).unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() < full * 3 / 2);
    for _ in 0..299 {
        disk.commit(&queue.pop()).unwrap();
    }
    drop(disk);
    let (_, restored) = Disk::open(&file, CLIENT, VERSION).unwrap();
    assert_eq!(restored.queue.len(), 1);
    assert!(fs::metadata(&path).unwrap().len() < LARGE);
}

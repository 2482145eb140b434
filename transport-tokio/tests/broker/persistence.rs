//! What survives the broker.

use std::{fs, path::Path, time::Duration};

use mqtt_core::broker as core;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use tempfile::TempDir;
use transport_tokio::{
    Durability, Message, PublishProperties,
    broker::{PersistenceError, ServeError},
};

use crate::support::*;

const SOON: Duration = Duration::from_secs(30);
const NAME: &str = "broker.redb";
const IDENTITY: TableDefinition<'_, &str, u32> = TableDefinition::new("broker");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

fn keeping(directory: &Path) -> Builder {
    Broker::builder().persistence(directory, Durability::Process)
}

fn fleeting(client_id: &str) -> Options {
    Options { session_expiry_interval: 0, ..named(client_id) }
}

/// A client whose session outlives it, and what comes before it has subscribed.
async fn lasting(broker: &Broker, client_id: &str) -> (Client, Messages) {
    let mut streams = Streams::default();
    let messages = streams.unclaimed();
    let options = Options {
        clean_start: false,
        session_expiry_interval: u32::MAX,
        streams,
        ..named(client_id)
    };
    (connect(broker, options).await, messages)
}

#[tokio::test]
async fn sessions_queues_and_retained_messages_survive() {
    bounded(async {
        for is_shut_down in [true, false] {
            let directory = TempDir::new().unwrap();
            let broker = serve(keeping(directory.path())).await;
            let (sub, _) = lasting(&broker, "sub").await;
            let messages = sub.subscribe("a/+", ExactlyOnce).await.unwrap();
            sub.disconnect().await.unwrap();
            until(&broker, |now| now.connections == 0).await;
            let publisher = connect(&broker, fleeting("pub")).await;
            for (number, qos) in LEVELS.into_iter().enumerate() {
                publisher.publish("a/b", number.to_string()).qos(qos).await.unwrap();
            }
            publisher.publish("state", "up").qos(AtLeastOnce).retain(true).await.unwrap();
            drop(messages);
            if is_shut_down {
                publisher.disconnect().await.unwrap();
                broker.shutdown(SOON).await;
            }
            drop(broker);

            let broker = serve(keeping(directory.path())).await;
            let now = statistics(&broker).await;
            assert_eq!((now.sessions, now.retained), (1, 1));
            assert_eq!((now.persistence.skipped, now.persistence.set_aside), (0, 0));
            let (sub, mut rest) = lasting(&broker, "sub").await;
            assert_eq!([next(&mut rest).await, next(&mut rest).await], ["1", "2"]);
            let mut state = sub.subscribe("state", AtLeastOnce).await.unwrap();
            assert_eq!(next(&mut state).await, "up");
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_program_has_published_is_kept() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let broker = serve(keeping(directory.path())).await;
        let mut message = Message::new("state", "up", PublishProperties::default());
        message.retain = true;
        broker.publish(message).await.unwrap();
        drop(broker);
        let broker = serve(keeping(directory.path())).await;
        assert_eq!(broker.retained("state").await.unwrap().payload, "up");
    })
    .await;
}

#[tokio::test]
async fn a_will_is_published_though_the_broker_died_first() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let broker = serve(keeping(directory.path())).await;
        let (sub, _) = lasting(&broker, "sub").await;
        let messages = sub.subscribe("gone", AtLeastOnce).await.unwrap();
        sub.disconnect().await.unwrap();
        drop(messages);
        let will = Will { qos: AtLeastOnce, ..Will::new("gone", "bye") };
        let dying = connect(&broker, Options { will: Some(will), ..fleeting("dying") }).await;
        drop((broker, dying));

        let broker = serve(keeping(directory.path())).await;
        let (_sub, mut rest) = lasting(&broker, "sub").await;
        assert_eq!(next(&mut rest).await, "bye");
    })
    .await;
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_set_aside() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join(NAME);
        let broker = serve(keeping(directory.path())).await;
        let publisher = connect(&broker, fleeting("pub")).await;
        publisher.publish("state", "up").qos(AtLeastOnce).retain(true).await.unwrap();
        broker.shutdown(SOON).await;
        let good = fs::read(&file).unwrap();
        let mut torn = good.clone();
        torn[4096..].iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55);
        let contents = [b"Dear diary".to_vec(), torn, good[..good.len() / 2].to_vec()];
        for (number, content) in (1..).zip(contents) {
            fs::write(&file, &content).unwrap();
            let broker = serve(keeping(directory.path())).await;
            let now = statistics(&broker).await;
            assert_eq!((now.retained, now.persistence.set_aside), (0, 1), "content {number}");
            let aside = directory.path().join(format!("{NAME}.corrupt-{number}"));
            assert_eq!(fs::read(aside).unwrap().len(), content.len());
            let publisher = connect(&broker, fleeting("pub")).await;
            publisher.publish("state", "up").qos(ExactlyOnce).retain(true).await.unwrap();
            broker.shutdown(SOON).await;
        }
        let broker = serve(keeping(directory.path())).await;
        assert_eq!(statistics(&broker).await.retained, 1);
    })
    .await;
}

#[tokio::test]
async fn records_that_make_no_sense_are_skipped() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let broker = serve(keeping(directory.path())).await;
        let publisher = connect(&broker, fleeting("pub")).await;
        publisher.publish("state", "up").qos(AtLeastOnce).retain(true).await.unwrap();
        broker.shutdown(SOON).await;
        let file = directory.path().join(NAME);
        let database = Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        let mut table = transaction.open_table(RECORDS).unwrap();
        let nonsense: [(&[u8], &[u8]); 4] = [
            (b"", b""),
            (b"\x02\0\0\0\x07", b"\0\0\0\x63"),
            (b"\x03\0\0\0\0", b"?"),
            (b"zz", b"z"),
        ];
        for (key, record) in nonsense {
            table.insert(key, record).unwrap();
        }
        drop(table);
        transaction.commit().unwrap();
        drop(database);

        let broker = serve(keeping(directory.path())).await;
        let now = statistics(&broker).await;
        assert_eq!((now.sessions, now.retained, now.persistence.skipped), (0, 1, 4));
        broker.shutdown(SOON).await;
        let database = Database::open(&file).unwrap();
        let table = database.begin_read().unwrap().open_table(RECORDS).unwrap();
        assert_eq!(table.len().unwrap(), 2, "the message, and that it is retained");
        for entry in table.iter().unwrap() {
            let key = entry.unwrap().0;
            assert!(core::Key::from_bytes(key.value()).is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn what_may_be_good_is_not_touched() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join(NAME);
        let broker = serve(keeping(directory.path())).await;
        let again = async || match keeping(directory.path()).serve().await {
            Err(ServeError::Persistence { file, error }) => (file, error),
            other => panic!("{other:?}"),
        };
        assert!(matches!(again().await, (at, PersistenceError::InUse) if at == file));
        broker.shutdown(SOON).await;

        let database = Database::open(&file).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(IDENTITY).unwrap().insert("format", 7).unwrap();
        transaction.commit().unwrap();
        drop(database);
        assert!(matches!(again().await, (_, PersistenceError::Format(7))));
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert!(matches!(again().await, (_, PersistenceError::Io(_))));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_is_more_than_smaller_limits_allow_is_not_lost() {
    bounded(async {
        let directory = TempDir::new().unwrap();
        let broker = serve(keeping(directory.path())).await;
        let publisher = connect(&broker, fleeting("pub")).await;
        for topic in ["a", "b", "c"] {
            publisher.publish(topic, "kept").qos(AtLeastOnce).retain(true).await.unwrap();
        }
        broker.shutdown(SOON).await;
        let smaller = Config { retained_messages: 2, ..Config::default() };
        match keeping(directory.path()).config(smaller).serve().await {
            Err(ServeError::Persistence { error: PersistenceError::Limits, .. }) => {}
            other => panic!("{other:?}"),
        }
        let broker = serve(keeping(directory.path())).await;
        assert_eq!(statistics(&broker).await.retained, 3);
    })
    .await;
}

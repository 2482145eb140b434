//! Whose a session is: nobody else gets it.

use transport_tokio::{
    ConnectError, ConnectionError,
    broker::{Authenticated, Takeover},
};

use crate::support::*;

/// A client of this user, who proves it, with a session that outlives it; or of nobody.
fn lasting(user: Option<&str>, client_id: &str) -> Options {
    Options {
        clean_start: false,
        session_expiry_interval: 3_600,
        user_name: user.map(Into::into),
        password: user.map(|name| name.to_owned().into()),
        ..named(client_id)
    }
}

fn clean(options: Options) -> Options {
    Options { clean_start: true, ..options }
}

fn old(options: Options) -> Options {
    Options { version: Version::V3_1_1, ..options }
}

/// Lets in alice and bob, who prove it, and who says no name.
fn guarded() -> Builder {
    Broker::builder().authenticate(async |login: Login| {
        let name = login.user_name.as_deref().map(str::as_bytes);
        if name == login.password.as_deref() {
            Ok(())
        } else {
            Err(ReasonCode::BadUserNameOrPassword)
        }
    })
}

/// Why the broker does not let it in.
async fn refusal(broker: &Broker, options: Options) -> ReasonCode {
    match Client::connect(&broker.urls()[0], options).await {
        Err(ConnectError::Connection(ConnectionError::Refused(refusal))) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

const USERS: [Option<&str>; 3] = [Some("alice"), Some("bob"), None];

#[tokio::test]
async fn others_neither_get_a_session_nor_disturb_it() {
    bounded(async {
        for owner in USERS {
            let broker = serve(guarded()).await;
            let mine = connect(&broker, lasting(owner, "one")).await;
            let mut messages = mine.subscribe("a", AtLeastOnce).await.unwrap();
            let publisher = connect(&broker, lasting(None, "publisher")).await;
            let others = USERS.into_iter().filter(|user| *user != owner);
            let attempts: Vec<_> = others
                .flat_map(|user| {
                    let all = [lasting(user, "one"), clean(lasting(user, "one"))];
                    let older = [lasting(user, "one"), clean(lasting(user, "one"))].map(old);
                    all.into_iter().chain(older)
                })
                .collect();
            for attempt in attempts {
                let reason = refusal(&broker, attempt).await;
                assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
                publisher.publish("a", "here").qos(AtLeastOnce).await.unwrap();
                assert_eq!(next(&mut messages).await, "here");
            }
            let session = broker.session("one").await.unwrap();
            assert_eq!((session.owner.as_deref(), session.is_connected), (owner, true));
            let sessions = broker.sessions(0).await.unwrap().items;
            let owners = sessions.iter().filter(|session| session.owner.as_deref() == owner);
            assert_eq!(owners.count(), if owner.is_none() { 2 } else { 1 });

            mine.disconnect().await.unwrap();
            until(&broker, |now| now.clients == 1).await;
            publisher.publish("a", "waits").qos(AtLeastOnce).await.unwrap();
            let thief = USERS.into_iter().find(|user| *user != owner).unwrap();
            for attempt in [lasting(thief, "one"), clean(lasting(thief, "one"))] {
                let reason = refusal(&broker, attempt).await;
                assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
            }
            let mut streams = Streams::default();
            let mut rest = streams.unclaimed();
            connect(&broker, Options { streams, ..lasting(owner, "one") }).await;
            assert_eq!(next(&mut rest).await, "waits");
        }
    })
    .await;
}

/// What a client says that nobody has asked counts for nothing: there are no users.
#[tokio::test]
async fn without_users_everybody_is_the_same() {
    bounded(async {
        let broker = serve(Broker::builder()).await;
        for user in USERS {
            connect(&broker, lasting(user, "one")).await.disconnect().await.unwrap();
            assert_eq!(broker.session("one").await.unwrap().owner, None);
        }
    })
    .await;
}

#[tokio::test]
async fn sessions_may_be_for_anybody() {
    bounded(async {
        let config = Config { takeover: Takeover::Anybody, ..Config::default() };
        let broker = serve(guarded().config(config)).await;
        for user in USERS {
            connect(&broker, lasting(user, "one")).await.disconnect().await.unwrap();
        }
    })
    .await;
}

/// Who somebody is, is what has been found out, not what was said.
#[tokio::test]
async fn a_session_belongs_to_whom_the_program_says() {
    bounded(async {
        let builder = Broker::builder().authenticate(async |login: Login| {
            Ok(match login.user_name.as_deref() {
                Some("token of alice" | "another of alice") => Authenticated::user("alice"),
                _ => Authenticated::default(),
            })
        });
        let broker = serve(builder).await;
        connect(&broker, lasting(Some("token of alice"), "one")).await.disconnect().await.unwrap();
        assert_eq!(broker.session("one").await.unwrap().owner.as_deref(), Some("alice"));
        connect(&broker, lasting(Some("another of alice"), "one")).await;
        let reason = refusal(&broker, lasting(Some("token of bob"), "one")).await;
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
    })
    .await;
}

/// Enhanced authentication finds it out as well, and is no way around: a name that is only said beside it does
/// not count, nor does one without it.
#[tokio::test]
async fn a_method_tells_whose_a_session_is() {
    bounded(async {
        let builder = Broker::builder().authentication_method(
            "NAME",
            async |with: transport_tokio::broker::Exchange| {
                let name = String::from_utf8(with.data().unwrap_or_default().to_vec()).unwrap();
                Ok::<_, ReasonCode>(Authenticated::user(name))
            },
        );
        let broker = serve(builder).await;
        let hello = async |name: &str| {
            let mut socket = socket(&broker).await;
            let properties =
                [&b"\x11\0\0\0\x3c\x15\0\x04NAME\x16\0\x01"[..], name.as_bytes()].concat();
            let length = properties.len() as u8;
            let body =
                [&b"\0\x04MQTT\x05\0\0\0"[..], &[length], &properties, b"\0\x03one"].concat();
            socket.write_all(&[&[0x10, body.len() as u8], &body[..]].concat()).await.unwrap();
            let mut answer = [0; 4];
            socket.read_exact(&mut answer).await.unwrap();
            answer[3]
        };
        assert_eq!(hello("a").await, 0);
        assert_eq!(broker.session("one").await.unwrap().owner.as_deref(), Some("a"));
        assert_eq!(hello("b").await, 0x85);
        let reason = refusal(&broker, lasting(Some("a"), "one")).await;
        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid, "it is only said");
        assert_eq!(hello("a").await, 0);
    })
    .await;
}

#[cfg(feature = "persistence")]
mod kept {
    use std::{path::Path, time::Duration};

    use redb::{Database, ReadableDatabase, TableDefinition};
    use tempfile::TempDir;
    use transport_tokio::Durability;

    use super::*;

    const IDENTITY: TableDefinition<'_, &str, u32> = TableDefinition::new("broker");
    const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

    fn keeping(directory: &Path) -> Builder {
        guarded().persistence(directory, Durability::Process)
    }

    #[tokio::test]
    async fn a_session_has_its_owner_after_a_restart() {
        bounded(async {
            for owner in USERS {
                let directory = TempDir::new().unwrap();
                let broker = serve(keeping(directory.path())).await;
                connect(&broker, lasting(owner, "one")).await;
                drop(broker); // killed
                let broker = serve(keeping(directory.path())).await;
                assert_eq!(broker.session("one").await.unwrap().owner.as_deref(), owner);
                for other in USERS.into_iter().filter(|user| *user != owner) {
                    for attempt in [lasting(other, "one"), clean(lasting(other, "one"))] {
                        let reason = refusal(&broker, attempt).await;
                        assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
                    }
                }
                connect(&broker, lasting(owner, "one")).await;
            }
        })
        .await;
    }

    fn format(directory: &Path) -> u32 {
        let database = Database::open(directory.join("broker.redb")).unwrap();
        let table = database.begin_read().unwrap().open_table(IDENTITY).unwrap();
        table.get("format").unwrap().unwrap().value()
    }

    /// A file of before: it is read, and is of this format from the first batch on. Its sessions are the first
    /// user's who comes.
    #[tokio::test]
    async fn a_file_that_knows_no_owners_is_taken() {
        bounded(async {
            let directory = TempDir::new().unwrap();
            let directory = directory.path();
            serve(keeping(directory)).await.shutdown(Duration::from_secs(30)).await;
            let database = Database::open(directory.join("broker.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            transaction.open_table(IDENTITY).unwrap().insert("format", 1).unwrap();
            let record = (&b"\x03\0\0\0\0"[..], &b"\0\xff\xff\xff\xffone"[..]);
            transaction.open_table(RECORDS).unwrap().insert(record.0, record.1).unwrap();
            transaction.commit().unwrap();
            drop(database);

            let broker = serve(keeping(directory)).await;
            assert_eq!(broker.session("one").await.unwrap().owner, None);
            connect(&broker, lasting(Some("bob"), "one")).await.disconnect().await.unwrap();
            assert_eq!(broker.session("one").await.unwrap().owner.as_deref(), Some("bob"));
            let reason = refusal(&broker, lasting(Some("alice"), "one")).await;
            assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
            broker.shutdown(Duration::from_secs(30)).await;
            assert_eq!(format(directory), 2);

            let broker = serve(keeping(directory)).await;
            let reason = refusal(&broker, lasting(None, "one")).await;
            assert_eq!(reason, ReasonCode::ClientIdentifierNotValid);
        })
        .await;
    }
}

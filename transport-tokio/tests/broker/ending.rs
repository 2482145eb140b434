//! How a broker ends.

use std::time::Duration;

use transport_tokio::{ConnectionError, Reconnect};

use crate::support::*;

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn clients_are_told_that_it_shuts_down() {
    bounded(async {
        let broker = broker().await;
        let mut old = hello(&broker, b'o').await;
        let mut new = socket(&broker).await;
        new.write_all(b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01n").await.unwrap();
        let mut header = [0; 2];
        new.read_exact(&mut header).await.unwrap();
        let mut connack = vec![0; header[1].into()];
        new.read_exact(&mut connack).await.unwrap();
        let mut silent = socket(&broker).await;
        until(&broker, |now| now.connections == 3).await;
        let told = async {
            let told = [rest(&mut old).await, rest(&mut new).await, rest(&mut silent).await];
            drop((old, new, silent));
            told
        };
        let ((), told) = tokio::join!(broker.shutdown(SOON), told);
        assert_eq!(told, [vec![], vec![0xe0, 0x01, 0x8b], vec![]]);
        assert_eq!(broker.statistics().await, None);
        let address = broker.urls()[0].trim_start_matches("mqtt://");
        assert!(TcpStream::connect(address).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn the_client_knows_why() {
    bounded(async {
        let broker = broker().await;
        let reconnect = Reconnect { attempts: Some(0), ..Reconnect::default() };
        let client = connect(&broker, Options { reconnect, ..named("one") }).await;
        let mut status = client.status();
        let over = async {
            let failed = |status: &Status| matches!(status, Status::Failed(_));
            match &*status.wait_for(failed).await.unwrap() {
                Status::Failed(ConnectionError::Disconnected(refusal)) => refusal.reason,
                other => panic!("{other:?}"),
            }
        };
        let ((), reason) = tokio::join!(broker.shutdown(SOON), over);
        assert_eq!(reason, ReasonCode::ServerShuttingDown);
    })
    .await;
}

#[tokio::test]
async fn wills_reach_those_who_are_still_there() {
    bounded(async {
        let broker = broker().await;
        // Before and after the one that leaves a will: those without go last.
        let mut stay = Vec::new();
        let mut leaves = None;
        for name in [b's', b'w', b't'] {
            if name == b'w' {
                let mut socket = socket(&broker).await;
                let connect = b"\x10\x16\0\x04MQTT\x04\x06\0\0\0\x01w\0\x01t\0\x04will";
                socket.write_all(connect).await.unwrap();
                socket.read_exact(&mut [0; 4]).await.unwrap();
                leaves = Some(socket);
                continue;
            }
            let mut stays = hello(&broker, name).await;
            stays.write_all(b"\x82\x06\0\x01\0\x01t\0").await.unwrap();
            stays.read_exact(&mut [0; 5]).await.unwrap();
            stay.push(stays);
        }
        let told = async {
            let mut told = Vec::new();
            for stays in &mut stay {
                told.push(rest(stays).await);
            }
            drop((stay, leaves));
            told
        };
        let ((), told) = tokio::join!(broker.shutdown(SOON), told);
        assert_eq!(told, [b"\x30\x07\0\x01twill", b"\x30\x07\0\x01twill"]);
    })
    .await;
}

/// On several threads the sockets are closed by others than the one that waits for it.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn another_can_listen_where_it_did() {
    bounded(async {
        let directory = tempfile::TempDir::new().unwrap();
        let url = format!("unix://{}/socket", directory.path().display());
        for _ in 0..200 {
            let broker = Broker::builder().listen(&url).serve().await.unwrap();
            broker.shutdown(SOON).await;
        }
    })
    .await;
}

#[tokio::test]
async fn more_listeners_than_connections_may_wait() {
    bounded(async {
        let builder = (0..80).fold(Broker::builder(), |all, _| all.listen("mqtt://127.0.0.1:0"));
        let broker = builder.serve().await.unwrap();
        let client = Client::connect_with(broker.connector(), named("within")).await.unwrap();
        client.disconnect().await.unwrap();
        for url in broker.urls() {
            Client::connect(url, named("without")).await.unwrap().disconnect().await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn it_ends_with_its_last_handle() {
    bounded(async {
        let broker = broker().await;
        let other = broker.clone();
        let mut socket = hello(&broker, b'a').await;
        drop(broker);
        socket.write_all(b"\xc0\0").await.unwrap();
        let mut answer = [0; 2];
        socket.read_exact(&mut answer).await.unwrap();
        drop(other);
        assert_eq!(rest(&mut socket).await, b"");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_who_does_not_hang_up_is_not_waited_for() {
    let broker = broker().await;
    let _stays = hello(&broker, b's').await;
    broker.shutdown(SOON).await;
    let _stays = (broker, _stays);
}

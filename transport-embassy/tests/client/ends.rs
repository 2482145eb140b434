use mqtt_core::{
    Connect, ReasonCode, Version,
    broker::{Action, Config, ConnectionId, Small, Verdict},
    store::Fixed,
};
use transport_embassy::{
    ConnectionError, Options, Reconnect, Status,
    broker::{Access, Broker},
};

use crate::{
    publishing::options,
    world::{Resources, World, server, sleep, task},
};

#[test]
fn a_client_that_is_taken_over_does_not_fight() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 2].map(|()| Resources::new(Version::V5, Fixed::new()));
    let [first, second] = &mut resources;
    let (client, mut runner) = first.split(options("alice"));
    let (other, mut other_runner) = second.split(options("alice"));
    let (tcp, other_tcp, listeners) = (world.tcp(), world.tcp(), world.listeners());
    let later = async {
        sleep(1_000).await;
        other_runner.run(other_tcp).await
    };
    world.run([task(server.serve(listeners)), task(later)], async {
        let end = runner.run(tcp).await;
        assert!(end.unwrap_err().is_takeover());
        assert_eq!(client.status(), Status::Ended(end.err()));
        assert!(matches!(other.status(), Status::Connected { .. }));
    });
}

#[test]
fn before_5_0_two_clients_with_one_identifier_fight_ever_more_slowly() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = [(); 2].map(|()| Resources::new(Version::V3_1_1, Fixed::new()));
    let [first, second] = &mut resources;
    let (client, mut runner) = first.split(Options { seed: 1, ..options("alice") });
    let (_, mut other_runner) = second.split(Options { seed: 2, ..options("alice") });
    let (tcp, other_tcp, listeners) = (world.tcp(), world.tcp(), world.listeners());
    let tasks =
        [task(server.serve(listeners)), task(runner.run(tcp)), task(other_runner.run(other_tcp))];
    world.run(tasks, async {
        let mut attempts = 0;
        let mut watch = client.watch();
        let watching = async {
            loop {
                if matches!(watch.next().await, Status::Connected { .. }) {
                    attempts += 1;
                }
            }
        };
        embassy_futures::select::select(watching, sleep(1_200_000)).await;
        assert!((10..80).contains(&attempts), "{attempts} in 20 minutes");
    });
}

/// Refuses everybody for a reason.
struct Refuse(ReasonCode);

impl Access for Refuse {
    fn authorize(&mut self, _: ConnectionId, _: &Action<'_>) -> Verdict {
        Verdict::Deny(self.0)
    }
}

fn refused(reason: ReasonCode, options: Options<'_>) -> (Result<(), ConnectionError>, u32) {
    let world = World::new(1);
    let mut server = Box::new(Broker::<Small<4, 16, 512, 64, 16384>, _, 4, 2048, 4096>::new(
        Config::default(),
        Refuse(reason),
    ));
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options);
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners))], async {
        let mut attempts = 0;
        let mut watch = client.watch();
        let watching = async {
            loop {
                if let Status::Waiting { attempt, .. } = watch.next().await {
                    attempts = attempt;
                }
            }
        };
        let end = embassy_futures::select::select(runner.run(tcp), watching).await;
        let embassy_futures::select::Either::First(end) = end;
        (end, attempts)
    })
}

#[test]
fn a_final_refusal_is_the_end() {
    let reason = ReasonCode::BadUserNameOrPassword;
    assert_eq!(refused(reason, options("a")), (Err(ConnectionError::Refused(reason)), 0));
}

#[test]
fn a_temporary_refusal_is_the_end_after_as_many_attempts_as_asked_for() {
    let reason = ReasonCode::ServerUnavailable;
    let reconnect = Reconnect { attempts: Some(5), ..Reconnect::default() };
    let thrice = Options { reconnect, ..options("a") };
    assert_eq!(refused(reason, thrice), (Err(ConnectionError::Refused(reason)), 5));
}

#[test]
fn the_first_failure_is_told_if_asked_for() {
    let reason = ReasonCode::ServerUnavailable;
    let first = Options { retry_first: false, ..options("a") };
    assert_eq!(refused(reason, first), (Err(ConnectionError::Refused(reason)), 0));
}

#[test]
fn options_that_make_no_connect_are_told_at_once() {
    let options = Options {
        connect: Connect { will: Some(Default::default()), ..options("a").connect },
        ..options("a")
    };
    let (end, attempts) = refused(ReasonCode::ServerUnavailable, options);
    assert!(matches!(end, Err(ConnectionError::Options(_))), "{end:?}");
    assert_eq!(attempts, 0);
}

#[test]
fn a_client_that_is_told_to_end_says_so() {
    let world = World::new(1);
    let mut server = server();
    let mut resources = Resources::new(Version::V5, Fixed::new());
    let (client, mut runner) = resources.split(options("alice"));
    let (tcp, listeners) = (world.tcp(), world.listeners());
    world.run([task(server.serve(listeners))], async {
        let story = async {
            assert!(client.connected().await);
            client.disconnect().await;
            assert_eq!(client.status(), Status::Ended(None));
            assert!(client.receive().await.is_none());
        };
        let (end, ()) = embassy_futures::join::join(runner.run(tcp), story).await;
        assert_eq!(end, Ok(()));
    });
}

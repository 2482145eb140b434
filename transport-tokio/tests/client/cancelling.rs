//! Every public future, dropped wherever it can be.
//!
//! A scenario is told once without a cut. Then it is told again and again, each time with its subject
//! dropped after one more poll, until the subject comes to its end before: so no point at which it
//! waits is left out. What went over the wire and what everybody else was told has to be what it was
//! when the subject was not dropped, or what it is when there is no subject at all.

use std::{cell::Cell, fmt::Debug, future::poll_fn, task::Poll};

use crate::support::*;

mod connecting;
mod publishing;
mod reading;
mod requesting;
mod subscribing;

/// When, after its last poll, a future is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// At once.
    Then,
    /// When it is woken, instead of being polled.
    Woken,
    /// When everything has happened that happens without time: it was woken, perhaps, and not polled.
    AtRest,
}

/// Drops a future after so many polls.
#[derive(Debug)]
struct Knife {
    when: When,
    polls: usize,
    /// Whether it has cut, rather than seen the end.
    has_cut: Cell<bool>,
}

impl Knife {
    const fn new(when: When, polls: usize) -> Self {
        Self { when, polls, has_cut: Cell::new(false) }
    }

    /// Polls the future until it is done, or until it is to be dropped.
    async fn apply<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = Box::pin(future);
        let mut polls = 0;
        let output = poll_fn(|cx| {
            if polls == self.polls {
                return Poll::Ready(None);
            }
            polls += 1;
            let polled = future.as_mut().poll(cx).map(Some);
            let now = polls == self.polls && self.when != When::Woken;
            if polled.is_pending() && now { Poll::Ready(None) } else { polled }
        })
        .await;
        if output.is_none() {
            self.has_cut.set(true);
            if self.when == When::AtRest {
                settle().await;
            }
        }
        output
    }
}

/// What is left of a scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// What the client sent and what the server sent, each in its order.
    up: Vec<String>,
    down: Vec<String>,
    /// What the server has accepted.
    accepted: Vec<String>,
    /// What everybody but the subject was told.
    told: Vec<String>,
}

impl Record {
    /// Ends a scenario. Nothing may be under way any more.
    async fn of(net: &Net<Server>, client: Client, told: Vec<String>) -> Self {
        pass(600).await; // and connected again, if need be
        let counters = client.counters();
        assert_eq!((counters.queued, counters.queued_bytes, counters.in_flight), (0, 0, 0));
        assert_eq!(net.with(|server| server.undelivered()), 0, "messages without an answer");
        client.disconnect().await.expect("nothing is unfinished");
        settle().await;
        assert!(!net.is_open());
        let (down, up) = net.trace().into_iter().partition(|line| line.starts_with('<'));
        Self { up, down, accepted: net.accepted(), told }
    }
}

/// What a cut may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing.
    None,
    /// Without any poll it never happened; with one, all of it happens.
    AllFrom(usize),
    /// All of it happens, or it never happened: that, if it had fewer polls than these.
    AllOrNothing(usize),
}

/// Tells a scenario with every cut there is, on both versions. The subject waits so often at least.
async fn everywhere(
    waits: usize,
    effect: Effect,
    scenario: impl AsyncFn(Version, &Knife) -> Record,
) {
    both(async |version| on(version, waits, effect, &scenario).await).await;
}

async fn on(
    version: Version,
    waits: usize,
    effect: Effect,
    scenario: &impl AsyncFn(Version, &Knife) -> Record,
) {
    let tell = async |knife: &Knife| {
        fastrand::seed(1); // the jitter of reconnection
        scenario(version, knife).await
    };
    let whole = tell(&Knife::new(When::Then, usize::MAX)).await;
    let nothing = tell(&Knife::new(When::Then, 0)).await;
    let mut cuts = 0;
    for when in [When::Then, When::Woken, When::AtRest] {
        for polls in 0.. {
            let knife = Knife::new(when, polls);
            let record = tell(&knife).await;
            if !knife.has_cut.get() {
                assert_eq!(record, whole, "the same without a cut");
                assert!(polls > waits, "the subject waits only {polls} times");
                break;
            }
            cuts += 1;
            let expected: &[&Record] = match effect {
                Effect::None => &[&whole],
                Effect::AllFrom(first) if polls < first => &[&nothing],
                Effect::AllFrom(_) => &[&whole],
                Effect::AllOrNothing(first) if polls < first => &[&nothing],
                Effect::AllOrNothing(_) => &[&whole, &nothing],
            };
            let agrees = expected.contains(&&record);
            assert!(agrees, "{knife:?} makes of {expected:#?} this: {record:#?}");
        }
    }
    assert!(cuts >= 3 * waits);
}

/// In short.
fn told(result: impl Debug) -> String {
    format!("{result:?}")
}

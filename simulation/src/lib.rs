//! What the machines of `mqtt-core` are tested with, on one thread and without waiting.
//!
//! - [`Clock`]: time that passes when it is told to.
//! - [`Wire`]: carries bytes both ways; splits, delays, stalls and cuts as its [`Weather`] says.
//! - [`Pair`]: two [`End`]s, a wire and a clock, moved on in rounds until nothing happens any more.
//! - [`App`]: the client's end. Watches that the machine writes whole packets only, and leaves room.
//! - [`Party`]: clients and a broker, each on its wire.
//! - [`Model`]: what a broker must, may and must not do; watches a party.
//! - [`Ledger`]: what a broker is restored from.
//! - [`assault`]: hostile clients.
//! - [`chaos`]: anything done to a client.
//! - [`Script`]: a server's end that does what the test says, for one-line provocations.
//! - [`Server`]: a server's end that follows the protocol, and panics when the client does not.
//!
//! A run is repeatable: all chance comes from [`Rng`]s with seeds.

pub mod app;
mod assault;
mod chaos;
mod clock;
mod event;
pub mod ledger;
mod model;
pub mod pair;
pub mod party;
mod rng;
pub mod script;
pub mod server;
pub mod story;
pub mod wire;

pub use app::{App, Outbox};
pub use assault::assault;
pub use chaos::{Step, chaos};
pub use clock::Clock;
pub use event::keep_packet;
pub use ledger::Ledger;
pub use model::{Counts, Model, Outcome};
pub use pair::{End, Pair};
pub use party::{Party, Pocket};
pub use rng::Rng;
pub use script::Script;
pub use server::{Manners, Note, Server};
pub use wire::{Direction, Weather, Wire};

//! Without the feature `persistence` nothing is saved.

use std::task::Context;

use mqtt_core::Instant;

use super::{Persistence, shard::Shard};

impl Shard {
    pub(super) fn save(&mut self, _: &mut Context<'_>) {}

    pub(super) const fn save_deadline(&self) -> Option<Instant> {
        None
    }

    pub(super) fn is_saved(&mut self, _: &mut Context<'_>) -> bool {
        true
    }

    pub(super) fn persistence(&self) -> Persistence {
        Persistence::default()
    }
}

//! What is counted, and under which names it is told.

use std::{fmt::Write, time::Duration};

use super::Messages;

/// What a broker has done and has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// How long it has been serving.
    pub uptime: Duration,
    /// How many connections there are, also those without CONNECT yet.
    pub connections: usize,
    /// How many there have been since it began, those refused included.
    pub connections_accepted: u64,
    /// How many were closed at once because there were too many.
    pub connections_refused: u64,
    /// How many clients are connected, and let in.
    pub clients: usize,
    /// How many there were at once, at most.
    pub clients_maximum: usize,
    /// How many sessions there are, with and without a connection.
    pub sessions: usize,
    /// How many subscriptions there are.
    pub subscriptions: usize,
    /// How many of them are shared ones.
    pub shared_subscriptions: usize,
    /// How many messages are retained, those on `$SYS` included.
    pub retained: usize,
    /// How many messages are kept: retained, waiting, on their way at QoS 1 and 2, wills.
    pub kept: usize,
    /// How many bytes they have.
    pub kept_bytes: usize,
    /// How many bytes wait to be written to connections.
    pub outgoing_bytes: usize,
    /// How many bytes were read from connections.
    pub bytes_received: u64,
    /// How many bytes were written to connections.
    pub bytes_sent: u64,
    /// How many packets of any type were taken.
    pub packets_received: u64,
    /// How many packets of any type were written.
    pub packets_sent: u64,
    /// What became of messages.
    pub messages: Messages,
    /// What became of what is to be kept.
    pub persistence: Persistence,
}

/// What a broker has saved, and could not, since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Persistence {
    /// How many batches of changes have been saved.
    pub commits: u64,
    /// How often that, or opening the file again, has failed.
    pub failures: u64,
    /// Whether it has failed, and has not worked since: nothing at QoS 1 and 2 is acknowledged.
    pub is_failing: bool,
    /// How many records were skipped when the file was read, because they make no sense.
    pub skipped: u64,
    /// How often a file that could not be read was given another name.
    pub set_aside: u64,
}

impl Statistics {
    /// How many messages were dropped, for whatever reason, before they were sent to a subscriber.
    pub const fn dropped(&self) -> u64 {
        let Messages {
            dropped_unread, dropped_overflow, dropped_too_large, dropped_expired, ..
        } = self.messages;
        dropped_unread + dropped_overflow + dropped_too_large + dropped_expired
    }

    /// All this as Prometheus reads it, in its text format, version 0.0.4.
    ///
    /// ```
    /// use transport_tokio::broker::Statistics;
    ///
    /// let text = Statistics::default().to_prometheus();
    /// assert!(text.contains("\n# TYPE mqtt_subscriptions gauge\nmqtt_subscriptions 0\n"));
    /// ```
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for Entry { metric, kind, help, value, .. } in ENTRIES {
            let kind = match kind {
                _ if metric.is_empty() => continue,
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            let value = value(self);
            // A string takes everything.
            let _ =
                writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} {kind}\n{metric} {value}");
        }
        text
    }
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

/// A number of the [`Statistics`] and its names.
pub(super) struct Entry {
    /// Below `$SYS/broker/`, as mosquitto calls it; empty if it does not.
    pub(super) topic: &'static str,
    /// Below `$SYS/broker/load/`, if there is an average of what is added to it in a minute.
    pub(super) load: &'static str,
    /// For Prometheus; empty if it is told by others.
    pub(super) metric: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) value: fn(&Statistics) -> u64,
}

/// Writes the table.
macro_rules! entries {
    ($($kind:ident $topic:literal $load:literal $metric:literal $help:literal $value:expr;)*) => {
        &[$(Entry {
            topic: $topic,
            load: $load,
            metric: $metric,
            kind: Kind::$kind,
            help: $help,
            value: $value,
        }),*]
    };
}

/// Everything that is counted: kind, mosquitto's name for it and for its load, Prometheus' name, what it
/// is, where it is.
#[rustfmt::skip]
pub(super) const ENTRIES: &[Entry] = entries! {
    Gauge "" "" "mqtt_uptime_seconds" "How long the broker has been serving." |now| now.uptime.as_secs();
    Gauge "" "" "mqtt_connections" "Connections, also those without CONNECT yet." |now| now.connections as u64;
    Counter "" "sockets" "mqtt_connections_accepted_total" "Connections accepted." |now| now.connections_accepted;
    Counter "" "" "mqtt_connections_refused_total" "Connections closed at once because there were too many." |now| now.connections_refused;
    Gauge "clients/connected" "" "mqtt_clients_connected" "Clients that are connected." |now| now.clients as u64;
    Gauge "clients/active" "" "" "" |now| now.clients as u64;
    Gauge "clients/maximum" "" "mqtt_clients_maximum" "Clients that were connected at once, at most." |now| now.clients_maximum as u64;
    Gauge "clients/total" "" "mqtt_sessions" "Sessions, with and without a connection." |now| now.sessions as u64;
    Gauge "clients/disconnected" "" "mqtt_sessions_disconnected" "Sessions without a connection." |now| now.sessions.saturating_sub(now.clients) as u64;
    Gauge "clients/inactive" "" "" "" |now| now.sessions.saturating_sub(now.clients) as u64;
    Counter "clients/expired" "" "mqtt_sessions_expired_total" "Sessions that came to the end of their time." |now| now.messages.sessions_expired;
    Gauge "subscriptions/count" "" "mqtt_subscriptions" "Subscriptions." |now| now.subscriptions as u64;
    Gauge "shared_subscriptions/count" "" "mqtt_shared_subscriptions" "Shared subscriptions." |now| now.shared_subscriptions as u64;
    Gauge "retained messages/count" "" "mqtt_retained_messages" "Retained messages." |now| now.retained as u64;
    Gauge "messages/stored" "" "" "" |now| now.kept as u64;
    Gauge "store/messages/count" "" "mqtt_kept_messages" "Messages kept: retained, waiting, on their way at QoS 1 and 2, wills." |now| now.kept as u64;
    Gauge "store/messages/bytes" "" "mqtt_kept_bytes" "Bytes of messages kept." |now| now.kept_bytes as u64;
    Gauge "" "" "mqtt_outgoing_bytes" "Bytes waiting to be written to connections." |now| now.outgoing_bytes as u64;
    Counter "bytes/received" "bytes/received" "mqtt_received_bytes_total" "Bytes read from connections." |now| now.bytes_received;
    Counter "bytes/sent" "bytes/sent" "mqtt_sent_bytes_total" "Bytes written to connections." |now| now.bytes_sent;
    Counter "messages/received" "messages/received" "mqtt_received_packets_total" "Packets of any type received." |now| now.packets_received;
    Counter "messages/sent" "messages/sent" "mqtt_sent_packets_total" "Packets of any type sent." |now| now.packets_sent;
    Counter "publish/messages/received" "publish/received" "mqtt_publish_received_total" "Messages published by clients." |now| now.messages.received;
    Counter "publish/messages/sent" "publish/sent" "mqtt_publish_sent_total" "Messages sent to subscribers." |now| now.messages.sent;
    Counter "publish/bytes/received" "" "mqtt_publish_received_bytes_total" "Bytes of payloads published by clients." |now| now.messages.received_bytes;
    Counter "publish/bytes/sent" "" "mqtt_publish_sent_bytes_total" "Bytes of payloads sent to subscribers." |now| now.messages.sent_bytes;
    Counter "publish/messages/dropped" "publish/dropped" "mqtt_publish_dropped_total" "Messages dropped before they were sent to a subscriber." Statistics::dropped;
    Counter "" "" "mqtt_publish_dropped_unread_total" "Of those, at QoS 0 because the subscriber did not read." |now| now.messages.dropped_unread;
    Counter "" "" "mqtt_publish_dropped_overflow_total" "Of those, because too many waited." |now| now.messages.dropped_overflow;
    Counter "" "" "mqtt_publish_dropped_too_large_total" "Of those, because they were too large for the subscriber." |now| now.messages.dropped_too_large;
    Counter "" "" "mqtt_publish_dropped_expired_total" "Of those, because they had expired." |now| now.messages.dropped_expired;
    Counter "" "" "mqtt_not_retained_total" "Messages that were to be retained, and were not." |now| now.messages.not_retained;
    Counter "" "" "mqtt_persistence_commits_total" "Batches of changes saved in the file." |now| now.persistence.commits;
    Counter "" "" "mqtt_persistence_failures_total" "How often saving, or opening the file again, has failed." |now| now.persistence.failures;
    Gauge "" "" "mqtt_persistence_failing" "1 while nothing can be saved, 0 otherwise." |now| now.persistence.is_failing.into();
    Counter "" "" "mqtt_persistence_skipped_total" "Records of the file that were skipped." |now| now.persistence.skipped;
    Counter "" "" "mqtt_persistence_set_aside_total" "Files that could not be read and were given another name." |now| now.persistence.set_aside;
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_numbers() {
        let names = |name: fn(&Entry) -> &'static str| {
            let mut names: Vec<_> =
                ENTRIES.iter().map(name).filter(|name| !name.is_empty()).collect();
            names.sort_unstable();
            names
        };
        for names in
            [names(|entry| entry.topic), names(|entry| entry.load), names(|entry| entry.metric)]
        {
            let mut once = names.clone();
            once.dedup();
            assert_eq!(names, once);
        }
        for Entry { kind, metric, help, .. } in ENTRIES {
            assert_eq!(metric.is_empty(), help.is_empty());
            assert_eq!(metric.ends_with("_total"), *kind == Kind::Counter, "{metric}");
        }
    }
}

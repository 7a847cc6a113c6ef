//! Metrics: every name, label and meaning in one place. `docs/METRICS.md` is checked against [`DESCRIPTIONS`].
//!
//! Names carry their unit; labels have few values (never a topic, table row, user or token).

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// One label, `reason` or the like, with a value from a fixed set.
pub type Label = [(&'static str, &'static str); 1];

macro_rules! metrics {
    ($( $(#[doc = $doc:literal])+ $field:ident : $kind:ty = $name:literal, $new:expr; )+) => {
        /// Every metric of one server. Counters end in `_total` on the wire.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $doc])+ pub $field: $kind, )+
        }

        /// Name as exported and help text of every metric.
        pub const DESCRIPTIONS: &[(&str, &str)] = &[ $( ($name, concat!($($doc),+)), )+ ];

        impl Metrics {
            /// Fresh metrics, all zero.
            pub fn new() -> Arc<Self> {
                let mut registry = Registry::default();
                $(
                    let $field: $kind = $new;
                    // The library adds the dot that ends a help text and the `_total` of a counter.
                    let help = concat!($($doc),+).trim().trim_end_matches('.');
                    registry.register($name.trim_end_matches("_total"), help, $field.clone());
                )+
                Arc::new(Self { registry, $($field,)+ })
            }
        }
    };
}

fn seconds() -> Histogram {
    Histogram::new([
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ])
}

metrics! {
    /// Connections open now: WebSockets, sessions of long polling, streams of events and polls.
    connections: Gauge = "rowcast_connections", Gauge::default();
    /// Sessions of long polling open now, which count as connections.
    longpoll_sessions: Gauge = "rowcast_longpoll_sessions", Gauge::default();
    /// Connections that ended, by reason.
    connections_closed: Family<Label, Counter> = "rowcast_connections_closed_total", Family::default();
    /// Connection attempts refused before the upgrade, by reason.
    connections_refused: Family<Label, Counter> = "rowcast_connections_refused_total", Family::default();
    /// HTTP requests to broadcast that were refused, and messages of batches that their sender may not send, by reason.
    requests_refused: Family<Label, Counter> = "rowcast_requests_refused_total", Family::default();
    /// Channels joined now.
    channels: Gauge = "rowcast_channels", Gauge::default();
    /// Joins answered with an error, by code.
    joins_refused: Family<Label, Counter> = "rowcast_joins_refused_total", Family::default();
    /// TLS handshakes that came to nothing, by reason.
    handshakes_failed: Family<Label, Counter> = "rowcast_tls_handshakes_failed_total", Family::default();
    /// When the TLS certificate in use expires, in seconds since 1970; 0 without one.
    certificate_expiry: Gauge = "rowcast_tls_certificate_expiry", Gauge::default();
    /// Times a changed TLS certificate was read, by outcome.
    certificate_reloads: Family<Label, Counter> = "rowcast_tls_certificate_reloads_total", Family::default();
    /// Frames from clients that were not understood and dropped.
    frames_malformed: Counter = "rowcast_frames_malformed_total", Counter::default();
    /// Frames written to clients.
    frames_sent: Counter = "rowcast_frames_sent_total", Counter::default();
    /// Bytes of payload written to clients.
    bytes_sent: Counter = "rowcast_bytes_sent_total", Counter::default();
    /// Connections closed because their outbox was full.
    outbox_overflows: Counter = "rowcast_outbox_overflows_total", Counter::default();
    /// Row changes read from the replication stream.
    changes: Counter = "rowcast_changes_total", Counter::default();
    /// Transactions read from the replication stream.
    transactions: Counter = "rowcast_transactions_total", Counter::default();
    /// Changes skipped because they had been handed over before a reconnect.
    changes_repeated: Counter = "rowcast_changes_repeated_total", Counter::default();
    /// Messages on the replication stream that could not be decoded.
    changes_undecodable: Counter = "rowcast_changes_undecodable_total", Counter::default();
    /// Bytes read from the replication stream.
    replication_bytes: Counter = "rowcast_replication_bytes_total", Counter::default();
    /// Times the replication connection was lost or refused.
    replication_interruptions: Counter = "rowcast_replication_interruptions_total", Counter::default();
    /// Whether the replication stream is live (1) or not (0).
    replication_live: Gauge = "rowcast_replication_live", Gauge::default();
    /// WAL position up to which everything is in the outboxes, in bytes.
    delivered_lsn: Gauge = "rowcast_delivered_lsn_bytes", Gauge::default();
    /// WAL position confirmed to the slot, in bytes: everything committed before it has left the replay window.
    confirmed_lsn: Gauge = "rowcast_confirmed_lsn_bytes", Gauge::default();
    /// WAL that Postgres keeps for the slot, in bytes.
    slot_retained: Gauge = "rowcast_slot_retained_bytes", Gauge::default();
    /// WAL between what was confirmed to the slot and now, in bytes.
    slot_unconfirmed: Gauge = "rowcast_slot_unconfirmed_bytes", Gauge::default();
    /// WAL that can still be written before Postgres gives the slot up, in bytes; -1 where nothing limits it.
    slot_safe: Gauge = "rowcast_slot_safe_bytes", Gauge::default();
    /// What Postgres says of the slot's WAL: 1 for the status that holds.
    slot_wal_status: Family<Label, Gauge> = "rowcast_slot_wal_status", Family::default();
    /// WAL that the replay window may hold back now, in bytes.
    slot_wal_budget: Gauge = "rowcast_slot_wal_budget_bytes", Gauge::default();
    /// Messages written because the slot stood still while other databases wrote.
    heartbeats: Counter = "rowcast_heartbeats_total", Counter::default();
    /// Seconds between a transaction's commit and its hand-over to the outboxes.
    commit_to_outbox: Histogram = "rowcast_commit_to_outbox_seconds", seconds();
    /// Subscriptions to row changes held now.
    subscriptions: Gauge = "rowcast_subscriptions", Gauge::default();
    /// Subscriptions refused, by reason.
    subscriptions_refused: Family<Label, Counter> = "rowcast_subscriptions_refused_total", Family::default();
    /// Change messages put into outboxes.
    deliveries: Counter = "rowcast_deliveries_total", Counter::default();
    /// Changes that were left out of a subscription with `conflate` since a later one of the same row took their place.
    changes_conflated: Counter = "rowcast_changes_conflated_total", Counter::default();
    /// Bytes that wait for connections now: in outboxes, gathered for them, and taken from them but not written yet. What several wait
    /// for counts once for each.
    outbox_bytes: Gauge = "rowcast_outbox_bytes", Gauge::default();
    /// Snapshots that were asked for, by outcome: read, shared (with somebody whose is counted as read), refused, failed.
    snapshots: Family<Label, Counter> = "rowcast_snapshots_total", Family::default();
    /// Those who wait for their snapshot to be taken.
    snapshots_waiting: Gauge = "rowcast_snapshots_waiting", Gauge::default();
    /// Rows of snapshots put into outboxes.
    snapshot_rows: Counter = "rowcast_snapshot_rows_total", Counter::default();
    /// Seconds that one reading of a snapshot took, with the waiting for those who read slower.
    snapshot_seconds: Histogram = "rowcast_snapshot_seconds", seconds();
    /// Rooms that have members now.
    rooms: Gauge = "rowcast_rooms", Gauge::default();
    /// Broadcasts said in rooms, wherever they came from.
    broadcasts: Counter = "rowcast_broadcasts_total", Counter::default();
    /// Broadcasts put into outboxes, once for each member of a room.
    broadcast_deliveries: Counter = "rowcast_broadcast_deliveries_total", Counter::default();
    /// Broadcasts that a member did not get because too many came before its join with a replay was answered.
    broadcasts_dropped: Counter = "rowcast_broadcasts_dropped_total", Counter::default();
    /// Members of rooms present now.
    present: Gauge = "rowcast_present", Gauge::default();
    /// Changes of presence put into outboxes, once for each member of a room.
    presence_diffs: Counter = "rowcast_presence_diffs_total", Counter::default();
    /// Broadcasts read from the replication stream (rows of realtime.messages, and logical messages).
    database_broadcasts: Counter = "rowcast_database_broadcasts_total", Counter::default();
    /// Logical messages that were to be broadcasts (replication.logical_broadcasts) and could not be: of another shape, too long,
    /// or not transactional.
    logical_malformed: Counter = "rowcast_logical_broadcasts_malformed_total", Counter::default();
    /// Partitions of realtime.messages that could not be made or dropped when they should have been.
    partition_failures: Counter = "rowcast_messages_partition_failures_total", Counter::default();
    /// Answers of clients with a session id to the question how far they have come.
    places_acknowledged: Counter = "rowcast_places_acknowledged_total", Counter::default();
    /// Places of clients with a session id that were written to the database.
    places_saved: Counter = "rowcast_places_saved_total", Counter::default();
    /// Times some of them could not be.
    places_save_failures: Counter = "rowcast_places_save_failures_total", Counter::default();
    /// Memory of the broadcasts that rooms keep for those who come back, in bytes.
    kept_broadcast_bytes: Gauge = "rowcast_kept_broadcast_bytes", Gauge::default();
    /// Row changes in the replay window now.
    window_changes: Gauge = "rowcast_window_changes", Gauge::default();
    /// Memory of the row changes in the replay window, in bytes.
    window_bytes: Gauge = "rowcast_window_bytes", Gauge::default();
    /// Age of the oldest row change in the replay window, in whole seconds.
    window_age: Gauge = "rowcast_window_age", Gauge::default();
    /// Row subscriptions that wanted to go on from where their client was, by outcome.
    resumes: Family<Label, Counter> = "rowcast_resumes_total", Family::default();
    /// Verdicts on (row, class of subscribers), by outcome.
    verdicts: Family<Label, Counter> = "rowcast_policy_verdicts_total", Family::default();
    /// Verdicts decided in memory that Postgres was to be asked about as well (policy.shadow_share), by outcome.
    shadow_checks: Family<Label, Counter> = "rowcast_policy_shadow_checks_total", Family::default();
    /// Round trips to Postgres for verdicts.
    judge_calls: Counter = "rowcast_policy_judge_calls_total", Counter::default();
    /// Seconds that one such round trip took.
    judge_seconds: Histogram = "rowcast_policy_judge_seconds", seconds();
    /// Subqueries of policies held in memory now, one per class of subscribers.
    relations: Gauge = "rowcast_policy_relations", Gauge::default();
    /// Rows of those subqueries held in memory now.
    relation_rows: Gauge = "rowcast_policy_relation_rows", Gauge::default();
    /// Times such a subquery was read.
    relation_reads: Counter = "rowcast_policy_relation_reads_total", Counter::default();
    /// Seconds that one round trip for reading them took.
    relation_read_seconds: Histogram = "rowcast_policy_relation_read_seconds", seconds();
    /// Times a change of a table made such a subquery out of date.
    relation_marks: Counter = "rowcast_policy_relation_marks_total", Counter::default();
    /// Members of private channels whose rights are kept up to date now.
    channel_members: Gauge = "rowcast_channel_members", Gauge::default();
    /// Rights on private channels judged, by outcome.
    channel_verdicts: Family<Label, Counter> = "rowcast_channel_verdicts_total", Family::default();
    /// Those of them that had been judged before, and were again since something changed or some time had passed.
    channel_rejudgements: Counter = "rowcast_channel_rejudgements_total", Counter::default();
    /// Times a member of a private channel turned out to have other rights than before.
    channel_rights_changed: Counter = "rowcast_channel_rights_changed_total", Counter::default();
    /// Times the catalog (tables, columns, grants, policies) was read.
    catalog_reads: Counter = "rowcast_catalog_reads_total", Counter::default();
    /// Times reading the catalog failed; the previous one stays in force.
    catalog_failures: Counter = "rowcast_catalog_failures_total", Counter::default();
    /// Whether the policy files are wrong as they stand (1), so that those before them stay in force, or not (0).
    policy_files_broken: Gauge = "rowcast_policy_files_broken", Gauge::default();
    /// Times changed policy files were read, by outcome.
    policy_files_reloads: Family<Label, Counter> = "rowcast_policy_files_reloads_total", Family::default();
    /// Streams of server-sent events open now. They count among the connections, too.
    event_streams: Gauge = "rowcast_event_streams", Gauge::default();
    /// Polls answered.
    polls: Counter = "rowcast_polls_total", Counter::default();
}

impl Metrics {
    /// The exposition text (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_labels_are_exported_under_their_described_names() {
        let metrics = Metrics::new();
        metrics
            .connections_closed
            .get_or_create(&[("reason", "client")])
            .inc();
        metrics.changes.inc_by(3);
        let text = metrics.render();
        for line in [
            "rowcast_connections_closed_total{reason=\"client\"} 1",
            "rowcast_changes_total 3",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = DESCRIPTIONS.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DESCRIPTIONS.len());
    }
}

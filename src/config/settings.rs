//! The table. What stands here is also what `--help` and `docs/CONFIG.md` say.

use std::path::PathBuf;
use std::time::Duration;

use super::error::Problem;
use super::load::Values;
use super::table::{Section, Setting, Unit, settings};
use super::value::{ApiKeys, FromText, JsonObject, LogFormat, Plugin, Share, SslMode, UnjudgedDeletes};
use crate::secret::Secret;

settings! {
    /// Where clients connect.
    listen: Listen {
        /// Address to listen on. 0.0.0.0 means every IPv4 interface, :: every interface.
        host: String = "0.0.0.0";
        /// TCP port to listen on; 0 takes a free one.
        port: u16 = "4000", env "PORT";
        /// Longest time to let connections drain after SIGTERM or Ctrl-C.
        shutdown_grace: Duration [Seconds] = "10s";
        /// After SIGTERM or Ctrl-C, clients are told to come back one after another, spread over this time.
        drain: Duration [Seconds] = "1s";
        /// How long readiness is false before the first client is told, so that load balancers have looked.
        drain_notice: Duration [Seconds] = "0s";
        /// PEM file with the certificate and its chain. With it and `tls_key`, the server speaks TLS itself.
        tls_certificate: Option<PathBuf> = "";
        /// PEM file with the certificate's private key.
        tls_key: Option<PathBuf> = "";
    }

    /// The Postgres database to follow.
    database: Database {
        /// `postgres://user:password@host:port/name?sslmode=...`. Beats the separate settings below, unless one of
        /// those comes from a stronger place (flag, then environment, then file).
        url: Secret = "", env "DATABASE_URL";
        /// Host name, address, or the directory of a Unix socket.
        host: String = "127.0.0.1", env "DB_HOST";
        /// TCP port.
        port: u16 = "5432", env "DB_PORT";
        /// Role to log in as. It needs REPLICATION, and to install objects it needs to own the database or be superuser.
        user: String = "postgres", env "DB_USER";
        /// Password of that role.
        password: Secret = "", env "DB_PASSWORD";
        /// Name of the database.
        name: String = "postgres", env "DB_NAME";
        /// How TLS is used, with libpq's meaning. `true` is read as `require`, `false` as `disable`.
        sslmode: SslMode = "prefer", env "DB_SSL";
        /// PEM file of the certificate authorities to trust; the system's when unset.
        sslrootcert: Option<PathBuf> = "", env "DB_SSL_CA_CERT";
        /// Longest time for one attempt to connect and log in.
        connect_timeout: Duration [Seconds] = "10s";
        /// Longest time for one of our own statements (not for the judging of rows: see policy.timeout).
        statement_timeout: Duration [Seconds] = "10s";
        /// Connections kept for the catalog and for subscribing.
        pool_size: usize = "2", env "DB_POOL_SIZE";
        /// Create the objects of the `realtime` and `auth` schemas and the publication where they are missing.
        install_objects: bool = "true";
        /// Create the roles anon, authenticated and service_role where they are missing.
        create_roles: bool = "true";
        /// How often tables, columns, grants and policies are read again when nothing announced a change.
        catalog_interval: Duration [Seconds] = "10s";
        /// Connections kept for broadcasts that are replayed or kept (`realtime.messages`).
        messages_pool_size: usize = "2";
        /// Age at which broadcasts leave `realtime.messages`: its daily partitions are made ahead and dropped behind this.
        messages_retention: Duration [Seconds] = "72h";
    }

    /// The replication stream.
    replication: Replication {
        /// Name of the logical replication slot. Two servers on one database need two names.
        slot: String = "rowcast";
        /// Added to the slot's name, after an underscore.
        slot_suffix: String = "", env "SLOT_NAME_SUFFIX";
        /// Publication whose tables are followed.
        publication: String = "supabase_realtime";
        /// Make a new slot when Postgres has invalidated ours. Rows committed in between are then not delivered.
        recreate_lost_slot: bool = "false";
        /// End the other connection when the slot is in use, instead of waiting for it.
        takeover: bool = "false";
        /// Output plugin: `wal2json`, `pgoutput`, or `auto`: wal2json where the database has it, otherwise pgoutput. An
        /// existing slot keeps the plugin that it was made with.
        plugin: Plugin = "auto";
        /// Most WAL that the replay window (resume.window) may hold back in Postgres; past it the window shrinks first. Never
        /// more than half of the server's `max_slot_wal_keep_size`.
        wal_budget: usize [Bytes] = "1GiB";
        /// How often the slot is looked at: its WAL, its status, and what is left until Postgres gives it up.
        slot_interval: Duration [Seconds] = "10s";
        /// How often a message is written to the WAL of a database where nothing else happens, so that its slot moves on beside
        /// busy ones. 0 for never.
        heartbeat: Duration [Seconds] = "60s";
        /// Make the slot one that is copied to standbys (PostgreSQL 17 and later).
        failover_slot: bool = "false";
        /// Take transactional messages of `pg_logical_emit_message` with the prefix `rowcast.broadcast` for broadcasts
        /// (docs/CHANNELS.md). Whoever may execute that function may then say anything to anybody.
        logical_broadcasts: bool = "false";
    }

    /// What a client that comes back is given of what it has missed (docs/DELIVERY.md).
    resume: Resume {
        /// Age at which row changes and broadcasts leave the replay window. 0 for no window.
        window: Duration [Seconds] = "2m";
        /// Bytes at which the oldest row changes leave the window.
        window_bytes: usize [Bytes] = "64MiB";
        /// Bytes at which the oldest broadcasts of all rooms together leave it.
        broadcasts_bytes: usize [Bytes] = "16MiB";
        /// Most clients whose place is remembered while they are away.
        places: usize = "100000";
        /// How often a client with a session id is asked how far it has come, while there is something to ask about.
        acknowledge: Duration [Milliseconds] = "1s";
        /// Keep the places of clients in the database while the server is replaced.
        keep_places: bool = "true";
        /// How often the places of clients that were sent something are written there, so that they outlive a crash. Each time
        /// 1,024 of them at most, in one statement: 205 rows a second with the default, however many clients there are. 0 writes
        /// them only when the server is asked to stop.
        save_every: Duration [Seconds] = "5s";
    }

    /// Rows that are sent before changes (`snapshot: true`).
    snapshot: Snapshot {
        /// Snapshots that are read at once; others wait.
        parallel: usize = "2";
        /// Longest time for one, from its query to its last row.
        timeout: Duration [Seconds] = "60s";
        /// Most rows of one; a table with more is refused. 0 for no limit.
        rows: usize = "1000000";
    }

    /// Who may see which row.
    policy: Policy {
        /// Longest time Postgres may take to judge a batch of rows; whoever is undecided then does not get the row.
        timeout: Duration [Milliseconds] = "2s";
        /// Connections kept for judging.
        pool_size: usize = "4";
        /// Most (row, subscriber) pairs asked for in one round trip.
        batch_size: usize = "1000";
        /// Decide policies in memory where that is proven to come out as in Postgres. `false` asks Postgres about every row.
        in_memory: bool = "true";
        /// What to send of a DELETE where the replica identity does not carry the columns that policies read:
        /// the key only (`key`), or nothing (`deny`).
        unjudged_deletes: UnjudgedDeletes = "key";
        /// Most rows of one policy's subquery that are held in memory for one class of subscribers; for larger ones
        /// Postgres is asked about every row.
        relation_rows: usize = "10000";
        /// Most rows of all such subqueries together.
        relation_rows_total: usize = "1000000";
        /// Directory of policy files (`*.sql`), which narrow what subscriptions may see (docs/POLICIES.md). The default one
        /// may be missing; empty for none.
        directory: Option<PathBuf> = "policies";
        /// Show rows of a table that has neither row-level security nor a policy file to nobody but roles that are above
        /// row-level security (superuser, BYPASSRLS).
        required: bool = "false";
        /// Share of the verdicts decided in memory that Postgres is asked about as well, behind their delivery and on one
        /// more connection; what does not agree is logged as an error (docs/POLICIES.md).
        shadow_share: Share = "0";
        /// How often the rights on private channels are judged again where nothing says that they may have changed: by
        /// policies that only Postgres can evaluate, or that depend on the time. 0 for never.
        channel_recheck: Duration [Seconds] = "60s";
    }

    /// How tokens are verified. At least one key is needed.
    auth: Auth {
        /// Secret of HS256, HS384 and HS512 tokens.
        jwt_secret: Secret = "", env "API_JWT_SECRET";
        /// A second secret that is accepted as well, while the first is being replaced.
        jwt_secret_next: Secret = "", env "API_JWT_SECRET_NEXT";
        /// JSON Web Key Set as text, `{"keys": [...]}`.
        jwks: Secret = "", env "API_JWT_JWKS";
        /// File with a JSON Web Key Set. Read again when a token names an unknown key.
        jwks_file: Option<PathBuf> = "";
        /// URL that answers with a JSON Web Key Set. Read again when a token names an unknown key.
        jwks_url: String = "";
        /// Shortest time between two readings of that file or URL.
        jwks_min_interval: Duration [Seconds] = "10s";
        /// Age at which that file or URL is read again although no key is missing.
        jwks_max_age: Duration [Seconds] = "10m";
        /// Longest time for one reading.
        jwks_timeout: Duration [Seconds] = "5s";
        /// Claims that every token must carry with exactly this value, `{"iss": "..."}`.
        required_claims: JsonObject = "{}", env "JWT_CLAIM_VALIDATORS";
        /// The `iss` that every token must carry; any when unset.
        issuer: String = "";
        /// The `aud` that every token must carry, alone or in a list; any when unset.
        audience: String = "";
        /// API keys that are no tokens (`sb_publishable_…`, `sb_secret_…`), each with the role it stands for,
        /// `{"sb_publishable_…": "anon"}`.
        api_keys: ApiKeys = "";
        /// Name of a cookie that server-sent events and long polling take a token from; none when unset.
        cookie: String = "";
        /// Server-sent events and long polling take a token from the query (`apikey`, `access_token`) as well. Query
        /// strings end up in logs.
        query_token: bool = "true";
    }

    /// What a connection and its client may do, and when it is answered.
    session: Session {
        /// A connection that sends nothing for this long is closed. Clients send a heartbeat every 25 seconds.
        idle_timeout: Duration [Seconds] = "60s";
        /// A connection that takes no bytes for this long is closed.
        write_timeout: Duration [Seconds] = "30s";
        /// A connection that has left its last channel is closed after this time.
        no_channel_timeout: Duration [Seconds] = "10m", env "NO_CHANNEL_TIMEOUT_IN_MS";
        /// Wait before a refused connection is answered, against storms of clients that come back at once.
        connect_error_backoff: Duration [Milliseconds] = "2s", env "CONNECT_ERROR_BACKOFF_MS";
        /// Wait before a refused join is answered. Clients give up on a join after 10 seconds.
        channel_error_backoff: Duration [Milliseconds] = "5s", env "CHANNEL_ERROR_BACKOFF_MS";
        /// Longest wait for a subscription to become live before the client is told that it is not yet.
        join_wait: Duration [Milliseconds] = "4s";
        /// Refuse public channels.
        private_only: bool = "false";
        /// Send `presence_state` also to clients that did not ask for presence.
        presence_enabled: bool = "false";
        /// How long before its token expires a channel is told so; 0 for never.
        expiry_warning: Duration [Seconds] = "60s";
        /// A stream of server-sent events that has nothing to say says so this often, for the proxies on its way.
        keep_alive: Duration [Seconds] = "15s";
        /// Longest wait of a long poll for something to happen.
        poll_wait: Duration [Seconds] = "25s";
    }

    /// Bounds. Each has an answer for whoever reaches it.
    limits: Limits {
        /// Open connections.
        connections: usize = "16384", env "MAX_CONNECTIONS", env "TENANT_MAX_CONCURRENT_USERS";
        /// Channels joined on one connection.
        channels_per_connection: usize = "100", env "TENANT_MAX_CHANNELS_PER_CLIENT";
        /// Joins per second of all connections together, with bursts of twice as many; 0 for no limit.
        joins_per_second: usize = "5000", env "TENANT_MAX_JOINS_PER_SECOND";
        /// Joins per second of one connection, with bursts of twice as many; 0 for no limit.
        connection_joins_per_second: usize = "100";
        /// Row subscriptions (entries of `postgres_changes`) on one channel.
        bindings_per_channel: usize = "100";
        /// Values in the list of an `in` filter.
        in_list_values: usize = "100";
        /// Messages per second of one connection, with bursts of twice as many; what comes faster waits in its socket. 0 for no
        /// limit.
        connection_messages_per_second: usize = "1000";
        /// Bytes per second of one connection, likewise.
        connection_bytes_per_second: usize [Bytes] = "10MiB";
        /// Broadcasts per second of all connections together, each counted once and once more for everybody who gets it; a
        /// channel that sends beyond it is closed. 0 for no limit.
        events_per_second: usize = "0", env "TENANT_MAX_EVENTS_PER_SECOND";
        /// Bytes per second that all connections together may send, likewise.
        bytes_per_second: usize [Bytes] = "0", env "TENANT_MAX_BYTES_PER_SECOND";
        /// A broadcast's payload.
        payload_bytes: usize [Bytes] = "3000500";
        /// The payload of `track`, which is kept for everybody who comes; a channel that tracks a larger one is closed.
        presence_bytes: usize [Bytes] = "64KiB";
        /// Calls of `track` and `untrack` that one channel may make within `presence_window`; one more closes it.
        presence_calls: usize = "100", env "CLIENT_PRESENCE_MAX_CALLS";
        /// See `presence_calls`.
        presence_window: Duration [Milliseconds] = "30s", env "CLIENT_PRESENCE_WINDOW_MS";
        /// Calls of `track` and `untrack` per second of all connections together, with bursts of twice as many; a channel that
        /// calls beyond it is closed. 0 for no limit.
        presence_per_second: usize = "10000";
        /// Body of a REST request.
        request_bytes: usize [Bytes] = "8MB";
        /// Frame from a client.
        frame_bytes: usize [Bytes] = "5000000";
        /// A row above this goes out without its values and with an error.
        record_bytes: usize [Bytes] = "1MiB";
        /// Frames waiting for one connection; one more closes it, and the client comes back.
        outbox_frames: usize = "16384";
        /// Bytes waiting for one connection; the same.
        outbox_bytes: usize [Bytes] = "8MiB";
        /// Bytes waiting for all connections together. Past it, a connection that holds more than its share is closed.
        outboxes_bytes: usize [Bytes] = "1GiB";
    }

    /// What is written to standard error.
    log: Log {
        /// error, warn, info, debug or trace; or directives such as `info,rowcast::replication=debug`.
        level: String = "info", env "LOG_LEVEL";
        /// Lines for people (`text`) or for machines (`json`).
        format: LogFormat = "text";
    }

    /// `GET /metrics`.
    metrics: Metrics {
        /// Bearer token that the reader of metrics must show; open to everybody when unset.
        token: Secret = "";
    }
}

impl Replication {
    /// The slot's whole name.
    pub fn slot_name(&self) -> String {
        if self.slot_suffix.is_empty() {
            self.slot.clone()
        } else {
            format!("{}_{}", self.slot, self.slot_suffix)
        }
    }
}

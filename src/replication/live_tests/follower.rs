use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::cluster::Cluster;
use crate::change::{Action, Change, Event, HandedOver, Lsn, Row, StreamState, TableName, Value};
use crate::replication::{PGOUTPUT, Settings, Signals, SlotSettings, WAL2JSON, run};
use crate::shutdown::Shutdown;
use crate::telemetry::Metrics;

/// No event takes longer to come, and no follower lives longer.
const PATIENCE: Duration = Duration::from_secs(60);
const LIFE: Duration = Duration::from_secs(180);

/// The feed's side of a running stream.
pub(super) struct Follower {
    events: mpsc::Receiver<Vec<Event>>,
    born: Instant,
    /// The set that was asked for; what comes before it takes effect is discarded, as the feed does.
    wanted: Option<Arc<BTreeSet<TableName>>>,
    waiting: std::collections::VecDeque<Event>,
    tables: watch::Sender<Arc<BTreeSet<TableName>>>,
    pub(super) handed_over: watch::Sender<HandedOver>,
    pub(super) ping: Arc<Notify>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: Shutdown,
    /// Whether positions are handed over as soon as their events are taken.
    pub(super) confirms: bool,
}

pub(super) fn settings(cluster: &Cluster) -> Settings {
    Settings {
        connect: cluster.settings(),
        slot: SlotSettings {
            name: "rowcast".to_owned(),
            plugins: vec![WAL2JSON.to_owned()],
            recreate_lost: false,
            take_over: false,
            failover: false,
        },
        application_name: "rowcast test".to_owned(),
        peer_timeout: Duration::from_secs(60),
        logical_broadcasts: false,
    }
}

/// With a slot of its own for pgoutput.
pub(super) fn pgoutput(cluster: &Cluster) -> Settings {
    let mut settings = settings(cluster);
    settings.slot.name = "other".to_owned();
    settings.slot.plugins = vec![PGOUTPUT.to_owned()];
    settings
}

fn set(tables: &[&str]) -> Arc<BTreeSet<TableName>> {
    Arc::new(
        tables
            .iter()
            .map(|table| TableName::new("public", table))
            .collect(),
    )
}

impl Follower {
    pub(super) fn start(settings: Settings, tables: &[&str]) -> Self {
        let (events, receiver) = mpsc::channel(4);
        let (tables, wanted) = watch::channel(set(tables));
        let (handed_over, confirmed) = watch::channel(HandedOver::default());
        let ping = Arc::new(Notify::new());
        let metrics = Metrics::new();
        let shutdown = Shutdown::new();
        let stream = run(
            settings,
            wanted,
            events,
            confirmed,
            Signals {
                ping: Arc::clone(&ping),
                ..Signals::default()
            },
            Arc::clone(&metrics),
            shutdown.clone(),
        );
        shutdown.spawn("replication", stream);
        Self {
            events: receiver,
            born: Instant::now(),
            wanted: None,
            waiting: Default::default(),
            tables,
            handed_over,
            ping,
            metrics,
            shutdown,
            confirms: true,
        }
    }

    pub(super) fn set_tables(&mut self, tables: &[&str]) {
        let tables = set(tables);
        self.wanted = Some(Arc::clone(&tables));
        self.tables.send_replace(tables);
    }

    /// Whether an event belongs to a set of tables that is not wanted any more.
    fn outdated(&mut self, event: &Event) -> bool {
        match (&self.wanted, event) {
            (Some(wanted), Event::Tables(streamed)) if *wanted == streamed.tables => {
                self.wanted = None;
                false
            }
            (Some(_), Event::Stream(_)) | (None, _) => false,
            (Some(_), _) => true,
        }
    }

    pub(super) async fn next(&mut self) -> Event {
        assert!(self.born.elapsed() < LIFE, "what is waited for does not come");
        loop {
            if let Some(event) = self.waiting.pop_front() {
                if self.outdated(&event) {
                    continue;
                }
                match &event {
                    Event::Commit(transaction) if self.confirms => self.hand_over(transaction.end_lsn),
                    Event::Position(position) if self.confirms => self.hand_over(*position),
                    _ => {}
                }
                return event;
            }
            let batch = timeout(PATIENCE, self.events.recv())
                .await
                .expect("events in time");
            self.waiting.extend(batch.expect("the stream goes on"));
        }
    }

    fn hand_over(&self, position: Lsn) {
        self.handed_over.send_replace(position.into());
    }

    /// Takes events until one is wanted.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let last = wanted(&event);
            events.push(event);
            if last {
                return events;
            }
        }
    }

    pub(super) async fn until_live(&mut self) {
        self.until(|event| matches!(event, Event::Stream(StreamState::Live)))
            .await;
    }

    /// The text of the next interruption.
    pub(super) async fn interruption(&mut self) -> String {
        loop {
            if let Event::Stream(StreamState::Interrupted(why)) = self.next().await {
                return why;
            }
        }
    }

    /// The next change, with order checked: within a transaction, none of the stream's own events between.
    pub(super) async fn change(&mut self) -> Change {
        loop {
            if let Event::Change(change) = self.next().await {
                return change;
            }
        }
    }

    /// The integer column `id` of each inserted row up to the one with the id `last`, in order of arrival.
    pub(super) async fn ids(&mut self, last: i64) -> Vec<i64> {
        let mut ids = Vec::new();
        while ids.last() != Some(&last) {
            let change = self.change().await;
            assert_eq!(change.action, Action::Insert);
            ids.push(id(change.new.as_ref().unwrap()));
        }
        ids
    }

    pub(super) async fn stop(self) {
        self.shutdown.cancel();
        self.shutdown.wait(Duration::from_secs(30)).await.unwrap();
    }
}

pub(super) fn id(row: &Row) -> i64 {
    match row.get("id") {
        Some(Value::Text(text)) => text.parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

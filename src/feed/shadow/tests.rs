use std::io;
use std::sync::{Mutex, PoisonError};

use super::report::Reports;
use super::worker::sort;
use super::*;
use crate::change::{Action, Layout, LayoutColumn, RowBuilder, TableName, Value};
use crate::expression::{Expr, Node, Ty};
use crate::policy::{Program, Rule};
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{Access, Column, Policy, ReplicaIdentity, RowAccess, Table};

/// `docs(id, body)` with one policy.
fn table() -> Arc<Table> {
    let column = |attnum: i16, name: &str| Column {
        attnum,
        name: name.into(),
        type_oid: 25,
        type_name: "text".into(),
        collation: None,
        deterministic: true,
        not_null: false,
        generated: None,
    };
    let policy = Policy {
        name: "readers of docs".to_owned(),
        permissive: true,
        roles: vec![0],
        using: Some("(body = current_setting('request.jwt.claims'::text, true))".to_owned()),
        columns: vec![2],
        whole_row: false,
        relations: Vec::new(),
        functions: Vec::new(),
    };
    Arc::new(Table {
        columns: vec![column(1, "id"), column(2, "body")],
        primary_key: vec![0],
        replica_identity: ReplicaIdentity::Full,
        rls: true,
        policies: vec![policy],
        ..fixture(1, "docs")
    })
}

fn class(table: &Table, rows: RowAccess) -> Arc<Class> {
    let access = Access {
        columns: vec![true, true],
        rows,
        files: RowAccess::Unrestricted,
    };
    let program = Program::new(table, &access, &HashSet::new(), &Catalog::default());
    let claims = Arc::new(Claims {
        role: "reader".into(),
        sub: None,
        exp: 0,
        scope: None,
        json: format!(r#"{{"padding": "{}", "password": "hunter2"}}"#, "x".repeat(40)).into(),
    });
    let rule = Rule {
        role: "reader".into(),
        access,
        program,
    };
    Arc::new(Class {
        residual: rule.program.residual(&rule.program.bind(&claims)),
        rule: Arc::new(rule),
        claims,
        relations: Vec::new(),
    })
}

fn restricted() -> RowAccess {
    RowAccess::Policies {
        permissive: vec![0],
        restrictive: Vec::new(),
    }
}

fn row(id: &str) -> Row {
    let column = |name: &str| LayoutColumn {
        name: name.into(),
        type_oid: 25,
    };
    let mut row = RowBuilder::default();
    row.text(id);
    row.text("hunter3");
    row.finish(Arc::new(Layout {
        columns: vec![column("id"), column("body")],
    }))
}

fn change() -> Change {
    Change {
        lsn: Lsn(1),
        ordinal: 0,
        action: Action::Insert,
        table: TableName::new("public", "docs"),
        new: Some(row("7")),
        old: None,
        wire_bytes: 0,
    }
}

const TRANSACTION: Transaction = Transaction {
    xid: 1,
    commit_lsn: Lsn(2),
    end_lsn: Lsn(2),
    commit_micros: 0,
};

fn checks(metrics: &Metrics, outcome: &'static str) -> u64 {
    metrics.shadow_checks.get_or_create(&[("outcome", outcome)]).get()
}

/// What is logged meanwhile, at every level.
fn logged(work: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

/// Takes samples of rows that one class may see, with room for `room` of them.
fn taken(rows: &[Row], room: usize, verdict: &Verdict, access: RowAccess) -> (Vec<Sample>, Arc<Metrics>) {
    let metrics = Metrics::new();
    let (queue, mut samples) = mpsc::channel(room);
    let sampling = Sampling::new(1.0, queue, &metrics);
    let (table, snapshot) = (table(), Snapshot::default());
    let class = class(&table, access);
    let mut sampler = sampling.sampler(&snapshot, Clock::default());
    for row in rows {
        sampler.take(&class, verdict, row, (&table, &change(), &TRANSACTION));
        // Another filter of the same class.
        sampler.take(&class, verdict, row, (&table, &change(), &TRANSACTION));
    }
    let taken = std::iter::from_fn(|| samples.try_recv().ok()).collect();
    (taken, metrics)
}

#[test]
fn a_disagreement_is_logged_without_what_is_nobodys_business() {
    let rows: Vec<Row> = (0..12).map(|n| row(&format!("key {n}"))).collect();
    let (samples, _) = taken(&rows, 100, &Verdict::Allow, restricted());
    let mut reports = Reports::default();
    let text = logged(|| {
        for sample in &samples {
            reports.disagreement(sample, &Verdict::Deny);
        }
    });
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(lines.len(), 10, "{text}");
    for part in [
        "table=public.docs",
        "role=reader",
        "readers of docs",
        "memory=\"allow\"",
        "postgres=\"deny\"",
        "id=\"key 0\"",
    ] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(text.contains("padding"), "{text}");
    for secret in ["hunter2", "hunter3"] {
        assert!(!text.contains(secret), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let rows = [row("1"), row("2"), row("3")];
    let (samples, metrics) = taken(&rows, 2, &Verdict::Deny, restricted());
    // Once each, whatever the number of filters.
    assert_eq!(samples.len(), 2);
    assert_eq!(checks(&metrics, "dropped"), 1);
    let huge = row(&"x".repeat(QUEUED_BYTES));
    let (samples, metrics) = taken(&[row("1"), huge], 2, &Verdict::Allow, restricted());
    assert_eq!(samples.len(), 1);
    assert_eq!(checks(&metrics, "dropped"), 1);
}

#[test]
fn only_opinions_of_policies_are_taken() {
    for verdict in [
        Verdict::Failed(Failure::Timeout),
        Verdict::Failed(Failure::Unavailable("gone".to_owned())),
        Verdict::Failed(Failure::MissingColumn("body".to_owned())),
    ] {
        let (samples, metrics) = taken(&[row("1")], 2, &verdict, restricted());
        assert!(samples.is_empty(), "{verdict:?}");
        assert_eq!(checks(&metrics, "dropped"), 0);
    }
    let raised = Verdict::Failed(Failure::Raised("22012".to_owned()));
    assert_eq!(taken(&[row("1")], 2, &raised, restricted()).0.len(), 1);
    let (samples, _) = taken(&[row("1")], 2, &Verdict::Allow, RowAccess::Unrestricted);
    assert!(samples.is_empty());
}

#[test]
fn a_share_is_about_a_share() {
    let metrics = Metrics::new();
    let (queue, mut samples) = mpsc::channel(QUEUE);
    let sampling = Sampling::new(0.25, queue, &metrics);
    let (table, snapshot) = (table(), Snapshot::default());
    let class = class(&table, restricted());
    let mut sampler = sampling.sampler(&snapshot, Clock::default());
    let rows: Vec<Row> = (0..1000).map(|n| row(&n.to_string())).collect();
    for (n, row) in rows.iter().enumerate() {
        let mut change = change();
        change.lsn = Lsn(n as u64);
        sampler.take(&class, &Verdict::Allow, row, (&table, &change, &TRANSACTION));
    }
    let taken = std::iter::from_fn(|| samples.try_recv().ok()).count();
    assert!((100..400).contains(&taken), "{taken}");
}

#[test]
fn only_two_opinions_on_the_same_can_disagree() {
    let rows: Vec<Row> = (0..5).map(|n| row(&n.to_string())).collect();
    let samples = |clock: bool| {
        let (mut samples, _) = taken(&rows, 5, &Verdict::Allow, restricted());
        for sample in samples.iter_mut().filter(|_| clock) {
            sample.class = Arc::new(Class {
                residual: Expr::new(Node::Now, Ty::Timestamptz),
                rule: Arc::clone(&sample.class.rule),
                claims: Arc::clone(&sample.class.claims),
                relations: Vec::new(),
            });
        }
        samples
    };
    let verdicts = || {
        vec![
            Some(Verdict::Deny),
            Some(Verdict::Allow),
            None,
            Some(Verdict::Failed(Failure::MissingColumn("body".to_owned()))),
            Some(Verdict::Failed(Failure::Timeout)),
        ]
    };
    let sorted = sort(samples(false), verdicts());
    let found: Vec<_> = sorted
        .disagreeing
        .iter()
        .map(|(sample, by)| (sample.row.get("id"), by))
        .collect();
    assert_eq!(found, [(Some(Value::Text("0")), &Verdict::Deny)]);
    assert_eq!((sorted.agreed, sorted.inconclusive, sorted.failed), (1, 1, 2));
    // Later for one than for the other.
    let sorted = sort(samples(true), verdicts());
    assert!(sorted.disagreeing.is_empty());
    assert_eq!((sorted.agreed, sorted.inconclusive, sorted.failed), (1, 2, 2));
}

//! Policies as people write them: a row leads to those who may see it, and to nobody else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::Claims;
use crate::change::{Layout, LayoutColumn, RowBuilder, TableName};
use crate::expression::RowView;
use crate::policy::{Decision, Engine, Judge, Rules, Settings, Verdict};
use crate::postgres::catalog::{self, Table};
use crate::postgres::testing::Cluster;
use crate::postgres::{InstallOptions, Pool, PoolOptions, Session, install};
use crate::protocol::EventFilter;
use crate::subscription::{Index, Resolved, Scope, SubscriberId, Target};
use crate::telemetry::Metrics;

const READERS: usize = 30;

/// Each with the number of readers who are looked at for each of [`ROWS`].
const POLICIES: &[(&str, [usize; 5])] = &[
    ("owner = auth.uid()", [1, 0, 1, 1, 1]),
    ("owner is null or owner = auth.uid()", [1, 30, 1, 1, 1]),
    ("is_public or owner = auth.uid()", [1, 0, 30, 1, 1]),
    ("is_public = true or owner = auth.uid()", [1, 0, 30, 1, 1]),
    ("is_public is true or auth.uid() = owner", [1, 0, 30, 1, 1]),
    (
        "coalesce(is_public, false) or owner = auth.uid()",
        [1, 0, 30, 1, 1],
    ),
    ("not is_public or owner = auth.uid()", [30, 30, 1, 1, 30]),
    ("is_public is not true or owner = auth.uid()", [30, 30, 1, 30, 30]),
    ("deleted_at is not null or owner = auth.uid()", [1, 0, 1, 30, 1]),
    ("deleted_at is null and owner = auth.uid()", [1, 0, 1, 1, 1]),
    ("not is_public and owner = auth.uid()", [1, 0, 1, 1, 1]),
    (
        "(is_public or owner = auth.uid()) and deleted_at is null",
        [1, 0, 30, 1, 1],
    ),
    (
        "case when owner is null then true else owner = auth.uid() end",
        [30, 30, 30, 30, 30],
    ),
];

/// `owner` (the number of a reader), `is_public`, `deleted_at`.
const ROWS: [(Option<usize>, Option<&str>, Option<&str>); 5] = [
    (Some(7), Some("f"), None),
    (None, Some("f"), None),
    (Some(7), Some("t"), None),
    (Some(8), None, Some("2026-01-01 00:00:00+00")),
    (Some(0), Some("f"), None),
];

fn sub(reader: usize) -> String {
    format!("a0000000-0000-4000-8000-{reader:012}")
}

fn claims(reader: usize) -> Arc<Claims> {
    let json = format!(r#"{{"role":"authenticated","sub":"{}"}}"#, sub(reader));
    Arc::new(Claims {
        role: "authenticated".into(),
        sub: Some(sub(reader).into()),
        exp: 4_102_444_800,
        scope: None,
        json: json.into(),
    })
}

fn row(values: (Option<usize>, Option<&str>, Option<&str>)) -> crate::change::Row {
    let columns = ["owner", "is_public", "deleted_at"];
    let columns = columns.map(|name| LayoutColumn {
        name: name.into(),
        type_oid: 0,
    });
    let mut row = RowBuilder::default();
    let (owner, public, deleted) = values;
    let owner = owner.map(sub);
    for cell in [owner.as_deref(), public, deleted] {
        match cell {
            Some(text) => row.text(text),
            None => row.null(),
        }
    }
    row.finish(Arc::new(Layout {
        columns: columns.into(),
    }))
}

#[tokio::test]
async fn a_row_leads_to_those_who_may_see_it() {
    let (name, mut db) = Cluster::shared().database().await;
    let options = InstallOptions {
        publication: "p".into(),
        create_roles: true,
        lock_timeout: Duration::from_secs(20),
    };
    install(&mut db, &options).await.expect("the functions");
    for (i, (policy, _)) in POLICIES.iter().enumerate() {
        let table = format!(
            "create table t{i} (owner uuid, is_public bool, deleted_at timestamptz, id int primary key);
             alter table t{i} enable row level security; grant select on t{i} to authenticated;
             create policy mine on t{i} for select using ({policy});
             do $$ begin alter publication p add table t{i}; exception when duplicate_object then null; end $$"
        );
        db.batch_execute(&table).await.expect(policy);
    }
    let catalog = catalog::load(&mut db, "p").await.expect("a catalog");
    let access = catalog::role_access(&db, "authenticated", &catalog).await;
    let access = access.expect("an answer").expect("the role");
    let rules = Rules::new(true);
    let tables: HashMap<u32, Arc<Table>> = catalog.tables.values().map(|t| (t.oid, Arc::clone(t))).collect();
    let mut relations = engine(&name).relations();
    for (i, (policy, expected)) in POLICIES.iter().enumerate() {
        let table = &catalog.tables[&TableName::new("public", &format!("t{i}"))];
        let mut index = Index::default();
        for reader in 0..READERS {
            let resolved = Resolved {
                binding: 1,
                event: EventFilter::All,
                transitions: false,
                truncates: false,
                targets: vec![Target {
                    table: table.oid,
                    filter: Arc::default(),
                    columns: Arc::from([true; 4]),
                }],
            };
            let mut scope = Scope {
                catalog: &catalog,
                tables: &tables,
                rules: &rules,
                relations: &mut relations,
            };
            let id = SubscriberId(u64::try_from(reader).expect("a number"));
            index.add(id, (&claims(reader), &access), &[resolved], &mut scope);
        }
        let on = index.table(table.oid).expect("subscriptions");
        for (values, expected) in ROWS.into_iter().zip(expected) {
            let row = row(values);
            let row = RowView::new(table, &on.types, &row);
            assert_eq!(on.candidates(&[&row]).count(), *expected, "{policy}: {values:?}");
            let sees = |slot: &&crate::subscription::Slot| {
                slot.class.decide(table, &row, &relations, 0) == Decision::Known(Verdict::Allow)
            };
            let seeing = on.candidates(&[&row]).filter(sees).count();
            assert_eq!(seeing, on.slots().filter(sees).count(), "{policy}: {values:?}");
        }
    }
}

fn engine(database: &str) -> Engine {
    let options = PoolOptions {
        size: 1,
        wait: Duration::from_secs(10),
        session: Session::new("test"),
    };
    let pool = Pool::new(&Cluster::shared().settings(database), &options).expect("a pool");
    let settings = Settings {
        timeout: Duration::from_secs(10),
        quarantine: Duration::from_secs(1),
        parallel: 1,
        batch: 100,
        relation_rows: 100,
        relation_rows_total: 1000,
    };
    let metrics = Metrics::new();
    Engine::new(Judge::new(pool, settings, Arc::clone(&metrics)), metrics)
}

mod reading;
mod store;

use std::sync::Arc;
use std::time::Duration;

use super::{Bounds, Relations};
use crate::auth::Claims;
use crate::change::{Action, Change, Layout, LayoutColumn, Lsn, Row, RowBuilder, TableName};
use crate::expression::{Relation, Stop, Ty};
use crate::policy::relation::{ParamKey, Probe, RelationQuery, RelationRequest};
use crate::postgres::catalog::testing::table as fixture;
use crate::postgres::catalog::{Column, Table};
use crate::telemetry::Metrics;

/// The table of members, `(org, person)`.
const MEMBERS: u32 = 1000;
/// Another one that is read as a whole.
const ORGS: u32 = 1001;

fn store(rows: usize) -> Relations {
    let bounds = Bounds {
        rows,
        pause: Duration::from_secs(3600),
    };
    let mut relations = Relations::new(bounds, Metrics::new());
    relations.watch([MEMBERS, ORGS].into());
    relations
}

fn claims(role: &str) -> Arc<Claims> {
    Arc::new(Claims {
        role: role.into(),
        sub: Some("7".into()),
        exp: 0,
        scope: None,
        json: r#"{"email": "a@b"}"#.into(),
    })
}

fn query(sql: &str, columns: &[Ty]) -> RelationQuery {
    RelationQuery {
        sql: sql.into(),
        columns: columns.to_vec(),
        owner: None,
        params: Vec::new(),
        reads: vec![MEMBERS, ORGS],
        probe: None,
    }
}

/// The organisations of a person.
fn of_person() -> Arc<RelationQuery> {
    Arc::new(RelationQuery {
        params: vec![4],
        probe: Some(Probe {
            table: MEMBERS,
            column: 1,
            ty: Ty::Int4,
            param: 4,
        }),
        ..query("", &[Ty::Int4])
    })
}

fn request(query: &Arc<RelationQuery>, params: &[ParamKey]) -> RelationRequest {
    RelationRequest {
        query: Arc::clone(query),
        params: params.to_vec(),
        claims: claims("reader"),
    }
}

fn person(query: &Arc<RelationQuery>, id: &str) -> RelationRequest {
    request(query, &[ParamKey::Text(id.into())])
}

fn table(oid: u32, names: &[&str]) -> Table {
    let column = |(i, name): (usize, &&str)| Column {
        attnum: i16::try_from(i + 1).unwrap(),
        name: (*name).into(),
        type_oid: 23,
        type_name: "int4".into(),
        collation: None,
        deterministic: true,
        not_null: false,
        generated: None,
    };
    Table {
        columns: names.iter().enumerate().map(column).collect(),
        primary_key: vec![0],
        rls: true,
        ..fixture(oid, "t")
    }
}

fn members() -> Table {
    table(MEMBERS, &["org", "person"])
}

/// A row; `None` is NULL.
fn row(values: &[(&str, Option<&str>)]) -> Row {
    let mut row = RowBuilder::default();
    for (_, value) in values {
        match value {
            Some(text) => row.text(text),
            None => row.null(),
        }
    }
    let column = |(name, _): &(&str, Option<&str>)| LayoutColumn {
        name: (*name).into(),
        type_oid: 23,
    };
    row.finish(Arc::new(Layout {
        columns: values.iter().map(column).collect(),
    }))
}

fn change(action: Action, old: Option<Row>, new: Option<Row>) -> Change {
    Change {
        lsn: Lsn(1),
        ordinal: 0,
        action,
        table: TableName::new("public", "t"),
        new,
        old,
        wire_bytes: 0,
    }
}

fn numbers(numbers: &[i32]) -> Result<Relation, Stop> {
    let rows = numbers.iter().map(|n| vec![Some(n.to_string())]).collect();
    Relation::read(&[Ty::Int4], rows)
}

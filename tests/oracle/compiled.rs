//! Policies compiled and evaluated in memory. Relations are read here by plain queries, once for all readers whose
//! parameters are equal: that nothing else decides what they return is part of what is tested.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rowcast::auth::Claims;
use rowcast::change::{Row, Value};
use rowcast::expression::{Context, Datum, Evaluated, Expr, Relation, Stop, Ty};
use rowcast::policy::{ParamKey, Program, RelationQuery, RelationRequest};
use rowcast::postgres::catalog::Types;
use rowcast::postgres::quote_identifier;
use rowcast::postgres::{Connection, catalog};
use tokio_postgres::SimpleQueryMessage;

use super::rig::{Known, Rig};
use super::subject::Answer;

/// Microseconds from 1970 to 2000.
const EPOCH: i64 = 946_684_800_000_000;

pub struct Compiled {
    connection: Connection,
}

/// Who reads what with which parameters.
type Request = (String, String, Vec<ParamKey>);

impl Compiled {
    pub async fn new(rig: &Rig) -> Self {
        Self {
            connection: rig.database().connection().await,
        }
    }

    /// Answers by reader and row.
    pub async fn answers(&self, known: &Known<'_>) -> Vec<Vec<Answer>> {
        let mut held: HashMap<Request, Result<Relation, Stop>> = HashMap::new();
        let mut answers = Vec::with_capacity(known.loaded.claims.len());
        for claims in &known.loaded.claims {
            let role = &known.loaded.access[&*claims.role];
            let access = &role.tables[&known.table.oid];
            let program = Program::new(known.table, access, &role.functions, &known.loaded.catalog);
            let bound = program.bind(claims);
            let residual = program.residual(&bound);
            let requests = program.requests(&bound, claims);
            let mut keys = Vec::new();
            for request in &requests {
                let role = request.query.owner.as_ref().unwrap_or(&claims.role);
                let key = (
                    request.query.sql.to_string(),
                    role.to_string(),
                    request.params.clone(),
                );
                if !held.contains_key(&key) {
                    let read = self.read(request, role).await;
                    held.insert(key.clone(), read);
                }
                keys.push(key);
            }
            // Postgres plans all of them and checks the rights on all of them, whatever the row.
            let left_out = Stop::ask("a relation that was not requested");
            let left_out = (requests.len() < program.relations().len()).then_some(&left_out);
            let unread = keys
                .iter()
                .find_map(|key| held.get(key)?.as_ref().err())
                .or(left_out);
            let unread = unread.filter(|_| !matches!(residual.as_truth(), Some(Some(false) | None)));
            let find = |query: &Arc<RelationQuery>| {
                let place = requests.iter().position(|request| request.query == *query);
                match place.and_then(|place| held.get(&keys[place])) {
                    Some(read) => read.as_ref().map_err(Stop::clone),
                    None => Err(Stop::ask("a relation that was not requested")),
                }
            };
            let relations: Vec<Result<&Relation, Stop>> = program.relations().iter().map(find).collect();
            let one = |row: &Row| match unread {
                Some(stop) => answer(Err(stop.clone())),
                None => answer(passes(
                    &residual,
                    row,
                    known.table,
                    &known.loaded.catalog.types,
                    &relations,
                )),
            };
            answers.push(known.rows.iter().map(one).collect());
        }
        answers
    }

    async fn read(&self, request: &RelationRequest, role: &str) -> Result<Relation, Stop> {
        match self.rows(request, role, "select").await.rows {
            Ok(rows) => Relation::read(&request.query.columns, rows),
            Err(state) => Err(Stop::ask(format!("reading a relation: {state}"))),
        }
    }

    /// What a relation is for who asks, after a change that is then undone.
    pub async fn rows(&self, request: &RelationRequest, role: &str, change: &str) -> Reading {
        self.connection
            .batch_execute("begin")
            .await
            .expect("a transaction");
        let changed = self.connection.simple_query(change).await;
        let changed = texts(&changed.expect("a change that can be made"));
        let rows = self.rows_now(&request.query.sql, role, &request.claims).await;
        self.connection
            .batch_execute("rollback")
            .await
            .expect("a rollback");
        let state = |error: tokio_postgres::Error| {
            error
                .code()
                .map_or_else(String::new, |code| code.code().to_owned())
        };
        Reading {
            changed,
            rows: rows.map_err(state),
        }
    }

    async fn rows_now(&self, sql: &str, role: &str, claims: &Claims) -> Result<Texts, tokio_postgres::Error> {
        let json: serde_json::Value = serde_json::from_str(&claims.json).expect("claims");
        for (name, value) in [
            ("claims", &*claims.json),
            ("claim.sub", claims.sub.as_deref().unwrap_or("")),
            ("claim.role", &claims.role),
            ("claim.email", json["email"].as_str().unwrap_or("")),
        ] {
            let set = "select set_config('request.jwt.' || $1, $2, true)";
            self.connection.execute(set, &[&name, &value]).await?;
        }
        let become_reader = format!("set local role {}", quote_identifier(role));
        self.connection.batch_execute(&become_reader).await?;
        Ok(texts(&self.connection.simple_query(sql).await?))
    }
}

/// Rows in text output form.
pub type Texts = Vec<Vec<Option<String>>>;

/// What a change and the relation behind it came to.
pub struct Reading {
    /// The rows that the change returned.
    pub changed: Texts,
    /// The relation, or the SQLSTATE that reading it raised.
    pub rows: Result<Texts, String>,
}

fn texts(messages: &[SimpleQueryMessage]) -> Texts {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}

fn answer(passes: Result<bool, Stop>) -> Answer {
    match passes {
        Ok(true) => Answer::Allow,
        Ok(false) => Answer::Deny,
        Err(Stop::Ask(why)) => Answer::Ask(why.into_owned()),
        Err(stop) => Answer::Failed(format!("{stop:?}")),
    }
}

/// What an expression is evaluated in.
struct Surroundings<'a> {
    row: &'a Row,
    table: &'a catalog::Table,
    types: &'a Types,
    relations: &'a [Result<&'a Relation, Stop>],
    now: i64,
}

fn passes(
    residual: &Expr,
    row: &Row,
    table: &catalog::Table,
    types: &Types,
    relations: &[Result<&Relation, Stop>],
) -> Result<bool, Stop> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    residual.passes(&Surroundings {
        row,
        table,
        types,
        relations,
        now: i64::try_from(now.as_micros()).expect("before the end of time") - EPOCH,
    })
}

impl Context for Surroundings<'_> {
    fn column(&self, index: usize) -> Evaluated {
        let column = self.table.columns.get(index).ok_or(Stop::Missing(index))?;
        match self.row.get(&column.name) {
            None | Some(Value::Unchanged) => Err(Stop::Missing(index)),
            Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => {
                let ty = Ty::of(column.type_oid, self.types).ok_or_else(|| Stop::ask("a column's type"))?;
                Datum::parse(text, &ty).map(Some)
            }
        }
    }

    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("a parameter in what is left"))
    }

    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        match self.relations.get(index) {
            Some(read) => read.clone(),
            None => Err(Stop::ask("no such relation")),
        }
    }

    fn now(&self) -> i64 {
        self.now
    }
}

//! Policies on `realtime.messages`, for every reader, topic and kind of right, against what a SELECT and an INSERT as that
//! reader do: in memory, and by the judge.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_postgres::types::Json;

use super::channel_forms::{FORMS, SCHEMA, TOGETHER};
use super::postgres::{ALICE, BOB, Row, Seen, installed, now, readers};
use crate::auth::{Claims, Scope};
use crate::change::{self, Layout, LayoutColumn, RowBuilder};
use crate::expression::{Datum, Relation, Stop, Ty};
use crate::policy::program::{Judged, Program};
use crate::policy::relation::{RelationQuery, RelationRequest};
use crate::policy::{self, Engine, Question, Verdict};
use crate::postgres::catalog::{self, Access, Catalog, Loader, RoleAccess, RowAccess, Table};
use crate::postgres::testing::Cluster;
use crate::postgres::{Connection, Pool, PoolOptions, Session};
use crate::telemetry::Metrics;

const EXTENSIONS: [&str; 3] = ["broadcast", "presence", "persistence"];

fn topics() -> Vec<String> {
    let mut topics = vec![format!("user:{ALICE}"), BOB.to_owned()];
    topics.extend(["room:1", "room:2", "room:é☃", "a_b:x", "", "it's:\"1\""].map(str::to_owned));
    topics
}

/// Everybody everywhere.
fn seekers() -> Vec<Arc<Claims>> {
    let headers = [
        json!({}),
        json!({"x-api-key": "k1", "x-room": "room:1"}),
        json!({"x-room": "room:2"}),
    ];
    let mut seekers = Vec::new();
    for reader in readers() {
        for topic in topics() {
            let scope = Scope {
                topic: topic.into(),
                headers: headers[seekers.len() % headers.len()].to_string().into(),
            };
            seekers.push(Arc::new(reader.within(Arc::new(scope))));
        }
    }
    seekers
}

/// The row that is judged, column by column.
fn probe(table: &Table, topic: &str, extension: &str) -> Vec<Option<String>> {
    let value = |name: &str| match name {
        "topic" => Some(topic),
        "extension" => Some(extension),
        "private" => Some("t"),
        "id" => Some("5b0d1dc8-3a94-4b3f-9d67-0b4a9ba93a53"),
        "inserted_at" | "updated_at" => Some("2026-06-01 10:00:00"),
        _ => None,
    };
    let values = table.columns.iter().map(|column| value(&column.name));
    values.map(|value| value.map(str::to_owned)).collect()
}

fn streamed(table: &Table, values: &[Option<String>]) -> change::Row {
    let mut row = RowBuilder::default();
    for value in values {
        match value {
            Some(text) => row.text(text),
            None => row.null(),
        }
    }
    let columns = table.columns.iter().map(|column| LayoutColumn {
        name: Arc::clone(&column.name),
        type_oid: column.type_oid,
    });
    row.finish(Arc::new(Layout {
        columns: columns.collect(),
    }))
}

fn evaluated(table: &Table, values: &[Option<String>], catalog: &Catalog) -> Row {
    let column = |(column, value): (&catalog::Column, &Option<String>)| match value {
        None => Ok(None),
        Some(text) => Datum::parse(text, &Ty::of(column.type_oid, &catalog.types).expect("a type")).map(Some),
    };
    Row(table.columns.iter().zip(values).map(column).collect())
}

/// Those who have the same one share what is read.
fn key(request: &RelationRequest) -> String {
    let RelationQuery { sql, owner, .. } = &*request.query;
    format!("{sql} {owner:?} {:?} {}", request.params, request.claims.role)
}

fn engine(database: &str) -> Engine {
    let mut session = Session::new("test");
    session.statement_timeout = Some(Duration::from_secs(20));
    session.read_only = true;
    let options = PoolOptions {
        size: 1,
        wait: Duration::from_secs(20),
        session,
    };
    let pool = Pool::new(&Cluster::shared().settings(database), &options).expect("a pool");
    let settings = policy::Settings {
        timeout: Duration::from_secs(20),
        quarantine: Duration::from_secs(1),
        parallel: 1,
        batch: 10_000,
        relation_rows: 100,
        relation_rows_total: 100,
    };
    let metrics = Metrics::new();
    Engine::new(policy::Judge::new(pool, settings, Arc::clone(&metrics)), metrics)
}

/// What one set of policies came to.
#[derive(Default)]
struct Tally {
    answered: usize,
    asked: usize,
    wrong: Vec<String>,
}

/// A database in which policies are tried.
struct Channels {
    db: Connection,
    engine: Engine,
    loader: Loader,
    tally: Tally,
}

/// What a policy that is the only one does to a role.
fn only(table: &Table, name: &str) -> RowAccess {
    let index = table.policies.iter().position(|policy| policy.name == name);
    RowAccess::Policies {
        permissive: vec![index.expect("the policy")],
        restrictive: Vec::new(),
    }
}

type Accesses = BTreeMap<&'static str, RoleAccess>;

/// By (seeker, extension), seekers first: `(reads, writes)`.
type Truth = Vec<(String, String)>;

impl Channels {
    async fn new() -> Self {
        let (db, name) = installed().await;
        db.batch_execute(SCHEMA).await.expect("the schema");
        db.batch_execute(&format!(
            "insert into rooms values ('room:1', '{ALICE}', false), ('room:2', '{BOB}', true);
             insert into room_members values ('room:1', '{ALICE}', true), ('room:2', '{ALICE}', false),
                 ('room:2', '{BOB}', true), ('user:{ALICE}', '{ALICE}', null);
             insert into guarded_members select room, person from room_members;
             insert into of_room values ('room:2'), ('a_b:x');
             insert into realtime.messages (topic, extension, private) values ('room:1', 'broadcast', true)"
        ))
        .await
        .expect("the rows beside");
        Self {
            db,
            engine: engine(&name),
            loader: Loader::default(),
            tally: Tally::default(),
        }
    }

    /// Tries each form by itself: all are there, for nobody who is asked about, and one after the other is for everybody.
    async fn one_by_one(&mut self) {
        for (i, (_, form)) in FORMS.iter().enumerate() {
            self.run(&format!(
                "create policy r{i} on realtime.messages for select to pg_monitor using ({form});
                 create policy w{i} on realtime.messages for insert to pg_monitor with check ({form})"
            ))
            .await;
        }
        let (catalog, mut accesses) = self.in_force().await;
        let channels = catalog.channels.clone().expect("the table");
        for (i, (kind, form)) in FORMS.iter().enumerate() {
            for access in accesses
                .values_mut()
                .filter_map(|access| access.channels.as_mut())
            {
                access.read.rows = only(&channels.read, &format!("r{i}"));
                access.write.rows = only(&channels.write, &format!("w{i}"));
            }
            self.of_everybody(i, "public").await;
            self.attempt(form, Some(*kind), &catalog, &accesses).await;
            self.of_everybody(i, "pg_monitor").await;
        }
        for i in 0..FORMS.len() {
            self.run(&format!(
                "drop policy r{i} on realtime.messages; drop policy w{i} on realtime.messages"
            ))
            .await;
        }
    }

    async fn of_everybody(&self, form: usize, role: &str) {
        self.run(&format!(
            "alter policy r{form} on realtime.messages to {role}; alter policy w{form} on realtime.messages to {role}"
        ))
        .await;
    }

    /// Tries policies together, each without its CREATE POLICY … ON.
    async fn together(&mut self, policies: &str) {
        let each = || policies.split(';').filter(|policy| !policy.trim().is_empty());
        for (i, policy) in each().enumerate() {
            self.run(&format!("create policy p{i} on realtime.messages {policy}"))
                .await;
        }
        let (catalog, accesses) = self.in_force().await;
        self.attempt(policies, None, &catalog, &accesses).await;
        for i in 0..each().count() {
            self.run(&format!("drop policy p{i} on realtime.messages")).await;
        }
    }

    async fn run(&self, sql: &str) {
        let done = self.db.batch_execute(sql).await;
        done.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }

    async fn in_force(&mut self) -> (Catalog, Accesses) {
        let loaded = self.loader.load(&mut self.db, "p").await;
        let catalog = loaded.unwrap_or_else(|e| panic!("{}", e.chain())).catalog;
        let mut accesses = BTreeMap::new();
        for role in ["authenticated", "anon"] {
            let access = catalog::role_access(&self.db, role, &catalog).await;
            let access = access.unwrap_or_else(|e| panic!("{}", e.chain()));
            accesses.insert(role, access.expect("the role"));
        }
        (catalog, accesses)
    }

    async fn attempt(&mut self, policies: &str, kind: Option<char>, catalog: &Catalog, accesses: &Accesses) {
        let channels = catalog.channels.as_ref().expect("the table");
        let truth = self.truth().await;
        for write in [false, true] {
            let table = if write { &channels.write } else { &channels.read };
            let access = |role: &str| {
                let access = accesses[role].channels.as_ref().expect("rights on channels");
                if write { &access.write } else { &access.read }
            };
            let expected = |(reads, writes): &(String, String)| if write { writes } else { reads }.clone();
            let expected: Vec<String> = truth.iter().map(expected).collect();
            let program = |(role, of): (&&'static str, &RoleAccess)| {
                (*role, Program::new(table, access(role), &of.functions, catalog))
            };
            let programs: BTreeMap<&str, Program> = accesses.iter().map(program).collect();
            if let Some(kind) = kind {
                self.expect_kind(policies, kind, &programs["authenticated"]);
            }
            let here = self.in_memory(table, &programs, catalog).await;
            let judged = self.judged(table, &access, catalog).await;
            self.compare(policies, write, &expected, &here, &judged);
        }
    }

    fn expect_kind(&mut self, policy: &str, kind: char, program: &Program) {
        let [explained] = program.policies() else {
            panic!("{policy:?}: one policy for either command");
        };
        let verdict = &explained.verdict;
        let expected = matches!(
            (kind, verdict),
            ('c', Judged::Compiled) | ('s', Judged::Sets(_)) | ('a', Judged::Asks(_)) | ('?', _)
        );
        if !expected {
            let wrong = format!("{policy:?} is {verdict:?}, not {kind}");
            self.tally.wrong.push(wrong);
        }
    }

    async fn truth(&self) -> Truth {
        let mut items = Vec::new();
        for seeker in seekers() {
            let scope = seeker.scope.clone().expect("a scope");
            for extension in EXTENSIONS {
                items.push(json!({
                    "role": &*seeker.role, "claims": &*seeker.json, "sub": seeker.sub.as_deref(),
                    "topic": &*scope.topic, "headers": &*scope.headers, "extension": extension,
                }));
            }
        }
        let found = self
            .db
            .query(
                "select reads, writes from truth($1) order by item",
                &[&Json(items)],
            )
            .await
            .expect("the truth");
        found.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    async fn in_memory(
        &self,
        table: &Table,
        programs: &BTreeMap<&str, Program>,
        catalog: &Catalog,
    ) -> Vec<Result<bool, Stop>> {
        let read = self.read_beside(programs).await;
        let mut answers = Vec::new();
        for claims in seekers() {
            let program = &programs[&*claims.role];
            let bound = program.bind(&claims);
            let residual = program.residual(&bound);
            let mut relations: Vec<Result<Relation, Stop>> = program
                .relations()
                .iter()
                .map(|_| Err(Stop::ask("not requested")))
                .collect();
            for request in program.requests(&bound, &claims) {
                let index = program
                    .relations()
                    .iter()
                    .position(|query| *query == request.query);
                relations[index.expect("one of its relations")] = read[&key(&request)].clone();
            }
            let unreadable = relations.iter().find_map(|relation| relation.as_ref().err());
            for extension in EXTENSIONS {
                let topic = &claims.scope.as_ref().expect("a scope").topic;
                let row = evaluated(table, &probe(table, topic, extension), catalog);
                let seen = Seen {
                    row: &row,
                    relations: &relations,
                    now: now(),
                };
                // As `Class::decide`.
                answers.push(match unreadable {
                    Some(_) => Err(Stop::ask("what is read beside the row")),
                    None => residual.passes(&seen),
                });
            }
        }
        answers
    }

    /// What the programs read beside the row, for everybody, as the server reads it.
    async fn read_beside(
        &self,
        programs: &BTreeMap<&str, Program>,
    ) -> HashMap<String, Result<Relation, Stop>> {
        let mut keys = HashMap::new();
        let mut asked = Vec::new();
        for claims in seekers() {
            let program = &programs[&*claims.role];
            for request in program.requests(&program.bind(&claims), &claims) {
                keys.entry(key(&request)).or_insert_with(|| {
                    asked.push((request, Arc::clone(&claims.role)));
                    asked.len() - 1
                });
            }
        }
        let moment = self.engine.relations().clock().now();
        let read = self.engine.relation_reader().read(&asked, &moment).await;
        keys.into_iter().map(|(key, i)| (key, read[i].clone())).collect()
    }

    async fn judged<'a>(
        &self,
        table: &Table,
        access: &impl Fn(&str) -> &'a Access,
        catalog: &Catalog,
    ) -> Vec<Verdict> {
        let seekers = seekers();
        let mut rows = Vec::new();
        for seeker in &seekers {
            let topic = &seeker.scope.as_ref().expect("a scope").topic;
            for extension in EXTENSIONS {
                rows.push((seeker, streamed(table, &probe(table, topic, extension))));
            }
        }
        let questions: Vec<Question<'_>> = rows
            .iter()
            .map(|(claims, row)| Question {
                claims,
                access: access(&claims.role),
                table,
                row,
                transaction: None,
                residual: Vec::new(),
            })
            .collect();
        self.engine.decide(&questions, &catalog.types).await
    }

    fn compare(
        &mut self,
        policies: &str,
        write: bool,
        expected: &[String],
        here: &[Result<bool, Stop>],
        judged: &[Verdict],
    ) {
        assert_eq!((expected.len(), here.len()), (judged.len(), judged.len()));
        let seekers = seekers();
        for (i, ((expected, here), judged)) in expected.iter().zip(here).zip(judged).enumerate() {
            let yes = expected == "yes";
            let allowed = *judged == Verdict::Allow;
            let same = match here {
                Err(Stop::Ask(_)) => {
                    self.tally.asked += 1;
                    true
                }
                Ok(here) => *here == yes,
                Err(Stop::Raise(_) | Stop::Raised(_)) => !yes,
                Err(_) => false,
            };
            if same && allowed == yes {
                self.tally.answered += 1;
                continue;
            }
            let (seeker, extension) = (&seekers[i / EXTENSIONS.len()], EXTENSIONS[i % EXTENSIONS.len()]);
            self.tally.wrong.push(format!(
                "{policies:?}\n    {} {:?} {extension} {}: {expected:?} by Postgres, {here:?} here, {judged:?} by the judge",
                if write { "writing" } else { "reading" },
                seeker.scope,
                seeker.json,
            ));
        }
    }
}

#[tokio::test]
async fn rights_on_channels_are_those_of_a_select_and_an_insert() {
    let mut channels = Channels::new().await;
    channels.one_by_one().await;
    for policies in TOGETHER {
        channels.together(policies).await;
    }
    let tally = channels.tally;
    let Tally {
        answered,
        asked,
        wrong,
    } = tally;
    assert!(
        wrong.is_empty(),
        "{answered} right, {} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(asked * 5 < answered, "{asked} of {answered} asked");
}

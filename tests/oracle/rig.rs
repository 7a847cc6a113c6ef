//! Puts a world into a database and asks both sides about it.

use std::collections::HashMap;
use std::sync::Arc;

use rowcast::auth::Claims;
use rowcast::change::{Layout, LayoutColumn, Row, RowBuilder};
use rowcast::postgres::Connection;
use rowcast::postgres::catalog::{self, Catalog, RoleAccess};
use serde_json::{Value, json};
use tokio_postgres::SimpleQueryMessage;

use super::subject::{Answer, Subject};
use super::world::{self, Reader, Table, World};
use crate::support::{Database, OwnCluster};

/// A database for worlds, one at a time.
pub struct Rig {
    connection: Connection,
    database: Database,
    /// The statements of the world that is there.
    built: String,
    _cluster: OwnCluster,
}

/// What a SELECT shows of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    Visible,
    Hidden,
    /// It raises, with this SQLSTATE for one of the rows.
    Raised(String),
    /// It cannot be planned with these claims, whatever the row.
    Unplanned(String),
}

/// Both answers for one row and reader.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Index into the world's tables.
    pub table: usize,
    /// Index into its readers.
    pub reader: usize,
    /// The row's `id`.
    pub row: i32,
    pub ours: Answer,
    pub theirs: Truth,
}

impl Judged {
    /// We say yes where Postgres does not, or no where it says yes.
    pub fn is_wrong(&self) -> bool {
        match self.ours {
            Answer::Allow => !matches!(self.theirs, Truth::Visible | Truth::Unplanned(_)),
            Answer::Deny | Answer::Failed(_) => self.theirs == Truth::Visible,
            Answer::Ask(_) => false,
        }
    }
}

/// A world as the engine knows it.
pub struct Loaded {
    pub catalog: Catalog,
    pub access: HashMap<&'static str, RoleAccess>,
    /// By reader.
    pub claims: Vec<Arc<Claims>>,
}

/// One table of it.
pub struct Known<'a> {
    pub table: &'a catalog::Table,
    /// By the rows' place.
    pub rows: Vec<Row>,
    pub loaded: &'a Loaded,
}

impl Loaded {
    /// A table of the world.
    pub fn table(&self, table: &Table) -> &catalog::Table {
        let name = rowcast::change::TableName::new("world", &table.name);
        self.catalog.tables.get(&name).expect("a published table")
    }
}

impl Rig {
    /// One in a cluster of its own: its transactions are long, and whoever makes a replication slot waits for them all.
    pub async fn new() -> Self {
        let cluster = OwnCluster::start(&[]).await;
        let database = cluster.database().await;
        database.execute(world::ROLES).await;
        database.execute(include_str!("truth.sql")).await;
        Self {
            connection: database.connection().await,
            database,
            _cluster: cluster,
            built: String::new(),
        }
    }

    /// The database.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Makes the world, in place of the one before. Policies that Postgres refuses are left out; returns how many.
    pub async fn build(&mut self, world: &mut World) -> usize {
        let sql = world.sql();
        if self.built != sql {
            self.database.execute(&sql).await;
            self.built = sql;
        }
        self.replace_policies(world).await
    }

    /// Makes the world's policies in place of the ones before, and leaves out of the world what Postgres refuses.
    pub async fn replace_policies(&self, world: &mut World) -> usize {
        self.database.execute(world::DROP_POLICIES).await;
        let mut refused = 0;
        for table in &mut world.tables {
            let mut kept = Vec::new();
            for policy in &table.policies {
                if self.connection.batch_execute(&policy.sql(table)).await.is_ok() {
                    kept.push(policy.clone());
                } else {
                    refused += 1;
                }
            }
            table.policies = kept;
        }
        refused
    }

    /// What the engine knows of a world.
    pub async fn load(&mut self, world: &World) -> Loaded {
        let loaded = catalog::load(&mut self.connection, "supabase_realtime").await;
        let catalog = loaded.expect("a catalog");
        let mut access = HashMap::new();
        for reader in &world.readers {
            if !access.contains_key(reader.role) {
                let found = catalog::role_access(&self.connection, reader.role, &catalog).await;
                access.insert(reader.role, found.expect("an answer").expect("a role"));
            }
        }
        Loaded {
            catalog,
            access,
            claims: world.readers.iter().map(Reader::verified).collect(),
        }
    }

    /// Asks both about every table, reader and row.
    pub async fn judge(&mut self, world: &World, subject: &Subject) -> Vec<Judged> {
        let loaded = self.load(world).await;
        let mut judged = Vec::new();
        for (index, table) in world.tables.iter().enumerate() {
            let known = Known {
                table: loaded.table(table),
                rows: self.rows(table, loaded.table(table)).await,
                loaded: &loaded,
            };
            let theirs = self.truth(table, &world.readers).await;
            let ours = subject.answers(&known).await;
            for (reader, (theirs, ours)) in theirs.into_iter().zip(ours).enumerate() {
                for ((row, theirs), ours) in table.rows.iter().zip(theirs).zip(ours) {
                    judged.push(Judged {
                        table: index,
                        reader,
                        row: row.id,
                        ours,
                        theirs,
                    });
                }
            }
        }
        judged
    }

    /// The rows as the WAL carries them: what the types' output functions print.
    async fn rows(&self, table: &Table, known: &catalog::Table) -> Vec<Row> {
        let columns = known.columns.iter().map(|column| LayoutColumn {
            name: Arc::clone(&column.name),
            type_oid: column.type_oid,
        });
        let layout = Arc::new(Layout {
            columns: columns.collect(),
        });
        let query = format!("select * from world.{} order by id", table.name);
        let messages = self.connection.simple_query(&query).await.expect("its rows");
        let rows = messages.iter().filter_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            let mut built = RowBuilder::default();
            for column in 0..row.len() {
                match row.get(column) {
                    Some(text) => built.text(text),
                    None => built.null(),
                }
            }
            Some(built.finish(Arc::clone(&layout)))
        });
        rows.collect()
    }

    /// What a SELECT shows, by reader and row.
    async fn truth(&self, table: &Table, readers: &[Reader]) -> Vec<Vec<Truth>> {
        let asked: Vec<Value> = readers.iter().map(Reader::asked).collect();
        let query = "select visible, raised, state, planned from oracle.truth($1, $2, $3)";
        let target = format!("world.{}", table.name);
        let answers = self
            .connection
            .query(
                query,
                &[&target, &Value::Array(asked), &Reader::harmless().asked()],
            )
            .await;
        let answers = answers.expect("what a SELECT returns");
        let truth = |row: &tokio_postgres::Row| {
            let (visible, raised): (Vec<i32>, Vec<i32>) = (row.get("visible"), row.get("raised"));
            let state: Option<String> = row.get("state");
            let planned: bool = row.get("planned");
            let why = || state.clone().unwrap_or_default();
            let of = |id| match (visible.contains(&id), raised.contains(&id)) {
                (true, _) => Truth::Visible,
                (false, false) => Truth::Hidden,
                (false, true) if planned => Truth::Raised(why()),
                (false, true) => Truth::Unplanned(why()),
            };
            table.rows.iter().map(|row| of(row.id)).collect()
        };
        answers.iter().map(truth).collect()
    }
}

impl Reader {
    /// As the verifier of tokens hands them on.
    fn verified(&self) -> Arc<Claims> {
        Arc::new(Claims {
            role: self.role.into(),
            sub: self.claims["sub"].as_str().map(Arc::from),
            exp: 4_000_000_000,
            scope: None,
            json: self.claims.to_string().into(),
        })
    }

    fn asked(&self) -> Value {
        json!({
            "role": self.role,
            "claims": self.claims.to_string(),
            "sub": self.claims["sub"].as_str(),
            "email": self.claims["email"].as_str(),
        })
    }
}

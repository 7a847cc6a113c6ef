//! Reads a [`Catalog`] in one snapshot and a handful of queries, however many tables are published.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::{Client, IsolationLevel, Transaction};

use super::body::{self, Source};
use super::channels::Sides;
use super::files::{self, Usings};
use super::policies::Command;
use super::settings::{self, Settings};
use super::{
    Body, Catalog, FileFinding, FilePolicy, Function, Lookup, Published, Table, Types, channels, functions,
    locale, policies, tables, types,
};
use crate::postgres::{ErrorKind, SqlError};

/// DDL that commits in the middle of a reading can make a name vanish between two queries; a second reading sees the
/// new state.
const ATTEMPTS: usize = 3;

/// What `pg_publication` says of a publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Which actions it publishes.
    pub published: Published,
    /// `FOR ALL TABLES`.
    pub all_tables: bool,
    /// `publish_via_partition_root`: changes of partitions are published under the name of their root.
    pub via_root: bool,
}

/// Looks a publication up by name; `None` if there is none.
///
/// # Errors
/// The database did not answer.
pub async fn publication(client: &Client, name: &str) -> Result<Option<Publication>, SqlError> {
    let doing = SqlError::during("reading the publication");
    let row = client
        .query_opt(
            "SELECT pubinsert, pubupdate, pubdelete, pubtruncate, puballtables, pubviaroot
               FROM pg_catalog.pg_publication WHERE pubname = $1::text",
            &[&name],
        )
        .await
        .map_err(&doing)?;
    let Some(row) = row else { return Ok(None) };
    let publication = || {
        Ok(Publication {
            published: Published {
                insert: row.try_get("pubinsert")?,
                update: row.try_get("pubupdate")?,
                delete: row.try_get("pubdelete")?,
                truncate: row.try_get("pubtruncate")?,
            },
            all_tables: row.try_get("puballtables")?,
            via_root: row.try_get("pubviaroot")?,
        })
    };
    publication().map(Some).map_err(doing)
}

/// Rounds of following policies to tables, to their policies and functions, and on. What is deeper is not known, and
/// not known is asked of Postgres.
const DEPTH: usize = 16;

/// Readings until every function that is reached has its body: one for each level of functions calling functions.
const READINGS: usize = 8;

/// Reads every table of a publication with its columns, keys and policies, the types they reach, and all that the
/// policies reach. Policy files are none of its business: those need a [`Loader`].
///
/// Membership is that of `pg_publication_tables`: `FOR ALL TABLES`, `FOR TABLES IN SCHEMA` and partitions included.
/// Column lists and row filters of the publication are not applied. A publication that does not exist reads as one
/// without tables; [`publication`] tells the two apart.
///
/// # Errors
/// The database did not answer, or the role may not read the catalog.
pub async fn load(client: &mut Client, publication: &str) -> Result<Catalog, SqlError> {
    let loaded = Loader::default().load(client, publication).await?;
    Ok(loaded.catalog)
}

/// Reads catalogs one after the other, and keeps what takes a temporary view to find out for as long as nothing in the
/// database's schema changed.
#[derive(Debug, Default)]
pub struct Loader {
    files: Vec<FilePolicy>,
    known: Known,
}

/// What was found out, and under which settings.
#[derive(Debug, Default)]
struct Known {
    settings: Settings,
    /// By function; `None` has no body that could be used.
    bodies: HashMap<u32, Option<(Body, Lookup)>>,
    usings: Usings,
}

/// A catalog, and what is to be said of the policy files.
#[derive(Debug)]
pub struct Loaded {
    /// The catalog, with the policies from files in its tables.
    pub catalog: Catalog,
    /// What is wrong with policies from files, in their order. Such a policy lets nothing through.
    pub files: Vec<FileFinding>,
    /// A digest of the schema, of all grants in it and of the cluster's roles. While it is the same, what a query is
    /// allowed to read is the same, also of tables that the catalog does not speak of.
    pub rights: String,
}

/// One pass over the catalog, with what it lacks.
struct Reading {
    settings: Settings,
    /// A digest of the roles.
    roles: String,
    catalog: Catalog,
    files: Vec<FileFinding>,
    /// Functions whose body is not known yet.
    bodies: HashMap<u32, Source>,
    /// Policies from files whose expression is not known yet.
    usings: Vec<(Arc<Table>, String)>,
}

impl Loader {
    /// The policies of files that catalogs are to have from the next reading on, in this order.
    pub fn set_files(&mut self, files: Vec<FilePolicy>) {
        self.files = files;
    }

    /// Forgets what readings have in common. They notice themselves that the schema changed; this is for whoever
    /// knows better.
    pub fn forget(&mut self) {
        self.known = Known::default();
    }

    /// Reads as [`load`] does, with the policies from files.
    ///
    /// # Errors
    /// The database did not answer, or the role may not read the catalog. What is wrong with a policy from a file is
    /// no error here but part of the answer.
    pub async fn load(&mut self, client: &mut Client, publication: &str) -> Result<Loaded, SqlError> {
        let mut given_up: HashSet<u32> = HashSet::new();
        self.known.usings.forget_failures();
        let mut reading = self.read(client, publication).await?;
        for _ in 1..READINGS {
            if self.known.settings != reading.settings {
                self.known = Known {
                    settings: reading.settings.clone(),
                    ..Known::default()
                };
            }
            reading.bodies.retain(|oid, _| !given_up.contains(oid));
            if !reading.settings.can_print || (reading.bodies.is_empty() && reading.usings.is_empty()) {
                break;
            }
            for (oid, source) in &reading.bodies {
                if !self.find_body(client, *oid, source).await {
                    // A lock, or a database that is busy: the next reading may have more luck.
                    given_up.extend(reading.bodies.keys());
                    break;
                }
            }
            self.known.usings.find(client, &reading.usings).await;
            reading = self.read(client, publication).await?;
        }
        Ok(Loaded {
            catalog: reading.catalog,
            files: reading.files,
            rights: format!("{} {}", reading.settings.schema, reading.roles),
        })
    }

    /// Has Postgres print a function's body; whether there is an answer that will hold.
    async fn find_body(&mut self, client: &mut Client, oid: u32, source: &Source) -> bool {
        let found = match body::normalise(client, source).await {
            Ok(found) => found,
            Err(error) => {
                let error = SqlError::new("reading the body of a function", error);
                tracing::debug!(function = %source.name, error = %error.chain(), "a function is left to postgres");
                if error.kind().is_transient() || error.kind() == ErrorKind::ReadOnly {
                    return false;
                }
                None
            }
        };
        self.known.bodies.insert(oid, found);
        true
    }

    async fn read(&self, client: &mut Client, publication: &str) -> Result<Reading, SqlError> {
        let mut attempt = 1;
        loop {
            match self.read_once(client, publication).await {
                Err(error) if attempt < ATTEMPTS && vanished(&error) => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn read_once(&self, client: &mut Client, publication: &str) -> Result<Reading, SqlError> {
        let doing = SqlError::during("reading the catalog");
        let transaction = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await
            .map_err(&doing)?;
        let settings = settings::read(&transaction).await?;
        let roles = settings::roles(&transaction).await?;
        // With nothing on the path, pg_get_expr qualifies every name outside pg_catalog.
        transaction
            .batch_execute("SET LOCAL search_path = ''; SET LOCAL standard_conforming_strings = on")
            .await
            .map_err(&doing)?;
        let nothing = Known::default();
        let known = if self.known.settings == settings {
            &self.known
        } else {
            &nothing
        };
        let mut roots = Roots::read(&transaction, publication).await?;
        let applied = files::apply(
            &transaction,
            &self.files,
            &known.usings,
            &settings,
            roots.readable(),
        )
        .await?;
        let mut reached = Reached::default();
        reached.follow(&transaction, &roots, &settings, known).await?;
        let types = reached.types(&transaction, &roots).await?;
        let collation = locale::read(&transaction).await?;
        transaction.commit().await.map_err(&doing)?;
        let shared =
            |tables: HashMap<u32, Table>| tables.into_iter().map(|(oid, table)| (oid, Arc::new(table)));
        Ok(Reading {
            settings,
            roles,
            catalog: Catalog {
                tables: shared(roots.published)
                    .map(|(_, table)| (table.name.clone(), table))
                    .collect(),
                types: Arc::new(types),
                others: shared(reached.others).collect(),
                functions: reached
                    .functions
                    .into_iter()
                    .map(|(oid, function)| (oid, Arc::new(function)))
                    .collect(),
                lookups: reached.lookups,
                collation,
                channels: roots.channels.into_channels(),
            },
            files: applied.findings,
            bodies: reached.sources,
            usings: applied.unknown,
        })
    }
}

/// Codes of a name or oid that was dropped while it was being read (`XX000` is "cache lookup failed").
fn vanished(error: &SqlError) -> bool {
    matches!(error.sqlstate(), Some("XX000" | "42P01" | "42703" | "42704"))
}

/// The tables that rows and channels are judged by.
struct Roots {
    published: HashMap<u32, Table>,
    channels: Sides,
}

impl Roots {
    async fn read(transaction: &Transaction<'_>, publication: &str) -> Result<Self, SqlError> {
        let mut published = tables::published(transaction, publication).await?;
        policies::read(transaction, &mut published, Command::Select).await?;
        let channels = channels::read(transaction).await?;
        Ok(Self { published, channels })
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        let channels = self.channels.read.values().chain(self.channels.write.values());
        self.published.values().chain(channels)
    }

    /// Those whose policies say what may be seen.
    fn readable(&mut self) -> impl Iterator<Item = &mut Table> {
        self.published.values_mut().chain(self.channels.read.values_mut())
    }
}

/// What policies reach beside the published tables.
#[derive(Default)]
struct Reached {
    others: HashMap<u32, Table>,
    functions: HashMap<u32, Function>,
    lookups: HashMap<u32, Lookup>,
    /// Of functions without a known body.
    sources: HashMap<u32, Source>,
}

impl Reached {
    /// Follows policies and bodies round by round, until nothing new comes.
    async fn follow(
        &mut self,
        transaction: &Transaction<'_>,
        roots: &Roots,
        settings: &Settings,
        known: &Known,
    ) -> Result<(), SqlError> {
        let (mut relations, mut functions) = reads(roots.tables());
        let published = roots.published.keys().copied();
        let mut seen: (HashSet<u32>, HashSet<u32>) = (published.collect(), HashSet::new());
        for _ in 0..DEPTH {
            relations.retain(|oid| seen.0.insert(*oid));
            functions.retain(|oid| seen.1.insert(*oid));
            if relations.is_empty() && functions.is_empty() {
                break;
            }
            let mut tables = tables::others(transaction, &relations).await?;
            policies::read(transaction, &mut tables, Command::Select).await?;
            let found = functions::read(transaction, &functions, &settings.path).await?;
            (relations, functions) = reads(tables.values());
            self.others.extend(tables);
            for (oid, (mut function, source)) in found {
                match (known.bodies.get(&oid), source) {
                    (Some(Some((body, lookup))), Some(_)) => {
                        relations.extend(&body.relations);
                        functions.extend(&body.functions);
                        self.lookups.insert(oid, lookup.clone());
                        function.body = Some(body.clone());
                    }
                    (None, Some(source)) => {
                        self.sources.insert(oid, source);
                    }
                    _ => {}
                }
                self.functions.insert(oid, function);
            }
        }
        Ok(())
    }

    async fn types(&self, transaction: &Transaction<'_>, roots: &Roots) -> Result<Types, SqlError> {
        let columns = roots
            .tables()
            .chain(self.others.values())
            .flat_map(|table| table.columns.iter().map(|column| column.type_oid));
        let called = self
            .functions
            .values()
            .flat_map(|function| function.arguments.iter().copied().chain([function.returns]));
        types::read(transaction, columns.chain(called).collect())
            .await
            .map(Types)
    }
}

/// The relations and functions that these tables' policies name.
fn reads<'a>(tables: impl Iterator<Item = &'a Table>) -> (Vec<u32>, Vec<u32>) {
    let (mut relations, mut functions) = (Vec::new(), Vec::new());
    for policy in tables.flat_map(|table| table.policies.iter().chain(&table.file_policies)) {
        relations.extend(&policy.relations);
        functions.extend(&policy.functions);
    }
    (relations, functions)
}

//! The same row decided in memory, with what that reads beside the row read in the same transaction.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Rehearsal, RehearsalError};
use crate::auth::Claims;
use crate::change::{Row, Value};
use crate::expression::{Context, Datum, Evaluated, Relation, Stop, Ty};
use crate::policy::Question;
use crate::policy::identity::Identity;
use crate::policy::program::{Explained, Program};
use crate::policy::relation::RelationQuery;
use crate::policy::trace::{Step, Trace, why};
use crate::postgres::SqlError;
use crate::postgres::catalog::{Catalog, Table};

/// What the compiled policies say.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Whether the row passes.
    pub says: Result<bool, Unsaid>,
    /// How each policy that applies is judged.
    pub policies: Vec<Explained>,
    /// How the whole came to its value.
    pub steps: Vec<Step>,
}

/// Why the compiled policies do not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsaid {
    /// Only Postgres can; why.
    Asks(String),
    /// Postgres would raise this.
    Raises(String),
}

/// Most rows of a subquery that are read.
const MOST: usize = 100_000;

/// Seconds from 1970 to 2000.
const EPOCH: u64 = 946_684_800;

impl Rehearsal<'_> {
    /// What the compiled policies say to a question without a filter. `callable` is
    /// [`RoleAccess::functions`](crate::postgres::catalog::RoleAccess::functions).
    ///
    /// # Errors
    /// The database did not answer.
    pub async fn compiled(
        &self,
        question: &Question<'_>,
        callable: &HashSet<u32>,
        catalog: &Catalog,
    ) -> Result<Compiled, RehearsalError> {
        let program = Program::new(question.table, question.access, callable, catalog);
        let bound = program.bind(question.claims);
        let requests = program.requests(&bound, question.claims);
        let mut relations = Vec::new();
        for query in program.relations() {
            let asked = requests.iter().any(|request| request.query == *query);
            relations.push(match asked {
                true => self.relation(query, question.claims).await?,
                false => Err(Stop::ask("a subquery by claims that have no value")),
            });
        }
        let facts = Facts {
            row: question.row,
            table: question.table,
            catalog,
            relations: &relations,
        };
        let residual = program.residual(&bound);
        let trace = Trace {
            table: question.table,
            relations: program.relations(),
            context: &facts,
        };
        // Postgres checks the rights on all of them before it evaluates anything.
        let unread = relations.iter().find_map(|read| read.as_ref().err());
        let says = match unread {
            Some(stop) => Err(stop.clone()),
            None => residual.passes(&facts),
        };
        Ok(Compiled {
            says: says.map_err(|stop| match stop {
                Stop::Raise(_) | Stop::Raised(_) => Unsaid::Raises(why(&stop)),
                stop => Unsaid::Asks(why(&stop)),
            }),
            policies: program.policies().to_vec(),
            steps: trace.steps(&residual),
        })
    }

    /// Reads a subquery as the subscriber, or as the owner of the function that it is in.
    async fn relation(
        &self,
        query: &RelationQuery,
        claims: &Claims,
    ) -> Result<Result<Relation, Stop>, RehearsalError> {
        let doing = SqlError::during("reading what a policy reads");
        let run = |sql: &'static str| self.transaction.batch_execute(sql);
        run("savepoint rowcast_relation").await.map_err(&doing)?;
        let read = self.rows(query, claims).await;
        // Also takes back the role and the claims.
        run("rollback to savepoint rowcast_relation; release savepoint rowcast_relation")
            .await
            .map_err(&doing)?;
        match read {
            Ok(rows) if rows.len() > MOST => Ok(Err(Stop::ask("a subquery with too many rows"))),
            Ok(rows) => Ok(Relation::read(&query.columns, rows)),
            Err(error) => match error.code() {
                Some(code) => Ok(Err(Stop::ask(format!(
                    "a subquery raises SQLSTATE {}",
                    code.code()
                )))),
                None => Err(doing(error).into()),
            },
        }
    }

    async fn rows(
        &self,
        query: &RelationQuery,
        claims: &Claims,
    ) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let width = query.columns.len();
        let columns: Vec<String> = (0..width).map(|i| format!("c{i}")).collect();
        let texts: Vec<String> = columns
            .iter()
            .map(|column| {
                format!("case when {column} is distinct from null then pg_catalog.format('%s', {column}) end")
            })
            .collect();
        let sql = match width {
            0 => format!("select from ({}) as found limit {}", query.sql, MOST + 1),
            _ => format!(
                "select {} from ({}) as found({}) limit {}",
                texts.join(", "),
                query.sql,
                columns.join(", "),
                MOST + 1
            ),
        };
        // Parsed by us, run as the reader: a policy may name what its reader may not look up.
        let statement = self.transaction.prepare(&sql).await?;
        let identity = Identity::of(claims);
        let reader = query.owner.as_ref().unwrap_or(&claims.role);
        for (name, value) in identity.settings().into_iter().chain([("role", &**reader)]) {
            let set = "select pg_catalog.set_config($1, $2, true)";
            self.transaction.execute(set, &[&name, &value]).await?;
        }
        let found = self.transaction.query(&statement, &[]).await?;
        found
            .iter()
            .map(|row| (0..width).map(|i| row.try_get(i)).collect())
            .collect()
    }
}

/// What a rehearsed row is judged by.
struct Facts<'a> {
    row: &'a Row,
    table: &'a Table,
    catalog: &'a Catalog,
    relations: &'a [Result<Relation, Stop>],
}

impl Context for Facts<'_> {
    fn column(&self, index: usize) -> Evaluated {
        let column = self.table.columns.get(index).ok_or(Stop::Missing(index))?;
        match self.row.get(&column.name) {
            Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => {
                let ty = Ty::of(column.type_oid, &self.catalog.types)
                    .ok_or_else(|| Stop::ask("a type that is not known here"))?;
                Datum::parse(text, &ty).map(Some)
            }
            Some(Value::Unchanged) | None => Err(Stop::Missing(index)),
        }
    }

    fn param(&self, _: usize) -> Evaluated {
        Err(Stop::ask("a parameter that was not bound"))
    }

    fn relation(&self, index: usize) -> Result<&Relation, Stop> {
        match self.relations.get(index) {
            Some(read) => read.as_ref().map_err(Clone::clone),
            None => Err(Stop::ask("a subquery that is not known")),
        }
    }

    fn now(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = now.as_micros().saturating_sub(u128::from(EPOCH) * 1_000_000);
        i64::try_from(micros).unwrap_or(i64::MAX)
    }
}

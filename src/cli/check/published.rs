//! What pgoutput needs beside a slot: publications of our own, and tables that may be put into them.

use tokio_postgres::Client;

use super::server::Facts;
use super::{CheckOptions, Level, Report};
use crate::change::TableName;
use crate::postgres::{SqlError, quote_identifier, quote_table};
use crate::replication::own_publications;

/// From this version on stored generated columns can be published.
const PUBLISHES_GENERATED: i32 = 18;

/// Published tables that are not in our publications and not ours to put there, and those with stored generated columns.
/// `$1`: the publication that is followed; `$2`: our own.
const TABLES: &str = "
SELECT n.nspname::text AS schema, c.relname::text AS name,
       pg_catalog.pg_has_role(c.relowner, 'USAGE') OR EXISTS (
           SELECT FROM pg_catalog.pg_publication_tables own
            WHERE own.pubname = ANY ($2::text[]) AND own.schemaname = n.nspname AND own.tablename = c.relname) AS comes,
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = c.oid AND a.attgenerated = 's' AND NOT a.attisdropped) AS generated
  FROM pg_catalog.pg_publication_tables t
  JOIN pg_catalog.pg_namespace n ON n.nspname = t.schemaname
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename
 WHERE t.pubname = $1::text
 ORDER BY 1, 2";

/// Whether everything can be published that is to be followed.
pub(super) async fn judge(
    client: &Client,
    facts: &Facts,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the publications");
    let own = own_publications(&options.slot);
    let known = client
        .query(
            "SELECT pubname::text, pg_catalog.pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication
              WHERE pubname = ANY ($1::text[])",
            &[&own.as_slice()],
        )
        .await
        .map_err(&doing)?;
    let database = client
        .query_one("SELECT pg_catalog.current_database()::text", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(&doing)?;
    let names: Vec<&str> = known
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(&doing)?;
    judge_own(&own, &names, facts, database, report);
    let ours = match known.first() {
        Some(row) => row.try_get(1).map_err(&doing)?,
        None => facts.may_create,
    };
    let rows = client
        .query(TABLES, &[&options.publication, &own.as_slice()])
        .await
        .map_err(&doing)?;
    for row in rows {
        let table = TableName::new(
            row.try_get("schema").map_err(&doing)?,
            row.try_get("name").map_err(&doing)?,
        );
        let comes: bool = row.try_get("comes").map_err(&doing)?;
        if !comes {
            judge_table(&table, &own[0], ours, facts, report);
        }
        let generated: bool = row.try_get("generated").map_err(&doing)?;
        if generated && facts.major < PUBLISHES_GENERATED {
            let text = format!(
                "{table}: its generated columns do not come through pgoutput, and policies that read them let nothing pass"
            );
            report.add(Level::Warning, "generated columns", text, None);
        }
    }
    Ok(())
}

fn judge_own(own: &[String; 2], known: &[&str], facts: &Facts, database: String, report: &mut Report) {
    let [all, inserts] = own;
    if known.contains(&all.as_str()) {
        report.add(Level::Ok, "own publications", format!("{all} is there"), None);
    } else if facts.may_create {
        let text = format!("{all} and {inserts} do not exist yet; serve makes them");
        report.add(Level::Ok, "own publications", text, None);
    } else {
        report.add(
            Level::Failure,
            "own publications",
            format!("pgoutput needs {all}, which {} may not create", facts.user),
            format!(
                "GRANT CREATE ON DATABASE {} TO {};   -- or, as a superuser: CREATE PUBLICATION {}; CREATE PUBLICATION {} WITH (publish = 'insert, truncate');",
                quote_identifier(&database),
                quote_identifier(&facts.user),
                quote_identifier(all),
                quote_identifier(inserts),
            ),
        );
    }
}

/// A table that somebody else owns can be put into a publication by those only who own both.
fn judge_table(table: &TableName, own: &str, ours: bool, facts: &Facts, report: &mut Report) {
    let text = format!(
        "{table} does not belong to {}, so its changes do not come through pgoutput",
        facts.user
    );
    let add = format!(
        "ALTER PUBLICATION {} ADD TABLE {};",
        quote_identifier(own),
        quote_table(table)
    );
    let when = if ours {
        "   -- as a superuser, once serve has made it"
    } else {
        "   -- as a superuser"
    };
    report.add(Level::Warning, "tables", text, add + when);
}

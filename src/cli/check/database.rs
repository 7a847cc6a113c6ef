//! The database: roles that tokens carry, announcements of changes, the publication.

use tokio_postgres::Client;

use super::server::Facts;
use super::{CheckOptions, Level, Report};
use crate::postgres::{SqlError, catalog, quote_identifier};

/// Whether the roles exist and we can become them, which judging a policy takes.
pub(super) async fn roles(
    client: &Client,
    facts: &Facts,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the roles");
    // SET ROLE asks for membership, and from PostgreSQL 16 on for membership with the SET option.
    let right = if facts.knows_set_option() { "SET" } else { "MEMBER" };
    let rows = client
        .query(
            "SELECT rolname::text, pg_catalog.pg_has_role(oid, $2::text) FROM pg_catalog.pg_roles
              WHERE rolname = ANY ($1::text[])",
            &[&options.roles, &right],
        )
        .await
        .map_err(&doing)?;
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let (name, member): (String, bool) =
            (row.try_get(0).map_err(&doing)?, row.try_get(1).map_err(&doing)?);
        found.push((name, member));
    }
    let nobody = !found.iter().any(|(_, member)| *member);
    for role in &options.roles {
        let quoted = quote_identifier(role);
        match found.iter().find(|(name, _)| name == role) {
            None => report.add(
                Level::Warning,
                "role",
                format!("{role} does not exist; tokens with it see nothing"),
                format!("CREATE ROLE {quoted} NOLOGIN;"),
            ),
            Some((_, true)) => {
                report.add(
                    Level::Ok,
                    "role",
                    format!("{role}: policies can be judged as it"),
                    None,
                );
            }
            Some((_, false)) => report.add(
                if nobody { Level::Failure } else { Level::Warning },
                "role",
                format!(
                    "{} is not a member of {role}, so its policies cannot be judged",
                    facts.user
                ),
                format!("GRANT {quoted} TO {};", quote_identifier(&facts.user)),
            ),
        }
    }
    Ok(())
}

/// Whether a change of the catalog is announced in the stream.
pub(super) async fn announcements(client: &Client, report: &mut Report) -> Result<(), SqlError> {
    let doing = SqlError::during("reading the event triggers");
    let row = client
        .query_one(
            "SELECT count(*) FILTER (WHERE evtenabled IN ('O', 'A')), pg_catalog.to_regnamespace('rowcast') IS NOT NULL
               FROM pg_catalog.pg_event_trigger WHERE evtname IN ('rowcast_catalog_changed', 'rowcast_catalog_dropped')",
            &[],
        )
        .await
        .map_err(&doing)?;
    let triggers: i64 = row.try_get(0).map_err(&doing)?;
    let installed: bool = row.try_get(1).map_err(&doing)?;
    if triggers == 2 {
        report.add(
            Level::Ok,
            "event triggers",
            "a changed table or policy is announced at once",
            None,
        );
    } else if installed {
        report.add(
            Level::Warning,
            "event triggers",
            "are missing or disabled; a changed table or policy is noticed late",
            "rowcast serve   -- once, as a role that may create event triggers".to_owned(),
        );
    } else {
        report.add(
            Level::Ok,
            "event triggers",
            "not installed yet; serve does, if its role may",
            None,
        );
    }
    Ok(())
}

/// Whether the publication exists and has everything in it.
pub(super) async fn publication(
    client: &Client,
    facts: &Facts,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<(), SqlError> {
    let name = &options.publication;
    let quoted = quote_identifier(name);
    let Some(found) = catalog::publication(client, name).await? else {
        let text = format!("{name} does not exist");
        if facts.may_create {
            report.add(
                Level::Warning,
                "publication",
                text + "; serve makes it, without tables",
                None,
            );
        } else {
            let right = format!("{text}, and {} may not create it", facts.user);
            report.add(
                Level::Failure,
                "publication",
                right,
                format!("CREATE PUBLICATION {quoted};"),
            );
        }
        return Ok(());
    };
    let actions = [
        ("insert", found.published.insert),
        ("update", found.published.update),
        ("delete", found.published.delete),
    ];
    let missing: Vec<&str> = actions
        .iter()
        .filter(|(_, on)| !on)
        .map(|(action, _)| *action)
        .collect();
    if !missing.is_empty() {
        report.add(
            Level::Warning,
            "publication",
            format!("{name} leaves out {}", missing.join(" and ")),
            format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, update, delete, truncate');"),
        );
    }
    Ok(())
}

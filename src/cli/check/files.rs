//! The policy files, and the catalog with them.

use tokio_postgres::Client;

use super::{CheckOptions, Level, Report};
use crate::policy_files::{FilePolicy, Problem};
use crate::postgres::SqlError;
use crate::postgres::catalog::{Catalog, Loaded, Loader};

/// Reads the catalog with the policy files, and adds a finding for each that is wrong.
pub(super) async fn catalog(
    client: &mut Client,
    options: &CheckOptions,
    report: &mut Report,
) -> Result<Catalog, SqlError> {
    let read = options
        .directory
        .as_ref()
        .map(|directory| directory.read()?.policies())
        .transpose();
    let files: Vec<FilePolicy> = match read {
        Ok(files) => files.unwrap_or_default(),
        Err(problems) => {
            problems
                .iter()
                .for_each(|problem| add(report, Level::Failure, problem));
            Vec::new()
        }
    };
    let mut loader = Loader::default();
    loader.set_files(files.iter().map(|file| file.policy.clone()).collect());
    let Loaded {
        catalog,
        files: findings,
        ..
    } = loader.load(client, &options.publication).await?;
    for found in &findings {
        if let Some(file) = files.get(found.policy) {
            let level = if found.problem.is_warning() {
                Level::Warning
            } else {
                Level::Failure
            };
            add(report, level, &file.problem(&found.problem));
        }
    }
    if !files.is_empty() && findings.is_empty() {
        let count = files.len();
        let text = format!("{count} {}", if count == 1 { "policy" } else { "policies" });
        report.add(Level::Ok, "policy files", text, None);
    }
    Ok(catalog)
}

fn add(report: &mut Report, level: Level, problem: &Problem) {
    report.add(level, "policy files", problem.to_string(), None);
}

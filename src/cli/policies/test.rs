//! `rowcast policies test`.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::subject::{self, Answer, Pair, Says, Subject};
use crate::cli::{Failure, block_on, print};
use crate::config::Config;
use crate::policy::Rehearsal;
use crate::policy_files::{Case, read_cases};
use crate::postgres::catalog::Catalog;

/// What came of the cases.
#[derive(Default)]
struct Tally {
    ok: usize,
    failed: usize,
    wrong: usize,
}

pub(super) fn run(config: &Config) -> Result<ExitCode, Failure> {
    let tally = block_on(test(config))??;
    Ok(ExitCode::from(match tally {
        Tally { wrong: 1.., .. } => 2,
        Tally { failed: 1.., .. } => 1,
        Tally { .. } => 0,
    }))
}

async fn test(config: &Config) -> Result<Tally, Failure> {
    let mut subject = Subject::open(config).await?;
    let directory = subject
        .directory
        .clone()
        .ok_or_else(|| Failure::usage("policy.directory is empty, so there are no cases"))?;
    if !directory.exists() {
        let what = format!(
            "there is no directory {}; --directory says where policy files and their cases are",
            directory.display()
        );
        return Err(Failure::usage(what));
    }
    let cases: Vec<Case> = read_cases(&directory)
        .map_err(subject::problems)?
        .into_iter()
        .flat_map(|file| file.cases)
        .collect();
    if cases.is_empty() {
        let what = format!(
            "there are no cases in {}; write NAME.cases.toml",
            directory.display()
        );
        return Err(Failure::usage(what));
    }
    let role = |case: &Case| Some(case.claims.get("role")?.as_str()?.to_owned());
    subject.meet(cases.iter().filter_map(role).collect()).await?;
    let (connection, catalog, roles) = subject.parts();
    let rehearsal = Rehearsal::begin(connection).await.map_err(Failure::failed)?;
    let mut tally = Tally::default();
    for case in &cases {
        let answers = match prepared(&rehearsal, case).await {
            Ok(()) => judge(&rehearsal, catalog, roles, case).await,
            Err(error) => Err(error),
        };
        rehearsal.reset().await.map_err(Failure::failed)?;
        print(&tally.line(case, answers));
    }
    print(&tally.summary());
    Ok(tally)
}

async fn prepared(rehearsal: &Rehearsal<'_>, case: &Case) -> Result<(), String> {
    let prepared = rehearsal.prepare(&case.setup).await;
    prepared.map_err(|error| error.to_string())
}

async fn judge(
    rehearsal: &Rehearsal<'_>,
    catalog: &Catalog,
    roles: &std::collections::HashMap<String, crate::postgres::catalog::RoleAccess>,
    case: &Case,
) -> Result<Vec<Answer>, String> {
    let table = subject::table(catalog, &case.table)?;
    let claims = subject::claims(&case.claims)?;
    let (access, callable) = subject::access(roles, &claims.role, table)?;
    let row = rehearsal.row(table, &case.row).await;
    let pair = Pair {
        table,
        claims: claims.into(),
        access,
        callable,
        row: row.map_err(|error| error.to_string())?,
    };
    subject::answers(rehearsal, catalog, &pair).await
}

impl Tally {
    fn line(&mut self, case: &Case, answers: Result<Vec<Answer>, String>) -> String {
        let (name, place) = (&case.name, &case.place);
        let answers = match answers {
            Ok(answers) => answers,
            Err(why) => {
                self.wrong += 1;
                return format!("WRONG   {place}: {name}: {why}\n");
            }
        };
        let expected = if case.visible { Says::Visible } else { Says::Hidden };
        // Where the compiled policies ask Postgres, it is the one who answers.
        let fits = |answer: &Answer| answer.says == expected || matches!(answer.says, Says::Asks(_));
        if answers.iter().all(fits) {
            self.ok += 1;
            return format!("ok      {name}\n");
        }
        self.failed += 1;
        let mut line = format!("FAILED  {place}: {name}: expected {expected}");
        for answer in &answers {
            // Writing to a String does not fail.
            let _ = write!(line, ", {answer}");
        }
        line.push('\n');
        line
    }

    fn summary(&self) -> String {
        let Self { ok, failed, wrong } = self;
        let mut text = match ok + failed + wrong {
            1 => "\n1 case".to_owned(),
            n => format!("\n{n} cases"),
        };
        // Writing to a String does not fail.
        let _ = write!(text, ": {ok} ok, {failed} failed");
        if *wrong > 0 {
            let _ = write!(text, ", {wrong} could not be run");
        }
        text.push('\n');
        text
    }
}

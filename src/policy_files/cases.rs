//! Cases: rows that somebody should or should not see, in `NAME.cases.toml` beside the policy files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};
use toml::Spanned;

use super::directory::{shown, text};
use super::parse::{setup, table_name};
use super::{Place, Problem};
use crate::change::TableName;

const SUFFIX: &str = ".cases.toml";

/// The cases of one file.
#[derive(Clone, Debug)]
pub struct CaseFile {
    /// Its path.
    pub file: Arc<str>,
    /// In their order.
    pub cases: Vec<Case>,
}

/// Whether somebody with these claims sees this row.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows, for people.
    pub name: String,
    /// The table.
    pub table: TableName,
    /// The claims of the token.
    pub claims: Map<String, Value>,
    /// The row's values; a column that is not here is NULL.
    pub row: Map<String, Value>,
    /// Whether the row should be seen.
    pub visible: bool,
    /// Statements that put into other tables what the policies look for: those of the file, then those of the case.
    pub setup: Vec<String>,
    /// Where it is.
    pub place: Place,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    setup: Option<String>,
    #[serde(default, rename = "case")]
    cases: Vec<Spanned<RawCase>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCase {
    name: String,
    table: String,
    claims: toml::Table,
    #[serde(default)]
    row: toml::Table,
    visible: bool,
    setup: Option<String>,
}

/// Reads every `*.cases.toml` in a directory, by name.
///
/// # Errors
/// Everything that is wrong, in all files.
pub fn read_cases(directory: &Path) -> Result<Vec<CaseFile>, Vec<Problem>> {
    let whole = Place::new(&shown(directory), 0);
    let unreadable =
        |error: std::io::Error| vec![whole.problem(format!("the directory cannot be read: {error}"))];
    let mut paths = std::fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<PathBuf>>>()
        })
        .map_err(unreadable)?;
    paths.retain(|path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        name.ends_with(SUFFIX) && !name.starts_with('.')
    });
    paths.sort();
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        let file = shown(&path);
        let read = text(&path)
            .map_err(|problem| vec![problem])
            .and_then(|text| parse(&file, &text));
        match read {
            Ok(cases) => files.push(CaseFile { file, cases }),
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() {
        Ok(files)
    } else {
        Err(problems)
    }
}

fn parse(file: &Arc<str>, text: &str) -> Result<Vec<Case>, Vec<Problem>> {
    let line = |at: usize| {
        text.as_bytes()
            .iter()
            .take(at)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    };
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let place = Place::new(file, line(error.span().map_or(0, |span| span.start)));
        vec![place.problem(error.message())]
    })?;
    let (mut cases, mut problems) = (Vec::new(), Vec::new());
    for case in raw.cases {
        let place = Place::new(file, line(case.span().start));
        let case = case.into_inner();
        let setups: Result<Vec<_>, _> = raw
            .setup
            .iter()
            .chain(&case.setup)
            .map(|text| setup(text))
            .collect();
        let (table, setups) = match table_name(&case.table).and_then(|table| Ok((table, setups?))) {
            Ok(found) => found,
            Err(what) => {
                problems.push(place.problem(what));
                continue;
            }
        };
        cases.push(Case {
            name: case.name,
            table,
            claims: object(case.claims),
            row: object(case.row),
            visible: case.visible,
            setup: setups.concat(),
            place,
        });
    }
    if problems.is_empty() {
        Ok(cases)
    } else {
        Err(problems)
    }
}

fn object(table: toml::Table) -> Map<String, Value> {
    table
        .into_iter()
        .map(|(name, value)| (name, json(value)))
        .collect()
}

/// What JSON has no word for becomes text, which Postgres reads as the column's type.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) if number.is_finite() => number.into(),
        toml::Value::Float(number) => number.to_string().into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => object(table).into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Result<Vec<Case>, Vec<String>> {
        parse(&Arc::from("t.cases.toml"), text)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn cases_are_read() {
        let cases = read(
            r#"setup = "insert into members values (1)"

[[case]]
name = "an owner sees their own"
table = "todos"
claims = { role = "authenticated", sub = "a0", app_metadata = { plan = "pro" } }
row = { id = 1, tags = ["a"], at = 2026-01-02T03:04:05Z, price = 1.5, size = inf }
visible = true

[[case]]
name = "nobody else does"
table = "\"App\".\"To dos\""
setup = "delete from members"
visible = false
[case.claims]
role = "anon"
"#,
        )
        .unwrap();
        let [first, second] = cases.as_slice() else {
            panic!("{cases:?}")
        };
        assert_eq!(first.table, TableName::new("public", "todos"));
        assert_eq!(first.claims["app_metadata"], json!({"plan": "pro"}));
        let row = json!({"id": 1, "tags": ["a"], "at": "2026-01-02T03:04:05Z", "price": 1.5, "size": "inf"});
        assert_eq!(Value::from(first.row.clone()), row);
        assert_eq!(first.place.line, 3);
        assert_eq!(second.table, TableName::new("App", "To dos"));
        assert_eq!(
            second.setup,
            ["insert into members values (1)", "delete from members"]
        );
        assert_eq!(second.place.line, 10);
        assert!(second.row.is_empty() && !second.visible);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let whole = "[[case]]\nname = 'a'\ntable = 't'\nclaims = {}\nvisible = true\n";
        for (text, expected) in [
            ("[[case]]\nname = 'a'\n".to_owned(), "missing field"),
            (format!("{whole}colour = 1\n"), "unknown field `colour`"),
            (format!("{whole}\n[[cases]]\n"), "unknown field `cases`"),
            (whole.replace("true", "'yes'"), "t.cases.toml:5: invalid type"),
            (
                whole.replace("'t'", "'a.b.c'"),
                "t.cases.toml:1: a.b.c is no table",
            ),
            (whole.replace("'t'", "'a b'"), "t.cases.toml:1: "),
            ("name = = 1".to_owned(), "t.cases.toml:1: "),
        ] {
            let errors = read(&text).expect_err(&text);
            assert!(errors[0].contains(expected), "{text}: {errors:?}");
        }
    }
}

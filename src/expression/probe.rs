//! Asks Postgres what expressions come to, for tests that compare.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::{Array, Builtin, Datum, Numeric, Stop, Ty, json};
use crate::postgres::Connection;
use crate::postgres::testing::Cluster;

/// An argument, for both sides.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    /// In Postgres' text form; `None` is NULL.
    pub(super) sql: Option<String>,
    pub(super) datum: Option<Datum>,
}

/// A text of the type; texts of `text[]` are JSON arrays of strings and nulls.
pub(super) fn argument(ty: &Ty, text: &str) -> Argument {
    let datum = match ty {
        Ty::Jsonb => Datum::Jsonb(json::parse(text).expect(text).into()),
        Ty::Json => Datum::Json(text.into()),
        Ty::Bpchar => Datum::Bpchar(text.into()),
        Ty::Int4 => Datum::Int(text.parse().expect(text)),
        Ty::Bool => Datum::Bool(text == "true"),
        Ty::Array(_) => return texts(text),
        _ => Datum::Text(text.into()),
    };
    Argument {
        sql: Some(text.to_owned()),
        datum: Some(datum),
    }
}

pub(super) fn arguments(ty: &Ty, texts: &[impl AsRef<str>]) -> Vec<Argument> {
    texts.iter().map(|text| argument(ty, text.as_ref())).collect()
}

fn texts(list: &str) -> Argument {
    let list: Vec<Option<String>> = serde_json::from_str(list).expect(list);
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let items: Vec<String> = list
        .iter()
        .map(|item| item.as_deref().map_or("NULL".into(), quoted))
        .collect();
    let elements: Vec<_> = list
        .into_iter()
        .map(|item| item.map(|text| Datum::Text(text.into())))
        .collect();
    let dimensions = if elements.is_empty() {
        Vec::new()
    } else {
        vec![(elements.len(), 1)]
    };
    Argument {
        sql: Some(format!("{{{}}}", items.join(","))),
        datum: Some(Datum::Array(Array { dimensions, elements }.into())),
    }
}

pub(super) fn sql(ty: &Ty) -> String {
    match ty {
        Ty::Array(element) => format!("{}[]", sql(element)),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// Pairs of everything with everything.
pub(super) fn pairs(left: &[Argument], right: &[Argument]) -> Vec<Vec<Argument>> {
    left.iter()
        .flat_map(|a| right.iter().map(move |b| vec![a.clone(), b.clone()]))
        .collect()
}

/// As many of these, one behind the other, as `count`.
pub(super) fn random_text(random: &mut StdRng, pieces: &[&str], count: usize) -> String {
    (0..count)
        .map(|_| *pieces.choose(random).expect("pieces"))
        .collect()
}

/// What one side says: `=text`, `NULL`, `!SQLSTATE`; `?why` where we ask.
pub(super) fn said(result: Result<Option<Datum>, Stop>) -> String {
    match result {
        Ok(None) => "NULL".into(),
        Ok(Some(datum)) => format!("={}", printed(&datum)),
        Err(Stop::Raise(code)) => format!("!{code}"),
        Err(Stop::Ask(why)) => format!("?{why}"),
        Err(other) => format!("{other:?}"),
    }
}

fn printed(datum: &Datum) -> String {
    match datum {
        Datum::Bool(value) => value.to_string(),
        Datum::Int(value) => value.to_string(),
        Datum::Float4(value) => format!("{value:e}"),
        Datum::Float8(value) => format!("{value:e}"),
        Datum::Numeric(Numeric::Finite(number)) => json::digits(number),
        Datum::Text(text) | Datum::Bpchar(text) | Datum::Json(text) => text.to_string(),
        Datum::Jsonb(json) => json::print(json).expect("a number"),
        other => panic!("{other:?}"),
    }
}

/// A database to ask.
pub(super) struct Probe {
    pub(super) db: Connection,
}

impl Probe {
    pub(super) async fn new() -> Self {
        let (_, db) = Cluster::shared().database().await;
        Self { db }
    }

    /// What Postgres says to an expression of `a`, `b` and `c`, as [`said`] does.
    pub(super) async fn ask(&self, expression: &str, types: &[Ty], cases: &[Vec<Argument>]) -> Vec<String> {
        let names = ["a", "b", "c"];
        let declared = |i: usize| types.get(i).map_or("text".into(), sql);
        let parameters: Vec<_> = (0..3).map(|i| format!("{} {}", names[i], declared(i))).collect();
        self.db
            .batch_execute(&format!(
                "CREATE OR REPLACE FUNCTION pg_temp.answer({}) RETURNS text LANGUAGE plpgsql AS $probe$ BEGIN
                 RETURN coalesce('=' || ({expression})::text, 'NULL');
                 EXCEPTION WHEN OTHERS THEN RETURN '!' || SQLSTATE; END $probe$",
                parameters.join(", ")
            ))
            .await
            .unwrap_or_else(|e| panic!("{expression}: {e:?}"));
        let column = |i: usize| -> Vec<Option<String>> {
            let value = |case: &Vec<Argument>| case.get(i).and_then(|argument| argument.sql.clone());
            cases.iter().map(value).collect()
        };
        let query = format!(
            "SELECT pg_temp.answer(a::{}, b::{}, c::{}) FROM unnest($1::text[], $2::text[], $3::text[])
             WITH ORDINALITY AS t (a, b, c, n) ORDER BY n",
            declared(0),
            declared(1),
            declared(2)
        );
        let rows = self.db.query(&query, &[&column(0), &column(1), &column(2)]).await;
        let rows = rows.unwrap_or_else(|e| panic!("{expression}: {e:?}"));
        self.db
            .batch_execute("DROP FUNCTION pg_temp.answer")
            .await
            .expect("dropped");
        rows.into_iter().map(|row| row.get(0)).collect()
    }

    /// Holds what we say to what Postgres says. At most `asks` in a hundred cases may be asked.
    pub(super) async fn agree(
        &self,
        expression: &str,
        types: &[Ty],
        cases: &[Vec<Argument>],
        asks: usize,
        ours: impl Fn(&[Option<Datum>]) -> String,
    ) {
        let theirs = self.ask(expression, types, cases).await;
        assert_eq!(theirs.len(), cases.len());
        let (mut asked, mut wrong) = (0, Vec::new());
        for (case, theirs) in cases.iter().zip(theirs) {
            let datums: Vec<_> = case.iter().map(|argument| argument.datum.clone()).collect();
            let ours = ours(&datums);
            if ours.starts_with('?') {
                asked += 1;
            } else if ours != theirs && !same_float(&ours, &theirs) {
                let values: Vec<_> = case.iter().map(|argument| &argument.sql).collect();
                wrong.push(format!("{values:?}: ours {ours}, theirs {theirs}"));
            }
        }
        let shown = wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{expression}: {} wrong\n{shown}", wrong.len());
        let share = asked * 100 / cases.len().max(1);
        assert!(share <= asks, "{expression}: {share} in a hundred are asked");
    }

    /// [`Probe::agree`] with a builtin, and what `pg_proc` says of it.
    pub(super) async fn agree_with(
        &self,
        expression: &str,
        types: &[Ty],
        cases: &[Vec<Argument>],
        asks: usize,
        builtin: &Builtin,
    ) {
        self.agree(expression, types, cases, asks, |datums| {
            if builtin.strict && datums.iter().any(Option::is_none) {
                return "NULL".into();
            }
            said((builtin.call)(datums))
        })
        .await;
    }

    /// Whether an operator or function returns, is strict and immutable as `pg_proc` says. `name` is as `regoperator`
    /// or `regprocedure` reads it.
    pub(super) async fn declared(&self, name: &str, builtin: &Builtin) {
        let oid = if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
            format!("'pg_catalog.{name}'::regprocedure")
        } else {
            format!("(SELECT oprcode FROM pg_operator WHERE oid = 'pg_catalog.{name}'::regoperator)")
        };
        let query = format!(
            "SELECT prorettype = '{}'::regtype, proisstrict = $1, (provolatile = 'i') = $2
             FROM pg_proc WHERE oid = {oid}",
            sql(&builtin.returns)
        );
        let row = self
            .db
            .query_one(&query, &[&builtin.strict, &builtin.immutable])
            .await;
        let row = row.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        let same: (bool, bool, bool) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(same, (true, true, true), "{name}: returns, strict, immutable");
    }
}

fn same_float(ours: &str, theirs: &str) -> bool {
    let number = |text: &str| text.strip_prefix('=').and_then(|text| text.parse::<f64>().ok());
    ours.contains('e') && number(ours).is_some() && number(ours) == number(theirs)
}

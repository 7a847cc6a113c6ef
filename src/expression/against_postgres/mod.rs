//! Builtins against a real Postgres: the same operator, function or cast on the same values has to give the same text, the
//! same NULL or the same SQLSTATE, unless it says that Postgres has to be asked.

mod dates;
mod texts;
mod values;

use std::fmt::Write;

use super::{Builtin, Datum, Evaluated, Stop, Ty};
use crate::postgres::Connection;
use crate::postgres::testing::Cluster;
use values::Value;

/// How a builtin is found in the system catalogs.
enum Kind {
    Operator(&'static str),
    Function(&'static str),
    /// Not found by its types, or not as strict as it is declared. With whether it is immutable.
    Lenient(bool),
    /// To this type.
    Cast(Ty),
}

/// One builtin and what it is tried on.
struct Case {
    kind: Kind,
    types: Vec<Ty>,
    builtin: Builtin,
    /// With `$1` to `$4` for the arguments.
    sql: String,
    rows: Vec<Vec<Value>>,
    /// Of a hundred values, how many may be left to Postgres.
    may_ask: usize,
}

impl Case {
    fn name(&self) -> String {
        format!("{} of {:?}", self.sql, self.types)
    }
}

fn type_name(ty: &Ty) -> String {
    match ty {
        Ty::Bool => "boolean",
        Ty::Int2 => "smallint",
        Ty::Int4 => "integer",
        Ty::Int8 => "bigint",
        Ty::Numeric => "numeric",
        Ty::Float8 => "double precision",
        Ty::Text => "text",
        Ty::Varchar => "character varying",
        Ty::Bpchar => "bpchar",
        Ty::Name => "name",
        Ty::Bytea => "bytea",
        Ty::Date => "date",
        Ty::Time => "time without time zone",
        Ty::Timestamp => "timestamp without time zone",
        Ty::Timestamptz => "timestamp with time zone",
        Ty::Interval => "interval",
        Ty::Array(element) => return type_name(element) + "[]",
        _ => panic!("no name of {ty:?} here"),
    }
    .to_owned()
}

/// What it says here, written as the function in Postgres writes it.
fn ours(builtin: &Builtin, row: &[Value]) -> Option<String> {
    let arguments: Vec<Option<Datum>> = row.iter().map(|value| value.datum.clone()).collect();
    let evaluated: Evaluated = if builtin.strict && arguments.iter().any(Option::is_none) {
        Ok(None)
    } else {
        (builtin.call)(&arguments)
    };
    match evaluated {
        Ok(None) => Some("null".to_owned()),
        Ok(Some(datum)) => values::print(&datum, &builtin.returns).map(|text| format!("={text}")),
        Err(Stop::Raise(code)) => Some(format!("!{code}")),
        Err(_) => None,
    }
}

/// A function per case, so that each is planned once.
fn definition(number: usize, case: &Case) -> String {
    let mut sql = case.sql.clone();
    for (at, ty) in case.types.iter().enumerate() {
        let argument = format!("({}::{})", ["a", "b", "c", "d"][at], type_name(ty));
        sql = sql.replace(&format!("${}", at + 1), &argument);
    }
    let returns = &case.builtin.returns;
    let shown = if matches!(returns, Ty::Array(_)) {
        "to_json(r)"
    } else {
        "r"
    };
    format!(
        "CREATE FUNCTION pg_temp.case_{number}(a text, b text, c text, d text) RETURNS text LANGUAGE plpgsql AS
         $f$ DECLARE r {}; BEGIN r := {sql}; IF r IS NULL THEN RETURN 'null'; END IF; RETURN concat('=', {shown});
         EXCEPTION WHEN OTHERS THEN RETURN '!' || SQLSTATE; END $f$;\n",
        type_name(returns)
    )
}

/// `returns`, `strict` and `immutable` as the catalogs have them.
async fn assert_declared(connection: &Connection, case: &Case) {
    let mut typed = case.sql.clone();
    let names: Vec<String> = case.types.iter().map(type_name).collect();
    for (at, name) in names.iter().enumerate() {
        typed = typed.replace(&format!("${}", at + 1), &format!("(NULL::{name})"));
    }
    let quoted = |name: &String| format!("'{name}'::regtype");
    let (first, last) = (
        names.first().expect("arguments"),
        names.last().expect("arguments"),
    );
    let facts = match &case.kind {
        Kind::Operator(symbol) => {
            let left = if names.len() > 1 { quoted(first) } else { "0".to_owned() };
            format!(
                "SELECT provolatile = 'i', proisstrict FROM pg_operator o JOIN pg_proc p ON p.oid = oprcode
                 WHERE oprname = '{symbol}' AND oprleft = {left} AND oprright = {}",
                quoted(last)
            )
        }
        Kind::Function(name) => format!(
            "SELECT provolatile = 'i', proisstrict FROM pg_proc
             WHERE proname = '{name}' AND proargtypes::text = array_to_string(ARRAY[{}]::oid[], ' ')",
            names.iter().map(quoted).collect::<Vec<_>>().join(",")
        ),
        Kind::Lenient(immutable) => format!("SELECT {immutable}, false"),
        Kind::Cast(to) => format!(
            "SELECT CASE WHEN c.castmethod = 'f' THEN f.provolatile = 'i' WHEN c.castmethod = 'b' OR s.oid = t.oid THEN true
                    ELSE o.provolatile = 'i' AND i.provolatile = 'i' END, true
             FROM pg_type s JOIN pg_proc o ON o.oid = s.typoutput, pg_type t JOIN pg_proc i ON i.oid = t.typinput,
             (SELECT 1) x LEFT JOIN pg_cast c ON castsource = {0} AND casttarget = {1} AND castsource <> casttarget
             LEFT JOIN pg_proc f ON f.oid = c.castfunc WHERE s.oid = {0} AND t.oid = {1}",
            quoted(first),
            quoted(&type_name(to))
        ),
    };
    let sql = format!("SELECT pg_typeof({typed})::text, f.* FROM ({facts}) AS f(immutable, strict)");
    let rows = connection
        .query(&sql, &[])
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert_eq!(rows.len(), 1, "{} is not in the catalogs: {facts}", case.name());
    let returns: String = rows[0].get(0);
    let expected = type_name(&case.builtin.returns).replace("bpchar", "character");
    assert_eq!(returns, expected, "{}", case.name());
    let declared: (bool, bool) = (rows[0].get(1), rows[0].get(2));
    assert_eq!(
        (case.builtin.immutable, case.builtin.strict),
        declared,
        "{}: immutable, strict",
        case.name()
    );
}

/// Tries all of them and says everything that differs.
async fn agree(cases: Vec<Case>) {
    let (_, connection) = Cluster::shared().database().await;
    let settings = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';";
    connection.batch_execute(settings).await.expect("settings");
    let definitions: String = cases
        .iter()
        .enumerate()
        .map(|(number, case)| definition(number, case))
        .collect();
    connection.batch_execute(&definitions).await.expect("functions");
    let (mut report, mut differences, mut tried) = (String::new(), 0, 0);
    for (number, case) in cases.iter().enumerate() {
        assert_declared(&connection, case).await;
        let theirs = theirs(&connection, number, &case.rows).await;
        let mut asked = 0;
        for (row, theirs) in case.rows.iter().zip(theirs) {
            tried += 1;
            match ours(&case.builtin, row) {
                None => asked += 1,
                Some(ours) if values::same(&ours, &theirs, &case.builtin.returns) => {}
                Some(ours) => {
                    differences += 1;
                    if differences < 60 {
                        let texts: Vec<_> = row.iter().map(|value| &value.text).collect();
                        let _ = writeln!(report, "{} {texts:?}: here {ours}, Postgres {theirs}", case.sql);
                    }
                }
            }
        }
        if asked * 100 > case.may_ask * case.rows.len() {
            let _ = writeln!(
                report,
                "{}: Postgres is asked for {asked} of {}",
                case.name(),
                case.rows.len()
            );
        }
    }
    assert!(
        report.is_empty(),
        "{differences} of {tried} values differ:\n{report}"
    );
}

async fn theirs(connection: &Connection, number: usize, rows: &[Vec<Value>]) -> Vec<String> {
    let column = |at: usize| -> Vec<Option<String>> {
        rows.iter()
            .map(|row| row.get(at).and_then(|value| value.text.clone()))
            .collect()
    };
    let sql = format!(
        "SELECT pg_temp.case_{number}(a, b, c, d)
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS u(a, b, c, d, n) ORDER BY n"
    );
    let answers = connection
        .query(&sql, &[&column(0), &column(1), &column(2), &column(3)])
        .await
        .expect("values");
    assert_eq!(answers.len(), rows.len());
    answers.iter().map(|row| row.get(0)).collect()
}

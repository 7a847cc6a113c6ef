//! Every answer of this module beside that of a real Postgres: all values of a type in every builtin that is claimed.

mod calls;
mod comparisons;
mod values;

use crate::expression::{Builtin, Datum, Stop, Ty};
use crate::postgres::Connection;
use crate::postgres::testing::Cluster;
use values::{Value, sql};

/// `answer` runs an expression and says `=` and its output form, `!` and the SQLSTATE, or NULL. `folds` says whether
/// Postgres holds an expression over the columns of `everything` to be immutable.
const FUNCTIONS: &str = "
CREATE TYPE mood AS ENUM ('sad', 'ok', 'so happy');
CREATE FUNCTION answer(expression text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE result text;
BEGIN
    EXECUTE 'SELECT CASE WHEN x IS NOT NULL THEN ''='' || format(''%s'', x) END FROM (SELECT ' || expression || ' AS x) AS s'
       INTO result;
    RETURN result;
EXCEPTION WHEN OTHERS THEN
    RETURN '!' || SQLSTATE;
END $$;
CREATE FUNCTION folds(expression text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE INDEX ON everything (i) WHERE (' || expression || ') IS NULL';
    RAISE EXCEPTION USING ERRCODE = 'P9999';
EXCEPTION WHEN OTHERS THEN
    RETURN CASE SQLSTATE WHEN 'P9999' THEN 'immutable' WHEN '42P17' THEN 'mutable' ELSE SQLERRM END;
END $$;
";

async fn database() -> Connection {
    let (_, db) = Cluster::shared().database().await;
    db.batch_execute(FUNCTIONS).await.expect("the functions");
    let types = values::all();
    let columns: Vec<String> = (types.iter().enumerate())
        .map(|(at, ty)| format!("c{at} {}", sql(ty)))
        .collect();
    let table = format!("CREATE TABLE everything (i int, {})", columns.join(", "));
    db.batch_execute(&table).await.expect("the table");
    db
}

/// What one of the functions above says to each expression.
async fn ask(db: &Connection, function: &str, expressions: &[String]) -> Vec<Option<String>> {
    let query = format!("SELECT {function}(e) FROM unnest($1::text[]) WITH ORDINALITY AS u(e, n) ORDER BY n");
    let rows = db.query(&query, &[&expressions]).await.expect("answers");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Our answer, in the same form; nothing where Postgres is to be asked.
fn ours(builtin: &Builtin, arguments: &[Value]) -> Option<Option<String>> {
    let arguments: Vec<Option<Datum>> = arguments.iter().map(|value| value.datum.clone()).collect();
    if builtin.strict && arguments.iter().any(Option::is_none) {
        return Some(None);
    }
    let printed = (builtin.call)(&arguments)
        .and_then(|value| value.map(|value| value.print(&builtin.returns)).transpose());
    match printed {
        Ok(value) => Some(value.map(|text| format!("={text}"))),
        Err(Stop::Raise(code)) => Some(Some(format!("!{code}"))),
        Err(Stop::Ask(_)) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// Expressions with our answers, and what came of them.
#[derive(Default)]
struct Trial {
    expressions: Vec<String>,
    answers: Vec<Option<Option<String>>>,
    folding: Vec<(String, bool)>,
    returns: Vec<(String, Ty)>,
}

impl Trial {
    /// Tries a builtin with all values of its argument types. `write` makes SQL of the arguments' SQL.
    fn add(&mut self, builtin: &Builtin, arguments: &[Ty], write: impl Fn(&[String]) -> String) {
        self.add_some(builtin, arguments, values::combinations(arguments), write);
    }

    /// As [`Trial::add`], with these values.
    fn add_some(
        &mut self,
        builtin: &Builtin,
        arguments: &[Ty],
        combinations: impl IntoIterator<Item = Vec<Value>>,
        write: impl Fn(&[String]) -> String,
    ) {
        let all = values::all();
        let column = |ty: &Ty| format!("c{}", all.iter().position(|other| other == ty).expect("a column"));
        let columns: Vec<String> = arguments.iter().map(column).collect();
        self.folding.push((write(&columns), builtin.immutable));
        let nulls: Vec<String> = arguments.iter().map(|ty| format!("NULL::{}", sql(ty))).collect();
        self.returns
            .push((format!("pg_typeof({})", write(&nulls)), builtin.returns.clone()));
        let mut decided = 0;
        for values in combinations {
            let texts: Vec<String> = values.iter().map(Value::literal).collect();
            let answer = ours(builtin, &values);
            decided += usize::from(matches!(answer, Some(Some(_))));
            self.expressions.push(write(&texts));
            self.answers.push(answer);
        }
        // What can be read as another type is among the values of `text`.
        let ordinary = matches!(arguments, [Ty::Varchar | Ty::Bpchar | Ty::Name]);
        assert!(decided > 0 || ordinary, "{} is never known", write(&columns));
    }

    /// Asks Postgres. Of every hundred answers at most so many may be left to it.
    async fn run(self, db: &Connection, left_at_most: usize) {
        let expected = ask(db, "answer", &self.expressions).await;
        let mut wrong = Vec::new();
        let mut left = 0;
        for ((expression, ours), theirs) in self.expressions.iter().zip(&self.answers).zip(&expected) {
            match ours {
                None => left += 1,
                Some(ours) if ours == theirs => {}
                Some(ours) => wrong.push(format!("{expression}: {ours:?}, Postgres {theirs:?}")),
            }
        }
        let expressions: Vec<String> = self
            .folding
            .iter()
            .map(|(expression, _)| expression.clone())
            .collect();
        for ((expression, immutable), theirs) in self.folding.iter().zip(ask(db, "folds", &expressions).await)
        {
            let ours = if *immutable { "immutable" } else { "mutable" };
            if theirs.as_deref() != Some(ours) {
                wrong.push(format!("{expression}: {ours}, Postgres {theirs:?}"));
            }
        }
        let expressions: Vec<String> = self
            .returns
            .iter()
            .map(|(expression, _)| expression.clone())
            .collect();
        let names: Vec<String> = self
            .returns
            .iter()
            .map(|(_, ty)| format!("'{}'::regtype", sql(ty)))
            .collect();
        let (actual, named) = (
            ask(db, "answer", &expressions).await,
            ask(db, "answer", &names).await,
        );
        for ((expression, actual), named) in expressions.iter().zip(actual).zip(named) {
            if actual != named {
                wrong.push(format!("{expression} is {actual:?}, not {named:?}"));
            }
        }
        let count = self.answers.len();
        wrong.truncate(60);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(
            left * 100 <= count * left_at_most,
            "{left} of {count} left to Postgres"
        );
    }
}

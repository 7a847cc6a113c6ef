//! How the database's default collation compares and folds.

use tokio_postgres::Transaction;

use super::DefaultCollation;
use crate::postgres::SqlError;

/// Columns of `pg_database` differ between versions (14 knows no provider, 17 renamed the ICU locale), so the row is
/// read as JSON. Whether ASCII letters have their usual cases is asked of Postgres itself.
const QUERY: &str = "
SELECT pg_catalog.getdatabaseencoding() = 'UTF8' AS is_utf8,
       CASE coalesce(pg_catalog.to_jsonb(d) ->> 'datlocprovider', 'c')
           WHEN 'c' THEN d.datcollate::text IN ('C', 'POSIX') AND d.datctype::text IN ('C', 'POSIX')
           WHEN 'b' THEN coalesce(pg_catalog.to_jsonb(d) ->> 'datlocale' = 'C', false)
           ELSE false
       END AS is_c,
       pg_catalog.lower('ABCDEFGHIJKLMNOPQRSTUVWXYZ' COLLATE pg_catalog.\"default\") = 'abcdefghijklmnopqrstuvwxyz'
           AND pg_catalog.upper('abcdefghijklmnopqrstuvwxyz' COLLATE pg_catalog.\"default\")
               = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ' AS usual_cases
  FROM pg_catalog.pg_database d
 WHERE d.datname = pg_catalog.current_database()";

pub(super) async fn read(transaction: &Transaction<'_>) -> Result<DefaultCollation, SqlError> {
    let doing = SqlError::during("reading the locale of the database");
    let row = transaction.query_one(QUERY, &[]).await.map_err(&doing)?;
    let is = |column: &str| row.try_get::<_, bool>(column).map_err(&doing);
    Ok(match (is("is_utf8")?, is("is_c")?, is("usual_cases")?) {
        (false, _, _) => DefaultCollation::Foreign,
        (true, true, _) => DefaultCollation::C,
        (true, false, true) => DefaultCollation::Plain,
        (true, false, false) => DefaultCollation::Turkic,
    })
}

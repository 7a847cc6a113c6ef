//! The user's own SQL files, run at every start of the development database.

use std::path::Path;

use tokio_postgres::NoTls;
use tokio_postgres::error::ErrorPosition;

use super::error::DevError;

/// Runs each file as one script of the superuser, in order. A file that fails leaves nothing of itself behind,
/// unless it ends transactions by itself.
pub(super) async fn run(database_url: &str, files: &[impl AsRef<Path>]) -> Result<(), DevError> {
    if files.is_empty() {
        return Ok(());
    }
    let (client, connection) = tokio_postgres::connect(database_url, NoTls)
        .await
        .map_err(|error| DevError::Prepare(error.to_string()))?;
    let connection = tokio::spawn(connection);
    for file in files {
        let path = file.as_ref();
        let script = tokio::fs::read_to_string(path)
            .await
            .map_err(|error| DevError::file("read", path, &error))?;
        client
            .batch_execute(&script)
            .await
            .map_err(|error| explain(path, &script, &error))?;
    }
    drop(client);
    let _ = connection.await;
    Ok(())
}

fn explain(path: &Path, script: &str, error: &tokio_postgres::Error) -> DevError {
    let (line, reason) = match error.as_db_error() {
        Some(raised) => {
            let line = match raised.position() {
                Some(ErrorPosition::Original(position)) => Some(line_of(script, *position)),
                _ => None,
            };
            (line, raised.message().to_owned())
        }
        None => (None, error.to_string()),
    };
    DevError::Sql {
        path: path.to_owned(),
        line,
        reason,
    }
}

/// Line, from 1, of a position that counts characters from 1.
fn line_of(script: &str, position: u32) -> usize {
    let before = usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1);
    script.chars().take(before).filter(|c| *c == '\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_by_characters() {
        let script = "-- ü\nselect 1;\nselct 2;";
        assert_eq!(line_of(script, 1), 1);
        assert_eq!(line_of(script, 16), 3);
        assert_eq!(line_of(script, 9999), 3);
        assert_eq!(line_of("", 0), 1);
    }
}

//! Writes rows of `docs`.

use std::time::{Duration, Instant};

use rowcast::postgres::Connection;
use tokio_postgres::Statement;

use super::server::uuid;

/// Rows of one transaction of [`bulk`].
const TRANSACTION: usize = 10;

/// Table, policies and procedure. `{}` is the policy.
pub const SCHEMA: &str = "
    create table members (team_id int, user_id uuid, primary key (team_id, user_id));
    create index on members (user_id);
    insert into members select n, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid from generate_series(0, 9999) n;
    grant select on members to authenticated;
    create table flushes (n int);
    create sequence docs_id;
    create table docs (id int primary key default nextval('docs_id'), user_id uuid, team_id int, note text);
    alter table docs enable row level security; grant select on docs to authenticated;
    create policy seen on docs using (false);
    alter publication supabase_realtime add table docs;
    create procedure fill(total int, each int, users int) language plpgsql as $$
    begin
        for n in 1 .. total / each loop
            insert into docs (user_id, team_id, note)
                select ('00000000-0000-4000-8000-' || lpad(u::text, 12, '0'))::uuid, u, 'note'
                  from (select (n * each + i) % users as u from generate_series(1, each) i) as them;
            commit;
        end loop;
    end $$;
    create procedure fill_team(total int, each int, team int) language plpgsql as $$
    begin
        for n in 1 .. total / each loop
            insert into docs (team_id, note) select team, 'note' from generate_series(1, each);
            commit;
        end loop;
    end $$";

/// As many rows in transactions of ten, each for one of `users` users.
pub async fn bulk(database: &Connection, rows: usize, users: usize) {
    // The last commit has all of them written to disk: what is not is not sent.
    let call = format!(
        "set synchronous_commit = off; call fill({rows}, {TRANSACTION}, {users}); \
         set synchronous_commit = on; insert into flushes values (1)"
    );
    // One statement after the other: a procedure that commits cannot be in a transaction of several.
    for statement in call.split("; ") {
        database.batch_execute(statement).await.expect("rows");
    }
}

/// The same for all who follow this team, and without a user.
pub async fn bulk_of_team(database: &Connection, rows: usize, team: i32) {
    let call = format!(
        "set synchronous_commit = off; call fill_team({rows}, {TRANSACTION}, {team}); \
         set synchronous_commit = on; insert into flushes values (1)"
    );
    for statement in call.split("; ") {
        database.batch_execute(statement).await.expect("rows");
    }
}

/// One row per transaction at this many a second; when each one's commit was acknowledged.
pub async fn paced(database: &Connection, rows: usize, rate: u32, users: usize) -> Vec<(i64, Instant)> {
    let pen = Pen::new(database).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut committed = Vec::with_capacity(rows);
    for row in 0..rows {
        pace.tick().await;
        // Spread over all of them, not only the first.
        let user = row * 7919 % users;
        let team = i32::try_from(user).expect("small");
        committed.push(pen.write(Some(user), Some(team)).await);
    }
    committed
}

/// Writes one row per transaction.
pub struct Pen<'a> {
    database: &'a Connection,
    insert: Statement,
}

impl<'a> Pen<'a> {
    pub async fn new(database: &'a Connection) -> Self {
        let insert =
            "insert into docs (user_id, team_id, note) values ($1::text::uuid, $2, 'note') returning id";
        database
            .batch_execute("set synchronous_commit = on")
            .await
            .expect("a setting");
        let insert = database.prepare(insert).await.expect("insert");
        Self { database, insert }
    }

    /// A row of this user and team: its id, and when its commit was acknowledged.
    pub async fn write(&self, user: Option<usize>, team: Option<i32>) -> (i64, Instant) {
        let user = user.map(uuid);
        let inserted = self
            .database
            .query_one(&self.insert, &[&user, &team])
            .await
            .expect("a row");
        (i64::from(inserted.get::<_, i32>(0)), Instant::now())
    }
}
